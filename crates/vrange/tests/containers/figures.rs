//! The figures of a container, as the kubelet and cAdvisor take them from its memory cgroup.

use std::fs;

use vrange_os::cgroup::Version;
use vrange_testing::MemoryGroup;

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    /// `container_memory_usage_bytes`: what is charged to the group.
    pub(crate) usage: u64,
    /// `container_memory_working_set_bytes`: usage less the inactive list of file pages. It is what eviction and `kubectl top` go by.
    pub(crate) working_set: u64,
    /// `container_memory_rss`: anonymous memory.
    pub(crate) rss: u64,
}

impl Figures {
    #[track_caller]
    pub(crate) fn of(group: &MemoryGroup) -> Self {
        let (usage, inactive, anonymous) = match group.version() {
            Version::V1 => ("memory.usage_in_bytes", "total_inactive_file", "total_rss"),
            Version::V2 => ("memory.current", "inactive_file", "anon"),
        };
        let read = |file: &str| fs::read_to_string(group.directory().join(file)).expect("the group's files");
        let usage: u64 = read(usage).trim().parse().expect("a number");
        let text = read("memory.stat");
        let number = |key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {key}: {text}"))
        };
        Self { usage, working_set: usage.saturating_sub(number(inactive)), rss: number(anonymous) }
    }
}
