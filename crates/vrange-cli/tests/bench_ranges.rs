//! `vrange bench ranges`, run as a user runs it. Times are not asserted: a busy machine is no failure.

mod common;

use common::{json, run, stderr, stdout};

#[test]
fn every_operation_has_a_row_with_its_ratios() {
    let rows = json(&run(&["bench", "ranges", "--quick", "--json"]));
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
