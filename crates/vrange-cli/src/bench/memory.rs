//! How much memory this process takes.

use crate::failure::Failure;

/// Added up when it is read, and so exact to a page. `/proc/self/statm` is not: each processor keeps some pages back before it
/// counts them, and of a few MiB that is a part that one sees.
const ROLLUP: &str = "/proc/self/smaps_rollup";
const STATUS: &str = "/proc/self/status";

/// Anonymous memory in use.
pub(super) fn anonymous_bytes() -> Result<u64, Failure> {
    figure(ROLLUP, "Anonymous:")
}

/// Memory in use, files that are mapped (code, most of all) among it.
pub(super) fn resident_bytes() -> Result<u64, Failure> {
    figure(ROLLUP, "Rss:")
}

/// Anonymous memory that lies in huge pages.
pub(super) fn huge_bytes() -> Result<u64, Failure> {
    figure(ROLLUP, "AnonHugePages:")
}

/// The most that was in use at any time. Nobody adds this one up, so it may be some pages short.
pub(super) fn peak_bytes() -> Result<u64, Failure> {
    figure(STATUS, "VmHWM:")
}

fn figure(path: &str, field: &str) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("reading", path, &error))?;
    parse(&text, field).ok_or_else(|| Failure::run(format!("{path} has no line `{field}`")))
}

fn parse(text: &str, field: &str) -> Option<u64> {
    let kibibytes = text.lines().find_map(|line| line.strip_prefix(field))?.trim().strip_suffix("kB")?;
    kibibytes.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_in_kibibytes() {
        const TEXT: &str = "5555-6666 [rollup]\nRss:    99 kB\nAnonymous:    12 kB\nPss: 3 kB\n";
        assert_eq!(parse(TEXT, "Anonymous:"), Some(12 << 10));
        assert_eq!(parse(TEXT, "Rss:"), Some(99 << 10));
        assert_eq!(parse("Pss: 3 kB\n", "Anonymous:"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let anonymous_bytes = anonymous_bytes().expect("the kernel tells");
        let resident_bytes = resident_bytes().expect("the kernel tells");
        assert!(0 < anonymous_bytes && anonymous_bytes < resident_bytes);
        assert!(peak_bytes().expect("the kernel tells") > 0);
    }
}
