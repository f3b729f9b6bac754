//! A Rust program whose allocator it is.

use std::process::Command;
use std::time::{Duration, Instant};

use vrange::raw;
use vrange_testing::{reclaimers_of, threads_of};

#[global_allocator]
static ALLOCATOR: vrange_allocator::Mimalloc = vrange_allocator::Mimalloc;

/// Set in a process of its own, which has one test and the environment that it needs.
const ALONE: &str = "VRANGE_TEST_ALONE";
const MIB: usize = 1 << 20;

/// Runs `test` in a process of its own that begins with `variables`.
fn begin_with(name: &str, variables: &[(&str, &str)], test: fn()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", name, "--nocapture"]).env(ALONE, "1").envs(variables.iter().copied());
    let output = command.output().expect("a process");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}{said}", output.status, String::from_utf8_lossy(&output.stdout));
}

fn resident_mib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: usize = statm.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    pages * 4096 / MIB
}

/// The byte that a block is full of.
fn byte_of(number: usize) -> u8 {
    u8::try_from(number + 1).expect("few blocks")
}

/// Blocks with contents of their own.
fn blocks(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| vec![byte_of(number); 4 * MIB]).collect()
}

fn assert_intact(blocks: &[Vec<u8>]) {
    for (number, block) in blocks.iter().enumerate() {
        assert!(block.iter().all(|byte| *byte == byte_of(number)), "block {number}");
    }
}

/// Is there the reclaimer's thread? It gives itself its name, some time after it was started.
fn has_reclaimer_soon() -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while reclaimers_of("self").is_empty() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn what_is_freed_is_marked_and_goes_after_the_decay() {
    begin_with("what_is_freed_is_marked_and_goes_after_the_decay", &[("VRANGE_DECAY", "0.3")], || {
        drop(blocks(30));
        let marked = raw::stats();
        assert!(marked.marked.bytes() + marked.offered_now.bytes() > 100 * MIB as u64, "{marked:?}");
        assert!(resident_mib() > 100);
        let again = blocks(30);
        assert_intact(&again);
        drop(again);
        let until = Instant::now() + Duration::from_secs(20);
        while resident_mib() > 40 {
            assert!(Instant::now() < until, "{} MiB, {:?}", resident_mib(), raw::stats());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_intact(&blocks(30));
    });
}

#[test]
fn control_turned_off_nothing_is_marked_and_no_thread_appears() {
    let name = "control_turned_off_nothing_is_marked_and_no_thread_appears";
    begin_with(name, &[("VRANGE_MALLOC", "off"), ("MIMALLOC_PURGE_DELAY", "-1")], || {
        let kept = blocks(30);
        assert_intact(&kept);
        drop(kept);
        assert_eq!(raw::stats(), raw::RawStats::default());
        std::thread::sleep(Duration::from_millis(500));
        assert!(resident_mib() > 100, "mimalloc was told to keep it");
    });
}

#[test]
fn a_program_of_small_allocations_has_no_reclaimer() {
    begin_with("a_program_of_small_allocations_has_no_reclaimer", &[], || {
        let words: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
        assert_eq!(words.iter().map(String::len).sum::<usize>(), 6_890);
        assert!(reclaimers_of("self").is_empty(), "{:?}", threads_of("self"));
        drop(blocks(1));
        assert!(has_reclaimer_soon(), "{:?}", threads_of("self"));
    });
}

#[test]
fn zeros_are_zeros_and_growth_keeps_contents() {
    for round in 1..20u8 {
        let zeros = vec![0u8; 3 * MIB + 77];
        assert!(zeros.iter().all(|byte| *byte == 0), "round {round}");
        let mut grown = vec![round; MIB];
        grown.resize(5 * MIB, round);
        assert!(grown.iter().all(|byte| *byte == round));
        drop((zeros, vec![0xffu8; 3 * MIB + 77]));
    }
}

/// Threads free what others allocated.
#[test]
fn blocks_pass_between_threads() {
    let (send, receive) = std::sync::mpsc::channel::<Vec<u8>>();
    let freer = std::thread::spawn(move || {
        receive
            .into_iter()
            .map(|block| {
                assert!(block.iter().all(|byte| *byte == block[0]));
                block.len()
            })
            .sum::<usize>()
    });
    let makers: Vec<_> = (1..4u8)
        .map(|number| {
            let send = send.clone();
            std::thread::spawn(move || {
                for round in 0..40usize {
                    send.send(vec![number; 100_000 + round * 40_000]).expect("the other thread listens");
                }
            })
        })
        .collect();
    drop(send);
    makers.into_iter().for_each(|maker| maker.join().expect("a thread"));
    let sum: usize = (0..40).map(|round| 100_000 + round * 40_000).sum();
    assert_eq!(freer.join().expect("a thread"), 3 * sum);
}

/// A child has no reclaimer until it needs one.
#[test]
fn a_child_goes_on_with_what_it_has() {
    begin_with("a_child_goes_on_with_what_it_has", &[("VRANGE_DECAY", "0.2")], || {
        let kept = blocks(5);
        drop(blocks(10));
        // SAFETY: this process has the test's thread, the harness's, and the reclaimer; none of the first two holds a lock.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(blocks(10));
            assert_intact(&kept);
            drop(kept);
            assert_intact(&blocks(10));
            let has_reclaimer = has_reclaimer_soon();
            // SAFETY: ends the child without the harness's exit handlers.
            unsafe { libc::_exit(i32::from(!has_reclaimer)) }
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        assert_intact(&kept);
    });
}
