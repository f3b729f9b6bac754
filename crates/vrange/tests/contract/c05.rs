//! C5: bytes written under a pin are never lost under it.
//!
//! The RFC of 2012 (v3) took a range's mark away at the next page fault. A range that was marked and used again while all its
//! pages were still there took no fault and stayed marked, so that its new contents could be discarded while in use.

use vrange::Pinned;
use vrange_os::linux::page_out;

use crate::support::raw::Raw;
use crate::support::{SIZES_PAGES, assert_filled, fill, filled, is_zero, memory, quiet_heap};

#[test]
fn c05_new_bytes_in_a_range_that_was_marked_and_used_again_without_a_fault_stay() {
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let mut buffer = filled(&heap, pages, 1);
        let span = memory::span(&buffer);
        for offered in [false, true] {
            // Marked by the unpin in `filled`, or by that below; in the second round the kernel has been told as well.
            assert!(!offered || buffer.offer());
            let mut guard = buffer.pin_mut().intact().expect("nothing was taken");
            let seed = if offered { 3 } else { 2 };
            let faults = memory::faults_of(|| fill(&mut guard, seed));
            assert_eq!(faults, 0, "used again without a fault: the kernel noticed nothing");
            // Pressure, from every side that there is.
            memory::page_out_everywhere(span);
            assert_eq!((heap.offer(u64::MAX), heap.reclaim(u64::MAX), heap.release()), (0, 0, 0));
            memory::page_out_everywhere(span);
            assert_filled(&guard, seed);
        }
    }
}

/// The RFC's mark, executed as it was written: a purge takes a marked range, and only a page fault ends the mark.
struct RfcMark {
    raw: Raw,
    marked: bool,
}

impl RfcMark {
    fn write(&mut self, seed: u64) {
        let before = memory::minor_faults();
        fill(self.raw.bytes_mut(), seed);
        if memory::minor_faults() > before {
            self.marked = false;
        }
    }

    fn purge(&self) {
        if self.marked {
            self.raw.advise(libc::MADV_DONTNEED).expect("MADV_DONTNEED");
        }
    }
}

#[test]
fn c05_control_a_mark_that_only_a_fault_ends_loses_them() {
    let mut range = RfcMark { raw: Raw::new(10), marked: true };
    // With a fault in between the mark ends, as intended.
    range.write(1);
    range.purge();
    assert_filled(range.raw.bytes(), 1);
    // Without one it does not.
    range.marked = true;
    range.write(2);
    range.purge();
    assert!(
        (0..10).all(|page| is_zero(range.raw.bytes(), page)),
        "the new bytes were discarded while in use"
    );
}

#[test]
fn c05_every_write_of_a_long_series_is_found_again() {
    let heap = quiet_heap();
    for pages in [1, 33, 600] {
        let mut buffer = filled(&heap, pages, 0);
        let span = memory::span(&buffer);
        for seed in 1..30 {
            assert!(buffer.offer());
            if seed % 3 == 0 {
                memory::take(&buffer, 0..pages);
            }
            let mut guard = match buffer.pin_mut() {
                Pinned::Intact(guard) => guard,
                Pinned::Purged(purged) => purged.acknowledge(),
            };
            fill(&mut guard, seed);
            page_out(span).expect("MADV_PAGEOUT");
            assert_filled(&guard, seed);
            drop(guard);
            // Marked again, and not yet offered.
            page_out(span).expect("MADV_PAGEOUT");
            assert_filled(&buffer.pin().intact().expect("not offered"), seed);
        }
    }
}
