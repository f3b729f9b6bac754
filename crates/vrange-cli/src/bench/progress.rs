//! How far a run has got, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar, for one phase after the other.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar on standard error; invisible if that is no terminal, or if a program reads the result.
    pub(super) fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        // The template is a constant; if it did not parse, the default look would do.
        if let Ok(style) = ProgressStyle::with_template("  {msg:<50} {bar:30} {pos} of {len}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// A phase begins, of so many steps.
    pub(super) fn phase(&self, what: &str, steps: usize) {
        self.bar.set_message(what.to_owned());
        self.bar.set_length(u64::try_from(steps).unwrap_or(u64::MAX));
        self.bar.set_position(0);
        self.bar.enable_steady_tick(Duration::from_millis(500));
    }

    /// One of them is done.
    pub(super) fn step(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
