//! C10 and huge pages: which ranges lie in them, and that it is no loss when they are split or made.

use std::collections::BTreeSet;
use std::ptr::with_exposed_provenance_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use vrange::{Pinned, raw};
use vrange_os::{HUGE_PAGE_BYTES, PAGE_BYTES, Span};
use vrange_testing::{drain_processors, in_child, skipped};

use crate::c10::nothing_is_lost_while;
use crate::support::raw::{Raw, advise};
use crate::support::{
    assert_filled, fill, filled, is_filled, is_zero, lost_pages, memory, page_of, quiet_heap,
};

const MADV_COLLAPSE: i32 = 25;
const HUGE_PAGES: usize = HUGE_PAGE_BYTES / PAGE_BYTES;
const NO_HUGE_PAGES: &str = "the kernel has no huge pages to give";
/// What is offered of a huge page.
const PART: std::ops::Range<usize> = 100..200;

/// Does as much of the span lie in huge pages as can? The kernel tells of whole mappings, and makes one of those that lie side by
/// side: where the answer matters, other tests must not map memory, so that is for a process of a test's own.
fn is_in_huge_pages(span: Span) -> bool {
    memory::huge_kib(span) >= (span.pages() / HUGE_PAGES * HUGE_PAGE_BYTES / 1024) as u64
}

/// How often this machine had no huge page to give.
fn fallbacks() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").expect("a mounted /proc");
    let count = text.lines().find_map(|line| line.strip_prefix("thp_fault_fallback "));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Memory without the library, filled, in a huge page if the kernel has one to give.
struct HugePage(Raw);

impl HugePage {
    fn new() -> Self {
        // Room for one that is aligned.
        let mut page = Self(Raw::new(2 * HUGE_PAGES));
        page.0.advise(libc::MADV_HUGEPAGE).expect("advice that changes no contents");
        fill(page.bytes_mut(), 1);
        page
    }

    /// The part of the mapping that can be in a huge page.
    fn span(&self) -> Span {
        let all = self.0.span();
        let first = all.address().next_multiple_of(HUGE_PAGE_BYTES) - all.address();
        all.slice(first / PAGE_BYTES, HUGE_PAGES)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let first = self.span().address() - self.0.span().address();
        &mut self.0.bytes_mut()[first..first + HUGE_PAGE_BYTES]
    }

    fn bytes(&self) -> &[u8] {
        let first = self.span().address() - self.0.span().address();
        &self.0.bytes()[first..first + HUGE_PAGE_BYTES]
    }
}

#[test]
fn c10_large_ranges_lie_in_huge_pages_and_small_ones_do_not() {
    in_child(|| {
        if !is_in_huge_pages(HugePage::new().span()) {
            return skipped(NO_HUGE_PAGES);
        }
        let refused = fallbacks();
        let heap = quiet_heap();
        // Side by side they would fill huge pages.
        let small: Vec<_> = (0..9).map(|seed| filled(&heap, HUGE_PAGES - 1, seed)).collect();
        for buffer in &small {
            assert_eq!(memory::huge_kib(memory::span(buffer)), 0);
        }
        for pages in [HUGE_PAGES, HUGE_PAGES + 1, 3 * HUGE_PAGES] {
            let large = filled(&heap, pages, 1);
            let span = memory::span(&large);
            assert!(span.address().is_multiple_of(HUGE_PAGE_BYTES));
            if fallbacks() > refused {
                return skipped(NO_HUGE_PAGES);
            }
            assert!(is_in_huge_pages(span), "{pages} pages, {} KiB in huge ones", memory::huge_kib(span));
        }
    });
}

/// An offer of a part splits a huge page. What was taken is reported, page by page, and nothing else is.
#[test]
fn c10_a_mark_on_a_part_of_a_huge_page_loses_no_more_than_that() {
    in_child(|| {
        for is_adopted in [false, true] {
            let page = HugePage::new();
            let span = page.span();
            if !is_in_huge_pages(span) {
                return skipped(NO_HUGE_PAGES);
            }
            drain_processors();
            offer_part(span, is_adopted);
            drain_processors();
            memory::page_out_everywhere(span);
            assert!(!is_in_huge_pages(span), "it was split");
            let lost = unmark_part(span, is_adopted);
            println!("adopted: {is_adopted}, {} pages lost", lost.len());
            assert!(!lost.is_empty(), "nothing was taken, so nothing was tested");
            for at in 0..HUGE_PAGES {
                let is_right =
                    if lost.contains(&at) { is_zero } else { |bytes: &[u8], at| is_filled(bytes, at, 1) };
                assert!(is_right(page.bytes(), at), "page {at}, lost: {}", lost.contains(&at));
            }
            assert!(lost.iter().all(|page| PART.contains(page)), "{lost:?}");
        }
    });
}

fn part(span: Span) -> (*mut u8, usize) {
    let part = span.slice(PART.start, PART.len());
    (with_exposed_provenance_mut(part.address()), part.bytes())
}

fn offer_part(span: Span, is_adopted: bool) {
    let (start, bytes) = part(span);
    if is_adopted {
        let all = with_exposed_provenance_mut(span.address());
        // SAFETY: private, anonymous, readable and writable; forgotten before it is unmapped.
        unsafe { raw::adopt(all, span.bytes()) }.expect("to be adopted");
    }
    // SAFETY: the test does not touch the pages until they are unmarked.
    unsafe { raw::mark(start, bytes) }.expect("a mark");
    if is_adopted {
        raw::offer(u64::MAX).expect("an offer");
    }
}

/// Returns which pages of the huge one were lost.
fn unmark_part(span: Span, is_adopted: bool) -> BTreeSet<usize> {
    let (start, bytes) = part(span);
    let mut lost = BTreeSet::new();
    // SAFETY: nobody stores to the pages meanwhile.
    let unmarked = unsafe {
        raw::unmark_each(start, bytes, |page| {
            lost.insert(PART.start + page);
        })
    };
    unmarked.expect("the end of a mark");
    if is_adopted {
        raw::forget(with_exposed_provenance_mut(span.address()), span.bytes()).expect("to be forgotten");
    }
    lost
}

/// The control: one note for the whole huge page, as it was when the page was offered.
#[test]
fn control_one_note_for_a_huge_page_misses_what_was_taken_out_of_it() {
    let page = HugePage::new();
    let span = page.span();
    if !is_in_huge_pages(span) {
        return skipped(NO_HUGE_PAGES);
    }
    drain_processors();
    let part = span.slice(PART.start, PART.len());
    advise(part, libc::MADV_FREE).expect("MADV_FREE");
    memory::take_span(part);
    assert!(page_of(page.bytes(), 0)[0] != 0, "the word that was noted is there");
    let gone = (0..HUGE_PAGES).filter(|at| is_zero(page.bytes(), *at)).count();
    assert_eq!(gone, PART.len(), "and these pages are not");
}

#[test]
fn c10_huge_pages_that_are_split_or_made_while_offered_are_no_loss() {
    let (made, split) = (AtomicUsize::new(0), AtomicUsize::new(0));
    nothing_is_lost_while(|buffers| {
        for buffer in buffers {
            let span = memory::span(buffer);
            // Advice to a part of a huge page that changes nothing but splits it; then the kernel makes it whole again.
            for advice in [libc::MADV_DODUMP, libc::MADV_DONTDUMP] {
                advise(span.slice(span.pages() / 2, 1), advice).expect("advice that keeps contents");
            }
            let is_large = span.pages() >= HUGE_PAGES;
            split.fetch_add(usize::from(is_large && !is_in_huge_pages(span)), Ordering::Relaxed);
            // Small ranges are closed to huge pages, and the kernel may be out of them.
            let _ = advise(span, MADV_COLLAPSE);
            made.fetch_add(usize::from(is_large && is_in_huge_pages(span)), Ordering::Relaxed);
        }
    });
    let (made, split) = (made.into_inner(), split.into_inner());
    println!("made {made}, found split {split}");
    if made == 0 || split == 0 {
        skipped(&format!("huge pages were made {made} times, and {split} times were there none"));
    }
}

/// The kernel may copy what is left of an offered range into a huge page. What was taken before stays lost, the rest is there.
#[test]
fn c10_a_collapse_of_a_partly_taken_range_hides_no_loss() {
    let heap = quiet_heap();
    let pages = 2 * HUGE_PAGES;
    let mut buffer = filled(&heap, pages, 1);
    let taken: BTreeSet<usize> = (0..pages).filter(|page| page % 100 == 7).collect();
    for seed in 1..6 {
        assert!(buffer.offer());
        for page in &taken {
            memory::take(&buffer, *page..page + 1);
        }
        let collapsed = advise(memory::span(&buffer), MADV_COLLAPSE).is_ok();
        println!("collapsed: {collapsed}");
        assert_eq!(lost_pages(&buffer), taken);
        let Pinned::Purged(purged) = buffer.pin_mut() else { panic!("reported until acknowledged") };
        let guard = purged.refill(|bytes, _| fill(bytes, seed));
        assert_filled(&guard, seed);
    }
}

/// A single page of a huge one is taken: the others, of the same page before the split, are there.
#[test]
fn c10_a_page_taken_out_of_a_huge_page_is_one_page() {
    in_child(|| {
        let heap = quiet_heap();
        let buffer = filled(&heap, 3 * HUGE_PAGES, 1);
        let span = memory::span(&buffer);
        if !is_in_huge_pages(span) {
            return skipped(NO_HUGE_PAGES);
        }
        assert!(buffer.offer());
        memory::take(&buffer, HUGE_PAGES + 5..HUGE_PAGES + 6);
        assert!(!is_in_huge_pages(span), "a page went, so its huge page was split");
        assert_eq!(lost_pages(&buffer), BTreeSet::from([HUGE_PAGES + 5]));
    });
}
