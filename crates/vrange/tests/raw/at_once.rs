//! Marks on memory that the library knows nothing of: offered at once, looked at only through the kernel.

use rustix::mm::MprotectFlags;
use vrange::{ErrorKind, raw};
use vrange_os::PAGE_BYTES;
use vrange_testing::drain_processors;

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
    let memory = Mapping::new(16);
    memory.fill(0..16, 1);
    memory.mark_and_drain(0..16);
    memory.unmap(4..12);
    assert_eq!(memory.unmark(0..16), (4..12).collect::<Vec<_>>(), "it is gone, which is told as a loss");
    memory.assert_filled(0..4, 1);
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
