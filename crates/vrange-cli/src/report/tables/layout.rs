//! Which fields of the JSON stand in which column, and how they are written.

use serde_json::Value;

use super::{Cell, Heading, Line, Part};
use crate::bench::table::human_ns;
use crate::report::benches::Bench;
use crate::size::human;

/// Rows that have the same fields.
pub(super) struct Group {
    /// The field and the value by which they are known; none: all rows are of the group.
    known_by: Option<(&'static str, &'static str)>,
    caption: &'static str,
    /// A table for each value of these.
    divided_by: &'static [(&'static str, Kind)],
    /// Which rows are about this project.
    ours: Ours,
    pub(super) columns: &'static [Column],
}

/// How to tell whether a row is about this project.
#[derive(Clone, Copy)]
enum Ours {
    /// It is compared with something.
    Compared,
    /// A field has this value.
    Named(&'static str, &'static str),
    All,
}

/// One field.
pub(super) struct Column {
    heading: &'static str,
    field: &'static str,
    kind: Kind,
}

/// How a field is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Bytes,
    Ns,
    Ms,
    /// Times as much, times as fast.
    Times,
    /// A part of 1.
    Share,
    Count,
    /// Ratios by the name of what they are to.
    Ratios,
}

const fn column(heading: &'static str, field: &'static str, kind: Kind) -> Column {
    Column { heading, field, kind }
}

const OPERATIONS: Group = Group {
    known_by: None,
    caption: "",
    divided_by: &[("op", Kind::Word)],
    ours: Ours::Compared,
    columns: &[
        column("size", "bytes", Kind::Bytes),
        column("median", "ns", Kind::Ns),
        column("times the cost of", "ratio_to", Kind::Ratios),
    ],
};

const ALLOCATORS: Group = Group {
    known_by: None,
    caption: "",
    divided_by: &[("workload", Kind::Word), ("threads", Kind::Count)],
    ours: Ours::Named("config", "marks"),
    columns: &[
        column("allocator", "allocator", Kind::Word),
        column("version", "version", Kind::Word),
        column("freed memory", "config", Kind::Word),
        column("records/s", "records_per_second", Kind::Count),
        column("of keep", "ratio_to_keep", Kind::Times),
        column("of dontneed", "ratio_to_dontneed", Kind::Times),
        column("resident after the rest", "resident_bytes", Kind::Bytes),
        column("peak", "peak_bytes", Kind::Bytes),
    ],
};

const OUR_CACHE: Ours = Ours::Named("cache", "vrange");

const CACHES: [Group; 4] = [
    Group {
        known_by: Some(("bench", "get")),
        caption: "get of what is there",
        divided_by: &[("value_bytes", Kind::Bytes), ("look", Kind::Word), ("threads", Kind::Count)],
        ours: OUR_CACHE,
        columns: &[
            column("cache", "cache", Kind::Word),
            column("gets/s", "gets_per_second", Kind::Count),
            column("of the fastest other", "ratio_to_fastest_peer", Kind::Times),
        ],
    },
    Group {
        known_by: Some(("bench", "hit_rate")),
        caption: "hit rate at equal memory",
        divided_by: &[("trace", Kind::Word), ("value_bytes", Kind::Bytes), ("budget_bytes", Kind::Bytes)],
        ours: OUR_CACHE,
        columns: &[
            column("cache", "cache", Kind::Word),
            column("hit rate", "hit_rate", Kind::Share),
            column("entries", "entries", Kind::Count),
            column("resident", "resident_bytes", Kind::Bytes),
            column("within 2 % of the budget", "is_at_budget", Kind::Word),
            column("overhead of an entry", "overhead_bytes", Kind::Bytes),
            column("size that was given", "capacity_bytes", Kind::Bytes),
            column("sizes tried", "tries", Kind::Count),
        ],
    },
    Group {
        known_by: Some(("bench", "tenant")),
        caption: "beside a tenant that grows and shrinks",
        divided_by: &[],
        ours: OUR_CACHE,
        columns: &[
            column("beside", "cache", Kind::Word),
            column("size", "capacity_bytes", Kind::Bytes),
            column("hits/s", "hits_per_second", Kind::Count),
            column("of the best other", "ratio_to_best_peer", Kind::Times),
            column("hit rate", "hit_rate", Kind::Share),
            column("hits", "hits", Kind::Count),
            column("misses", "misses", Kind::Count),
            column("tenant grows in", "growth_ns", Kind::Ns),
            column("of its time alone", "slowdown", Kind::Times),
            column("OOM kills", "oom_kills", Kind::Count),
            column("runs", "runs", Kind::Count),
        ],
    },
    Group {
        known_by: Some(("bench", "handback")),
        caption: "memory handed back",
        divided_by: &[],
        ours: Ours::All,
        columns: &[
            column("values of", "value_bytes", Kind::Bytes),
            column("handed back", "handed_bytes", Kind::Bytes),
            column("of", "cached_bytes", Kind::Bytes),
            column("in", "handback_ns", Kind::Ns),
            column("in huge pages", "huge_bytes", Kind::Bytes),
            column("OOM kills", "oom_kills", Kind::Count),
            column("a kill without the reclaimer", "control_is_killed", Kind::Word),
            column("runs", "runs", Kind::Count),
        ],
    },
];

/// The groups of a bench's rows.
pub(super) fn groups(bench: Bench) -> &'static [Group] {
    match bench {
        Bench::Demo => &[],
        Bench::Ranges | Bench::Raw => std::slice::from_ref(&OPERATIONS),
        Bench::Malloc => std::slice::from_ref(&ALLOCATORS),
        Bench::Cache => &CACHES,
    }
}

impl Group {
    /// Is the row one of these?
    pub(super) fn has(&self, row: &Value) -> bool {
        row.is_object() && self.known_by.is_none_or(|(field, value)| row[field] == value)
    }

    /// What stands above the table that the row is in.
    pub(super) fn caption(&self, row: &Value) -> Vec<Part> {
        let label = |&(field, kind): &(&str, Kind)| match kind {
            Kind::Word => String::new(),
            _ => format!("{}: ", field.trim_end_matches("_bytes")),
        };
        let part = |of: &(&str, Kind)| Part { label: label(of), ..of.1.part(&row[of.0]) };
        let caption = Some(self.caption).filter(|caption| !caption.is_empty()).map(Part::word);
        caption.into_iter().chain(self.divided_by.iter().map(part)).collect()
    }

    pub(super) fn line(&self, columns: &[&Column], row: &Value) -> Line {
        let is_ours = match self.ours {
            Ours::Compared => row["ratio_to"].as_object().is_some_and(|ratios| !ratios.is_empty()),
            Ours::Named(field, name) => row[field] == name,
            Ours::All => true,
        };
        let cell = |column: &&Column| Cell {
            is_figure: column.kind != Kind::Word,
            parts: column.kind.parts(&row[column.field]),
        };
        Line { is_ours, cells: columns.iter().map(cell).collect() }
    }
}

impl Column {
    /// What is compared with nothing needs no column for that.
    pub(super) fn is_needed(&self, rows: &[&Value]) -> bool {
        let is_compared = |row: &&Value| row[self.field].as_object().is_some_and(|ratios| !ratios.is_empty());
        self.kind != Kind::Ratios || rows.iter().any(is_compared)
    }

    pub(super) fn heading(&self) -> Heading {
        Heading { text: self.heading, is_figure: self.kind != Kind::Word }
    }
}

impl Kind {
    /// As the end of a field's name tells it.
    pub(super) fn by_name(field: &str) -> Self {
        match field {
            field if field.ends_with("_bytes") => Self::Bytes,
            field if field.ends_with("_ms") => Self::Ms,
            "hog_slowdown" => Self::Times,
            "pressure" => Self::Word,
            "age_order_spearman" => Self::Times,
            _ => Self::Count,
        }
    }

    /// The field's value, or a dash for what was not measured.
    pub(super) fn parts(self, value: &Value) -> Vec<Part> {
        if let (Self::Ratios, Value::Object(ratios)) = (self, value) {
            let part = |(peer, ratio): (&String, &Value)| {
                let part = Self::Times.part(ratio);
                Part { label: format!("{peer} "), ..part }
            };
            return if ratios.is_empty() {
                vec![Part::word("–")]
            } else {
                ratios.iter().map(part).collect()
            };
        }
        vec![self.part(value)]
    }

    fn part(self, value: &Value) -> Part {
        match value {
            Value::Null => Part::word("–"),
            Value::String(text) => Part::word(text.clone()),
            Value::Bool(true) => Part::word("yes"),
            Value::Bool(false) => Part::word("no"),
            Value::Number(number) => Part {
                label: String::new(),
                text: number.as_f64().map_or_else(|| number.to_string(), |figure| self.text(figure)),
                figure: Some(number.to_string()),
            },
            Value::Array(_) | Value::Object(_) => Part::word(value.to_string()),
        }
    }

    fn text(self, figure: f64) -> String {
        match self {
            Self::Bytes => bytes(figure),
            Self::Ns => human_ns(figure),
            Self::Ms => human_ns(figure * 1e6),
            Self::Times | Self::Ratios => times(figure),
            Self::Share => format!("{:.2} %", figure * 100.0),
            Self::Count | Self::Word => grouped(figure),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "amounts of memory")]
fn bytes(figure: f64) -> String {
    if figure < 1024.0 { format!("{} B", (figure * 10.0).round() / 10.0) } else { human(figure as u64) }
}

/// Two decimals, or what is left of a small figure.
fn times(figure: f64) -> String {
    if figure != 0.0 && figure.abs() < 0.1 {
        return format!("{}", crate::bench::table::significant(figure));
    }
    format!("{figure:.2}")
}

/// A whole number in groups of three digits.
fn grouped(figure: f64) -> String {
    let digits = format!("{:.0}", figure.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if figure <= -0.5 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!(Kind::Count.text(1_234_567.0), "1,234,567");
        assert_eq!(Kind::Count.text(0.0), "0");
        assert_eq!(Kind::Count.text(999.6), "1,000");
        assert_eq!(Kind::Bytes.text(93.25), "93.3 B");
        assert_eq!(Kind::Bytes.text(65536.0), "64 KiB");
        assert_eq!(Kind::Share.text(0.4321), "43.21 %");
        assert_eq!(Kind::Times.text(0.000_123_4), "0.000123");
        assert_eq!(Kind::Times.text(1.0), "1.00");
        assert_eq!(Kind::Ms.text(12.5), "12.5 ms");
    }
}
