//! mimalloc as the allocator of a Rust program.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{mi_free, mi_malloc_aligned, mi_realloc_aligned, mi_zalloc_aligned};
use vrange_malloc::Settings;

use crate::arena;

/// mimalloc, whose free memory is volatile.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: vrange_allocator::Mimalloc = vrange_allocator::Mimalloc;
/// # let block = vec![1u8; 1 << 20];
/// # assert_eq!(block[1 << 19], 1);
/// ```
///
/// Before `main` it reserves address space, as much as the machine has memory (64 GiB at most). The reclaimer's thread is started by the
/// first allocation of 128 KiB or more; until then, and in a program that makes none, mimalloc is as it always was. In a child made by
/// `fork` the same begins anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mimalloc;

/// Runs before `main`, and so before mimalloc makes an arena of its own. (In the library to preload, that library has done all of it.)
extern "C" fn load() {
    if let Some(settings) = Settings::read(true) {
        settings.apply();
        arena::start();
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;

#[inline]
fn before_allocation(bytes: usize) {
    if bytes >= arena::LARGE_BYTES {
        arena::before_large_allocation();
    }
}

// SAFETY: mimalloc's own functions, which take any alignment that is a power of two, and any size; blocks of one come back to the others.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        before_allocation(layout.size());
        // SAFETY: any size and alignment will do.
        unsafe { mi_malloc_aligned(layout.size(), layout.align()) }.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        before_allocation(layout.size());
        // SAFETY: as above.
        unsafe { mi_zalloc_aligned(layout.size(), layout.align()) }.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: a block of mimalloc's, as the caller promises.
        unsafe { mi_free(block.cast()) };
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        before_allocation(bytes);
        // SAFETY: as above.
        unsafe { mi_realloc_aligned(block.cast(), bytes, layout.align()) }.cast()
    }
}
