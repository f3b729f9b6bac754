//! What the doctor looks at. Facts only; what they mean is said in [`advice`](super::advice).

use vrange_os::cgroup::quota::CpuQuota;
use vrange_os::cgroup::{Controller, Group, Hierarchies, Limits, Version};
use vrange_os::kernel_file::{BUFFER_BYTES, Missing, Root};
use vrange_os::meminfo::{MemInfo, MemInfoFile};
use vrange_os::probe::Probe;
use vrange_os::psi;

use crate::failure::Failure;

/// The state of this machine, as far as this process may see it.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The kernel's abilities and settings.
    pub(crate) probe: Probe,
    /// The machine's memory, or why it is not known.
    pub(crate) memory: Result<MemInfo, String>,
    /// The memory cgroups around this process, or why they are not known.
    pub(crate) groups: Result<Groups, String>,
    /// Processors that this process may use, if a quota says so.
    pub(crate) cpu_quota: Option<f64>,
    /// Pressure stall information.
    pub(crate) psi: psi::Support,
    /// Whether this process runs with the scheduler's lowest class or the like.
    pub(crate) idle_class: bool,
}

/// The memory cgroups around this process.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    /// Which interface manages memory.
    pub(crate) version: Version,
    /// The group, as the kernel names it.
    pub(crate) path: String,
    /// Each visible level that has a limit, nearest first: its directory and limits.
    pub(crate) limits: Vec<(String, Limits)>,
    /// Levels whose files cannot be read.
    pub(crate) unreadable: Vec<Missing>,
    /// There are levels above the highest that can be seen.
    pub(crate) ancestors_hidden: bool,
    /// The smallest limit of all levels, hidden ones too, where the kernel tells.
    pub(crate) hierarchical_limit_bytes: Option<u64>,
}

impl Machine {
    /// Looks at everything.
    ///
    /// # Errors
    /// The kernel is one that the library cannot run on at all.
    pub(crate) fn examine() -> Result<Self, Failure> {
        let root = Root::real();
        let probe = Probe::run().map_err(|error| {
            Failure::run(format!("this kernel is not supported: {error}"))
                .hint("this build is made for pages of 4 KiB")
        })?;
        let hierarchies = Hierarchies::read(&root);
        Ok(Self {
            probe,
            memory: read_memory(&root),
            groups: match &hierarchies {
                Ok(hierarchies) => read_groups(hierarchies),
                Err(missing) => Err(missing.to_string()),
            },
            cpu_quota: hierarchies.as_ref().ok().and_then(read_cpu_quota),
            psi: psi::probe(&root),
            idle_class: is_idle_class(),
        })
    }
}

fn read_memory(root: &Root) -> Result<MemInfo, String> {
    let file = MemInfoFile::open(root).map_err(|missing| missing.to_string())?;
    file.read(&mut [0; BUFFER_BYTES]).map_err(|error| error.to_string())
}

fn read_groups(hierarchies: &Hierarchies) -> Result<Groups, String> {
    let group: Group = hierarchies.group_of(Controller::Memory).map_err(|missing| missing.to_string())?;
    let (levels, mut unreadable) = group.memory_levels(true);
    let mut limits = Vec::new();
    for level in &levels {
        match level.limits() {
            Ok(found) if found == Limits::default() => {}
            Ok(found) => limits.push((level.directory().display().to_string(), found)),
            Err(error) => unreadable.push(Missing { path: level.directory().to_owned(), error }),
        }
    }
    let hierarchical = levels.first().map(|level| level.hierarchical_limit_bytes(&mut [0; BUFFER_BYTES]));
    Ok(Groups {
        version: group.version(),
        path: group.path().to_owned(),
        limits,
        unreadable,
        ancestors_hidden: group.ancestors_hidden(),
        hierarchical_limit_bytes: hierarchical.and_then(Result::ok).flatten(),
    })
}

fn read_cpu_quota(hierarchies: &Hierarchies) -> Option<f64> {
    let group = hierarchies.group_of(Controller::Cpu).ok()?;
    CpuQuota::open(&group).0.read()
}

/// Field 41 of `/proc/self/stat` (`proc_pid_stat(5)`) is the scheduling policy; 5 is `SCHED_IDLE`.
fn is_idle_class() -> bool {
    std::fs::read_to_string("/proc/self/stat").is_ok_and(|stat| policy(&stat) == Some(5))
}

/// The program's name, in brackets, may contain anything; the fields after it are counted from the third.
fn policy(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(41 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_found_behind_any_name() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        assert_eq!(policy(&format!("7 (a) b) {}", fields.join(" "))), Some(41));
        assert_eq!(policy("7 (cut short) 3 4"), None);
        assert_eq!(policy(""), None);
    }

    #[test]
    fn this_machine_can_be_examined() {
        let machine = Machine::examine().expect("a supported kernel");
        assert!(machine.memory.expect("meminfo").total_bytes > 0);
    }
}
