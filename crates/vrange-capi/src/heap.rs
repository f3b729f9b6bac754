//! Heaps.

use std::ffi::{CStr, c_char, c_int};
use std::time::Duration;

use vrange::{Content, HeapBuilder, Order};

use crate::border::{Failure, Outcome, count, give, place, reference, status, take};
use crate::reclaimer::Reclaimer;
use crate::stats::HeapStats;
use crate::status::Status;

/// Room for volatile buffers. Functions of different threads may use one heap at once.
pub struct Heap(pub(crate) vrange::Heap);

/// For the field "flags" of the options: "reserve_bytes" is meant, even if it is 0.
pub const VRANGE_HEAP_RESERVE: u32 = 1;
/// For the field "flags" of the options: "max_unoffered_bytes" is meant, even if it is 0.
pub const VRANGE_HEAP_MAX_UNOFFERED: u32 = 2;
/// For the field "flags" of the options: core dumps include the buffers.
pub const VRANGE_HEAP_CORE_DUMP: u32 = 4;

/// For the field "order" of the options: the buffer that was unpinned longest ago goes first. This is the default.
pub const VRANGE_ORDER_COLDEST_FIRST: u32 = 0;
/// For the field "order" of the options: the buffer that was unpinned last goes first.
pub const VRANGE_ORDER_LATEST_FIRST: u32 = 1;

/// For the field "content" of the options: data worth keeping, offered only as memory gets short. This is the default.
pub const VRANGE_CONTENT_CACHE: u32 = 0;
/// For the field "content" of the options: garbage, offered soon and released after "decay_ms".
pub const VRANGE_CONTENT_FREE: u32 = 1;

/// What a heap is to be like. Zeros are the defaults: set the fields you care about of a structure that is all zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeapOptions {
    /// A name for people, in UTF-8. NULL: "heap".
    pub name: *const c_char,
    /// The most bytes that buffers may hold together; the next in order are released for a pin that would exceed it. 0: no
    /// limit but memory itself.
    pub limit_bytes: u64,
    /// The headroom that the reclaimer keeps. 0, without VRANGE_HEAP_RESERVE: by the size of the machine and of each memory
    /// cgroup.
    pub reserve_bytes: u64,
    /// The most bytes that are volatile without having been offered to the kernel. 0, without VRANGE_HEAP_MAX_UNOFFERED: the
    /// reclaimer decides.
    pub max_unoffered_bytes: u64,
    /// For VRANGE_CONTENT_FREE: how long garbage stays, in milliseconds. 0: ten seconds.
    pub decay_ms: u64,
    /// VRANGE_ORDER_...
    pub order: u32,
    /// VRANGE_CONTENT_...
    pub content: u32,
    /// VRANGE_HEAP_..., added up.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
}

const FLAGS: u32 = VRANGE_HEAP_RESERVE | VRANGE_HEAP_MAX_UNOFFERED | VRANGE_HEAP_CORE_DUMP;

impl HeapOptions {
    /// # Safety
    /// `name` is null or ends with a zero byte.
    unsafe fn builder(&self) -> Result<HeapBuilder, Failure> {
        let unknown = Failure(Status::InvalidSettings);
        if self.flags & !FLAGS != 0 || self.reserved != 0 {
            return Err(unknown);
        }
        let has = |flag| self.flags & flag != 0;
        let mut builder = vrange::Heap::builder().core_dump(has(VRANGE_HEAP_CORE_DUMP));
        if !self.name.is_null() {
            // SAFETY: passed on from the caller.
            builder = builder.name(unsafe { CStr::from_ptr(self.name) }.to_string_lossy());
        }
        if self.limit_bytes > 0 {
            builder = builder.limit(self.limit_bytes);
        }
        if self.reserve_bytes > 0 || has(VRANGE_HEAP_RESERVE) {
            builder = builder.reserve(self.reserve_bytes);
        }
        if self.max_unoffered_bytes > 0 || has(VRANGE_HEAP_MAX_UNOFFERED) {
            builder = builder.max_unoffered(self.max_unoffered_bytes);
        }
        builder = match self.order {
            VRANGE_ORDER_COLDEST_FIRST => builder.order(Order::ColdestFirst),
            VRANGE_ORDER_LATEST_FIRST => builder.order(Order::LatestFirst),
            _ => return Err(unknown),
        };
        match (self.content, self.decay_ms) {
            (VRANGE_CONTENT_CACHE, _) => Ok(builder.content(Content::Cache)),
            (VRANGE_CONTENT_FREE, 0) => Ok(builder.content(Content::free())),
            (VRANGE_CONTENT_FREE, decay_ms) => {
                Ok(builder.content(Content::Free { decay: Duration::from_millis(decay_ms) }))
            }
            _ => Err(unknown),
        }
    }
}

/// # Safety
/// As for [`vrange_heap_new`].
unsafe fn builder(options: *const HeapOptions, options_size: usize) -> Result<HeapBuilder, Failure> {
    // SAFETY: passed on from the caller. Every pattern of bits is a valid structure of numbers and a pointer.
    let options = unsafe { take(options, options_size) }?;
    // SAFETY: passed on from the caller.
    unsafe { options.builder() }
}

/// Makes a heap. Its buffers are looked after by the process's reclaimer thread, from the first unpin on; before that there is
/// no thread, no descriptor and no fork handler.
///
/// "options" may be NULL, with a size of 0, for the defaults; else "options_size" is sizeof(vrange_heap_options).
///
/// Fails with VRANGE_STATUS_NULL_POINTER, VRANGE_STATUS_INVALID_SETTINGS, VRANGE_STATUS_UNSUPPORTED.
///
/// # Safety
/// The pointers are null or point to what their types say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_heap_new(
    options: *const HeapOptions,
    options_size: usize,
    heap: *mut *mut Heap,
) -> c_int {
    status(|| {
        let heap = place(heap)?;
        // SAFETY: passed on from the caller.
        let made = unsafe { builder(options, options_size) }?.build()?;
        // SAFETY: passed on from the caller.
        unsafe { heap.write(Box::into_raw(Box::new(Heap(made)))) };
        Ok(Status::Ok)
    })
}

/// Makes a heap, and a reclaimer that the program drives itself with vrange_reclaimer_step: no thread is started for it.
///
/// Fails as vrange_heap_new.
///
/// # Safety
/// As for [`vrange_heap_new`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_heap_new_manual(
    options: *const HeapOptions,
    options_size: usize,
    heap: *mut *mut Heap,
    reclaimer: *mut *mut Reclaimer,
) -> c_int {
    status(|| {
        let (heap, reclaimer) = (place(heap)?, place(reclaimer)?);
        // SAFETY: passed on from the caller.
        let (made, driver) = unsafe { builder(options, options_size) }?.build_manual()?;
        // SAFETY: passed on from the caller.
        unsafe { heap.write(Box::into_raw(Box::new(Heap(made)))) };
        // SAFETY: as above.
        unsafe { reclaimer.write(Box::into_raw(Box::new(Reclaimer(driver)))) };
        Ok(Status::Ok)
    })
}

/// Lets go of a heap. Its buffers live on until each is freed. NULL is no heap, and fine.
///
/// # Safety
/// The heap was made by this library and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_heap_free(heap: *mut Heap) {
    status(|| {
        if !heap.is_null() {
            // SAFETY: made by `Box::into_raw` in this file, and given back once.
            drop(unsafe { Box::from_raw(heap) });
        }
        Ok(Status::Ok)
    });
}

/// Hands the coldest buffers to the kernel until "bytes" bytes in memory are offered, or nothing is left. Returns how many. Their
/// contents stay until memory is short. Costs about what madvise(MADV_FREE) does.
///
/// # Safety
/// The heap is null or lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_heap_offer(heap: *const Heap, bytes: u64) -> u64 {
    // SAFETY: passed on from the caller.
    count(|| Ok(unsafe { reference(heap) }?.0.offer(bytes)))
}

/// Drops the contents of the coldest buffers now, until "bytes" bytes of memory are free again, or nothing is left. Returns how
/// many. Offered buffers go first.
///
/// # Safety
/// The heap is null or lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_heap_reclaim(heap: *const Heap, bytes: u64) -> u64 {
    // SAFETY: passed on from the caller.
    count(|| Ok(unsafe { reference(heap) }?.0.reclaim(bytes)))
}

/// Drops the contents of all buffers that are not pinned. Returns the bytes of memory freed.
///
/// # Safety
/// The heap is null or lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_heap_release(heap: *const Heap) -> u64 {
    // SAFETY: passed on from the caller.
    count(|| Ok(unsafe { reference(heap) }?.0.release()))
}

/// Counts. "stats_size" is sizeof(vrange_heap_stats). O(buffers), no lock, no system call.
///
/// Fails with VRANGE_STATUS_NULL_POINTER.
///
/// # Safety
/// The heap is null or lives; `stats` is null or may be written to for `stats_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_heap_get_stats(
    heap: *const Heap,
    stats: *mut HeapStats,
    stats_size: usize,
) -> c_int {
    status(|| -> Outcome {
        // SAFETY: passed on from the caller.
        let taken = HeapStats::from(unsafe { reference(heap) }?.0.stats());
        // SAFETY: as above.
        unsafe { give(&taken, stats, stats_size) }
    })
}
