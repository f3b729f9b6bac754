//! The lever that makes the kernel take offered pages.

use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::on_each_processor;

/// Numbers of the pages that these bytes lie on.
pub(crate) fn pages_of(bytes: &[u8]) -> std::ops::Range<usize> {
    let start = bytes.as_ptr().addr();
    start / PAGE_BYTES..(start + bytes.len().max(1)).div_ceil(PAGE_BYTES)
}

/// Has the kernel look at a page of volatile memory, and take it if it was offered. On this processor alone: a page that waits in
/// a list of another one's stays.
pub(crate) fn press(page: usize) {
    // Where nothing is mapped any more, there is nothing to take.
    let _ = page_out(Span::new(page * PAGE_BYTES, 1));
}

/// As [`press`], wherever they wait.
pub(crate) fn press_everywhere(pages: &[usize]) {
    on_each_processor(|| pages.iter().for_each(|page| press(*page)));
}
