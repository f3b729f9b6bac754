//! The terminal, taken and given back.

use std::time::Duration;

use crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, Frame};

use crate::failure::Failure;

/// The whole terminal, with keys that come one by one. When this is dropped, and when the program panics, it is as it was before.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// # Errors
    /// The terminal refuses.
    pub(super) fn open() -> Result<Self, Failure> {
        // It has panics give the terminal back, too, before their message is printed.
        let terminal = ratatui::try_init().map_err(|error| failed(&error))?;
        Ok(Self { terminal })
    }

    pub(super) fn draw(&mut self, page: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        self.terminal.draw(page).map(|_| ()).map_err(|error| failed(&error))
    }

    /// The next key or change of size, unless none comes within `wait`.
    #[expect(clippy::unused_self, reason = "there are events as long as there is a screen")]
    pub(super) fn event(&self, wait: Duration) -> Result<Option<Event>, Failure> {
        let read = || if event::poll(wait)? { event::read().map(Some) } else { Ok(None) };
        read().map_err(|error| failed(&error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = self.terminal.show_cursor();
        // A panic has given it back before it printed its message. To do so again would put the cursor back to where it was, and
        // what is printed next over the message.
        if !std::thread::panicking() {
            ratatui::restore();
        }
    }
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::run(format!("using the terminal: {error}")).hint("vrange stat needs none")
}

#[cfg(test)]
mod tests;
