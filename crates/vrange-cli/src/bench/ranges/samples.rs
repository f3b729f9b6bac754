//! Times of operations, round by round, and their medians.

use std::collections::BTreeMap;
use std::time::Duration;

/// What is measured. Times are of one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    /// A pin and the unpin after it, of a range that was not offered.
    UnpinPin,
    /// One range handed to the kernel by itself.
    Offer,
    /// One range of many that are handed over together, as the reclaimer does.
    OfferMany,
    /// A pin of an offered range that is still there.
    Rescue,
    /// Dropping a range.
    Release,
    /// A pin of a range that was lost, with every byte written again.
    Refill,
    /// A pin of any range while others are being offered: what 999 of 1000 wait at most.
    PinWhileOffering,
    /// `madvise(MADV_DONTNEED)`.
    DontNeed,
    /// Touching every page after `MADV_DONTNEED`.
    Refault,
    /// `madvise(MADV_FREE)`, nothing else.
    MadvFree,
    /// Writing a word to every page after `MADV_FREE`, whether or not it is still there.
    FreeRetouch,
    /// `MADV_DONTDUMP` and `MADV_DODUMP` on a whole mapping: what two system calls cost that change a mapping's flags.
    VmaFlagPair,
    /// At unlock a tag is written to every page and the word it replaces is kept; at lock it is checked and put back.
    TagPages,
}

impl Op {
    /// All of them, in the order in which they are shown.
    pub(super) const ALL: [Self; 13] = [
        Self::UnpinPin,
        Self::Offer,
        Self::OfferMany,
        Self::Rescue,
        Self::Release,
        Self::Refill,
        Self::PinWhileOffering,
        Self::DontNeed,
        Self::Refault,
        Self::MadvFree,
        Self::FreeRetouch,
        Self::VmaFlagPair,
        Self::TagPages,
    ];

    /// The name in rows.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UnpinPin => "unpin+pin",
            Self::Offer => "offer",
            Self::OfferMany => "offer_many",
            Self::Rescue => "rescue",
            Self::Release => "release",
            Self::Refill => "refill",
            Self::PinWhileOffering => "pin_while_offering_p99.9",
            Self::DontNeed => "madv_dontneed",
            Self::Refault => "refault",
            Self::MadvFree => "madv_free",
            Self::FreeRetouch => "madv_free_retouch",
            Self::VmaFlagPair => "vma_flag_pair",
            Self::TagPages => "tag_pages",
        }
    }

    /// The peers that do the same work another way.
    pub(super) fn peers(self) -> &'static [Self] {
        match self {
            Self::UnpinPin => &[Self::VmaFlagPair, Self::TagPages, Self::MadvFree, Self::DontNeed],
            Self::Offer | Self::OfferMany => &[Self::MadvFree],
            Self::Rescue => &[Self::Refault, Self::FreeRetouch, Self::TagPages],
            Self::Release => &[Self::DontNeed],
            Self::Refill => &[Self::Refault],
            _ => &[],
        }
    }
}

/// Times by operation.
#[derive(Debug, Default)]
pub(super) struct Samples {
    times_ns: BTreeMap<Op, Vec<f64>>,
}

impl Samples {
    /// Adds what `times` operations took together.
    pub(super) fn add(&mut self, op: Op, took: Duration, times: usize) {
        let times = u32::try_from(times).unwrap_or(u32::MAX).max(1);
        self.times_ns.entry(op).or_default().push(took.as_secs_f64() * 1e9 / f64::from(times));
    }

    /// The median, in nanoseconds; none for what was not measured.
    pub(super) fn median_ns(&self, op: Op) -> Option<f64> {
        let mut times = self.times_ns.get(&op)?.clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_what_is_far_off() {
        let mut samples = Samples::default();
        for micros in [1, 2, 1000] {
            samples.add(Op::Offer, Duration::from_micros(micros), 2);
        }
        assert_eq!(samples.median_ns(Op::Offer), Some(1000.0));
        assert_eq!(samples.median_ns(Op::Rescue), None);
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Op::ALL.iter().map(|op| op.name()).collect();
        assert_eq!(names.len(), Op::ALL.len());
    }
}
