//! Which parts of an arena are in huge pages: large blocks, which are used as a whole.
//!
//! Those that lie in such a block from end to end, the kernel is asked for before they are touched. Those in which it begins and ends are
//! other blocks' too: what nobody uses of them would be touched with the rest, and nobody would ever say that it is free. So they begin
//! small, as does what was touched while it belonged to smaller blocks. If nearly all of one is in memory soon after a large block came, it
//! takes little more as a huge one, and its contents are [gathered](HugePages::gather) in one.

use std::cell::LazyCell;
use std::ops::Range;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use vrange::raw::{self, Mark};
use vrange_os::linux::{Linux, are_huge_pages_given, collapse};
use vrange_os::{HUGE_PAGE_BYTES, PAGE_BYTES, Residency, Span, System as _};

use crate::steps::Steps;

/// For each huge page of an arena what the kernel has been told. Offsets are in the arena, which begins at such a page. Relaxed
/// everywhere: hints, which order nothing.
#[derive(Debug)]
pub(crate) struct HugePages {
    /// It has been asked for (`MADV_HUGEPAGE`).
    asked: Steps,
    /// It is not to be one (`MADV_NOHUGEPAGE`).
    barred: Steps,
    /// A large block lies in it since it was last looked at.
    noted: Steps,
    /// It was gathered not long ago. If it is in small pages again, a part of it was offered: it would be so again.
    gathered: Steps,
}

/// So many pages of one that is gathered may be missing: a sixteenth. Blocks end at a page, and the allocator's own parts at 16.
const MISSING_PAGES_MAX: usize = 32;

/// What may still be done in a turn of [gathering](HugePages::gather), in which the reclaimer does nothing else.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Pages that may be looked at: some 25 µs each at most.
    looks: usize,
    /// Pages that may be made: some 0.6 ms each.
    makes: usize,
    given: LazyCell<bool>,
    /// The kernel has no more to give: that it tried took long.
    is_in_vain: bool,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Self { looks: 256, makes: 16, given: LazyCell::new(are_huge_pages_given), is_in_vain: false }
    }

    pub(crate) fn is_in_vain(&self) -> bool {
        self.is_in_vain
    }

    fn may_go_on(&self) -> bool {
        !self.is_in_vain && self.looks > 0 && self.makes > 0
    }
}

impl HugePages {
    pub(crate) const fn new() -> Self {
        Self { asked: Steps::none(), barred: Steps::none(), noted: Steps::none(), gathered: Steps::none() }
    }

    /// For a large block, of the arena at `start`: asks for those that lie in it from end to end, and notes all. The part at the start is
    /// none: it holds the allocator's books.
    pub(crate) fn use_huge(&self, start: usize, part: Range<usize>) {
        if part.start == 0 {
            return;
        }
        self.tell(start, part.start.div_ceil(HUGE_PAGE_BYTES)..part.end / HUGE_PAGE_BYTES, true);
        for page in pages_of(&part) {
            // Relaxed, both: see `HugePages`. Mostly it is noted.
            if !self.noted.has(page, Ordering::Relaxed) {
                self.noted.insert(page, Ordering::Relaxed);
            }
        }
    }

    /// For all else: in thinly used memory they would take more than is used.
    pub(crate) fn use_small(&self, start: usize, part: Range<usize>) {
        self.tell(start, pages_of(&part), false);
    }

    /// Tells the kernel, unless it knows.
    fn tell(&self, start: usize, pages: Range<usize>, huge: bool) {
        // Relaxed: see `HugePages`.
        let is_asked = |page| self.asked.has(page, Ordering::Relaxed);
        if pages.clone().all(|page| is_asked(page) == huge) {
            return;
        }
        advise(start, pages.clone(), huge);
        let (told, untold) = if huge { (&self.asked, &self.barred) } else { (&self.barred, &self.asked) };
        for page in pages {
            // Relaxed, both: see `HugePages`.
            told.insert(page, Ordering::Relaxed);
            untold.remove(page, Ordering::Relaxed);
        }
    }

    /// Has the kernel make huge pages of what is noted, and nearly all in memory, in small pages. For the reclaimer's thread. Each that is
    /// noted is looked at once, if the turn has room for it, otherwise in the next. Costs a few microseconds for each, and a copy of 2 MiB for
    /// each that is made ([`collapse`]).
    ///
    /// Contents and marks stay. What is offered or dropped of one leaves the kernel the rest in small pages, and is free when that is done:
    /// at once where it was offered, when memory gets short where it was only dropped.
    pub(crate) fn gather(&self, start: usize, turn: &mut Turn) {
        let mut from = 0;
        // Relaxed: see `HugePages`.
        while turn.may_go_on()
            && let Some(page) = self.noted.take_next(from, Ordering::Relaxed)
        {
            from = page + 1;
            turn.looks -= 1;
            let is_new = !self.gathered.has(page, Ordering::Relaxed); // Relaxed: see `HugePages`.
            if *turn.given && is_new && is_worth_one(span_of(start, page)) {
                self.make(start, page, turn);
            }
        }
    }

    /// What was gathered may be gathered again.
    pub(crate) fn begin_anew(&self) {
        self.gathered.clear(Ordering::Relaxed); // Relaxed: see `HugePages`.
    }

    fn make(&self, start: usize, page: usize, turn: &mut Turn) {
        let is_barred = || self.barred.has(page, Ordering::Relaxed); // Relaxed: see `HugePages`.
        let was_barred = is_barred();
        if was_barred {
            advise(start, page..page + 1, true);
        }
        turn.makes -= 1;
        match collapse(span_of(start, page)) {
            Ok(()) => {
                self.gathered.insert(page, Ordering::Relaxed); // Relaxed: see `HugePages`.
            }
            // Something else about this page.
            Err(error) if matches!(error.errno(), Errno::AGAIN | Errno::INVAL) => {}
            Err(_) => turn.is_in_vain = true,
        }
        if was_barred {
            // What is released of it comes back in small pages, as before.
            advise(start, page..page + 1, false);
            if !is_barred() {
                // Meanwhile a large block has come.
                advise(start, page..page + 1, true);
            }
        }
    }
}

/// In which pages a part lies.
fn pages_of(part: &Range<usize>) -> Range<usize> {
    part.start / HUGE_PAGE_BYTES..part.end.div_ceil(HUGE_PAGE_BYTES)
}

fn span_of(start: usize, page: usize) -> Span {
    Span::new(start + page * HUGE_PAGE_BYTES, HUGE_PAGE_BYTES / PAGE_BYTES)
}

fn advise(start: usize, pages: Range<usize>, huge: bool) {
    let advice = if huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
    let first = std::ptr::with_exposed_provenance_mut(start + pages.start * HUGE_PAGE_BYTES);
    // SAFETY: a part of a mapping of our own; changes no contents. A kernel without huge pages refuses.
    let _ = unsafe { madvise(first, pages.len() * HUGE_PAGE_BYTES, advice) };
}

/// Would a huge page take little more memory, for no longer? It would take more if much is missing, or is a forked process's too. What is
/// offered could not be taken any more, and nobody would look after what is settled again. (This is the thread that offers and releases.)
fn is_worth_one(page: Span) -> bool {
    let Ok(system) = Linux::get() else { return false };
    let enough = page.pages() - MISSING_PAGES_MAX;
    if !system.count_small_pages(page).is_ok_and(|small| small >= enough) {
        return false;
    }
    let (mut own, mut others) = (0, 0);
    let looked = system.residency(page, true, &mut |pages, residency| match residency {
        Residency::Present => own += pages.len(),
        Residency::Shared | Residency::Swapped => others += pages.len(),
    });
    let mut is_given = false;
    let start = std::ptr::with_exposed_provenance_mut(page.address());
    let asked = raw::query(start, page.bytes(), |_, mark| {
        is_given |= matches!(mark, Mark::Offered | Mark::Settled);
    });
    looked.is_ok() && own >= enough && others == 0 && asked.is_ok() && !is_given
}

#[cfg(test)]
mod tests {
    use vrange_testing::{in_child, seccomp, skipped};

    use super::*;
    use crate::reservation::{Reservation, SLICE_BYTES};

    const SLICES: usize = HUGE_PAGE_BYTES / SLICE_BYTES;
    /// All slices of an arena.
    const ALL: &[Range<usize>] = std::slice::from_ref(&(0..8 * SLICES));
    const ARENA_BYTES: usize = 8 * HUGE_PAGE_BYTES;

    /// Some pages of memory that begins at a huge page.
    struct Arena {
        memory: Reservation,
        start: *mut u8,
        pages: HugePages,
    }

    impl Arena {
        fn new() -> Self {
            let memory = Reservation::new();
            let (start, bytes) = memory.make(ARENA_BYTES as u64, 1).expect("address space");
            assert!(memory.open(start, bytes));
            Self { memory, start, pages: HugePages::new() }
        }

        fn slices(&self, first: usize, count: usize, then: fn(&HugePages, usize, Range<usize>)) {
            then(
                &self.pages,
                self.start.expose_provenance(),
                first * SLICE_BYTES..(first + count) * SLICE_BYTES,
            );
        }

        fn fill(&self, slices: &Range<usize>) {
            for (place, byte) in self.bytes(slices) {
                // SAFETY: opened, and nobody else's.
                unsafe { place.write_bytes(byte, PAGE_BYTES) };
            }
        }

        fn check(&self, slices: &Range<usize>) {
            for (place, byte) in self.bytes(slices) {
                // SAFETY: as above.
                assert!((0..PAGE_BYTES).all(|at| unsafe { place.wrapping_add(at).read() } == byte));
            }
        }

        /// Each page of them, and what it is full of.
        fn bytes(&self, slices: &Range<usize>) -> impl Iterator<Item = (*mut u8, u8)> {
            let pages = slices.start * SLICE_BYTES / PAGE_BYTES..slices.end * SLICE_BYTES / PAGE_BYTES;
            pages.map(|page| {
                (self.start.wrapping_add(page * PAGE_BYTES), u8::try_from(page % 251).expect("less") + 1)
            })
        }

        /// A large block comes.
        fn note(&self) {
            self.slices(SLICES + 1, 3 * SLICES, HugePages::use_huge);
        }

        /// Gathers, and says how many it was.
        fn gather(&self) -> usize {
            let mut turn = Turn::new();
            self.pages.gather(self.start.expose_provenance(), &mut turn);
            Turn::new().makes - turn.makes
        }

        fn is_huge(&self, page: usize) -> bool {
            let (system, page) = (system(), span_of(self.start.addr(), page));
            let mut there = 0;
            system.residency(page, false, &mut |pages, _| there += pages.len()).expect("the page table");
            there == page.pages() && system.count_small_pages(page) == Ok(0)
        }

        fn asked(&self) -> Vec<usize> {
            (0..8).filter(|page| self.pages.asked.has(*page, Ordering::Relaxed)).collect()
        }
    }

    impl Drop for Arena {
        fn drop(&mut self) {
            let _ = raw::forget(self.start, ARENA_BYTES);
            self.memory.give_up();
        }
    }

    /// A process that has all memory that this one had, and does nothing.
    struct Sleeper(libc::pid_t);

    impl Sleeper {
        fn fork() -> Self {
            // SAFETY: the child calls nothing but functions that may be called in a signal handler.
            match unsafe { libc::fork() } {
                -1 => panic!("no process to be had"),
                0 => loop {
                    // SAFETY: as above.
                    unsafe { libc::pause() };
                },
                child => Self(child),
            }
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            // SAFETY: a child of ours, which is waited for here alone.
            unsafe { libc::kill(self.0, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
        }
    }

    #[test]
    fn huge_pages_are_those_that_lie_in_what_is_large() {
        let arena = Arena::new();
        arena.slices(0, 2 * SLICES, HugePages::use_huge);
        assert_eq!(arena.asked(), [], "the allocator's books");
        arena.slices(3 * SLICES - 1, 2 * SLICES, HugePages::use_huge);
        assert_eq!(arena.asked(), [3]);
        arena.slices(4 * SLICES, 4 * SLICES, HugePages::use_huge);
        assert_eq!(arena.asked(), [3, 4, 5, 6, 7]);
        arena.slices(6 * SLICES - 1, 2, HugePages::use_small);
        assert_eq!(arena.asked(), [3, 4, 7]);
    }

    fn system() -> &'static Linux {
        Linux::get().expect("pages of this size")
    }

    /// An arena with these slices in memory, in small pages, where a large block has just come into the middle, if huge pages are to be had.
    fn noted(filled: &[Range<usize>]) -> Option<Arena> {
        let arena = Arena::new();
        if system().count_small_pages(span_of(arena.start.addr(), 0)).is_err() {
            skipped("this kernel does not tell what is in huge pages");
            return None;
        }
        if !are_huge_pages_given() {
            skipped("this kernel gives no huge pages");
            return None;
        }
        let start = arena.start.expose_provenance();
        // Barred, so that it begins small even where the kernel gives huge pages to all.
        arena.pages.tell(start, 0..8, true);
        arena.pages.tell(start, 0..8, false);
        filled.iter().for_each(|slices| arena.fill(slices));
        arena.note();
        Some(arena)
    }

    fn assert_gathered(filled: &[Range<usize>], meanwhile: impl FnOnce(&Arena), expected: &[usize]) {
        let Some(arena) = noted(filled) else { return };
        meanwhile(&arena);
        let count = arena.gather();
        let huge: Vec<_> = (0..8).filter(|page| arena.is_huge(*page)).collect();
        assert_eq!((huge.as_slice(), count), (expected, expected.len()));
        filled.iter().for_each(|slices| arena.check(slices));
        assert_eq!(arena.gather(), 0, "once is enough");
        arena.note();
        assert_eq!(arena.gather(), 0, "and they stay so");
    }

    #[test]
    fn what_falls_apart_again_is_left_alone_for_a_while() {
        let Some(arena) = noted(ALL) else { return };
        assert_eq!(arena.gather(), 4);
        let part = arena.start.wrapping_add(2 * HUGE_PAGE_BYTES);
        // SAFETY: a part of the test's own memory that nobody uses.
        unsafe { vrange_os::linux::release_unlocked(Span::new(part.addr(), 1)) }.expect("released");
        arena.fill(&(2 * SLICES..3 * SLICES));
        assert!(!arena.is_huge(2), "the kernel has split it");
        arena.note();
        assert_eq!(arena.gather(), 0);
        arena.pages.begin_anew();
        arena.note();
        assert_eq!(arena.gather(), 1);
    }

    /// What a turn comes to where the kernel refuses each page for this reason. For a process of its own.
    fn refused(errno: i32, then: impl FnOnce(&Arena, Turn)) {
        let Some(arena) = noted(ALL) else { return };
        seccomp::refuse(libc::SYS_madvise, errno);
        let mut turn = Turn::new();
        arena.pages.gather(arena.start.expose_provenance(), &mut turn);
        then(&arena, turn);
    }

    #[test]
    fn a_kernel_that_has_none_is_not_asked_again() {
        let is_in_vain = |arena: &Arena, mut turn: Turn| {
            assert!(turn.is_in_vain());
            arena.pages.gather(arena.start.expose_provenance(), &mut turn);
            assert!(arena.pages.noted.has(2, Ordering::Relaxed), "left for later");
        };
        in_child(|| refused(libc::ENOMEM, is_in_vain));
    }

    #[test]
    fn other_reasons_are_the_page_s_own() {
        let goes_on = |_: &Arena, turn: Turn| {
            assert!(!turn.is_in_vain() && turn.makes == Turn::new().makes - 4);
        };
        in_child(|| refused(libc::EAGAIN, goes_on));
    }

    #[test]
    fn what_is_in_memory_is_gathered() {
        // As far as the block reaches.
        assert_gathered(ALL, |_| (), &[1, 2, 3, 4]);
    }

    #[test]
    fn what_would_take_more_memory_is_not() {
        let filled = [SLICES..2 * SLICES - 2, 2 * SLICES..3 * SLICES - 3, 3 * SLICES..4 * SLICES];
        assert_gathered(&filled, |_| (), &[1, 3]);
    }

    #[test]
    fn what_is_a_forked_process_s_too_is_not() {
        in_child(|| {
            let mut child = None;
            let fork = |arena: &Arena| {
                child = Some(Sleeper::fork());
                // What is written to since is this one's alone.
                arena.fill(&(2 * SLICES..3 * SLICES));
            };
            assert_gathered(ALL, fork, &[2]);
        });
    }

    #[test]
    fn what_the_kernel_may_take_is_not() {
        in_child(|| {
            let offer = |arena: &Arena| {
                let page = arena.start.wrapping_add(3 * HUGE_PAGE_BYTES - PAGE_BYTES);
                // SAFETY: memory of this test, which is only read from here on.
                unsafe { raw::adopt(page, PAGE_BYTES) }.expect("adopted");
                // SAFETY: as above.
                unsafe { raw::mark(page, PAGE_BYTES) }.expect("marked");
                assert_eq!(raw::offer(PAGE_BYTES as u64).expect("offered"), PAGE_BYTES as u64);
                raw::query(page, PAGE_BYTES, |_, mark| assert_eq!(mark, Mark::Offered)).expect("its own");
            };
            assert_gathered(ALL, offer, &[1, 3, 4]);
        });
    }
}
