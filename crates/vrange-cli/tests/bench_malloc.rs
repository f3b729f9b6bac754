//! `vrange bench malloc`, run as a user runs it. Times are not asserted: a busy machine is no failure.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::{child_processes, json, run, stderr, stdout, vrange, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use vrange_testing::skipped;

/// What the picture explains its colours with, and so has once more than bars.
const COLOURS: [(&str, &str); 6] = [
    ("keep", "#999999"),
    ("cleared", "#0072B2"),
    ("default", "#56B4E9"),
    ("dontneed", "#D55E00"),
    ("free", "#CC79A7"),
    ("marks", "#009E73"),
];

const CONFIGS: [(&str, &[&str]); 4] = [
    ("tcmalloc", &["keep", "dontneed", "marks"]),
    ("jemalloc", &["keep", "cleared", "dontneed", "free", "marks"]),
    ("mimalloc", &["keep", "dontneed", "free", "marks"]),
    ("glibc", &["keep", "default"]),
];

#[test]
fn every_setting_has_a_row_and_what_was_measured_has_bars() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("chart.svg");
    let path = file.to_str().expect("UTF-8");
    let rows = json(&run(&["bench", "malloc", "--quick", "--json", "--svg", path]));
    let rows = rows.as_array().expect("an array of rows");
    for (workload, threads) in loads() {
        for (allocator, configs) in CONFIGS {
            for config in configs {
                let is_it = |row: &&Value| {
                    row["allocator"] == allocator
                        && row["config"] == *config
                        && row["workload"] == workload
                        && row["threads"] == threads
                };
                let row = rows.iter().find(is_it);
                check(row.unwrap_or_else(|| panic!("no row for {allocator} {config} at {workload}")));
            }
        }
    }
    let expected: usize = CONFIGS.iter().map(|(_, configs)| configs.len()).sum();
    assert_eq!(rows.len(), expected * loads().len(), "more rows than there are settings");
    for row in rows.iter().filter(|row| row["allocator"] == "glibc") {
        assert!(row["not_measured"].is_null(), "the C library is always there: {row}");
    }
    check_picture(&file, rows);
}

/// One thread, and as many as there are processors.
fn loads() -> Vec<(&'static str, usize)> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut loads = vec![("churn", 1), ("search", 1), ("search", processors)];
    loads.dedup();
    loads
}

/// Figures, or a reason why there are none.
fn check(row: &Value) {
    let figures = ["records_per_second", "resident_bytes", "peak_bytes"];
    match row["not_measured"].as_str() {
        Some(why) => {
            assert!(!why.is_empty(), "{row}");
            assert!(figures.iter().all(|figure| row[figure].is_null()), "{row}");
            assert!(row["ratio_to_keep"].is_null() && row["ratio_to_dontneed"].is_null(), "{row}");
        }
        None => {
            let is_positive = |figure: &str| row[figure].as_f64().is_some_and(|number| number > 0.0);
            assert!(figures.iter().all(|figure| is_positive(figure)), "{row}");
            assert!(row["ratio_to_keep"].is_number(), "{row}");
            let version = row["version"].as_str();
            // The one that is bundled has no function for it that could be found.
            assert!(
                version.is_some_and(|version| version.contains('.')) || row["allocator"] == "mimalloc",
                "{row}"
            );
            assert!(row.get("ratio_to_dontneed").is_some(), "{row}");
        }
    }
}

fn check_picture(file: &Path, rows: &[Value]) {
    let picture = fs::read_to_string(file).expect("the picture");
    let document = roxmltree::Document::parse(&picture).unwrap_or_else(|error| panic!("{error}: {picture}"));
    for (config, colour) in COLOURS {
        let is_measured = |row: &&Value| row["config"] == config && row["not_measured"].is_null();
        let measured = rows.iter().filter(is_measured).count();
        let rectangles = document
            .descendants()
            .filter(|node| node.tag_name().name() == "rect" && node.attribute("fill") == Some(colour));
        // Speed and memory, and the explanation of the colour.
        assert_eq!(rectangles.count(), 2 * measured + 1, "{config}: {picture}");
    }
}

#[test]
fn people_get_tables_goals_and_reasons_and_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = vrange()
        .args(["bench", "malloc", "--quick"])
        .current_dir(folder.path())
        .output()
        .expect("the command starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for part in
        ["churn, 1 thread", "search, 1 thread", "records/s", "tcmalloc with marks, speed against keep"]
    {
        assert!(text.contains(part), "{text}");
    }
    let missing: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("not measured: ")).collect();
    if !missing.is_empty() {
        skipped(&format!("in part: {}", missing.join("; ")));
    }
    let left: Vec<_> = fs::read_dir(folder.path()).expect("the folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_picture_that_cannot_be_written_is_found_out_before_anything_is_measured() {
    let output = run(&["bench", "malloc", "--svg", "/no/such/folder/chart.svg"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("/no/such/folder/chart.svg"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
}

#[test]
fn signals_leave_no_process() {
    for (sent, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let mut command = vrange();
        command.args(["bench", "malloc"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut bench = command.spawn().expect("the command starts");
        let pid = bench.id();
        wait_until("a process that is measured", || !child_processes(pid).is_empty());
        let target = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(target, sent).expect("the process is there");
        let status = bench.wait().expect("it ends");
        assert_eq!(status.code(), code, "after {sent:?}");
        wait_until("the end of what was measured", || child_processes(pid).is_empty());
    }
}
