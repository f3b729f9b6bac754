//! What several processes map is offered when all of them hold it volatile, or when only one maps it any more.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vrange::{Buffer, Heap, Order, Phase, Pinned, Reclaimer};
use vrange_os::PAGE_BYTES;
use vrange_testing::{StopAtEnd, in_child};

use crate::support::{
    Child, Line, assert_intact, fill, filled, fork, lost_pages, own_pages, quiet_heap, take,
};

const PAGES: usize = 300;

/// A child that obeys: `s`: drive the reclaimer, `p`: pin for good, `o`: offer, `w`: write to all, and anything else: end.
fn obedient(buffer: &mut Buffer, reclaimer: &mut Reclaimer) -> Child {
    fork(|line| {
        loop {
            match line.hear() {
                [b'p'] => std::mem::forget(buffer.pin()),
                [b's'] => _ = reclaimer.step(),
                [b'o'] => line.say(&[u8::from(buffer.offer())]),
                [b'w'] => fill(buffer, 77),
                [_] => break,
            }
            line.signal();
        }
    })
}

fn tell(child: &Child, order: u8) {
    child.line.say(&[order]);
    child.line.wait();
}

fn ask_to_offer(child: &Child) -> bool {
    child.line.say(b"o");
    let [offered] = child.line.hear();
    child.line.wait();
    offered == 1
}

#[test]
fn c09_what_another_process_uses_is_not_offered() {
    in_child(|| {
        let (heap, mut reclaimer) = quiet_heap();
        let mut buffer = filled(&heap, PAGES, 1);
        let child = obedient(&mut buffer, &mut reclaimer);
        tell(&child, b's');
        tell(&child, b'p');
        assert!(!buffer.offer(), "the child has it pinned");
        assert_eq!((buffer.phase(), heap.offer(u64::MAX)), (Phase::Volatile, 0));
        assert_intact(&buffer, 1);
        child.kill(libc::SIGKILL);
        assert!(buffer.offer(), "the pages are the parent's alone");
        take(&buffer, 0..PAGES);
        assert_eq!(lost_pages(&buffer, 1).len(), PAGES);
    });
}

/// A range that is offered in part, and whose rest another process uses, does not have an offer try it for ever.
#[test]
fn c09_what_is_kept_in_part_does_not_stop_an_offer() {
    in_child(|| {
        let (heap, mut reclaimer) = quiet_heap();
        let mut buffer = filled(&heap, 1024, 1);
        // Released in part, which leaves the rest offered in part.
        assert!(heap.reclaim(1 << 20) < 1024 * vrange_os::PAGE_BYTES as u64);
        assert_eq!(buffer.phase(), Phase::Offered);
        let child = obedient(&mut buffer, &mut reclaimer);
        tell(&child, b's');
        tell(&child, b'p');
        heap.offer(u64::MAX);
        // The offer came to an end while the child was there, not when the child's time was over.
        tell(&child, b'p');
        child.kill(libc::SIGKILL);
    });
}

#[test]
fn c09_what_all_hold_volatile_is_offered_by_all() {
    in_child(|| {
        let (heap, mut reclaimer) = quiet_heap();
        let mut buffer = filled(&heap, PAGES, 1);
        let child = obedient(&mut buffer, &mut reclaimer);
        tell(&child, b's');
        assert!(buffer.offer(), "it is volatile in both");
        assert!(ask_to_offer(&child));
        assert_intact(&buffer, 1);
    });
}

/// Until all have offered it nothing is freed, though the kernel's lists look as if there were something to be had.
#[test]
fn c09_where_one_offers_the_others_follow() {
    in_child(|| {
        let (heap, mut reclaimer) = quiet_heap();
        let buffer = filled(&heap, PAGES, 1);
        let child = fork(|line| {
            reclaimer.step();
            assert_eq!(buffer.phase(), Phase::Volatile, "there is no need to offer");
            line.signal();
            line.wait();
            reclaimer.step();
            assert_eq!(buffer.phase(), Phase::Offered);
            assert_intact(&buffer, 1);
            reclaimer.step();
            assert_eq!(
                buffer.phase(),
                Phase::Volatile,
                "it was pinned since, so what the parent did is over"
            );
        });
        child.line.wait();
        assert!(buffer.offer());
        child.line.signal();
        child.finish();
        assert_intact(&buffer, 1);
    });
}

/// Nobody would offer what such a child maps, so to offer it elsewhere would lose it and free nothing.
#[test]
fn c09_a_child_without_a_reclaimer_keeps_what_it_shares() {
    in_child(|| {
        let (heap, mut reclaimer) = quiet_heap();
        let mut buffer = filled(&heap, PAGES, 1);
        let child = obedient(&mut buffer, &mut reclaimer);
        assert!(!buffer.offer());
        tell(&child, b's');
        assert!(buffer.offer(), "now somebody drives the child's reclaimer");
        assert_intact(&buffer, 1);
    });
}

#[test]
fn c09_pages_that_were_written_to_are_each_processs_own() {
    in_child(|| {
        let (heap, mut reclaimer) = quiet_heap();
        let mut buffer = filled(&heap, PAGES, 1);
        let child = obedient(&mut buffer, &mut reclaimer);
        tell(&child, b'w');
        assert_eq!(own_pages(&buffer), PAGES);
        assert!(buffer.offer() && ask_to_offer(&child));
        take(&buffer, 0..2);
        assert_eq!(lost_pages(&buffer, 1), BTreeSet::from([0, 1]));
    });
}

/// By a normal end, by a crash while it had the range pinned, by becoming another program.
#[test]
fn c09_a_range_is_its_parents_own_again_when_the_child_has_ended() {
    in_child(|| {
        let (heap, mut reclaimer) = quiet_heap();
        let mut buffer = filled(&heap, PAGES, 1);
        let ends: [&dyn Fn(Child); 3] = [
            &|child| child.kill(libc::SIGKILL),
            &|child| {
                tell(&child, b'p');
                child.kill(libc::SIGABRT);
            },
            &|child| {
                child.line.say(b"x");
                child.finish();
            },
        ];
        for end in ends {
            let child = obedient(&mut buffer, &mut reclaimer);
            assert!(!buffer.offer());
            end(child);
            assert!(buffer.offer());
            assert_intact(&buffer, 1);
        }
    });
}

/// Neither `vfork` nor `posix_spawn` copies memory; a `fork` that is followed by an `exec` only for a moment.
#[test]
fn c09_starting_another_program_changes_nothing() {
    use std::os::unix::process::CommandExt;
    in_child(|| {
        let (heap, _reclaimer) = quiet_heap();
        let buffer = filled(&heap, PAGES, 1);
        for forks in [false, true] {
            let mut command = Command::new("sleep");
            command.arg("60").stdout(Stdio::null());
            if forks {
                // SAFETY: it does nothing; but the standard library forks where there is such a function.
                unsafe { command.pre_exec(|| Ok(())) };
            }
            let mut program = command.spawn().expect("sleep(1)");
            assert!(buffer.offer(), "offered while the other program runs");
            assert_intact(&buffer, 1);
            program.kill().expect("our own child");
            program.wait().expect("our own child");
        }
    });
}

/// What may not be offered must not keep what may be from being offered, and the attempt ends.
#[test]
fn c09_what_is_kept_does_not_stop_the_rest() {
    in_child(|| {
        for order in [Order::ColdestFirst, Order::LatestFirst] {
            let (heap, _reclaimer) = Heap::builder().order(order).build_manual().expect("a heap");
            let mut buffers: Vec<Buffer> = (0..6).map(|_| filled(&heap, 10, 1)).collect();
            let child = fork(|line| line.wait());
            // Four are shared with a child that will not offer them, and go first; two are written to.
            let (shared, own) = buffers.split_at_mut(4);
            let mut use_in_turn: [&mut dyn FnMut(); 2] =
                [&mut || shared.iter().for_each(|buffer| assert_intact(buffer, 1)), &mut || {
                    own.iter_mut().for_each(|buffer| fill(buffer, 2));
                }];
            if order == Order::LatestFirst {
                use_in_turn.reverse();
            }
            for use_some in use_in_turn {
                use_some();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            assert_eq!(heap.offer(1), 10 * PAGE_BYTES as u64, "{order:?}");
            assert_eq!(heap.offer(u64::MAX), 10 * PAGE_BYTES as u64, "{order:?}");
            assert_eq!(heap.offer(u64::MAX), 0);
            child.line.signal();
            child.finish();
            assert_eq!(heap.offer(u64::MAX), 4 * 10 * PAGE_BYTES as u64, "{order:?}");
        }
        // An unpin that is to leave nothing volatile ends too.
        let (heap, _reclaimer) = Heap::builder().max_unoffered(0).build_manual().expect("a heap");
        let buffer = filled(&heap, 10, 1);
        assert_eq!(buffer.phase(), Phase::Offered);
        let guard = buffer.pin();
        let child = fork(|line| line.wait());
        drop(guard);
        assert_eq!(buffer.phase(), Phase::Volatile);
        child.line.signal();
        child.finish();
        drop(buffer.pin());
        assert_eq!(buffer.phase(), Phase::Offered);
    });
}

/// Other threads work on ranges while forks copy their state: what the counts say afterwards is what each process holds.
#[test]
fn c09_the_counts_are_right_whatever_other_threads_do() {
    in_child(|| check_counts(|buffer| assert_intact(buffer, 1)));
}

/// The same where ranges have no pages when the fork begins, and may have some when it is done.
#[test]
fn c09_the_counts_are_right_while_ranges_are_filled() {
    static FILLED: AtomicU64 = AtomicU64::new(1);
    in_child(|| {
        check_counts(|buffer| {
            assert!(buffer.release());
            let _pin = buffer.pin();
            let contents = FILLED.fetch_add(1, Ordering::Relaxed);
            for page in 0..2 {
                let word = buffer.as_ptr().cast_mut().wrapping_add(page * PAGE_BYTES).cast::<u64>();
                // SAFETY: pinned, aligned to a page, and no thread has a reference to the bytes.
                unsafe { word.write(contents) };
            }
        });
    });
}

fn check_counts(work: fn(&Buffer)) {
    const BUFFERS: usize = 8;
    let (heap, mut reclaimer) = quiet_heap();
    let buffers: Vec<Buffer> = (0..BUFFERS).map(|_| filled(&heap, 2, 1)).collect();
    for _ in 0..40 {
        let stop = AtomicBool::new(false);
        let children = std::thread::scope(|scope| {
            let _stop = StopAtEnd(&stop);
            for half in buffers.chunks(BUFFERS / 2) {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        half.iter().for_each(work);
                    }
                });
            }
            (0..3).map(|_| fork(|line| report_pinned(line, &buffers, &mut reclaimer))).collect::<Vec<Child>>()
        });
        for buffer in &buffers {
            // What threads that are not there any more hold in the children, for ever.
            let pinned: Vec<[u64; 2]> =
                children.iter().filter_map(|child| hear_pinned(&child.line)).collect();
            let here = first_words(buffer);
            let is_same_page = |there: &[u64; 2]| here.iter().zip(there).any(|(here, there)| here == there);
            let is_own = own_pages(buffer) == 2;
            let is_offered = buffer.offer();
            assert!(is_offered || !pinned.is_empty(), "it is volatile in all");
            assert!(!is_offered || is_own || !pinned.iter().any(is_same_page), "a child holds a page of it");
            drop(buffer.pin());
        }
        children.into_iter().for_each(|child| {
            child.line.signal();
            child.finish();
        });
        assert!(buffers.iter().all(Buffer::offer), "all children are gone");
        buffers.iter().for_each(|buffer| drop(buffer.pin()));
    }
}

/// Tells which buffers were pinned, by threads of the parent, at the moment of the fork, and what was in them.
fn report_pinned(line: &Line, buffers: &[Buffer], reclaimer: &mut Reclaimer) {
    reclaimer.step();
    for buffer in buffers {
        line.say(&[u8::from(buffer.phase() == Phase::Pinned)]);
        first_words(buffer).into_iter().for_each(|word| line.say(&word.to_ne_bytes()));
    }
    line.wait();
}

fn hear_pinned(line: &Line) -> Option<[u64; 2]> {
    let [pinned] = line.hear();
    let words = [(); 2].map(|()| u64::from_ne_bytes(line.hear()));
    (pinned == 1).then_some(words)
}

/// The first word of each of two pages.
fn first_words(buffer: &Buffer) -> [u64; 2] {
    let bytes = match buffer.pin() {
        Pinned::Intact(bytes) => bytes,
        Pinned::Purged(purged) => purged.into_guard(),
    };
    let words = bytes.as_slice_of::<u64>();
    [words[0], words[PAGE_BYTES / size_of::<u64>()]]
}

/// The counts take memory by the number of ranges that become shared, and mappings hardly at all.
#[test]
fn c09_many_forks_leave_no_mappings_behind() {
    in_child(|| {
        let (heap, _reclaimer) = quiet_heap();
        let mappings =
            || std::fs::read_to_string("/proc/self/maps").expect("the list of mappings").lines().count();
        let mut buffers: Vec<Buffer> = (0..10).map(|_| filled(&heap, 1, 1)).collect();
        fork(|_| ()).finish();
        let before = mappings();
        for _ in 0..300 {
            buffers.rotate_left(1);
            buffers[0] = filled(&heap, 1, 1);
            fork(|_| ()).finish();
        }
        assert!(mappings() <= before + 3, "{} mappings became {}", before, mappings());
    });
}

/// Several workers read the same data, and one part is changed by each: the pattern of a server that forks its workers.
#[test]
fn c09_workers_share_what_their_parent_prepared() {
    const WORKERS: u8 = 4;
    in_child(|| {
        let (heap, mut reclaimer) = quiet_heap();
        let mut buffers: Vec<Buffer> = (0..20).map(|_| filled(&heap, 20, 1)).collect();
        let workers: Vec<Child> = (0..WORKERS)
            .map(|number| {
                fork(|line| {
                    for round in 0..20 {
                        reclaimer.step();
                        for buffer in &mut buffers[1..] {
                            assert_intact(buffer, 1);
                        }
                        fill(&mut buffers[0], 100 + number);
                        buffers[0].offer();
                        heap.offer(u64::MAX);
                        assert_intact(&buffers[0], 100 + number);
                        drop(filled(&heap, 1 + round, 3));
                    }
                    line.signal();
                    line.wait();
                })
            })
            .collect();
        workers.iter().for_each(|worker| worker.line.wait());
        // All are idle and volatile everywhere, but for what a worker has rescued or written, which is its own.
        assert!(buffers.iter().all(Buffer::offer));
        buffers.iter().for_each(|buffer| assert_intact(buffer, 1));
        workers.into_iter().for_each(|worker| {
            worker.line.signal();
            worker.finish();
        });
        assert!(buffers.iter().all(Buffer::offer));
        buffers.iter().for_each(|buffer| assert_intact(buffer, 1));
    });
}
