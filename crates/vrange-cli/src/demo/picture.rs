//! Charts of block characters.

use super::wire::Sample;
use crate::colour;

/// Eighths of a character cell, from empty to full.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const GREEN: &str = "\x1b[32m";
const PLAIN: &str = "\x1b[0m";

/// How charts are to be drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Canvas {
    /// Characters a chart may be wide, without its frame.
    pub(crate) columns: usize,
    /// Whether colours may be used.
    pub(crate) colour: bool,
}

/// Characters that the frame of a chart takes on the left.
const FRAME_COLUMNS: usize = 9;

impl Canvas {
    /// The terminal that standard output is, or 80 columns where it is none.
    pub(crate) fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let terminal = rustix::termios::isatty(&stdout);
        let width = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| usize::from(size.ws_col));
        Self::new(terminal.then_some(width), colour::of_stdout(&stdout))
    }

    /// `terminal_width`: none where it is no terminal; 0 where it does not tell.
    fn new(terminal_width: Option<usize>, colour: bool) -> Self {
        let width = match terminal_width {
            None | Some(0) => 80,
            Some(width) => width.clamp(30, 90),
        };
        Self { columns: width - FRAME_COLUMNS, colour }
    }
}

/// What is left of the cache, by age: the oldest on the left.
pub(crate) fn by_age(canvas: Canvas, kept_by_age: &[f64]) -> String {
    const ROWS: usize = 3;
    let mut picture = String::from("  what is left, by age\n");
    picture += &chart(canvas, &resample(kept_by_age, canvas.columns), ROWS);
    picture + &below(canvas, "oldest", "youngest")
}

/// What was left of the cache while the hog ran. `hog`: when it started to fault memory in, and when it had all.
pub(crate) fn over_time(
    canvas: Canvas,
    samples: &[Sample],
    cached_bytes: u64,
    hog: Option<(u64, u64)>,
) -> String {
    const ROWS: usize = 6;
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return String::new() };
    let mut picture = String::from("  what is left, over time\n");
    // From a little before the hog to a little after it; what came later is the hog holding what it has.
    let margin_ns = hog.map_or(0, |(start, end)| (end.saturating_sub(start)) / 5);
    let from_ns = hog.map_or(first.at_ns, |(start, _)| start.saturating_sub(margin_ns).max(first.at_ns));
    let to_ns = hog.map_or(last.at_ns, |(_, end)| end.saturating_add(margin_ns).min(last.at_ns));
    let values: Vec<f64> = (0..canvas.columns)
        .map(|column| {
            let at_ns = from_ns + scale(to_ns.saturating_sub(from_ns), column, canvas.columns);
            fraction(resident_at(samples, at_ns), cached_bytes)
        })
        .collect();
    picture += &chart(canvas, &values, ROWS);
    let length_ms = to_ns.saturating_sub(from_ns) / 1_000_000;
    picture += &below(canvas, "0 ms", &format!("{length_ms} ms"));
    if let Some((start, end)) = hog {
        let column = |at_ns: u64| {
            let span_ns = to_ns.saturating_sub(from_ns).max(1);
            let columns = u64::try_from(canvas.columns).unwrap_or(0);
            let column = at_ns.saturating_sub(from_ns).min(span_ns) * columns / span_ns;
            usize::try_from(column).unwrap_or(0)
        };
        picture += &mark(column(start), column(end), "hog");
    }
    picture
}

/// The resident bytes at the last look before `at_ns`.
fn resident_at(samples: &[Sample], at_ns: u64) -> u64 {
    let after = samples.partition_point(|sample| sample.at_ns <= at_ns);
    samples[after.saturating_sub(1)].resident_bytes
}

/// Columns of values between 0 and 1, `rows` characters high.
fn chart(canvas: Canvas, values: &[f64], rows: usize) -> String {
    let mut picture = String::new();
    for row in (0..rows).rev() {
        let label = if row + 1 == rows { "100 %" } else { "" };
        picture += &format!("  {label:>5} ");
        picture.push('▏');
        picture += if canvas.colour { GREEN } else { "" };
        picture.extend(values.iter().map(|&value| cell(value, row, rows)));
        picture += if canvas.colour { PLAIN } else { "" };
        picture.push('\n');
    }
    picture
}

/// How much of the cell in `row` (0 is the lowest) a column of the given height fills.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 8 by the clamp")]
#[expect(clippy::cast_precision_loss, reason = "a chart has few rows")]
fn cell(value: f64, row: usize, rows: usize) -> char {
    let eighths = (value * rows as f64 - row as f64) * 8.0;
    EIGHTHS[eighths.round().clamp(0.0, 8.0) as usize]
}

/// The line below a chart.
fn below(canvas: Canvas, left: &str, right: &str) -> String {
    let gap = canvas.columns.saturating_sub(left.chars().count() + right.chars().count());
    format!("    0 %  {left}{}{right}\n", " ".repeat(gap))
}

/// A bracket below the part of a chart from one column to another.
fn mark(from: usize, to: usize, label: &str) -> String {
    let length = to.saturating_sub(from);
    let dashes = length.saturating_sub(label.len() + 4);
    let (left, right) = (dashes / 2, dashes - dashes / 2);
    let indent = " ".repeat(FRAME_COLUMNS + from);
    format!("{indent}├{} {label} {}┤\n", "─".repeat(left), "─".repeat(right))
}

/// Brings values to another number of columns; each shows the mean of what falls into it, or the nearest value.
#[expect(clippy::cast_precision_loss, reason = "counts of columns")]
fn resample(values: &[f64], columns: usize) -> Vec<f64> {
    if values.is_empty() {
        return Vec::new();
    }
    (0..columns)
        .map(|column| {
            let start = column * values.len() / columns;
            let end = ((column + 1) * values.len() / columns).clamp(start + 1, values.len());
            values[start..end].iter().sum::<f64>() / (end - start) as f64
        })
        .collect()
}

/// `column` of `columns` of a length.
fn scale(length: u64, column: usize, columns: usize) -> u64 {
    let last = u64::try_from(columns.saturating_sub(1)).unwrap_or(0).max(1);
    length / last * u64::try_from(column).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "for a chart")]
fn fraction(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN_20: Canvas = Canvas { columns: 20, colour: false };

    #[test]
    fn charts_are_as_wide_as_the_terminal_and_plain_on_request() {
        let canvas = Canvas::new(Some(60), true);
        let picture = by_age(canvas, &[0.0, 0.5, 1.0]);
        assert!(picture.contains(GREEN));
        let plain = Canvas::new(Some(60), false);
        let picture = by_age(plain, &[0.0, 0.5, 1.0]);
        assert!(!picture.contains('\x1b'), "{picture}");
        assert!(picture.lines().all(|line| line.chars().count() <= 60), "{picture}");
        assert_eq!(Canvas::new(None, false).columns, 80 - FRAME_COLUMNS);
        assert_eq!(Canvas::new(Some(0), false).columns, 80 - FRAME_COLUMNS);
    }

    #[test]
    fn a_chart_rises_with_its_values() {
        let picture = by_age(PLAIN_20, &[0.0, 1.0]);
        let top = picture.lines().nth(1).expect("a row");
        assert!(top.ends_with("▏          ██████████"), "{picture}");
    }

    #[test]
    fn time_runs_to_the_right_and_the_hog_is_marked() {
        let sample = |at_ns, resident_bytes| Sample { at_ns, resident_bytes };
        let samples = [sample(0, 100), sample(50_000_000, 50), sample(100_000_000, 0)];
        let picture = over_time(PLAIN_20, &samples, 100, Some((0, 100_000_000)));
        assert!(picture.contains("100 ms"), "{picture}");
        assert!(picture.contains("hog"), "{picture}");
        let lowest = picture.lines().nth(6).expect("six rows");
        assert!(lowest.contains("▏██████████"), "{picture}");
    }

    #[test]
    fn nothing_seen_is_nothing_drawn() {
        assert_eq!(over_time(PLAIN_20, &[], 0, None), "");
        assert!(!by_age(PLAIN_20, &[]).is_empty());
    }
}
