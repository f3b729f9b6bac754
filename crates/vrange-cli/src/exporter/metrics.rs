//! The text that Prometheus reads: OpenMetrics, names by its conventions. Made anew for each report, so that a process that has ended leaves
//! no series behind.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::stat::{HeapFigures, LevelFigures, ProcessFigures, Report};

/// The type of the text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Amount = Gauge<u64, AtomicU64>;

/// A name, what it means, and where it is found.
type Described<Of> = (&'static str, &'static str, fn(&Of) -> u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProcess {
    pid: u32,
    process: String,
}

/// Heaps of one process that have the same name are added up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHeap {
    pid: u32,
    process: String,
    heap: String,
    content: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    pid: u32,
    process: String,
    /// `machine`, or `cgroup0` for the process's own, `cgroup1` for its parent, and so on.
    level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClosed {
    reason: &'static str,
}

/// Everything in `report`.
pub(super) fn text(report: &Report) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("vrange");
    add_processes(&mut registry, report);
    add_levels(&mut registry, &report.processes);
    add_heaps(&mut registry, &report.processes);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

fn of_process(process: &ProcessFigures) -> OfProcess {
    OfProcess { pid: process.pid, process: process.name.clone() }
}

fn add_processes(registry: &mut Registry, report: &Report) {
    let open = Amount::default();
    open.set(report.processes.len() as u64);
    registry.register("processes", "Processes that have volatile memory and can be looked into", open);
    let closed = Family::<OfClosed, Amount>::default();
    for process in &report.closed {
        closed.get_or_create(&OfClosed { reason: process.reason }).inc();
    }
    registry.register("closed_processes", "Processes that cannot be looked into", closed);

    let amounts: [Described<ProcessFigures>; 2] = [
        ("resident", "Memory of the process, as the kernel counts it", |process| process.resident_bytes),
        ("reclaimable", "Volatile and offered memory, as far as it is resident", |process| {
            process.reclaimable_bytes
        }),
    ];
    for (name, help, amount) in amounts {
        let family = Family::<OfProcess, Amount>::default();
        for process in &report.processes {
            family.get_or_create(&of_process(process)).set(amount(process));
        }
        registry.register_with_unit(name, help, Unit::Bytes, family);
    }
    let counts: [Described<ProcessFigures>; 2] = [
        ("reclaimer_turns", "Turns of the reclaimer", |process| process.turns),
        ("pressure_wakes", "Waits of the reclaimer that a pressure source has ended", |process| {
            process.pressure.wakes
        }),
    ];
    for (name, help, count) in counts {
        let family = Family::<OfProcess, Counter>::default();
        for process in &report.processes {
            family.get_or_create(&of_process(process)).inc_by(count(process));
        }
        registry.register(name, help, family);
    }
    let (parked, age) =
        (Family::<OfProcess, Amount>::default(), Family::<OfProcess, Gauge<f64, AtomicU64>>::default());
    for process in &report.processes {
        parked.get_or_create(&of_process(process)).set(process.parked.into());
        if let Some(seconds) = process.age_seconds {
            age.get_or_create(&of_process(process)).set(seconds);
        }
    }
    registry.register("reclaimer_parked", "1: nothing is volatile, and the reclaimer sleeps", parked);
    registry.register_with_unit("figures_age", "Age of the process's figures", Unit::Seconds, age);
}

fn add_levels(registry: &mut Registry, processes: &[ProcessFigures]) {
    let amounts: [Described<LevelFigures>; 5] = [
        ("level_limit", "Memory of the machine, or limit of the cgroup", |level| level.limit_bytes),
        ("level_free", "What can be allocated with no reclaim at all", |level| level.free_bytes),
        (
            "level_headroom",
            "What can be allocated without anybody losing more than page cache and offered memory",
            |level| level.headroom_bytes,
        ),
        ("level_reserve_low", "Headroom below which memory is offered to the kernel", |level| {
            level.reserve_low_bytes
        }),
        ("level_reserve_high", "Headroom above which no more is offered", |level| level.reserve_high_bytes),
    ];
    for (name, help, amount) in amounts {
        let family = Family::<OfLevel, Amount>::default();
        for process in processes {
            for level in &process.levels {
                let height = level.height.map_or(String::new(), |height| height.to_string());
                let labels = OfLevel {
                    pid: process.pid,
                    process: process.name.clone(),
                    level: format!("{}{height}", level.kind),
                };
                family.get_or_create(&labels).set(amount(level));
            }
        }
        registry.register_with_unit(name, help, Unit::Bytes, family);
    }
}

fn add_heaps(registry: &mut Registry, processes: &[ProcessFigures]) {
    let amounts: [Described<HeapFigures>; 4] = [
        ("pinned", "Ranges in use", |heap| heap.pinned.bytes),
        ("volatile", "Ranges that are volatile and not offered to the kernel", |heap| heap.volatile.bytes),
        (
            "offered",
            "Ranges that are offered to the kernel, which may have taken some of their pages",
            |heap| heap.offered.bytes,
        ),
        ("in_transit", "Ranges that are being offered, taken back or released", |heap| heap.in_transit.bytes),
    ];
    for (name, help, amount) in amounts {
        let family = Family::<OfHeap, Amount>::default();
        for (labels, heap) in heaps(processes) {
            family.get_or_create(&labels).inc_by(amount(heap));
        }
        registry.register_with_unit(name, help, Unit::Bytes, family);
    }
    let limit = Family::<OfHeap, Amount>::default();
    for (labels, heap) in heaps(processes) {
        if let Some(bytes) = heap.limit_bytes {
            limit.get_or_create(&labels).inc_by(bytes);
        }
    }
    registry.register_with_unit("limit", "The most that a heap may hold", Unit::Bytes, limit);
    let totals: [Described<HeapFigures>; 4] = [
        // `offered` is what is offered now.
        ("offers", "Memory handed to the kernel, each time counted anew", |heap| heap.offered_bytes_total),
        ("rescued", "Offered memory that was used again, intact", |heap| heap.rescued_bytes_total),
        ("lost", "Offered memory that was found to be taken by the kernel", |heap| heap.lost_bytes_total),
        ("released", "Memory that the process itself gave back", |heap| heap.released_bytes_total),
    ];
    for (name, help, total) in totals {
        let family = Family::<OfHeap, Counter>::default();
        for (labels, heap) in heaps(processes) {
            family.get_or_create(&labels).inc_by(total(heap));
        }
        registry.register_with_unit(name, help, Unit::Bytes, family);
    }
}

fn heaps(processes: &[ProcessFigures]) -> impl Iterator<Item = (OfHeap, &HeapFigures)> {
    processes.iter().flat_map(|process| {
        process.heaps.iter().map(|heap| {
            let labels = OfHeap {
                pid: process.pid,
                process: process.name.clone(),
                heap: heap.name.clone(),
                content: heap.content,
            };
            (labels, heap)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::Reason;
    use crate::stat::ClosedFigures;
    use crate::stat::samples::{heap, process};

    fn text_of(processes: Vec<ProcessFigures>) -> String {
        text(&Report { processes, closed: Vec::new() }).expect("text")
    }

    #[test]
    fn names_and_types_follow_the_conventions() {
        let text = text_of(vec![process(7, "redis-server", 4096)]);
        assert!(text.ends_with("# EOF\n"), "{text}");
        let mut families = 0;
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').expect("a name and a type");
            assert!(name.starts_with("vrange_") && !name.ends_with("_total"), "{name}");
            let sample = if kind == "counter" { format!("{name}_total{{") } else { name.to_owned() };
            assert!(
                text.lines().any(|line| line.starts_with(&sample))
                    || name == "vrange_closed_processes"
                    || name == "vrange_limit_bytes",
                "{name} has no sample: {text}"
            );
            families += 1;
        }
        assert!(families >= 20, "{text}");
        for line in [
            r#"vrange_offered_bytes{pid="7",process="redis-server",heap="photos",content="cache"} 1024"#,
            r#"vrange_lost_bytes_total{pid="7",process="redis-server",heap="photos",content="cache"} 1024"#,
            r#"vrange_level_headroom_bytes{pid="7",process="redis-server",level="machine"} 4096"#,
            r#"vrange_level_headroom_bytes{pid="7",process="redis-server",level="cgroup2"} 4096"#,
            r#"vrange_resident_bytes{pid="7",process="redis-server"} 4096"#,
            "vrange_processes 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn heaps_of_one_name_are_added_up() {
        let mut twice = process(7, "a", 0);
        twice.heaps = vec![heap("x", 100), heap("x", 11), heap("y", 5)];
        twice.heaps[0].limit_bytes = Some(1000);
        let text = text_of(vec![twice]);
        for line in [
            r#"vrange_pinned_bytes{pid="7",process="a",heap="x",content="cache"} 111"#,
            r#"vrange_released_bytes_total{pid="7",process="a",heap="x",content="cache"} 111"#,
            r#"vrange_pinned_bytes{pid="7",process="a",heap="y",content="cache"} 5"#,
            r#"vrange_limit_bytes{pid="7",process="a",heap="x",content="cache"} 1000"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    /// A process may be named as it likes.
    #[test]
    fn no_name_and_no_number_can_forge_a_series() {
        let mut hostile = process(7, "\"} 1\nvrange_forged{x=\"\\", u64::MAX);
        hostile.heaps =
            vec![heap("\"} 1\nvrange_forged 1", u64::MAX), heap("\"} 1\nvrange_forged 1", u64::MAX)];
        let text = text_of(vec![hostile]);
        assert!(!text.lines().any(|line| line.starts_with("vrange_forged")), "{text}");
        assert!(
            text.lines()
                .any(|line| line.starts_with(r#"vrange_pinned_bytes{pid="7",process="\"} 1\nvrange_forged"#))
        );
    }

    #[test]
    fn closed_processes_are_counted_by_reason() {
        let closed = |pid| ClosedFigures {
            pid,
            name: "a".to_owned(),
            user: 0,
            reason: Reason::NotPermitted.code(),
            message: String::new(),
        };
        let text = text(&Report { processes: Vec::new(), closed: vec![closed(1), closed(2)] }).expect("text");
        assert!(text.contains("vrange_closed_processes{reason=\"not_permitted\"} 2\n"), "{text}");
    }
}
