//! What bookkeeping costs: at most 64 bytes a range and two bits a page, and nothing for what was lost.

use vrange::{Buffer, Pinned};
use vrange_os::PAGE_BYTES;
use vrange_testing::in_child;

use crate::support::{filled, memory, quiet_heap};

/// What the program's own allocator takes beside.
const SLACK_BYTES: u64 = 512 << 10;
/// Where the kernel makes huge pages of all memory, the last one of a growing table is there as a whole.
const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// Memory that `count` untouched, once unpinned buffers take, apart from the handles that the program itself keeps.
fn growth_of(count: usize, pages: usize) -> u64 {
    let heap = quiet_heap();
    let mut buffers: Vec<Buffer> = Vec::with_capacity(count);
    let before = memory::resident_bytes();
    for _ in 0..count {
        let buffer = heap.buffer(pages * PAGE_BYTES).expect("a buffer");
        drop(buffer.pin());
        buffers.push(buffer);
    }
    let handles = (count * size_of::<Buffer>()) as u64;
    memory::resident_bytes().saturating_sub(before).saturating_sub(handles)
}

#[test]
fn a_range_costs_64_bytes() {
    in_child(|| {
        let count = 500_000;
        let grown = growth_of(count, 1);
        println!("{} bytes a range", grown as f64 / count as f64);
        assert!(
            grown <= 64 * count as u64 + SLACK_BYTES + HUGE_PAGE_BYTES,
            "{grown} bytes for {count} ranges"
        );
    });
}

#[test]
fn a_page_of_a_large_range_costs_two_bits() {
    in_child(|| {
        let (count, pages) = (1000, (64 << 20) / PAGE_BYTES);
        let grown = growth_of(count, pages);
        let map_bytes = (count * pages * 2 / 8) as u64;
        println!("{} bits a page", (grown * 8) as f64 / (count * pages) as f64);
        assert!(
            grown <= map_bytes + 64 * count as u64 + SLACK_BYTES + HUGE_PAGE_BYTES,
            "{grown} bytes, of which maps may have {map_bytes}"
        );
    });
}

#[test]
fn a_pin_of_what_was_lost_takes_no_memory() {
    in_child(|| {
        let heap = quiet_heap();
        for pages in [16384, 300] {
            let buffers: Vec<Buffer> =
                (0..16384 / pages).map(|seed| filled(&heap, pages, seed as u64)).collect();
            for buffer in &buffers {
                assert!(buffer.offer());
                memory::take(buffer, 0..pages);
            }
            let before = memory::resident_bytes();
            for buffer in &buffers {
                let Pinned::Purged(purged) = buffer.pin() else { panic!("all was taken") };
                assert_eq!(purged.lost_pages(), pages);
                assert_eq!(memory::own_pages(memory::span(buffer)), 0);
            }
            let grown = memory::resident_bytes().saturating_sub(before);
            assert!(grown < SLACK_BYTES, "{grown} bytes for nothing");
        }
    });
}
