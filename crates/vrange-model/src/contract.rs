//! The contract as an oracle: what a program may observe.
//!
//! The oracle is told each operation and each observation, and says whether the observation is allowed. What it allows is
//! a promise of the library, whatever kernel is below: it knows no VMA, no list and no pressure.
//!
//! - **A mark is a hint.** From a mark until the end of the mark a page reads as what was written, or as zeros, and once it
//!   has read as zeros it stays so until it is written. A page that is not marked reads as what was written.
//! - **What ends a mark.** An implicit mark is ended on one page by a write to it, and on a range by an unmark. A paired
//!   mark is ended by an unmark only; to use its page before is outside the contract.
//! - **The end of a mark decides.** What is there then stays. An unmark of paired pages tells which were lost, and the
//!   report is exact: a lost page reads as zeros, another as what was written. A page that was never written cannot be lost,
//!   nor one that is not marked.
//! - **`fork` copies.** The child has its parent's pages and marks, and from then on neither can change what the other has.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use crate::machine::Errno;
use crate::program::{Op, Pages};

/// What the world of the observations is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Pages may be on swap. An offer destroys what is there without a look at it, so a page of zeros that was written
    /// once may then be reported lost.
    pub swap: bool,
}

/// What is known of a page that is the same after all losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unmapped,
    /// It reads as its contents.
    Kept,
    /// It reads as its contents or as zeros. It may have been lost before it was marked, if nobody has looked since then.
    Volatile(Option<Fate>),
    /// Its mark was ended and nobody has looked yet: it reads as its contents or as zeros, and in all processes that have
    /// got it from the one in which the mark was ended, as the same of the two.
    Decided(Fate),
}

/// The number of a decision that was made, perhaps without anybody having seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate(usize);

/// What is known of a decision.
#[derive(Clone, Copy, Debug)]
struct Decision {
    lost: Option<bool>,
    /// The decision before, if that had not been seen when the page was marked again.
    before: Option<Fate>,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    state: State,
    /// What was written last; 0 too if the loss of that has been seen.
    value: u64,
    /// Whether it was written since it was mapped or seen lost.
    is_written: bool,
}

#[derive(Clone, Debug)]
struct Mapping {
    paired: bool,
    pages: Vec<Page>,
}

/// An observation that the contract does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who observed it.
    pub process: u8,
    /// In which mapping.
    pub mapping: u8,
    /// At which page; the first of the range where it is about a whole call.
    pub page: u16,
    /// What is wrong.
    pub kind: ViolationKind,
}

/// What is wrong with an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// The page read as zeros, and nothing allowed its contents to vanish.
    Vanished {
        /// What it held.
        expected: u64,
    },
    /// The page read as something that is neither its contents nor, where that is allowed, zeros.
    WrongContents {
        /// What it held, or 0 if it had been seen lost.
        expected: u64,
        /// What was read.
        found: u64,
    },
    /// The page was reported lost, and cannot have been.
    FalselyReportedLost,
    /// The page was reported to be as it was, and had been seen lost.
    FalselyReportedKept,
    /// The report has not one answer for each page.
    ReportLength {
        /// How many pages were unmarked.
        pages: u16,
        /// How many answers came.
        answers: usize,
    },
    /// The call gave the wrong answer.
    Answer {
        /// What it should have been.
        expected: Result<(), Errno>,
        /// What it was.
        found: Result<(), Errno>,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, mapping, page, kind } = self;
        write!(f, "p{process}: m{mapping}[{page}]: ")?;
        match kind {
            ViolationKind::Vanished { expected } => write!(f, "{expected} has vanished"),
            ViolationKind::WrongContents { expected, found } => {
                write!(f, "read {found} instead of {expected}")
            }
            ViolationKind::FalselyReportedLost => write!(f, "reported lost, and cannot have been"),
            ViolationKind::FalselyReportedKept => write!(f, "reported kept, and was seen lost"),
            ViolationKind::ReportLength { pages, answers } => {
                write!(f, "{answers} answers for {pages} pages")
            }
            ViolationKind::Answer { expected, found } => {
                write!(f, "answered {found:?} instead of {expected:?}")
            }
        }
    }
}

impl Error for Violation {}

/// An operation that is outside the contract, so that nothing can be said about what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misuse(pub Op);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outside the contract: {}", self.0)
    }
}

impl Error for Misuse {}

/// The oracle. Tell it each operation with [`apply`](Self::apply) and then what was observed.
#[derive(Clone, Debug)]
pub struct Contract {
    rules: Rules,
    processes: BTreeMap<u8, BTreeMap<u8, Mapping>>,
    fates: Vec<Decision>,
    /// How many there were before the last operation.
    fates_before: usize,
}

impl Contract {
    /// One process with nothing mapped.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, processes: BTreeMap::from([(0, BTreeMap::new())]), fates: Vec::new(), fates_before: 0 }
    }

    /// Something was done. Observations of the operation itself (the value of a read, the report of an unmark) are told
    /// afterwards.
    ///
    /// # Errors
    /// The operation is outside the contract. The oracle is as it was before.
    pub fn apply(&mut self, op: &Op) -> Result<(), Misuse> {
        self.fates_before = self.fates.len();
        let done = match *op {
            Op::Map { process, mapping, pages, paired } => self.map(process, mapping, pages, paired),
            Op::Unmap { process, mapping, pages } => self.change(process, mapping, pages, |page, _| {
                *page = Page { state: State::Unmapped, value: 0, is_written: false };
            }),
            Op::Write { process, mapping, page, value } => self.write(process, mapping, page, value),
            Op::Read { process, mapping, page } => self.usable(process, mapping, page).map(|_| ()),
            Op::Mark { process, mapping, pages, .. } => self.change(process, mapping, pages, |page, _| {
                page.state = match page.state {
                    State::Kept => State::Volatile(None),
                    State::Decided(fate) => State::Volatile(Some(fate)),
                    other => other,
                };
            }),
            Op::Unmark { process, mapping, pages, .. } => {
                self.change(process, mapping, pages, |page, fates| {
                    if let State::Volatile(before) = page.state {
                        page.state = State::Decided(Fate(fates.len()));
                        fates.push(Decision { lost: None, before });
                    }
                })
            }
            // A purge makes volatile pages vanish, as they may at any time.
            Op::Purge { process, mapping, pages } => self.change(process, mapping, pages, |_, _| {}),
            Op::Fork { parent, child } => self.fork(parent, child),
            Op::Exit { process } => self.processes.remove(&process).map(|_| ()),
            Op::Pressure { .. } => Some(()),
        };
        done.ok_or(Misuse(*op))
    }

    fn map(&mut self, process: u8, mapping: u8, pages: u16, paired: bool) -> Option<()> {
        let mappings = self.processes.get_mut(&process)?;
        let blank = Page { state: State::Kept, value: 0, is_written: false };
        mappings.insert(mapping, Mapping { paired, pages: vec![blank; usize::from(pages)] });
        Some(())
    }

    fn write(&mut self, process: u8, mapping: u8, page: u16, value: u64) -> Option<()> {
        *self.usable(process, mapping, page)? = Page { state: State::Kept, value, is_written: true };
        Some(())
    }

    fn fork(&mut self, parent: u8, child: u8) -> Option<()> {
        let mappings = self.processes.get(&parent)?.clone();
        self.processes.insert(child, mappings).is_none().then_some(())
    }

    /// A page that may be read and written.
    fn usable(&mut self, process: u8, mapping: u8, page: u16) -> Option<&mut Page> {
        let mapping = self.processes.get_mut(&process)?.get_mut(&mapping)?;
        let page = mapping.pages.get_mut(usize::from(page))?;
        let is_usable = match page.state {
            State::Unmapped => false,
            State::Volatile(_) => !mapping.paired,
            State::Kept | State::Decided(_) => true,
        };
        is_usable.then_some(page)
    }

    fn change(
        &mut self,
        process: u8,
        mapping: u8,
        pages: Pages,
        change: impl Fn(&mut Page, &mut Vec<Decision>),
    ) -> Option<()> {
        let mapping = self.processes.get_mut(&process)?.get_mut(&mapping)?;
        let (first, end) = (usize::from(pages.first), usize::from(pages.first) + usize::from(pages.count));
        let pages = mapping.pages.get_mut(first..end)?;
        pages.iter_mut().for_each(|page| change(page, &mut self.fates));
        Some(())
    }

    /// A page was read, and showed `value`.
    ///
    /// # Errors
    /// It may not.
    ///
    /// # Panics
    /// If the page is not mapped, or the read is outside the contract: then [`apply`](Self::apply) has said so.
    pub fn allows_read(&mut self, process: u8, mapping: u8, page: u16, value: u64) -> Result<(), Violation> {
        let violation = |kind| Violation { process, mapping, page, kind };
        let known = *self.usable(process, mapping, page).expect("a read that was applied");
        let seen = match known.state {
            State::Decided(fate) => self.lost(fate),
            // It may have gone since; but what was gone before does not come back.
            State::Volatile(before) => before.and_then(|fate| self.lost(fate)).filter(|lost| *lost),
            State::Kept | State::Unmapped => Some(false),
        };
        let expected = if seen == Some(true) { 0 } else { known.value };
        let may_be_lost = seen.is_none();
        if value != expected && value != 0 {
            return Err(violation(ViolationKind::WrongContents { expected, found: value }));
        }
        if value != expected && !may_be_lost {
            return Err(violation(ViolationKind::Vanished { expected }));
        }
        if known.value != 0 {
            self.saw(process, mapping, page, value == 0);
        }
        Ok(())
    }

    /// Whether the page was lost, as far as somebody has seen it.
    fn lost(&self, Fate(fate): Fate) -> Option<bool> {
        let Decision { lost, before } = self.fates[fate];
        lost.or_else(|| before.and_then(|before| self.lost(before)).filter(|lost| *lost))
    }

    /// A page with contents was seen, lost or not.
    fn saw(&mut self, process: u8, mapping: u8, page: u16, lost: bool) {
        let known = self.usable(process, mapping, page).expect("a page that was seen");
        let state = known.state;
        if lost {
            known.value = 0;
            known.is_written = false;
        }
        let (State::Decided(fate) | State::Volatile(Some(fate))) = state else { return };
        if matches!(state, State::Decided(_)) {
            known.state = State::Kept;
            self.fates[fate.0].lost = Some(lost);
        }
        // What is there now has been there all the time.
        let mut kept = Some(fate).filter(|_| !lost);
        while let Some(Fate(fate)) = kept {
            self.fates[fate].lost = Some(false);
            kept = self.fates[fate].before;
        }
    }

    /// Paired pages were unmarked, and the report said of each whether it was lost.
    ///
    /// # Errors
    /// The report cannot be right.
    ///
    /// # Panics
    /// If the pages are not mapped at all: then [`apply`](Self::apply) has said so.
    pub fn allows_unmark(
        &mut self,
        process: u8,
        mapping: u8,
        pages: Pages,
        reported_lost: &[bool],
    ) -> Result<(), Violation> {
        let violation = |page, kind| Err(Violation { process, mapping, page, kind });
        if reported_lost.len() != usize::from(pages.count) {
            let kind = ViolationKind::ReportLength { pages: pages.count, answers: reported_lost.len() };
            return violation(pages.first, kind);
        }
        for (number, &lost) in pages.iter().zip(reported_lost) {
            let page = self.processes[&process][&mapping].pages[usize::from(number)];
            let decided = match page.state {
                State::Decided(fate) => Some(self.lost(fate)),
                _ => None,
            };
            let had_contents = page.value != 0 || (page.is_written && self.rules.swap);
            let may_be_lost = had_contents && decided.is_some_and(|lost| lost != Some(false));
            let may_be_kept = page.value == 0 || decided.is_none_or(|lost| lost != Some(true));
            if lost && !may_be_lost {
                return violation(number, ViolationKind::FalselyReportedLost);
            }
            if !lost && !may_be_kept {
                return violation(number, ViolationKind::FalselyReportedKept);
            }
            if decided.is_some() {
                self.saw(process, mapping, number, lost);
            }
        }
        Ok(())
    }

    /// Pages were unmarked by a call that only says whether something was purged since they were marked. Where nothing was,
    /// every page whose mark it ended is as it was before the mark.
    ///
    /// # Panics
    /// If the pages are not mapped at all: then [`apply`](Self::apply) has said so.
    pub fn saw_purged(&mut self, process: u8, mapping: u8, pages: Pages, purged: bool) {
        let mapping = self.processes.get_mut(&process).and_then(|mappings| mappings.get_mut(&mapping));
        let mapping = mapping.expect("an unmark that was applied");
        for number in pages.iter().filter(|_| !purged) {
            let page = &mut mapping.pages[usize::from(number)];
            if let State::Decided(Fate(fate)) = page.state
                && fate >= self.fates_before
            {
                page.state = self.fates[fate].before.map_or(State::Kept, State::Decided);
            }
        }
    }

    /// A mark or an unmark gave this answer: `ENOMEM` if a page of the range is not mapped, else success.
    ///
    /// # Errors
    /// It is another.
    ///
    /// # Panics
    /// If the pages are outside the mapping: then [`apply`](Self::apply) has said so.
    pub fn allows_answer(
        &self,
        process: u8,
        mapping: u8,
        pages: Pages,
        found: Result<(), Errno>,
    ) -> Result<(), Violation> {
        let all = &self.processes[&process][&mapping].pages;
        let has_hole = pages.iter().any(|page| all[usize::from(page)].state == State::Unmapped);
        let expected = if has_hole { Err(Errno::ENOMEM) } else { Ok(()) };
        if found == expected {
            return Ok(());
        }
        let kind = ViolationKind::Answer { expected, found };
        Err(Violation { process, mapping, page: pages.first, kind })
    }
}

#[cfg(test)]
mod tests;
