//! `vrange report`, run as a user runs it. Times are not asserted: a busy machine is no failure.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::{child_processes, demo_groups, has_cgroup, run, stderr, stdout, vrange, wait_until};
use roxmltree::{Document, Node, ParsingOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use vrange_testing::{Console, scale, skipped};

/// All of them, in the page's order.
const BENCHES: [&str; 5] = ["demo", "ranges", "raw", "malloc", "cache"];

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn report(benches: &[&str], place: &Path) -> Command {
    let mut command = vrange();
    command.args(["report", "--quick", "-o"]).arg(place);
    command.args(benches.iter().flat_map(|bench| ["--bench", bench]));
    command
}

fn parse(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|error| panic!("{error}: {page}"))
}

fn section<'a>(document: &'a Document, bench: &str) -> Node<'a, 'a> {
    let is_heading = |node: &Node| node.has_tag_name("h2") && node.attribute("id") == Some(bench);
    let heading = document.descendants().find(is_heading).unwrap_or_else(|| panic!("no section {bench}"));
    heading.parent().expect("a section")
}

fn text(node: Node) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

fn has_class(node: Node, class: &str) -> bool {
    node.descendants().any(|node| {
        node.attribute("class").is_some_and(|classes| classes.split(' ').any(|name| name == class))
    })
}

/// Every number in the JSON, as it is written there.
fn figures(value: &Value) -> Vec<String> {
    match value {
        Value::Number(number) => vec![number.to_string()],
        Value::Array(values) => values.iter().flat_map(figures).collect(),
        Value::Object(fields) => fields.values().flat_map(figures).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_page_has_every_figure_and_needs_nothing_else() {
    let above = tempfile::tempdir().expect("a folder");
    let place = above.path().join("report");
    let benches: &[&str] = scale().pick(&["ranges", "raw"], &BENCHES);
    let output = report(benches, &place).output().expect("the command starts");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains(&format!("{}: ", place.join("index.html").display())));
    assert_eq!(names(above.path()), BTreeSet::from(["report".to_owned()]), "something is left beside it");
    let page = fs::read_to_string(place.join("index.html")).expect("the page");
    check_self_contained(&page);
    let document = parse(&page);
    assert!(text(section(&document, "machine").parent().expect("a body")).contains("Kernel"));
    for bench in BENCHES {
        let section = section(&document, bench);
        if benches.contains(&bench) {
            check_section(section, bench, &place);
        } else {
            assert!(has_class(section, "not-measured") && text(section).contains("not asked for"));
            assert!(!place.join(format!("{bench}.json")).exists());
        }
    }
    let all: Value =
        serde_json::from_slice(&fs::read(place.join("report.json")).expect("a file")).expect("JSON");
    assert_eq!(all["quick"], true);
    let sections = all["sections"].as_array().expect("an array");
    for (section, bench) in sections.iter().zip(BENCHES) {
        let outcome = if benches.contains(&bench) { "measured" } else { "not_measured" };
        assert_eq!((&section["bench"], &section["outcome"]), (&bench.into(), &outcome.into()), "{section}");
    }
    assert_eq!(sections.len(), BENCHES.len());
}

/// Nothing is fetched: no address but the names of namespaces, and no element or style that could fetch.
fn check_self_contained(page: &str) {
    let without = page.replace("http://www.w3.org/2000/svg", "");
    for fetching in ["http", "url(", "@import", "<link", "<script", "<img", "src="] {
        assert!(!without.contains(fetching), "{fetching}");
    }
    let document = parse(page);
    let hrefs: Vec<_> = document.descendants().filter_map(|node| node.attribute("href")).collect();
    assert!(!hrefs.is_empty() && hrefs.iter().all(|href| href.starts_with('#')), "{hrefs:?}");
    for href in hrefs {
        assert!(document.descendants().any(|node| node.attribute("id") == href.strip_prefix('#')), "{href}");
    }
}

/// The figures of the JSON file, one by one; the file itself; the picture; the command.
fn check_section(section: Node, bench: &str, place: &Path) {
    let json = fs::read_to_string(place.join(format!("{bench}.json"))).expect("the results");
    let results: Value = serde_json::from_str(&json).expect("JSON");
    let data = section.descendants().filter(|node| node.has_tag_name("data"));
    let mut shown: Vec<_> = data.filter_map(|node| node.attribute("value")).collect();
    let in_json = figures(&results);
    let different: BTreeSet<_> = in_json.iter().map(String::as_str).collect();
    assert_eq!(shown.iter().copied().collect::<BTreeSet<_>>(), different, "{bench}");
    // Figures by which tables are divided stand in a caption, once for all lines.
    if !["malloc", "cache"].contains(&bench) {
        for figure in &in_json {
            let at = shown.iter().position(|value| value == figure);
            shown.swap_remove(at.unwrap_or_else(|| panic!("{bench}: {figure} is not there as often")));
        }
        assert_eq!(shown, Vec::<&str>::new(), "{bench}: figures that are there more often");
    }
    let raw = section.descendants().filter(|node| node.has_tag_name("pre")).filter_map(|node| node.text());
    let raw: Vec<_> = raw.collect();
    assert!(raw.iter().any(|text| text.trim() == json.trim()), "{bench}: no JSON in {raw:?}");
    assert!(raw.iter().any(|text| text.contains(&format!("{bench} ")) && text.contains("--json")), "{raw:?}");
    let picture = place.join(format!("{bench}.svg"));
    let is_svg = |node: &Node| node.has_tag_name(("http://www.w3.org/2000/svg", "svg"));
    assert_eq!(section.descendants().filter(is_svg).count(), usize::from(picture.exists()), "{bench}");
    assert!(section.descendants().any(|node| node.has_tag_name("th") && node.text() == Some("standing")));
}

/// Starts a report of which malloc is measured at length, and waits until that runs.
fn start_long(place: &Path) -> (Child, u32) {
    let mut command = vrange();
    command.args(["report", "--bench", "malloc", "-o"]).arg(place);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command starts");
    let bench = wait_for_bench(child.id(), "malloc");
    wait_until("a process that is measured", || !child_processes(bench).is_empty());
    (child, bench)
}

/// The process in which a report measures this.
fn wait_for_bench(report: u32, bench: &str) -> u32 {
    let mut found = None;
    wait_until("the bench", || {
        found = benches_of(report).into_iter().find(|(_, line)| line.contains(&format!("\0{bench}\0")));
        found.is_some()
    });
    found.expect("it was found").0
}

/// The processes that a report has started, and how.
fn benches_of(report: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let line = |pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains(&format!("--started-by\0{report}\0")).then_some((pid, line))
    };
    pids.filter_map(line).collect()
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the process is there");
}

#[test]
fn signals_end_everything_and_leave_what_was_there() {
    for (sent, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let above = tempfile::tempdir().expect("a folder");
        let place = above.path().join("report");
        fs::create_dir(&place).expect("a folder");
        let older = "<meta name=\"generator\" content=\"vrange report 0.0.0\"/>";
        fs::write(place.join("index.html"), older).expect("a file");
        let (mut child, bench) = start_long(&place);
        send(child.id(), sent);
        assert_eq!(child.wait().expect("it ends").code(), code, "after {sent:?}");
        wait_until("the end of the bench", || benches_of(child.id()).is_empty());
        wait_until("the end of what was measured", || child_processes(bench).is_empty());
        assert_eq!(fs::read_to_string(place.join("index.html")).expect("the page"), older, "after {sent:?}");
        // Nobody can clean up behind a process that is killed at once.
        if sent != Signal::KILL {
            assert_eq!(names(above.path()), BTreeSet::from(["report".to_owned()]), "after {sent:?}");
        }
    }
}

#[test]
fn a_bench_that_is_interrupted_with_the_report_has_time_to_remove_its_cgroups() {
    if !has_cgroup() {
        return;
    }
    for sent in [Signal::INT, Signal::KILL] {
        let above = tempfile::tempdir().expect("a folder");
        let mut command = vrange();
        command.args(["report", "--bench", "demo", "-o"]).arg(above.path().join("report"));
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the command starts");
        let bench = wait_for_bench(child.id(), "demo");
        wait_until("a group", || !demo_groups(bench).is_empty());
        send(child.id(), sent);
        child.wait().expect("it ends");
        wait_until("the end of the bench", || benches_of(child.id()).is_empty());
        assert_eq!(demo_groups(bench), Vec::<PathBuf>::new(), "after {sent:?}");
    }
}

#[test]
fn a_bench_that_dies_is_shown_as_failed_and_the_others_are_kept() {
    let above = tempfile::tempdir().expect("a folder");
    let place = above.path().join("report");
    let mut command = report(&["raw", "malloc"], &place);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    send(wait_for_bench(child.id(), "malloc"), Signal::KILL);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let why = "the process was ended by signal 9";
    let says = stderr(&output);
    assert!(says.contains("vrange bench malloc --quick --json: ") && says.contains(why), "{says}");
    let page = fs::read_to_string(place.join("index.html")).expect("the page");
    let document = parse(&page);
    let malloc = section(&document, "malloc");
    assert!(has_class(malloc, "failed") && text(malloc).contains(why), "{}", text(malloc));
    assert!(!has_class(section(&document, "raw"), "failed"));
    check_section(section(&document, "raw"), "raw", &place);
    assert!(!place.join("malloc.json").exists());
}

#[test]
fn folders_that_hold_something_else_are_refused_before_anything_is_measured() {
    let above = tempfile::tempdir().expect("a folder");
    let place = above.path().join("mine");
    fs::create_dir(&place).expect("a folder");
    fs::write(place.join("thesis.tex"), "years of work").expect("a file");
    let output = report(&["raw"], &place).output().expect("the command starts");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("holds something that is not a report"), "{}", stderr(&output));
    assert_eq!(names(&place), BTreeSet::from(["thesis.tex".to_owned()]));
    for place in ["/no/such/folder/report", "/proc/self/status", "/proc"] {
        let output = run(&["report", "--quick", "-o", place]);
        assert_eq!(output.status.code(), Some(2), "{place}: {}", stderr(&output));
        assert!(stderr(&output).contains(place), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}

/// A file system in memory. Dropping it unmounts it.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn of(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={bytes}");
        let mount = |command: &mut Command| {
            command.args(["-t", "tmpfs", "-o", &size, "vrange-test"]).arg(folder.path()).output()
        };
        match mount(&mut Command::new("mount")) {
            Ok(output) if output.status.success() => Some(Self { folder }),
            Ok(output) => {
                skipped(&format!("no file system can be mounted: {}", stderr(&output).trim()));
                None
            }
            Err(error) => {
                skipped(&format!("no file system can be mounted: {error}"));
                None
            }
        }
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("report")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.folder.path()).status();
        // A second panic would hide the first.
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }
}

fn check_is_full(output: &Output) {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    assert!(stderr(output).contains("No space left"), "{}", stderr(output));
    assert!(stderr(output).contains("make room"), "{}", stderr(output));
    assert_eq!(stdout(output), "");
}

#[test]
fn a_disk_that_is_full_from_the_beginning_is_found_out_before_anything_is_measured() {
    let Some(disk) = Disk::of(64 << 10) else { return };
    check_is_full(&report(&["raw"], &disk.place()).output().expect("the command starts"));
    assert_eq!(names(disk.folder.path()), BTreeSet::new());
}

#[test]
fn a_disk_that_is_full_at_the_end_leaves_nothing() {
    let Some(disk) = Disk::of(2 << 20) else { return };
    let mut command = report(&["malloc"], &disk.place());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    wait_for_bench(child.id(), "malloc");
    // Somebody takes all there is, and even what was set aside.
    let drafts = fs::read_dir(disk.folder.path()).expect("a folder").flatten();
    let drafts: Vec<_> = drafts.map(|entry| entry.path()).collect();
    assert_eq!(drafts.len(), 1, "{drafts:?}");
    let room =
        fs::OpenOptions::new().write(true).open(drafts[0].join(".room")).expect("room that is set aside");
    room.set_len(0).expect("a file of no bytes");
    let full = fs::write(disk.folder.path().join("full"), vec![1; 4 << 20]).expect_err("there is no room");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    check_is_full(&child.wait_with_output().expect("it ends"));
    assert_eq!(names(disk.folder.path()), BTreeSet::from(["full".to_owned()]));
}

#[test]
fn a_terminal_shows_which_bench_runs_and_how_long_it_takes() {
    let above = tempfile::tempdir().expect("a folder");
    let mut console = Console::start(report(&["malloc"], &above.path().join("report")), 24, 100);
    console.wait_for("the bench", |text| {
        text.contains("0 of 1 done; vrange bench malloc --quick --json (about 20 s)")
    });
    console.press("\u{3}");
    assert_eq!(console.end().code(), Some(130), "{}", console.text());
    assert_eq!(names(above.path()), BTreeSet::new());
}

#[test]
fn a_demo_is_on_the_page_whether_or_not_it_came_to_a_good_end() {
    let above = tempfile::tempdir().expect("a folder");
    let place = above.path().join("report");
    let output = report(&["demo"], &place).output().expect("the command starts");
    let page = fs::read_to_string(place.join("index.html"))
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let document = parse(&page);
    let section = section(&document, "demo");
    // On a machine with much else to do the hog may be killed; then there are results, and it has failed.
    assert_eq!(has_class(section, "failed"), !output.status.success(), "{}", stderr(&output));
    if place.join("demo.json").exists() {
        check_section(section, "demo", &place);
    } else {
        assert!(has_class(section, "failed") || has_class(section, "not-measured"));
    }
}
