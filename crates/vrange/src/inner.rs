//! A heap, as its buffers, its guards and the reclaimer see it: where ranges lie, and what they all have in common. It only
//! does what it is told; when, and to which range, is for [`reclaim`](crate::reclaim) to say.

use std::sync::{Mutex, MutexGuard, PoisonError};

use vrange_os::process::Owner;
use vrange_os::{OsError, Reservation, Span, System, clock};

use crate::error::{Error, ErrorKind};
use crate::range::Memory;
use crate::range::gate::Gate;
use crate::range::protocol::Protocol;
use crate::range::sharing;
use crate::range::slots::{Slot, SlotTable};
use crate::range::state::{Generation, Phase, Word};
use crate::settings::Settings;
use crate::sleeper::Sleeper;
use crate::space::{Space, is_large};
use crate::stats::Counters;
use crate::sync::{AtomicU8, AtomicU64, Ordering, lock};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Inner {
    system: &'static dyn System,
    /// Tells an unpin that the reclaimer sleeps, or was never started.
    pub(crate) sleeper: &'static Sleeper,
    /// There is a limit or a cap, which pins and unpins must keep.
    pub(crate) has_bounds: bool,
    pub(crate) settings: Settings,
    pub(crate) table: SlotTable,
    pub(crate) counters: Counters,
    gate: Gate,
    /// The process that this copy of the heap belongs to.
    pub(crate) process: Owner,
    /// 0: nobody has yet been seen to offer ranges that this process has inherited.
    takes_part: AtomicU8,
    /// With a cap on un-offered bytes: at least as many as there are. Counted up by unpins, counted anew by a selection.
    pub(crate) unoffered_bytes_max: AtomicU64,
    /// What could be had beyond every reserve when the reclaimer last looked; [`NEVER_READ`] before.
    pub(crate) room_bytes: AtomicU64,
    space: Mutex<Places>,
}

/// See [`Inner::room_bytes`].
pub(crate) const NEVER_READ: u64 = u64::MAX;

/// Where ranges lie and which slots are free: changed under one lock when buffers come and go, never by a pin or unpin.
#[derive(Debug)]
struct Places {
    space: Space,
    free_slots: Vec<usize>,
}

impl Inner {
    pub(crate) fn new(system: &'static dyn System, sleeper: &'static Sleeper, settings: Settings) -> Self {
        Self {
            system,
            sleeper,
            has_bounds: settings.has_bounds(),
            settings,
            table: SlotTable::new(),
            counters: Counters::new(),
            gate: Gate::new(),
            process: Owner::new(),
            takes_part: AtomicU8::new(1),
            unoffered_bytes_max: AtomicU64::new(0),
            room_bytes: AtomicU64::new(NEVER_READ),
            space: Mutex::new(Places { space: Space::new(), free_slots: Vec::new() }),
        }
    }

    /// Awake while an unpin has nothing else to do: the reclaimer's, or where there are bounds to keep, one that never is.
    pub(crate) fn quiet(&self) -> &'static Sleeper {
        static NEVER: Sleeper = Sleeper::new();
        if self.has_bounds { &NEVER } else { self.sleeper }
    }

    pub(crate) fn protocol(&self) -> Protocol<'_> {
        Protocol { system: self.system, counters: &self.counters, gate: &self.gate }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // A panic under the lock can only be one of the allocator's; the indexes are consistent between statements.
        lock(&self.space)
    }

    /// Makes a range, and returns the number of its slot.
    pub(crate) fn add_range(&self, bytes: usize) -> Result<usize, Error> {
        let pages = Span::pages_for(bytes);
        let pages_narrow = match u32::try_from(pages) {
            Ok(pages) if pages > 0 => pages,
            _ => return Err(Error::new(ErrorKind::InvalidSize)),
        };
        if self.settings.limit_bytes.is_some_and(|limit| bytes as u64 > limit) {
            return Err(Error::new(ErrorKind::LimitReached));
        }
        let no_space = |error: OsError| Error::from_system(ErrorKind::OutOfAddressSpace, error);
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

    fn return_memory(&self, places: &mut Places, memory: Memory) {
        if is_large(memory.pages) {
            let own = Reservation::new(memory.base, memory.pages);
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

    /// Calls `visit` with each range that is volatile or offered, and its number.
    pub(crate) fn for_each_unpinned<'a>(&'a self, mut visit: impl FnMut(usize, &'a Slot, Word)) {
        for (number, slot) in self.table.iter() {
            let word = slot.state.glance();
            if matches!(word.phase(), Phase::Volatile | Phase::Offered) {
                visit(number, slot, word);
            }
        }
    }

    /// Is any range volatile and not offered, or in transit? Part of the handshake before the reclaimer sleeps.
    pub(crate) fn needs_reclaimer(&self) -> bool {
        self.table
            .iter()
            .any(|(_, slot)| !matches!(slot.state.look().phase(), Phase::Free | Phase::Empty | Phase::Pinned))
    }

    /// The present moment, as ranges record it.
    #[inline]
    pub(crate) fn now() -> Generation {
        Generation::from_ticks(clock::ticks())
    }

    /// In a child made by `fork`: the threads that had claimed ranges, or were inside the gate, are the parent's.
    pub(crate) fn recover_in_child(&self, adopt: fn(&Slot)) {
        for (_, slot) in self.table.iter() {
            slot.state.recover_in_child();
            adopt(slot);
        }
        self.gate.reset_in_child();
        // Relaxed: no other thread of this process has got past here.
        self.takes_part.store(0, Ordering::Relaxed);
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

impl Drop for Inner {
    fn drop(&mut self) {
        let system = self.system;
        self.space.get_mut().unwrap_or_else(PoisonError::into_inner).space.unmap_all(system);
    }
}
