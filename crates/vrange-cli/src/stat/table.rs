//! The figures for people, in 80 columns.

use std::fmt::Write as _;

use super::{HeapFigures, ProcessFigures, Report};
use crate::size::short;

/// Two tables: processes, and their heaps. Then what could not be looked into.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    if report.processes.is_empty() && report.closed.is_empty() {
        return "no process here has volatile memory (other users' are seen by root only)\n".to_owned();
    }
    if !report.processes.is_empty() {
        add_processes(&mut text, &report.processes);
        add_heaps(&mut text, &report.processes);
    }
    for closed in &report.closed {
        let _ = writeln!(text, "{} ({}): {}", closed.pid, closed.name, closed.message);
    }
    text
}

fn add_processes(text: &mut String, processes: &[ProcessFigures]) {
    let _ = writeln!(
        text,
        "{:>7} {:<15} {:>9} {:>11} {:>8} {:>9} {:>8} {:<5}",
        "PID", "NAME", "RESIDENT", "RECLAIMABLE", "HEADROOM", "RESERVE", "SECONDS", "STATE"
    );
    for process in processes {
        let level = process.tightest_level();
        let of_level = |figure: Option<u64>| figure.map_or("-".to_owned(), short);
        let _ = writeln!(
            text,
            "{:>7} {:<15} {:>9} {:>11} {:>8} {:>9} {:>8} {:<5}",
            process.pid,
            cut(&process.name, 15),
            short(process.resident_bytes),
            short(process.reclaimable_bytes),
            of_level(level.map(|level| level.headroom_bytes)),
            of_level(level.map(|level| level.reserve_low_bytes)),
            process.age_seconds.map_or("-".to_owned(), |seconds| format!("{seconds:.1}")),
            if process.parked { "sleep" } else { "awake" },
        );
    }
}

fn add_heaps(text: &mut String, processes: &[ProcessFigures]) {
    let _ = writeln!(
        text,
        "\n{:>7} {:<20} {:>8} {:>9} {:>8} {:>8} {:>9}",
        "PID", "HEAP", "PINNED", "VOLATILE", "OFFERED", "LOST", "RELEASED"
    );
    for process in processes {
        for heap in &process.heaps {
            let HeapFigures { name, pinned, volatile, offered, .. } = heap;
            let _ = writeln!(
                text,
                "{:>7} {:<20} {:>8} {:>9} {:>8} {:>8} {:>9}",
                process.pid,
                cut(name, 20),
                short(pinned.bytes),
                short(volatile.bytes),
                short(offered.bytes),
                short(heap.lost_bytes_total),
                short(heap.released_bytes_total),
            );
        }
    }
}

/// The beginning of a text that is too long for its column.
fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
