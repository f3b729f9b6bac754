//! Random programs on every kind of machine, against the contract. A failure prints its seed and a short program.

use std::time::{Duration, Instant};

use vrange_model::{
    AccessError, Contract, Counterexample, Errno, Failure, Kind, Machine, Marks, Observation, OfferOrder, Op,
    PAGE_SIZE, Pages, Player, Program, Rules, Semantics, Setup, Shape, Swapless, ViolationKind, check,
    check_each, judge, search,
};

fn shape(marks: Marks, processes: u8) -> Shape {
    Shape { marks, processes, ..Shape::default() }
}

fn without_swap(semantics: Semantics) -> Setup {
    Setup { swap_slots: 0, swapless: Swapless::AsPromised, ..Setup::new(semantics) }
}

/// Searches a thousand programs.
fn find(setup: &Setup, shape: &Shape) -> Counterexample {
    let begin = Instant::now();
    let found = search(setup, shape, 0..1000).expect("a counterexample");
    println!("after {:?} and {} programs:\n{found}", begin.elapsed(), found.tried);
    found
}

fn none(setup: &Setup, shape: &Shape, seeds: u64) {
    if let Some(found) = search(setup, shape, 0..seeds) {
        panic!("{setup:?}\n{found}");
    }
}

/// Whether the failure is that of the hole: something written after a mark has vanished, and one process did all of it.
fn assert_is_the_hole(found: &Counterexample) {
    let Failure::Violation { violation, .. } = found.failure else { panic!("{found}") };
    assert!(matches!(violation.kind, ViolationKind::Vanished { .. }), "{found}");
    let ops = &found.program.ops;
    assert!(ops.len() <= 8, "shrinking leaves little: {found}");
    assert!(ops.iter().any(|op| matches!(op, Op::Mark { .. })), "{found}");
    assert!(ops.iter().any(|op| matches!(op, Op::Pressure { .. } | Op::Purge { .. })), "{found}");
}

/// The hole of RFC v3, in programs that end marks by writing, as the patch says they may.
#[test]
fn the_hole_of_rfc_v3_is_found_within_a_second() {
    for setup in [Setup::new(Semantics::RfcV3), without_swap(Semantics::RfcV3)] {
        let begin = Instant::now();
        assert_is_the_hole(&find(&setup, &shape(Marks::Implicit, 1)));
        // It takes a hundredth of that, so that a busy machine has time enough too.
        assert!(begin.elapsed() < Duration::from_secs(1), "found within a second");
    }
}

/// It is there as well if every fault removes the mark, as the patch's text has it, since it takes none.
#[test]
fn the_hole_is_found_where_every_fault_removes_the_mark() {
    let setup = Setup { every_fault_clears: true, ..Setup::new(Semantics::RfcV3) };
    let found = find(&setup, &shape(Marks::Implicit, 1));
    assert_is_the_hole(&found);
    let mut player = Player::new(setup);
    let mut faults = 0;
    for op in &found.program.ops {
        let before = player.machine.counters().pgfault;
        player.play(op).unwrap();
        let has_mark = player.machine.counters().marks_cleared_by_fault == 0;
        if matches!(op, Op::Write { .. }) && has_mark {
            faults = player.machine.counters().pgfault - before;
        }
    }
    assert_eq!(faults, 0, "the write that is lost took no fault: {found}");
}

/// Programs that end every mark by a call are in the same hole, since v3 has no such call.
#[test]
fn the_hole_is_found_in_programs_that_would_end_their_marks() {
    assert_is_the_hole(&find(&Setup::new(Semantics::RfcV3), &shape(Marks::Paired, 1)));
}

#[test]
fn under_novolatile_the_hole_is_not_there() {
    none(&Setup::new(Semantics::V4), &shape(Marks::Paired, 1), 600);
    none(&without_swap(Semantics::V4), &shape(Marks::Paired, 3), 600);
}

/// With swap and fork there is another: a discard takes the page also from those who never marked it.
#[test]
fn a_discard_that_asks_not_all_sharers_is_found() {
    let setup = Setup::new(Semantics::V4);
    let found = find(&setup, &shape(Marks::Paired, 3));
    assert!(found.program.ops.iter().any(|op| matches!(op, Op::Fork { .. })), "{found}");
    let repaired = Setup { discard_asks_all_sharers: true, ..setup };
    assert_eq!(check(&repaired, &found.program.ops), Ok(()));
    none(&repaired, &shape(Marks::Paired, 3), 600);
}

#[test]
fn our_protocol_keeps_the_contract() {
    for marks in [Marks::Implicit, Marks::Paired, Marks::Both] {
        none(&Setup::new(Semantics::Vrange), &shape(marks, 3), 250);
        none(&without_swap(Semantics::Vrange), &shape(marks, 3), 250);
    }
}

/// The controls of the test before: pages are lost there, found lost, and kept, and both kinds of reports come up.
#[test]
fn our_protocol_loses_and_keeps_pages_in_those_programs() {
    let (mut taken, mut reported, mut kept) = (0, 0, 0);
    for seed in 0..200 {
        let mut player = Player::new(without_swap(Semantics::Vrange));
        for op in &Program::random(seed, &Shape::default()).ops {
            if let Observation::Lost(_, lost) = player.play(op).unwrap() {
                reported += lost.iter().filter(|lost| **lost).count();
                kept += lost.iter().filter(|lost| !**lost).count();
            }
        }
        taken += player.machine.counters().pglazyfreed;
    }
    assert!(taken > 500 && reported > 200 && kept > 2000, "{taken} taken, {reported} reported, {kept} kept");
}

/// Plain memory: where nothing is marked, nothing is ever lost, whatever reclaim and swap do.
#[test]
fn without_marks_every_machine_keeps_everything() {
    for semantics in [Semantics::RfcV3, Semantics::V4, Semantics::Vrange] {
        for seed in 0..150 {
            let mut program = Program::random(seed, &Shape::default());
            program.ops.retain(|op| !matches!(op, Op::Mark { .. } | Op::Unmark { .. }));
            let setup = Setup { swap_slots: 64, ..Setup::new(semantics) };
            let result = check(&setup, &program.ops);
            assert_eq!(result, Ok(()), "{program}");
        }
    }
}

/// Whatever programs do, what a machine keeps twice agrees.
#[test]
fn every_machine_stays_consistent() {
    for semantics in [Semantics::RfcV3, Semantics::V4, Semantics::Vrange] {
        for setup in [
            Setup::new(semantics),
            without_swap(semantics),
            Setup { swap_slots: 20, ..Setup::new(semantics) },
        ] {
            for seed in 0..30 {
                let program = Program::random(seed, &Shape::default());
                let mut player = Player::new(setup.clone());
                for op in &program.ops {
                    player.play(op).unwrap();
                    player.machine.validate();
                }
            }
        }
    }
    let program = Program::random(1, &Shape::default());
    check_each(&Setup::new(Semantics::Vrange), &program.ops, Machine::validate).unwrap();
}

/// When every process has ended, nothing is left.
#[test]
fn nothing_leaks() {
    for semantics in [Semantics::RfcV3, Semantics::V4, Semantics::Vrange] {
        for seed in 0..100 {
            let mut player = Player::new(Setup::new(semantics));
            for op in &Program::random(seed, &Shape::default()).ops {
                player.play(op).unwrap();
            }
            player.exit_all();
            let machine = &player.machine;
            assert_eq!((machine.free_frames(), machine.used_swap_slots()), (1024, 0), "seed {seed}");
        }
    }
}

/// The same seed gives the same run.
#[test]
fn a_run_comes_again_from_its_seed() {
    let run = || {
        let setup = Setup { offer_order: OfferOrder::Random, seed: 5, ..Setup::new(Semantics::Vrange) };
        let mut player = Player::new(setup);
        let ops = Program::random(9, &Shape { ops: 200, ..Shape::default() }).ops;
        let seen: Vec<_> = ops.iter().map(|op| player.play(op).unwrap()).collect();
        (seen, player.machine.counters())
    };
    assert_eq!(run(), run());
}

/// Memory that is volatile is as good as free: a process may fill the machine beside it again and again, without swap.
#[test]
fn volatile_memory_is_headroom() {
    let mut machine = Machine::new(Setup { frames: 256, ..without_swap(Semantics::Vrange) });
    let (cache, other) = (machine.spawn(), machine.spawn());
    machine.map(cache, 0, 200, Kind::Anonymous).unwrap();
    for round in 0..20 {
        let unmarked = machine.unmark_paired(cache, 0, 200 * PAGE_SIZE);
        assert_eq!(unmarked.result, Ok(()));
        (0..200).for_each(|page| machine.write(cache, page, 1).unwrap());
        machine.mark_paired(cache, 0, 200 * PAGE_SIZE).unwrap();
        machine.map(other, 0x1000, 250, Kind::Anonymous).unwrap();
        for page in 0..250 {
            assert_eq!(machine.write(other, 0x1000 + page, 1), Ok(()), "round {round}, page {page}");
        }
        machine.unmap(other, 0x1000, 250).unwrap();
        machine.validate();
    }
    (0..200).for_each(|page| machine.write(cache, page, 1).unwrap());
    machine.map(other, 0x1000, 250, Kind::Anonymous).unwrap();
    let unmarked = machine.unmark_paired(cache, 0, 200 * PAGE_SIZE);
    assert_eq!(unmarked.result, Ok(()));
    let answer = (0..250).try_for_each(|page| machine.write(other, 0x1000 + page, 1));
    assert_eq!(answer, Err(AccessError::OutOfMemory), "what is not volatile is no headroom");
}

/// What is held against the contract, and would pass if it were not.
#[test]
fn every_kind_of_observation_is_judged() {
    let map = Op::Map { process: 0, mapping: 0, pages: 2, paired: true };
    let write = Op::Write { process: 0, mapping: 0, page: 0, value: 1 };
    let hole = Op::Unmap { process: 0, mapping: 0, pages: Pages { first: 1, count: 1 } };
    let pages = Pages { first: 0, count: 2 };
    let mark = Op::Mark { process: 0, mapping: 0, pages, paired: true };
    let unmark = Op::Unmark { process: 0, mapping: 0, pages, paired: true };
    let read = Op::Read { process: 0, mapping: 0, page: 0 };
    let judged = |ops: &[Op], observations: &[Observation]| {
        let mut contract = Contract::new(Rules::default());
        let observations = observations.iter().chain(std::iter::repeat(&Observation::Nothing));
        ops.iter().zip(observations).all(|(op, observation)| {
            contract.apply(op).unwrap();
            judge(&mut contract, op, observation).is_ok()
        })
    };
    let nothing = Observation::Nothing;
    let [no_hole, has_hole] = [Ok(()), Err(Errno::ENOMEM)];
    for (answer, is_right) in [(has_hole, true), (no_hole, false)] {
        let seen = [nothing.clone(), nothing.clone(), Observation::Answer(answer)];
        assert_eq!(judged(&[map, hole, mark], &seen), is_right);
        let seen =
            [nothing.clone(), nothing.clone(), nothing.clone(), Observation::Lost(answer, vec![false; 2])];
        assert_eq!(judged(&[map, hole, mark, unmark], &seen), is_right);
    }
    for (lost, is_right) in [(vec![true, false], true), (vec![false, true], false)] {
        let seen = [nothing.clone(), nothing.clone(), nothing.clone(), Observation::Lost(Ok(()), lost)];
        assert_eq!(judged(&[map, write, mark, unmark], &seen), is_right);
    }
    for (purged, is_right) in [(true, true), (false, false)] {
        let seen = [
            nothing.clone(),
            nothing.clone(),
            nothing.clone(),
            Observation::Purged(purged),
            Observation::Read(0),
        ];
        assert_eq!(judged(&[map, write, mark, unmark, read], &seen), is_right);
    }
}
