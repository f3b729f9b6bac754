//! Reading how short memory is must not need memory: after opening, no reader allocates.

use std::time::Duration;

use vrange_os::cgroup::quota::CpuQuota;
use vrange_os::cgroup::v1::PressureEvents;
use vrange_os::cgroup::{Controller, Hierarchies};
use vrange_os::kernel_file::{BUFFER_BYTES, Root};
use vrange_os::meminfo::MemInfoFile;
use vrange_os::poll::{PollFd, PollFlags, poll};
use vrange_testing::{CountingAllocator, allocations_of};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

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
