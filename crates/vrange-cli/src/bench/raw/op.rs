//! The operations on marks, and what they are compared with.

use crate::bench::samples::Operation;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    /// A mark and its end, in adopted memory that was not offered.
    MarkUnmark,
    /// A mark alone, of pages in memory.
    Mark,
    /// A mark by which the kernel is told at once: `madvise(MADV_VOLATILE)` in implicit mode.
    MarkNow,
    /// Other advice, through the preloaded library.
    PassThrough,
    /// `MADV_DONTDUMP` and `MADV_DODUMP` on the same bytes: two calls that change a mapping's flags, and so split it and join
    /// it again, as the RFC's call would.
    VmaFlagPair,
    /// `madvise(MADV_FREE)`, nothing else.
    MadvFree,
    /// Other advice, by libc's own function.
    OtherAdvice,
}

impl Operation for Op {
    const ALL: &'static [Self] = &[
        Self::MarkUnmark,
        Self::Mark,
        Self::MarkNow,
        Self::PassThrough,
        Self::VmaFlagPair,
        Self::MadvFree,
        Self::OtherAdvice,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::MarkUnmark => "mark+unmark",
            Self::Mark => "mark",
            Self::MarkNow => "mark_now",
            Self::PassThrough => "pass_through",
            Self::VmaFlagPair => "vma_flag_pair",
            Self::MadvFree => "madv_free",
            Self::OtherAdvice => "other_advice",
        }
    }

    fn peers(self) -> &'static [Self] {
        match self {
            Self::MarkUnmark => &[Self::VmaFlagPair],
            Self::Mark | Self::MarkNow => &[Self::MadvFree],
            Self::PassThrough => &[Self::OtherAdvice],
            Self::VmaFlagPair | Self::MadvFree | Self::OtherAdvice => &[],
        }
    }
}
