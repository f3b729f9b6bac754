//! What an entry costs beside its value. A program of its own, since it counts all that is allocated.
#![cfg(not(loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use vrange_cache::Cache;

/// Bytes that are allocated now.
static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(layout.size(), Ordering::Relaxed); // Relaxed: a count orders nothing.
        // SAFETY: passed on from the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        ALLOCATED_BYTES.fetch_sub(layout.size(), Ordering::Relaxed); // Relaxed: as above.
        // SAFETY: passed on from the caller.
        unsafe { System.dealloc(address, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ENTRIES: u64 = 400_000;
const VALUE_BYTES: usize = 64;
/// In ordinary memory, with keys of eight bytes: the item with its key, the index's slot, the segment's list. The index doubles when it
/// is full, so it has up to twice as many slots as it needs; a small one, which is not measured here, up to three times as many.
/// Measured: 70 to 90 (105 from 10,000 entries on).
const ENTRY_BYTES_MAX: u64 = 100;
/// In volatile memory, of what the values are: for the rest of the last segments.
const SLACK_PER_CENT_MAX: u64 = 10;

#[test]
fn an_entry_costs_about_eighty_bytes_of_ordinary_memory() {
    let cache: Cache<u64> = Cache::new().expect("a cache");
    // Threads and tables that are made once.
    cache.insert(u64::MAX, &[1; 64]).expect("room");
    let allocated = || ALLOCATED_BYTES.load(Ordering::Relaxed) as u64; // Relaxed: our own thread's allocations.
    let before = allocated();
    let (mut least, mut most) = (u64::MAX, 0);
    for key in 0..ENTRIES {
        cache.insert(key, &[1; VALUE_BYTES]).expect("room");
        if key >= ENTRIES / 8 && key % 1000 == 0 {
            let each = (allocated() - before) / key;
            (least, most) = (least.min(each), most.max(each));
        }
    }
    let stats = cache.stats();
    println!("{least} to {most} bytes an entry; {stats:?}");
    assert!(most <= ENTRY_BYTES_MAX, "{least} to {most} bytes an entry");
    let values_bytes = stats.entries * VALUE_BYTES as u64;
    assert!(
        stats.resident_bytes + stats.offered_bytes <= values_bytes * (100 + SLACK_PER_CENT_MAX) / 100,
        "{stats:?}"
    );
}
