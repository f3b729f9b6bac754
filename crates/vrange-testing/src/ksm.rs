//! Kernel samepage merging, which is off on most machines.

use std::fs;

use crate::alone::{Alone, alone};
use crate::{is_child, skipped};

const DIRECTORY: &str = "/sys/kernel/mm/ksm";

/// KSM at full speed, and nobody else's test of memory meanwhile; as it was before when dropped.
#[derive(Debug)]
#[must_use = "KSM is turned off with this value"]
pub struct Ksm {
    before: Vec<(&'static str, String)>,
    _alone: Option<Alone>,
}

impl Ksm {
    /// `None`, and a line that says so: the kernel has no KSM, or this user may not turn it on.
    pub fn run() -> Option<Self> {
        // Another program's tests would turn it off when they are done. The child's parent has the lock.
        let alone = (!is_child()).then(alone);
        let mut ksm = Self { before: Vec::new(), _alone: alone };
        // Those that a kernel does not have are left out.
        for (file, value) in [
            ("smart_scan", "0"),
            ("advisor_mode", "none"),
            ("pages_to_scan", "20000"),
            ("sleep_millisecs", "1"),
            ("run", "1"),
        ] {
            let path = format!("{DIRECTORY}/{file}");
            let Ok(before) = fs::read_to_string(&path) else { continue };
            if fs::write(&path, value).is_ok() {
                // `[none] scan-time`: the word in brackets is the one in force.
                let chosen = before
                    .split_once('[')
                    .and_then(|(_, rest)| rest.split_once(']'))
                    .map(|(word, _)| word.to_owned());
                ksm.before.push((file, chosen.unwrap_or(before)));
            }
        }
        let runs = ksm.before.iter().any(|(file, _)| *file == "run");
        if !runs {
            skipped("KSM cannot be turned on");
        }
        runs.then_some(ksm)
    }
}

impl Drop for Ksm {
    fn drop(&mut self) {
        for (file, value) in self.before.iter().rev() {
            let _ = fs::write(format!("{DIRECTORY}/{file}"), value.trim());
        }
    }
}
