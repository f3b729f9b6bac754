//! What the library does to the process it lives in: threads, descriptors, wake-ups, core dumps.

use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use vrange::{Buffer, Heap};
use vrange_os::PAGE_BYTES;
use vrange_testing::{alone, in_child, seccomp, skipped};

use crate::support::environment::{OFFERED_SOON, reclaimer_task, threads};
use crate::support::{filled, longer, memory};

/// The numbers in the table of descriptors that a task uses.
fn descriptors_of(task: &Path) -> Vec<String> {
    let list = fs::read_dir(task.join("fd")).expect("the list of descriptors");
    let mut names: Vec<String> =
        list.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn descriptors() -> Vec<String> {
    descriptors_of(Path::new("/proc/thread-self"))
}

/// Waits until the reclaimer has offered more than `before` pages.
fn await_offers(heap: &Heap, before: u64) {
    let until = Instant::now() + Duration::from_secs(20);
    while heap.stats().offered.pages() <= before {
        assert!(Instant::now() < until, "nothing is offered: {:?}", heap.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A field of a task's `status`.
fn status(task: &Path, field: &str) -> String {
    let text = fs::read_to_string(task.join("status")).expect("the task's status");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
    line.trim().to_owned()
}

#[test]
fn nothing_happens_before_the_first_unpin() {
    in_child(|| {
        let (threads_before, descriptors_before) = (threads(), descriptors());
        let heap = Heap::new().expect("a heap");
        let mut buffers: Vec<Buffer> =
            (1..50).map(|pages| heap.buffer(pages * PAGE_BYTES).expect("a buffer")).collect();
        let large = heap.buffer(4 << 20).expect("a buffer");
        let guards: Vec<_> =
            buffers.iter_mut().map(|buffer| buffer.pin_mut().intact().expect("new")).collect();
        drop((large, heap.clone()));
        assert_eq!((threads(), descriptors()), (threads_before, descriptors_before));
        drop(guards);
        // The first unpin starts the reclaimer.
        let _ = reclaimer_task();
    });
}

#[test]
fn a_heap_that_is_driven_by_hand_starts_no_thread_at_all() {
    in_child(|| {
        let before = threads();
        let (heap, mut reclaimer) = Heap::builder().build_manual().expect("a heap");
        let _buffer = filled(&heap, 300, 1);
        let _ = reclaimer.step();
        assert_eq!(threads(), before);
    });
}

#[test]
fn there_is_one_thread_for_all_heaps_and_it_takes_no_signals() {
    in_child(|| {
        let before = threads().len();
        let heaps: Vec<Heap> = (0..5).map(|_| Heap::new().expect("a heap")).collect();
        let _buffers: Vec<Buffer> = heaps.iter().map(|heap| filled(heap, 10, 1)).collect();
        assert_eq!(threads().len(), before + 1);
        let task = reclaimer_task();
        let blocked = u64::from_str_radix(&status(&task, "SigBlk"), 16).expect("a mask");
        let bit = |signal: i32| 1u64 << (signal - 1);
        // Two that nobody can block, and the two that glibc keeps for itself.
        let unblockable = bit(libc::SIGKILL) | bit(libc::SIGSTOP) | bit(32) | bit(33);
        assert_eq!(blocked | unblockable, u64::MAX);
        // Ours are as they were.
        assert_eq!(status(Path::new("/proc/thread-self"), "SigBlk"), "0000000000000000");
    });
}

#[test]
fn its_descriptors_are_few_and_in_a_table_of_its_own() {
    if cfg!(thread_sanitizer) {
        return skipped("ThreadSanitizer takes equal numbers in two tables for the same file");
    }
    in_child(|| {
        let before = descriptors();
        let heap = Heap::builder().content(OFFERED_SOON).build().expect("a heap");
        let _buffer = filled(&heap, 300, 1);
        await_offers(&heap, 0);
        // The unpin that starts it looks, in the program's own thread, whether pages are shared.
        let is_pagemap = |name: &String| {
            fs::read_link(format!("/proc/self/fd/{name}")).is_ok_and(|target| target.ends_with("pagemap"))
        };
        let added = descriptors().iter().filter(|name| is_pagemap(name)).count();
        assert!(added <= 1 && descriptors().len() == before.len() + added, "{:?}", descriptors());
        let own = descriptors_of(&reclaimer_task());
        assert!((1..40).contains(&own.len()), "{} descriptors", own.len());
    });
}

/// A filter may refuse what that takes.
#[test]
fn without_a_table_of_its_own_its_descriptors_are_closed_by_exec() {
    in_child(|| {
        seccomp::refuse(libc::SYS_close_range, libc::ENOSYS);
        let before = descriptors();
        let heap = Heap::builder().content(OFFERED_SOON).build().expect("a heap");
        let _buffer = filled(&heap, 300, 1);
        await_offers(&heap, 0);
        let opened: Vec<String> = descriptors().into_iter().filter(|name| !before.contains(name)).collect();
        assert!((1..40).contains(&opened.len()), "{} descriptors", opened.len());
        for name in opened {
            // The one that lists the directory is gone again.
            let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{name}")) else { continue };
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
            let flags = i32::from_str_radix(flags, 8).expect("octal");
            let target = fs::read_link(format!("/proc/self/fd/{name}")).unwrap_or_default();
            assert_ne!(flags & libc::O_CLOEXEC, 0, "{}", target.display());
        }
    });
}

/// A daemon closes whatever it finds open, and gives the numbers to files of its own.
#[test]
fn a_program_may_close_all_descriptors_and_use_their_numbers() {
    if cfg!(thread_sanitizer) {
        return skipped("ThreadSanitizer takes equal numbers in two tables for the same file");
    }
    in_child(|| {
        let heap = Heap::builder().content(OFFERED_SOON).build().expect("a heap");
        let buffer = filled(&heap, 300, 1);
        await_offers(&heap, 0);
        // SAFETY: this process needs none of them any more.
        assert_eq!(unsafe { libc::close_range(3, u32::MAX, 0) }, 0);
        let mut files: Vec<fs::File> = (0..40).map(|_| tempfile::tempfile().expect("a file")).collect();
        files.iter_mut().for_each(|file| file.write_all(b"the program's own").expect("room"));
        // Asleep and awake again, some times.
        for pages in 1..4 {
            assert!(!buffer.pin().is_purged(), "there is memory enough");
            std::thread::sleep(Duration::from_millis(50));
            let offered = heap.stats().offered.pages();
            drop(filled(&heap, pages, 1));
            await_offers(&heap, offered);
        }
        for file in &mut files {
            assert_eq!(file.stream_position().expect("a position"), 17);
            file.rewind().expect("a file");
            let mut text = String::new();
            file.read_to_string(&mut text).expect("text");
            assert_eq!(text, "the program's own");
        }
    });
}

/// How often the thread has been put to sleep and woken, or pushed aside.
fn switches(task: &Path) -> u64 {
    ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
        .map(|field| status(task, field).parse::<u64>().expect("a count"))
        .into_iter()
        .sum()
}

/// Waits until the reclaimer has gone to sleep, and sees that it does not wake up.
fn assert_parked() {
    let task = reclaimer_task();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let before = switches(&task);
        std::thread::sleep(Duration::from_millis(1500));
        if switches(&task) == before {
            return;
        }
        assert!(Instant::now() < until, "the reclaimer goes on waking up with nothing to do");
    }
}

#[test]
fn the_reclaimer_sleeps_as_long_as_nothing_is_volatile() {
    in_child(|| {
        let _alone = alone();
        let heap = Heap::new().expect("a heap");
        let buffer = filled(&heap, 300, 1);
        let guard = buffer.pin();
        assert_parked();
        drop(guard);
        let task = reclaimer_task();
        let before = switches(&task);
        while switches(&task) == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Released, there is nothing to look after either; nor when the heap is gone.
        assert!(buffer.release());
        assert_parked();
        drop((buffer, heap));
        assert_parked();
    });
}

/// Processor time of a thread so far (the first number of `schedstat`).
fn processor_time(task: &Path) -> Duration {
    let text = fs::read_to_string(task.join("schedstat")).expect("schedstat");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
}

#[test]
fn with_a_gibibyte_volatile_and_memory_plentiful_it_takes_next_to_nothing() {
    in_child(|| {
        let _alone = alone();
        let heap = Heap::new().expect("a heap");
        let _large: Vec<Buffer> = (0..15).map(|seed| filled(&heap, (64 << 20) / PAGE_BYTES, seed)).collect();
        let _small: Vec<Buffer> = (0..1024).map(|seed| filled(&heap, 16, seed)).collect();
        let task = reclaimer_task();
        std::thread::sleep(Duration::from_millis(500));
        let (begin, before) = (Instant::now(), (processor_time(&task), switches(&task)));
        std::thread::sleep(Duration::from_secs(6) * longer());
        let (elapsed, taken) = (begin.elapsed(), processor_time(&task) - before.0);
        let wake_ups = switches(&task) - before.1;
        println!("{taken:?} of processor time in {elapsed:?}, {wake_ups} wake-ups");
        // It looks once a second, and whenever the machine reports pressure, which others may cause. What that takes is
        // for `vrange bench ranges` to say; this only sees to it that it does not turn without a rest.
        assert!(taken.as_secs_f64() < 0.05 * elapsed.as_secs_f64(), "{taken:?} of {elapsed:?}");
    });
}

#[test]
fn buffers_are_left_out_of_core_dumps_unless_asked_for() {
    for included in [false, true] {
        let (heap, _reclaimer) = Heap::builder().core_dump(included).build_manual().expect("a heap");
        for pages in [10, 1100] {
            let buffer = filled(&heap, pages, 1);
            let flags = memory::smaps(memory::span(&buffer).address(), "VmFlags");
            assert_eq!(flags.split_whitespace().any(|flag| flag == "dd"), !included, "{flags}");
        }
    }
}
