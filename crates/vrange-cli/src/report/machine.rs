//! The machine that is measured: facts for the page.

use std::fs;

use serde::Serialize;
use time::OffsetDateTime;
use vrange_os::cgroup::Version;

use crate::bench::machine::{cpu_model, load_average};
use crate::bench::malloc::version::glibc;
use crate::doctor::machine::{Groups, Machine as Examined};
use crate::size::human;

/// Facts, and the versions of what is measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) facts: Vec<Fact>,
    pub(super) versions: Vec<Fact>,
}

/// A name and a value.
#[derive(Debug, Serialize)]
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
}

impl Fact {
    fn new(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into() }
    }
}

impl Machine {
    /// Looks at everything; what cannot be told is said to be unknown.
    pub(super) fn look() -> Self {
        let uname = rustix::system::uname();
        let mut facts = vec![
            Fact::new("Processor", format!("{}, {}", cpu_model(), uname.machine().to_string_lossy())),
            Fact::new("Processors that this process may use", processors()),
        ];
        match Examined::examine() {
            Ok(examined) => facts.extend(of_examined(&examined)),
            Err(failure) => facts.push(Fact::new("Memory", failure.message())),
        }
        facts.extend([
            Fact::new("Kernel", format!("Linux {}", uname.release().to_string_lossy())),
            Fact::new("System", system().unwrap_or_else(unknown)),
            Fact::new("User", if rustix::process::geteuid().is_root() { "root" } else { "not root" }),
            Fact::new("Load average at the beginning", load_average()),
        ]);
        let versions = vec![
            Fact::new("vrange", env!("CARGO_PKG_VERSION")),
            Fact::new(
                "Build",
                if cfg!(debug_assertions) { "unoptimized: times mean little" } else { "optimized" },
            ),
            Fact::new("C library", glibc()),
        ];
        Self { facts, versions }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn processors() -> String {
    std::thread::available_parallelism().map_or_else(|_| unknown(), |count| count.to_string())
}

fn of_examined(examined: &Examined) -> Vec<Fact> {
    let memory = examined.memory.as_ref();
    let of_memory = |text: &dyn Fn(&vrange_os::meminfo::MemInfo) -> String| {
        memory.map_or_else(|error| format!("unknown: {error}"), text)
    };
    let swap = |memory: &vrange_os::meminfo::MemInfo| match memory.swap_total_bytes {
        0 => "none".to_owned(),
        bytes => format!("{}, {} free", human(bytes), human(memory.swap_free_bytes)),
    };
    let mut facts = vec![
        Fact::new(
            "Memory",
            of_memory(&|memory| {
                format!("{}, {} available", human(memory.total_bytes), human(memory.available_bytes))
            }),
        ),
        Fact::new("Swap", of_memory(&swap)),
        Fact::new("Transparent huge pages", examined.probe.huge_pages.clone().unwrap_or("none".to_owned())),
        Fact::new(
            "Memory cgroups",
            examined.groups.as_ref().map_or_else(|error| format!("unknown: {error}"), cgroups),
        ),
    ];
    if let Some(quota) = examined.cpu_quota {
        facts.push(Fact::new("Quota of processor time", format!("{quota:.2} processors")));
    }
    if examined.idle_class {
        facts.push(Fact::new(
            "Scheduling",
            "idle class: whatever else runs goes first, and times mean little",
        ));
    }
    facts
}

fn cgroups(groups: &Groups) -> String {
    let version = match groups.version {
        Version::V1 => "version 1",
        Version::V2 => "version 2",
    };
    let limits = groups.limits.iter().filter_map(|(_, limits)| limits.of_memory_bytes());
    match limits.min() {
        Some(bytes) => format!("{version}, a limit of {} around this process", human(bytes)),
        None => format!("{version}, no limit around this process"),
    }
}

/// What the distribution calls itself.
fn system() -> Option<String> {
    let text =
        fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release")).ok()?;
    pretty_name(&text)
}

fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// The time in UTC, as RFC 3339 has it.
pub(super) fn now() -> String {
    let now = OffsetDateTime::now_utc();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_found_with_and_without_quotes() {
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"X 12 (y)\"\n").as_deref(), Some("X 12 (y)"));
        assert_eq!(pretty_name("PRETTY_NAME=X\n").as_deref(), Some("X"));
        assert_eq!(pretty_name("ID=x\n"), None);
    }

    #[test]
    fn every_fact_has_a_value() {
        let machine = Machine::look();
        for fact in machine.facts.iter().chain(&machine.versions) {
            assert!(!fact.value.trim().is_empty(), "{fact:?}");
        }
        assert!(machine.facts.iter().any(|fact| fact.name == "Swap"));
    }
}
