//! C10: migration, compaction, KSM and huge-page splits never count as loss, and nothing that was not offered is ever lost.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vrange::{Buffer, Heap, Pinned};
use vrange_os::HUGE_PAGE_BYTES;
use vrange_os::PAGE_BYTES;
use vrange_testing::{StopAtEnd, drain_processors, is_emulated, skipped};

use crate::support::raw::advise;
use crate::support::{SIZES_PAGES, assert_filled, filled, longer, memory, quiet_heap};

const MPOL_MF_MOVE: i32 = 1 << 1;
const MADV_SOFT_OFFLINE: i32 = 101;
const HUGE_PAGES: usize = HUGE_PAGE_BYTES / PAGE_BYTES;
/// More memory, so that some of it lies where compaction makes room.
const SPREAD_PAGES: [usize; 24] = [500; 24];

/// Pins, looks at everything, unpins and offers again, while `disturb` goes on beside it. Returns how many pages were moved to
/// another place in memory meanwhile, if that can be seen.
pub(crate) fn nothing_is_lost_while(disturb: impl Fn(&[Buffer]) + Sync) -> Option<usize> {
    let heap: Heap = quiet_heap();
    let sizes_pages = SIZES_PAGES.into_iter().chain(SPREAD_PAGES);
    let buffers: Vec<Buffer> = sizes_pages.map(|pages| filled(&heap, pages, 1)).collect();
    let frames = || -> Option<Vec<Vec<u64>>> {
        buffers.iter().map(|buffer| memory::frames(memory::span(buffer))).collect()
    };
    let before = frames();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = StopAtEnd(&done);
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
                        panic!("{} pages of buffer {number} lost", purged.lost_pages())
                    }
                }
                // Some are offered and some are not, in turn.
                if (number + rounds) % 3 > 0 {
                    buffer.offer();
                }
            }
            rounds += 1;
        }
        drop(stop);
        beside.join().expect("the other thread found no mistake");
    });
    let (before, after) = (before?.concat(), frames()?.concat());
    let is_moved = |(before, after): &(&u64, &u64)| **before != 0 && **after != 0 && before != after;
    Some(before.iter().zip(&after).filter(is_moved).count())
}

/// Says that a test was skipped that has moved nothing, or cannot know.
fn expect_moves(moved_pages: Option<usize>) {
    println!("moved: {moved_pages:?}");
    match moved_pages {
        Some(0) => skipped("the kernel moved none of the pages"),
        Some(_) => {}
        None => skipped("only the superuser can see whether pages were moved"),
    }
}

#[test]
fn c10_compaction_is_no_loss() {
    let compact = || fs::write("/proc/sys/vm/compact_memory", "1");
    if let Err(error) = compact() {
        skipped(&format!("compaction cannot be asked for: {error}"));
        return;
    }
    expect_moves(nothing_is_lost_while(|_| compact().expect("it worked before")));
}

/// Where there is one node only, pages stay on it, but are isolated and put back all the same.
#[test]
fn c10_moving_pages_between_nodes_is_no_loss() {
    let nodes = nodes();
    let turn = AtomicUsize::new(0);
    let moved_pages = nothing_is_lost_while(|buffers| {
        let node = nodes[turn.fetch_add(1, Ordering::Relaxed) % nodes.len()];
        let all_nodes = [u64::MAX; 16];
        // SAFETY: the masks outlive the call; migration keeps contents.
        unsafe { libc::syscall(libc::SYS_migrate_pages, 0, 64, all_nodes.as_ptr(), all_nodes.as_ptr()) };
        for buffer in buffers {
            let span = memory::span(buffer);
            let pages: Vec<usize> =
                (0..span.pages()).map(|page| span.address() + page * PAGE_BYTES).collect();
            let targets = vec![node; pages.len()];
            let mut answers = vec![0i32; pages.len()];
            let (count, pages, targets, answers) =
                (pages.len(), pages.as_ptr(), targets.as_ptr(), answers.as_mut_ptr());
            // SAFETY: the arrays have `count` elements and outlive the call; migration keeps contents.
            unsafe { libc::syscall(libc::SYS_move_pages, 0, count, pages, targets, answers, MPOL_MF_MOVE) };
        }
    });
    match nodes.len() {
        1 => skipped("there is one node, so pages were taken off the lists and put back, and not moved"),
        _ => expect_moves(moved_pages),
    }
}

/// The numbers of this machine's memory nodes.
fn nodes() -> Vec<i32> {
    let entries = fs::read_dir("/sys/devices/system/node").into_iter().flatten();
    let number = |entry: std::io::Result<fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.strip_prefix("node")?.parse().ok()
    };
    let nodes: Vec<i32> = entries.filter_map(number).collect();
    // A kernel that knows no nodes has one.
    if nodes.is_empty() { vec![0] } else { nodes }
}

/// The kernel moves a page away from memory that it does not trust any more, one page and at once, whatever is known of it.
#[test]
fn c10_a_page_that_must_leave_its_place_is_no_loss() {
    if !is_emulated() {
        return skipped("memory would be out of use until the machine is started again");
    }
    let heap = quiet_heap();
    for is_offered in [false, true] {
        let buffer = filled(&heap, 10, 3);
        let span = memory::span(&buffer);
        drain_processors();
        if is_offered {
            assert!(buffer.offer());
            drain_processors();
        }
        let Some(before) = memory::frames(span) else {
            return skipped("only the superuser can see whether pages were moved");
        };
        if let Err(error) = advise(span.slice(4, 1), MADV_SOFT_OFFLINE) {
            return skipped(&format!("this kernel takes no page out of use: {error}"));
        }
        let after = memory::frames(span).expect("seen before");
        assert!(after[4] != 0 && after[4] != before[4], "{before:?}, {after:?}");
        assert_filled(&buffer.pin().intact().expect("moved, not lost"), 3);
    }
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
