//! Marks on memory that the library knows nothing of: offered at once, looked at only through the kernel.

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap};
use rustix::process::{Resource, Rlimit, setrlimit};
use vrange::{ErrorKind, raw};
use vrange_os::PAGE_BYTES;
use vrange_testing::{drain_processors, in_child};

use crate::support::Mapping;

#[test]
fn c03_an_unmark_tells_exactly_which_pages_were_lost() {
    for pages in [1, 33, 1500] {
        let memory = Mapping::new(pages);
        memory.fill(0..pages, 7);
        if pages > 20 {
            memory.write(20, 0);
        }
        memory.mark_and_drain(0..pages);
        let taken = pages / 3..pages - pages / 4;
        memory.take(taken.clone());
        let expected: Vec<usize> = taken.clone().filter(|page| pages < 20 || *page != 20).collect();
        assert_eq!(memory.unmark(0..pages), expected, "of {pages}");
        memory.take(0..pages);
        memory.assert_filled(taken.end..pages, 7);
        assert_eq!(memory.unmark(0..pages), []);
    }
}

#[test]
fn c02_a_store_ends_the_mark_of_its_page_and_of_no_other() {
    let memory = Mapping::new(8);
    memory.fill(0..8, 1);
    drain_processors();
    // SAFETY: stores end the offer of their page.
    unsafe { raw::mark_now(memory.base(), 8 * PAGE_BYTES) }.expect("a mark");
    drain_processors();
    assert_eq!(memory.read(0), 1, "a load ends nothing");
    memory.write(3, 50);
    memory.take(0..8);
    assert_eq!((0..8).map(|page| memory.read(page)).collect::<Vec<_>>(), [0, 0, 0, 50, 0, 0, 0, 0]);
}

#[test]
fn c05_what_is_written_without_an_unmark_is_not_lost() {
    let memory = Mapping::new(4);
    memory.fill(0..4, 1);
    memory.mark_and_drain(0..4);
    memory.fill(0..4, 100);
    memory.take(0..4);
    // SAFETY: nothing that was written to since goes.
    unsafe { raw::purge(memory.base(), 4 * PAGE_BYTES) }.expect("a purge");
    memory.assert_filled(0..4, 100);
    assert_eq!(memory.unmark(0..4), []);
}

#[test]
fn a_purge_drops_what_was_marked() {
    let memory = Mapping::new(4);
    memory.fill(0..4, 1);
    memory.mark_and_drain(1..3);
    // SAFETY: marked pages go.
    unsafe { raw::purge(memory.base(), 4 * PAGE_BYTES) }.expect("a purge");
    assert_eq!(memory.unmark(0..4), [1, 2]);
}

#[test]
fn c11_memory_that_was_unmapped_unseen_is_not_touched() {
    // In a process of its own: other tests' mappings would come into the hole.
    in_child(|| {
        let memory = Mapping::new(16);
        memory.fill(0..16, 1);
        memory.mark_and_drain(0..16);
        memory.unmap(4..12);
        assert_eq!(memory.unmark(0..16), (4..12).collect::<Vec<_>>(), "it is gone, which is told as a loss");
        memory.assert_filled(0..4, 1);
    });
}

#[test]
fn memory_that_cannot_be_written_to_is_an_error_and_not_a_fault() {
    for protection in [MprotectFlags::empty(), MprotectFlags::READ] {
        let memory = Mapping::new(8);
        memory.fill(0..8, 1);
        memory.mark_and_drain(0..8);
        memory.protect(2..6, protection);
        // SAFETY: nobody stores to it.
        let refused = unsafe { raw::unmark(memory.base(), 8 * PAGE_BYTES) };
        assert_eq!(refused.expect_err("not writable").kind(), ErrorKind::NotWritable, "{protection:?}");
        memory.protect(2..6, MprotectFlags::READ | MprotectFlags::WRITE);
        assert_eq!(memory.unmark(0..8), [], "made writable again, it is taken back");
        memory.take(0..8);
        memory.assert_filled(0..8, 1);
    }
}

#[test]
fn memory_that_cannot_be_read_can_be_marked() {
    let memory = Mapping::new(4);
    memory.fill(0..4, 1);
    memory.protect(0..4, MprotectFlags::empty());
    memory.mark_and_drain(0..4);
    memory.protect(0..4, MprotectFlags::READ | MprotectFlags::WRITE);
    assert_eq!(memory.unmark(0..2), []);
    memory.take(0..4);
    assert_eq!(memory.unmark(0..4), [2, 3]);
    memory.assert_filled(0..2, 1);
}

/// Memory that was marked and then given back unseen, and is now something else: what was noted of it is not believed.
#[test]
fn c05_a_second_mark_looks_again() {
    // Never written; all zeros; with contents.
    for before in [None, Some(0), Some(1)] {
        let old = Mapping::new(16);
        if let Some(seed) = before {
            (0..16).for_each(|page| old.write(page, seed));
        }
        old.mark(0..16);
        let new = old.replaced_unseen();
        new.fill(0..16, 100);
        new.mark_and_drain(0..16);
        new.take(0..4);
        assert_eq!(new.unmark(0..16), [0, 1, 2, 3], "{before:?}");
        new.take(0..16);
        new.assert_filled(4..16, 100);
    }
}

#[test]
fn c03_a_second_mark_forgets_no_loss() {
    let memory = Mapping::new(16);
    memory.fill(0..16, 1);
    memory.mark_and_drain(0..8);
    memory.take(0..4);
    memory.mark_and_drain(0..16);
    memory.take(8..10);
    assert_eq!(memory.unmark(0..16), [0, 1, 2, 3, 8, 9]);
}

/// It is the kernel's zero page, and must not become one of the program's own, which could go to swap and be lost there.
#[test]
fn c03_a_page_that_was_only_read_is_not_lost() {
    let memory = Mapping::new(8);
    assert_eq!((0..8).map(|page| memory.read(page)).sum::<u64>(), 0);
    for _ in 0..3 {
        memory.mark_and_drain(0..8);
        memory.take(0..8);
        assert_eq!(memory.unmark(0..8), []);
        memory.take(0..8);
    }
}

/// The kernel refuses a later part of the range.
#[test]
fn c06_a_refused_mark_leaves_earlier_marks_alone() {
    let memory = Mapping::new(16);
    memory.fill(0..16, 1);
    memory.mark_and_drain(0..4);
    memory.take(0..2);
    memory.lock(10..11);
    // SAFETY: not used until it is unmarked.
    let refused = unsafe { raw::mark(memory.base(), 16 * PAGE_BYTES) };
    assert_eq!(refused.expect_err("locked").kind(), ErrorKind::NotMarkable);
    let take_others = || [4..10, 11..16].into_iter().for_each(|pages| memory.take(pages));
    take_others();
    memory.assert_filled(4..16, 1);
    assert_eq!(memory.unmark(0..16), [0, 1]);
    take_others();
    memory.assert_filled(2..16, 1);
}

/// Memory that was marked and then given back unseen, and is now something else, of which nobody expects that it is marked.
#[test]
fn c05_a_refused_mark_takes_nothing_where_an_old_mark_was() {
    let old = Mapping::new(16);
    old.fill(0..16, 1);
    old.mark(0..16);
    let new = old.replaced_unseen();
    new.fill(0..16, 100);
    new.lock(10..11);
    drain_processors();
    // SAFETY: nobody stores to it.
    let refused = unsafe { raw::mark(new.base(), 16 * PAGE_BYTES) };
    assert_eq!(refused.expect_err("locked").kind(), ErrorKind::NotMarkable);
    drain_processors();
    [0..10, 11..16].into_iter().for_each(|pages| new.take(pages));
    new.assert_filled(0..16, 100);
    assert_eq!(new.unmark(0..16), []);
}

/// What cannot be written to cannot be taken back, so nothing may be offered that the kernel has not offered by itself.
#[test]
fn c05_a_refused_mark_offers_nothing_behind_what_is_refused() {
    for protection in [MprotectFlags::empty(), MprotectFlags::READ] {
        let memory = Mapping::new(16);
        memory.fill(0..16, 1);
        memory.lock(4..5);
        memory.protect(0..16, protection);
        drain_processors();
        // SAFETY: nobody stores to it.
        let refused = unsafe { raw::mark(memory.base(), 16 * PAGE_BYTES) };
        assert_eq!(refused.expect_err("locked").kind(), ErrorKind::NotMarkable);
        drain_processors();
        memory.take(5..16);
        memory.protect(0..16, MprotectFlags::READ | MprotectFlags::WRITE);
        memory.assert_filled(4..16, 1);
        assert_eq!(memory.unmark(0..16), []);
    }
}

/// A mark of a file is refused, and nothing is done to its pages: neither copied, nor kept marked.
#[test]
fn c06_a_refused_mark_leaves_a_file_alone() {
    use std::io::Write as _;
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&[7; 8 * PAGE_BYTES]).expect("space on disk");
    for protection in [ProtFlags::READ, ProtFlags::READ | ProtFlags::WRITE] {
        // SAFETY: a new mapping, over nothing.
        let mapped =
            unsafe { mmap(std::ptr::null_mut(), 8 * PAGE_BYTES, protection, MapFlags::PRIVATE, &file, 0) };
        let start = mapped.expect("address space").cast::<u8>();
        // SAFETY: mapped and readable.
        let bytes = unsafe { std::slice::from_raw_parts(start, 8 * PAGE_BYTES) };
        assert!(bytes.iter().all(|byte| *byte == 7), "every page is in memory");
        // SAFETY: refused.
        let refused = unsafe { raw::mark(start, 8 * PAGE_BYTES) };
        assert_eq!(refused.expect_err("a file").kind(), ErrorKind::NotMarkable);
        // SAFETY: nothing is marked.
        let unmarked = unsafe { raw::unmark(start, 8 * PAGE_BYTES) };
        assert!(!unmarked.expect("nothing is marked").is_purged());
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("this process's mappings");
        let ours = smaps.split_once(&format!("{:x}-", start.addr())).expect("the mapping").1;
        let anonymous = ours.lines().find(|line| line.starts_with("Anonymous:")).expect("a count");
        assert_eq!(anonymous.split_whitespace().nth(1), Some("0"), "pages were copied");
        // SAFETY: mapped above, and not used any more.
        unsafe { rustix::mm::munmap(start.cast(), 8 * PAGE_BYTES) }.expect("to be unmapped");
    }
}

/// A page that was lost reads as zeros, and is there again once somebody has read it.
#[test]
fn c03_a_second_mark_tells_of_losses_that_somebody_has_looked_at() {
    let memory = Mapping::new(8);
    memory.fill(0..8, 1);
    memory.mark_and_drain(0..8);
    memory.take(0..4);
    assert_eq!((0..4).map(|page| memory.read(page)).sum::<u64>(), 0);
    memory.mark_and_drain(0..8);
    assert_eq!(memory.unmark(0..8), [0, 1, 2, 3]);
}

#[test]
fn c14_descriptors_that_the_program_closes_are_opened_again() {
    in_child(|| {
        let memory = Mapping::new(8);
        memory.fill(0..8, 1);
        memory.mark_and_drain(0..8);
        // SAFETY: the test program's own are not used any more, but for its output.
        assert_eq!(unsafe { libc::close_range(3, u32::MAX, 0) }, 0);
        memory.take(0..2);
        assert_eq!(memory.unmark(0..8), [0, 1]);
        memory.take(0..8);
        memory.assert_filled(2..8, 1);
    });
}

#[test]
fn c14_without_memory_for_notes_nothing_is_marked() {
    in_child(|| {
        // Far from everything else, so that its notes need memory of their own.
        let memory = Mapping::at(std::ptr::without_provenance_mut(0x20_0000_0000), 16);
        memory.fill(0..16, 1);
        // SAFETY: a mark elsewhere, for what is opened at the first.
        let _ = unsafe { raw::mark(Mapping::new(1).leak(), PAGE_BYTES) };
        setrlimit(Resource::As, Rlimit { current: Some(64 << 20), maximum: Some(64 << 20) })
            .expect("a limit");
        // SAFETY: memory of the test.
        let refused = unsafe { raw::mark(memory.base(), 16 * PAGE_BYTES) };
        assert_eq!(refused.expect_err("no memory").kind(), ErrorKind::OutOfMemory);
        memory.take(0..16);
        memory.assert_filled(0..16, 1);
    });
}

/// Whatever the length, an answer comes at once.
#[test]
fn a_length_past_all_memory_is_an_error() {
    // The ranges reach over everything else that is mapped.
    in_child(|| {
        let memory = Mapping::new(4);
        memory.fill(0..4, 1);
        for bytes in [1 << 44, 1 << 47, 1 << 62] {
            // SAFETY: nothing is marked.
            let outcome = unsafe { raw::unmark(memory.base(), bytes) };
            assert!(!outcome.expect("nothing is marked").is_purged());
            assert!(!raw::is_adopted(memory.base(), bytes));
        }
        let above_all_that_is_mapped = std::ptr::without_provenance_mut(1 << 48);
        for bytes in [PAGE_BYTES, 1 << 60] {
            // SAFETY: there is nothing.
            let outcome = unsafe { raw::mark(above_all_that_is_mapped, bytes) };
            assert!(outcome.is_err(), "{bytes}");
        }
        memory.assert_filled(0..4, 1);
    });
}

#[test]
fn unmarking_what_was_marked_now_keeps_it() {
    let memory = Mapping::new(8);
    memory.fill(0..8, 1);
    drain_processors();
    // SAFETY: memory of the test.
    unsafe { raw::mark_now(memory.base(), 8 * PAGE_BYTES) }.expect("a mark");
    drain_processors();
    // SAFETY: as above.
    unsafe { raw::unmark_now(memory.base(), 4 * PAGE_BYTES) }.expect("to stay");
    memory.take(0..8);
    memory.assert_filled(0..4, 1);
    assert_eq!(memory.read(5), 0);
}
