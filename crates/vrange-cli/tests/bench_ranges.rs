//! `vrange bench ranges` and `bench raw`, run as a user runs them. Times are not asserted: a busy machine is no failure.

mod common;

use common::{json, run, stderr, stdout};

#[test]
fn every_operation_has_a_row_with_its_ratios() {
    let folder = tempfile::tempdir().expect("a folder");
    let picture = folder.path().join("ranges.svg");
    let path = picture.to_str().expect("UTF-8");
    let rows = json(&run(&["bench", "ranges", "--quick", "--json", "--svg", path]));
    check_picture(&std::fs::read_to_string(picture).expect("the picture"));
    let rows = rows.as_array().expect("an array of rows");
    for op in [
        "unpin+pin",
        "offer",
        "rescue",
        "release",
        "refill",
        "refault",
        "madv_free",
        "vma_flag_pair",
        "tag_pages",
    ] {
        for bytes in [4 << 10, 64 << 10, 1 << 20, 16 << 20] {
            let row = rows.iter().find(|row| row["op"] == op && row["bytes"] == bytes);
            let row = row.unwrap_or_else(|| panic!("no row for {op} of {bytes} bytes"));
            assert!(row["ns"].as_f64().is_some_and(|ns| ns > 0.0), "{row}");
            assert!(row["ratio_to"].is_object(), "{row}");
        }
    }
    for (op, peer) in
        [("range_state", "range"), ("memory_of_lost_pin", "range"), ("idle_second", "processor")]
    {
        let row = rows.iter().find(|row| row["op"] == op).unwrap_or_else(|| panic!("no row for {op}"));
        assert!(row["bytes"].is_u64() && row["ns"].is_f64() && row["ratio_to"][peer].is_f64(), "{row}");
    }
    let offer = rows.iter().find(|row| row["op"] == "offer").expect("an offer");
    assert!(offer["ratio_to"]["madv_free"].as_f64().is_some_and(|ratio| ratio > 0.0), "{offer}");
}

/// A line for each operation of a panel, and a circle for each size.
fn check_picture(picture: &str) {
    let document = roxmltree::Document::parse(picture).unwrap_or_else(|error| panic!("{error}: {picture}"));
    let circles = document.descendants().filter(|node| node.tag_name().name() == "circle").count();
    // Thirteen lines in four panels, at four sizes each.
    assert_eq!(circles, 13 * 4, "{picture}");
    for text in ["vrange bench ranges --quick; ", "unpin+pin", "vma_flag_pair", "tag_pages", "16 MiB"] {
        assert!(picture.contains(text), "{text}: {picture}");
    }
}

#[test]
fn marks_have_rows_and_a_picture_with_and_without_the_preloaded_library() {
    let folder = tempfile::tempdir().expect("a folder");
    let picture = folder.path().join("raw.svg");
    let path = picture.to_str().expect("UTF-8");
    let rows = json(&run(&["bench", "raw", "--quick", "--json", "--svg", path]));
    let rows = rows.as_array().expect("an array of rows");
    for op in ["mark+unmark", "mark", "vma_flag_pair", "madv_free"] {
        assert_eq!(rows.iter().filter(|row| row["op"] == op).count(), 3, "{op}: {rows:?}");
    }
    let picture = std::fs::read_to_string(picture).expect("the picture");
    assert!(roxmltree::Document::parse(&picture).is_ok(), "{picture}");
    for text in ["vrange bench raw --quick; ", "mark+unmark", "madv_free", "64 KiB"] {
        assert!(picture.contains(text), "{text}: {picture}");
    }
}

#[test]
fn people_get_the_goals() {
    let output = run(&["bench", "ranges", "--quick"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for goal in [
        "unpin+pin, against one flag madvise",
        "state of a range",
        "pin of a range lost whole",
        "idle, no pressure",
    ] {
        assert!(text.contains(goal), "{text}");
    }
}
