//! Marks on adopted memory: deferred, exact, page by page.

use std::collections::BTreeSet;

use vrange::raw::{self, Mark};
use vrange_os::PAGE_BYTES;
use vrange_testing::in_child;

use crate::support::{BLOCK, Mapping};

#[test]
fn c01_marked_pages_stay_while_memory_is_plentiful() {
    let memory = Mapping::adopted(100);
    memory.fill(0..100, 1);
    memory.mark(0..100);
    memory.take(0..100);
    assert_eq!(memory.unmark(0..100), []);
    memory.assert_filled(0..100, 1);
}

#[test]
fn c03_an_unmark_tells_exactly_which_pages_were_lost() {
    for pages in [1, 16, 33, 511, 513, 1500] {
        let memory = Mapping::adopted(pages);
        memory.fill(0..pages, 7);
        memory.mark(0..pages);
        memory.offer();
        let taken = pages / 3..pages - pages / 4;
        memory.take(taken.clone());
        assert_eq!(memory.unmark(0..pages), taken.clone().collect::<Vec<_>>(), "of {pages}");
        memory.assert_filled(0..taken.start, 7);
        memory.assert_filled(taken.end..pages, 7);
        assert!(taken.clone().all(|page| memory.read(page) == 0));
        // The loss was told; nothing is lost twice.
        assert_eq!(memory.unmark(0..pages), []);
    }
}

#[test]
fn c03_blank_and_untouched_pages_are_not_lost() {
    let memory = Mapping::adopted(12);
    for page in 0..12 {
        match page % 3 {
            0 => memory.write(page, 5),
            1 => memory.write(page, 0),
            _ => {}
        }
    }
    memory.mark(0..12);
    memory.offer();
    memory.take(0..12);
    assert_eq!(memory.unmark(0..12), [0, 3, 6, 9]);
}

#[test]
fn c05_what_is_written_after_an_unmark_is_not_lost() {
    let memory = Mapping::adopted(600);
    memory.fill(0..600, 1);
    memory.mark(0..600);
    memory.offer();
    memory.take(0..100);
    assert_eq!(memory.unmark(0..600).len(), 100);
    memory.fill(50..150, 1000);
    memory.take(0..600);
    memory.offer();
    memory.take(0..600);
    memory.assert_filled(50..150, 1000);
    memory.assert_filled(150..600, 1);
}

/// The hole of the seed: reuse without a fault, then pressure. Without the unmark, new contents go with the old.
#[test]
fn c05_control_without_the_unmark_new_contents_are_lost() {
    let memory = Mapping::adopted(1);
    memory.write(0, 1);
    memory.mark(0..1);
    memory.write(0, 2);
    memory.offer();
    memory.take(0..1);
    assert_eq!(memory.read(0), 0);
}

#[test]
fn c03_pages_are_marked_and_unmarked_one_by_one() {
    let memory = Mapping::adopted(2000);
    memory.fill(0..2000, 1);
    // Marks that meet, overlap and are split again, over the border of blocks.
    memory.mark(0..700);
    memory.mark(500..1400);
    memory.mark(1400..2000);
    assert_eq!(memory.unmark(600..900), []);
    memory.offer();
    memory.take(0..2000);
    memory.assert_filled(600..900, 1);
    let lost: BTreeSet<usize> = memory.unmark(0..2000).into_iter().collect();
    assert_eq!(lost, (0..600).chain(900..2000).collect());
}

#[test]
fn c03_a_page_that_was_marked_twice_is_lost_once() {
    let memory = Mapping::adopted(8);
    memory.fill(0..8, 3);
    memory.mark(0..8);
    memory.offer();
    memory.take(2..4);
    memory.mark(0..8);
    memory.offer();
    assert_eq!(memory.unmark(0..8), [2, 3]);
}

#[test]
fn c03_a_part_that_is_unmarked_early_leaves_the_rest_offered() {
    let memory = Mapping::adopted(64);
    memory.fill(0..64, 9);
    memory.mark(0..64);
    memory.offer();
    assert_eq!(memory.unmark(10..20), []);
    memory.mark(15..18);
    memory.take(0..64);
    let lost: Vec<usize> = memory.unmark(0..64);
    assert_eq!(
        lost,
        (0..10).chain(20..64).collect::<Vec<_>>(),
        "what was marked again was not offered again"
    );
    memory.assert_filled(10..20, 9);
}

#[test]
fn a_purge_drops_what_is_marked_and_nothing_else() {
    for offered in [false, true] {
        let memory = Mapping::adopted(1200);
        memory.fill(0..1200, 1);
        memory.mark(100..1100);
        if offered {
            memory.offer();
        }
        // SAFETY: only marked pages go.
        let dropped = unsafe { raw::purge(memory.base(), 1200 * PAGE_BYTES) }.expect("a purge");
        assert_eq!(dropped, 1000 * PAGE_BYTES);
        memory.assert_filled(0..100, 1);
        memory.assert_filled(1100..1200, 1);
        assert_eq!(memory.unmark(0..1200), (100..1100).collect::<Vec<_>>());
    }
}

/// `MADV_DONTNEED` may fail when a part is done: before Linux 5.18 at locked memory, and around a hole, which adopted memory has
/// only if its owner did not say so.
#[test]
fn c03_what_a_refused_purge_took_is_told() {
    let memory = Mapping::adopted(10);
    memory.fill(0..10, 1);
    memory.mark(0..10);
    memory.unmap(5..6);
    // SAFETY: only marked pages go.
    assert_eq!(unsafe { raw::purge(memory.base(), 10 * PAGE_BYTES) }.expect("a range"), 0);
    assert_eq!(memory.unmark(0..5), [0, 1, 2, 3, 4]);
    assert_eq!(memory.unmark(6..10), [6, 7, 8, 9]);
}

#[test]
fn a_query_tells_the_state_of_each_page() {
    let memory = Mapping::adopted(6);
    memory.fill(0..4, 1);
    memory.mark(0..2);
    memory.mark(4..5);
    memory.offer();
    memory.mark(3..4);
    let mut found = Vec::new();
    raw::query(memory.base(), 6 * PAGE_BYTES, |page, mark| found.push((page, mark))).expect("a range");
    // Page 3 shares its block with offered ones; page 4 was never written to.
    let expected = [Mark::Offered, Mark::Offered, Mark::None, Mark::Fresh, Mark::Settled, Mark::None];
    assert_eq!(found, expected.into_iter().enumerate().collect::<Vec<_>>());
    // SAFETY: nothing to lose.
    unsafe { raw::purge(memory.base(), 6 * PAGE_BYTES) }.expect("a purge");
    let mut settled = 0;
    raw::query(memory.base(), 6 * PAGE_BYTES, |_, mark| settled += usize::from(mark == Mark::Settled))
        .expect("a range");
    assert_eq!(settled, 4);
}

#[test]
fn marked_pages_are_counted_over_the_border_of_blocks() {
    for memory in [Mapping::adopted(3000), Mapping::new(3000)] {
        memory.fill(0..3000, 1);
        memory.mark(10..1500);
        memory.mark(1400..2900);
        let _ = memory.unmark(2000..2100);
        for pages in [0..3000, 0..10, 5..15, 1999..2101, 2890..3000, 40..40] {
            let mut expected = 0;
            let (start, bytes) = (memory.at_page(pages.start), pages.len() * PAGE_BYTES);
            raw::query(start, bytes, |_, mark| expected += usize::from(mark != Mark::None)).expect("a range");
            assert_eq!(raw::count_marked(start, bytes).expect("a range"), expected, "{pages:?}");
        }
        assert_eq!(raw::count_marked(memory.base(), 3000 * PAGE_BYTES).expect("a range"), 2790);
    }
}

#[test]
fn c12_marks_are_counted() {
    in_child(|| {
        let memory = Mapping::adopted(1000);
        memory.fill(0..900, 1);
        let before = raw::stats();
        assert_eq!(before, raw::RawStats::default());
        memory.mark(0..1000);
        assert_eq!(raw::stats().marked.pages(), 1000);
        memory.offer();
        let stats = raw::stats();
        assert_eq!(
            (stats.marked.pages(), stats.offered_now.pages(), stats.settled.pages(), stats.offered.pages()),
            (0, 900, 100, 900)
        );
        memory.take(0..300);
        assert_eq!(memory.unmark(0..500).len(), 300);
        let stats = raw::stats();
        assert_eq!((stats.lost.pages(), stats.rescued.pages()), (300, 200));
        // SAFETY: marked.
        unsafe { raw::purge(memory.base(), 1000 * PAGE_BYTES) }.expect("a purge");
        assert_eq!(raw::stats().released.pages(), 400);
        assert_eq!(memory.unmark(0..1000).len(), 400);
        let stats = raw::stats();
        assert_eq!(stats.offered_now.pages() + stats.marked.pages() + stats.settled.pages(), 0);
    });
}

#[test]
fn c08_the_blocks_that_were_marked_first_are_offered_first() {
    in_child(|| {
        let memory = Mapping::adopted(9 * BLOCK);
        let first = memory.first_block();
        memory.fill(0..9 * BLOCK, 1);
        let order = [5, 1, 7, 0, 3, 6, 2, 4];
        for block in order {
            memory.mark(first + block * BLOCK..first + (block + 1) * BLOCK);
            // Ages are told apart to about a microsecond.
            std::thread::sleep(std::time::Duration::from_micros(20));
        }
        let mut offered = Vec::new();
        while offered.len() < order.len() {
            raw::offer((BLOCK * PAGE_BYTES) as u64).expect("an offer");
            for block in order {
                let mut all = true;
                raw::query(memory.at_page(first + block * BLOCK), BLOCK * PAGE_BYTES, |_, mark| {
                    all &= mark == Mark::Offered;
                })
                .expect("a range");
                if all && !offered.contains(&block) {
                    offered.push(block);
                }
            }
        }
        assert_eq!(offered, order);
    });
}

/// One gigabyte costs what its blocks cost, not what its pages do.
#[test]
fn c04_a_mark_touches_no_page() {
    let pages = 256 * 1024;
    let memory = Mapping::adopted(pages);
    memory.write(5, 1);
    memory.mark(0..pages);
    assert_eq!(memory.unmark(0..pages), []);
    memory.mark(0..pages);
    memory.offer();
    assert_eq!(memory.unmark(0..pages), []);
    let mut resident = 0;
    let linux = vrange_os::linux::Linux::get().expect("this kernel");
    vrange_os::System::residency(linux, memory.span(0..pages), false, &mut |found, _| {
        resident += found.len();
    })
    .expect("the page table");
    assert!(resident <= 512, "{resident} pages came into memory");
}
