//! The results as one picture: for each load speed on the left, and beside it what that speed costs in memory.

use plotters::chart::ChartBuilder;
use plotters::element::{EmptyElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontTransform, RGBColor, ShapeStyle};

use super::Plan;
use super::load::Load;
use super::results::Results;
use super::setting::{Allocator, Config, Setting};
use crate::bench::chart::linear::Axes;
use crate::bench::chart::{
    self, Area, BLUE, GREEN, GREY, Heading, INK, PALE, PINK, RED, SKY, failed, font, plain,
};
use crate::bench::table::significant;
use crate::failure::Failure;

const PANEL_HEIGHT: u32 = 250;
/// Of the width that an allocator has; the rest is space between the groups of bars.
const BAR_WIDTH: f64 = 0.18;

/// What a panel shows of a setting at a load.
struct Measure<'a> {
    /// Above the panel, after the load.
    title: String,
    /// At the axis, with the unit.
    axis: &'static str,
    value: Box<dyn Fn(Load, Setting) -> Option<f64> + 'a>,
    /// The axis reaches at least up to here.
    top: f64,
    /// At a bar.
    label: fn(f64) -> String,
    /// Decimals at the axis.
    decimals: usize,
}

/// Draws the picture. `command`: what draws it.
pub(super) fn draw(results: &Results, plan: &Plan, command: &str) -> Result<String, Failure> {
    let measures = measures(results, plan);
    let rows = u32::try_from(results.loads().len()).unwrap_or(1);
    chart::draw(&heading(plan, command), rows * PANEL_HEIGHT, |panels| {
        let areas = panels.split_evenly((results.loads().len(), measures.len()));
        let shown =
            results.loads().iter().flat_map(|load| measures.iter().map(move |measure| (*load, measure)));
        areas.iter().zip(shown).try_for_each(|(area, (load, measure))| draw_panel(area, load, measure))
    })
}

fn measures<'a>(results: &'a Results, plan: &Plan) -> [Measure<'a>; 2] {
    const MIB: f64 = 1_048_576.0;
    #[expect(clippy::cast_precision_loss, reason = "the height of a bar")]
    let resident = |load, setting| Some(results.medians(load, setting)?.resident_bytes as f64 / MIB);
    [
        Measure {
            title: "speed".to_owned(),
            axis: "records/s, keep = 1",
            value: Box::new(|load, setting| {
                results.speed_ratio(load, setting, Config::Keep).map(significant)
            }),
            top: 1.0,
            label: |ratio| format!("{ratio:.2}"),
            decimals: 1,
        },
        Measure {
            title: format!("memory after {} s of rest", plan.rest.as_secs_f64()),
            axis: "resident memory, MiB",
            value: Box::new(resident),
            top: 1.0,
            label: |mib| if mib < 9.95 { format!("{mib:.1}") } else { format!("{mib:.0}") },
            decimals: 0,
        },
    ]
}

/// What it is, and which colour means what.
fn heading(plan: &Plan, command: &str) -> Heading {
    let loads = "churn: 16 blocks of 4 MiB are allocated, filled and freed; \
                 search: 1 to 8 MiB are allocated, copied to, looked into and freed";
    let legend = |config: Config| (colour(config), format!("{}: {}", config.name(), meaning(config, plan)));
    Heading {
        title: "Freed memory: kept, given back, or marked".to_owned(),
        command: command.to_owned(),
        notes: vec![loads.to_owned()],
        legend: Config::ALL.map(legend).into(),
    }
}

fn meaning(config: Config, plan: &Plan) -> String {
    match config {
        Config::Keep => "never given back".to_owned(),
        Config::Cleared => "never given back, cleared before use".to_owned(),
        Config::Default => "nothing set".to_owned(),
        Config::Dontneed => "MADV_DONTNEED at once".to_owned(),
        Config::Free => "MADV_FREE at once".to_owned(),
        Config::Marks => format!("volatile, released after {} s", plan.decay.as_secs_f64()),
    }
}

fn draw_panel(area: &Area<'_>, load: Load, measure: &Measure<'_>) -> Result<(), Failure> {
    let highest =
        Setting::all().filter_map(|setting| (measure.value)(load, setting)).fold(measure.top, f64::max);
    let right = position(Allocator::ALL.len());
    let mut panel = ChartBuilder::on(area)
        .margin(10)
        .margin_right(20)
        .set_left_and_bottom_label_area_size(0)
        .y_label_area_size(58)
        .x_label_area_size(24)
        .caption(format!("{}: {}", load.title(), measure.title), font(15, INK))
        // Room for the number above the highest bar.
        .build_cartesian_2d(0.0..right, 0.0..highest * 1.12)
        .map_err(failed)?;
    plain(&mut panel.configure_mesh())
        .disable_x_axis()
        .y_labels(6)
        .y_label_formatter(&|value| format!("{value:.*}", measure.decimals))
        .y_desc(measure.axis)
        .axis_desc_style(font(13, INK))
        .draw()
        .map_err(failed)?;
    for (index, allocator) in Allocator::ALL.into_iter().enumerate() {
        draw_group(&mut panel, position(index) + 0.5, allocator, load, measure)?;
    }
    Ok(())
}

/// The bars of one allocator, and its name below them.
fn draw_group(
    panel: &mut Axes<'_, '_>,
    middle: f64,
    allocator: Allocator,
    load: Load,
    measure: &Measure<'_>,
) -> Result<(), Failure> {
    let settings: Vec<_> = Setting::all().filter(|setting| setting.allocator == allocator).collect();
    let start = middle - position(settings.len()) * BAR_WIDTH / 2.0;
    for (index, setting) in settings.into_iter().enumerate() {
        let left = start + position(index) * BAR_WIDTH;
        let at = left + BAR_WIDTH / 2.0;
        match (measure.value)(load, setting) {
            Some(value) => {
                let bar = Rectangle::new(
                    [(left + 0.015, 0.0), (left + BAR_WIDTH - 0.015, value)],
                    fill(setting.config),
                );
                panel.draw_series([bar]).map_err(failed)?;
                let style = font(11, INK).pos(Pos::new(HPos::Center, VPos::Bottom));
                let label = Text::new((measure.label)(value), (0, -3), style);
                panel.draw_series([EmptyElement::at((at, value)) + label]).map_err(failed)?;
            }
            None => {
                let style = font(11, PALE).transform(FontTransform::Rotate270);
                let style = style.pos(Pos::new(HPos::Left, VPos::Center));
                let label = Text::new("not measured".to_owned(), (0, -4), style);
                panel.draw_series([EmptyElement::at((at, 0.0)) + label]).map_err(failed)?;
            }
        }
    }
    let style = font(13, INK).pos(Pos::new(HPos::Center, VPos::Top));
    let name = Text::new(allocator.name().to_owned(), (0, 7), style);
    panel.plotting_area().draw(&(EmptyElement::at((middle, 0.0)) + name)).map_err(failed)
}

fn fill(config: Config) -> ShapeStyle {
    colour(config).filled()
}

fn colour(config: Config) -> RGBColor {
    match config {
        Config::Keep => GREY,
        Config::Cleared => BLUE,
        Config::Default => SKY,
        Config::Dontneed => RED,
        Config::Free => PINK,
        Config::Marks => GREEN,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a handful of bars")]
fn position(index: usize) -> f64 {
    index as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::malloc::QUICK;
    use crate::bench::malloc::results::tests::{CHURN, SEARCH, report};

    #[test]
    fn there_is_a_bar_for_what_was_measured_and_a_word_for_what_was_not() {
        let mut results = Results::new(vec![CHURN, SEARCH]);
        for load in [CHURN, SEARCH] {
            for (config, rate) in [(Config::Keep, 100.0), (Config::Dontneed, 9.0), (Config::Marks, 97.0)] {
                results.add(load, Allocator::Tcmalloc.with(config), report(rate, 70));
            }
        }
        let picture = draw(&results, &QUICK, "vrange bench malloc --quick").expect("a string takes all");
        let count = |config| chart::drawn(&picture, "rect", colour(config));
        // Two loads, two measures, and the explanation of the colour.
        assert_eq!([Config::Keep, Config::Dontneed, Config::Marks].map(count), [5, 5, 5]);
        assert_eq!([Config::Cleared, Config::Default, Config::Free].map(count), [1, 1, 1]);
        let missing = Setting::all().count() - 3;
        assert_eq!(picture.matches("not measured").count(), 4 * missing);
        for text in [
            "vrange bench malloc --quick; ",
            "churn, 1 thread: speed",
            "resident memory, MiB",
            "0.97",
            "tcmalloc",
        ] {
            assert!(picture.contains(text), "{text}");
        }
    }
}
