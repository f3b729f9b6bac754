//! Large blocks in huge pages: mimalloc's own arenas ask for them, so ours do.

use vrange_testing::alone;

use crate::support::{Allocator, run};

#[test]
fn large_blocks_are_in_huge_pages() {
    let _alone = alone();
    let ran = run(Allocator::Mimalloc.run("huge_pages", &[]));
    if !ran.is_skipped() {
        ran.said("in huge pages").marked();
    }
}

#[test]
fn control_without_huge_pages_there_are_none() {
    let mut command = Allocator::Mimalloc.run("huge_pages", &[]);
    command.env("MIMALLOC_ALLOW_THP", "0");
    let ran = run(command);
    assert!(ran.is_skipped() || !ran.status.success() && ran.said.contains("only 0 MiB of 64"), "{ran}");
}
