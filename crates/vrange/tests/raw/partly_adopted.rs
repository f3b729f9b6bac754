//! Marks of ranges that are adopted in part.

use std::ops::Range;

use rustix::mm::mlock;
use vrange::{ErrorKind, raw};
use vrange_os::PAGE_BYTES;

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
    // SAFETY: memory of the test.
    unsafe { mlock(memory.at_page(border - 3).cast(), PAGE_BYTES) }.expect("to be locked");
    // SAFETY: as above; not used until it is unmarked.
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
