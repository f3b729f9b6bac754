//! The results of a bench as tables.
//!
//! They are made of what the bench printed as JSON, field by field. A figure stands in its cell twice: as people read it, and, for
//! programs, as it is in the JSON.

mod layout;

use serde_json::Value;

use super::benches::Bench;
use layout::{Column, Group, Kind};

/// A table.
#[derive(Debug, PartialEq)]
pub(super) struct Table {
    /// What is in it, and the figures that all its lines have in common.
    pub(super) caption: Vec<Part>,
    pub(super) columns: Vec<Heading>,
    pub(super) lines: Vec<Line>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Heading {
    pub(super) text: &'static str,
    /// Figures stand on the right.
    pub(super) is_figure: bool,
}

#[derive(Debug, PartialEq)]
pub(super) struct Line {
    /// Is it about this project?
    pub(super) is_ours: bool,
    pub(super) cells: Vec<Cell>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) is_figure: bool,
    pub(super) parts: Vec<Part>,
}

/// One value in a cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// In front of it, such as the peer of a ratio.
    pub(super) label: String,
    /// As people read it.
    pub(super) text: String,
    /// As it is in the JSON; none for words.
    pub(super) figure: Option<String>,
}

/// What was not measured, and why.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Missing {
    pub(super) what: String,
    pub(super) why: String,
}

/// All tables of a bench that have lines.
pub(super) fn of(bench: Bench, results: &Value) -> Vec<Table> {
    if let Some(object) = results.as_object() {
        return vec![of_object(object)];
    }
    let rows: Vec<&Value> = results.as_array().map(|rows| rows.iter().collect()).unwrap_or_default();
    let tables = layout::groups(bench).iter().flat_map(|group| of_group(group, &rows));
    tables.filter(|table| !table.lines.is_empty()).collect()
}

/// What the results themselves say was not measured.
pub(super) fn missing(results: &Value) -> Vec<Missing> {
    let word = |row: &Value, field: &str| row[field].as_str().map(str::to_owned);
    let missing = |row: &Value| {
        if let Some(why) = word(row, "not_measured") {
            let names = [word(row, "allocator"), word(row, "config")];
            return Some(Missing { what: names.into_iter().flatten().collect::<Vec<_>>().join(" "), why });
        }
        (row["bench"] == "not_measured").then(|| Missing {
            what: word(row, "part").unwrap_or_default(),
            why: word(row, "reason").unwrap_or_default(),
        })
    };
    let rows = results.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut missing: Vec<_> = rows.iter().filter_map(missing).collect();
    missing.sort();
    missing.dedup();
    missing
}

/// A table for each value that the group is divided by.
fn of_group(group: &Group, rows: &[&Value]) -> Vec<Table> {
    let rows: Vec<&Value> = rows.iter().copied().filter(|row| group.has(row)).collect();
    let mut captions: Vec<Vec<Part>> = Vec::new();
    for caption in rows.iter().map(|row| group.caption(row)) {
        if !captions.contains(&caption) {
            captions.push(caption);
        }
    }
    let table = |caption: Vec<Part>| {
        let rows: Vec<&Value> = rows.iter().copied().filter(|row| group.caption(row) == caption).collect();
        let columns: Vec<&Column> = group.columns.iter().filter(|column| column.is_needed(&rows)).collect();
        Table {
            caption,
            columns: columns.iter().map(|column| column.heading()).collect(),
            lines: rows.iter().map(|row| group.line(&columns, row)).collect(),
        }
    };
    captions.into_iter().map(table).collect()
}

/// A single object: a line for each field.
fn of_object(object: &serde_json::Map<String, Value>) -> Table {
    let line = |(name, value): (&String, &Value)| Line {
        is_ours: false,
        cells: vec![
            Cell { is_figure: false, parts: vec![Part::word(name.replace('_', " "))] },
            Cell { is_figure: true, parts: Kind::by_name(name).parts(value) },
        ],
    };
    Table {
        caption: vec![Part::word("What was found; of several rounds the one with the median time")],
        columns: vec![
            Heading { text: "figure", is_figure: false },
            Heading { text: "value", is_figure: true },
        ],
        lines: object.iter().map(line).collect(),
    }
}

impl Part {
    fn word(text: impl Into<String>) -> Self {
        Self { label: String::new(), text: text.into(), figure: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(table: &Table) -> Vec<Vec<String>> {
        let cell = |cell: &Cell| {
            let parts = cell.parts.iter().map(|part| format!("{}{}", part.label, part.text));
            parts.collect::<Vec<_>>().join(", ")
        };
        table.lines.iter().map(|line| line.cells.iter().map(cell).collect()).collect()
    }

    #[test]
    fn an_operation_has_a_table_and_ours_stand_out() {
        let results = json!([
            {"op": "offer", "bytes": 65536, "ns": 1500.0, "ratio_to": {"madv_free": 1.25}},
            {"op": "madv_free", "bytes": 65536, "ns": 1200.0, "ratio_to": {}},
            {"op": "offer", "bytes": 1048576, "ns": 2e6, "ratio_to": {"madv_free": 0.5}},
        ]);
        let tables = of(Bench::Ranges, &results);
        let captions: Vec<_> = tables.iter().map(|table| table.caption[0].text.as_str()).collect();
        assert_eq!(captions, ["offer", "madv_free"]);
        let expected = [["64 KiB", "1.5 µs", "madv_free 1.25"], ["1 MiB", "2.0 ms", "madv_free 0.50"]];
        assert_eq!(texts(&tables[0]), expected);
        assert_eq!(texts(&tables[1]), [["64 KiB", "1.2 µs"]]);
        let ours: Vec<_> = tables.iter().map(|table| table.lines[0].is_ours).collect();
        assert_eq!(ours, [true, false]);
        let figures = tables[0].lines[0].cells.iter().flat_map(|cell| &cell.parts);
        let figures: Vec<_> = figures.filter_map(|part| part.figure.as_deref()).collect();
        assert_eq!(figures, ["65536", "1500.0", "1.25"]);
    }

    #[test]
    fn allocators_have_a_table_for_each_load_and_reasons_come_once() {
        let row = |threads: u32, config: &str, rate: Value, why: Value| {
            json!({"allocator": "jemalloc", "version": "5.3.0", "config": config, "workload": "search", "threads": threads,
                   "records_per_second": rate, "resident_bytes": null, "peak_bytes": null,
                   "ratio_to_keep": 0.5, "ratio_to_dontneed": null, "not_measured": why})
        };
        let results = json!([
            row(1, "marks", json!(12_345.0), Value::Null),
            row(1, "free", Value::Null, json!("no <library>")),
            row(2, "marks", json!(2.0), Value::Null),
            row(2, "free", Value::Null, json!("no <library>")),
        ]);
        let tables = of(Bench::Malloc, &results);
        let whole = |table: &Table| {
            let parts = table.caption.iter().map(|part| format!("{}{}", part.label, part.text));
            parts.collect::<Vec<_>>().join(", ")
        };
        let captions: Vec<_> = tables.iter().map(whole).collect();
        assert_eq!(captions, ["search, threads: 1", "search, threads: 2"]);
        assert_eq!(tables[1].caption[1].figure.as_deref(), Some("2"));
        assert!(tables[0].lines[0].is_ours);
        assert_eq!(texts(&tables[0])[0][..3], ["jemalloc", "5.3.0", "marks"]);
        let what = Missing { what: "jemalloc free".to_owned(), why: "no <library>".to_owned() };
        assert_eq!(missing(&results), [what]);
    }

    #[test]
    fn a_summary_has_a_line_for_each_field() {
        let table =
            &of(Bench::Demo, &json!({"lost_bytes": 1048576, "hog_slowdown": 1.1, "pressure": "madvise"}))[0];
        let expected = [["hog slowdown", "1.10"], ["lost bytes", "1 MiB"], ["pressure", "madvise"]];
        assert_eq!(texts(table), expected);
    }

    #[test]
    fn what_is_no_result_has_no_table() {
        for results in [Value::Null, json!("words"), json!([1, [2], {"bench": "unheard of"}])] {
            assert_eq!(of(Bench::Cache, &results), [], "{results}");
            assert_eq!(missing(&results), [], "{results}");
        }
    }
}
