//! The demo as a picture: what was left of the cache while the hog ran, and of which age.

use plotters::element::Rectangle;
use plotters::series::LineSeries;
use plotters::style::Color as _;

use super::summary::{Outcome, Round};
use super::wire::{CacheReport, Sample};
use crate::bench::chart::linear::{self, Axis};
use crate::bench::chart::{self, Area, BLUE, GREEN, Heading, LIGHT_GREY, WIDTH, failed};
use crate::failure::Failure;
use crate::size::human;

const PANEL_HEIGHT: u32 = 270;
const TITLE_SIZE: u32 = 15;
const MIB: f64 = 1_048_576.0;
const MS: f64 = 1e6;

/// Draws the round that the summary shows. `command`: what draws it.
pub(super) fn draw(outcome: &Outcome, command: &str) -> Result<String, Failure> {
    let shown = outcome.shown();
    let heading = Heading {
        title: "A cache in volatile memory, and a hog beside it".to_owned(),
        command: command.to_owned(),
        notes: vec![format!(
            "Both share {} of memory. The hog faults in {} as fast as it can; where no memory cgroup can be made there is no hog, and the \
             cache gives up as much by advice.",
            human(outcome.memory_bytes),
            human(outcome.hog_bytes)
        )],
        legend: vec![
            (BLUE, "resident memory of the cache".to_owned()),
            (LIGHT_GREY, "while the hog takes memory".to_owned()),
            (GREEN, "what is left of the cache, by age".to_owned()),
        ],
    };
    let height = if shown.is_some_and(|round| round.report.is_some()) { PANEL_HEIGHT } else { 0 };
    chart::draw(&heading, height, |area| {
        let Some((round, report)) = shown.and_then(|round| Some((round, round.report.as_ref()?))) else {
            return Ok(());
        };
        let (left, right) = area.split_horizontally(WIDTH / 2);
        draw_over_time(&left, round, report)?;
        draw_by_age(&right, &report.kept_by_age)
    })
}

#[expect(clippy::cast_precision_loss, reason = "the height of a curve")]
fn draw_over_time(area: &Area<'_>, round: &Round, report: &CacheReport) -> Result<(), Failure> {
    let started_ns = report.over_time.first().map_or(0, |sample| sample.at_ns);
    let since_ms = |at_ns: u64| at_ns.saturating_sub(started_ns) as f64 / MS;
    let point = |sample: &Sample| (since_ms(sample.at_ns), sample.resident_bytes as f64 / MIB);
    let end_ms = report.over_time.last().map_or(1.0, |sample| since_ms(sample.at_ns)).max(1.0);
    let top = report.cached_bytes as f64 / MIB * 1.1;
    let across = Axis { end: end_ms, labels: 8, unit: "", what: "ms" };
    let upwards = Axis { end: top.max(1.0), labels: 6, unit: "", what: "MiB" };
    let mut axes = linear::draw(area, ("what is left, over time", TITLE_SIZE), across, upwards)?;
    if let Some((from_ns, to_ns)) = round.hog_ns {
        let corners = [(since_ms(from_ns), 0.0), (since_ms(to_ns).min(end_ms), top)];
        axes.draw_series([Rectangle::new(corners, LIGHT_GREY.mix(0.4).filled())]).map_err(failed)?;
    }
    let line = LineSeries::new(report.over_time.iter().map(point), BLUE.stroke_width(2));
    axes.draw_series(line).map_err(failed)?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
fn draw_by_age(area: &Area<'_>, kept_by_age: &[f64]) -> Result<(), Failure> {
    let slices = kept_by_age.len().max(1) as f64;
    let across = Axis { end: 100.0, labels: 6, unit: " %", what: "of the cache is older" };
    let upwards = Axis { what: "left", ..across };
    let mut axes = linear::draw(area, ("what is left, by age", TITLE_SIZE), across, upwards)?;
    let bar = |(index, kept): (usize, &f64)| {
        let left = index as f64 / slices * 100.0;
        Rectangle::new([(left, 0.0), (left + 100.0 / slices, kept * 100.0)], GREEN.filled())
    };
    axes.draw_series(kept_by_age.iter().enumerate().map(bar)).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::summary::Pressure;
    use super::*;
    use crate::bench::chart::drawn;

    fn outcome(report: Option<CacheReport>) -> Outcome {
        let round = Round {
            report,
            hog_ns: Some((2_000_000, 8_000_000)),
            alone_ns: Some(1),
            needed_bytes: 1,
            oom_kills: 0,
        };
        Outcome {
            pressure: Pressure::CgroupV2,
            memory_bytes: 64 << 20,
            hog_bytes: 32 << 20,
            rounds: vec![round],
        }
    }

    #[test]
    fn there_is_a_curve_an_interval_and_a_bar_for_each_age() {
        let report = CacheReport {
            cached_bytes: 50 << 20,
            kept_by_age: vec![0.0, 0.5, 1.0],
            over_time: vec![
                Sample { at_ns: 1_000_000, resident_bytes: 50 << 20 },
                Sample { at_ns: 9_000_000, resident_bytes: 20 << 20 },
            ],
            ..CacheReport::default()
        };
        let picture = draw(&outcome(Some(report)), "vrange demo").expect("a string takes all");
        let count = |tag, colour| drawn(&picture, tag, colour);
        // With the squares of the legend.
        assert_eq!((count("rect", GREEN), count("rect", LIGHT_GREY), count("polyline", BLUE)), (4, 2, 1));
    }

    #[test]
    fn of_a_cache_that_was_killed_there_is_nothing_to_draw() {
        let picture = draw(&outcome(None), "vrange demo").expect("a string takes all");
        assert!(
            roxmltree::Document::parse(&picture).is_ok() && !picture.contains("by age</text>"),
            "{picture}"
        );
    }
}
