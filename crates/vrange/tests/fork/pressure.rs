//! What processes share, in a memory cgroup that runs short: the kernel frees a page only where every process that maps it has
//! offered it.

use rustix::mm::{Advice, madvise};
use vrange::{Buffer, Heap, Phase};
use vrange_os::PAGE_BYTES;
use vrange_os::cgroup::Version;
use vrange_testing::{MemoryGroup, alone, drain_processors, in_child, skipped};

use crate::support::{
    Child, Line, byte_of, eventually, fill_and_hold, filled, fork, lost_pages, quiet_heap, reclaimers, span,
};

const MIB: usize = 1 << 20;
const LIMIT_MIB: usize = 128;
/// What parent and child share.
const SHARED_MIB: usize = 64;
/// More than fits beside what is shared.
const TOO_MUCH_MIB: usize = 100;
/// Fits, but leaves less than any reserve.
const NEARLY_ALL_MIB: usize = LIMIT_MIB - SHARED_MIB - 8;

/// Has a process do `job` in a group of its own, and returns it with the group.
fn in_group(job: impl FnOnce(&Line)) -> Option<(Child, MemoryGroup)> {
    let group = match MemoryGroup::make("fork", (LIMIT_MIB * MIB) as u64) {
        Ok(group) => group,
        Err(why) => {
            skipped(&why);
            return None;
        }
    };
    let child = fork(|line| {
        std::fs::write(group.entry(), "0").expect("a group of ours");
        job(line);
    });
    Some((child, group))
}

/// Ordinary memory, in use.
fn fault_in(mib: usize) -> Vec<Vec<u8>> {
    (0..mib).map(|number| vec![u8::try_from(number % 255).expect("a byte") + 1; MIB]).collect()
}

fn shared_buffers(heap: &Heap) -> Vec<Buffer> {
    (0..SHARED_MIB).map(|_| filled(heap, MIB / PAGE_BYTES, 1)).collect()
}

/// Starts the reclaimer of this process.
fn begin_to_reclaim(heap: &Heap) {
    drop(filled(heap, 1, 1));
    eventually("a reclaimer", || reclaimers() == 1);
}

/// Pages offered so far. (On a busy machine the reclaimer may begin before memory is short.)
fn offered_pages(heap: &Heap) -> u64 {
    heap.stats().offered.pages()
}

fn is_offered(buffer: &Buffer) -> bool {
    buffer.phase() == Phase::Offered
}

fn lost_in(buffers: &[Buffer]) -> usize {
    buffers.iter().map(|buffer| lost_pages(buffer, 1).len()).sum()
}

#[test]
fn c09_what_is_volatile_in_one_process_only_is_kept() {
    in_child(|| {
        let _alone = alone();
        let job = |_: &Line| {
            let heap = Heap::new().expect("a heap");
            let buffers = shared_buffers(&heap);
            let child = fork(|line| {
                // Before there is a reclaimer: otherwise, if memory is short already, both may offer until then.
                let pins: Vec<_> = buffers.iter().map(Buffer::pin).collect();
                begin_to_reclaim(&heap);
                line.signal();
                line.wait();
                drop(pins);
                line.signal();
                eventually("the child offers it", || buffers.iter().any(is_offered));
                line.signal();
                line.wait();
            });
            child.line.wait();
            let before = offered_pages(&heap);
            let used = fault_in(NEARLY_ALL_MIB);
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert_eq!(offered_pages(&heap), before);
            child.line.signal();
            child.line.wait();
            // Now it is volatile in both, and memory is still short: both offer, whoever sees that first.
            eventually("the parent offers it", || buffers.iter().any(is_offered));
            child.line.wait();
            drop(used);
            child.line.signal();
            child.finish();
        };
        let Some((parent, group)) = in_group(job) else { return };
        parent.finish();
        assert_eq!(group.oom_kills(), 0);
    });
}

/// Has the kernel reclaim what it can of the group without anybody being killed, and leaves the limit as it was.
fn reclaim(group: &MemoryGroup) {
    let wanted_bytes = group.usage_bytes() - (SHARED_MIB * MIB / 2) as u64;
    match group.version() {
        // Answers EBUSY where not all of it could be reclaimed, and leaves the limit.
        Version::V1 => drop(group.set_limit(wanted_bytes)),
        Version::V2 => group.set_high(wanted_bytes).expect("version 2 has it"),
    }
    group.set_limit((LIMIT_MIB * MIB) as u64).expect("more than is used");
    if group.version() == Version::V2 {
        group.set_high(1 << 40).expect("version 2 has it");
    }
}

/// How many of the buffers begin with a zero, which is not what was written.
fn zeroed(buffers: &[Buffer]) -> usize {
    let is_zeroed = |buffer: &&Buffer| {
        let first = buffer.as_ptr();
        // SAFETY: mapped as long as the buffer; volatile, because the kernel changes it.
        unsafe { first.read_volatile() == 0 }
    };
    buffers.iter().filter(is_zeroed).count()
}

/// Otherwise the one that offers loses everything, and gains nothing.
#[test]
fn control_what_one_process_offers_is_lost_and_not_freed() {
    in_child(|| {
        let _alone = alone();
        let job = |test: &Line| {
            let (heap, _reclaimer) = quiet_heap();
            let buffers = shared_buffers(&heap);
            let pins: Vec<_> = buffers.iter().map(Buffer::pin).collect();
            let _child = fork(|line| line.wait());
            drain_processors();
            for buffer in &buffers {
                let pages = span(buffer);
                let address = std::ptr::without_provenance_mut(pages.address());
                // SAFETY: memory of this process, whose contents are lost without anybody looking.
                unsafe { madvise(address, pages.bytes(), Advice::LinuxFree) }.expect("MADV_FREE");
            }
            drain_processors();
            test.signal();
            test.wait();
            test.say(&zeroed(&buffers).to_ne_bytes());
            test.wait();
            drop((fault_in(TOO_MUCH_MIB), pins));
        };
        let Some((parent, group)) = in_group(job) else { return };
        parent.line.wait();
        let before_bytes = group.usage_bytes();
        reclaim(&group);
        let freed_bytes = before_bytes.saturating_sub(group.usage_bytes());
        parent.line.signal();
        let lost = usize::from_ne_bytes(parent.line.hear());
        println!("{lost} of {SHARED_MIB} buffers lost, {freed_bytes} bytes freed");
        assert!(lost > SHARED_MIB / 2, "{lost} buffers lost");
        // The kernel's count is late by some pages a processor.
        assert!(freed_bytes < MIB as u64, "{freed_bytes} bytes freed");
        assert_eq!(group.oom_kills(), 0);
        parent.line.signal();
        parent.end();
        assert!(group.oom_kills() >= 1);
    });
}

#[test]
fn c09_what_nobody_has_made_volatile_is_kept() {
    in_child(|| {
        let _alone = alone();
        let job = |_: &Line| {
            let heap = Heap::new().expect("a heap");
            let mut buffers: Vec<Buffer> =
                (0..SHARED_MIB).map(|_| heap.buffer(MIB).expect("a buffer")).collect();
            let pins: Vec<_> = buffers.iter_mut().map(|buffer| fill_and_hold(buffer, 1)).collect();
            let are_filled = || {
                pins.iter().all(|bytes| {
                    bytes
                        .chunks(PAGE_BYTES)
                        .enumerate()
                        .all(|(page, bytes)| *bytes == [byte_of(page, 1); PAGE_BYTES])
                })
            };
            let child = fork(|line| {
                begin_to_reclaim(&heap);
                line.signal();
                line.wait();
                assert!(are_filled());
            });
            child.line.wait();
            let used = fault_in(NEARLY_ALL_MIB);
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert_eq!(heap.stats().pinned.ranges, SHARED_MIB as u64);
            drop(used);
            child.line.signal();
            child.finish();
            assert!(are_filled());
        };
        let Some((parent, group)) = in_group(job) else { return };
        parent.finish();
        assert_eq!(group.oom_kills(), 0);
    });
}

/// The same, with more than fits: nothing can be freed, so somebody is killed.
#[test]
fn control_what_nobody_offers_is_not_freed() {
    in_child(|| {
        let _alone = alone();
        let job = |_: &Line| {
            let (heap, _reclaimer) = quiet_heap();
            let _buffers = shared_buffers(&heap);
            let _child = fork(|line| line.wait());
            drop(fault_in(TOO_MUCH_MIB));
        };
        let Some((parent, group)) = in_group(job) else { return };
        parent.end();
        assert!(group.oom_kills() >= 1);
    });
}

#[test]
fn c09_what_is_volatile_in_all_is_freed() {
    in_child(|| {
        let _alone = alone();
        let job = |_: &Line| {
            let heap = Heap::new().expect("a heap");
            let buffers = shared_buffers(&heap);
            let child = fork(|line| {
                begin_to_reclaim(&heap);
                line.signal();
                line.wait();
                line.say(&lost_in(&buffers).to_ne_bytes());
                line.wait();
            });
            child.line.wait();
            let used = fault_in(TOO_MUCH_MIB);
            child.line.signal();
            let lost = (lost_in(&buffers), usize::from_ne_bytes(child.line.hear()));
            // What each has kept it has taken back, and so it is its own; what is freed, both have lost.
            let freed = (SHARED_MIB + TOO_MUCH_MIB - LIMIT_MIB) * MIB / PAGE_BYTES;
            assert!(lost.0 >= freed && lost.1 >= freed, "{lost:?} pages lost, {freed} were needed");
            child.line.signal();
            child.finish();
            drop(used);
        };
        let Some((parent, group)) = in_group(job) else { return };
        parent.finish();
        assert_eq!(group.oom_kills(), 0);
    });
}

/// A child that never uses what it inherited does not offer it either, so it is worth nothing to lose it in the parent.
#[test]
fn c09_beside_an_idle_child_nothing_is_lost_in_vain() {
    in_child(|| {
        let _alone = alone();
        let job = |_: &Line| {
            let heap = Heap::new().expect("a heap");
            let buffers = shared_buffers(&heap);
            let child = fork(|line| line.wait());
            let before = offered_pages(&heap);
            let used = fault_in(NEARLY_ALL_MIB);
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert_eq!(offered_pages(&heap), before);
            child.line.signal();
            child.finish();
            eventually("the pages are the parent's own", || buffers.iter().any(is_offered));
            let more = fault_in(TOO_MUCH_MIB - NEARLY_ALL_MIB);
            assert!(lost_in(&buffers) > 0);
            drop((used, more));
        };
        let Some((parent, group)) = in_group(job) else { return };
        parent.finish();
        assert_eq!(group.oom_kills(), 0);
    });
}
