//! The operations on ranges, and what they are compared with.

use crate::bench::samples::Operation;

/// What is measured. Times are of one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
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

impl Operation for Op {
    const ALL: &'static [Self] = &[
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

    fn name(self) -> &'static str {
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

    fn peers(self) -> &'static [Self] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Op::ALL.iter().map(|op| op.name()).collect();
        assert_eq!(names.len(), Op::ALL.len());
    }
}
