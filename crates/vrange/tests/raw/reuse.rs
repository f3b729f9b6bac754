//! C11 and the danger of every offer that comes later: a marked range is unmapped, its address is given to new live data, and
//! the offer destroys that. For each way in which this can happen: new data is never lost.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{MapFlags, MremapFlags, ProtFlags, mmap_anonymous, mremap, munmap};
use vrange::raw;
use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::StopAtEnd;

use crate::support::{Mapping, offer_all};

const PAGES: usize = 64;
const BYTES: usize = PAGES * PAGE_BYTES;

/// Writes new data to memory that lies where marked memory was, has everything offered and taken, and looks.
#[track_caller]
fn assert_new_data_stays(memory: &Mapping) {
    memory.fill(0..PAGES, 1000);
    offer_all();
    memory.take(0..PAGES);
    memory.assert_filled(0..PAGES, 1000);
    assert_eq!(memory.unmark(0..PAGES), []);
}

#[test]
fn c11_unmapped_and_mapped_again() {
    for offered in [false, true] {
        let old = Mapping::adopted(PAGES);
        old.fill(0..PAGES, 1);
        old.mark(0..PAGES);
        if offered {
            offer_all();
        }
        let base = old.base();
        drop(old);
        assert_new_data_stays(&Mapping::at(base, PAGES));
    }
}

/// A mapping is made over the marked one, in one call.
#[test]
fn c11_mapped_over() {
    let old = Mapping::adopted(PAGES);
    old.fill(0..PAGES, 1);
    old.mark(0..PAGES);
    raw::forget(old.base(), BYTES).expect("to be forgotten");
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
    // SAFETY: over a mapping of the test.
    let new = unsafe { mmap_anonymous(old.base().cast(), BYTES, protection, flags) };
    assert_eq!(new.expect("address space").cast::<u8>(), old.base());
    assert_new_data_stays(&old);
}

/// What was offered is taken back before it moves; its contents are found at the new place, and the old one is free for others.
#[test]
fn c11_moved_away() {
    let old = Mapping::adopted(PAGES);
    old.fill(0..PAGES, 1);
    old.mark(0..PAGES);
    offer_all();
    // SAFETY: adopted memory of the test.
    unsafe { raw::abandon(old.base(), BYTES) }.expect("to be taken back");
    let elsewhere = Mapping::new(PAGES);
    let fixed = MremapFlags::MAYMOVE;
    // SAFETY: both are the test's, and nobody uses them.
    let moved =
        unsafe { rustix::mm::mremap_fixed(old.base().cast(), BYTES, BYTES, fixed, elsewhere.base().cast()) };
    assert_eq!(moved.expect("to be moved").cast::<u8>(), elsewhere.base());
    page_out(elsewhere.span(0..PAGES)).expect("a reclaim");
    elsewhere.assert_filled(0..PAGES, 1);
    let base = old.leak();
    assert_new_data_stays(&Mapping::at(base, PAGES));
}

#[test]
fn c11_shrunk_and_grown_in_place() {
    let memory = Mapping::adopted(PAGES);
    memory.fill(0..PAGES, 1);
    memory.mark(0..PAGES);
    raw::forget(memory.at_page(PAGES / 2), BYTES / 2).expect("to be forgotten");
    // SAFETY: the test's own, and nobody uses the end of it.
    unsafe { mremap(memory.base().cast(), BYTES, BYTES / 2, MremapFlags::empty()) }.expect("to shrink");
    // SAFETY: as above; nothing can have come behind it in this thread, or it is refused.
    if unsafe { mremap(memory.base().cast(), BYTES / 2, BYTES, MremapFlags::empty()) }.is_ok() {
        memory.fill(PAGES / 2..PAGES, 1000);
        offer_all();
        memory.take(0..PAGES);
        memory.assert_filled(PAGES / 2..PAGES, 1000);
        assert_eq!(memory.unmark(0..PAGES), (0..PAGES / 2).collect::<Vec<_>>());
    }
}

/// glibc gives a large block back and gets the same address again, with calls that no wrapper sees. Its memory is not adopted.
#[test]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "all about the same memory, for the same reason")]
fn c11_freed_and_allocated_again_by_an_allocator_that_tells_nobody() {
    const LARGE: usize = 4 << 20;
    let mut same = 0;
    for _ in 0..20 {
        // SAFETY: plain use of the allocator; the block's whole pages are marked, and not used until it is freed.
        unsafe {
            let block = libc::malloc(LARGE).cast::<u8>();
            block.write_bytes(1, LARGE);
            let start = block.addr().next_multiple_of(PAGE_BYTES);
            let bytes = (block.addr() + LARGE) / PAGE_BYTES * PAGE_BYTES - start;
            raw::mark(block.with_addr(start), bytes).expect("a mark");
            libc::free(block.cast());
            let again = libc::malloc(LARGE).cast::<u8>();
            same += usize::from(again == block);
            again.write_bytes(2, LARGE);
            offer_all();
            raw::purge(block.with_addr(start), bytes).expect("a purge");
            // Where it gave another address, nothing may be mapped here any more.
            let _ = page_out(Span::new(start, bytes / PAGE_BYTES));
            let kept = std::slice::from_raw_parts(again, LARGE).iter().all(|byte| *byte == 2);
            assert!(kept, "new data was lost");
            libc::free(again.cast());
        }
    }
    assert!(same > 0, "the allocator never gave the same address again, so nothing was shown");
}

/// The same by system calls of the program's own.
#[test]
fn c11_unmapped_by_a_call_that_nobody_sees() {
    let old = Mapping::new(PAGES);
    old.fill(0..PAGES, 1);
    old.mark(0..PAGES);
    let new = old.replaced_unseen();
    new.fill(0..PAGES, 1000);
    offer_all();
    // SAFETY: what was written since the mark stays.
    unsafe { raw::purge(new.base(), BYTES) }.expect("a purge");
    new.take(0..PAGES);
    new.assert_filled(0..PAGES, 1000);
    assert_eq!(new.unmark(0..PAGES), []);
    new.assert_filled(0..PAGES, 1000);
}

/// The control: adopted memory, unmapped without a word, which its owner has promised not to do.
#[test]
fn c11_control_adopted_memory_that_is_unmapped_unseen_loses_new_data() {
    let old = Mapping::adopted(PAGES);
    old.fill(0..PAGES, 1);
    old.mark(0..PAGES);
    let new = old.replaced_unseen();
    new.fill(0..PAGES, 1000);
    new.offer();
    new.take(0..PAGES);
    assert!((0..PAGES).any(|page| new.read(page) == 0), "the danger is not what it was");
    raw::forget(new.base(), BYTES).expect("to be forgotten");
}

/// All the while somebody offers, memory is marked, told of, unmapped, and mapped again with new data.
#[test]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "all about the same memory, for the same reason")]
fn c11_reuse_beside_a_reclaimer_that_never_rests() {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&over);
        // Relaxed: it only ends the loop.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                offer_all();
            }
        });
        let base = Mapping::new(PAGES).leak();
        // SAFETY: the test's own; its address is used again below.
        unsafe { munmap(base.cast(), BYTES) }.expect("to be unmapped");
        for round in 0..500 {
            let memory = {
                // SAFETY: free, or refused.
                let at = unsafe {
                    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
                    mmap_anonymous(base.cast(), BYTES, ProtFlags::READ | ProtFlags::WRITE, flags)
                };
                if at.is_err() {
                    // Another test has got the address.
                    break;
                }
                base
            };
            // SAFETY: a mapping of this thread, told of before its end.
            unsafe {
                raw::adopt(memory, BYTES).expect("to be adopted");
                let words = std::slice::from_raw_parts_mut(memory.cast::<u64>(), BYTES / 8);
                words.iter_mut().step_by(512).for_each(|word| *word = round + 1);
                page_out(Span::new(memory.addr(), PAGES)).expect("a reclaim");
                assert!(words.iter().step_by(512).all(|word| *word == round + 1), "round {round}");
                raw::mark(memory, BYTES).expect("a mark");
                raw::forget(memory, BYTES).expect("to be forgotten");
                munmap(memory.cast(), BYTES).expect("to be unmapped");
            }
        }
    });
}
