//! What the marks of a process are for: data worth keeping, or an allocator's free memory, of which some is enough.

use std::time::Duration;

use vrange_os::PAGE_BYTES;

use crate::settings::Content;
use crate::sync::{AtomicU64, Ordering};

/// Relaxed everywhere: settings are made before there is anything to apply them to, and the count is a bound that orders nothing.
#[derive(Debug)]
pub(crate) struct Policy {
    /// After this many microseconds free memory is released; [`u64::MAX`]: it is no free memory.
    decay_us: AtomicU64,
    /// How many pages may be marked at a time; [`u64::MAX`]: all.
    limit_pages: AtomicU64,
    /// With a limit: pages that are marked and not settled, about. A signed number, since marks and the reclaimer's count can cross.
    marked_pages: AtomicU64,
}

impl Policy {
    /// Data worth keeping, without a limit.
    pub(crate) const fn new() -> Self {
        Self {
            decay_us: AtomicU64::new(u64::MAX),
            limit_pages: AtomicU64::new(u64::MAX),
            marked_pages: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_content(&self, content: Content) {
        let decay_us = match content {
            Content::Cache => u64::MAX,
            Content::Free { decay } => u64::try_from(decay.as_micros()).unwrap_or(u64::MAX).min(u64::MAX - 1),
        };
        self.decay_us.store(decay_us, Ordering::Relaxed); // Relaxed: see `Policy`.
    }

    pub(crate) fn content(&self) -> Content {
        // Relaxed: see `Policy`.
        match self.decay_us.load(Ordering::Relaxed) {
            u64::MAX => Content::Cache,
            decay_us => Content::Free { decay: Duration::from_micros(decay_us) },
        }
    }

    pub(crate) fn set_limit(&self, bytes: Option<u64>) {
        let pages = bytes.map_or(u64::MAX, |bytes| bytes / PAGE_BYTES as u64);
        self.limit_pages.store(pages, Ordering::Relaxed); // Relaxed: see `Policy`.
    }

    /// How many pages may be marked, if not all may.
    #[inline]
    pub(crate) fn limit_pages(&self) -> Option<u64> {
        // Relaxed: see `Policy`.
        Some(self.limit_pages.load(Ordering::Relaxed)).filter(|pages| *pages != u64::MAX)
    }

    /// Would so many more be too many?
    #[inline]
    pub(crate) fn is_reached(&self, more_pages: usize) -> bool {
        self.limit_pages().is_some_and(|limit| {
            // Relaxed: see `Policy`.
            let marked = self.marked_pages.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned();
            marked + more_pages as u64 > limit
        })
    }

    /// More pages are marked. Counted only with a limit.
    #[inline]
    pub(crate) fn marked(&self, pages: usize) {
        self.marked_pages.fetch_add(pages as u64, Ordering::Relaxed); // Relaxed: see `Policy`.
    }

    /// Fewer are.
    #[inline]
    pub(crate) fn unmarked(&self, pages: usize) {
        self.marked_pages.fetch_sub(pages as u64, Ordering::Relaxed); // Relaxed: see `Policy`.
    }

    /// So many are, as the reclaimer has counted.
    pub(crate) fn counted(&self, pages: u64) {
        self.marked_pages.store(pages, Ordering::Relaxed); // Relaxed: see `Policy`.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_counts_what_is_marked() {
        let policy = Policy::new();
        policy.marked(1 << 40);
        assert!(!policy.is_reached(usize::MAX / 2), "without a limit nothing is too much");
        policy.set_limit(Some(10 * PAGE_BYTES as u64 + 1));
        policy.counted(8);
        assert!(!policy.is_reached(2) && policy.is_reached(3));
        policy.unmarked(20);
        assert!(!policy.is_reached(10), "less than nothing is nothing");
        policy.set_limit(None);
        assert!(!policy.is_reached(1 << 40));
    }

    #[test]
    fn content_is_kept() {
        let policy = Policy::new();
        assert_eq!(policy.content(), Content::Cache);
        for decay in [Duration::ZERO, Duration::from_millis(1500)] {
            policy.set_content(Content::Free { decay });
            assert_eq!(policy.content(), Content::Free { decay });
        }
        policy.set_content(Content::Free { decay: Duration::MAX });
        assert!(matches!(policy.content(), Content::Free { .. }));
    }
}
