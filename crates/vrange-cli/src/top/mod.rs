//! `vrange top`: what the processes of this machine have in volatile memory, on a screen that is drawn again and again.
//!
//! * `app` is what is shown and what a key does to it;
//! * `rates` compares a look with the one before;
//! * `columns` are those of the list of processes;
//! * `list`, `detail` and `help` draw a page each;
//! * `screen` takes the terminal, and gives it back whatever happens.

mod app;
mod columns;
mod detail;
mod help;
mod list;
mod rates;
mod screen;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyEventKind};
use ratatui::Frame;

use crate::command_line::TopOptions;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::processes::{Wanted, Watch};
use crate::stat::{self, Report};
use app::{App, Page};
use screen::Screen;

/// How often it is looked whether a signal has come.
const SIGNAL_WAIT: Duration = Duration::from_millis(200);

/// Shows the screen until it is left. Where there is no terminal, or with `--once`, prints what `vrange stat` prints.
pub(crate) fn run(options: &TopOptions) -> Result<(), Failure> {
    let has_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if options.once || !has_terminal {
        return stat::print(&options.processes);
    }
    let wanted = Wanted::of(&options.processes);
    let mut watch = Watch::default();
    let mut app = App::new(look(&mut watch, &wanted)?);
    let interrupt = Interrupt::listen()?;
    let mut screen = Screen::open()?;
    let interval = Duration::from_secs_f64(options.interval);
    let mut due = Instant::now() + interval;
    while !app.is_left() {
        screen.draw(|frame| draw(frame, &mut app))?;
        match screen.event(SIGNAL_WAIT.min(due.saturating_duration_since(Instant::now())))? {
            Some(Event::Key(key)) if key.kind != KeyEventKind::Release => app.press(key),
            // A resized terminal is drawn at the next turn, which begins at once.
            _ => {}
        }
        interrupt.check()?;
        if Instant::now() >= due {
            due = Instant::now() + interval;
            app.update(look(&mut watch, &wanted)?);
        }
    }
    Ok(())
}

fn look(watch: &mut Watch, wanted: &Wanted) -> Result<Report, Failure> {
    stat::look(watch, wanted).map(|found| Report::of(&found))
}

/// Draws the page that is shown.
fn draw(frame: &mut Frame<'_>, app: &mut App) {
    match app.page() {
        Page::List => list::draw(frame, app),
        Page::Detail(pid) => detail::draw(frame, app, pid),
        Page::Help => help::draw(frame),
    }
}

#[cfg(test)]
mod tests;
