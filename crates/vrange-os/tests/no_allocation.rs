//! Reading how short memory is must not need memory: after opening, no reader allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use vrange_os::cgroup::quota::CpuQuota;
use vrange_os::cgroup::v1::PressureEvents;
use vrange_os::cgroup::{Controller, Hierarchies};
use vrange_os::kernel_file::{BUFFER_BYTES, Root};
use vrange_os::meminfo::MemInfoFile;
use vrange_os::poll::{PollFd, PollFlags, poll};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts what the current thread allocates.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local without a destructor,
// which neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about `layout` is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `alloc` above with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn no_reader_allocates() {
    let mut buffer = [0; BUFFER_BYTES];
    let meminfo = MemInfoFile::open(&Root::real()).expect("/proc is mounted");
    let hierarchies = Hierarchies::read(&Root::real());
    let memory = hierarchies.as_ref().ok().and_then(|all| all.group_of(Controller::Memory).ok());
    let cpu = hierarchies.as_ref().ok().and_then(|all| all.group_of(Controller::Cpu).ok());
    let levels = memory.map(|group| group.memory_levels(true).0).unwrap_or_default();
    let quota = cpu.map(|group| CpuQuota::open(&group).0).unwrap_or_default();
    let events = PressureEvents::new().expect("an eventfd");

    assert!(allocations_of(|| drop(Box::new(buffer))) > 0, "the counter counts");
    let count = allocations_of(|| {
        let _ = meminfo.read(&mut buffer);
        for level in &levels {
            let _ = level.read(&mut buffer);
            let _ = level.hierarchical_limit_bytes(&mut buffer);
        }
        let _ = quota.read();
        let _ = poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(Duration::ZERO));
        let _ = events.take();
    });
    assert_eq!(count, 0);
}
