//! Marks of ranges that are adopted in part.

use std::ops::Range;
use std::time::{Duration, Instant};

use vrange::raw::{self, Mark};
use vrange::{Content, ErrorKind};
use vrange_os::PAGE_BYTES;
use vrange_testing::in_child;

use crate::support::{BLOCK, Mapping};

fn adopt(memory: &Mapping, pages: Range<usize>) {
    // SAFETY: a mapping of the test, which tells of its end.
    unsafe { raw::adopt(memory.at_page(pages.start), pages.len() * PAGE_BYTES) }.expect("to be adopted");
}

/// The kernel refuses a part, and the rest is adopted.
#[test]
fn c05_behind_a_page_that_is_refused_nothing_is_marked() {
    let memory = Mapping::new(3 * BLOCK);
    let border = memory.first_block() + BLOCK;
    adopt(&memory, border..border + BLOCK);
    memory.fill(0..border + BLOCK, 1);
    memory.lock(border - 3..border - 2);
    // SAFETY: not used until it is unmarked.
    let refused = unsafe { raw::mark(memory.base(), (border + BLOCK) * PAGE_BYTES) };
    assert_eq!(refused.expect_err("locked").kind(), ErrorKind::NotMarkable);
    assert_eq!(memory.unmark(0..border), []);
    memory.fill(border..border + BLOCK, 1000);
    memory.offer();
    memory.take(border..border + BLOCK);
    memory.assert_filled(border..border + BLOCK, 1000);
    // The control: what is not refused is marked, on both sides of the border.
    memory.mark(border - 2..border + 2);
    memory.offer();
    memory.take(border - 2..border + 2);
    assert_eq!(memory.unmark(0..border + BLOCK), [border - 2, border - 1, border, border + 1]);
}

/// What `mark` marks is data, where free memory decays, too.
#[test]
fn data_beside_memory_that_is_not_adopted_does_not_decay() {
    in_child(|| {
        raw::set_content(Content::Free { decay: Duration::from_millis(100) });
        raw::prepare().expect("a reclaimer");
        let memory = Mapping::new(3 * BLOCK);
        let first = memory.first_block();
        let (data, free) = (first..first + 100, first + BLOCK..first + BLOCK + 10);
        for adopted in [data.start..data.start + 50, free.clone()] {
            adopt(&memory, adopted);
        }
        memory.fill(data.clone(), 1);
        memory.fill(free.clone(), 1);
        memory.mark(data.clone());
        // SAFETY: memory of the test, which is not used meanwhile.
        let marked = unsafe { raw::try_mark(memory.at_page(free.start), free.len() * PAGE_BYTES) };
        assert!(marked.expect("a range"));
        // The control: it goes.
        let until = Instant::now() + Duration::from_secs(20);
        let is_settled = || {
            let mut settled = true;
            raw::query(memory.at_page(free.start), free.len() * PAGE_BYTES, |_, mark| {
                settled &= mark == Mark::Settled;
            })
            .expect("a range");
            settled
        };
        while !is_settled() {
            assert!(Instant::now() < until, "free memory stays");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(memory.unmark(data.clone()), []);
        memory.assert_filled(data, 1);
        assert_eq!(memory.unmark(free.clone()), free.collect::<Vec<_>>());
    });
}

/// Zeros where something was lost are there again once somebody has looked at them. (Here they are populated: the kernel's zero
/// page, as a load gets it, seems to be there only on some kernels.)
#[test]
fn c03_a_loss_that_is_known_survives_a_mark_and_a_purge() {
    // In one block: where all of a block's part is adopted, a second mark does not look at what is settled.
    let memory = Mapping::new(2 * BLOCK);
    let first = memory.first_block();
    let (adopted, all) = (first..first + 50, first..first + 100);
    adopt(&memory, adopted.clone());
    memory.fill(all.clone(), 1);
    let purge = || {
        // SAFETY: what is marked may go.
        unsafe { raw::purge(memory.at_page(first), 100 * PAGE_BYTES) }.expect("a purge")
    };
    memory.mark(all.clone());
    assert_eq!(purge(), 50 * PAGE_BYTES);
    vrange_os::linux::make_dirty(memory.span(adopted.clone())).expect("to be populated");
    memory.mark(all);
    assert_eq!(purge(), 50 * PAGE_BYTES);
    assert_eq!(memory.unmark(adopted.clone()), adopted.collect::<Vec<_>>());
}

#[test]
fn c12_what_was_dropped_is_not_lost_once_more() {
    in_child(|| {
        let memory = Mapping::new(100);
        adopt(&memory, 0..50);
        memory.fill(0..50, 1);
        memory.mark(0..100);
        // SAFETY: what is marked may go.
        unsafe { raw::purge(memory.base(), 100 * PAGE_BYTES) }.expect("a purge");
        vrange_os::linux::make_dirty(memory.span(0..50)).expect("to be populated");
        memory.mark(0..100);
        assert_eq!(memory.unmark(0..100), (0..50).collect::<Vec<_>>());
        let stats = raw::stats();
        assert_eq!((stats.released.pages(), stats.lost.pages()), (50, 0));
    });
}

/// What was marked before stays marked, and can still be had.
#[test]
fn c13_after_a_refused_mark_earlier_marks_are_offered_as_before() {
    let memory = Mapping::new(3 * BLOCK);
    let first = memory.first_block();
    let (before, behind) = (first..first + 50, first + 90..first + 100);
    for adopted in [before.clone(), behind.clone()] {
        adopt(&memory, adopted);
    }
    memory.fill(first..first + 100, 1);
    memory.mark(before.clone());
    memory.mark(behind.clone());
    memory.lock(first + 80..first + 81);
    // SAFETY: not used until it is unmarked.
    let refused = unsafe { raw::mark(memory.at_page(first), 100 * PAGE_BYTES) };
    assert_eq!(refused.expect_err("locked").kind(), ErrorKind::NotMarkable);
    memory.offer();
    memory.take(before.clone());
    memory.take(behind.clone());
    let lost = memory.unmark(first..first + 100);
    assert_eq!(lost, before.chain(behind).collect::<Vec<_>>());
}
