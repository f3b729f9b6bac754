//! Where marks differ from the RFC's system call: each test is named in the manual page `vrange_preload(3)`, in other words. The
//! implicit mode of the preloaded library is `raw::mark_now`.

use std::fs;
use std::io::Write as _;

use vrange::{ErrorKind, raw};
use vrange_os::PAGE_BYTES;
use vrange_testing::{Ring, drain_processors, in_child};

use crate::support::Mapping;

const PAGES: usize = 16;

fn marked_now() -> Mapping {
    let memory = Mapping::new(PAGES);
    memory.fill(0..PAGES, 1);
    mark_now(&memory);
    memory
}

fn mark_now(memory: &Mapping) {
    drain_processors();
    // SAFETY: memory of the test, of which any page may go.
    unsafe { raw::mark_now(memory.base(), PAGES * PAGE_BYTES) }.expect("a mark");
    drain_processors();
}

fn contents(memory: &Mapping) -> Vec<u64> {
    (0..PAGES).map(|page| memory.read(page)).collect()
}

#[test]
fn a_store_ends_the_mark_of_its_page_and_not_of_the_whole_mapping() {
    let memory = marked_now();
    memory.write(3, 77);
    memory.take(0..PAGES);
    let expected: Vec<u64> = (0..PAGES).map(|page| if page == 3 { 77 } else { 0 }).collect();
    assert_eq!(contents(&memory), expected);
}

#[test]
fn a_load_ends_nothing() {
    let memory = marked_now();
    assert_ne!(contents(&memory), [0; PAGES]);
    memory.take(0..PAGES);
    assert_eq!(contents(&memory), [0; PAGES]);
}

#[test]
fn what_is_written_without_a_fault_stays() {
    let memory = marked_now();
    memory.fill(0..PAGES, 100);
    memory.take(0..PAGES);
    memory.assert_filled(0..PAGES, 100);
}

/// The lines of `/proc/self/maps` that lie in a mapping.
fn vmas(memory: &Mapping) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("this process's mappings");
    let (start, end) = (memory.base().addr(), memory.at_page(PAGES).addr());
    let address = |text: &str| usize::from_str_radix(text, 16).expect("an address");
    let bounds = maps.lines().filter_map(|line| line.split(' ').next()?.split_once('-'));
    bounds.filter(|(first, last)| address(first) < end && address(last) > start).count()
}

#[test]
fn a_mark_splits_no_vma() {
    let memory = Mapping::new(PAGES);
    memory.fill(0..PAGES, 1);
    // SAFETY: memory of the test, of which any page may go.
    unsafe { raw::mark_now(memory.at_page(4), 4 * PAGE_BYTES) }.expect("a mark");
    memory.mark(9..12);
    assert_eq!(vmas(&memory), 1);
    // The control: a flag of a part does.
    let (start, bytes) = (memory.at_page(4).cast(), 4 * PAGE_BYTES);
    // SAFETY: changes no contents.
    unsafe { rustix::mm::madvise(start, bytes, rustix::mm::Advice::LinuxDontDump) }.expect("a flag");
    assert_eq!(vmas(&memory), 3);
}

#[test]
fn marked_memory_that_is_locked_is_locked() {
    let memory = marked_now();
    memory.lock(0..PAGES);
    // SAFETY: locked memory is refused.
    let refused = unsafe { raw::mark_now(memory.base(), PAGES * PAGE_BYTES) };
    assert_eq!(refused.expect_err("locked").kind(), ErrorKind::NotMarkable);
    assert_ne!(contents(&memory), [0; PAGES]);
}

#[test]
fn whoever_marks_a_shared_page_loses_it_for_himself() {
    in_child(|| {
        let memory = Mapping::new(PAGES);
        memory.fill(0..PAGES, 1);
        // SAFETY: the child marks, looks, and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            mark_now(&memory);
            // In the child alone: the kernel leaves shared pages where they are.
            memory.take(0..PAGES);
            let kept = contents(&memory);
            let may_be = kept.iter().enumerate().all(|(page, word)| *word == 0 || *word == 1 + page as u64);
            // SAFETY: ends the child without the test harness's exit handlers.
            unsafe { libc::_exit(i32::from(!may_be)) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0, "the child read something else");
        memory.take(0..PAGES);
        memory.assert_filled(0..PAGES, 1);
    });
}

/// What an exception of the implicit mode is about, and what it asks for.
#[test]
fn what_a_device_writes_past_the_page_table_ends_no_mark() {
    let Some(mut ring) = Ring::new() else { return };
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&[9; PAGES * PAGE_BYTES]).expect("space on disk");
    for ends_mark in [false, true] {
        let memory = marked_now();
        if ends_mark {
            // SAFETY: memory of the test.
            unsafe { raw::unmark_now(memory.base(), PAGES * PAGE_BYTES) }.expect("the end of a mark");
        }
        // SAFETY: memory of the test, which nobody else uses meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts_mut(memory.base(), PAGES * PAGE_BYTES) };
        ring.read_registered(&file, bytes);
        memory.take(0..PAGES);
        let expected = if ends_mark { u64::from_ne_bytes([9; 8]) } else { 0 };
        assert_eq!(contents(&memory), [expected; PAGES]);
    }
}
