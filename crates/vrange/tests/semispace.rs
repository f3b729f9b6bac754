//! The example `semispace`: its modules are part of this program, so that it is tested wherever tests run.

#[path = "../examples/semispace/clock.rs"]
mod clock;
#[path = "../examples/semispace/half.rs"]
mod half;
#[path = "../examples/semispace/heap.rs"]
mod heap;
#[path = "../examples/semispace/program.rs"]
mod program;
#[path = "../examples/semispace/trial.rs"]
mod trial;

use std::time::{Duration, Instant};

use half::{Layout, Policy};
use heap::{Heap, Object};
use program::Program;
use trial::Plan;
use vrange::raw;
use vrange_os::PAGE_BYTES;
use vrange_testing::{Ended, Job, MemoryGroup, Talk, alone, drain_processors, in_child, serve, skipped};

const HALF_BYTES: usize = 4 << 20;
/// Of a heap that is larger than its group.
const LARGE_HALF_BYTES: usize = 128 << 20;
const COLLECTIONS: u32 = 3;
const SMALL: Layout = Layout { half_bytes: HALF_BYTES, huge_pages: false };
const HUGE: Layout = Layout { huge_pages: true, ..SMALL };

/// Runs the program until the kernel has taken all that is closed.
fn run_until_all_that_is_closed_is_taken(program: &mut Program) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        // So that each half has been in use since, and all of it was marked anew.
        program.run(2).expect("every object right");
        program.collect().expect("every object right");
        // Of what processors kept in lists of their own, the first look takes none. A page that the kernel was just moving to another
        // place has passed by the offer, and stays until the next mark.
        for _ in 0..3 {
            drain_processors();
            program.squeeze().expect("a shortage");
            if program.held().expect("a look at the page table").closed_bytes == 0 {
                return;
            }
        }
        assert!(
            Instant::now() < until,
            "closed memory was not taken: {:?}, {:?}",
            program.held(),
            raw::stats()
        );
    }
}

#[test]
fn every_policy_has_a_row_and_every_object_is_right() {
    assert_every_policy_has_a_row_and_every_object_is_right(SMALL);
}

#[test]
fn every_policy_has_a_row_and_every_object_is_right_in_huge_pages() {
    assert_every_policy_has_a_row_and_every_object_is_right(HUGE);
}

#[track_caller]
fn assert_every_policy_has_a_row_and_every_object_is_right(layout: Layout) {
    let plan = Plan { layout, rounds: 2, collections: 3 };
    let report = trial::run(plan).expect("every object right");
    let text = report.to_string();
    for (row, policy) in report.rows.iter().zip(Policy::ALL) {
        assert_eq!(row.policy, policy);
        assert!(text.lines().any(|line| line.starts_with(policy.name()) && line.contains(" ms")), "{text}");
    }
    // Three policies, two rounds; two collections of each run before the measured ones, one and two behind.
    assert_eq!(report.checked_collections, 3 * 2 * (2 + 3 + 1 + 2));
    assert!(text.ends_with("every object was right after each of 48 collections"), "{text}");

    let [nothing, dontneed, volatile] = &report.rows[..] else { panic!("three rows: {text}") };
    // No shortage takes memory that is in use, or that is merely idle.
    for held in [nothing.plentiful, nothing.short] {
        assert!(held.closed_bytes > HALF_BYTES && held.bytes() > 2 * HALF_BYTES * 9 / 10, "{text}");
    }
    assert_eq!(dontneed.plentiful.closed_bytes, 0, "{text}");
    assert!(dontneed.plentiful.open_bytes > HALF_BYTES / 16, "{text}");
    assert!(volatile.short.open_bytes > HALF_BYTES / 16, "{text}");
}

/// In a process of its own: another test there would offer pages while a processor still keeps them in a list of its own, and then the
/// kernel does not take them.
#[test]
fn all_that_is_closed_goes_without_harm() {
    in_child(|| {
        for layout in [SMALL, HUGE] {
            assert_all_that_is_closed_goes_without_harm(layout);
        }
    });
}

#[track_caller]
fn assert_all_that_is_closed_goes_without_harm(layout: Layout) {
    let mut program = Program::new(layout, Policy::Volatile, 1).expect("a program");
    for _ in 0..3 {
        run_until_all_that_is_closed_is_taken(&mut program);
        // What is open is still there, table and trees among it.
        assert!(program.held().expect("a look at the page table").open_bytes > HALF_BYTES / 16);
    }
    // Both halves are used that have lost all.
    program.run(2).expect("every object right");
    assert!(program.checked().collections >= 3 * 3 + 2);
}

#[test]
fn a_program_is_right_while_memory_is_short_all_the_time() {
    let mut program = Program::new(SMALL, Policy::Volatile, 2).expect("a program");
    for _ in 0..10 {
        program.run(1).expect("every object right");
        program.squeeze().expect("a shortage");
    }
    assert_eq!(program.checked().collections, 10);
}

#[test]
fn jobs() {
    serve(&[("program", run_program)]);
}

/// The job `program POLICY`: says how many collections went well, or what went wrong.
fn run_program(talk: &mut Talk) {
    let layout = Layout { half_bytes: LARGE_HALF_BYTES, huge_pages: false };
    let policy = Policy::ALL.into_iter().find(|policy| talk.has(policy.name())).expect("a policy");
    let ran = Program::new(layout, policy, 3).and_then(|mut program| {
        program.run(COLLECTIONS)?;
        Ok(program.checked().collections)
    });
    talk.say(&ran.map_or_else(|error| error.to_string(), |collections| collections.to_string()));
}

/// Runs the program in a memory cgroup that has room for a half and what is copied, but not for two halves. `None`: no group can be
/// made.
fn run_in_a_group_smaller_than_two_halves(policy: Policy) -> Option<Result<String, Ended>> {
    let group =
        MemoryGroup::make("semispace", LARGE_HALF_BYTES as u64 / 4 * 7).map_err(|why| skipped(&why)).ok()?;
    let mut child = Job::new(format!("program {}", policy.name())).enter(group.entry()).start();
    Some(child.hear())
}

#[test]
fn c13_a_heap_larger_than_its_group_runs_where_it_is_volatile() {
    let _alone = alone();
    let Some(answer) = run_in_a_group_smaller_than_two_halves(Policy::Volatile) else { return };
    assert_eq!(answer.expect("nobody was killed"), COLLECTIONS.to_string());
}

#[test]
fn control_a_heap_larger_than_its_group_is_killed_where_it_is_not() {
    let _alone = alone();
    let Some(answer) = run_in_a_group_smaller_than_two_halves(Policy::Nothing) else { return };
    assert!(answer.is_err_and(|ended| ended.was_killed()));
}

/// An object that refers to another one twice and to itself, and garbage beside it.
fn make_knot(heap: &mut Heap) {
    heap.push_none();
    heap.make(1, &[7, 8, 9]).expect("room");
    heap.make(0, &[1; 500]).expect("room");
    heap.pop_to_root(0);
    heap.make(0, &[5]).expect("room");
    heap.pop_to_root(0);
    heap.push_root(0);
    heap.push_root(0);
    heap.push_none();
    heap.make(3, &[6]).expect("room");
    heap.pop_to_root(0);
    heap.push_root(0);
    heap.pop_to_reference(0, 2);
}

#[test]
fn what_is_shared_stays_shared_and_a_cycle_stays_a_cycle() {
    for policy in Policy::ALL {
        let mut heap = Heap::new(SMALL, policy).expect("a heap");
        make_knot(&mut heap);
        for _ in 0..3 {
            heap.collect().expect("a collection");
            let knot = heap.root(0).expect("a root");
            assert_eq!(knot.data(), [6]);
            assert!(knot.reference(2) == Some(knot));
            let shared = knot.reference(0).expect("an object");
            assert!(knot.reference(1) == Some(shared));
            assert_eq!(shared.data(), [5]);
        }
        assert_eq!(heap.collections(), 3);
    }
}

#[test]
fn a_heap_that_is_full_says_so_and_has_room_again_without_its_objects() {
    for policy in Policy::ALL {
        let mut heap = Heap::new(SMALL, policy).expect("a heap");
        heap.push_none();
        let next = |heap: &mut Heap, number: usize| {
            heap.push_root(0);
            heap.make(1, &[number; 1000])
        };
        let mut objects = 0;
        while next(&mut heap, objects).is_ok() {
            heap.pop_to_root(0);
            objects += 1;
        }
        assert_eq!(objects, (HALF_BYTES / size_of::<usize>() - 1) / 1002, "nothing is between objects");
        // The root that the object was to refer to.
        heap.pop_to_root(0);
        let mut left = heap.root(0);
        for number in (0..objects).rev() {
            let object = left.expect("an object");
            assert_eq!(object.data(), [number; 1000]);
            left = object.reference(0);
        }
        assert!(left.is_none());
        heap.push_none();
        heap.pop_to_root(0);
        for number in 0..objects * 3 {
            heap.push_none();
            heap.make(1, &[number; 1000]).expect("room");
            heap.pop_to_root(0);
        }
    }
}

/// What the unmark is for: the same memory, in use and still marked, does not keep what is written to it.
#[test]
fn control_objects_in_memory_that_is_still_marked_are_lost() {
    const WORDS: usize = PAGE_BYTES / size_of::<usize>();
    let mut heap = Heap::new(SMALL, Policy::Volatile).expect("a heap");
    heap.make(0, &[3; 4 * WORDS]).expect("room");
    let intact = |object: Object<'_>| object.data().iter().filter(|word| **word == 3).count();
    assert_eq!(intact(heap.root(0).expect("a root")), 4 * WORDS);
    let address = heap.root(0).expect("a root").data().as_ptr().addr().next_multiple_of(PAGE_BYTES);
    let page = std::ptr::with_exposed_provenance_mut(address);
    // SAFETY: a page in the middle of the object, of which nothing is borrowed. That it is lost is wanted.
    unsafe { raw::mark(page, PAGE_BYTES) }.expect("a mark");
    // SAFETY: as above.
    unsafe { raw::purge(page, PAGE_BYTES) }.expect("a loss");
    assert_eq!(intact(heap.root(0).expect("a root")), 3 * WORDS);
    // Ends the mark.
    heap.collect().expect("a collection");
}
