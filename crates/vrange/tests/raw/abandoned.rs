//! Memory that is taken back from the library in the middle of its marks, before a call that changes the mapping.

use std::sync::atomic::{AtomicBool, Ordering};

use vrange::raw;
use vrange_os::PAGE_BYTES;
use vrange_testing::StopAtEnd;

use crate::support::{BLOCK, Mapping};

const PAGES: usize = 100;

fn abandon(memory: &Mapping, pages: std::ops::Range<usize>) {
    // SAFETY: memory of the test, readable and writable; marked pages are not used.
    unsafe { raw::abandon(memory.at_page(pages.start), pages.len() * PAGE_BYTES) }.expect("to be abandoned");
}

#[test]
fn c03_what_was_lost_before_is_told_afterwards() {
    let memory = Mapping::adopted(PAGES);
    memory.fill(0..PAGES, 1);
    memory.mark(0..PAGES);
    memory.offer();
    memory.take(0..30);
    abandon(&memory, 10..PAGES);
    memory.take(0..PAGES);
    memory.assert_filled(30..PAGES, 1);
    assert_eq!(memory.unmark(0..PAGES), (0..30).collect::<Vec<_>>(), "told once");
    assert_eq!(memory.unmark(0..PAGES), [], "and not again");
}

#[test]
fn c03_a_loss_moves_with_its_memory() {
    let memory = Mapping::adopted(PAGES);
    memory.fill(0..PAGES, 1);
    raw::set_lost(memory.at_page(7), 2 * PAGE_BYTES).expect("a range");
    assert_eq!(memory.unmark(0..PAGES), [7, 8]);
    memory.take(0..PAGES);
    memory.assert_filled(0..PAGES, 1);
}

#[test]
fn c05_nothing_is_offered_any_more() {
    let memory = Mapping::adopted(PAGES);
    memory.fill(0..PAGES, 1);
    memory.mark(0..PAGES);
    abandon(&memory, 0..PAGES);
    memory.fill(0..PAGES, 500);
    memory.offer();
    memory.take(0..PAGES);
    memory.assert_filled(0..PAGES, 500);
}

/// A mapping is larger than what of it is unmapped: the rest stays as it was, and can be given back.
#[test]
fn c13_the_rest_of_a_block_stays_adopted() {
    let memory = Mapping::adopted(3 * BLOCK);
    memory.fill(0..3 * BLOCK, 1);
    memory.mark(0..3 * BLOCK);
    abandon(&memory, BLOCK + 5..BLOCK + 6);
    memory.offer();
    memory.take(0..3 * BLOCK);
    memory.assert_filled(BLOCK + 5..BLOCK + 6, 1);
    assert_eq!(memory.unmark(0..3 * BLOCK).len(), 3 * BLOCK - 1);
}

/// One thread has all memory abandoned, as `mlockall` does, while another marks pages of the same memory and uses them.
#[test]
fn c05_beside_a_thread_that_abandons_everything_marks_are_true() {
    let memory = Mapping::adopted(PAGES);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&over);
        scope.spawn(|| {
            // Relaxed: it only ends the loop.
            while !over.load(Ordering::Relaxed) {
                abandon(&memory, 0..PAGES);
                // SAFETY: still the same mapping. What is marked meanwhile is forgotten, so only where nothing is.
                unsafe { raw::adopt(memory.at_page(PAGES / 2), PAGES / 2 * PAGE_BYTES) }
                    .expect("to be adopted");
            }
        });
        for round in 1..2000 {
            let pages = 0..PAGES / 2;
            memory.fill(pages.clone(), round);
            memory.mark(pages.clone());
            let lost = memory.unmark(pages.clone());
            assert_eq!(lost, [], "nobody has taken anything");
            memory.take(pages.clone());
            memory.assert_filled(pages, round);
        }
    });
}
