//! Plays programs on a [`Machine`], and holds what it shows against the [`Contract`].

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::Range;

use crate::contract::{Contract, Misuse, Rules, Violation};
use crate::machine::{AccessError, Errno, Machine, PAGE_SIZE, ProcessId, Semantics, Setup};
use crate::madvise::Advice;
use crate::program::{Op, Pages, Program, Shape};
use crate::vma::Kind;

/// What an operation showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Nothing that could be wrong.
    Nothing,
    /// A read's value.
    Read(u64),
    /// The answer to a mark, or to an unmark that reports nothing.
    Answer(Result<(), Errno>),
    /// An unmark's answer, and of each page whether it was lost.
    Lost(Result<(), Errno>, Vec<bool>),
    /// An unmark's answer: whether something in the range was discarded.
    Purged(bool),
}

/// Why a program did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The machine showed what the contract does not allow.
    Violation {
        /// The operation, counted from the first.
        at: usize,
        /// What it showed.
        violation: Violation,
    },
    /// The program is outside the contract.
    Misuse(Misuse),
    /// The machine could not go on.
    Access {
        /// The operation, counted from the first.
        at: usize,
        /// Why.
        error: AccessError,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation { at, violation } => write!(f, "operation {at}: {violation}"),
            Self::Misuse(misuse) => misuse.fmt(f),
            Self::Access { at, error } => write!(f, "operation {at}: {error:?}"),
        }
    }
}

impl Error for Failure {}

/// A machine on which a program's small numbers stand for processes and addresses.
#[derive(Debug)]
pub struct Player {
    /// The machine, to be looked at.
    pub machine: Machine,
    processes: BTreeMap<u8, ProcessId>,
}

/// Pages between the starts of two mappings: more than any has, so that none touches another.
const STRIDE: u64 = 1 << 20;

/// The page number of a mapping's page.
fn page_number(mapping: u8, page: u16) -> u64 {
    (u64::from(mapping) + 1) * STRIDE + u64::from(page)
}

impl Player {
    /// A new machine with process 0.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let mut machine = Machine::new(setup);
        let first = machine.spawn();
        Self { machine, processes: BTreeMap::from([(0, first)]) }
    }

    /// Plays one operation.
    ///
    /// # Errors
    /// A load or store could not be done.
    ///
    /// # Panics
    /// If the operation makes no sense here, as none of a well-formed program does.
    pub fn play(&mut self, op: &Op) -> Result<Observation, AccessError> {
        match *op {
            Op::Map { process, mapping, pages, .. } => {
                let at = page_number(mapping, 0);
                let answer =
                    self.machine.map(self.processes[&process], at, u64::from(pages), Kind::Anonymous);
                answer.expect("mappings do not overlap");
            }
            Op::Unmap { process, mapping, pages } => {
                let at = page_number(mapping, pages.first);
                let answer = self.machine.unmap(self.processes[&process], at, u64::from(pages.count));
                answer.expect("there are few VMAs");
            }
            Op::Write { process, mapping, page, value } => {
                self.machine.write(self.processes[&process], page_number(mapping, page), value)?;
            }
            Op::Read { process, mapping, page } => {
                let value = self.machine.read(self.processes[&process], page_number(mapping, page))?;
                return Ok(Observation::Read(value));
            }
            Op::Mark { process, mapping, pages, paired } => {
                return Ok(self.mark(self.processes[&process], mapping, pages, paired));
            }
            Op::Unmark { process, mapping, pages, paired } => {
                return Ok(self.unmark(self.processes[&process], mapping, pages, paired));
            }
            Op::Purge { process, mapping, pages } => {
                let at = page_number(mapping, pages.first);
                self.machine.purge(self.processes[&process], at, u64::from(pages.count));
            }
            Op::Fork { parent, child } => {
                let id = self.machine.fork(self.processes[&parent]);
                self.processes.insert(child, id);
            }
            Op::Exit { process } => {
                let id = self.processes.remove(&process).expect("a live process");
                self.machine.exit(id);
            }
            Op::Pressure { pages } => {
                self.machine.reclaim(u64::from(pages));
            }
        }
        Ok(Observation::Nothing)
    }

    /// Ends every process that is left.
    pub fn exit_all(&mut self) {
        for process in std::mem::take(&mut self.processes).into_values() {
            self.machine.exit(process);
        }
    }

    fn mark(&mut self, process: ProcessId, mapping: u8, pages: Pages, paired: bool) -> Observation {
        let (start, length) = bytes(mapping, pages);
        let has_pairs = self.machine.setup().semantics == Semantics::Vrange;
        Observation::Answer(if paired && has_pairs {
            self.machine.mark_paired(process, start, length)
        } else {
            self.machine.madvise(process, start, length, Advice::Volatile).map(|_| ())
        })
    }

    fn unmark(&mut self, process: ProcessId, mapping: u8, pages: Pages, paired: bool) -> Observation {
        let (start, length) = bytes(mapping, pages);
        match self.machine.setup().semantics {
            // There is no such call, since the patch says that none is needed.
            Semantics::RfcV3 => Observation::Nothing,
            Semantics::V4 => match self.machine.madvise(process, start, length, Advice::NoVolatile) {
                Ok(purged) => Observation::Purged(purged),
                Err(errno) => Observation::Answer(Err(errno)),
            },
            Semantics::Vrange if paired => {
                let unmarked = self.machine.unmark_paired(process, start, length);
                Observation::Lost(unmarked.result, unmarked.lost)
            }
            Semantics::Vrange => {
                let answer = self.machine.madvise(process, start, length, Advice::NoVolatile);
                Observation::Answer(answer.map(|_| ()))
            }
        }
    }
}

fn bytes(mapping: u8, pages: Pages) -> (u64, u64) {
    (page_number(mapping, pages.first) * PAGE_SIZE, u64::from(pages.count) * PAGE_SIZE)
}

/// Holds one observation against the contract, which knows of the operation already.
///
/// # Errors
/// The contract does not allow it.
pub fn judge(contract: &mut Contract, op: &Op, observation: &Observation) -> Result<(), Violation> {
    match (*op, observation) {
        (Op::Read { process, mapping, page }, Observation::Read(value)) => {
            contract.allows_read(process, mapping, page, *value)
        }
        (
            Op::Mark { process, mapping, pages, .. } | Op::Unmark { process, mapping, pages, .. },
            Observation::Answer(answer),
        ) => contract.allows_answer(process, mapping, pages, *answer),
        (Op::Unmark { process, mapping, pages, .. }, Observation::Lost(answer, lost)) => {
            contract.allows_answer(process, mapping, pages, *answer)?;
            contract.allows_unmark(process, mapping, pages, lost)
        }
        (Op::Unmark { process, mapping, pages, .. }, Observation::Purged(purged)) => {
            contract.allows_answer(process, mapping, pages, Ok(()))?;
            contract.saw_purged(process, mapping, pages, *purged);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Plays operations on a new machine and holds everything it shows against the contract.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn check(setup: &Setup, ops: &[Op]) -> Result<(), Failure> {
    check_each(setup, ops, |_| {})
}

/// The same, with a look at the machine after each operation.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn check_each(setup: &Setup, ops: &[Op], look: impl Fn(&Machine)) -> Result<(), Failure> {
    let mut player = Player::new(setup.clone());
    let mut contract = Contract::new(Rules { swap: setup.swap_slots > 0 });
    for (at, op) in ops.iter().enumerate() {
        contract.apply(op).map_err(Failure::Misuse)?;
        let observation = player.play(op).map_err(|error| Failure::Access { at, error })?;
        judge(&mut contract, op, &observation).map_err(|violation| Failure::Violation { at, violation })?;
        look(&player.machine);
    }
    Ok(())
}

/// A program on which the machine breaks the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// As short as shrinking made it.
    pub program: Program,
    /// How it fails.
    pub failure: Failure,
    /// How many programs were played until one failed.
    pub tried: u64,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.program, self.failure)
    }
}

/// Plays the programs of these seeds until one fails, and shrinks that one.
#[must_use]
pub fn search(setup: &Setup, shape: &Shape, seeds: Range<u64>) -> Option<Counterexample> {
    for (seed, tried) in seeds.zip(1..) {
        let program = Program::random(seed, shape);
        if check(setup, &program.ops).is_err() {
            let program = program.shrink(|ops| check(setup, ops).is_err());
            let failure = check(setup, &program.ops).expect_err("shrinking keeps the failure");
            return Some(Counterexample { program, failure, tried });
        }
    }
    None
}
