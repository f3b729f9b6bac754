//! The results as one picture: for each load speed on the left, and beside it what that speed costs in memory.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::drawing::{DrawingArea, IntoDrawingArea as _};
use plotters::element::{EmptyElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontTransform, IntoFont as _, RGBColor, ShapeStyle, TextStyle, WHITE};

use super::Plan;
use super::load::Load;
use super::machine::Machine;
use super::results::Results;
use super::setting::{Allocator, Config, Setting};
use crate::bench::table::significant;
use crate::failure::Failure;

const WIDTH: u32 = 1120;
const HEADER_HEIGHT: u32 = 128;
const PANEL_HEIGHT: u32 = 250;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const PALE: RGBColor = RGBColor(0x77, 0x77, 0x77);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Of the width that an allocator has; the rest is space between the groups of bars.
const BAR_WIDTH: f64 = 0.22;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Panel<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

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

/// Fails before anything is measured if the picture could not be written.
pub(in crate::bench) fn check(file: &Path) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !file.is_dir() {
        return Ok(());
    }
    Err(Failure::usage(format!("--svg {}: no file can be there", file.display()))
        .hint("give a file name in a folder that exists"))
}

/// Draws the picture into a file.
pub(super) fn write(file: &Path, results: &Results, machine: &Machine, plan: &Plan) -> Result<(), Failure> {
    let picture = draw(results, machine, plan)?;
    fs::write(file, picture).map_err(|error| Failure::io("writing", file.display(), &error))
}

fn draw(results: &Results, machine: &Machine, plan: &Plan) -> Result<String, Failure> {
    let mut picture = String::new();
    let rows = u32::try_from(results.loads().len()).unwrap_or(1);
    let size = (WIDTH, HEADER_HEIGHT + rows * PANEL_HEIGHT);
    {
        let root = SVGBackend::with_string(&mut picture, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (header, panels) = root.split_vertically(HEADER_HEIGHT);
        draw_header(&header, machine, plan)?;
        let measures = measures(results, plan);
        let areas = panels.split_evenly((results.loads().len(), measures.len()));
        let shown =
            results.loads().iter().flat_map(|load| measures.iter().map(move |measure| (*load, measure)));
        for (area, (load, measure)) in areas.iter().zip(shown) {
            draw_panel(area, load, measure)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(picture)
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

/// What it is, where it was measured, and which colour means what.
fn draw_header(area: &Area<'_>, machine: &Machine, plan: &Plan) -> Result<(), Failure> {
    let text = |text: &str, at: (i32, i32), size: u32, colour: RGBColor| {
        area.draw(&Text::new(text.to_owned(), at, font(size, colour))).map_err(failed)
    };
    text("Freed memory: kept, given back, or marked", (24, 14), 22, INK)?;
    text(&format!("vrange bench malloc; {}", machine.describe()), (24, 44), 13, PALE)?;
    let loads = "churn: 16 blocks of 4 MiB are allocated, filled and freed; \
                 search: 1 to 8 MiB are allocated, copied to, looked into and freed";
    text(loads, (24, 62), 13, PALE)?;
    let mut left = 24;
    for config in Config::ALL {
        area.draw(&Rectangle::new([(left, 92), (left + 14, 106)], fill(config))).map_err(failed)?;
        let label = format!("{}: {}", config.name(), meaning(config, plan));
        text(&label, (left + 20, 93), 13, INK)?;
        // Of most fonts the letters are no wider.
        left += 20 + 7 * i32::try_from(label.chars().count()).unwrap_or(0) + 12;
    }
    Ok(())
}

fn meaning(config: Config, plan: &Plan) -> String {
    match config {
        Config::Keep => "never given back".to_owned(),
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
    panel
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_labels(6)
        .y_label_formatter(&|value| format!("{value:.*}", measure.decimals))
        .y_desc(measure.axis)
        .label_style(font(12, INK))
        .axis_desc_style(font(13, INK))
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(PALE)
        .draw()
        .map_err(failed)?;
    for (index, allocator) in Allocator::ALL.into_iter().enumerate() {
        draw_group(&mut panel, position(index) + 0.5, allocator, load, measure)?;
    }
    Ok(())
}

/// The bars of one allocator, and its name below them.
fn draw_group(
    panel: &mut Panel<'_, '_>,
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

fn font(size: u32, colour: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour)
}

/// Colours that people who see few colours can tell apart (Okabe and Ito).
fn fill(config: Config) -> ShapeStyle {
    colour(config).filled()
}

fn colour(config: Config) -> RGBColor {
    match config {
        Config::Keep => RGBColor(0x99, 0x99, 0x99),
        Config::Default => RGBColor(0x56, 0xb4, 0xe9),
        Config::Dontneed => RGBColor(0xd5, 0x5e, 0x00),
        Config::Free => RGBColor(0xcc, 0x79, 0xa7),
        Config::Marks => RGBColor(0x00, 0x9e, 0x73),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a handful of bars")]
fn position(index: usize) -> f64 {
    index as f64
}

fn failed(error: impl Display) -> Failure {
    Failure::run(format!("drawing the chart: {error}"))
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
        let picture = draw(&results, &Machine::look(2), &QUICK).expect("a string takes all");
        let document = roxmltree::Document::parse(&picture).expect("well-formed");
        let count = |config| {
            let fill = colour(config);
            let fill = format!("#{:02X}{:02X}{:02X}", fill.0, fill.1, fill.2);
            let is_bar = |node: &roxmltree::Node| {
                node.has_tag_name(("http://www.w3.org/2000/svg", "rect"))
                    && node.attribute("fill") == Some(fill.as_str())
            };
            document.descendants().filter(is_bar).count()
        };
        // Two loads, two measures, and the explanation of the colour.
        assert_eq!([Config::Keep, Config::Dontneed, Config::Marks].map(count), [5, 5, 5]);
        assert_eq!([Config::Default, Config::Free].map(count), [1, 1]);
        let missing = Setting::all().count() - 3;
        assert_eq!(picture.matches("not measured").count(), 4 * missing);
        for text in ["churn, 1 thread: speed", "resident memory, MiB", "0.97", "tcmalloc"] {
            assert!(picture.contains(text), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_is_found_out_before() {
        assert!(check(Path::new("chart.svg")).is_ok());
        assert!(check(Path::new("/no/such/folder/chart.svg")).is_err());
        assert!(check(Path::new("/")).is_err());
    }
}
