//! What a program does with today's kernel: paired marks that cost nothing until memory is short, offers, rescues.

use std::collections::VecDeque;

use crate::lru::List;
use crate::machine::{Errno, Machine, OfferOrder, ProcessId, Semantics};
use crate::madvise::page_range;
use crate::page_table::Pte;
use crate::vma::Vma;

/// What was found of a page just before it was offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Note {
    /// It was not offered.
    #[default]
    NotOffered,
    /// It was not there, so there is nothing to lose.
    Absent,
    /// It was there and all zeros: nothing to lose either, but it must be made dirty.
    Blank,
    /// It had contents.
    Witnessed,
    /// It was on swap, which the offer destroys.
    Swapped,
}

/// What a program remembers of one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageMark {
    /// When the page was marked, counted in marks; 0 if it is not.
    time: u64,
    note: Note,
}

/// A range as it was marked.
#[derive(Clone, Copy, Debug)]
struct Marked {
    process: ProcessId,
    first: u64,
    end: u64,
    time: u64,
}

/// The ranges that may be offered, the oldest mark first. Ranges that were unmarked since are still among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offers {
    marks: u64,
    queue: VecDeque<Marked>,
}

/// The answer to [`Machine::unmark_paired`].
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmarked {
    /// For each page of the range: whether it was lost.
    pub lost: Vec<bool>,
    /// `ENOMEM` if a part of the range was not mapped, or a page could not be saved for want of memory.
    pub result: Result<(), Errno>,
}

impl Machine {
    /// Marks `length` bytes from `start` as volatile until they are unmarked. No page is touched, and the kernel is told
    /// nothing.
    ///
    /// # Errors
    /// Those of [`Machine::madvise`].
    pub fn mark_paired(&mut self, process: ProcessId, start: u64, length: u64) -> Result<(), Errno> {
        let (first, end) = page_range(start, length, true)?;
        self.offers.marks += 1;
        let time = self.offers.marks;
        self.for_each_vma(process, first, end, |machine, vma, first, end| {
            machine.vma_for_marks(vma)?;
            let marks = &mut machine.process_mut(process).marks;
            for page in first..end {
                let note = marks.get(page).note;
                marks.set(page, PageMark { time, note });
            }
            machine.offers.queue.push_back(Marked { process, first, end, time });
            Ok(())
        })
    }

    /// Ends marks: pages that are still there are made dirty, and those that are not are reported.
    pub fn unmark_paired(&mut self, process: ProcessId, start: u64, length: u64) -> Unmarked {
        let (first, end) = match page_range(start, length, true) {
            Ok(range) => range,
            Err(errno) => return Unmarked { lost: Vec::new(), result: Err(errno) },
        };
        let mut result = self.for_each_vma(process, first, end, |_, _, _, _| Ok(()));
        let mut lost = Vec::new();
        for page in first..end {
            lost.push(self.rescue(process, page).unwrap_or_else(|errno| {
                result = Err(errno);
                false
            }));
        }
        Unmarked { lost, result }
    }

    /// Ends the mark of one page. True if it was lost.
    fn rescue(&mut self, process: ProcessId, page: u64) -> Result<bool, Errno> {
        let PageMark { note, .. } = self.process(process).marks.get(page);
        let is_there = self.process(process).table.get(page) != Pte::None;
        let lost = match note {
            Note::NotOffered | Note::Absent => false,
            Note::Swapped => true,
            Note::Blank | Note::Witnessed => {
                // A page that is gone is not touched, since that would bring memory in.
                let content = if is_there { self.read(process, page) } else { Ok(0) };
                let content = content.map_err(|_| Errno::ENOMEM)?;
                if is_there && (content != 0 || note == Note::Blank) {
                    self.write(process, page, content).map_err(|_| Errno::ENOMEM)?;
                }
                content == 0 && note == Note::Witnessed
            }
        };
        self.process_mut(process).marks.set(page, PageMark::default());
        Ok(lost)
    }

    /// Gives up what is volatile in a range, now. With the kernels of the patch that is a reclaim of just these pages,
    /// which may refuse some.
    pub fn purge(&mut self, process: ProcessId, first: u64, pages: u64) {
        let end = first + pages;
        if self.setup.semantics != Semantics::Vrange {
            for (first, end) in self.volatile_parts(process, first, end) {
                self.reclaim_pages(process, first, end - first);
            }
            return;
        }
        for page in self.process(process).table.populated(first..end) {
            if self.process(process).marks.get(page).time > 0 {
                self.note(process, page);
                self.zap_page(process, page);
            } else if self.list_of_page(process, page) == Some(List::LazyFree) {
                self.reclaim_pages(process, page, 1);
            }
        }
    }

    fn volatile_parts(&self, process: ProcessId, first: u64, end: u64) -> Vec<(u64, u64)> {
        let vmas = self.process(process).space.values().map(|id| self.vmas.get(*id));
        let parts = vmas.filter(|vma| vma.flags.volatile);
        let parts = parts.map(|vma: &Vma| (vma.start.max(first), vma.end.min(end)));
        parts.filter(|(first, end)| first < end).collect()
    }

    fn list_of_page(&self, process: ProcessId, page: u64) -> Option<List> {
        self.process(process).table.get(page).frame().and_then(|frame| self.lists.list_of(frame))
    }

    /// Offers the coldest ranges until `wanted` pages are offered and not taken yet. Returns how many were added.
    pub(crate) fn offer_coldest(&mut self, wanted: u64) -> u64 {
        let mut added = 0;
        let mut refused = Vec::new();
        while self.lists.length(List::LazyFree) < wanted {
            let Some(marked) = self.next_to_offer() else { break };
            let (offered, whole) = self.offer_range(marked);
            added += offered;
            if !whole {
                refused.push(marked);
            }
        }
        // What others hold fast is tried again next time, in its old place.
        for marked in refused.into_iter().rev() {
            self.offers.queue.push_front(marked);
        }
        added
    }

    fn next_to_offer(&mut self) -> Option<Marked> {
        let queue = &mut self.offers.queue;
        match self.setup.offer_order {
            OfferOrder::Oldest => queue.pop_front(),
            OfferOrder::Youngest => queue.pop_back(),
            OfferOrder::Random => queue.swap_remove_back(self.rng.index(queue.len())),
        }
    }

    /// Offers what is left of a range. Returns the number of pages, and whether none was refused.
    fn offer_range(&mut self, marked: Marked) -> (u64, bool) {
        let Marked { process, first, end, time } = marked;
        let (mut offered, mut whole) = (0, true);
        for page in first..end {
            let Some(Some(owner)) = self.processes.get(process.0 as usize) else { break };
            if owner.marks.get(page).time != time || owner.marks.get(page).note != Note::NotOffered {
                continue;
            }
            let sharers = self.sharers(process, page);
            if sharers.iter().any(|sharer| self.process(*sharer).marks.get(page).time == 0) {
                whole = false;
                continue;
            }
            for sharer in sharers {
                self.note(sharer, page);
                self.free_page(sharer, page);
            }
            offered += 1;
        }
        self.count.offered += offered;
        (offered, whole)
    }

    /// The processes that map the same frame there; at least the one asked for.
    fn sharers(&mut self, process: ProcessId, page: u64) -> Vec<ProcessId> {
        let Some(frame) = self.process(process).table.get(page).frame() else { return vec![process] };
        if self.frames.get(frame).map_count == 1 {
            return vec![process];
        }
        let mut sharers = self.vmas_of(frame);
        sharers.retain(|(_, sharer)| self.process(*sharer).table.get(page).frame() == Some(frame));
        sharers.into_iter().map(|(_, sharer)| sharer).collect()
    }

    /// Looks at a page that is about to be offered, unless it was before.
    fn note(&mut self, process: ProcessId, page: u64) {
        let mark = self.process(process).marks.get(page);
        if mark.note != Note::NotOffered {
            return;
        }
        let note = match self.pte(process, page) {
            Pte::None | Pte::Zero | Pte::Migration(_) => Note::Absent,
            Pte::Swap(_) => Note::Swapped,
            Pte::Present(mapped) if self.frames.get(mapped.frame).content == 0 => Note::Blank,
            Pte::Present(_) => Note::Witnessed,
        };
        self.process_mut(process).marks.set(page, PageMark { note, ..mark });
    }

    /// A child has its parent's marks, and may offer them too.
    pub(crate) fn inherit_offers(&mut self, parent: ProcessId, child: ProcessId) {
        let of_parent = self.offers.queue.iter().filter(|marked| marked.process == parent);
        let of_child: Vec<_> = of_parent.map(|marked| Marked { process: child, ..*marked }).collect();
        self.offers.queue.extend(of_child);
    }

    /// Forgets the marks of pages that are being unmapped.
    pub(crate) fn forget_marks(&mut self, process: ProcessId, first: u64, end: u64) {
        let marks = &mut self.process_mut(process).marks;
        for page in marks.populated(first..end) {
            marks.set(page, PageMark::default());
        }
    }
}
