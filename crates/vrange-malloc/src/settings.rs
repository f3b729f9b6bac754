//! What a process is to do with its free memory: read from the environment once, when a preloaded library is loaded.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vrange::Content;
use vrange::raw;

use crate::{free_memory, report};

/// `on`: allocators that can be hooked are.
pub const MALLOC: &str = "VRANGE_MALLOC";
/// After how many seconds free memory is released.
pub const DECAY: &str = "VRANGE_DECAY";
/// How many bytes of free memory may stay.
pub const LIMIT: &str = "VRANGE_LIMIT";
/// `1`: what has become of free memory is told at exit.
pub const STATS: &str = "VRANGE_STATS";

/// See [`apply`](Self::apply).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Free memory is released when it has been left alone for this long.
    pub decay: Duration,
    /// No more free memory than this is kept.
    pub limit_bytes: Option<u64>,
    /// At exit it is told on standard error what has become of free memory.
    pub stats: bool,
}

impl Default for Settings {
    /// Ten seconds, no limit, no report.
    fn default() -> Self {
        Self { decay: Duration::from_secs(10), limit_bytes: None, stats: false }
    }
}

impl Settings {
    /// What the environment says. `None`: nothing is to be hooked, as it is where nothing is said and `unasked` is false. What cannot
    /// be understood is told on standard error, and is as if it were not set.
    pub fn read(unasked: bool) -> Option<Self> {
        // Parts of one library read them one after the other.
        static TOLD: AtomicBool = AtomicBool::new(false);
        let mut complaints = String::new();
        let complain = |complaint: String| complaints.push_str(&format!("vrange: {complaint}\n"));
        let settings = Self::from(unasked, |name| std::env::var(name).ok(), complain);
        // Relaxed: before there are other threads.
        if !complaints.is_empty() && !TOLD.swap(true, Ordering::Relaxed) {
            let _ = std::io::stderr().write_all(complaints.as_bytes());
        }
        settings
    }

    fn from(
        unasked: bool,
        variable: impl Fn(&str) -> Option<String>,
        mut complain: impl FnMut(String),
    ) -> Option<Self> {
        match variable(MALLOC).as_deref() {
            Some("on") => {}
            None | Some("") if unasked => {}
            None | Some("" | "off") => return None,
            Some(other) => {
                complain(format!(
                    "{MALLOC}={other} is not known, nothing is hooked; it may be `on` or `off`"
                ));
                return None;
            }
        }
        let mut settings = Self::default();
        if let Some(text) = variable(DECAY) {
            match text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
                Some(decay) => settings.decay = decay,
                None => complain(format!("{DECAY}={text} is not a number of seconds, 10 is used")),
            }
        }
        if let Some(text) = variable(LIMIT) {
            match text.parse() {
                Ok(bytes) => settings.limit_bytes = Some(bytes),
                Err(_) => complain(format!("{LIMIT}={text} is not a number of bytes, there is no limit")),
            }
        }
        settings.stats = variable(STATS).as_deref() == Some("1");
        Some(settings)
    }

    /// Has the hooks mark free memory from now on. Starts nothing: that is for [`prepare`](vrange::raw::prepare).
    pub fn apply(&self) {
        raw::set_content(Content::Free { decay: self.decay });
        raw::set_limit(self.limit_bytes);
        if self.stats {
            report::turn_on();
        }
        free_memory::turn_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Option<Settings>, Vec<String>) {
        let mut complaints = Vec::new();
        let find = |name: &str| Some(variables.iter().find(|(other, _)| *other == name)?.1.to_owned());
        let settings = Settings::from(false, find, |complaint| complaints.push(complaint));
        (settings, complaints)
    }

    #[test]
    fn nothing_is_hooked_unless_asked_for() {
        assert_eq!(read(&[]), (None, vec![]));
        assert_eq!(read(&[(MALLOC, "off"), (STATS, "1")]), (None, vec![]));
        let (settings, complaints) = read(&[(MALLOC, "yes")]);
        assert_eq!(settings, None);
        assert!(complaints[0].contains("VRANGE_MALLOC=yes"), "{complaints:?}");
    }

    #[test]
    fn what_is_set_is_used_and_the_rest_has_defaults() {
        assert_eq!(read(&[(MALLOC, "on")]), (Some(Settings::default()), vec![]));
        let (settings, complaints) =
            read(&[(MALLOC, "on"), (DECAY, "0.5"), (LIMIT, "1000000"), (STATS, "1")]);
        let expected =
            Settings { decay: Duration::from_millis(500), limit_bytes: Some(1_000_000), stats: true };
        assert_eq!((settings, complaints), (Some(expected), vec![]));
    }

    #[test]
    fn what_cannot_be_understood_is_told() {
        for decay in ["soon", "-1", "NaN", "inf", "1e30"] {
            let (settings, complaints) = read(&[(MALLOC, "on"), (DECAY, decay), (LIMIT, "1G")]);
            assert_eq!(settings, Some(Settings::default()));
            assert_eq!(complaints.len(), 2, "{complaints:?}");
        }
    }
}
