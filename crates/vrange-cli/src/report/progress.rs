//! Which bench runs, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Outcome, Section};

/// A line for the bench that runs, and one for each that has run.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// On standard error; invisible if that is no terminal.
    pub(super) fn new(benches: usize) -> Self {
        let length = u64::try_from(benches).ok();
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        // The template is a constant; if it did not parse, the default look would do.
        if let Ok(style) = ProgressStyle::with_template("  {pos} of {len} done; {msg}, for {elapsed}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// A bench begins, which takes about so long.
    pub(super) fn begin(&self, command: &str, about: Duration) {
        let about = match about.as_secs() {
            seconds if seconds < 90 => format!("{seconds} s"),
            seconds => format!("{} minutes", seconds.div_ceil(60)),
        };
        self.bar.set_message(format!("{command} (about {about})"));
        self.bar.reset_elapsed();
        self.bar.enable_steady_tick(Duration::from_millis(500));
    }

    /// It has ended.
    pub(super) fn end(&self, section: &Section) {
        let outcome = match &section.outcome {
            Outcome::Measured => format!("done in {} s", section.seconds),
            Outcome::Failed(reason) => format!("failed: {reason}"),
            Outcome::NotMeasured(reason) => format!("not measured: {reason}"),
        };
        self.bar.println(format!("  {}: {outcome}", section.command));
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
