//! The free memory of an allocator beside data, in adopted memory, under a limit and without, while the reclaimer releases what has
//! been free for a while.

use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;
use vrange::{Content, raw};
use vrange_os::PAGE_BYTES;
use vrange_testing::{in_child, run_programs};

use super::{PAGES, Pages, WHOLE, count, limit_time, some_pages};
use crate::support::in_fork;

/// After this memory that stays free is released.
const DECAY: Duration = Duration::from_millis(2);

/// How memory is taken back. The last two are for free memory alone.
#[derive(Clone, Copy, Debug)]
enum Way {
    Told,
    Dropped,
    Zeroed,
}

#[derive(Clone, Debug)]
enum Step {
    Write(Range<usize>),
    Free(Range<usize>),
    /// Marks as data.
    Mark(Range<usize>),
    TakeBack(Range<usize>, Way),
    Wait(Duration),
    Offer,
    /// Abandons, and adopts again.
    Abandon(Range<usize>),
    Fork,
}

#[derive(Clone, Debug)]
struct Program {
    limit_pages: Option<u64>,
    steps: Vec<Step>,
}

fn programs() -> impl Strategy<Value = Program> {
    let pages = some_pages;
    let way = prop_oneof![Just(Way::Told), Just(Way::Dropped), Just(Way::Zeroed)];
    let step = prop_oneof![
        50 => pages().prop_map(Step::Write),
        40 => pages().prop_map(Step::Free),
        26 => pages().prop_map(Step::Mark),
        60 => (pages(), way).prop_map(|(pages, way)| Step::TakeBack(pages, way)),
        8 => (0..8000u64).prop_map(|micros| Step::Wait(Duration::from_micros(micros))),
        6 => Just(Step::Offer),
        4 => pages().prop_map(Step::Abandon),
        2 => Just(Step::Fork),
    ];
    let limit = prop::option::of(Just(PAGES as u64 / 2));
    (limit, prop::collection::vec(step, 1..300))
        .prop_map(|(limit_pages, steps)| Program { limit_pages, steps })
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    Live,
    /// Marked as data, which stays: nobody's memory is short.
    Data,
    /// It holds what it held, or zeros.
    Free,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    usage: Use,
    value: u64,
}

/// What became of memory that was free, and how much of the rest was looked at.
#[derive(Clone, Copy, Default)]
struct Fates {
    gone: usize,
    held: usize,
}

struct Machine {
    pages: Pages,
    known: [Page; PAGES],
    written: u64,
    fates: Fates,
}

impl Machine {
    fn new() -> Self {
        let (pages, known) = (Pages::new(), [Page { usage: Use::Live, value: 0 }; PAGES]);
        let machine = Self { pages, known, written: 0, fates: Fates::default() };
        machine.adopt(&WHOLE);
        machine
    }

    fn adopt(&self, pages: &Range<usize>) {
        let (start, bytes) = self.pages.start(pages);
        // SAFETY: private, anonymous, readable and writable and not locked; the mapping tells of its end.
        unsafe { raw::adopt(start, bytes) }.expect("to be adopted");
    }

    #[track_caller]
    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
            let live = self.known.iter().enumerate().filter(|(_, known)| known.usage == Use::Live);
            for (page, known) in live {
                assert_eq!(self.pages.read(page), known.value, "page {page} is in use");
            }
        }
    }

    /// The first pages of some, up to one that is used so.
    fn before(&self, pages: &Range<usize>, usage: Use) -> Range<usize> {
        let end = pages.clone().find(|page| self.known[*page].usage == usage).unwrap_or(pages.end);
        pages.start..end
    }

    #[track_caller]
    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(pages) => self.write(pages),
            Step::Free(pages) => {
                let pages = self.before(pages, Use::Data);
                if self.try_mark(&pages) {
                    self.use_as(&pages, Use::Free);
                }
            }
            Step::Mark(pages) => {
                let pages = self.before(pages, Use::Free);
                let (start, bytes) = self.pages.start(&pages);
                // SAFETY: the program does not touch the pages until they are unmarked.
                unsafe { raw::mark(start, bytes) }.expect("a mark");
                self.use_as(&pages, Use::Data);
            }
            Step::TakeBack(pages, way) => self.take_back(pages, *way),
            Step::Wait(time) => std::thread::sleep(*time),
            Step::Offer => {
                let _ = raw::offer(u64::MAX).expect("an offer");
            }
            Step::Abandon(pages) => {
                let (start, bytes) = self.pages.start(pages);
                // SAFETY: nobody stores to the pages meanwhile.
                unsafe { raw::abandon(start, bytes) }.expect("to be abandoned");
                self.take_back(pages, Way::Told);
                self.adopt(pages);
            }
            Step::Fork => self.fork(),
        }
    }

    fn use_as(&mut self, pages: &Range<usize>, usage: Use) {
        self.known[pages.clone()].iter_mut().for_each(|page| page.usage = usage);
    }

    fn write(&mut self, pages: &Range<usize>) {
        for page in pages.clone() {
            let known = &mut self.known[page];
            if known.usage == Use::Live {
                self.written += 1;
                known.value = self.written;
                self.pages.write(page, self.written);
            }
        }
    }

    fn try_mark(&self, pages: &Range<usize>) -> bool {
        let (start, bytes) = self.pages.start(pages);
        // SAFETY: the program does not touch the pages until they are unmarked.
        unsafe { raw::try_mark(start, bytes) }.expect("a range")
    }

    #[track_caller]
    fn take_back(&mut self, pages: &Range<usize>, way: Way) {
        let is_free = self.known[pages.clone()].iter().all(|page| page.usage == Use::Free);
        let (start, bytes) = self.pages.start(pages);
        let (reads_zero, told) = match way {
            Way::Dropped if is_free => {
                // SAFETY: nobody uses the pages, or wants their contents.
                let empty = unsafe { raw::unmark_dropped(start, bytes) }.expect("a range");
                assert!(empty <= pages.len());
                (empty == pages.len(), None)
            }
            Way::Zeroed if is_free => {
                // SAFETY: as above.
                let zeroed = unsafe { raw::unmark_zeroed(start, bytes) }.expect("a range");
                assert!(zeroed <= pages.len());
                (true, None)
            }
            _ => (false, Some(self.pages.unmark(pages))),
        };
        assert!(!reads_zero || self.is_all_zero(pages), "{pages:?} is not zero, taken back {way:?}");
        self.taken_back(pages, told.as_deref());
    }

    fn is_all_zero(&self, pages: &Range<usize>) -> bool {
        let (start, bytes) = self.pages.start(pages);
        // SAFETY: a readable mapping of the program's own, to which nobody writes meanwhile.
        unsafe { std::slice::from_raw_parts(start, bytes) }.iter().all(|byte| *byte == 0)
    }

    /// Looks at pages that are in use again. Which were lost is known where somebody `told`.
    #[track_caller]
    fn taken_back(&mut self, pages: &Range<usize>, told: Option<&[usize]>) {
        for page in pages.clone() {
            let (known, found) = (self.known[page], self.pages.read(page));
            let is_lost = found != known.value;
            assert!(
                !is_lost || (known.usage == Use::Free && found == 0),
                "page {page} reads {found}, {known:?}"
            );
            if let Some(told) = told {
                assert!(!is_lost || told.contains(&page), "page {page} was lost, and nobody told, {known:?}");
            }
            if known.usage == Use::Free {
                self.fates.gone += usize::from(is_lost);
            } else {
                assert!(told.is_none_or(|told| !told.contains(&page)), "page {page} was told, {known:?}");
                self.fates.held += 1;
            }
            self.known[page] = Page { usage: Use::Live, value: found };
        }
    }

    #[track_caller]
    fn fork(&mut self) {
        let ended_well = in_fork(|| {
            limit_time();
            self.take_back(&WHOLE, Way::Told);
            self.write(&WHOLE);
            // The child's reclaimer is its own.
            raw::prepare().expect("a reclaimer");
            raw::set_limit(None);
            assert!(self.try_mark(&WHOLE), "there is no limit");
            self.use_as(&WHOLE, Use::Free);
            std::thread::sleep(DECAY);
            self.take_back(&WHOLE, Way::Zeroed);
        });
        assert!(ended_well, "the child failed");
    }
}

fn run(program: &Program) -> Fates {
    raw::set_limit(program.limit_pages.map(|pages| pages * PAGE_BYTES as u64));
    let mut machine = Machine::new();
    machine.run(&program.steps);
    machine.take_back(&WHOLE, Way::Told);
    machine.fates
}

#[test]
fn random_programs_lose_free_memory_alone() {
    in_child(|| {
        raw::set_content(Content::Free { decay: DECAY });
        raw::prepare().expect("a reclaimer");
        let (gone, held) = (Cell::new(0), Cell::new(0));
        run_programs(count(), &programs(), |program| {
            let fates = run(&program);
            gone.set(gone.get() + fates.gone);
            held.set(held.get() + fates.held);
        });
        assert!(gone.get() > 0 && held.get() > 0, "{} pages gone, {} held", gone.get(), held.get());
    });
}
