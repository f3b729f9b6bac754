//! C4: `unpin`, and `pin` of a range that was not offered, are one or two atomic operations: no page touched, whatever the size,
//! no system call.

use std::hint::black_box;
use std::time::{Duration, Instant};

use vrange::{Buffer, Heap};
use vrange_os::PAGE_BYTES;
use vrange_testing::in_child;

use crate::support::{filled, memory, quiet_heap, seccomp};

fn pin_and_unpin(buffer: &Buffer, times: u32) {
    for _ in 0..times {
        drop(black_box(buffer.pin()));
        drop(black_box(buffer.try_pin()));
    }
}

#[test]
fn c04_pin_and_unpin_make_no_system_call() {
    in_child(|| {
        let heap = quiet_heap();
        let mut buffers = [filled(&heap, 1, 1), filled(&heap, 1100, 1)];
        seccomp::allow_only(&[libc::SYS_exit_group]);
        for buffer in &mut buffers {
            pin_and_unpin(buffer, 1000);
            (0..1000).for_each(|_| drop(black_box(buffer.pin_mut())));
        }
        // SAFETY: ends the process without the exit handlers, which would make system calls.
        unsafe { libc::_exit(0) };
    });
}

#[test]
fn c04_with_the_reclaimer_at_work_they_make_none_either() {
    in_child(|| {
        let heap = Heap::new().expect("a heap");
        // As long as this one is volatile the reclaimer does not sleep, so nobody needs to wake it.
        let _volatile = filled(&heap, 1, 1);
        let buffer = filled(&heap, 1100, 1);
        std::thread::sleep(Duration::from_millis(100));
        seccomp::allow_only(&[libc::SYS_exit_group]);
        pin_and_unpin(&buffer, 1000);
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    });
}

#[test]
fn c04_pin_and_unpin_touch_no_page() {
    let heap = quiet_heap();
    let untouched = heap.buffer(64 << 20).expect("a buffer");
    pin_and_unpin(&untouched, 1);
    assert_eq!(memory::faults_of(|| pin_and_unpin(&untouched, 100)), 0);
    assert_eq!(memory::own_pages(memory::span(&untouched)), 0);
}

/// A page that was looked at, and not only one that was faulted in, would show as referenced.
#[test]
fn c04_pin_and_unpin_do_not_even_look_at_a_page() {
    in_child(|| {
        let heap = quiet_heap();
        for pages in [300, 1100] {
            let buffer = filled(&heap, pages, 1);
            let address = memory::span(&buffer).address();
            std::fs::write("/proc/self/clear_refs", "1").expect("forget what was referenced");
            memory::forget_translations();
            pin_and_unpin(&buffer, 100);
            assert_eq!(memory::smaps_kib(address, "Referenced"), 0);
            black_box(buffer.pin().intact().expect("not offered")[0]);
            assert_ne!(memory::smaps_kib(address, "Referenced"), 0, "the kernel's field shows a single load");
        }
    });
}

/// The time of one pin and unpin, undisturbed: the best of many short runs.
fn best_time(buffer: &Buffer) -> Duration {
    const TIMES: u32 = 200;
    let run = |_| {
        let begin = Instant::now();
        (0..TIMES).for_each(|_| drop(black_box(buffer.pin())));
        begin.elapsed() / TIMES
    };
    (0..500).map(run).min().expect("several runs")
}

#[test]
fn c04_the_cost_does_not_depend_on_the_size() {
    let heap = quiet_heap();
    let small = filled(&heap, 1, 1);
    let large = filled(&heap, (256 << 20) / PAGE_BYTES, 1);
    let (small, large) = (best_time(&small), best_time(&large));
    // 65,536 times the pages. The bound is for noise; `vrange bench ranges` measures.
    assert!(large < small * 4, "4 KiB: {small:?}, 256 MiB: {large:?}");
}
