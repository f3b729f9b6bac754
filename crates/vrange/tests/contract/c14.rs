//! C14: where the kernel lacks a facility, or somebody forbids it, data is kept, and memory is given back later or not at all.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use vrange::{Buffer, Heap, Phase};
use vrange_os::PAGE_BYTES;
use vrange_testing::{in_child, skipped};

use crate::support::environment::{OFFERED_SOON, hide, is_root};
use crate::support::{
    SIZES_PAGES, assert_filled, fill, filled, is_zero, lost_pages, memory, quiet, quiet_heap, seccomp,
};

const MADV_DONTNEED: u32 = 4;
/// The argument of `madvise` that says what is advised.
const ADVICE: usize = 2;

/// A buffer that cannot be offered, and says so without any other consequence.
#[track_caller]
fn assert_kept(heap: &Heap, buffer: &Buffer, seed: u64) {
    assert!(!buffer.offer());
    assert_eq!(heap.offer(u64::MAX), 0);
    assert_ne!(buffer.phase(), Phase::Offered);
    memory::page_out_everywhere(memory::span(buffer));
    assert_filled(&buffer.pin().intact().expect("never offered"), seed);
}

/// Where pages cannot be dropped, a new range must read as zeros all the same.
fn assert_new_buffers_are_zeros(heap: &Heap) {
    for pages in [1, 10, 300] {
        drop(filled(heap, pages, 9));
        let mut buffer = heap.buffer(pages * PAGE_BYTES).expect("a buffer");
        let guard = buffer.pin_mut().intact().expect("new");
        assert!((0..pages).all(|page| is_zero(&guard, page)));
    }
}

#[test]
fn c14_madvise_refused_by_seccomp_keeps_the_data() {
    in_child(|| {
        let heap = quiet_heap();
        let buffers = SIZES_PAGES.map(|pages| filled(&heap, pages, 1));
        seccomp::refuse_offers(libc::EPERM);
        seccomp::refuse_with(libc::SYS_madvise, ADVICE, MADV_DONTNEED, libc::EPERM);
        for buffer in &buffers {
            assert_kept(&heap, buffer, 1);
            assert!(!buffer.release(), "nothing can be dropped either");
            assert_filled(&buffer.pin().intact().expect("never offered"), 1);
        }
        assert_eq!((heap.reclaim(u64::MAX), heap.release()), (0, 0));
        assert_new_buffers_are_zeros(&heap);
    });
}

#[test]
fn c14_a_kernel_without_offers_releases() {
    in_child(|| {
        let heap = quiet_heap();
        seccomp::refuse_offers(libc::EINVAL);
        for pages in SIZES_PAGES {
            let buffer = filled(&heap, pages, 1);
            assert_kept(&heap, &buffer, 1);
            assert!(buffer.release());
            assert_eq!(memory::own_pages(memory::span(&buffer)), 0);
            assert_eq!(lost_pages(&buffer).len(), pages);
        }
    });
}

#[test]
fn c14_without_process_madvise_ranges_are_offered_one_by_one() {
    in_child(|| {
        seccomp::refuse(libc::SYS_process_madvise, libc::EPERM);
        offer_many_small_ranges();
    });
}

#[test]
fn c14_a_process_madvise_that_goes_away_later_is_done_without() {
    in_child(|| {
        offer_many_small_ranges();
        seccomp::refuse(libc::SYS_process_madvise, libc::ENOSYS);
        offer_many_small_ranges();
    });
}

#[test]
fn c14_without_a_scan_the_page_table_is_read() {
    in_child(|| {
        seccomp::refuse(libc::SYS_ioctl, libc::ENOTTY);
        offer_many_small_ranges();
    });
}

/// Offers ranges that go to the kernel in vectors if it takes them, has some taken, and finds exactly those.
fn offer_many_small_ranges() {
    const COUNT: usize = 200;
    let heap = quiet_heap();
    let pages_of = |number: usize| 1 + number % 40;
    let taken_of = |number: usize| if number.is_multiple_of(3) { pages_of(number).div_ceil(2) } else { 0 };
    let buffers: Vec<_> = (0..COUNT).map(|number| filled(&heap, pages_of(number), number as u64)).collect();
    heap.offer(u64::MAX);
    assert!(buffers.iter().all(|buffer| buffer.phase() == Phase::Offered));
    for (number, buffer) in buffers.iter().enumerate().step_by(3) {
        memory::take(buffer, 0..taken_of(number));
    }
    for (number, buffer) in buffers.iter().enumerate() {
        assert_eq!(lost_pages(buffer), (0..taken_of(number)).collect(), "buffer {number}");
        if taken_of(number) == 0 {
            assert_filled(&buffer.pin().intact().expect("not taken"), number as u64);
        }
    }
}

#[test]
fn c14_where_the_page_table_cannot_be_read_ranges_are_released_and_not_offered() {
    if !is_root() {
        skipped("hiding /proc takes the superuser");
        return;
    }
    in_child(|| {
        let heap = quiet_heap();
        hide("/proc").expect("a mount namespace");
        for pages in SIZES_PAGES {
            let mut buffer = filled(&heap, pages, 1);
            assert!(!buffer.offer());
            assert_eq!(heap.offer(u64::MAX), 0);
            vrange_os::linux::page_out(vrange_os::Span::new(buffer.as_ptr().expose_provenance(), pages))
                .expect("MADV_PAGEOUT");
            // Of the second page nothing is left to lose.
            if let Some(second) =
                buffer.pin_mut().intact().expect("never offered").chunks_mut(PAGE_BYTES).nth(1)
            {
                second.fill(0);
            }
            assert!(buffer.release());
            let expected: BTreeSet<usize> = (0..pages).filter(|page| *page != 1).collect();
            assert_eq!(lost_pages(&buffer), expected);
        }
    });
}

#[test]
fn c14_locked_memory_is_kept_until_it_is_released() {
    let heap = quiet_heap();
    for pages in [1, 10] {
        let buffer = filled(&heap, pages, 1);
        let span = memory::span(&buffer);
        let start = std::ptr::without_provenance::<libc::c_void>(span.address());
        // SAFETY: changes nothing of the contents; the buffer lives on.
        if unsafe { libc::mlock(start, span.bytes()) } != 0 {
            skipped("RLIMIT_MEMLOCK is too low for a single buffer");
            return;
        }
        assert_kept(&heap, &buffer, 1);
        if buffer.release() {
            assert_eq!(lost_pages(&buffer).len(), pages);
        } else {
            assert_filled(&buffer.pin().intact().expect("not released"), 1);
        }
    }
    assert_new_buffers_are_zeros(&heap);
}

#[test]
fn c14_mlockall_keeps_everything() {
    in_child(|| {
        // SAFETY: no memory is accessed.
        if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } != 0 {
            skipped("RLIMIT_MEMLOCK is too low");
            return;
        }
        let heap = Heap::builder().max_unoffered(0).build_manual().expect("a heap").0;
        for pages in SIZES_PAGES {
            let buffer = filled(&heap, pages, 1);
            assert_kept(&heap, &buffer, 1);
        }
        assert_new_buffers_are_zeros(&heap);
    });
}

#[test]
fn c14_without_psi_and_cgroups_the_reclaimer_works() {
    if !is_root() {
        skipped("hiding kernel files takes the superuser");
        return;
    }
    in_child(|| {
        for directory in ["/proc/pressure", "/sys/fs/cgroup"] {
            hide(directory).expect("a mount namespace");
        }
        // A reserve that the machine cannot have: everything is offered at once.
        let heap = Heap::builder().content(OFFERED_SOON).build().expect("a heap");
        let _buffer = filled(&heap, 300, 1);
        let until = Instant::now() + Duration::from_secs(10);
        while heap.stats().offered.pages() == 0 {
            assert!(Instant::now() < until, "nothing is offered");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn c14_without_any_kernel_file_nothing_is_given_up() {
    if !is_root() {
        skipped("hiding kernel files takes the superuser");
        return;
    }
    in_child(|| {
        for directory in ["/sys", "/proc"] {
            hide(directory).expect("a mount namespace");
        }
        let (heap, mut reclaimer) = quiet(Heap::builder().reserve(u64::MAX / 4));
        let mut buffer = filled(&heap, 300, 1);
        let served = Heap::builder().reserve(u64::MAX / 4).build().expect("a heap");
        let served_buffer = filled(&served, 300, 2);
        for _ in 0..20 {
            let step = reclaimer.step();
            assert_eq!((step.offered_bytes, step.released_bytes), (0, 0));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_filled(&buffer.pin().intact().expect("kept"), 1);
        assert_filled(&served_buffer.pin().intact().expect("kept"), 2);
        fill(&mut buffer.pin_mut().intact().expect("kept"), 3);
    });
}
