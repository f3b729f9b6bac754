//! C7: works without swap; with swap, an offered page is dropped and never written to it.

use vrange::Pinned;
use vrange_testing::{drain_processors, has_swap, in_child, skipped};

use crate::support::{SIZES_PAGES, assert_filled, filled, is_zero, lost_pages, memory, quiet_heap};

#[test]
fn c07_offered_pages_go_without_swap() {
    if has_swap() {
        skipped("this machine has swap");
        return;
    }
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let buffer = filled(&heap, pages, 1);
        assert!(buffer.offer());
        memory::take(&buffer, 0..pages);
        let Pinned::Purged(purged) = buffer.pin() else { panic!("all was taken") };
        assert_eq!(purged.lost_pages(), pages);
    }
}

#[test]
fn c07_offered_pages_are_not_written_to_swap() {
    if !has_swap() {
        skipped("this machine has no swap");
        return;
    }
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let buffer = filled(&heap, pages, 1);
        // Pages that wait in a list of a processor's, for being new or for the offer to take effect, may be swapped.
        drain_processors();
        assert!(buffer.offer());
        drain_processors();
        memory::page_out_everywhere(memory::span(&buffer));
        assert_eq!(memory::swapped_pages(memory::span(&buffer)), 0);
        memory::take(&buffer, 0..pages);
        assert_eq!(lost_pages(&buffer).len(), pages);
    }
}

#[test]
fn c07_pages_that_were_swapped_out_and_then_offered_are_reported_lost() {
    if !has_swap() {
        skipped("this machine has no swap");
        return;
    }
    // In a process of its own, whose VmSwap is that of this buffer.
    in_child(|| {
        let heap = quiet_heap();
        for pages in SIZES_PAGES {
            let buffer = filled(&heap, pages, 1);
            let span = memory::span(&buffer);
            memory::page_out_everywhere(span);
            let swapped = memory::swapped_pages(span);
            if swapped == 0 {
                skipped("the kernel swaps nothing out: swap is full, or the memory cgroup may have none");
                return;
            }
            let before = memory::proc_bytes("/proc/self/status", "VmSwap");
            assert!(buffer.offer());
            assert_eq!(memory::swapped_pages(span), 0, "the offer drops what was swapped");
            assert!(memory::proc_bytes("/proc/self/status", "VmSwap") < before);
            let Pinned::Purged(purged) = buffer.pin() else { panic!("what was on swap is gone") };
            assert!(purged.lost_pages() >= swapped);
            let lost = crate::support::pages_of(purged.lost(), buffer.len());
            let guard = purged.into_guard();
            assert!(lost.iter().all(|page| is_zero(&guard, *page)));
        }
    });
}

#[test]
fn c07_pages_that_were_swapped_out_and_not_offered_come_back() {
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let buffer = filled(&heap, pages, 2);
        memory::page_out_everywhere(memory::span(&buffer));
        assert_filled(&buffer.pin().intact().expect("not offered"), 2);
    }
}
