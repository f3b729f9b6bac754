//! Times by the size of what they are for: both axes are logarithmic, and each line has its name at its end.

use plotters::chart::ChartBuilder;
use plotters::element::{Circle, EmptyElement, PathElement, Text};
use plotters::prelude::IntoLogRange as _;
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, RGBColor};

use super::{Area, BLUE, GREEN, GREY, Heading, INK, PINK, RED, SKY, failed, font, plain};
use crate::bench::samples::Operation;
use crate::bench::table::Table;
use crate::failure::Failure;
use crate::size::human;

const PANEL_HEIGHT: u32 = 300;
const PANELS_A_ROW: usize = 2;
/// On the right of a panel, for the names.
const NAMES_WIDTH: u32 = 150;
/// Names closer than this could not be read.
const NAME_HEIGHT: i32 = 14;
const OURS: [RGBColor; 2] = [GREEN, BLUE];
const PEERS: [RGBColor; 4] = [RED, PINK, SKY, GREY];

/// Lines that are to be compared.
#[derive(Clone, Debug)]
struct Panel {
    title: String,
    ours: Vec<Line>,
    peers: Vec<Line>,
}

/// One operation.
#[derive(Clone, Debug)]
struct Line {
    name: &'static str,
    /// Bytes, and the time in nanoseconds, by size.
    points: Vec<(usize, f64)>,
}

/// What is compared in a panel: ours, and the others.
pub(crate) type Compared<O> = (&'static str, &'static [O], &'static [O]);

/// Draws a table's operations beside one another. `others`: what those are that are not ours. `command`: what draws it.
///
/// # Errors
/// None that is known: a string takes all that is drawn into it.
pub(crate) fn draw_compared<O: Operation>(
    table: &Table<O>,
    panels: &[Compared<O>],
    title: &str,
    others: &str,
    command: &str,
) -> Result<String, Failure> {
    let line = |op: &O| Line { name: op.name(), points: table.all_ns(*op).collect() };
    let panel = |(title, ours, peers): &Compared<O>| Panel {
        title: (*title).to_owned(),
        ours: ours.iter().map(line).collect(),
        peers: peers.iter().map(line).collect(),
    };
    let heading = Heading {
        title: title.to_owned(),
        command: command.to_owned(),
        notes: vec![format!(
            "Medians of one run, in turns; both axes are logarithmic. Thick lines, green and blue: this library. The others: {others}."
        )],
        legend: Vec::new(),
    };
    draw(&heading, &panels.iter().map(panel).collect::<Vec<_>>())
}

/// Draws the panels that have something to show.
fn draw(heading: &Heading, panels: &[Panel]) -> Result<String, Failure> {
    let is_shown = |panel: &&Panel| panel.lines().any(|(line, _, _)| !line.points.is_empty());
    let panels: Vec<_> = panels.iter().filter(is_shown).collect();
    let rows = panels.len().div_ceil(PANELS_A_ROW).max(1);
    let height = u32::try_from(rows).unwrap_or(1) * PANEL_HEIGHT;
    super::draw(heading, height, |area| {
        let areas = area.split_evenly((rows, PANELS_A_ROW));
        areas.iter().zip(&panels).try_for_each(|(area, panel)| panel.draw(area))
    })
}

impl Panel {
    /// All lines, each with its colour and how thick it is.
    fn lines(&self) -> impl Iterator<Item = (&Line, RGBColor, u32)> {
        let ours = self.ours.iter().zip(OURS.into_iter().cycle()).map(|(line, colour)| (line, colour, 3));
        let peers = self.peers.iter().zip(PEERS.into_iter().cycle()).map(|(line, colour)| (line, colour, 2));
        ours.chain(peers).filter(|(line, _, _)| !line.points.is_empty())
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), Failure> {
        let points = || self.lines().flat_map(|(line, _, _)| &line.points);
        let mut sizes: Vec<usize> = points().map(|(bytes, _)| *bytes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let (Some(smallest), Some(largest)) = (sizes.first(), sizes.last()) else { return Ok(()) };
        let fastest_ns = points().map(|(_, ns)| *ns).fold(f64::INFINITY, f64::min);
        let slowest_ns = points().map(|(_, ns)| *ns).fold(1.0, f64::max);
        let mut axes = ChartBuilder::on(area)
            .margin(10)
            .margin_right(NAMES_WIDTH)
            .set_left_and_bottom_label_area_size(0)
            .y_label_area_size(66)
            .x_label_area_size(30)
            .caption(&self.title, font(15, INK))
            .build_cartesian_2d(
                across(*smallest) - 0.5..across(*largest) + 0.5,
                (decade_below(fastest_ns)..decade_above(slowest_ns)).log_scale(),
            )
            .map_err(failed)?;
        plain(&mut axes.configure_mesh())
            .disable_x_axis()
            .y_labels(8)
            .y_label_formatter(&|ns| decade_name(*ns))
            .y_desc("time of one operation")
            .draw()
            .map_err(failed)?;
        for &bytes in &sizes {
            let style = font(11, INK).pos(Pos::new(HPos::Center, VPos::Top));
            let label = Text::new(human(u64::try_from(bytes).unwrap_or(u64::MAX)), (0, 6), style);
            let at = (across(bytes), decade_below(fastest_ns));
            axes.plotting_area().draw(&(EmptyElement::at(at) + label)).map_err(failed)?;
        }
        let mut names = Vec::new();
        for (line, colour, thickness) in self.lines() {
            let points = line.points.iter().map(|(bytes, ns)| (across(*bytes), *ns));
            axes.draw_series(LineSeries::new(points.clone(), colour.stroke_width(thickness)))
                .map_err(failed)?;
            axes.draw_series(points.map(|at| Circle::new(at, thickness + 1, colour.filled())))
                .map_err(failed)?;
            let end = line.points.last().map(|(bytes, ns)| axes.backend_coord(&(across(*bytes), *ns)));
            names.extend(end.map(|(_, top)| (top, line.name, colour)));
        }
        let (right, _) = axes.backend_coord(&(across(*largest), fastest_ns));
        draw_names(area, right, names)
    }
}

/// Names at the ends of their lines, moved apart where they would lie upon each other.
fn draw_names(
    area: &Area<'_>,
    right: i32,
    mut names: Vec<(i32, &'static str, RGBColor)>,
) -> Result<(), Failure> {
    names.sort_by_key(|(top, _, _)| *top);
    let mut tops: Vec<i32> = names.iter().map(|(top, _, _)| *top).collect();
    move_apart(&mut tops, NAME_HEIGHT);
    let (area_left, area_top) = area.get_base_pixel();
    for (top, (_, name, colour)) in tops.into_iter().zip(names) {
        let (left, top) = (right - area_left + 8, top - area_top);
        area.draw(&PathElement::new([(left, top), (left + 12, top)], colour.stroke_width(3)))
            .map_err(failed)?;
        let style = font(12, INK).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(name, (left + 18, top), style)).map_err(failed)?;
    }
    Ok(())
}

/// Moves what lies too close away from each other, and as little as may be: groups of neighbours keep their middle.
fn move_apart(sorted: &mut [i32], distance: i32) {
    // Each pass moves at least one pair as far apart as is wanted; with few of them a few passes are enough.
    for _ in 0..sorted.len() * 8 {
        for index in 1..sorted.len() {
            let missing = distance - (sorted[index] - sorted[index - 1]);
            if missing > 0 {
                sorted[index - 1] -= missing / 2;
                sorted[index] += missing - missing / 2;
            }
        }
    }
}

/// Where a size is on the axis: at its logarithm.
#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn across(bytes: usize) -> f64 {
    (bytes.max(1) as f64).log2()
}

fn decade_below(ns: f64) -> f64 {
    10_f64.powf(ns.max(0.1).log10().floor())
}

fn decade_above(ns: f64) -> f64 {
    10_f64.powf(ns.max(0.1).log10().ceil().max(decade_below(ns).log10() + 1.0))
}

/// A power of ten, in the unit that suits it.
fn decade_name(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{} ns", rounded(ns)),
        ns if ns < 1e6 => format!("{} µs", rounded(ns / 1e3)),
        ns if ns < 1e9 => format!("{} ms", rounded(ns / 1e6)),
        ns => format!("{} s", rounded(ns / 1e9)),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::chart::drawn;

    #[test]
    fn names_that_would_lie_upon_each_other_are_moved_apart() {
        let mut tops = [100, 100, 101, 150];
        move_apart(&mut tops, 14);
        assert!(tops.windows(2).all(|pair| pair[1] - pair[0] >= 14), "{tops:?}");
        assert!((80..=100).contains(&tops[0]) && tops[3] <= 152, "{tops:?}");
        let mut far = [10, 200];
        move_apart(&mut far, 14);
        assert_eq!(far, [10, 200]);
    }

    #[test]
    fn axes_end_at_powers_of_ten() {
        assert_eq!((decade_below(34.0), decade_above(34.0)), (10.0, 100.0));
        assert_eq!((decade_below(100.0), decade_above(100.0)), (100.0, 1000.0));
        let names: Vec<_> = [0.1, 100.0, 1e3, 1e7, 1e9].map(decade_name).into();
        assert_eq!(names, ["0.1 ns", "100 ns", "1 µs", "10 ms", "1 s"]);
    }

    #[test]
    fn every_line_has_its_points_and_its_name_and_empty_panels_no_room() {
        let line =
            |name, ns: &[f64]| Line { name, points: [4096, 65536].into_iter().zip(ns.to_vec()).collect() };
        let panel = Panel {
            title: "one".to_owned(),
            ours: vec![line("ours", &[30.0, 40.0])],
            peers: vec![line("theirs", &[900.0, 9000.0]), line("not measured", &[])],
        };
        let empty = Panel { title: "nothing here".to_owned(), ours: Vec::new(), peers: Vec::new() };
        let picture = draw(&Heading::default(), &[panel, empty]).expect("a string takes all");
        let count = |tag, colour| drawn(&picture, tag, colour);
        // The line itself, and the piece of it beside its name.
        assert_eq!((count("polyline", GREEN), count("circle", GREEN)), (2, 2));
        assert_eq!((count("polyline", RED), count("circle", RED)), (2, 2));
        for text in ["ours", "theirs", "4 KiB", "64 KiB", "10 ns", "10 µs"] {
            assert!(picture.contains(text), "{text}");
        }
        assert!(!picture.contains("not measured") && !picture.contains("nothing here"));
    }
}
