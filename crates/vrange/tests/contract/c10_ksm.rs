//! C10, KSM: the kernel may merge equal pages of a process. A merged page can be offered when only one mapping of it is left; if
//! live pages with the same contents are merged onto it after that, the kernel takes it from all of them.

use std::fs;
use std::time::{Duration, Instant};

use vrange::Pinned;
use vrange_os::PAGE_BYTES;
use vrange_testing::{Ksm, drain_processors, skipped};

use crate::support::group::{Group, in_group};
use crate::support::quiet_heap;
use crate::support::raw::Raw;

const PAGES: usize = 64;
const PR_SET_MEMORY_MERGE: i32 = 67;
const DIRECTORY: &str = "/sys/kernel/mm/ksm";
/// KSM goes round everything that asks for it on the machine, which can be a virtual machine of some GiB: then a round takes
/// seconds, and not milliseconds.
const ROUNDS_MAX: Duration = Duration::from_secs(180);

fn number_in(path: &str) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Pages of this process that are merged.
fn merged_pages() -> u64 {
    number_in("/proc/self/ksm_merging_pages")
}

/// `prctl(2)`: opens all mappings of this process to KSM, present and future ones. False: this kernel (before 6.4) cannot.
fn merge_everything() -> bool {
    // SAFETY: merging keeps contents.
    unsafe { libc::prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0 }
}

/// Each page of its own, the same in whatever this fills: pages of one piece of memory are not merged with each other. And
/// the same in no other process: what a page is merged with there, the kernel would not take.
fn fill_alike(bytes: &mut [u8]) {
    for (page, number) in bytes.chunks_mut(PAGE_BYTES).zip(1..) {
        page.chunks_mut(size_of::<u64>()).for_each(|word| word.copy_from_slice(&word_of(number)));
    }
}

fn word_of(number: u64) -> [u8; size_of::<u64>()] {
    // Knuth's multiplicative hash; odd, so never zero.
    let word = (u64::from(std::process::id()) << 32 | number << 1 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word.to_ne_bytes()
}

/// How many pages still hold that.
fn pages_left(bytes: &[u8]) -> usize {
    let is_left =
        |(page, number): &(&[u8], u64)| page.as_chunks().0.iter().all(|word| *word == word_of(*number));
    bytes.chunks(PAGE_BYTES).zip(1..).filter(is_left).count()
}

/// Such memory, and it asks for KSM.
fn mergeable() -> Raw {
    let mut raw = Raw::new(PAGES);
    fill_alike(raw.bytes_mut());
    raw.advise(libc::MADV_MERGEABLE).expect("MADV_MERGEABLE");
    raw
}

/// Waits until KSM has merged this many pages, and has gone round a few times more.
fn wait_until_merged(pages: usize) {
    let scans = || number_in(&format!("{DIRECTORY}/full_scans"));
    let until = Instant::now() + ROUNDS_MAX;
    let wait_for = |done: &dyn Fn() -> bool| {
        while !done() {
            assert!(Instant::now() < until, "KSM merged {} pages in {} scans", merged_pages(), scans());
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    wait_for(&|| merged_pages() >= pages as u64);
    let before = scans();
    wait_for(&|| scans() >= before + 4);
}

#[test]
fn c10_control_an_offered_page_that_ksm_shares_takes_live_ones_along() {
    let Some(_ksm) = Ksm::run() else { return };
    in_group(|group| {
        let (offered, others) = (mergeable(), mergeable());
        wait_until_merged(2 * PAGES);
        drop(others);
        offered.advise(libc::MADV_FREE).expect("MADV_FREE");
        let live = mergeable();
        wait_until_merged(2 * PAGES);
        drain_processors();
        group.reclaim(u64::MAX);
        let left = pages_left(live.bytes());
        println!("{left} of {PAGES} live pages left");
        assert!(left < PAGES, "nobody offered these");
    });
}

/// How much of the process KSM may merge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    WhatAsksForIt,
    EverythingBeforeTheHeap,
    EverythingAfterTheHeap,
}

/// The same with a buffer as what is offered, and with another as live memory beside the program's own.
fn no_live_page_is_taken_along(group: &Group, opened: Opened) {
    if opened == Opened::EverythingBeforeTheHeap && !merge_everything() {
        return skipped("this kernel has no PR_SET_MEMORY_MERGE");
    }
    let heap = quiet_heap();
    let [mut offered, mut live] = [0, 1].map(|_| heap.buffer(PAGES * PAGE_BYTES).expect("a buffer"));
    fill_alike(&mut offered.pin_mut().intact().expect("new"));
    if opened == Opened::EverythingAfterTheHeap && !merge_everything() {
        return skipped("this kernel has no PR_SET_MEMORY_MERGE");
    }
    let others = (mergeable(), mergeable());
    wait_until_merged(2 * PAGES);
    println!("{} pages merged", merged_pages());
    drop(others);
    assert!(offered.offer());

    let live_of_the_program = (mergeable(), mergeable());
    fill_alike(&mut live.pin_mut().intact().expect("new"));
    wait_until_merged(2 * PAGES);
    drain_processors();
    group.reclaim(u64::MAX);
    assert_eq!(pages_left(live_of_the_program.0.bytes()), PAGES, "live pages went with offered ones");
    assert_eq!(pages_left(live_of_the_program.1.bytes()), PAGES, "live pages went with offered ones");
    assert_eq!(pages_left(&live.pin().intact().expect("not offered")), PAGES);
    // Taken or not, the report is right.
    match offered.pin() {
        Pinned::Intact(guard) => assert_eq!(pages_left(&guard), PAGES),
        Pinned::Purged(purged) => {
            let lost = purged.lost_pages();
            println!("{lost} of the offered pages taken");
            assert_eq!(pages_left(&purged.into_guard()) + lost, PAGES);
        }
    }
}

#[test]
fn c10_ksm_takes_no_live_page_along() {
    let Some(_ksm) = Ksm::run() else { return };
    in_group(|group| no_live_page_is_taken_along(group, Opened::WhatAsksForIt));
}

#[test]
fn c10_ksm_takes_no_live_page_along_in_a_process_that_is_open_to_it() {
    let Some(_ksm) = Ksm::run() else { return };
    in_group(|group| no_live_page_is_taken_along(group, Opened::EverythingBeforeTheHeap));
}

#[test]
fn c10_ksm_takes_no_live_page_along_in_a_process_that_opens_later() {
    let Some(_ksm) = Ksm::run() else { return };
    in_group(|group| no_live_page_is_taken_along(group, Opened::EverythingAfterTheHeap));
}
