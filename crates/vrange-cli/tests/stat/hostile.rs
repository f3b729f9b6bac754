//! Processes that mean no good.

use serde_json::Value;
use vrange_testing::Child;

use crate::{common, figures_when, next_figures, shown, started};

/// What is said of a process that pretends.
fn closed(word: &str) -> (Child, Value) {
    let child = started(&format!("pretends {word}"));
    assert!(has_a_descriptor_of_the_name(child.pid()) || word == "pipe", "{word}");
    let closed = shown("closed", child.pid());
    let closed = closed.unwrap_or_else(|| panic!("{word} is not seen"));
    assert!(shown("processes", child.pid()).is_none(), "{word} is believed");
    (child, closed)
}

/// Otherwise nothing would be tried. (Only root can give a pipe the name.)
fn has_a_descriptor_of_the_name(pid: u32) -> bool {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten();
    let mut links = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
    links.any(|link| link.to_string_lossy().starts_with("/memfd:vrange-stats "))
}

#[test]
fn files_that_are_not_sealed_memory_of_the_right_size_are_not_read() {
    for word in ["unsealed", "short", "huge", "pipe"] {
        assert_eq!(closed(word).1["reason"], "nothing_published", "{word}");
    }
}

#[test]
fn nonsense_in_the_file_is_nonsense() {
    for (word, reason) in
        [("zeros", "unreadable"), ("noise", "unreadable"), ("other_version", "other_version")]
    {
        let (child, closed) = closed(word);
        assert_eq!(closed["reason"], reason, "{word}");
        let output = common::run(&["stat", &child.pid().to_string()]);
        assert_eq!(output.status.code(), Some(1));
        let message = closed["message"].as_str().expect("a sentence");
        assert!(common::stderr(&output).contains(message), "{}", common::stderr(&output));
    }
}

#[test]
fn figures_of_another_process_are_not_taken_for_its_own() {
    let real = started("volatile");
    let _ = next_figures(real.pid());
    let (_copy, closed) = closed(&format!("copied pid={}", real.pid()));
    assert_eq!(closed["reason"], "nothing_published");
}

#[test]
fn a_name_cannot_do_anything_to_the_terminal() {
    let child = started("renamed");
    let figures = figures_when(child.pid(), "figures", |_| true);
    let name = figures["name"].as_str().expect("a name");
    assert!(name.ends_with("[2Jevil") && !name.contains('\x1b'), "{name:?}");
    let heap = figures["heaps"][0]["name"].as_str().expect("a name");
    assert!(heap.contains("]0;evil") && !heap.contains(char::is_control), "{heap:?}");
    let text = common::stdout(&common::run(&["stat"]));
    assert!(text.contains("[2Jevil") && !text.contains(['\x1b', '\x07']), "{text:?}");
}
