//! Random programs: what some processes do with some mappings, from a seed.
//!
//! A program is a list of operations over small numbers, so that it can be played on a model, on a real kernel, or on
//! anything else that has memory. Every operation of a program makes sense when its turn comes: nothing is read that is
//! not mapped, and where a mark is paired, nothing is read or written between the mark and its end.

use std::collections::BTreeMap;
use std::fmt;

use crate::rng::Rng;

/// Some pages of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// The first, counted from the start of the mapping.
    pub first: u16,
    /// How many; at least one.
    pub count: u16,
}

impl Pages {
    /// Every page by its number.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first..self.first + self.count
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.first, self.first + self.count)
    }
}

/// One step of a program. Processes and mappings have small numbers; process 0 is there from the start, and a mapping's
/// number is given once in a program. A child knows its parent's mappings by the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Maps anonymous memory. `paired`: how it is going to be marked.
    Map {
        /// Who.
        process: u8,
        /// The number of the new mapping.
        mapping: u8,
        /// Its size.
        pages: u16,
        /// Whether each of its marks will be ended by an unmark before the pages are used.
        paired: bool,
    },
    /// Unmaps a part of a mapping, or all of it.
    Unmap {
        /// Who.
        process: u8,
        /// Of which mapping.
        mapping: u8,
        /// Which pages.
        pages: Pages,
    },
    /// Fills a page.
    Write {
        /// Who.
        process: u8,
        /// In which mapping.
        mapping: u8,
        /// Which page.
        page: u16,
        /// With what: a number that the program writes nowhere else, or 0 for zeros.
        value: u64,
    },
    /// Looks at a page.
    Read {
        /// Who.
        process: u8,
        /// In which mapping.
        mapping: u8,
        /// Which page.
        page: u16,
    },
    /// Marks pages as volatile.
    Mark {
        /// Who.
        process: u8,
        /// In which mapping.
        mapping: u8,
        /// Which pages; some may be unmapped.
        pages: Pages,
        /// As the mapping has it.
        paired: bool,
    },
    /// Ends marks.
    Unmark {
        /// Who.
        process: u8,
        /// In which mapping.
        mapping: u8,
        /// Which pages; some may be unmapped, and some not marked.
        pages: Pages,
        /// As the mapping has it.
        paired: bool,
    },
    /// Gives up pages that are volatile, now.
    Purge {
        /// Who.
        process: u8,
        /// In which mapping.
        mapping: u8,
        /// Which pages; those that are not volatile stay.
        pages: Pages,
    },
    /// Makes a child.
    Fork {
        /// Who.
        parent: u8,
        /// The number of the child, which no process had before.
        child: u8,
    },
    /// Ends a process. Process 0 never does.
    Exit {
        /// Who.
        process: u8,
    },
    /// Memory is short by so many pages, for everybody.
    Pressure {
        /// How many pages somebody else wants.
        pages: u16,
    },
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |paired: bool| if paired { "paired" } else { "implicit" };
        match *self {
            Self::Map { process, mapping, pages, paired } => {
                write!(f, "p{process}: map m{mapping}, {pages} pages, {}", kind(paired))
            }
            Self::Unmap { process, mapping, pages } => write!(f, "p{process}: unmap m{mapping}[{pages}]"),
            Self::Write { process, mapping, page, value } => {
                write!(f, "p{process}: m{mapping}[{page}] = {value}")
            }
            Self::Read { process, mapping, page } => write!(f, "p{process}: read m{mapping}[{page}]"),
            Self::Mark { process, mapping, pages, paired } => {
                write!(f, "p{process}: mark m{mapping}[{pages}], {}", kind(paired))
            }
            Self::Unmark { process, mapping, pages, paired } => {
                write!(f, "p{process}: unmark m{mapping}[{pages}], {}", kind(paired))
            }
            Self::Purge { process, mapping, pages } => write!(f, "p{process}: purge m{mapping}[{pages}]"),
            Self::Fork { parent, child } => write!(f, "p{parent}: fork p{child}"),
            Self::Exit { process } => write!(f, "p{process}: exit"),
            Self::Pressure { pages } => write!(f, "pressure, {pages} pages"),
        }
    }
}

/// Which marks a program makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Only such that a write ends.
    Implicit,
    /// Only such that an unmark ends.
    Paired,
    /// Each mapping has its own kind.
    Both,
}

/// What kind of programs to make.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many operations, before those that look at everything in the end.
    pub ops: u16,
    /// How many processes at most; 1 is a program that never forks.
    pub processes: u8,
    /// How many mappings at most.
    pub mappings: u8,
    /// How many pages a mapping has at most.
    pub pages: u16,
    /// Which marks.
    pub marks: Marks,
    /// Whether parts of mappings are unmapped, so that marks meet holes.
    pub holes: bool,
    /// Whether pages are purged.
    pub purges: bool,
    /// Whether memory gets short.
    pub pressure: bool,
}

impl Default for Shape {
    /// Small programs in which everything happens.
    fn default() -> Self {
        Self {
            ops: 60,
            processes: 3,
            mappings: 3,
            pages: 12,
            marks: Marks::Both,
            holes: true,
            purges: true,
            pressure: true,
        }
    }
}

/// What a program has done so far, as far as it decides what may come next.
#[derive(Clone, Debug, Default)]
struct Tracker {
    processes: BTreeMap<u8, BTreeMap<u8, Mapping>>,
    forked: u8,
    mapped: u8,
}

#[derive(Clone, Debug)]
struct Mapping {
    paired: bool,
    pages: Vec<Page>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Unmapped,
    /// It may be read and written.
    Usable,
    /// It has a paired mark.
    Away,
}

impl Tracker {
    fn new() -> Self {
        Self { processes: BTreeMap::from([(0, BTreeMap::new())]), ..Self::default() }
    }

    fn mapping(&self, process: u8, mapping: u8) -> Option<&Mapping> {
        self.processes.get(&process)?.get(&mapping)
    }

    /// Takes a step. False, and nothing is taken: the step makes no sense here.
    fn step(&mut self, op: &Op) -> bool {
        match *op {
            Op::Map { process, mapping, pages, paired } => {
                let is_new = mapping >= self.mapped;
                let Some(mappings) = self.processes.get_mut(&process).filter(|_| is_new && pages > 0) else {
                    return false;
                };
                mappings.insert(mapping, Mapping { paired, pages: vec![Page::Usable; usize::from(pages)] });
                self.mapped = mapping + 1;
                true
            }
            Op::Write { process, mapping, page, .. } | Op::Read { process, mapping, page } => {
                let pages = self.mapping(process, mapping).map(|mapping| &mapping.pages);
                pages.and_then(|pages| pages.get(usize::from(page))) == Some(&Page::Usable)
            }
            Op::Unmap { process, mapping, pages } => {
                self.set(process, mapping, pages, None, |_, _| Page::Unmapped)
            }
            Op::Mark { process, mapping, pages, paired } => {
                self.set(process, mapping, pages, Some(paired), |page, paired| match page {
                    Page::Usable if paired => Page::Away,
                    other => other,
                })
            }
            Op::Unmark { process, mapping, pages, paired } => {
                self.set(process, mapping, pages, Some(paired), |page, _| match page {
                    Page::Away => Page::Usable,
                    other => other,
                })
            }
            Op::Purge { process, mapping, pages } => self.set(process, mapping, pages, None, |page, _| page),
            Op::Fork { parent, child } => {
                let Some(mappings) = self.processes.get(&parent).filter(|_| child > self.forked) else {
                    return false;
                };
                let mappings = mappings.clone();
                self.processes.insert(child, mappings);
                self.forked = child;
                true
            }
            Op::Exit { process } => process != 0 && self.processes.remove(&process).is_some(),
            Op::Pressure { .. } => true,
        }
    }

    /// Changes pages of a mapping, if they are within it and it is marked as it should be.
    fn set(
        &mut self,
        process: u8,
        mapping: u8,
        pages: Pages,
        paired: Option<bool>,
        change: impl Fn(Page, bool) -> Page,
    ) -> bool {
        let mapping = self.processes.get_mut(&process).and_then(|mappings| mappings.get_mut(&mapping));
        let Some(mapping) = mapping.filter(|mapping| paired.is_none_or(|paired| paired == mapping.paired))
        else {
            return false;
        };
        let (first, end) = (usize::from(pages.first), usize::from(pages.first) + usize::from(pages.count));
        let is_paired = mapping.paired;
        let Some(pages) = mapping.pages.get_mut(first..end).filter(|pages| !pages.is_empty()) else {
            return false;
        };
        for page in pages {
            *page = change(*page, is_paired);
        }
        true
    }
}

/// Whether every operation makes sense when its turn comes. Programs that [`Program::random`] makes are; a part of one
/// may not be.
#[must_use]
pub fn is_well_formed(ops: &[Op]) -> bool {
    let mut tracker = Tracker::new();
    ops.iter().all(|op| tracker.step(op))
}

/// A program, and the seed that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The seed.
    pub seed: u64,
    /// Its operations.
    pub ops: Vec<Op>,
}

impl Program {
    /// The program of this shape that belongs to `seed`. In the end it ends every paired mark and reads every
    /// page.
    #[must_use]
    pub fn random(seed: u64, shape: &Shape) -> Self {
        let mut writer =
            Writer { rng: Rng::new(seed), tracker: Tracker::new(), shape, value: 0, ops: Vec::new() };
        while writer.ops.len() < usize::from(shape.ops) {
            let op = writer.propose();
            writer.push(op);
        }
        writer.look_at_everything();
        Self { seed, ops: writer.ops }
    }

    /// The same program with every operation taken out that `still_fails` does without, and with smaller numbers where
    /// they do as well.
    #[must_use]
    pub fn shrink(&self, still_fails: impl Fn(&[Op]) -> bool) -> Self {
        let mut ops = self.ops.clone();
        let try_out = |candidate: Vec<Op>, ops: &mut Vec<Op>| {
            let better = is_well_formed(&candidate) && still_fails(&candidate);
            if better {
                *ops = candidate;
            }
            better
        };
        let mut length = ops.len() / 2;
        while length > 0 {
            let mut at = 0;
            let mut removed = false;
            while at < ops.len() {
                let rest = ops.get(at + length..).unwrap_or_default();
                let candidate = [&ops[..at], rest].concat();
                if try_out(candidate, &mut ops) {
                    removed = true;
                } else {
                    at += length;
                }
            }
            // At length one, removing one operation may let go of another: again until nothing more goes.
            length = if length == 1 && removed { 1 } else { length / 2 };
        }
        for at in 0..ops.len() {
            for smaller in smaller(ops[at]) {
                let mut candidate = ops.clone();
                candidate[at] = smaller;
                try_out(candidate, &mut ops);
            }
        }
        Self { seed: self.seed, ops }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}:", self.seed)?;
        self.ops.iter().try_for_each(|op| writeln!(f, "  {op}"))
    }
}

/// Operations that do less of the same, the least first.
fn smaller(op: Op) -> Vec<Op> {
    let parts = |pages: Pages| {
        let singles = pages.iter().map(|first| Pages { first, count: 1 });
        singles.take(if pages.count > 1 { 64 } else { 0 })
    };
    match op {
        Op::Map { process, mapping, pages, paired } => {
            (1..pages).rev().map(|pages| Op::Map { process, mapping, pages, paired }).collect()
        }
        Op::Mark { process, mapping, pages, paired } => {
            parts(pages).map(|pages| Op::Mark { process, mapping, pages, paired }).collect()
        }
        Op::Unmark { process, mapping, pages, paired } => {
            parts(pages).map(|pages| Op::Unmark { process, mapping, pages, paired }).collect()
        }
        Op::Pressure { pages } if pages > 1 => vec![Op::Pressure { pages: 1 }],
        _ => Vec::new(),
    }
}

/// Makes up a program step by step.
struct Writer<'a> {
    rng: Rng,
    tracker: Tracker,
    shape: &'a Shape,
    value: u64,
    ops: Vec<Op>,
}

impl Writer<'_> {
    /// Adds a step, if it makes sense.
    fn push(&mut self, op: Option<Op>) {
        if let Some(op) = op.filter(|op| self.tracker.step(op)) {
            self.ops.push(op);
        }
    }

    /// A step that may make sense.
    fn propose(&mut self) -> Option<Op> {
        let process = self.any_process();
        let shape = self.shape;
        match self.rng.below(100) {
            0..=5 => self.map(process),
            6..=39 => self.access(process),
            40..=59 => {
                let (mapping, pages, paired) = self.any_pages(process)?;
                Some(Op::Mark { process, mapping, pages, paired })
            }
            60..=71 => {
                let (mapping, pages, paired) = self.any_pages(process)?;
                Some(Op::Unmark { process, mapping, pages, paired })
            }
            72..=84 if shape.pressure => {
                let pages = u64::from(shape.pages) * u64::from(shape.mappings);
                let pages = 1 + u16::try_from(self.rng.below(pages)).unwrap_or(u16::MAX - 1);
                Some(Op::Pressure { pages })
            }
            85..=89 if shape.purges => {
                let (mapping, pages, _) = self.any_pages(process)?;
                Some(Op::Purge { process, mapping, pages })
            }
            90..=92 if shape.holes => {
                let (mapping, pages, _) = self.any_pages(process)?;
                Some(Op::Unmap { process, mapping, pages: Pages { count: pages.count.div_ceil(3), ..pages } })
            }
            93..=97 if self.tracker.forked + 1 < shape.processes => {
                Some(Op::Fork { parent: process, child: self.tracker.forked + 1 })
            }
            98 => Some(Op::Exit { process }),
            _ => None,
        }
    }

    fn any_process(&mut self) -> u8 {
        let processes: Vec<u8> = self.tracker.processes.keys().copied().collect();
        processes[self.rng.index(processes.len())]
    }

    fn map(&mut self, process: u8) -> Option<Op> {
        let mapping = self.tracker.mapped;
        let paired = match self.shape.marks {
            Marks::Implicit => false,
            Marks::Paired => true,
            Marks::Both => self.rng.chance(50),
        };
        let pages =
            1 + u16::try_from(self.rng.below(u64::from(self.shape.pages))).expect("a size has 16 bits");
        (mapping < self.shape.mappings).then_some(Op::Map { process, mapping, pages, paired })
    }

    fn access(&mut self, process: u8) -> Option<Op> {
        let (mapping, Pages { first: page, .. }, _) = self.any_pages(process)?;
        Some(match self.rng.below(10) {
            0..=3 => Op::Read { process, mapping, page },
            4 => Op::Write { process, mapping, page, value: 0 },
            _ => {
                self.value += 1;
                Op::Write { process, mapping, page, value: self.value }
            }
        })
    }

    /// Some pages of some mapping, and how that is marked.
    fn any_pages(&mut self, process: u8) -> Option<(u8, Pages, bool)> {
        let mappings: Vec<u8> = self.tracker.processes[&process].keys().copied().collect();
        let mapping = *mappings.get(self.rng.index(mappings.len()))?;
        let Mapping { paired, ref pages } = self.tracker.processes[&process][&mapping];
        let length = u64::try_from(pages.len()).expect("a length has at most 64 bits");
        let first = self.rng.below(length);
        let count = if self.rng.chance(30) { length - first } else { 1 + self.rng.below(length - first) };
        let small = |number: u64| u16::try_from(number).expect("mappings have at most 16 bits of pages");
        Some((mapping, Pages { first: small(first), count: small(count) }, paired))
    }

    /// Ends every mark, lets memory get short (twice, since a page that was just read is spared once), and reads every
    /// page, so that whatever went wrong is seen.
    fn look_at_everything(&mut self) {
        let mut all = Vec::new();
        for (process, mappings) in &self.tracker.processes {
            for (mapping, Mapping { paired, pages }) in mappings {
                let count = u16::try_from(pages.len()).expect("mappings have at most 16 bits of pages");
                all.push((*process, *mapping, *paired, Pages { first: 0, count }));
            }
        }
        for &(process, mapping, paired, pages) in all.iter().filter(|(_, _, paired, _)| *paired) {
            self.push(Some(Op::Unmark { process, mapping, pages, paired }));
        }
        for _ in 0..if self.shape.pressure { 2 } else { 0 } {
            self.push(Some(Op::Pressure {
                pages: self.shape.pages.saturating_mul(self.shape.mappings.into()),
            }));
        }
        for (process, mapping, _, pages) in all {
            for page in pages.iter() {
                self.push(Some(Op::Read { process, mapping, page }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_random_program_makes_sense_and_comes_again_from_its_seed() {
        for seed in 0..300 {
            let program = Program::random(seed, &Shape::default());
            assert!(is_well_formed(&program.ops), "{program}");
            assert_eq!(program, Program::random(seed, &Shape::default()));
        }
        assert_ne!(Program::random(1, &Shape::default()).ops, Program::random(2, &Shape::default()).ops);
    }

    #[test]
    fn every_kind_of_operation_comes_up() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..20 {
            for op in Program::random(seed, &Shape::default()).ops {
                kinds.insert(format!("{op:?}").split(' ').next().map(str::to_owned));
            }
        }
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }

    #[test]
    fn a_program_that_uses_a_page_under_a_paired_mark_makes_no_sense() {
        let map = Op::Map { process: 0, mapping: 0, pages: 2, paired: true };
        let pages = Pages { first: 0, count: 1 };
        let mark = Op::Mark { process: 0, mapping: 0, pages, paired: true };
        let write = |page| Op::Write { process: 0, mapping: 0, page, value: 1 };
        assert!(is_well_formed(&[map, mark, write(1)]));
        assert!(!is_well_formed(&[map, mark, write(0)]));
        assert!(!is_well_formed(&[map, write(2)]), "outside the mapping");
        assert!(!is_well_formed(&[write(0)]), "before the mapping");
    }

    #[test]
    fn shrinking_leaves_what_is_needed() {
        let program = Program::random(3, &Shape::default());
        let writes = |ops: &[Op]| ops.iter().filter(|op| matches!(op, Op::Write { .. })).count();
        assert!(writes(&program.ops) > 2);
        let shrunk = program.shrink(|ops| writes(ops) >= 2);
        assert_eq!(writes(&shrunk.ops), 2, "{shrunk}");
        let others = shrunk.ops.iter().filter(|op| !matches!(op, Op::Write { .. }));
        assert!(
            others.clone().count() <= 2 && others.clone().all(|op| matches!(op, Op::Map { .. })),
            "{shrunk}"
        );
    }
}
