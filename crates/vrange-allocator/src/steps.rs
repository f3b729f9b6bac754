//! Arenas in steps of a huge page, and a bit for each.

use std::sync::atomic::{AtomicU64, Ordering};

use vrange_os::HUGE_PAGE_BYTES;

/// So much is opened at once: a huge page.
pub(crate) const STEP_BYTES: usize = HUGE_PAGE_BYTES;
const WORDS: usize = 64;

/// A bit for each step of a reservation. The caller's ordering says what it is for.
#[derive(Debug)]
pub(crate) struct Steps([AtomicU64; WORDS]);

impl Steps {
    /// How many there are.
    pub(crate) const COUNT: usize = WORDS * 64;

    pub(crate) const fn none() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    pub(crate) fn has(&self, step: usize, ordering: Ordering) -> bool {
        self.0[step / 64].load(ordering) & Self::bit(step) != 0
    }

    /// Returns whether it was there.
    pub(crate) fn insert(&self, step: usize, ordering: Ordering) -> bool {
        self.0[step / 64].fetch_or(Self::bit(step), ordering) & Self::bit(step) != 0
    }

    pub(crate) fn remove(&self, step: usize, ordering: Ordering) {
        self.0[step / 64].fetch_and(!Self::bit(step), ordering);
    }

    pub(crate) fn clear(&self, ordering: Ordering) {
        self.0.iter().for_each(|word| word.store(0, ordering));
    }

    /// Takes the first that is there, from this one on.
    pub(crate) fn take_next(&self, from: usize, ordering: Ordering) -> Option<usize> {
        (from / 64..WORDS).find_map(|index| {
            let before = if index == from / 64 { Self::bit(from) - 1 } else { 0 };
            let word = self.0[index].load(ordering) & !before;
            if word == 0 {
                return None;
            }
            let step = index * 64 + word.trailing_zeros() as usize;
            self.remove(step, ordering);
            Some(step)
        })
    }

    fn bit(step: usize) -> u64 {
        1 << (step % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_in_order() {
        let steps = Steps::none();
        for step in [0, 63, 64, 200, Steps::COUNT - 1] {
            assert!(!steps.insert(step, Ordering::Relaxed));
        }
        assert!(steps.insert(200, Ordering::Relaxed));
        let take = |from| steps.take_next(from, Ordering::Relaxed);
        assert_eq!((take(1), take(64), take(65)), (Some(63), Some(64), Some(200)));
        assert!(!steps.has(200, Ordering::Relaxed));
        assert_eq!((take(65), take(65)), (Some(Steps::COUNT - 1), None));
        assert_eq!((take(0), take(0), take(Steps::COUNT)), (Some(0), None, None));
        steps.insert(7, Ordering::Relaxed);
        steps.clear(Ordering::Relaxed);
        assert_eq!(take(0), None);
    }
}
