//! The model as oracle: random programs of mmap, write, mark, unmark, purge, fork, pressure and read run against the library on
//! the real kernel, and each thing they observe must be something that the contract allows.
//!
//! A program that fails prints its seed, and itself made as short as can be; `VRANGE_ORACLE_SEED=` plays one seed alone.

mod kernel;
mod wire;

use std::fmt;

use vrange_model::{Contract, Marks, Op, Program, Rules, Shape, Violation};
use vrange_os::{System, linux::Linux};
use vrange_testing::{in_child, is_emulated, scale};

use kernel::Kernel;
use wire::Seen;

/// What a program observed that it may not.
#[derive(Debug)]
struct Failure {
    at: usize,
    violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {}: {}", self.at, self.violation)
    }
}

/// Plays a program, in processes of its own.
fn play(ops: &[Op], protection: kernel::Protection) -> Result<(), Failure> {
    let swap = Linux::get().expect("this kernel").has_swap();
    let mut contract = Contract::new(Rules { swap });
    let mut kernel = Kernel::start(ops, protection);
    for (at, op) in ops.iter().enumerate() {
        contract.apply(op).unwrap_or_else(|misuse| panic!("{misuse}"));
        let seen = kernel.play(op);
        check(&mut contract, op, &seen).map_err(|violation| Failure { at, violation })?;
    }
    Ok(())
}

fn check(contract: &mut Contract, op: &Op, seen: &Seen) -> Result<(), Violation> {
    match (*op, seen) {
        (Op::Read { process, mapping, page }, Seen::Value(value)) => {
            contract.allows_read(process, mapping, page, *value)
        }
        (Op::Unmark { process, mapping, pages, paired: true }, Seen::Lost(lost)) => {
            contract.allows_unmark(process, mapping, pages, lost)
        }
        (Op::Mark { process, mapping, pages, .. }, Seen::Answer(answer)) => {
            contract.allows_answer(process, mapping, pages, *answer)
        }
        (_, Seen::Done) => Ok(()),
        (op, seen) => panic!("{op}: {seen:?} is no answer"),
    }
}

/// Plays the programs of many seeds, and counts what was lost.
fn play_many(first: u64, count: u64, shape: &Shape) {
    let seeds = match std::env::var("VRANGE_ORACLE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("VRANGE_ORACLE_SEED is a number");
            seed..seed + 1
        }
        Err(_) => first..first + count,
    };
    for seed in seeds {
        let program = Program::random(seed, shape);
        if let Err(failure) = play(&program.ops, kernel::Protection::All) {
            let shorter = program.shrink(|ops| play(ops, kernel::Protection::All).is_err());
            let ops: Vec<String> = shorter.ops.iter().map(Op::to_string).collect();
            panic!("seed {seed}: {failure}\nas short as can be:\n{}", ops.join("\n"));
        }
    }
}

/// How many programs of each kind. On an emulated machine a fifth: each operation is a turn from one process to another and back,
/// and each page that goes to swap is compressed, which takes some fifty times as long there.
fn programs(ci: u64, soak: u64) -> u64 {
    scale().pick(ci, soak) / if is_emulated() { 5 } else { 1 }
}

#[test]
fn programs_of_one_process_see_what_the_contract_allows() {
    in_child(|| {
        let shape = Shape { processes: 1, ops: 80, ..Shape::default() };
        play_many(1, programs(1000, 50_000), &shape);
    });
}

#[test]
fn programs_that_fork_see_what_the_contract_allows() {
    in_child(|| play_many(1_000_000, programs(800, 40_000), &Shape::default()));
}

#[test]
fn programs_with_long_marks_see_what_the_contract_allows() {
    in_child(|| {
        let shape =
            Shape { processes: 1, mappings: 2, pages: 1100, marks: Marks::Paired, ..Shape::default() };
        play_many(2_000_000, programs(200, 10_000), &shape);
    });
}

/// The control: where new contents are written without the end of the mark, as the RFC's version 3 allowed, they are lost, and
/// the same check finds it.
#[test]
fn control_programs_that_do_not_end_marks_lose_what_they_write() {
    in_child(|| {
        let shape = Shape { processes: 1, marks: Marks::Paired, ops: 80, ..Shape::default() };
        let found = (0..200).find_map(|seed| {
            let program = Program::random(seed, &shape);
            play(&program.ops, kernel::Protection::NoUnmark).err()
        });
        let failure = found.expect("200 programs without an unmark lost nothing");
        println!("found: {failure}");
    });
}
