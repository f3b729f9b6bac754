//! What the reclaimer does with marked pages of adopted memory: offer them, or drop them.

use std::ops::Range;

use arrayvec::ArrayVec;
use vrange_os::{OsError, Residency, Span, System};

use super::address_map::Place;
use super::engine::{Marks, memory_of};
use super::page_set::{BLOCK_PAGES, Pages};
use crate::inner::Inner;
use crate::range::page_map::Page;
use crate::range::protocol::{OfferTotal, Released};
use crate::range::state::{Phase, Word};
use crate::range::witness::{Fate, Part, has_contents, note, note_by_contents, take_back};
use crate::settings::Content;
use crate::sync::thread;

/// Pages that are offered or released between two looks at whether somebody waits for the block: a huge page's, so that none
/// is split.
const PIECE_PAGES: usize = 512;
/// Runs of pages that are offered with one system call.
const BATCH_RUNS: usize = 64;

/// A block in which pages of adopted memory are marked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unheld {
    pub(crate) number: usize,
    pub(crate) seen: Word,
    /// Marked pages that are not settled.
    pub(crate) pages: usize,
    /// Those among them that are not offered.
    pub(crate) fresh_pages: usize,
    /// It is free memory, and so decays.
    pub(crate) decays: bool,
}

impl Marks {
    /// Calls `visit` with each block that has marked pages of adopted memory and that nobody holds. Blocks without any marks
    /// are found by it, and are not looked at again.
    pub(crate) fn each_unheld(&self, mut visit: impl FnMut(Unheld)) {
        self.map.each_used(|place| {
            let block = place.block();
            let seen = block.state.look();
            if !matches!(seen.phase(), Phase::Volatile | Phase::Offered) {
                return;
            }
            let marked = block.marked.all();
            if marked.is_empty() {
                self.leave(&place, seen);
                return;
            }
            let unsettled = unsettled(&place);
            let (pages, fresh_pages) = (unsettled.count(), unsettled.without(&block.offered.all()).count());
            if pages > 0 {
                let decays = block.is_free_memory();
                visit(Unheld { number: place.number, seen, pages, fresh_pages, decays });
            }
        });
    }

    /// Nothing is marked in the block any more, as it seems.
    fn leave(&self, place: &Place<'_>, seen: Word) {
        let block = place.block();
        place.set_touched();
        let _pass = self.gate.enter();
        if block.state.begin_release_of(seen).is_none() {
            return;
        }
        if block.marked.all().is_empty() {
            block.hold_nothing();
            place.clear_used();
            block.wakes.wake(block.state.end_release(Phase::Empty, false));
        } else {
            block.end_release();
        }
    }

    /// Is there a marked page of adopted memory that is not settled, or a block in transit? Part of the handshake before the
    /// reclaimer sleeps.
    pub(crate) fn needs_reclaimer(&self) -> bool {
        let mut needed = false;
        self.map.each_used(|place| needed |= block_needs_reclaimer(&place));
        needed
    }

    /// The same of the blocks in which `span` lies.
    pub(crate) fn needs_reclaimer_in(&self, span: Span) -> bool {
        let mut needed = false;
        self.each_marked(span, |place, _| needed |= block_needs_reclaimer(&place));
        needed
    }

    /// How many pages of free memory are marked and not settled.
    pub(crate) fn count_free(&self) -> u64 {
        let mut pages = 0;
        self.map.each_used(|place| {
            if place.block().is_free_memory() {
                pages += unsettled(&place).count() as u64;
            }
        });
        pages
    }

    /// Calls `visit` with the state of each block that nobody holds.
    pub(crate) fn cut_ages(&self) {
        let now = Inner::now();
        self.map.each_used(|place| place.block().state.cut_age(now));
    }

    /// Has this block stayed out of the offer that was just tried?
    pub(crate) fn is_kept(&self, number: usize) -> bool {
        self.map.get(number).is_some_and(|place| !place.block().fresh().and(&place.adopted()).is_empty())
    }

    /// Offers the fresh pages of a block, if it is still as it was seen.
    pub(crate) fn offer(&self, system: &dyn System, number: usize, seen: Word, total: &mut OfferTotal) {
        let Some(place) = self.map.get(number) else { return };
        let block = place.block();
        let _pass = self.gate.enter();
        if block.state.begin_offer(seen).is_none() {
            return;
        }
        let mut offer = Offer { marks: self, place, system, pages: 0, refused_by: None };
        let (fresh, kept) = offer.offerable();
        if block.is_free_memory() && matches!(self.policy.content(), Content::Free { .. }) {
            // Nobody wants the contents, and to write there would copy the page anyway: our share of it can go.
            self.drop_pages(system, &offer.place, &kept, usize::MAX);
        }
        for piece in [0..PIECE_PAGES, PIECE_PAGES..BLOCK_PAGES] {
            let mut runs = fresh.and(&Pages::of(piece)).runs(PIECE_PAGES).peekable();
            while runs.peek().is_some() && !block.state.is_cancelled() && !offer.is_over() {
                let batch: ArrayVec<Range<usize>, BATCH_RUNS> = runs.by_ref().take(BATCH_RUNS).collect();
                offer.offer_runs(&batch);
            }
        }
        self.counters.offered(offer.pages);
        total.pages += offer.pages;
        total.ranges += usize::from(offer.pages > 0);
        total.refused_by = total.refused_by.or(offer.refused_by);
        if offer.is_over() || !block.fresh().and(&place.adopted()).is_empty() {
            // So that others are tried before it is looked at again.
            block.state.make_youngest(Inner::now());
        }
        let any = !block.offered.all().is_empty();
        block.wakes.wake(block.state.end_offer(any, false));
    }

    /// Drops marked pages of adopted memory, not many more than `pages_max`, if the block is still as it was seen.
    pub(crate) fn release(
        &self,
        system: &dyn System,
        number: usize,
        seen: Word,
        pages_max: usize,
    ) -> Released {
        let Some(place) = self.map.get(number) else { return Released::Nothing };
        let block = place.block();
        let _pass = self.gate.enter();
        if block.state.begin_release_of(seen).is_none() {
            return Released::Interrupted;
        }
        let all = unsettled(&place);
        // What is offered goes first: the others may have been marked just now.
        let offered = all.and(&block.offered.all());
        let wanted = if offered.is_empty() { all } else { offered };
        let (dropped, end) = self.drop_pages(system, &place, &wanted, pages_max);
        block.end_release();
        match end {
            DropEnd::Done => Released::Pages(dropped),
            DropEnd::Enough => Released::Part(dropped),
            DropEnd::Interrupted | DropEnd::Refused => Released::Interrupted,
        }
    }

    /// Drops those marked pages of adopted memory that lie in `pages` of a block, after waiting for whoever holds it. Returns how
    /// many were in memory.
    pub(super) fn release_among(&self, system: &dyn System, place: &Place<'_>, pages: Range<usize>) -> usize {
        let block = place.block();
        let mut dropped = 0;
        loop {
            let claimed = place.claim();
            let wanted = block.marked.among(pages.clone()).and(&place.adopted());
            let (more, end) = self.drop_pages(system, place, &wanted, usize::MAX);
            dropped += more;
            drop(claimed);
            match end {
                DropEnd::Done | DropEnd::Enough | DropEnd::Refused => return dropped,
                // Others go first, then the rest.
                DropEnd::Interrupted => thread::yield_now(),
            }
        }
    }

    /// Drops pages of a claimed block until about `pages_max` have gone that were in memory. Returns how many, and why it ended.
    fn drop_pages(
        &self,
        system: &dyn System,
        place: &Place<'_>,
        wanted: &Pages,
        pages_max: usize,
    ) -> (usize, DropEnd) {
        let block = place.block();
        let (mut dropped, mut taken) = (0, 0);
        let mut end = DropEnd::Done;
        for run in wanted.without(&block.settled.all()).runs(PIECE_PAGES) {
            if block.state.is_cancelled() {
                end = DropEnd::Interrupted;
                break;
            }
            if dropped >= pages_max {
                end = DropEnd::Enough;
                break;
            }
            let Some(run) = drop_run(system, place, run) else {
                end = DropEnd::Refused;
                break;
            };
            dropped += run.dropped;
            taken += run.taken;
        }
        self.counters.released(dropped);
        self.counters.lost(taken);
        (dropped, end)
    }
}

/// Marked pages of adopted memory of which something may be left.
fn unsettled(place: &Place<'_>) -> Pages {
    let block = place.block();
    block.marked.all().and(&place.adopted()).without(&block.settled.all())
}

fn block_needs_reclaimer(place: &Place<'_>) -> bool {
    match place.block().state.look().phase() {
        Phase::Free | Phase::Empty | Phase::Pinned => false,
        Phase::Volatile | Phase::Offered => !unsettled(place).is_empty(),
        Phase::Offering | Phase::Rescuing | Phase::Releasing => true,
    }
}

/// Why dropping pages ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DropEnd {
    /// There are no more.
    Done,
    /// There were enough.
    Enough,
    /// Somebody waits for the block.
    Interrupted,
    /// The kernel refuses.
    Refused,
}

/// Pages of a run that was dropped.
struct Dropped {
    /// They were in memory.
    dropped: usize,
    /// The kernel had taken their contents.
    taken: usize,
}

/// Drops a run of marked pages of adopted memory, in a claimed block. `None`: the kernel refuses.
fn drop_run(system: &dyn System, place: &Place<'_>, run: Range<usize>) -> Option<Dropped> {
    let block = place.block();
    let (memory, notes) = (memory_of(place), block.notes());
    let fresh = Pages::of(run.clone()).without(&block.offered.all());
    for run in fresh.runs(PIECE_PAGES) {
        let mut part = Part::new(memory, run.clone(), notes);
        notes.forget(run.clone());
        // SAFETY: the block is claimed, and adopted memory is readable.
        if unsafe { note(system, std::slice::from_mut(&mut part)) }.is_err() {
            // SAFETY: as above.
            unsafe { note_by_contents(memory, run, notes) };
        }
    }
    let present = present(system, memory.span(), run.clone()).unwrap_or(Pages::ALL);
    // Before the call: in a child forked during it, these pages may be gone.
    block.offered.insert(run.clone());
    // SAFETY: marked pages of adopted memory, in a claimed block: their owner has agreed that they may go.
    if unsafe { system.release(memory.span().slice(run.start, run.len())) }.is_err() {
        // It may have reached a part of them all the same, so they are looked at like offered ones when they are unmarked.
        return None;
    }
    let mut counts = Dropped { dropped: 0, taken: 0 };
    for page in run.clone() {
        let note = notes.get(page);
        counts.dropped += usize::from(present.contains(page));
        counts.taken += usize::from(note == Page::Witnessed && !present.contains(page));
        // A loss may be known that nobody was told of yet.
        let is_lost = matches!(note, Page::Witnessed | Page::Lost);
        notes.set(page, if is_lost { Page::Lost } else { Page::Absent });
    }
    block.settled.insert(run.clone());
    block.offered.remove(run);
    Some(counts)
}

/// Which pages of `run` are in memory. `None`: that cannot be told.
pub(super) fn present(system: &dyn System, block: Span, run: Range<usize>) -> Option<Pages> {
    let mut present = Pages::NONE;
    let read = system.residency(block.slice(run.start, run.len()), false, &mut |found, _| {
        present.insert(run.start + found.start..run.start + found.end);
    });
    read.is_ok().then_some(present)
}

/// An offer of pages of a claimed block.
struct Offer<'a> {
    marks: &'a Marks,
    place: Place<'a>,
    system: &'a dyn System,
    /// Pages in memory that were offered.
    pages: usize,
    refused_by: Option<OsError>,
}

impl Offer<'_> {
    fn is_over(&self) -> bool {
        self.refused_by.is_some()
    }

    /// Fresh pages that may be offered: those of adopted memory that no other process maps. Nothing tells of every `fork`, and
    /// pages may have been shared before anything was marked, so the page table is asked each time. Zeros may be offered: there
    /// is nothing to lose, and the kernel's zero page looks as if it were shared.
    ///
    /// Returns those, and the fresh pages that others map.
    fn offerable(&mut self) -> (Pages, Pages) {
        let fresh = self.place.block().fresh().and(&self.place.adopted());
        let memory = memory_of(&self.place);
        let mut shared = Pages::NONE;
        let read = self.system.residency(memory.span(), true, &mut |found, residency| {
            if residency == Residency::Shared {
                shared.insert(found);
            }
        });
        self.refused_by = read.err();
        let mut kept = Pages::NONE;
        for page in fresh.and(&shared).runs(BLOCK_PAGES).flatten() {
            // SAFETY: the block is claimed, and adopted memory is readable.
            if unsafe { has_contents(memory, page) } {
                kept.insert(page..page + 1);
            }
        }
        (fresh.without(&kept), kept)
    }

    /// Offers runs of fresh pages with one call.
    fn offer_runs(&mut self, runs: &[Range<usize>]) {
        let block = self.place.block();
        let (memory, notes) = (memory_of(&self.place), block.notes());
        let part = |run: &Range<usize>| Part::new(memory, run.clone(), notes);
        let mut parts: ArrayVec<Part<'_>, BATCH_RUNS> = runs.iter().map(part).collect();
        // Notes of an earlier mark say nothing of this one.
        runs.iter().for_each(|run| notes.forget(run.clone()));
        // SAFETY: the block is claimed, and adopted memory is readable.
        if let Err(error) = unsafe { note(self.system, &mut parts) } {
            self.refused_by = Some(error);
            return;
        }
        // Before the call: in a child forked during it, these pages may have been offered.
        runs.iter().for_each(|run| block.offered.insert(run.clone()));
        let spans: ArrayVec<Span, BATCH_RUNS> =
            runs.iter().map(|run| memory.span().slice(run.start, run.len())).collect();
        // SAFETY: marked pages of adopted memory, noted, in a claimed block: their owner has agreed that they may go.
        let offered = unsafe { self.system.offer(&spans) };
        if let Some(error) = offered.stopped_by {
            self.refused_by = Some(error);
            runs.iter().for_each(|run| self.put_back(run.clone()));
            return;
        }
        self.pages += parts.iter().map(|part| part.resident).sum::<usize>();
        for page in runs.iter().cloned().flatten().filter(|page| notes.get(*page) == Page::Absent) {
            block.settled.insert(page..page + 1);
            block.offered.remove(page..page + 1);
        }
    }

    /// Takes back pages of a call that was refused, and may have reached a part of them all the same.
    fn put_back(&self, run: Range<usize>) {
        let block = self.place.block();
        let (memory, notes) = (memory_of(&self.place), block.notes());
        for page in run.clone() {
            // SAFETY: the block is claimed, and adopted memory is readable and writable.
            if unsafe { take_back(memory, page, notes.get(page)) } == Fate::Lost {
                notes.set(page, Page::Lost);
                block.settled.insert(page..page + 1);
                self.marks.counters.lost(1);
            }
        }
        block.offered.remove(run);
    }
}

#[cfg(test)]
mod tests {
    use vrange_os::linux::Linux;
    use vrange_os::{PAGE_BYTES, Placement};

    use super::*;
    use crate::marks::Kind;
    use crate::marks::address_map::BLOCK_BYTES;

    /// A child that is forked while a page becomes settled has it offered, too.
    #[test]
    fn what_is_settled_does_not_hide_what_is_not() {
        static MARKS: Marks = Marks::new();
        let system = Linux::get().expect("this kernel");
        let reservation =
            system.reserve(2 * BLOCK_PAGES, Placement::SmallPages, false).expect("address space");
        let start = reservation.base().addr().next_multiple_of(BLOCK_BYTES);
        let span = Span::new(start, 10);
        MARKS.adopt(span, system);
        for page in 0..10 {
            let byte = reservation.base().with_addr(start + page * PAGE_BYTES);
            // SAFETY: inside the reservation, which only this test knows.
            unsafe { byte.write(1) };
        }
        MARKS
            .mark(span, Kind::Data, Inner::now(), &mut false, |_, _| unreachable!("adopted"))
            .expect("a mark");
        let place = MARKS.map.get(start / BLOCK_BYTES).expect("a leaf");
        place.block().settled.insert(0..1);
        place.block().offered.insert(0..1);
        let seen = place.block().state.look();
        let released = MARKS.release(system, place.number, seen, usize::MAX);
        assert_eq!(released, Released::Pages(9));
        // SAFETY: nobody uses it any more.
        unsafe { system.unmap(reservation) };
    }
}
