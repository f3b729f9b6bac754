//! C10: migration, compaction, KSM and huge-page splits never count as loss, and nothing that was not offered is ever lost.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vrange::{Buffer, Heap, Pinned};
use vrange_os::HUGE_PAGE_BYTES;
use vrange_os::PAGE_BYTES;
use vrange_testing::skipped;

use crate::support::raw::advise;
use crate::support::{SIZES_PAGES, assert_filled, fill, filled, longer, lost_pages, memory, quiet_heap};

const MADV_COLLAPSE: i32 = 25;
const MPOL_MF_MOVE: i32 = 1 << 1;
const HUGE_PAGES: usize = HUGE_PAGE_BYTES / PAGE_BYTES;

/// Pins, looks at everything, unpins and offers again, while `disturb` goes on beside it.
fn nothing_is_lost_while(disturb: impl Fn(&[Buffer]) + Sync) {
    let heap: Heap = quiet_heap();
    let buffers: Vec<Buffer> = SIZES_PAGES.into_iter().map(|pages| filled(&heap, pages, 1)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let beside = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                disturb(&buffers);
            }
        });
        let until = Instant::now() + Duration::from_millis(700) * longer();
        let mut rounds = 0;
        while Instant::now() < until {
            for (number, buffer) in buffers.iter().enumerate() {
                match buffer.pin() {
                    Pinned::Intact(guard) => assert_filled(&guard, 1),
                    Pinned::Purged(purged) => {
                        panic!("{} pages of {} lost", purged.lost_pages(), SIZES_PAGES[number])
                    }
                }
                // Some are offered and some are not, in turn.
                if (number + rounds) % 3 > 0 {
                    buffer.offer();
                }
            }
            rounds += 1;
        }
        done.store(true, Ordering::Relaxed);
        beside.join().expect("the other thread found no mistake");
    });
}

#[test]
fn c10_compaction_is_no_loss() {
    let compact = || fs::write("/proc/sys/vm/compact_memory", "1");
    if let Err(error) = compact() {
        skipped(&format!("compaction cannot be asked for: {error}"));
        return;
    }
    nothing_is_lost_while(|_| compact().expect("it worked before"));
}

#[test]
fn c10_moving_pages_between_nodes_is_no_loss() {
    // Where there is one node only, pages stay on it, but are isolated and put back all the same.
    nothing_is_lost_while(|buffers| {
        let all_nodes = [u64::MAX; 16];
        // SAFETY: the masks outlive the call; migration keeps contents.
        unsafe { libc::syscall(libc::SYS_migrate_pages, 0, 64, all_nodes.as_ptr(), all_nodes.as_ptr()) };
        for buffer in buffers {
            let span = memory::span(buffer);
            let pages: Vec<usize> =
                (0..span.pages()).map(|page| span.address() + page * PAGE_BYTES).collect();
            let nodes = vec![0i32; pages.len()];
            let mut answers = vec![0i32; pages.len()];
            let (count, pages, nodes, answers) =
                (pages.len(), pages.as_ptr(), nodes.as_ptr(), answers.as_mut_ptr());
            // SAFETY: the arrays have `count` elements and outlive the call; migration keeps contents.
            unsafe { libc::syscall(libc::SYS_move_pages, 0, count, pages, nodes, answers, MPOL_MF_MOVE) };
        }
    });
}

#[test]
fn c10_huge_pages_that_are_split_or_made_while_offered_are_no_loss() {
    nothing_is_lost_while(|buffers| {
        for buffer in buffers {
            let span = memory::span(buffer);
            // Advice to a part of a huge page that changes nothing but splits it; then the kernel makes it whole again.
            for advice in [libc::MADV_DODUMP, libc::MADV_DONTDUMP] {
                advise(span.slice(span.pages() / 2, 1), advice).expect("advice that keeps contents");
            }
            // Small ranges are closed to huge pages, and the kernel may be out of them.
            let _ = advise(span, MADV_COLLAPSE);
        }
    });
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
    let heap = quiet_heap();
    let buffer = filled(&heap, 3 * HUGE_PAGES, 1);
    assert!(buffer.offer());
    memory::take(&buffer, HUGE_PAGES + 5..HUGE_PAGES + 6);
    assert_eq!(lost_pages(&buffer), BTreeSet::from([HUGE_PAGES + 5]));
}

/// An offer reaches exactly its own pages: neighbours in the same mapping, and memory beside it, are never taken.
#[test]
fn c10_what_was_not_offered_is_not_lost() {
    let heap = quiet_heap();
    let buffers: Vec<Buffer> = (0..60).map(|seed| filled(&heap, 1 + seed % 20, seed as u64)).collect();
    let large: Vec<Buffer> = (0..4).map(|seed| filled(&heap, HUGE_PAGES + 3, seed)).collect();
    for buffer in buffers.iter().chain(&large).step_by(2) {
        assert!(buffer.offer());
    }
    for buffer in buffers.iter().chain(&large) {
        memory::page_out_everywhere(memory::span(buffer));
    }
    for (number, buffer) in buffers.iter().enumerate().skip(1).step_by(2) {
        assert_filled(&buffer.pin().intact().expect("not offered"), number as u64);
    }
    for (number, buffer) in large.iter().enumerate().skip(1).step_by(2) {
        assert_filled(&buffer.pin().intact().expect("not offered"), number as u64);
    }
}
