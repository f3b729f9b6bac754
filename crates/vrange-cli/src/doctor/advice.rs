//! What the facts mean, a sentence each, and what to change.

use vrange_os::cgroup::Version;
use vrange_os::linux::ResidencyMethod;

use super::finding::Finding;
use super::machine::{Groups, Machine};
use crate::size::human;

/// Everything worth saying about a machine.
pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![
        kernel(machine),
        offers(machine),
        vectored(machine),
        residency(machine),
        memory(machine),
        cgroup(machine),
        hidden_limits(machine),
        processor(machine),
        pressure(machine),
        triggers(machine),
        swap(machine),
        huge_pages(machine),
        locked(machine),
        ksm(machine),
        overcommit(machine),
    ]
}

fn kernel(machine: &Machine) -> Finding {
    let lru = match machine.probe.multi_generational_lru {
        Some(true) => "multi-generational LRU on",
        Some(false) => "multi-generational LRU off",
        None => "classic LRU",
    };
    let value = format!("{}, {lru}", machine.probe.kernel_release);
    Finding::good(
        "kernel",
        "kernel",
        value,
        "Either LRU takes offered pages in the order in which they were offered.",
    )
}

fn offers(machine: &Machine) -> Finding {
    match machine.probe.advice.offer {
        Ok(()) => Finding::good(
            "offers",
            "offers (MADV_FREE)",
            "yes",
            "The kernel can take volatile pages by itself, the moment it needs them.",
        ),
        Err(error) => Finding::good(
            "offers",
            "offers (MADV_FREE)",
            format!("no: {error}"),
            "When memory gets short the reclaimer drops the coldest pages itself: more than needed, and maybe late for a fast program.",
        )
        .missing("Linux 4.5 or later is needed, and a seccomp filter must let madvise pass"),
    }
}

fn vectored(machine: &Machine) -> Finding {
    if machine.probe.advice.vectored.is_some() {
        let meaning = "Many ranges are offered in one system call, about twice as fast as one by one.";
        return Finding::good("vectored_offers", "vectored offers (process_madvise)", "yes", meaning);
    }
    Finding::good(
        "vectored_offers",
        "vectored offers (process_madvise)",
        "no",
        "Ranges are offered one by one. The reclaimer needs about twice the time; nothing else changes.",
    )
    .limited("Linux 6.13 or later takes them together")
}

fn residency(machine: &Machine) -> Finding {
    const TOPIC: &str = "residency";
    const TITLE: &str = "reading the page table";
    match machine.probe.residency {
        Ok(ResidencyMethod::Scan) => Finding::good(
            TOPIC,
            TITLE,
            "PAGEMAP_SCAN",
            "What is in memory is found at about 12 ns a page, and pages that were never written are told apart.",
        ),
        Ok(ResidencyMethod::Read) => Finding::good(
            TOPIC,
            TITLE,
            "/proc/self/pagemap",
            "What is in memory is found at about 36 ns a page, so that an offer costs a little more.",
        )
        .limited("Linux 6.7 or later has PAGEMAP_SCAN"),
        Err(error) => Finding::good(
            TOPIC,
            TITLE,
            format!("no: {error}"),
            "Pages cannot be offered, since what they held could not be told later. When memory gets short the reclaimer \
             drops the coldest itself: more than needed, and maybe late for a fast program.",
        )
        .missing("make /proc/self/pagemap readable: mount /proc, and let the container's profile pass it"),
    }
}

fn memory(machine: &Machine) -> Finding {
    match &machine.memory {
        Ok(memory) => Finding::good(
            "memory",
            "memory",
            format!("{} available of {}", human(memory.available_bytes), human(memory.total_bytes)),
            "Volatile memory may use all of it; the reclaimer keeps the machine's reserve free or offered.",
        ),
        Err(reason) => Finding::good(
            "memory",
            "memory",
            format!("unknown: {reason}"),
            "The reclaimer cannot see how short the machine's memory is.",
        )
        .limited("mount /proc, or limit the heap (`limit`, `max_unoffered`)"),
    }
}

fn cgroup(machine: &Machine) -> Finding {
    const TOPIC: &str = "cgroup";
    const TITLE: &str = "memory cgroup";
    let groups = match &machine.groups {
        Ok(groups) => groups,
        Err(reason) => {
            return Finding::good(
                TOPIC,
                TITLE,
                format!("unknown: {reason}"),
                "If a limit is in force, the reclaimer does not see it, and comes only as the machine gets short.",
            )
            .limited("mount /sys/fs/cgroup, or limit the heap (`limit`, `max_unoffered`)");
        }
    };
    let finding = Finding::good(
        TOPIC,
        TITLE,
        describe(groups),
        if groups.limits.is_empty() {
            "No visible level sets a limit; the machine's memory is what counts."
        } else {
            "The reclaimer watches each of these limits and offers the coldest ranges before the nearest is reached."
        },
    );
    match groups.unreadable.first() {
        None => finding,
        Some(missing) => {
            finding.limited(format!("a level cannot be read, so its limit is not seen: {missing}"))
        }
    }
}

fn describe(groups: &Groups) -> String {
    let version = match groups.version {
        Version::V1 => "v1",
        Version::V2 => "v2",
    };
    let mut text = format!("{version}, {}", groups.path);
    for (directory, limits) in &groups.limits {
        let named = [
            ("max", limits.max_bytes),
            ("high", limits.high_bytes),
            ("with swap", limits.memory_and_swap_bytes),
        ];
        let named = named.iter().filter_map(|(name, bytes)| Some(format!("{name} {}", human((*bytes)?))));
        text += &format!("; {directory}: {}", named.collect::<Vec<_>>().join(", "));
    }
    text
}

fn hidden_limits(machine: &Machine) -> Finding {
    const TOPIC: &str = "hidden_limits";
    const TITLE: &str = "limits above";
    let visible = Finding::good(
        TOPIC,
        TITLE,
        "all visible",
        "No limit can be in force that the reclaimer does not see.",
    );
    let Ok(groups) = &machine.groups else { return visible.unknown_groups() };
    if !groups.ancestors_hidden {
        return visible;
    }
    let seen_bytes = groups.limits.iter().filter_map(|(_, limits)| limits.max_bytes).min();
    match groups.hierarchical_limit_bytes {
        Some(bytes) if seen_bytes.is_none_or(|seen| bytes < seen) => Finding::good(
            TOPIC,
            TITLE,
            format!("a hidden level limits memory to {}", human(bytes)),
            "The kernel kills at a limit whose use cannot be seen from inside this cgroup namespace.",
        ),
        _ => Finding::good(
            TOPIC,
            TITLE,
            "hidden",
            "This process sees only a part of the cgroup tree; a tighter limit above would not be seen.",
        ),
    }
    .limited("set the same limit on the visible group, or bound what is not offered with `max_unoffered`")
}

impl Finding {
    /// Nothing can be said about levels when not even the group is known.
    fn unknown_groups(self) -> Self {
        Self {
            value: "unknown".to_owned(),
            meaning: "Without the cgroup files nothing is known about limits.".to_owned(),
            ..self
        }
        .limited("mount /sys/fs/cgroup, or bound what is not offered with `max_unoffered`")
    }
}

fn processor(machine: &Machine) -> Finding {
    const TOPIC: &str = "processor";
    const TITLE: &str = "processor time";
    let starved = "A process that is out of processor time cannot offer; another one of its cgroup can then use up the \
                   memory before it runs again.";
    if machine.idle_class {
        return Finding::good(TOPIC, TITLE, "SCHED_IDLE", starved).limited(
            "use a normal scheduling class, or `max_unoffered(0)`, which offers right after each unpin",
        );
    }
    match machine.cpu_quota {
        Some(quota) if quota < 1.0 => Finding::good(TOPIC, TITLE, format!("{quota:.2} processors"), starved)
            .limited("raise the quota to a whole processor, or use `max_unoffered(0)`, which offers right after each unpin"),
        Some(quota) => Finding::good(
            TOPIC,
            TITLE,
            format!("{quota:.2} processors"),
            "Enough for the reclaimer to run when memory gets short. Stopped or frozen processes cannot offer.",
        ),
        None => Finding::good(
            TOPIC,
            TITLE,
            "no quota",
            "The reclaimer runs when memory gets short. Stopped or frozen processes cannot offer.",
        ),
    }
}

fn pressure(machine: &Machine) -> Finding {
    match &machine.psi.readable {
        Ok(()) => Finding::good(
            "psi",
            "pressure stall information",
            "yes",
            "The kernel measures how long programs wait for memory.",
        ),
        Err(missing) => Finding::good(
            "psi",
            "pressure stall information",
            format!("no: {missing}"),
            "The reclaimer looks at the amount of free memory instead, which it does anyway.",
        )
        .limited("boot with psi=1, on a kernel with CONFIG_PSI"),
    }
}

fn triggers(machine: &Machine) -> Finding {
    const TOPIC: &str = "psi_triggers";
    const TITLE: &str = "pressure triggers";
    match &machine.psi.trigger {
        Ok(()) => Finding::good(
            TOPIC,
            TITLE,
            "this process may set them, with windows of 2 s",
            "The kernel wakes the reclaimer when memory is short; between wake-ups it polls less.",
        ),
        Err(missing) => Finding::good(
            TOPIC,
            TITLE,
            format!("no: {missing}"),
            "The reclaimer polls instead. The reserve, not the trigger, is what protects; this costs wake-ups only.",
        )
        .limited("Linux 6.5 or later lets every process set them; before, CAP_SYS_RESOURCE is needed"),
    }
}

fn swap(machine: &Machine) -> Finding {
    let total_bytes = machine.memory.as_ref().map_or(0, |memory| memory.swap_total_bytes);
    if total_bytes == 0 {
        let meaning = "Nothing is needed: offered pages are dropped, not written anywhere.";
        return Finding::good("swap", "swap", "none", meaning);
    }
    Finding::good(
        "swap",
        "swap",
        human(total_bytes),
        "Offered pages are dropped instead of being written to swap. What is on swap before the offer counts as lost.",
    )
}

fn huge_pages(machine: &Machine) -> Finding {
    const TOPIC: &str = "huge_pages";
    const TITLE: &str = "huge pages";
    match machine.probe.huge_pages.as_deref() {
        Some(mode @ ("always" | "madvise")) => Finding::good(
            TOPIC,
            TITLE,
            mode,
            "Ranges of 2 MiB and more use them; offering such a range costs about 1/100.",
        ),
        other => Finding::good(
            TOPIC,
            TITLE,
            other.unwrap_or("not in this kernel"),
            "Large ranges are made of small pages: offering them takes longer, nothing else changes.",
        )
        .limited("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
    }
}

fn locked(machine: &Machine) -> Finding {
    let limit = machine.probe.memlock_bytes.map_or("unlimited".to_owned(), human);
    if machine.probe.locked_bytes == 0 {
        return Finding::good(
            "memlock",
            "locked memory",
            format!("none (limit {limit})"),
            "Locked memory cannot be offered; mlockall in a program keeps its volatile ranges where they are.",
        );
    }
    Finding::good(
        "memlock",
        "locked memory",
        format!("{} (limit {limit})", human(machine.probe.locked_bytes)),
        "This process has its memory locked: ranges are kept, and never given back.",
    )
    .missing("do not call mlockall(MCL_FUTURE) in programs that keep volatile memory")
}

fn ksm(machine: &Machine) -> Finding {
    if !machine.probe.ksm_running {
        return Finding::good("ksm", "page merging (KSM)", "off", "Nothing merges pages.");
    }
    Finding::good(
        "ksm",
        "page merging (KSM)",
        "on",
        "Volatile memory is kept out of it, since an offered page that is shared would take others along.",
    )
}

fn overcommit(machine: &Machine) -> Finding {
    const TOPIC: &str = "overcommit";
    const TITLE: &str = "overcommit";
    match machine.probe.overcommit_mode {
        Some(2) => Finding::good(
            TOPIC,
            TITLE,
            "strict (vm.overcommit_memory=2)",
            "Volatile ranges are charged to the commit limit as if they could never be taken back.",
        )
        .limited("sysctl vm.overcommit_memory=0, or a larger vm.overcommit_ratio"),
        Some(mode) => Finding::good(
            TOPIC,
            TITLE,
            format!("vm.overcommit_memory={mode}"),
            "Address space that is not used yet costs nothing.",
        ),
        None => Finding::good(
            TOPIC,
            TITLE,
            "unknown",
            "The default lets address space that is not used cost nothing.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;
    use vrange_os::OsError;
    use vrange_os::cgroup::Limits;

    use super::super::finding::Status;
    use super::*;

    fn examined() -> Machine {
        Machine::examine().expect("a supported kernel")
    }

    fn groups() -> Groups {
        Groups {
            version: Version::V2,
            path: "/app".to_owned(),
            limits: vec![(
                "/sys/fs/cgroup/app".to_owned(),
                Limits { max_bytes: Some(1 << 30), ..Limits::default() },
            )],
            unreadable: Vec::new(),
            ancestors_hidden: false,
            hierarchical_limit_bytes: None,
        }
    }

    #[test]
    fn every_topic_has_a_sentence() {
        for finding in findings(&examined()) {
            assert!(finding.meaning.ends_with('.'), "{}: {}", finding.topic, finding.meaning);
            assert_eq!(finding.change.is_some(), finding.status != Status::Good, "{}", finding.topic);
        }
    }

    #[test]
    fn a_kernel_without_offers_is_named() {
        let mut machine = examined();
        machine.probe.advice.offer = Err(OsError::new("madvise(MADV_FREE)", Errno::INVAL));
        let finding = offers(&machine);
        assert_eq!(finding.status, Status::Missing);
        assert!(finding.value.contains("madvise(MADV_FREE)"), "{}", finding.value);
    }

    #[test]
    fn a_hidden_limit_is_named() {
        let mut machine = examined();
        machine.groups =
            Ok(Groups { ancestors_hidden: true, hierarchical_limit_bytes: Some(256 << 20), ..groups() });
        let finding = hidden_limits(&machine);
        assert_eq!(finding.status, Status::Limited);
        assert!(finding.value.contains("256 MiB"), "{}", finding.value);
        machine.groups = Ok(groups());
        assert_eq!(hidden_limits(&machine).status, Status::Good);
        assert!(cgroup(&machine).value.contains("max 1 GiB"));
    }

    #[test]
    fn starvation_is_named() {
        let mut machine = examined();
        machine.idle_class = false;
        machine.cpu_quota = Some(0.1);
        assert_eq!(processor(&machine).status, Status::Limited);
        machine.cpu_quota = Some(4.0);
        assert_eq!(processor(&machine).status, Status::Good);
        machine.idle_class = true;
        assert_eq!(processor(&machine).status, Status::Limited);
    }

    #[test]
    fn what_is_unknown_is_said_to_be_unknown() {
        let mut machine = examined();
        machine.groups = Err("no file".to_owned());
        machine.memory = Err("no file".to_owned());
        for finding in [cgroup(&machine), hidden_limits(&machine), memory(&machine)] {
            assert_eq!(finding.status, Status::Limited, "{}", finding.topic);
            assert!(finding.value.starts_with("unknown"), "{}", finding.value);
        }
    }
}
