//! Contents that are known, so that what is kept can be checked to be what was written.

use vrange_os::PAGE_BYTES;

/// Writes one page of a buffer: its own tag, then its own byte over and over, none of them zero.
pub(crate) fn write(page: &mut [u8], buffer: usize, index: usize) {
    let tag = tag(buffer, index);
    let (head, rest) = page.split_at_mut(size_of::<u64>());
    head.copy_from_slice(&tag.to_ne_bytes());
    rest.fill(tag.to_le_bytes()[7] | 1);
}

/// Does the page hold what [`write`] wrote?
pub(crate) fn is_written(page: &[u8], buffer: usize, index: usize) -> bool {
    let tag = tag(buffer, index);
    let (head, rest) = page.split_at(size_of::<u64>());
    *head == tag.to_ne_bytes() && rest == &[tag.to_le_bytes()[7] | 1; PAGE_BYTES][..rest.len()]
}

/// Is the page all zeros?
pub(crate) fn is_zero(page: &[u8]) -> bool {
    page == &[0; PAGE_BYTES][..page.len()]
}

/// A number for each page of each buffer. (Knuth's multiplicative hash; odd, so never zero.)
fn tag(buffer: usize, index: usize) -> u64 {
    (((buffer as u64) << 32 | index as u64) << 1 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
