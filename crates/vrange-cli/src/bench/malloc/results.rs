//! What was measured, and what not, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::load::Load;
use super::process::Report;
use super::setting::{Allocator, Config, Setting};
use super::workload::Workload;
use crate::bench::table::significant;
use crate::size::human;

/// Medians over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Medians {
    pub(super) records_per_second: f64,
    pub(super) resident_bytes: u64,
    pub(super) peak_bytes: u64,
}

/// The results of a run.
#[derive(Debug, Default)]
pub(super) struct Results {
    loads: Vec<Load>,
    reports: BTreeMap<(Load, Setting), Vec<Report>>,
    not_measured: BTreeMap<Setting, String>,
}

/// One setting at one load. Figures are null where `not_measured` says why.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    allocator: Allocator,
    /// As it tells it itself.
    version: Option<String>,
    config: Config,
    workload: Workload,
    threads: u32,
    records_per_second: Option<f64>,
    resident_bytes: Option<u64>,
    peak_bytes: Option<u64>,
    /// Records in a second over those of the same allocator in another configuration: 2 is twice as fast.
    ratio_to_keep: Option<f64>,
    ratio_to_dontneed: Option<f64>,
    not_measured: Option<String>,
}

impl Results {
    pub(super) fn new(loads: Vec<Load>) -> Self {
        Self { loads, ..Self::default() }
    }

    pub(super) fn loads(&self) -> &[Load] {
        &self.loads
    }

    pub(super) fn add(&mut self, load: Load, setting: Setting, report: Report) {
        self.reports.entry((load, setting)).or_default().push(report);
    }

    /// What it was measured at before counts no more: a setting that fails in some rounds is not one to compare with.
    pub(super) fn give_up(&mut self, setting: Setting, why: String) {
        self.reports.retain(|(_, of), _| *of != setting);
        self.not_measured.insert(setting, why);
    }

    pub(super) fn why_not(&self, setting: Setting) -> Option<&str> {
        self.not_measured.get(&setting).map(String::as_str)
    }

    /// None for what was not measured.
    pub(super) fn medians(&self, load: Load, setting: Setting) -> Option<Medians> {
        let reports = self.reports.get(&(load, setting))?;
        Some(Medians {
            records_per_second: median(reports, |report| Some(report.records_per_second), f64::total_cmp)?,
            resident_bytes: median(reports, |report| report.resident_bytes, u64::cmp)?,
            peak_bytes: median(reports, |report| Some(report.peak_bytes), u64::cmp)?,
        })
    }

    /// The same in all reports.
    fn version(&self, load: Load, setting: Setting) -> Option<String> {
        self.reports.get(&(load, setting))?.first()?.version.clone()
    }

    /// How many times as fast a setting is as the same allocator in another configuration.
    pub(super) fn speed_ratio(&self, load: Load, setting: Setting, to: Config) -> Option<f64> {
        let other = self.medians(load, setting.allocator.with(to))?;
        Some(self.medians(load, setting)?.records_per_second / other.records_per_second)
    }

    /// Everything, load by load.
    pub(super) fn rows(&self) -> Vec<Row> {
        let at = |load: Load| Setting::all().map(move |setting| self.row(load, setting));
        self.loads.iter().flat_map(|load| at(*load)).collect()
    }

    fn row(&self, load: Load, setting: Setting) -> Row {
        let medians = self.medians(load, setting);
        let ratio = |to| self.speed_ratio(load, setting, to).map(significant);
        Row {
            allocator: setting.allocator,
            version: self.version(load, setting),
            config: setting.config,
            workload: load.workload,
            threads: load.threads,
            records_per_second: medians.map(|medians| significant(medians.records_per_second)),
            resident_bytes: medians.map(|medians| medians.resident_bytes),
            peak_bytes: medians.map(|medians| medians.peak_bytes),
            ratio_to_keep: ratio(Config::Keep),
            ratio_to_dontneed: ratio(Config::Dontneed),
            not_measured: self.why_not(setting).map(str::to_owned),
        }
    }

    /// The rows as tables, and below them what is missing, with an empty line after each.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for load in &self.loads {
            let _ = writeln!(text, "{}", load.title());
            let _ = writeln!(
                text,
                "  {:<10}{:<10}{:>10}{:>10}{:>14}{:>14}{:>12}",
                "allocator", "", "records/s", "of keep", "of dontneed", "resident", "peak"
            );
            for row in Setting::all().map(|setting| self.row(*load, setting)) {
                row.write(&mut text);
            }
            text.push('\n');
        }
        for (setting, why) in &self.not_measured {
            let _ =
                writeln!(text, "not measured: {} {}: {why}", setting.allocator.name(), setting.config.name());
        }
        if !self.not_measured.is_empty() {
            text.push('\n');
        }
        text
    }
}

impl Row {
    fn write(&self, text: &mut String) {
        let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = write!(text, "  {:<10}{:<10}", self.allocator.name(), self.config.name());
        let _ = match (self.records_per_second, self.resident_bytes, self.peak_bytes) {
            (Some(rate), Some(resident_bytes), Some(peak_bytes)) => writeln!(
                text,
                "{rate:>10.0}{:>10}{:>14}{:>14}{:>12}",
                ratio(self.ratio_to_keep),
                ratio(self.ratio_to_dontneed),
                human(resident_bytes),
                human(peak_bytes)
            ),
            _ => writeln!(text, "{:>10}{:>10}{:>14}{:>14}{:>12}", "-", "-", "-", "-", "-"),
        };
    }
}

/// Of the reports that have the figure.
fn median<T: Copy>(
    reports: &[Report],
    figure: impl Fn(&Report) -> Option<T>,
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) -> Option<T> {
    let mut figures: Vec<T> = reports.iter().filter_map(figure).collect();
    figures.sort_by(order);
    figures.get(figures.len() / 2).copied()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench::malloc) const CHURN: Load = Load { workload: Workload::Churn, threads: 1 };
    pub(in crate::bench::malloc) const SEARCH: Load = Load { workload: Workload::Search, threads: 1 };

    pub(in crate::bench::malloc) fn report(records_per_second: f64, resident_mib: u64) -> Report {
        Report {
            records_per_second,
            resident_bytes: Some(resident_mib << 20),
            peak_bytes: 100 << 20,
            malloc_from: String::new(),
            madvise_from: String::new(),
            version: None,
        }
    }

    #[test]
    fn ratios_are_of_medians_at_the_same_load() {
        let mut results = Results::new(vec![CHURN, SEARCH]);
        for rate in [90.0, 1.0, 100.0] {
            results.add(CHURN, Allocator::Tcmalloc.with(Config::Keep), report(rate, 70));
            results.add(CHURN, Allocator::Tcmalloc.with(Config::Marks), report(rate / 2.0, 9));
        }
        results.add(SEARCH, Allocator::Tcmalloc.with(Config::Marks), report(7.0, 9));
        results.give_up(Allocator::Mimalloc.with(Config::Marks), "no library".to_owned());
        let rows = results.rows();
        assert_eq!(rows.len(), 2 * Setting::all().count());
        let find = |workload, allocator, config| {
            let is_it =
                |row: &&Row| (row.workload, row.allocator, row.config) == (workload, allocator, config);
            rows.iter().find(is_it).expect("a row for everything")
        };
        let marks = find(Workload::Churn, Allocator::Tcmalloc, Config::Marks);
        assert_eq!((marks.records_per_second, marks.ratio_to_keep), (Some(45.0), Some(0.5)));
        assert_eq!(marks.ratio_to_dontneed, None);
        let search = find(Workload::Search, Allocator::Tcmalloc, Config::Marks);
        assert_eq!((search.records_per_second, search.ratio_to_keep), (Some(7.0), None));
        let missing = find(Workload::Churn, Allocator::Mimalloc, Config::Marks);
        assert_eq!((missing.records_per_second, missing.not_measured.as_deref()), (None, Some("no library")));
        assert!(results.text().contains("not measured: mimalloc marks: no library"), "{}", results.text());
    }

    #[test]
    fn what_fails_once_does_not_count() {
        let setting = Allocator::Glibc.with(Config::Keep);
        let mut results = Results::new(vec![CHURN]);
        results.add(CHURN, setting, report(1.0, 1));
        results.give_up(setting, "it crashed".to_owned());
        assert_eq!(results.medians(CHURN, setting), None);
        assert_eq!(results.why_not(setting), Some("it crashed"));
    }
}
