//! Large blocks in huge pages: mimalloc's own arenas ask for them, so ours do.

use vrange_os::linux::Linux;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::{alone, skipped};

use crate::support::{Allocator, run};

#[test]
fn large_blocks_come_to_lie_in_huge_pages() {
    let _alone = alone();
    let word = 0u64;
    let page = Span::new((&raw const word).addr() / PAGE_BYTES * PAGE_BYTES, 1);
    if Linux::get().expect("pages of this size").count_small_pages(page).is_err() {
        return skipped("this kernel does not tell what is in huge pages");
    }
    let ran = run(Allocator::Mimalloc.run("huge_pages", &["20"]));
    if !ran.is_skipped() {
        ran.said("in huge pages").marked();
    }
}

#[test]
fn control_without_huge_pages_there_are_none() {
    let _alone = alone();
    let mut command = Allocator::Mimalloc.run("huge_pages", &["2"]);
    command.env("MIMALLOC_ALLOW_THP", "0");
    let ran = run(command);
    assert!(ran.is_skipped() || !ran.status.success() && ran.said.contains("only 0 MiB of 64"), "{ran}");
}
