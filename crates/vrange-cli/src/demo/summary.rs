//! What the demo found, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::picture::{self, Canvas};
use super::wire::CacheReport;
use crate::bundle::Goal;
use crate::failure::Failure;
use crate::size::human;

/// How far the hog may be slowed down by the cache beside it.
const HOG_SLOWDOWN_MAX: f64 = 1.25;

/// How much may be lost, per cent of what the hog needs, besides the reserve that the library keeps.
const LOST_PERCENT_MAX: u64 = 125;

/// What makes memory short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Pressure {
    /// A limit by cgroup v1.
    #[serde(rename = "cgroup-v1")]
    CgroupV1,
    /// A limit by cgroup v2.
    #[serde(rename = "cgroup-v2")]
    CgroupV2,
    /// No limit: `MADV_PAGEOUT` on what the cache offers.
    #[serde(rename = "madvise")]
    Madvise,
}

impl Pressure {
    fn name(self) -> &'static str {
        match self {
            Self::CgroupV1 => "cgroup-v1",
            Self::CgroupV2 => "cgroup-v2",
            Self::Madvise => "madvise",
        }
    }
}

/// One time through: a cache, and a hog beside it.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// None if the cache was killed.
    pub(crate) report: Option<CacheReport>,
    /// When the hog began to fault memory in and when it had it all; none if it was killed, or without a hog.
    pub(crate) hog_ns: Option<(u64, u64)>,
    /// The same hog alone in a group of the same size, just before.
    pub(crate) alone_ns: Option<u64>,
    /// What the hog needed beyond what was free.
    pub(crate) needed_bytes: u64,
    /// Processes that the kernel killed.
    pub(crate) oom_kills: u64,
}

impl Round {
    fn beside_ns(&self) -> Option<u64> {
        self.hog_ns.map(|(started, ended)| ended.saturating_sub(started))
    }
}

/// All rounds.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) pressure: Pressure,
    pub(crate) memory_bytes: u64,
    pub(crate) hog_bytes: u64,
    pub(crate) rounds: Vec<Round>,
}

/// The result as one JSON object. A value that could not be found is null: without a hog there is no slowdown, without
/// loss no order, and of a cache that was killed only the kill is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Bytes of file contents that were cached.
    pub(crate) cached_bytes: Option<u64>,
    /// Bytes reported lost.
    pub(crate) lost_bytes: Option<u64>,
    /// Bytes still there, all compared.
    pub(crate) kept_bytes: Option<u64>,
    /// Files that were not what was reported, in all rounds.
    pub(crate) corrupt_files: u64,
    /// Processes that the kernel killed for want of memory, in all rounds.
    pub(crate) oom_kills: u64,
    /// 1 is oldest first, as exactly as could be seen.
    pub(crate) age_order_spearman: Option<f64>,
    /// Median time of the hog beside the cache, over its median time alone.
    pub(crate) hog_slowdown: Option<f64>,
    /// What made memory short.
    pub(crate) pressure: Pressure,
    /// Files cached.
    pub(crate) files: Option<u64>,
    /// Files that are there as a whole.
    pub(crate) kept_files: Option<u64>,
    /// Files that are there in part.
    pub(crate) partly_lost_files: Option<u64>,
    /// Files of which nothing is left.
    pub(crate) lost_files: Option<u64>,
    /// Files that changed on disk meanwhile.
    pub(crate) changed_files: Option<u64>,
    /// Bytes offered to the kernel, each time they were.
    pub(crate) offered_bytes: Option<u64>,
    /// What the hog needed beyond what was free: the least that had to go.
    pub(crate) needed_bytes: u64,
    /// The headroom that the library keeps under the limit; 0 without one.
    pub(crate) reserve_bytes: Option<u64>,
    /// The goal for what is lost: 1.25 times what was needed, and the reserve.
    pub(crate) lost_goal_bytes: Option<u64>,
    /// The limit that cache and hog shared.
    pub(crate) memory_bytes: u64,
    /// What the hog faulted in.
    pub(crate) hog_bytes: u64,
    /// Median time of the hog alone, in milliseconds.
    pub(crate) hog_alone_ms: Option<f64>,
    /// Median time of the hog beside the cache, in milliseconds.
    pub(crate) hog_beside_ms: Option<f64>,
    /// Rounds; bytes and order are those of the round with the median slowdown.
    pub(crate) rounds: usize,
}

impl Outcome {
    /// Adds the rounds up.
    pub(crate) fn summary(&self) -> Summary {
        let shown = self.shown();
        let report = shown.and_then(|round| round.report.as_ref());
        let alone_ns = median(self.rounds.iter().filter_map(|round| round.alone_ns).collect());
        let beside_ns = median(self.rounds.iter().filter_map(Round::beside_ns).collect());
        let needed_bytes = shown.map_or(0, |round| round.needed_bytes);
        let reserve_bytes = report.map(|report| match self.pressure {
            Pressure::CgroupV1 | Pressure::CgroupV2 => report.reserve_bytes,
            Pressure::Madvise => 0,
        });
        Summary {
            cached_bytes: report.map(|report| report.cached_bytes),
            lost_bytes: report.map(|report| report.lost_bytes),
            kept_bytes: report.map(|report| report.kept_bytes),
            corrupt_files: self.reports().map(|report| report.corrupt_files).sum(),
            oom_kills: self.rounds.iter().map(|round| round.oom_kills).sum(),
            age_order_spearman: report.and_then(|report| report.age_order_spearman).map(rounded),
            hog_slowdown: beside_ns.zip(alone_ns).map(|(beside, alone)| rounded(ratio(beside, alone))),
            pressure: self.pressure,
            files: report.map(|report| report.files),
            kept_files: report.map(|report| report.kept_files),
            partly_lost_files: report.map(|report| report.partly_lost_files),
            lost_files: report.map(|report| report.lost_files),
            changed_files: report.map(|report| report.changed_files),
            offered_bytes: report.map(|report| report.offered_bytes),
            needed_bytes,
            reserve_bytes,
            lost_goal_bytes: reserve_bytes.map(|reserve| needed_bytes / 100 * LOST_PERCENT_MAX + reserve),
            memory_bytes: self.memory_bytes,
            hog_bytes: self.hog_bytes,
            hog_alone_ms: alone_ns.map(milliseconds),
            hog_beside_ms: beside_ns.map(milliseconds),
            rounds: self.rounds.len(),
        }
    }

    /// The charts and the table, for a terminal or a file.
    pub(crate) fn text(&self, canvas: Canvas) -> String {
        let summary = self.summary();
        let mut text = String::new();
        if let Some((round, report)) = self.shown().and_then(|round| Some((round, round.report.as_ref()?))) {
            let watched = picture::over_time(canvas, &report.over_time, report.cached_bytes, round.hog_ns);
            let _ = write!(text, "\n{watched}\n{}", picture::by_age(canvas, &report.kept_by_age));
        }
        text.push('\n');
        for (name, value) in summary.lines() {
            let _ = writeln!(text, "  {name:<22} {value}");
        }
        text
    }

    /// What it ought to have been like, and whether it was.
    pub(crate) fn goals(&self) -> Vec<Goal> {
        let summary = self.summary();
        let goal = |what: &str, goal: String, found: String, reached| Goal {
            what: what.to_owned(),
            goal,
            found,
            reached,
        };
        let lost = summary.lost_bytes.zip(summary.lost_goal_bytes).filter(|_| summary.needed_bytes > 0);
        // Without a report nobody has compared anything.
        let is_compared = summary.kept_bytes.is_some();
        let slowdown = summary.hog_slowdown;
        vec![
            goal(
                "files that are not what was stored",
                "none".to_owned(),
                if is_compared { summary.corrupt_files.to_string() } else { "not measured".to_owned() },
                is_compared.then_some(summary.corrupt_files == 0),
            ),
            goal(
                "processes killed for want of memory",
                "none".to_owned(),
                summary.oom_kills.to_string(),
                Some(summary.oom_kills == 0),
            ),
            goal(
                "lost, against what the hog needed",
                lost.map_or("at most 1.25 times, and the reserve".to_owned(), |(_, goal)| {
                    format!("at most 1.25 times, and the reserve: {}", human(goal))
                }),
                lost.map_or("not measured".to_owned(), |(lost, _)| human(lost)),
                lost.map(|(lost, goal)| lost <= goal),
            ),
            goal(
                "the hog's time beside the cache, against its time alone",
                format!("at most {HOG_SLOWDOWN_MAX} times"),
                slowdown.map_or_else(
                    || format!("not measured: there was no {}", self.without()),
                    |times| format!("{times:.2} times"),
                ),
                slowdown.map(|times| times <= HOG_SLOWDOWN_MAX),
            ),
        ]
    }

    /// What a slowdown would take.
    fn without(&self) -> &'static str {
        match self.pressure {
            Pressure::Madvise => "hog, since there was no memory cgroup",
            Pressure::CgroupV1 | Pressure::CgroupV2 => "hog that got through",
        }
    }

    /// Fails if a file was corrupt or a process was killed, in whichever round.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        let summary = self.summary();
        if summary.corrupt_files > 0 {
            return Err(Failure::run(format!("{} files were not what was reported", summary.corrupt_files))
                .hint("please report this with the output of `vrange doctor`"));
        }
        if summary.oom_kills > 0 {
            return Err(Failure::run(format!("processes killed for want of memory: {}", summary.oom_kills))
                .hint("`vrange doctor` tells what can keep the cache from giving memory back in time"));
        }
        if self.rounds.iter().any(|round| self.lacks_a_process(round)) {
            return Err(Failure::run("a process of the demo was killed").hint("run it again"));
        }
        Ok(())
    }

    /// Whether cache or hog did not live to the end.
    fn lacks_a_process(&self, round: &Round) -> bool {
        round.report.is_none() || (round.hog_ns.is_none() && self.pressure != Pressure::Madvise)
    }

    fn reports(&self) -> impl Iterator<Item = &CacheReport> {
        self.rounds.iter().filter_map(|round| round.report.as_ref())
    }

    /// The round with the median slowdown; the first one that has a report where there is no hog.
    pub(super) fn shown(&self) -> Option<&Round> {
        let mut complete: Vec<&Round> = self.rounds.iter().filter(|round| round.report.is_some()).collect();
        complete.sort_by_key(|round| round.beside_ns());
        complete.get(complete.len().saturating_sub(1) / 2).copied().or(self.rounds.first())
    }
}

impl Summary {
    /// The table for people.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let bytes = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), human);
        let files = |files: Option<u64>| files.map_or("unknown".to_owned(), |files| files.to_string());
        let mut lines = vec![
            ("memory for both", format!("{} ({})", human(self.memory_bytes), self.pressure.name())),
            ("cached", format!("{} in {} files", bytes(self.cached_bytes), files(self.files))),
            ("offered to the kernel", bytes(self.offered_bytes)),
            (
                "needed by the hog",
                format!(
                    "{}, of these {} more than were free",
                    human(self.hog_bytes),
                    human(self.needed_bytes)
                ),
            ),
            (
                "lost",
                format!(
                    "{} ({} files, {} more in part)",
                    bytes(self.lost_bytes),
                    files(self.lost_files),
                    files(self.partly_lost_files)
                ),
            ),
            ("precision", self.precision()),
            (
                "kept",
                format!(
                    "{} ({} files), every byte compared with its source",
                    bytes(self.kept_bytes),
                    files(self.kept_files)
                ),
            ),
            ("corrupt files", self.corrupt_files.to_string()),
        ];
        if self.changed_files.is_some_and(|files| files > 0) {
            lines.push((
                "changed on disk",
                format!("{} files, compared by digest only", files(self.changed_files)),
            ));
        }
        lines.push(("OOM kills", self.oom_kills.to_string()));
        lines.push((
            "order of loss",
            self.age_order_spearman.map_or("nothing was lost".to_owned(), |order| {
                format!("{order:.3} (1: strictly oldest first, 0: at random)")
            }),
        ));
        lines.push(("hog slowed down to", self.slowdown()));
        lines
    }

    fn precision(&self) -> String {
        let (Some(lost), Some(reserve), Some(goal)) =
            (self.lost_bytes, self.reserve_bytes, self.lost_goal_bytes)
        else {
            return "unknown".to_owned();
        };
        if self.needed_bytes == 0 {
            return "unknown: the hog fitted beside the cache".to_owned();
        }
        let reserve = match reserve {
            0 => String::new(),
            reserve => format!(", and {} of reserve", human(reserve)),
        };
        format!(
            "{:.2} times what was needed (goal {:.2}{reserve}: at most {})",
            ratio(lost, self.needed_bytes),
            ratio(LOST_PERCENT_MAX, 100),
            human(goal)
        )
    }

    fn slowdown(&self) -> String {
        match (self.hog_slowdown, self.hog_alone_ms, self.hog_beside_ms) {
            (Some(slowdown), Some(alone), Some(beside)) => format!(
                "{slowdown:.2} times its time alone ({beside:.0} ms, alone {alone:.0} ms; medians of {}; goal {HOG_SLOWDOWN_MAX})",
                self.rounds
            ),
            _ if self.pressure == Pressure::Madvise => {
                "not measured: without a limit a hog never waits".to_owned()
            }
            _ => "unknown: the hog did not get through".to_owned(),
        }
    }
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Three decimals are more than such a measurement is worth.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn milliseconds(ns: u64) -> f64 {
    rounded(ratio(ns, 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(beside_ns: u64, lost_bytes: u64) -> Round {
        let report = CacheReport {
            cached_bytes: 100,
            lost_bytes,
            kept_bytes: 100 - lost_bytes,
            ..CacheReport::default()
        };
        Round {
            report: Some(report),
            hog_ns: Some((1000, 1000 + beside_ns)),
            alone_ns: Some(100),
            needed_bytes: 400,
            oom_kills: 0,
        }
    }

    fn outcome(rounds: Vec<Round>) -> Outcome {
        Outcome { pressure: Pressure::CgroupV1, memory_bytes: 200, hog_bytes: 120, rounds }
    }

    #[test]
    fn the_round_shown_is_the_median_one() {
        let summary = outcome(vec![round(300, 3), round(110, 1), round(120, 2)]).summary();
        assert_eq!(summary.hog_slowdown, Some(1.2));
        assert_eq!(summary.lost_bytes, Some(2));
        assert_eq!(summary.kept_bytes, Some(98));
    }

    #[test]
    fn the_goal_for_losses_is_a_quarter_more_than_needed_and_the_reserve() {
        let mut round = round(1, 1);
        round.report.as_mut().expect("a report").reserve_bytes = 7;
        let mut outcome = outcome(vec![round]);
        assert_eq!(outcome.summary().lost_goal_bytes, Some(507));
        assert!(outcome.summary().precision().contains("goal 1.25, and 7 B of reserve: at most 507 B"));
        outcome.pressure = Pressure::Madvise;
        assert_eq!(outcome.summary().lost_goal_bytes, Some(500));
    }

    #[test]
    fn the_json_object_has_its_keys() {
        let json = serde_json::to_value(outcome(vec![round(1, 1)]).summary()).expect("JSON");
        for key in [
            "cached_bytes",
            "lost_bytes",
            "kept_bytes",
            "corrupt_files",
            "oom_kills",
            "age_order_spearman",
            "hog_slowdown",
        ] {
            assert!(json.get(key).is_some(), "{key} is missing");
        }
        assert_eq!(json["pressure"], "cgroup-v1");
    }

    #[test]
    fn corrupt_files_and_kills_of_any_round_fail_the_run() {
        assert!(outcome(vec![round(1, 1)]).verdict().is_ok());
        let mut corrupt = round(1, 1);
        corrupt.report.as_mut().expect("a report").corrupt_files = 1;
        assert!(outcome(vec![round(1, 1), corrupt]).verdict().is_err());
        let killed = Round { report: None, oom_kills: 1, ..round(1, 1) };
        let outcome = outcome(vec![killed, round(1, 1)]);
        assert!(outcome.verdict().is_err());
        assert_eq!(outcome.summary().oom_kills, 1);
        assert_eq!(outcome.summary().cached_bytes, Some(100));
    }

    #[test]
    fn the_table_is_written_even_if_nothing_is_known() {
        let killed = Round { report: None, hog_ns: None, alone_ns: None, needed_bytes: 0, oom_kills: 1 };
        let text = outcome(vec![killed]).text(Canvas { columns: 40, colour: false });
        assert!(text.contains("OOM kills              1"), "{text}");
    }

    #[test]
    fn goals_are_reached_missed_or_not_measured() {
        let mut outcome = Outcome {
            pressure: Pressure::CgroupV2,
            memory_bytes: 1000,
            hog_bytes: 600,
            rounds: vec![round(130, 45)],
        };
        let reached = |outcome: &Outcome| outcome.goals().iter().map(|goal| goal.reached).collect::<Vec<_>>();
        // 45 bytes are less than was needed; 130 ns are more than 1.25 times 100.
        assert_eq!(reached(&outcome), [Some(true), Some(true), Some(true), Some(false)]);
        outcome.rounds[0].oom_kills = 1;
        outcome.rounds[0].report = None;
        outcome.rounds[0].hog_ns = None;
        assert_eq!(reached(&outcome), [None, Some(false), None, None]);
    }
}
