//! `vrange doctor`, run as a user runs it.

mod common;

use common::{json, run, stdout};

#[test]
fn every_topic_has_its_value_and_meaning() {
    let report = json(&run(&["doctor", "--json"]));
    assert!(
        ["good", "limited", "missing"].contains(&report["verdict"].as_str().expect("a verdict")),
        "{report}"
    );
    let findings = report["findings"].as_array().expect("findings");
    let topics: Vec<&str> = findings.iter().filter_map(|finding| finding["topic"].as_str()).collect();
    for topic in [
        "kernel",
        "offers",
        "vectored_offers",
        "residency",
        "cgroup",
        "hidden_limits",
        "processor",
        "psi",
        "psi_triggers",
        "swap",
        "huge_pages",
        "memlock",
    ] {
        assert!(topics.contains(&topic), "{topic} is missing: {report}");
    }
    for finding in findings {
        for key in ["value", "meaning"] {
            assert!(finding[key].as_str().is_some_and(|text| !text.is_empty()), "{finding}");
        }
    }
}

#[test]
fn people_get_a_verdict_at_the_end() {
    let output = run(&["doctor"]);
    assert!(output.status.success());
    assert!(
        stdout(&output).trim_end().lines().last().is_some_and(|line| line.contains("work")),
        "{}",
        stdout(&output)
    );
}
