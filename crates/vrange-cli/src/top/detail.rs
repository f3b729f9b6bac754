//! One process: where memory may run short for it, its heaps, and the age of what it could lose.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Stylize as _;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::app::App;
use super::rates::Rates;
use crate::size::short;
use crate::stat::{HeapFigures, ProcessFigures};

/// The longest bar of the histogram.
const BAR_CHARS: u64 = 40;

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, pid: u32) {
    let [body, foot] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let lines = match app.process(pid) {
        Some((process, rates)) => lines(process, &rates),
        None => vec![Line::from(format!("Process {pid} has ended, or has become another program."))],
    };
    let most = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(body.height);
    let scrolled = app.scrolled(most);
    frame.render_widget(Paragraph::new(lines).scroll((scrolled, 0)), body);
    frame.render_widget(Paragraph::new("q back  ↑↓ scroll  Ctrl-C quit"), foot);
}

fn lines<'a>(process: &ProcessFigures, rates: &Rates) -> Vec<Line<'a>> {
    let mut lines = state(process, rates);
    lines.push(Line::default());
    lines.extend(levels(process));
    lines.push(Line::default());
    lines.extend(heaps(process));
    lines.push(Line::default());
    lines.extend(ages(process));
    lines
}

fn state<'a>(process: &ProcessFigures, rates: &Rates) -> Vec<Line<'a>> {
    let age = process.age_seconds.map_or("at an unknown time".to_owned(), |age| format!("{age:.1} s ago"));
    let state = if process.parked { "sleeps, nothing is volatile" } else { "awake" };
    let pressure = &process.pressure;
    let sources = if pressure.sources.is_empty() { "time".to_owned() } else { pressure.sources.join(", ") };
    vec![
        Line::from(format!("{} {}", process.pid, process.name)).bold(),
        Line::from(format!("reclaimer: {state}; {} turns; as of {age}", process.turns)),
        Line::from(format!(
            "woken by: {sources}; {} times{}",
            pressure.wakes,
            pressure.last.map_or(String::new(), |last| format!(", last {last}")),
        )),
        Line::from(format!(
            "memory: {} resident, {} of it reclaimable{}",
            short(process.resident_bytes),
            short(process.reclaimable_bytes),
            if process.can_offer { "" } else { "; the kernel takes no offers" },
        )),
        Line::from(format!(
            "in a second: {} offered, {} lost, {} freed",
            short(rates.offered),
            short(rates.lost),
            short(rates.released)
        )),
    ]
}

fn levels<'a>(process: &ProcessFigures) -> Vec<Line<'a>> {
    let head =
        format!("{:<14} {:>8} {:>8} {:>9} {:>14}", "MEMORY OF", "LIMIT", "FREE", "HEADROOM", "RESERVE");
    let mut lines = vec![Line::from(head).bold()];
    for level in &process.levels {
        let name = match level.height {
            None => level.kind.to_owned(),
            Some(0) => "own cgroup".to_owned(),
            Some(height) => format!("cgroup, {height} up"),
        };
        lines.push(Line::from(format!(
            "{name:<14} {:>8} {:>8} {:>9} {:>14}",
            short(level.limit_bytes),
            short(level.free_bytes),
            short(level.headroom_bytes),
            format!("{} to {}", short(level.reserve_low_bytes), short(level.reserve_high_bytes)),
        )));
    }
    lines
}

fn heaps<'a>(process: &ProcessFigures) -> Vec<Line<'a>> {
    let line = |name: &str, cells: [String; 7]| {
        let cells = cells.iter().map(|cell| format!(" {cell:>8}")).collect::<String>();
        Line::from(format!("{:<16}{cells}", name.chars().take(16).collect::<String>()))
    };
    let titles = ["PINNED", "VOLATILE", "OFFERED", "RESCUED", "LOST", "FREED", "LIMIT"];
    let mut lines = vec![line("HEAP", titles.map(str::to_owned)).bold()];
    for heap in &process.heaps {
        let HeapFigures { pinned, volatile, offered, .. } = heap;
        let amounts = [
            pinned.bytes,
            volatile.bytes,
            offered.bytes,
            heap.rescued_bytes_total,
            heap.lost_bytes_total,
            heap.released_bytes_total,
        ];
        let [pinned, volatile, offered, rescued, lost, released] = amounts.map(short);
        let limit = heap.limit_bytes.map_or("none".to_owned(), short);
        lines.push(line(&heap.name, [pinned, volatile, offered, rescued, lost, released, limit]));
    }
    lines
}

/// Of what is volatile or offered in all heaps.
fn ages<'a>(process: &ProcessFigures) -> Vec<Line<'a>> {
    let mut lines = vec![Line::from("UNUSED FOR").bold()];
    let classes = process.heaps.first().map_or(0, |heap| heap.ages.len());
    let bytes = |class: usize| process.sum(|heap| heap.ages.get(class).map_or(0, |age| age.bytes));
    let most = (0..classes).map(bytes).max().unwrap_or(0).max(1);
    for class in 0..classes {
        let below = process.heaps.first().and_then(|heap| heap.ages[class].below_seconds);
        let name = match below {
            Some(seconds) if seconds < 60 => format!("less than {seconds} s"),
            Some(seconds) if seconds < 3600 => format!("less than {} min", seconds / 60),
            Some(seconds) => format!("less than {} h", seconds / 3600),
            None => "longer".to_owned(),
        };
        let length = u128::from(bytes(class)) * u128::from(BAR_CHARS) / u128::from(most);
        let bar = "█".repeat(usize::try_from(length).unwrap_or(0));
        lines.push(Line::from(format!("{name:<18} {:>7} {bar}", short(bytes(class)))));
    }
    lines
}
