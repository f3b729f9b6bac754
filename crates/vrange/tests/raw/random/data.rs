//! Data: marked, taken and told; adopted or not, locked, protected, unmapped unseen, and in children.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous};
use vrange::{ErrorKind, raw};
use vrange_os::PAGE_BYTES;
use vrange_testing::{StopAtEnd, drain_processors, has_swap, in_child, run_programs};

use super::{PAGES, Pages, WHOLE, count, limit_time, some_pages, take_each};
use crate::support::{end_child, has_ended_well, in_fork};

/// One step. What a program may not do with some pages is done with those before them alone.
#[derive(Clone, Debug)]
enum Step {
    /// Writes to each page, or to every second or third; a number of its own, or 0.
    Write {
        pages: Range<usize>,
        every: usize,
        blank: bool,
    },
    Mark(Range<usize>),
    Unmark(Range<usize>),
    Purge(Range<usize>),
    Offer {
        drained: bool,
    },
    /// The kernel takes what it may.
    Take {
        pages: Range<usize>,
        drained: bool,
    },
    Adopt(Range<usize>),
    Abandon(Range<usize>),
    /// Other memory at the same address, of which the library is told.
    Replace(Range<usize>),
    ReplaceUnseen(Range<usize>),
    /// Locks, or unlocks if the first page is locked.
    Lock(Range<usize>),
    /// A mark or an unmark while nobody may write, or not even read.
    Protected {
        pages: Range<usize>,
        readable: bool,
        mark: bool,
    },
    /// A child that goes on by itself; by a `clone` of which no fork handler hears, if `unannounced`, unless that could come in the
    /// middle of an offer.
    Fork {
        unannounced: bool,
        steps: Vec<Step>,
    },
}

/// Steps that the kernel allows and the documentation does, too.
fn step() -> impl Strategy<Value = Step> + Clone {
    let pages = some_pages;
    let write = (pages(), 1..=3usize, prop::bool::weighted(0.12));
    let drained = prop::bool::weighted(0.33);
    prop_oneof![
        20 => write.prop_map(|(pages, every, blank)| Step::Write { pages, every, blank }),
        25 => pages().prop_map(Step::Mark),
        17 => pages().prop_map(Step::Unmark),
        6 => pages().prop_map(Step::Purge),
        7 => drained.prop_map(|drained| Step::Offer { drained }),
        8 => (pages(), drained).prop_map(|(pages, drained)| Step::Take { pages, drained }),
        4 => pages().prop_map(Step::Adopt),
        4 => pages().prop_map(Step::Abandon),
        2 => pages().prop_map(Step::Replace),
        3 => pages().prop_map(Step::ReplaceUnseen),
        2 => (WHOLE, 1..=3usize).prop_map(|(at, length)| Step::Lock(at..(at + length).min(PAGES))),
        2 => (pages(), any::<bool>(), any::<bool>())
            .prop_map(|(pages, readable, mark)| Step::Protected { pages, readable, mark }),
    ]
}

#[derive(Clone, Debug)]
struct Program {
    in_huge_pages: bool,
    /// Another thread offers all the time, and has the kernel take what it may.
    beside_reclaim: bool,
    steps: Vec<Step>,
}

fn programs() -> impl Strategy<Value = Program> {
    let child = prop::collection::vec(step(), 0..40);
    let fork = (any::<bool>(), child).prop_map(|(unannounced, steps)| Step::Fork { unannounced, steps });
    let steps = prop::collection::vec(prop_oneof![150 => step(), 1 => fork], 1..400);
    (prop::bool::weighted(0.2), prop::bool::weighted(0.2), steps)
        .prop_map(|(in_huge_pages, beside_reclaim, steps)| Program { in_huge_pages, beside_reclaim, steps })
}

/// What is known of a page.
#[derive(Clone, Copy, Debug, Default)]
struct Page {
    /// What it holds; if it is marked it may read as 0 instead.
    value: u64,
    is_marked: bool,
    is_adopted: bool,
    is_locked: bool,
    /// Something else was here, of whose end the library was not told, or its contents could not be seen: a loss may be told that
    /// is none.
    is_doubtful: bool,
}

/// What became of marked pages with contents.
#[derive(Clone, Copy, Default)]
struct Fates {
    lost: usize,
    kept: usize,
}

struct Machine {
    pages: Pages,
    known: [Page; PAGES],
    written: u64,
    fates: Fates,
    is_beside_reclaim: bool,
    has_swap: bool,
}

impl Machine {
    fn new(in_huge_pages: bool, is_beside_reclaim: bool) -> Self {
        let pages = Pages::new();
        if in_huge_pages {
            let (start, bytes) = (pages.mapping.base().cast(), pages.mapping.bytes());
            // Where the kernel has no huge pages it refuses.
            // SAFETY: changes no contents.
            let _ = unsafe { madvise(start, bytes, Advice::LinuxHugepage) };
        }
        let (known, fates) = ([Page::default(); PAGES], Fates::default());
        Self { pages, known, written: 0, fates, is_beside_reclaim, has_swap: has_swap() }
    }

    #[track_caller]
    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
            self.check();
        }
    }

    #[track_caller]
    fn check(&self) {
        for (page, known) in self.known.iter().enumerate().filter(|(_, known)| !known.is_marked) {
            assert_eq!(self.pages.read(page), known.value, "page {page}, {known:?}");
        }
    }

    /// The first pages of some, as many as are so.
    fn while_so(&self, pages: &Range<usize>, is_so: impl Fn(Page) -> bool) -> Range<usize> {
        let end = pages.clone().find(|page| !is_so(self.known[*page])).unwrap_or(pages.end);
        pages.start..end
    }

    #[track_caller]
    fn step(&mut self, step: &Step) {
        match step {
            Step::Write { pages, every, blank } => self.write(pages.clone().step_by(*every), *blank),
            Step::Mark(pages) => self.mark(pages),
            Step::Unmark(pages) => self.unmark(pages),
            Step::Purge(pages) => {
                let (start, bytes) = self.pages.start(pages);
                // SAFETY: only marked pages go.
                unsafe { raw::purge(start, bytes) }.expect("a purge");
            }
            Step::Offer { drained } => {
                raw::offer(u64::MAX).expect("an offer");
                drain_if(*drained);
            }
            Step::Take { pages, drained } => {
                drain_if(*drained);
                self.pages.take(pages);
            }
            Step::Adopt(pages) => {
                self.adopt(&self.while_so(pages, |page| !page.is_marked && !page.is_locked));
            }
            Step::Abandon(pages) => self.abandon(pages),
            Step::Replace(pages) => {
                let (start, bytes) = self.pages.start(pages);
                raw::forget(start, bytes).expect("to be forgotten");
                self.map_anew(pages, Page::default());
            }
            Step::ReplaceUnseen(pages) => {
                let pages = self.while_so(pages, |page| !page.is_adopted);
                self.map_anew(&pages, Page { is_doubtful: true, ..Page::default() });
            }
            Step::Lock(pages) => self.lock(&self.while_so(pages, |page| !page.is_adopted)),
            Step::Protected { pages, readable, mark } => {
                let pages = self.while_so(pages, |page| !page.is_adopted);
                self.protected(&pages, *readable, *mark);
            }
            Step::Fork { unannounced, steps } => self.fork(*unannounced && !self.is_beside_reclaim, steps),
        }
    }

    fn write(&mut self, pages: impl Iterator<Item = usize>, blank: bool) {
        for page in pages {
            let known = &mut self.known[page];
            if !known.is_marked {
                self.written += 1;
                known.value = if blank { 0 } else { self.written };
                self.pages.write(page, known.value);
            }
        }
    }

    #[track_caller]
    fn mark(&mut self, pages: &Range<usize>) {
        let (start, bytes) = self.pages.start(pages);
        // SAFETY: the program does not touch the pages until they are unmarked.
        let outcome = unsafe { raw::mark(start, bytes) };
        let allowed = self.while_so(pages, |page| !page.is_locked);
        match outcome {
            Ok(()) => assert_eq!(allowed, *pages, "locked memory is refused"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotMarkable, "{error}");
                assert_ne!(allowed, *pages, "nothing is locked: {error}");
            }
        }
        // If it was refused they may be.
        self.known[allowed].iter_mut().for_each(|page| page.is_marked = true);
    }

    /// May a loss be told that is none? Of what is on swap nobody sees whether it is blank.
    fn may_be_told(&self, known: Page) -> bool {
        known.is_doubtful || self.has_swap && known.is_marked && known.value == 0
    }

    #[track_caller]
    fn unmark(&mut self, pages: &Range<usize>) {
        let told = self.pages.unmark(pages);
        self.unmarked(pages, &told);
    }

    #[track_caller]
    fn unmarked(&mut self, pages: &Range<usize>, told: &[usize]) {
        for page in pages.clone() {
            let (known, found) = (self.known[page], self.pages.read(page));
            let (is_lost, is_told) = (found != known.value, told.contains(&page));
            assert!(!is_lost || (known.is_marked && found == 0), "page {page} reads {found}, {known:?}");
            assert!(!is_lost || is_told, "page {page} was lost, and nobody told, {known:?}");
            assert!(
                !is_told || is_lost || self.may_be_told(known),
                "page {page} was told, and is not lost, {known:?}"
            );
            self.fates.lost += usize::from(is_lost);
            self.fates.kept += usize::from(known.is_marked && !is_lost && found != 0);
            self.known[page] = Page { value: found, is_marked: false, is_doubtful: false, ..known };
        }
    }

    fn adopt(&mut self, pages: &Range<usize>) {
        let (start, bytes) = self.pages.start(pages);
        // SAFETY: private, anonymous, readable and writable and not locked; the program tells of its end.
        unsafe { raw::adopt(start, bytes) }.expect("to be adopted");
        for page in &mut self.known[pages.clone()] {
            (page.is_adopted, page.is_doubtful) = (true, false);
        }
    }

    #[track_caller]
    fn abandon(&mut self, pages: &Range<usize>) {
        let (start, bytes) = self.pages.start(pages);
        // SAFETY: nobody stores to the pages meanwhile.
        unsafe { raw::abandon(start, bytes) }.expect("to be abandoned");
        for page in pages.clone() {
            let known = self.known[page];
            // What is lost stays marked, for the next unmark to tell.
            let is_marked = self.pages.read(page) != known.value || self.may_be_told(known);
            self.known[page] = Page { is_adopted: false, is_marked: known.is_marked && is_marked, ..known };
        }
    }

    fn map_anew(&mut self, pages: &Range<usize>, known: Page) {
        if pages.is_empty() {
            return;
        }
        let (start, bytes) = self.pages.start(pages);
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
        // SAFETY: memory of the program's own, whose contents it gives up.
        unsafe { mmap_anonymous(start.cast(), bytes, protection, flags) }.expect("a mapping");
        self.known[pages.clone()].fill(known);
    }

    fn lock(&mut self, pages: &Range<usize>) {
        if pages.is_empty() {
            return;
        }
        let is_locked = !self.known[pages.start].is_locked;
        if is_locked {
            self.pages.mapping.lock(self.pages.of(pages));
        } else {
            self.pages.mapping.unlock(self.pages.of(pages));
        }
        self.known[pages.clone()].iter_mut().for_each(|page| page.is_locked = is_locked);
    }

    /// What comes at the end.
    #[track_caller]
    fn unlock_and_unmark(&mut self) {
        self.pages.mapping.unlock(self.pages.of(&WHOLE));
        self.known.iter_mut().for_each(|page| page.is_locked = false);
        self.unmark(&WHOLE);
    }

    #[track_caller]
    fn protected(&mut self, pages: &Range<usize>, readable: bool, mark: bool) {
        if pages.is_empty() {
            return;
        }
        // Whether a page is blank may not be seen.
        let unseen = self.known[pages.clone()].iter_mut().filter(|page| page.value == 0);
        unseen.for_each(|page| page.is_doubtful = true);
        let of_mapping = self.pages.of(pages);
        let protection = if readable { MprotectFlags::READ } else { MprotectFlags::empty() };
        self.pages.mapping.protect(of_mapping.clone(), protection);
        let unmarked = if mark {
            self.mark(pages);
            None
        } else {
            Some(self.pages.try_unmark(pages))
        };
        self.pages.mapping.protect(of_mapping, MprotectFlags::READ | MprotectFlags::WRITE);
        match unmarked {
            None => {}
            Some((Ok(()), told)) => self.unmarked(pages, &told),
            Some((Err(error), told)) => {
                assert_eq!(error.kind(), ErrorKind::NotWritable, "{error}");
                told.into_iter().for_each(|page| self.told_and_refused(page));
            }
        }
    }

    /// A page that was told by an unmark which the kernel refused: it may be told once more.
    #[track_caller]
    fn told_and_refused(&mut self, page: usize) {
        let (known, found) = (self.known[page], self.pages.read(page));
        if found != known.value {
            assert!(known.is_marked && found == 0, "page {page} reads {found}, {known:?}");
            self.known[page] = Page { value: 0, is_marked: false, is_doubtful: true, ..known };
        } else {
            assert!(self.may_be_told(known), "page {page} was told, and is not lost, {known:?}");
        }
    }

    #[track_caller]
    fn fork(&mut self, unannounced: bool, steps: &[Step]) {
        let ended_well = if unannounced {
            // SAFETY: only the calling thread goes on in the child, and the others of this process hold no lock that it needs: they
            // neither allocate nor print.
            match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
                0 => end_child(|| self.go_on_in_child(unannounced, steps)),
                child => has_ended_well(libc::pid_t::try_from(child).expect("a process's number")),
            }
        } else {
            in_fork(|| self.go_on_in_child(unannounced, steps))
        };
        assert!(ended_well, "the child failed");
    }

    fn go_on_in_child(&mut self, unannounced: bool, steps: &[Step]) {
        limit_time();
        self.check();
        // Locks are not inherited.
        self.known.iter_mut().for_each(|page| page.is_locked = false);
        self.run(steps);
        self.unlock_and_unmark();
        // What the child writes is its own, and can be lost like any other.
        self.write(WHOLE, false);
        self.mark(&WHOLE);
        if !unannounced {
            raw::offer(u64::MAX).expect("an offer");
        }
        self.pages.take(&WHOLE);
        self.unmark(&WHOLE);
    }
}

fn drain_if(drained: bool) {
    if drained {
        drain_processors();
    }
}

fn run(program: &Program) -> Fates {
    let mut machine = Machine::new(program.in_huge_pages, program.beside_reclaim);
    let all = machine.pages.mapping.span(machine.pages.of(&WHOLE));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&over);
        let reclaim = || {
            // Relaxed: it only ends the loop.
            while !over.load(Ordering::Relaxed) {
                raw::offer(u64::MAX).expect("an offer");
                take_each(all);
            }
        };
        let thread = program.beside_reclaim.then(|| scope.spawn(reclaim));
        machine.run(&program.steps);
        machine.unlock_and_unmark();
        drop(stop);
        // ThreadSanitizer does not see how a scope waits.
        if let Some(thread) = thread {
            thread.join().expect("the other thread");
        }
        machine.fates
    })
}

/// C2, C3, C5 and C9 together.
#[test]
fn random_programs_lose_exactly_what_is_told() {
    in_child(|| {
        let (lost, kept) = (Cell::new(0), Cell::new(0));
        run_programs(count(), &programs(), |program| {
            let fates = run(&program);
            lost.set(lost.get() + fates.lost);
            kept.set(kept.get() + fates.kept);
        });
        assert!(lost.get() > 0 && kept.get() > 0, "{} pages lost, {} kept", lost.get(), kept.get());
    });
}

/// Fails as the programs do if a page goes that is not marked.
#[test]
#[should_panic(expected = "assertion `left == right` failed: page 7")]
fn control_a_page_that_goes_without_a_mark_is_seen() {
    let mut machine = Machine::new(false, false);
    machine.run(&[Step::Write { pages: WHOLE, every: 1, blank: false }]);
    // SAFETY: a page of the test's own.
    unsafe { madvise(machine.pages.at(7).cast(), PAGE_BYTES, Advice::LinuxDontNeed) }.expect("to be dropped");
    machine.run(&[Step::Offer { drained: false }]);
}

/// And if the loss of a marked page is not told.
#[test]
#[should_panic(expected = "page 7 was lost, and nobody told")]
fn control_a_loss_that_is_not_told_is_seen() {
    let mut machine = Machine::new(false, false);
    machine.run(&[Step::Write { pages: WHOLE, every: 1, blank: false }, Step::Mark(7..8)]);
    // SAFETY: a page of the test's own.
    unsafe { madvise(machine.pages.at(7).cast(), PAGE_BYTES, Advice::LinuxDontNeed) }.expect("to be dropped");
    let _told = machine.pages.unmark(&WHOLE);
    machine.unmarked(&WHOLE, &[]);
}
