//! What is shown is what there is.

use serde_json::Value;
use vrange_os::PAGE_BYTES;

use crate::{common, figures_when, next_figures, shown, started};

/// The figures of one heap, in the order of the job's line.
fn line_of(heap: &Value) -> String {
    let phases = ["empty", "pinned", "volatile", "offered", "in_transit"];
    let phases = phases.iter().flat_map(|phase| [&heap[phase]["ranges"], &heap[phase]["bytes"]]);
    let totals = ["offered", "rescued", "lost", "released"].map(|name| &heap[format!("{name}_bytes_total")]);
    phases.chain(totals).map(Value::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_heaps_figures_are_those_of_its_process() {
    let mut child = started("volatile");
    let pid = child.pid();
    let figures = next_figures(pid);
    assert_eq!(figures["heaps"].as_array().map(Vec::len), Some(1), "{figures}");
    let heap = &figures["heaps"][0];
    assert_eq!(line_of(heap), child.ask("stats").expect("it runs"));
    // And those are what the job has done.
    let pages = |value: &Value| value.as_u64().expect("a number") / PAGE_BYTES as u64;
    // Two of four ranges that were offered are pinned again. Up to 100 pages were taken.
    let [lost, rescued] = ["lost", "rescued"].map(|name| pages(&heap[format!("{name}_bytes_total")]));
    assert!((1..=100).contains(&lost) && lost + rescued == 2 * 256, "{heap}");
    assert_eq!(pages(&heap["released_bytes_total"]), 256, "{heap}");
    assert_eq!((heap["pinned"]["ranges"].as_u64(), heap["offered"]["ranges"].as_u64()), (Some(1), Some(2)));
    assert_eq!((heap["volatile"]["ranges"].as_u64(), heap["empty"]["ranges"].as_u64()), (Some(4), Some(2)));
    assert_eq!((&heap["name"], &heap["kind"]), (&"thumbnails".into(), &"heap".into()));
    assert_eq!(heap["limit_bytes"], 1 << 30);
    let ages = heap["ages"].as_array().expect("ages").iter();
    let unused: u64 = ages.map(|age| age["bytes"].as_u64().expect("bytes")).sum();
    assert_eq!(unused / PAGE_BYTES as u64, 6 * 256, "{heap}");
}

#[test]
fn a_process_is_shown_with_the_memory_that_may_get_short() {
    let child = started("volatile");
    let figures = next_figures(child.pid());
    let level = &figures["levels"][0];
    assert_eq!(level["kind"], "machine", "{figures}");
    let text = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let total: u64 = text.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("MemTotal");
    assert_eq!(level["limit_bytes"], total * 1024);
    let [low, high, headroom] = ["reserve_low_bytes", "reserve_high_bytes", "headroom_bytes"]
        .map(|name| level[name].as_u64().expect("bytes"));
    assert!(0 < low && low < high && high < total * 1024 && headroom < total * 1024, "{level}");
    let resident = figures["resident_bytes"].as_u64().expect("bytes");
    let reclaimable = figures["reclaimable_bytes"].as_u64().expect("bytes");
    assert!(0 < reclaimable && reclaimable < resident, "{figures}");
    assert!(figures["age_seconds"].as_f64().is_some_and(|age| age < 5.0), "{figures}");
    assert_eq!(figures["parked"], false);
}

#[test]
fn people_get_two_tables_of_80_columns() {
    let child = started("volatile");
    let _ = next_figures(child.pid());
    let output = common::run(&["stat", &child.pid().to_string()]);
    assert!(output.status.success(), "{}", common::stderr(&output));
    let text = common::stdout(&output);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for part in ["PID", "HEAP", "RECLAIMABLE", "thumbnails", "400K"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_process_that_uses_all_it_has_is_shown_and_left_asleep() {
    let child = started("parked");
    let pid = child.pid();
    let figures = figures_when(pid, "a reclaimer that sleeps", |figures| figures["parked"] == true);
    let heap = &figures["heaps"][0];
    assert_eq!((heap["pinned"]["ranges"].as_u64(), heap["volatile"]["ranges"].as_u64()), (Some(3), Some(0)));
    let switches = || {
        let task = vrange_testing::reclaimers_of(&pid.to_string()).pop().expect("its thread");
        let status = std::fs::read_to_string(task.join("status")).expect("its status");
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).map(str::to_owned);
        line.expect("a count")
    };
    let before = switches();
    for _ in 0..10 {
        assert_eq!(shown("processes", pid).expect("it is shown")["sequence"], figures["sequence"]);
    }
    assert_eq!(switches(), before, "to be looked at costs a process nothing");
}

#[test]
fn heaps_for_which_there_is_no_room_are_added_up() {
    let child = started("many");
    let is_complete = |figures: &Value| {
        let heaps = figures["heaps"].as_array().expect("heaps").iter();
        let volatile = heaps.map(|heap| heap["volatile"]["ranges"].as_u64().expect("a number"));
        volatile.sum::<u64>() == 40
    };
    let figures = figures_when(child.pid(), "40 ranges", is_complete);
    let heaps = figures["heaps"].as_array().expect("heaps");
    let (last, others) = heaps.split_last().expect("heaps");
    assert!(others.iter().all(|heap| heap["kind"] == "heap"), "{figures}");
    assert_eq!(others[0]["name"], "heap 0");
    assert_eq!(last["kind"], "rest");
    assert_eq!(last["name"], format!("{} others", 40 - others.len()));
    assert_eq!(last["volatile"]["ranges"], 40 - others.len());
}

#[test]
fn processes_are_asked_for_by_number_or_name() {
    let child = started("volatile");
    let pid = child.pid().to_string();
    let _ = next_figures(child.pid());
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("its name");
    let program = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("its command");
    let program = program.split('\0').next().and_then(|path| path.rsplit('/').next()).expect("a program");
    for word in [&pid, comm.trim(), program] {
        // Other tests' processes have the same name, and some of them cannot be looked into, which makes the exit code.
        let output = common::run(&["stat", "--json", word]);
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let found = found["processes"].as_array().expect("a list");
        assert!(found.iter().any(|process| process["pid"] == child.pid()), "{word}");
    }
    let nothing = common::run(&["stat", "--json", "no-such-name", "1"]);
    assert_eq!(nothing.status.code(), Some(1));
    for says in ["no process named no-such-name", "process 1 ("] {
        assert!(common::stderr(&nothing).contains(says), "{}", common::stderr(&nothing));
    }
    let gone = common::run(&["stat", &pid, "4194304"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(common::stderr(&gone).contains("there is no process 4194304"), "{}", common::stderr(&gone));
    assert!(common::stdout(&gone).contains("thumbnails"), "the others are shown all the same");
}
