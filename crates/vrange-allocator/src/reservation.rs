//! Address space for an arena, opened in steps: what is not open takes no memory whatever the program does (`mlockall(2)`), is not in core
//! dumps, and does not count where limits count what can be written to (`RLIMIT_DATA`).

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::process::{Resource, getrlimit};
use vrange_os::PAGE_BYTES;

use crate::huge_pages::{HugePages, Turn};
use crate::steps::{STEP_BYTES, Steps};

/// No reservation is larger: as many steps as there are bits.
pub(crate) const BYTES_MAX: u64 = STEP_BYTES as u64 * Steps::COUNT as u64;
/// What mimalloc commits and decommits at least.
pub(crate) const SLICE_BYTES: usize = 64 << 10;
/// Bits for its slices.
const SLICE_WORDS: usize = STEP_BYTES * Steps::COUNT / SLICE_BYTES / 64;
/// Reservations begin where blocks of marks do.
const ALIGNMENT: usize = 4 << 20;

/// See the [module](self). Lock-free: it is opened inside of the allocator.
#[derive(Debug)]
pub(crate) struct Reservation {
    /// 0: there is none.
    start: AtomicUsize,
    bytes: AtomicUsize,
    huge_pages: HugePages,
    /// Steps that are open. To open one twice does no harm.
    open: Steps,
    /// Steps that somebody is about to open, or has opened. Never taken away.
    wanted: Steps,
    /// Steps that have been given back, or are about to be unless they are wanted.
    gone: Steps,
    /// A bit for each slice that is committed.
    committed: [AtomicU64; SLICE_WORDS],
}

impl Reservation {
    pub(crate) const fn new() -> Self {
        Self {
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            huge_pages: HugePages::new(),
            open: Steps::none(),
            wanted: Steps::none(),
            gone: Steps::none(),
            committed: [const { AtomicU64::new(0) }; SLICE_WORDS],
        }
    }

    /// Reserves so many bytes, of which none is open, or as many less as the process may have, but for `least`. To be called once, by one
    /// thread; returns where it begins.
    pub(crate) fn make(&self, bytes: u64, least: u64) -> Option<(*mut u8, usize)> {
        let mut bytes = bytes.min(BYTES_MAX).min(address_space_left() / 4);
        while bytes >= least {
            let whole = usize::try_from(bytes).unwrap_or(0) / ALIGNMENT * ALIGNMENT;
            if let Some(start) = reserve(whole) {
                // Relaxed: the allocator hears of it afterwards, from this thread, with an ordering of its own.
                self.start.store(start.expose_provenance(), Ordering::Relaxed);
                self.bytes.store(whole, Ordering::Relaxed); // Relaxed: as above.
                return Some((start, whole));
            }
            bytes /= 2;
        }
        None
    }

    /// A part is to be used as a whole, and is large.
    pub(crate) fn use_huge_pages(&self, part: *mut u8, bytes: usize) {
        self.huge_pages.use_huge(self.start(), self.offsets(part, bytes));
    }

    /// A part is to be used, and may stay thin.
    pub(crate) fn use_small_pages(&self, part: *mut u8, bytes: usize) {
        self.huge_pages.use_small(self.start(), self.offsets(part, bytes));
    }

    /// Moves large blocks into huge pages: see [`HugePages::gather`].
    pub(crate) fn gather_huge_pages(&self, turn: &mut Turn) {
        self.huge_pages.gather(self.start(), turn);
    }

    /// See [`HugePages::begin_anew`].
    pub(crate) fn begin_gathering_anew(&self) {
        self.huge_pages.begin_anew();
    }

    fn offsets(&self, part: *mut u8, bytes: usize) -> Range<usize> {
        let offset = part.addr() - self.start();
        offset..offset + bytes
    }

    fn start(&self) -> usize {
        self.start.load(Ordering::Relaxed) // Relaxed: see `make`.
    }

    /// Gives it back. Nobody has used it.
    pub(crate) fn give_up(&self) {
        // Relaxed: by the thread that made it.
        let (start, bytes) = (self.start.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed));
        if start != 0 {
            // SAFETY: a mapping of our own, which nobody uses.
            let _ = unsafe { munmap(std::ptr::with_exposed_provenance_mut(start), bytes) };
        }
    }

    /// Makes a part readable and writable. Returns whether that could be done.
    pub(crate) fn open(&self, part: *mut u8, bytes: usize) -> bool {
        let part = self.offsets(part, bytes);
        let (from, to) = (part.start / STEP_BYTES, part.end.div_ceil(STEP_BYTES));
        // Relaxed: whoever finds the bit finds the step open, since the kernel has opened it for all threads.
        let is_closed = |step: &usize| !self.open.has(*step, Ordering::Relaxed);
        let mut step = from;
        while let Some(first) = (step..to).find(is_closed) {
            step = (first..to).find(|step| !is_closed(step)).unwrap_or(to);
            if !self.open_closed(first..step) {
                return false;
            }
        }
        true
    }

    fn open_closed(&self, steps: Range<usize>) -> bool {
        // SeqCst, both, pairs with the two in `take_unwanted`: one of the two threads sees what the other has noted.
        let is_gone = |step| {
            self.wanted.insert(step, Ordering::SeqCst);
            self.gone.has(step, Ordering::SeqCst)
        };
        if steps.clone().any(is_gone) {
            return false;
        }
        let (first, length) = self.part(&steps);
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: memory of our own, of which more becomes usable.
        if unsafe { mprotect(first.cast(), length, access) }.is_err() {
            return false;
        }
        for step in steps {
            self.open.insert(step, Ordering::Relaxed); // Relaxed: see `open`.
        }
        true
    }

    /// Calls `forget` with what nobody wants so far, and gives it back. It cannot be opened any more. Returns how many bytes.
    pub(crate) fn give_up_unopened(&self, forget: fn(*mut u8, usize)) -> u64 {
        let mut given_up = 0;
        let mut step = 0;
        while step < self.steps() {
            let first = step;
            while step < self.steps() && self.take_unwanted(step) {
                step += 1;
            }
            if first == step {
                step += 1;
                continue;
            }
            let (start, length) = self.part(&(first..step));
            forget(start, length);
            // SAFETY: a part of a mapping of our own that nobody has used, and nobody will: `open` refuses it.
            if unsafe { munmap(start.cast(), length) }.is_ok() {
                given_up += length as u64;
            }
        }
        given_up
    }

    /// Takes a step that nobody wants, for the caller to give it back. False: somebody wants it, or it is gone.
    fn take_unwanted(&self, step: usize) -> bool {
        // SeqCst, both: see `open_closed`. Who comes second finds the bit, and leaves it alone.
        if self.gone.insert(step, Ordering::SeqCst) {
            return false;
        }
        let is_wanted = self.wanted.has(step, Ordering::SeqCst);
        if is_wanted {
            // Relaxed: whoever still finds the bit does without this step.
            self.gone.remove(step, Ordering::Relaxed);
        }
        !is_wanted
    }

    /// How many bytes nobody has opened, or wanted to, and are still there.
    pub(crate) fn unopened_bytes(&self) -> u64 {
        // Relaxed: a count that orders nothing.
        let is_in = |steps: &Steps, step| steps.has(step, Ordering::Relaxed);
        let unopened =
            (0..self.steps()).filter(|step| !is_in(&self.wanted, *step) && !is_in(&self.gone, *step));
        unopened.map(|step| self.part(&(step..step + 1)).1 as u64).sum()
    }

    fn steps(&self) -> usize {
        self.bytes.load(Ordering::Relaxed).div_ceil(STEP_BYTES) // Relaxed: see `make`.
    }

    /// Where some steps begin, and how long they are.
    fn part(&self, steps: &Range<usize>) -> (*mut u8, usize) {
        let bytes = self.bytes.load(Ordering::Relaxed); // Relaxed: see `make`.
        let offset = steps.start * STEP_BYTES;
        let first = std::ptr::with_exposed_provenance_mut(self.start() + offset);
        (first, (steps.end * STEP_BYTES).min(bytes) - offset)
    }

    /// Notes that a part is committed, or is not any more. Parts of it may have been so already; returns how many bytes were not.
    pub(crate) fn note_committed(&self, part: *mut u8, bytes: usize, committed: bool) -> u64 {
        let part = self.offsets(part, bytes);
        let slices = part.start / SLICE_BYTES..part.end.div_ceil(SLICE_BYTES);
        let changed = |index: usize| {
            let first = index * 64;
            let (from, to) = (slices.start.max(first) - first, slices.end.min(first + 64) - first);
            let mask = (u64::MAX >> (64 - (to - from))) << from;
            let word = &self.committed[index];
            // Relaxed, both: a count that orders nothing.
            let changed = match committed {
                true => !word.fetch_or(mask, Ordering::Relaxed),
                false => word.fetch_and(!mask, Ordering::Relaxed), // Relaxed: as above.
            };
            u64::from((changed & mask).count_ones()) * SLICE_BYTES as u64
        };
        (slices.start / 64..slices.end.div_ceil(64)).map(changed).sum()
    }
}

/// What `ulimit -v` leaves.
fn address_space_left() -> u64 {
    getrlimit(Resource::As).current.map_or(u64::MAX, address_space_left_under)
}

/// What such a limit would leave.
pub(crate) fn address_space_left_under(limit: u64) -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().next().and_then(|size| size.parse().ok()).unwrap_or(0);
    limit.saturating_sub(pages * PAGE_BYTES as u64)
}

fn reserve(bytes: usize) -> Option<*mut u8> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let longer = bytes.checked_add(ALIGNMENT)?;
    // SAFETY: a new mapping wherever the kernel likes.
    let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), longer, ProtFlags::empty(), flags) }.ok()?;
    let mapped: *mut u8 = mapped.cast();
    let before = mapped.align_offset(ALIGNMENT);
    for (part, bytes) in [(mapped, before), (mapped.wrapping_add(before + bytes), ALIGNMENT - before)] {
        if bytes > 0 {
            // SAFETY: a part of the mapping made just above, which nobody uses.
            let _ = unsafe { munmap(part.cast(), bytes) };
        }
    }
    Some(mapped.wrapping_add(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_can_be_used_and_the_rest_takes_nothing() {
        let reservation = Reservation::new();
        let (start, bytes) = reservation.make(8 * STEP_BYTES as u64 - 1, 1).expect("address space");
        assert!(start.addr().is_multiple_of(ALIGNMENT) && bytes == 8 * STEP_BYTES - ALIGNMENT);
        let last = start.wrapping_add(bytes - 8);
        let middle = start.wrapping_add(STEP_BYTES - 8);
        assert!(reservation.open(middle, 16) && reservation.open(last, 8) && reservation.open(last, 8));
        for place in [middle, middle.wrapping_add(8), last] {
            // SAFETY: opened just above.
            unsafe { place.write_bytes(1, 8) };
        }
        let maps = std::fs::read_to_string("/proc/self/maps").expect("the mappings");
        let closed = format!("{:x}-{:x} ---p", start.addr() + 2 * STEP_BYTES, start.addr() + 5 * STEP_BYTES);
        assert!(maps.contains(&closed), "{closed}\n{maps}");
        reservation.give_up();
    }

    #[test]
    fn what_is_not_open_can_be_given_up() {
        let reservation = Reservation::new();
        let (start, bytes) = reservation.make(8 * STEP_BYTES as u64 - 1, 1).expect("address space");
        assert!(reservation.open(start.wrapping_add(STEP_BYTES), 8));
        let rest = (bytes - STEP_BYTES) as u64;
        assert_eq!(reservation.unopened_bytes(), rest);
        assert_eq!(reservation.give_up_unopened(|_, _| ()), rest);
        assert_eq!((reservation.unopened_bytes(), reservation.give_up_unopened(|_, _| ())), (0, 0));
        assert!(reservation.open(start.wrapping_add(2 * STEP_BYTES - 8), 8), "the rest of what is open");
        assert!(!reservation.open(start.wrapping_add(STEP_BYTES - 8), 16));
        // What is left stays: others may be where the rest was.
        assert!(!reservation.open(start.wrapping_add(bytes - 8), 8));
        assert_eq!(Reservation::new().give_up_unopened(|_, _| ()), 0);
    }

    #[test]
    fn what_is_committed_twice_counts_once() {
        let reservation = Reservation::new();
        let (start, _) = reservation.make(64 << 20, 1).expect("address space");
        let note = |slices: Range<usize>, committed| {
            let part = start.wrapping_add(slices.start * SLICE_BYTES);
            reservation.note_committed(part, slices.len() * SLICE_BYTES, committed) / SLICE_BYTES as u64
        };
        assert_eq!(note(3..5, true), 2);
        assert_eq!(note(0..200, true), 198);
        assert_eq!(note(64..128, true), 0);
        assert_eq!(note(127..129, false), 2);
        assert_eq!(note(60..200, false), 138);
        assert_eq!(note(0..1, false) + note(0..64, true), 1 + 5);
        reservation.give_up();
    }

    #[test]
    fn what_is_too_large_is_not_reserved() {
        assert_eq!(Reservation::new().make(0, 1), None);
        const { assert!(BYTES_MAX == 8 << 30, "as much as mimalloc can keep the books of") };
    }
}
