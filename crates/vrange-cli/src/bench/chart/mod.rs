//! One way to make charts: a heading that says what, how and where was measured, and panels below it.

pub(crate) mod by_size;
mod colours;
pub(crate) mod linear;

use std::fmt::Display;

use plotters::backend::SVGBackend;
use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::drawing::{DrawingArea, IntoDrawingArea as _};
use plotters::element::{Rectangle, Text};
use plotters::style::{Color as _, IntoFont as _, RGBColor, TRANSPARENT, TextStyle};

pub(crate) use colours::{BLUE, GREEN, GREY, INK, LIGHT_GREY, PALE, PINK, RED, SKY};
use colours::{GRID, PAPER};

use crate::bench::machine::Machine;
use crate::failure::Failure;

pub(crate) const WIDTH: u32 = 1120;
const MARGIN: i32 = 24;
const LINE_HEIGHT: i32 = 18;
const LEGEND_HEIGHT: i32 = 24;
const FONT: &str = "sans-serif";
/// Of most fonts the letters of 13 pixels are on average no wider.
const LETTER_WIDTH: i32 = 7;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What stands above the panels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heading {
    pub(crate) title: String,
    /// The command that draws this picture.
    pub(crate) command: String,
    /// What one has to know to read it.
    pub(crate) notes: Vec<String>,
    /// What colours mean.
    pub(crate) legend: Vec<(RGBColor, String)>,
}

/// Draws the heading, and has `panels` draw the rest.
///
/// # Errors
/// What `panels` returns. (A string takes all that is drawn into it.)
pub(crate) fn draw(
    heading: &Heading,
    panels_height: u32,
    panels: impl FnOnce(&Area<'_>) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let layout = Layout::of(heading, &Machine::look().describe());
    let mut picture = String::new();
    {
        let size = (WIDTH, layout.height.unsigned_abs() + panels_height);
        let root = SVGBackend::with_string(&mut picture, size).into_drawing_area();
        root.fill(&PAPER).map_err(failed)?;
        let (header, rest) = root.split_vertically(layout.height);
        layout.draw(&header)?;
        panels(&rest)?;
        root.present().map_err(failed)?;
    }
    Ok(for_both_grounds(&picture))
}

/// Where everything of a heading is.
struct Layout {
    texts: Vec<(String, (i32, i32), u32, RGBColor)>,
    squares: Vec<((i32, i32), RGBColor)>,
    height: i32,
}

impl Layout {
    fn of(heading: &Heading, machine: &str) -> Self {
        let mut texts = vec![(heading.title.clone(), (MARGIN, 14), 22, INK)];
        let mut squares = Vec::new();
        let mut top = 46;
        let captions =
            std::iter::once(format!("{}; {machine}", heading.command)).chain(heading.notes.clone());
        for line in captions.flat_map(|text| wrapped(&text)) {
            texts.push((line, (MARGIN, top), 13, PALE));
            top += LINE_HEIGHT;
        }
        let mut left = MARGIN;
        top += 8;
        for (colour, label) in &heading.legend {
            let width = 20 + width_of(label);
            if left > MARGIN && left + width > right_edge() {
                left = MARGIN;
                top += LEGEND_HEIGHT;
            }
            squares.push(((left, top), *colour));
            texts.push((label.clone(), (left + 20, top + 1), 13, INK));
            left += width + 20;
        }
        let height = if heading.legend.is_empty() { top } else { top + LEGEND_HEIGHT };
        Self { texts, squares, height }
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), Failure> {
        for (text, at, size, colour) in &self.texts {
            area.draw(&Text::new(text.clone(), *at, font(*size, *colour))).map_err(failed)?;
        }
        for ((left, top), colour) in &self.squares {
            let square = Rectangle::new([(*left, *top), (left + 14, top + 14)], colour.filled());
            area.draw(&square).map_err(failed)?;
        }
        Ok(())
    }
}

fn right_edge() -> i32 {
    WIDTH.cast_signed() - MARGIN
}

fn width_of(text: &str) -> i32 {
    LETTER_WIDTH * i32::try_from(text.chars().count()).unwrap_or(0)
}

/// Lines that fit the width, broken at spaces.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if MARGIN + width_of(line) + width_of(word) + LETTER_WIDTH <= right_edge() => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Puts the style in front of everything that it is about.
fn for_both_grounds(picture: &str) -> String {
    match picture.find("<svg").and_then(|start| Some(start + picture[start..].find('>')? + 1)) {
        Some(end) => format!("{}\n{}{}", &picture[..end], colours::style(), &picture[end..]),
        None => picture.to_owned(),
    }
}

pub(crate) fn font(size: u32, colour: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour)
}

/// Lines to measure by that lead across alone, and are paler than what is measured.
pub(crate) fn plain<'m, 'a, 'b, 'c, X, Y>(
    mesh: &'m mut MeshStyle<'a, 'b, X, Y, SVGBackend<'c>>,
) -> &'m mut MeshStyle<'a, 'b, X, Y, SVGBackend<'c>>
where
    X: Ranged + ValueFormatter<X::ValueType>,
    Y: Ranged + ValueFormatter<Y::ValueType>,
{
    mesh.disable_x_mesh()
        .label_style(font(12, INK))
        .axis_desc_style(font(12, INK))
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(PALE)
}

pub(crate) fn failed(error: impl Display) -> Failure {
    Failure::run(format!("drawing the chart: {error}"))
}

/// How many such elements of this colour, as area or as line, a picture has.
#[cfg(test)]
pub(crate) fn drawn(picture: &str, tag: &str, colour: RGBColor) -> usize {
    let document = roxmltree::Document::parse(picture).expect("well-formed");
    let colour = colours::written(colour);
    let is_it = |node: &roxmltree::Node| {
        node.tag_name().name() == tag
            && [node.attribute("fill"), node.attribute("stroke")].contains(&Some(colour.as_str()))
    };
    document.descendants().filter(is_it).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heading_says_what_how_and_where_and_nothing_leaves_the_picture() {
        let heading = Heading {
            title: "A title with <angles>".to_owned(),
            command: "vrange bench none --quick".to_owned(),
            notes: vec!["word ".repeat(100)],
            legend: (0..12).map(|number| (GREEN, format!("colour number {number}"))).collect(),
        };
        let layout = Layout::of(&heading, "a machine");
        for (text, (left, top), _, _) in layout.texts.iter().skip(1) {
            assert!(left + width_of(text) <= right_edge(), "{text}");
            assert!(*top < layout.height, "{text}");
        }
        let picture = draw(&heading, 10, |_| Ok(())).expect("a string takes all");
        let document = roxmltree::Document::parse(&picture).expect("well-formed");
        let texts: Vec<_> = document.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        assert!(texts.contains(&"A title with <angles>"), "{texts:?}");
        assert!(texts.iter().any(|text| text.starts_with("vrange bench none --quick; ")), "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("Linux ")), "{texts:?}");
        let style =
            document.descendants().find(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "style")));
        assert!(
            style.and_then(|node| node.text()).is_some_and(|text| text.contains("prefers-color-scheme:dark"))
        );
    }

    #[test]
    fn long_words_have_a_line_of_their_own() {
        let long = "x".repeat(400);
        assert_eq!(wrapped(&format!("a {long} b")), ["a", &long, "b"]);
    }
}
