//! C2: a discarded page reads as zeros; one that was not holds its old bytes, with no page fault.

use vrange::Pinned;
use vrange_os::PAGE_BYTES;

use crate::support::raw::Raw;
use crate::support::{SIZES_PAGES, fill, filled, is_filled, is_zero, memory, quiet_heap};

#[test]
fn c02_taken_pages_read_as_zeros_and_kept_ones_as_before() {
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let buffer = filled(&heap, pages, 1);
        assert!(buffer.offer());
        let taken = pages / 3..pages / 2 + 1;
        memory::take(&buffer, taken.clone());
        let Pinned::Purged(purged) = buffer.pin() else { panic!("pages were taken") };
        let guard = purged.into_guard();
        for page in 0..pages {
            let expected =
                if taken.contains(&page) { is_zero(&guard, page) } else { is_filled(&guard, page, 1) };
            assert!(expected, "page {page} of {pages}");
        }
    }
}

#[test]
fn c02_bytes_that_were_kept_are_read_without_a_fault() {
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let buffer = filled(&heap, pages, 2);
        // Never offered, then offered and rescued: the pin itself may store to pages, but they are all there.
        for offered in [false, true] {
            assert!(!offered || buffer.offer());
            let guard = buffer.pin().intact().expect("nothing was taken");
            assert_eq!(
                memory::faults_of(|| assert_eq!(sum_of_first_bytes(&guard), sum_of_first_bytes(&guard))),
                0
            );
        }
    }
}

/// Processors that note a store in the page table by themselves need no fault for a rescue either.
#[cfg(target_arch = "x86_64")]
#[test]
fn c02_a_rescue_of_kept_pages_takes_no_fault() {
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let buffer = filled(&heap, pages, 3);
        let offer_and_rescue = || {
            assert!(buffer.offer());
            drop(buffer.pin().intact().expect("nothing was taken"));
        };
        assert_eq!(memory::faults_of(offer_and_rescue), 0, "{pages} pages");
    }
}

#[test]
fn c02_control_pages_that_were_dropped_fault() {
    let mut raw = Raw::new(300);
    fill(raw.bytes_mut(), 2);
    let faults = memory::faults_of(|| {
        raw.advise(libc::MADV_DONTNEED).expect("MADV_DONTNEED");
        assert_eq!(sum_of_first_bytes(raw.bytes()), 0);
    });
    assert!(faults >= 1, "the counter counts");
}

fn sum_of_first_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(PAGE_BYTES).map(|byte| u64::from(*byte)).sum()
}
