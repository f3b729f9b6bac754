//! A heap: where buffers come from, and what their owner wants of them all.

use std::sync::Arc;

use vrange_os::{Span, System};

use crate::buffer::Buffer;
use crate::error::{Error, ErrorKind};
use crate::inner::{Inner, NEVER_READ};
use crate::range::protocol::Released;
use crate::reclaim::selection::{self, Picks};
use crate::reclaim::{Reclaimer, reserve, runtime};
use crate::settings::{Content, Order, Settings};
use crate::sleeper::Sleeper;
use crate::stats::Stats;
use crate::sync::Ordering;

/// Settings of a heap to be made. See [`Heap::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder makes nothing until `build` is called"]
pub struct HeapBuilder {
    settings: Settings,
}

impl HeapBuilder {
    /// A name for people: it is shown by tools and in `Debug` output. Default: `heap`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// The most bytes that ranges of this heap may hold together. When a pin would exceed it, the ranges that are next in
    /// [order](Self::order) are released. Ranges that are pinned cannot be, so with more than this pinned at once the
    /// heap is larger until the next unpin. Default: none, memory itself is the limit.
    pub fn limit(mut self, bytes: u64) -> Self {
        self.settings.limit_bytes = Some(bytes);
        self
    }

    /// The headroom, in bytes, that the reclaimer keeps: when less than this could be had at once, on the machine or in a
    /// memory cgroup, ranges are offered to the kernel. Default: by the size of each, 1/6 of a cgroup's limit up to
    /// 40 MiB, more under a CPU quota and where nothing can be offered. The largest reserve of a process's heaps counts.
    pub fn reserve(mut self, bytes: u64) -> Self {
        self.settings.reserve_bytes = Some(bytes);
        self
    }

    /// Which ranges go first. Default: [`Order::ColdestFirst`].
    pub fn order(mut self, order: Order) -> Self {
        self.settings.order = order;
        self
    }

    /// What the ranges hold. Default: [`Content::Cache`].
    pub fn content(mut self, content: Content) -> Self {
        self.settings.content = content;
        self
    }

    /// The most bytes that are volatile without having been offered to the kernel. Bounds what could get this process
    /// killed while its reclaimer cannot run (stopped, frozen, throttled) or cannot see a limit. The unpin that exceeds it
    /// offers ranges itself, which costs system calls and time linear in their pages; 0 offers each range at its unpin.
    /// Default: none, the reclaimer decides.
    pub fn max_unoffered(mut self, bytes: u64) -> Self {
        self.settings.max_unoffered_bytes = Some(bytes);
        self
    }

    /// Whether core dumps include the ranges. Default: no (`MADV_DONTDUMP`).
    pub fn core_dump(mut self, included: bool) -> Self {
        self.settings.core_dump = included;
        self
    }

    /// Makes the heap. The process's reclaimer thread takes care of it, from the first unpin on.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`]: the kernel's page size. [`ErrorKind::InvalidSettings`]: the reserve is not smaller than
    /// the limit.
    pub fn build(self) -> Result<Heap, Error> {
        let heap = self.build_on(linux()?, runtime::sleeper())?;
        runtime::register(&heap.inner);
        Ok(heap)
    }

    /// Makes the heap, and a reclaimer that the program drives itself: no thread is started for this heap.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_manual(self) -> Result<(Heap, Reclaimer), Error> {
        let heap = self.build_on(linux()?, runtime::driven_sleeper())?;
        runtime::register_driven(&heap.inner);
        let reclaimer = Reclaimer::new(Arc::downgrade(&heap.inner));
        Ok((heap, reclaimer))
    }

    pub(crate) fn build_on(
        self,
        system: &'static dyn System,
        sleeper: &'static Sleeper,
    ) -> Result<Heap, Error> {
        let settings = self.settings;
        if let (Some(limit), Some(reserve)) = (settings.limit_bytes, settings.reserve_bytes)
            && reserve >= limit
        {
            return Err(Error::new(ErrorKind::InvalidSettings));
        }
        Ok(Heap { inner: Arc::new(Inner::new(system, sleeper, settings)) })
    }
}

fn linux() -> Result<&'static dyn System, Error> {
    // Asked once here, so that a child can tell later that it is one.
    let _ = vrange_os::process::current();
    match vrange_os::linux::Linux::get() {
        Ok(linux) => Ok(linux),
        Err(error) => Err(Error::from_system(ErrorKind::Unsupported, error)),
    }
}

/// Room for volatile buffers. Cloning gives another handle to the same heap; the heap ends with its last handle and
/// last buffer.
///
/// Making a heap takes memory for its bookkeeping and nothing else: no thread, no descriptor, no fork handler before the
/// first unpin of the process.
#[derive(Clone)]
pub struct Heap {
    pub(crate) inner: Arc<Inner>,
}

impl Heap {
    /// A heap with default settings.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`]: the kernel's page size.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Settings to start from.
    pub fn builder() -> HeapBuilder {
        HeapBuilder {
            settings: Settings {
                name: "heap".to_owned(),
                limit_bytes: None,
                reserve_bytes: None,
                order: Order::default(),
                content: Content::default(),
                max_unoffered_bytes: None,
                core_dump: false,
            },
        }
    }

    /// A buffer of `bytes` bytes, all zeros, not pinned. It takes no memory until it is written to. Buffers begin at a
    /// page and are padded to whole pages; those of 2 MiB and more are aligned to 2 MiB and use huge pages where the kernel
    /// allows.
    ///
    /// One lock for a moment; a system call only when the heap needs another mapping (each 64 MiB of small buffers, each
    /// large one).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSize`], [`ErrorKind::LimitReached`] (the buffer alone is larger than the heap's limit),
    /// [`ErrorKind::OutOfAddressSpace`], [`ErrorKind::TooManyRanges`].
    pub fn buffer(&self, bytes: usize) -> Result<Buffer, Error> {
        runtime::enter(&self.inner);
        let index = self.inner.add_range(bytes)?;
        Ok(Buffer::new(Arc::clone(&self.inner), index, bytes))
    }

    /// Hands the coldest ranges to the kernel until `bytes` bytes in memory are offered, or nothing is left. Returns how
    /// many. Their contents stay until memory is short. Costs about what `madvise(MADV_FREE)` does.
    pub fn offer(&self, bytes: u64) -> u64 {
        runtime::enter(&self.inner);
        selection::offer_coldest(&mut Picks::new(), &[&*self.inner], bytes).bytes
    }

    /// Drops the contents of the coldest ranges now, until `bytes` bytes of memory are free again, or nothing is left.
    /// Returns how many. Offered ranges go first.
    pub fn reclaim(&self, bytes: u64) -> u64 {
        runtime::enter(&self.inner);
        selection::release_coldest(&mut Picks::new(), &[&*self.inner], bytes).bytes
    }

    /// Drops the contents of all ranges that are not pinned. Returns the bytes of memory freed.
    pub fn release(&self) -> u64 {
        runtime::enter(&self.inner);
        let protocol = self.inner.protocol();
        let dropped = self.inner.table.iter().map(|(_, slot)| match protocol.release(slot) {
            Released::Pages(pages) | Released::Part(pages) => pages,
            Released::Nothing | Released::Pinned | Released::Interrupted => 0,
        });
        Span::new(0, dropped.sum()).bytes() as u64
    }

    /// Counts: see [`Stats`]. O(ranges), no lock, no system call.
    pub fn stats(&self) -> Stats {
        Stats::take(&self.inner.table, &self.inner.counters)
    }

    /// Bytes that could be had, when the reclaimer last looked, on the machine and in each memory cgroup, beyond the reserve and without
    /// taking what anybody has offered: by so much a cache may grow. The nearer to none, the more often the reclaimer looks; at the
    /// fastest growth there is, half of it may be gone by then. `None`: it has not looked yet, which it does from the first unpin on,
    /// or no limit is known.
    pub fn room(&self) -> Option<u64> {
        // Relaxed: a reading of the past, which orders nothing.
        Some(self.inner.room_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes != NEVER_READ)
    }

    /// The headroom that the reclaimer goes for in a memory cgroup with this limit, by the heap's settings: it offers, or
    /// releases, when less than about five sevenths of it are left, until as much can be had at once. A CPU quota, a busy machine
    /// and a kernel that takes no offers make it larger.
    pub fn reserve_in_cgroup(&self, limit_bytes: u64) -> u64 {
        reserve::high_bytes_in_cgroup(limit_bytes, self.inner.settings.reserve_bytes)
    }

    /// The heap's name.
    pub fn name(&self) -> &str {
        &self.inner.settings.name
    }
}

impl std::fmt::Debug for Heap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heap").field("settings", &self.inner.settings).field("stats", &self.stats()).finish()
    }
}
