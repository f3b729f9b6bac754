//! Progress bars, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One bar, for one job after the other.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar on standard error; invisible if that is no terminal, or if a program reads the result.
    pub(crate) fn new(quiet: bool) -> Self {
        let progress = Self { bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()) };
        progress.phase("preparing", 0);
        if !quiet {
            progress.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        progress
    }

    /// A round begins.
    pub(crate) fn round(&self, number: u32, of: u32) {
        self.bar.set_prefix(format!("{number}/{of}"));
    }

    /// A job begins. `total_bytes`: 0 where it is not known how long it takes.
    pub(crate) fn phase(&self, what: &'static str, total_bytes: u64) {
        const BAR: &str = "  {prefix} {msg:<22} {bar:30} {bytes:>10} of {total_bytes}";
        const SPINNER: &str = "  {prefix} {msg:<22} {spinner}";
        let template = if total_bytes > 0 { BAR } else { SPINNER };
        self.bar.set_length(total_bytes);
        self.bar.set_position(0);
        self.bar.set_message(what);
        // The templates are constants; one that does not parse falls back to the default look.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    /// How far the job has got.
    pub(crate) fn done(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
