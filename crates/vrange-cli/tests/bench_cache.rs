//! `vrange bench cache`, run as a user runs it. Times are not asserted: a busy machine is no failure.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::{child_processes, demo_groups, has_cgroup, json, run, stderr, stdout, vrange, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const CACHES: [&str; 6] = ["vrange", "moka", "quick_cache", "foyer_lru", "foyer_lfu", "foyer_s3_fifo"];
/// Beside a tenant only one of foyer's policies takes part.
const BESIDE_A_TENANT: [&str; 4] = ["vrange", "moka", "quick_cache", "foyer_s3_fifo"];

#[test]
fn every_part_has_rows_with_figures_that_can_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("chart.svg");
    let path = file.to_str().expect("UTF-8");
    let rows = json(&run(&["bench", "cache", "--quick", "--json", "--svg", path]));
    let rows = rows.as_array().expect("an array of rows");
    check_gets(&of(rows, "get"));
    check_hit_rates(&of(rows, "hit_rate"));
    if !has_cgroup() {
        let parts: Vec<_> = of(rows, "not_measured").iter().map(|row| row["part"].clone()).collect();
        assert_eq!(parts, ["tenant", "handback"]);
        assert!(!file.exists(), "there is nothing to draw");
        return;
    }
    check_tenants(&of(rows, "tenant"));
    check_handback(&of(rows, "handback"));
    assert!(of(rows, "not_measured").is_empty());
    check_picture(&file);
}

fn of<'a>(rows: &'a [Value], part: &str) -> Vec<&'a Value> {
    rows.iter().filter(|row| row["bench"] == part).collect()
}

fn number(row: &Value, field: &str) -> f64 {
    row[field].as_f64().unwrap_or_else(|| panic!("no {field} in {row}"))
}

fn check_gets(rows: &[&Value]) {
    // Four kinds of reads, by one thread and by two.
    assert_eq!(rows.len(), CACHES.len() * 4 * 2);
    for cache in CACHES {
        let own: Vec<_> = rows.iter().filter(|row| row["cache"] == cache).collect();
        for (value_bytes, look) in [(64, "ends"), (1 << 10, "ends"), (64 << 10, "ends"), (64 << 10, "lines")]
        {
            for threads in [1, 2] {
                let is_it = |row: &&&&Value| {
                    row["value_bytes"] == value_bytes && row["look"] == look && row["threads"] == threads
                };
                let row = own.iter().find(is_it).unwrap_or_else(|| panic!("{cache} {value_bytes} {look}"));
                // Of a debug build on a busy machine; and no machine does it in a nanosecond.
                let rate = number(row, "gets_per_second");
                assert!((10.0..2e9).contains(&rate), "{row}");
                assert!(number(row, "ratio_to_fastest_peer") > 0.0, "{row}");
            }
        }
    }
    let fastest = rows.iter().filter(|row| row["cache"] != "vrange" && row["ratio_to_fastest_peer"] == 1.0);
    assert!(fastest.count() >= 8, "of each case one is the fastest");
}

fn check_hit_rates(rows: &[&Value]) {
    assert_eq!(rows.len(), CACHES.len() * 3);
    let rate = |cache: &str, trace: &str| {
        let row = rows.iter().find(|row| row["cache"] == cache && row["trace"] == trace);
        let row = row.unwrap_or_else(|| panic!("no row for {cache} on {trace}"));
        assert_eq!(row["is_at_budget"], true, "{row}");
        let (entries, value_bytes) = (number(row, "entries"), number(row, "value_bytes"));
        assert!(entries * value_bytes < 1.02 * number(row, "budget_bytes"), "{row}");
        // 16 MiB, less some overhead.
        assert!(entries * value_bytes > 0.4 * number(row, "budget_bytes"), "{row}");
        assert!((0.0..1000.0).contains(&number(row, "overhead_bytes")), "{row}");
        number(row, "hit_rate")
    };
    for cache in CACHES {
        let (zipf, scan, flood) = (rate(cache, "zipf"), rate(cache, "scan"), rate(cache, "flood"));
        // With a tenth of the keys; what is flooded can hit at most every other time.
        assert!((0.25..0.6).contains(&zipf), "{cache}: {zipf}");
        assert!((0.05..zipf).contains(&scan), "{cache}: {scan}");
        assert!((0.05..zipf).contains(&flood), "{cache}: {flood}");
    }
}

fn check_tenants(rows: &[&Value]) {
    let row = |cache: &str| {
        let row = rows.iter().find(|row| row["cache"] == cache);
        row.unwrap_or_else(|| panic!("no row for {cache}"))
    };
    assert_eq!(rows.len(), BESIDE_A_TENANT.len() + 2);
    for row in rows {
        assert_eq!(row["oom_kills"], 0, "{row}");
        assert!(number(row, "growth_ns") > 1e6, "70 MiB are not to be had in a millisecond: {row}");
        assert!(number(row, "slowdown") > 0.0, "{row}");
    }
    assert!(row("alone")["hits_per_second"].is_null());
    assert_eq!(number(row("no_cache"), "hits"), 0.0);
    assert!(number(row("no_cache"), "misses") > 0.0);
    for cache in BESIDE_A_TENANT {
        let row = row(cache);
        assert!(number(row, "hits_per_second") > 0.0, "{row}");
        assert!((0.05..0.9).contains(&number(row, "hit_rate")), "{row}");
        match row["capacity_bytes"].as_u64() {
            None => assert_eq!(cache, "vrange", "only ours has no size: {row}"),
            Some(bytes) => assert!((8 << 20..=48 << 20).contains(&bytes), "{row}"),
        }
    }
}

fn check_handback(rows: &[&Value]) {
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!((&row["oom_kills"], &row["control_is_killed"]), (&0.into(), &true.into()), "{row}");
        assert!(number(row, "handback_ns") > 1e3, "no 48 MiB in a microsecond: {row}");
    }
}

fn check_picture(file: &Path) {
    let picture = fs::read_to_string(file).expect("the picture");
    let document = roxmltree::Document::parse(&picture).unwrap_or_else(|error| panic!("{error}: {picture}"));
    let count = |tag, colour: &str| {
        let is_it = |node: &roxmltree::Node| {
            node.tag_name().name() == tag
                && [node.attribute("fill"), node.attribute("stroke")].contains(&Some(colour))
        };
        document.descendants().filter(is_it).count()
    };
    // A curve of memory, one of hits and an area for the tenant, of each cache.
    assert_eq!(count("polyline", "#0072B2"), BESIDE_A_TENANT.len(), "{picture}");
    assert_eq!(count("polyline", "#009E73"), BESIDE_A_TENANT.len(), "{picture}");
    assert_eq!(count("polygon", "#BBBBBB"), BESIDE_A_TENANT.len(), "{picture}");
}

#[test]
fn people_get_tables_and_goals_of_the_part_they_ask_for() {
    let output = run(&["bench", "cache", "--quick", "--part", "get"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "get of what is there",
        "get of 64 B, against the fastest other",
        "hits served beside a tenant",
        "not asked for",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("hit rate with"), "{text}");
}

#[test]
fn a_picture_that_cannot_be_written_is_found_out_before_anything_is_measured() {
    let output = run(&["bench", "cache", "--svg", "/no/such/folder/chart.svg"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
}

#[test]
fn signals_leave_no_process_and_no_group() {
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = vrange();
        command.args(["bench", "cache", "--part", "tenant"]).stdout(Stdio::null()).stderr(Stdio::null());
        if !has_cgroup() {
            command.args(["--part", "hit-rate"]);
        }
        let mut bench = command.spawn().expect("the command starts");
        let pid = bench.id();
        wait_until("a process that is measured", || !child_processes(pid).is_empty());
        let target = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(target, sent).expect("the process is there");
        let status = bench.wait().expect("it ends");
        assert_eq!(status.code(), Some(code), "after {sent:?}");
        wait_until("the end of what was measured", || child_processes(pid).is_empty());
        assert_eq!(demo_groups(pid), Vec::<std::path::PathBuf>::new(), "after {sent:?}");
    }
}
