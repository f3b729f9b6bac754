//! What the demo's processes say to each other: one JSON value a line, over the children's standard input and output.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What the parent asks of the cache process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToCache {
    /// Read files into volatile buffers until `target_bytes` are held or the files are used up.
    Fill { target_bytes: u64, files: Vec<PathBuf> },
    /// Watch which pages stay, until the next line comes.
    Watch,
    /// Give up `bytes` by advice, oldest first, and watch that.
    PullLever { bytes: u64 },
    /// Pin everything, compare it with its source, and report. `memory_bytes`: the limit that the cache has been under.
    Verify { memory_bytes: u64 },
}

/// What the cache process answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromCache {
    /// Some more bytes of the job at hand are done.
    Progress { done_bytes: u64 },
    /// The answer to `Fill`.
    Filled { cached_bytes: u64 },
    /// The answer to `Watch`, once watching: what the kernel could take at this moment without asking anybody.
    Watching { offered_bytes: u64 },
    /// The answer to `PullLever`.
    LeverPulled,
    /// The answer to `Verify`.
    Verified(Box<CacheReport>),
    /// The job cannot be done; the process ends.
    Failed { message: String },
}

/// What the parent asks of the hog.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHog {
    /// Fault in `bytes` and write to every page.
    Run { bytes: u64 },
    /// Give the memory back and end.
    End,
}

/// What the hog answers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum FromHog {
    /// Started, inside the group, nothing faulted in.
    Ready,
    /// Every page is written. Times of the monotonic clock, which all processes share.
    Done { started_ns: u64, ended_ns: u64 },
    /// The memory could not be mapped.
    Failed,
}

/// What became of the cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheReport {
    /// Files whose contents were cached.
    pub(crate) files: u64,
    /// Bytes of file contents that were cached.
    pub(crate) cached_bytes: u64,
    /// Bytes still there at the end.
    pub(crate) kept_bytes: u64,
    /// Bytes reported lost at the end. Kept and lost bytes add up to the cached bytes.
    pub(crate) lost_bytes: u64,
    /// Bytes offered to the kernel, each time they were.
    pub(crate) offered_bytes: u64,
    /// The headroom that the library keeps under this limit.
    pub(crate) reserve_bytes: u64,
    /// Files that are there as a whole.
    pub(crate) kept_files: u64,
    /// Files that are there in part.
    pub(crate) partly_lost_files: u64,
    /// Files of which nothing is left.
    pub(crate) lost_files: u64,
    /// Files with a byte that was reported kept and is not what was stored, or reported lost and is not zero.
    pub(crate) corrupt_files: u64,
    /// Files that changed on disk in the meantime, so that only the stored digest could be compared.
    pub(crate) changed_files: u64,
    /// Rank correlation of age and order of loss; see [`rank`](super::rank). None where nothing was lost.
    pub(crate) age_order_spearman: Option<f64>,
    /// The cache in slices of equal size, oldest first: which fraction of each is still there.
    pub(crate) kept_by_age: Vec<f64>,
    /// Resident bytes of the cache while it was watched.
    pub(crate) over_time: Vec<Sample>,
}

/// One look at the cache.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// When, on the monotonic clock.
    pub(crate) at_ns: u64,
    /// How much was there.
    pub(crate) resident_bytes: u64,
}

/// Writes one value and pushes it out.
pub(crate) fn send(to: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one value; none at the end of the stream.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> std::io::Result<Option<T>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// The monotonic clock, in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_wire_and_the_end_is_none() {
        let mut line = Vec::new();
        send(&mut line, &ToHog::Run { bytes: 7 }).expect("a vector takes all");
        let mut from = line.as_slice();
        assert!(matches!(receive(&mut from), Ok(Some(ToHog::Run { bytes: 7 }))));
        assert!(matches!(receive::<ToHog>(&mut from), Ok(None)));
    }

    #[test]
    fn a_line_cut_short_is_an_error() {
        assert!(receive::<ToHog>(&mut &b"{\"Run\":{\"by"[..]).is_err());
    }
}
