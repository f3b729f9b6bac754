//! A heap: where buffers come from, and what their owner wants of them all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vrange_os::{OsError, Span, System, clock};

use crate::buffer::Buffer;
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::range::gate::Gate;
use crate::range::protocol::{Candidate, Protocol, Released};
use crate::range::sharing;
use crate::range::slots::{Slot, SlotTable};
use crate::range::state::{Generation, Phase, Word};
use crate::reclaim::selection::{self, Picks};
use crate::reclaim::{Reclaimer, Sleeper, runtime};
use crate::space::{Space, is_large};
use crate::stats::{Counters, Stats};
use crate::sync::{AtomicU8, AtomicU64, Ordering};

/// Which of a heap's ranges go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The one that was unpinned longest ago: what a cache wants.
    #[default]
    ColdestFirst,
    /// The one that was unpinned last: for data that is read once in a long sweep, where the latest part is the one that
    /// will not be wanted again soon.
    LatestFirst,
}

/// What a heap's ranges hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Data worth keeping. It is offered to the kernel only as memory gets short, and released only when asked for or
    /// to keep a limit.
    #[default]
    Cache,
    /// Garbage, such as an allocator's free blocks. It is offered soon after the unpin, and released when it has been left
    /// alone for `decay`, so that an idle program's resident memory falls.
    Free {
        /// How long it stays. 10 s is a good choice.
        decay: Duration,
    },
}

/// What the owner of a heap asked for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    name: String,
    limit_bytes: Option<u64>,
    pub(crate) reserve_bytes: Option<u64>,
    pub(crate) order: Order,
    pub(crate) content: Content,
    max_unoffered_bytes: Option<u64>,
    core_dump: bool,
}

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
    /// 40 MiB, more under a CPU quota. The largest reserve of a process's heaps counts.
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
        Ok(Heap {
            inner: Arc::new(Inner {
                system,
                sleeper,
                has_bounds: settings.limit_bytes.is_some() || settings.max_unoffered_bytes.is_some(),
                settings,
                table: SlotTable::new(),
                counters: Counters::new(),
                gate: Gate::new(),
                process: fork::Owner::new(),
                takes_part: AtomicU8::new(1),
                unoffered_bytes_max: AtomicU64::new(0),
                space: Mutex::new(Places { space: Space::new(), free_slots: Vec::new() }),
            }),
        })
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
        let index = self.inner.add_range(bytes)?;
        Ok(Buffer::new(Arc::clone(&self.inner), index, bytes))
    }

    /// Hands the coldest ranges to the kernel until `bytes` bytes in memory are offered, or nothing is left. Returns how
    /// many. Their contents stay until memory is short. Costs about what `madvise(MADV_FREE)` does.
    pub fn offer(&self, bytes: u64) -> u64 {
        self.inner.enter_process();
        selection::offer_coldest(&mut Picks::new(), &[&self.inner], bytes).bytes
    }

    /// Drops the contents of the coldest ranges now, until `bytes` bytes of memory are free again, or nothing is left.
    /// Returns how many. Offered ranges go first.
    pub fn reclaim(&self, bytes: u64) -> u64 {
        self.inner.enter_process();
        selection::release_coldest(&mut Picks::new(), &[&self.inner], bytes).bytes
    }

    /// Drops the contents of all ranges that are not pinned. Returns the bytes of memory freed.
    pub fn release(&self) -> u64 {
        self.inner.enter_process();
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

/// A heap, as its buffers, guards and the reclaimer see it.
#[derive(Debug)]
pub(crate) struct Inner {
    system: &'static dyn System,
    /// Tells an unpin that the reclaimer sleeps, or was never started.
    sleeper: &'static Sleeper,
    /// There is a limit or a cap, which pins and unpins must keep.
    has_bounds: bool,
    pub(crate) settings: Settings,
    pub(crate) table: SlotTable,
    counters: Counters,
    gate: Gate,
    /// The process that this copy of the heap belongs to.
    process: fork::Owner,
    /// 0: nobody has yet been seen to offer ranges that this process has inherited.
    takes_part: AtomicU8,
    /// With a cap on un-offered bytes: at least as many as there are. Counted up by unpins, counted anew by a selection.
    unoffered_bytes_max: AtomicU64,
    space: Mutex<Places>,
}

/// Where ranges lie and which slots are free: changed under one lock when buffers come and go, never by a pin or unpin.
#[derive(Debug)]
struct Places {
    space: Space,
    free_slots: Vec<usize>,
}

impl Inner {
    pub(crate) fn protocol(&self) -> Protocol<'_> {
        Protocol { system: self.system, counters: &self.counters, gate: &self.gate }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // A panic under the lock can only be one of the allocator's; the indexes are consistent between statements.
        crate::sync::lock(&self.space)
    }

    fn add_range(&self, bytes: usize) -> Result<usize, Error> {
        let pages = Span::pages_for(bytes);
        let pages_narrow = match u32::try_from(pages) {
            Ok(pages) if pages > 0 => pages,
            _ => return Err(Error::new(ErrorKind::InvalidSize)),
        };
        if self.settings.limit_bytes.is_some_and(|limit| bytes as u64 > limit) {
            return Err(Error::new(ErrorKind::LimitReached));
        }
        let no_space = |error: OsError| Error::from_system(ErrorKind::OutOfAddressSpace, error);
        self.enter_process();
        let _pass = self.gate.enter();
        let mut places = self.places();
        let memory = places.space.take(self.system, pages, self.settings.core_dump).map_err(no_space)?;
        let Some(index) = places.free_slots.pop().or_else(|| self.table.push()) else {
            self.return_memory(&mut places, memory);
            return Err(Error::new(ErrorKind::TooManyRanges));
        };
        drop(places);
        self.table.get(index).occupy(memory.base, pages_narrow);
        Ok(index)
    }

    fn return_memory(&self, places: &mut Places, memory: crate::range::Memory) {
        if is_large(memory.pages) {
            let own = vrange_os::Reservation::new(memory.base, memory.pages);
            // SAFETY: the range that had this mapping to itself is gone, or was never made.
            unsafe { self.system.unmap(own) };
        } else {
            places.space.give_back(self.system, memory);
        }
    }

    /// Ends a range. Its buffer is being dropped.
    pub(crate) fn remove_range(&self, index: usize) {
        let slot = self.table.get(index);
        let protocol = self.protocol();
        let mut gone = None;
        protocol.retire(slot, |memory| {
            if !is_large(memory.pages) {
                // SAFETY: the range is being retired.
                unsafe { protocol.wipe(memory) };
            }
            gone = Some(memory);
        });
        let _pass = self.gate.enter();
        let mut places = self.places();
        if let Some(memory) = gone {
            self.return_memory(&mut places, memory);
        }
        places.free_slots.push(index);
    }

    /// What an unpin has to do beyond its exchange; almost always nothing.
    #[inline]
    pub(crate) fn after_unpin(&self, slot: &Slot, word: Word) {
        if self.has_bounds || word.is_shared() || !self.sleeper.is_awake() {
            self.after_unpin_slowly(slot, word);
        }
    }

    #[cold]
    fn after_unpin_slowly(&self, slot: &Slot, word: Word) {
        if word.is_shared() {
            self.enter_process();
            sharing::mark_volatile(slot);
        }
        if self.has_bounds {
            self.keep_limit();
            self.keep_cap(slot);
        }
        if !self.sleeper.is_awake() {
            runtime::wake(self.sleeper);
        }
    }

    /// A pin that was not the first of its kind: the range was empty, or forked processes share it.
    pub(crate) fn after_pin(&self, slot: &Slot, word: Word, was_empty: bool) {
        if was_empty {
            self.counters.filled(slot.pages());
            self.keep_limit();
        }
        if word.is_shared() && word.pins() == 1 {
            self.enter_process();
            sharing::mark_pinned(slot);
        }
    }

    /// Releases ranges until the heap holds no more than its limit, or only pinned ones are left.
    fn keep_limit(&self) {
        if let Some(limit) = self.settings.limit_bytes {
            let held = self.counters.held_bytes();
            if held > limit {
                selection::release_coldest_ranges(&[self], held - limit);
            }
        }
    }

    /// Offers ranges until no more than the cap is volatile without having been offered.
    fn keep_cap(&self, slot: &Slot) {
        let Some(cap) = self.settings.max_unoffered_bytes else { return };
        if cap == 0 {
            self.protocol().offer(&[Candidate { slot, seen: slot.state.glance() }]);
            return;
        }
        let bytes = slot.memory().span().bytes() as u64;
        // Relaxed: the number is an upper bound that orders nothing.
        let unoffered = self.unoffered_bytes_max.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unoffered > cap {
            // Down to half of it, so that the next unpins find room.
            let left = selection::offer_down_to(self, cap / 2);
            self.unoffered_bytes_max.store(left, Ordering::Relaxed); // Relaxed: see above.
        }
    }

    /// Calls `visit` with each range that is volatile or offered.
    pub(crate) fn for_each_unpinned<'a>(&'a self, mut visit: impl FnMut(&'a Slot, Word)) {
        for (_, slot) in self.table.iter() {
            let word = slot.state.glance();
            if matches!(word.phase(), Phase::Volatile | Phase::Offered) {
                visit(slot, word);
            }
        }
    }

    /// Is any range volatile and not offered, or in transit? Part of the handshake before the reclaimer sleeps.
    pub(crate) fn needs_reclaimer(&self) -> bool {
        self.table
            .iter()
            .any(|(_, slot)| !matches!(slot.state.look().phase(), Phase::Free | Phase::Empty | Phase::Pinned))
    }

    /// Bytes taken back from the kernel intact, since the heap was made.
    pub(crate) fn rescued_bytes(&self) -> u64 {
        self.counters.rescued_bytes()
    }

    /// Bytes that pins found discarded by the kernel, since the heap was made.
    pub(crate) fn lost_bytes(&self) -> u64 {
        self.counters.lost_bytes()
    }

    /// The present moment, as ranges record it.
    pub(crate) fn now() -> Generation {
        Generation::from_ticks(clock::ticks())
    }

    /// Before anything slow is done to a range: in a child whose `clone` ran no handlers, what threads of the parent had
    /// begun is put right first. Two loads.
    #[inline]
    pub(crate) fn enter_process(&self) {
        self.process.enter(|| self.recover_in_child(sharing::part));
    }

    /// Opens the heap in a child whose `fork` was announced by [`close_for_fork`](Self::close_for_fork).
    pub(crate) fn enter_forked_child(&self) {
        self.process.enter(|| self.recover_in_child(sharing::inherit));
    }

    /// In a child made by `fork`: the threads that had claimed ranges, or were inside the gate, are the parent's.
    fn recover_in_child(&self, adopt: fn(&Slot)) {
        for (_, slot) in self.table.iter() {
            slot.state.recover_in_child();
            adopt(slot);
        }
        self.gate.reset_in_child();
        // Relaxed: no other thread of this process has got past here.
        self.takes_part.store(0, Ordering::Relaxed);
        runtime::enter_process();
    }

    /// From now on somebody offers this process's ranges, so those that it inherited as volatile count for the processes
    /// that share them.
    pub(crate) fn take_part(&self) {
        // Relaxed: only who is first counts.
        if self.takes_part.swap(1, Ordering::Relaxed) == 0 {
            self.table.iter().for_each(|(_, slot)| sharing::take_part(slot));
        }
    }

    /// Nothing is offered, rescued, released, made or dropped until [`open`](Self::open): a `fork` is about to happen, or
    /// has just happened. All ranges are marked as shared.
    pub(crate) fn close_for_fork(&self) {
        self.enter_process();
        self.gate.close();
        sharing::share(&self.table);
    }

    /// See [`close_for_fork`](Self::close_for_fork).
    pub(crate) fn open(&self) {
        self.gate.open();
    }

    /// Marks ranges whose pages other processes map already. Needed once, when the library starts to watch for forks.
    pub(crate) fn find_shared(&self) {
        for (_, slot) in self.table.iter() {
            sharing::mark_if_shared(self.system, slot);
        }
    }
}

impl AsRef<Self> for Inner {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let system = self.system;
        self.space.get_mut().unwrap_or_else(PoisonError::into_inner).space.unmap_all(system);
    }
}
