//! The reckoning: what is still there, and is it what was stored?

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;

use vrange::Pinned;

use super::cached::{Cached, Link};
use super::rank;
use super::watch::Watch;
use super::wire::{CacheReport, FromCache};

/// Slices of equal size that the picture by age is made of.
const AGE_SLICES: usize = 72;
/// How much of a source file is compared at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Pins every file, compares it, and adds it all up. `files` are in the order of age, oldest first.
pub(super) fn report(
    files: &[Cached],
    watch: Option<&Watch>,
    link: &mut Link,
) -> Result<CacheReport, String> {
    const PROGRESS_BYTES: u64 = 16 << 20;
    let mut report = CacheReport { files: count(files.len()), ..CacheReport::default() };
    let mut slices = AgeSlices::new(files);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut reported_bytes = 0;
    for file in files {
        let outcome = check(file, &mut chunk);
        let len = count(file.buffer.len());
        report.cached_bytes += len;
        report.lost_bytes += outcome.lost_bytes;
        report.kept_bytes += len - outcome.lost_bytes;
        match outcome.lost_bytes {
            0 => report.kept_files += 1,
            lost if lost == len => report.lost_files += 1,
            _ => report.partly_lost_files += 1,
        }
        report.corrupt_files += u64::from(outcome.corrupt);
        report.changed_files += u64::from(outcome.changed);
        slices.add(len, outcome.lost_bytes);
        if report.cached_bytes - reported_bytes >= PROGRESS_BYTES {
            reported_bytes = report.cached_bytes;
            link.answer(&FromCache::Progress { done_bytes: report.cached_bytes })?;
        }
    }
    report.kept_by_age = slices.kept();
    if let Some(watch) = watch {
        report.age_order_spearman = rank::age_order(&watch.lost_at_ns);
        report.over_time.clone_from(&watch.samples);
    }
    Ok(report)
}

/// What became of one file.
#[derive(Debug, Default)]
struct Outcome {
    lost_bytes: u64,
    /// Bytes are there that were not stored, or are missing and were not reported.
    corrupt: bool,
    /// The source is not what it was.
    changed: bool,
}

/// Compares a buffer with the digest of what was stored in it, and byte by byte with the source as it is now.
fn check(file: &Cached, chunk: &mut [u8]) -> Outcome {
    let (guard, lost): (_, Vec<Range<usize>>) = match file.buffer.pin() {
        Pinned::Intact(guard) => (guard, Vec::new()),
        Pinned::Purged(purged) => {
            let lost = purged.lost().collect();
            (purged.into_guard(), lost)
        }
    };
    let lost_bytes: usize = lost.iter().map(|range| range.len()).sum();
    let source = compare_with_source(file, &guard, &lost, chunk);
    let changed = source.digest != Some(file.digest);
    let whole = lost.is_empty();
    let stored_differs = whole && blake3::hash(&guard) != file.digest;
    let lost_not_zero = lost.iter().any(|range| guard[range.clone()].iter().any(|&byte| byte != 0));
    Outcome {
        lost_bytes: count(lost_bytes),
        // Where the source has changed there is only the digest to go by, and that only for a file that is whole.
        corrupt: stored_differs || lost_not_zero || (source.differs && !changed),
        changed,
    }
}

/// A source file, read once more.
#[derive(Debug)]
struct Source {
    /// None if it cannot be read any more.
    digest: Option<blake3::Hash>,
    /// A byte outside of what was lost differs.
    differs: bool,
}

fn compare_with_source(file: &Cached, kept: &[u8], lost: &[Range<usize>], chunk: &mut [u8]) -> Source {
    let unreadable = Source { digest: None, differs: false };
    let Ok(mut source) = File::open(&file.path) else { return unreadable };
    let mut hasher = blake3::Hasher::new();
    let mut differs = false;
    let mut offset = 0;
    loop {
        let Ok(bytes) = source.read(chunk) else { return unreadable };
        if bytes == 0 {
            break;
        }
        hasher.update(&chunk[..bytes]);
        let here = offset..offset + bytes;
        differs |= match kept.get(here.clone()) {
            Some(kept) => differs_outside(&chunk[..bytes], kept, here, lost),
            None => true,
        };
        offset += bytes;
    }
    differs |= offset != kept.len();
    Source { digest: Some(hasher.finalize()), differs }
}

/// Whether two pieces, which stand at `here`, differ in a byte that is not among the lost ones.
fn differs_outside(source: &[u8], kept: &[u8], here: Range<usize>, lost: &[Range<usize>]) -> bool {
    let mut next = here.start;
    let within = |range: Range<usize>| range.start - here.start..range.end - here.start;
    for range in lost {
        let start = range.start.clamp(next, here.end);
        let end = range.end.clamp(start, here.end);
        if source[within(next..start)] != kept[within(next..start)] {
            return true;
        }
        next = end;
    }
    source[within(next..here.end)] != kept[within(next..here.end)]
}

/// Adds up losses in slices of equal size.
#[derive(Debug)]
struct AgeSlices {
    slice_bytes: u64,
    seen_bytes: u64,
    lost_bytes: Vec<f64>,
}

impl AgeSlices {
    fn new(files: &[Cached]) -> Self {
        let total_bytes: u64 = files.iter().map(|file| count(file.buffer.len())).sum();
        Self::of(total_bytes)
    }

    fn of(total_bytes: u64) -> Self {
        Self {
            slice_bytes: total_bytes.div_ceil(count(AGE_SLICES)).max(1),
            seen_bytes: 0,
            lost_bytes: vec![0.0; AGE_SLICES],
        }
    }

    /// Adds the next file; what it lost counts as spread evenly over it.
    #[expect(clippy::cast_precision_loss, reason = "a picture of 72 columns needs no 52 bits")]
    fn add(&mut self, bytes: u64, lost_bytes: u64) {
        let lost_share = lost_bytes as f64 / bytes.max(1) as f64;
        let end = self.seen_bytes + bytes;
        while self.seen_bytes < end {
            let slice = self.seen_bytes / self.slice_bytes;
            let part = end.min((slice + 1) * self.slice_bytes) - self.seen_bytes;
            if let Some(lost) = usize::try_from(slice).ok().and_then(|slice| self.lost_bytes.get_mut(slice)) {
                *lost += part as f64 * lost_share;
            }
            self.seen_bytes += part;
        }
    }

    /// Which part of each slice is kept, from 0 to 1. Fewer slices where there were fewer bytes.
    #[expect(clippy::cast_precision_loss, reason = "a picture of 72 columns needs no 52 bits")]
    fn kept(&self) -> Vec<f64> {
        let used = self.seen_bytes.div_ceil(self.slice_bytes);
        let used = usize::try_from(used).unwrap_or(AGE_SLICES).min(AGE_SLICES);
        let slice_bytes = |slice: usize| {
            let start = count(slice) * self.slice_bytes;
            (self.seen_bytes.min(start + self.slice_bytes) - start) as f64
        };
        (0..used).map(|slice| (1.0 - self.lost_bytes[slice] / slice_bytes(slice)).clamp(0.0, 1.0)).collect()
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_that_were_not_lost_are_compared() {
        let source = [1, 2, 3, 4, 5, 6];
        let kept = [1, 2, 0, 0, 5, 6];
        // The piece stands at 10..16 of its file.
        assert!(!differs_outside(&source, &kept, 10..16, std::slice::from_ref(&(12..14))));
        assert!(!differs_outside(&source, &kept, 10..16, &[0..4, 11..12, 12..14, 15..99]));
        assert!(differs_outside(&source, &kept, 10..16, std::slice::from_ref(&(12..13))));
        assert!(differs_outside(&source, &kept, 10..16, &[]));
        assert!(!differs_outside(&source, &kept, 10..16, std::slice::from_ref(&(0..99))));
    }

    #[test]
    fn slices_say_which_part_is_kept() {
        let mut slices = AgeSlices::of(7200);
        slices.add(3600, 3600);
        slices.add(1800, 900);
        slices.add(1800, 0);
        let kept = slices.kept();
        assert_eq!(kept.len(), 72);
        assert!(kept[..36].iter().all(|&part| part == 0.0));
        assert!(kept[36..54].iter().all(|&part| (part - 0.5).abs() < 1e-9));
        assert!(kept[54..].iter().all(|&part| (part - 1.0).abs() < 1e-9));
    }

    #[test]
    fn few_bytes_make_few_slices() {
        let mut slices = AgeSlices::of(3);
        slices.add(3, 0);
        assert_eq!(slices.kept(), [1.0; 3]);
        assert_eq!(AgeSlices::of(0).kept(), [0.0; 0]);
    }
}
