//! The tenant's run as a picture: for each cache memory over time on the left, and hits in a second on the right.

use plotters::series::{AreaSeries, LineSeries};
use plotters::style::{Color as _, RGBColor};

use super::tenant::{Guest, Plan, Runs, Scene, Tenants};
use crate::bench::chart::linear::{self, Axis};
use crate::bench::chart::{self, Area, BLUE, GREEN, Heading, LIGHT_GREY, WIDTH, failed};
use crate::failure::Failure;

const PANEL_HEIGHT: u32 = 210;
const TITLE_SIZE: u32 = 14;
const TENANT: RGBColor = LIGHT_GREY;
const CACHE: RGBColor = BLUE;
const HITS: RGBColor = GREEN;
const MIB: f64 = 1_048_576.0;
/// Hits are counted over so many samples, so that the line can be read.
const SAMPLES: usize = 4;

/// Seconds, and what is there then.
type Points = Vec<(f64, f64)>;

/// A curve with its axis.
struct Panel<'a> {
    title: String,
    axis: &'a str,
    seconds: f64,
    top: f64,
    filled: Option<(Points, RGBColor)>,
    line: (Points, RGBColor),
}

/// Draws the picture. The first run of each cache is shown. `command`: what draws it.
pub(super) fn draw(tenants: &Tenants, plan: &Plan, command: &str) -> Result<String, Failure> {
    let of_caches = |runs: &&Runs| matches!(runs.guest, Guest::Cache(_));
    let shown: Vec<_> = tenants.runs.iter().filter(of_caches).collect();
    let rows = u32::try_from(shown.len()).unwrap_or(1).max(1);
    let highest = shown.iter().filter_map(|runs| runs.scenes.first()).flat_map(hits).map(|(_, hits)| hits);
    let highest = highest.fold(1.0, f64::max);
    chart::draw(&heading(plan, command), rows * PANEL_HEIGHT, |panels| {
        let areas = panels.split_evenly((shown.len().max(1), 1));
        areas.iter().zip(&shown).try_for_each(|(area, runs)| draw_row(area, runs, plan, highest))
    })
}

fn heading(plan: &Plan, command: &str) -> Heading {
    let legend = [(TENANT, "tenant"), (CACHE, "process with the cache"), (HITS, "hits in a second")];
    Heading {
        title: "Caches beside a tenant that grows and shrinks".to_owned(),
        command: command.to_owned(),
        notes: vec![plan.describe()],
        legend: legend.map(|(colour, label)| (colour, label.to_owned())).into(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the height of a curve")]
fn draw_row(area: &Area<'_>, runs: &Runs, plan: &Plan, highest: f64) -> Result<(), Failure> {
    let nothing = Scene::default();
    let scene = runs.scenes.first().unwrap_or(&nothing);
    let size = match runs.capacity_bytes {
        Some(bytes) => format!("{} MiB, the most with which nobody is killed", bytes >> 20),
        None => "no size given".to_owned(),
    };
    let memory: Points = scene
        .samples
        .iter()
        .map(|sample| (since(scene, sample.at_ns), sample.resident_bytes as f64 / MIB))
        .collect();
    let seconds = memory.last().map_or(1.0, |(seconds, _)| *seconds).max(0.001);
    let (left, right) = area.split_horizontally(WIDTH / 2);
    let panels = [
        Panel {
            title: format!("{}: {size}", runs.guest.name()),
            axis: "MiB",
            seconds,
            top: plan.limit_bytes as f64 / MIB,
            filled: Some((tenant(scene, plan), TENANT)),
            line: (memory, CACHE),
        },
        Panel {
            title: match runs.hits_per_second() {
                Some(rate) => format!("{rate:.0} hits in a second over all runs"),
                None => "killed".to_owned(),
            },
            axis: "hits/s",
            seconds,
            top: highest * 1.05,
            filled: None,
            line: (hits(scene), HITS),
        },
    ];
    for (area, panel) in [left, right].iter().zip(panels) {
        draw_panel(area, panel)?;
    }
    Ok(())
}

fn draw_panel(area: &Area<'_>, panel: Panel<'_>) -> Result<(), Failure> {
    let across = Axis { end: panel.seconds, labels: 8, unit: " s", what: "" };
    let upwards = Axis { end: panel.top, labels: 5, unit: "", what: panel.axis };
    let mut chart = linear::draw(area, (&panel.title, TITLE_SIZE), across, upwards)?;
    if let Some((points, colour)) = panel.filled {
        chart.draw_series(AreaSeries::new(points, 0.0, colour.mix(0.6))).map_err(failed)?;
    }
    let (points, colour) = panel.line;
    chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map_err(failed)?;
    Ok(())
}

/// What the tenant holds: corners, of which there are four in each growth.
#[expect(clippy::cast_precision_loss, reason = "the height of a curve")]
fn tenant(scene: &Scene, plan: &Plan) -> Points {
    let (low, high) = (plan.low_bytes as f64 / MIB, plan.high_bytes as f64 / MIB);
    let mut points = vec![(0.0, low)];
    for growth in &scene.growths {
        points.push((since(scene, growth.started_ns), low));
        points.push((since(scene, growth.ended_ns), high));
        points.push((since(scene, growth.shrunk_ns), high));
        points.push((since(scene, growth.shrunk_ns), low));
    }
    points
}

/// Hits in a second, at the end of every few samples.
#[expect(clippy::cast_precision_loss, reason = "the height of a curve")]
fn hits(scene: &Scene) -> Points {
    let rate = |samples: &[super::serve::Sample]| {
        let (first, last) = (samples.first()?, samples.last()?);
        let seconds = last.at_ns.checked_sub(first.at_ns).filter(|ns| *ns > 0)? as f64 / 1e9;
        Some((since(scene, last.at_ns), (last.hits - first.hits) as f64 / seconds))
    };
    scene.samples.windows(SAMPLES + 1).step_by(SAMPLES).filter_map(rate).collect()
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
fn since(scene: &Scene, at_ns: u64) -> f64 {
    at_ns.saturating_sub(scene.started_ns) as f64 / 1e9
}
