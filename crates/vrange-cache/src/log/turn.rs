//! Who writes a segment, and which use of it a reader has come for.
//!
//! A segment serves again and again. Two words keep its uses apart:
//!
//! * The *version* is counted up when a segment's items have all left it. A reader pins first and compares the version with that of its
//!   item then; whoever puts the segment to a new use counts up first, pins then, and looks whether that is the only pin. So either
//!   the reader's pin is seen, or the reader sees the new version and touches nothing.
//! * The *writers* are those who copy values into it, and a flag that no more will come. Who is last ends the log's pin.

use crate::index::place::Version;
use crate::sync::{AtomicU32, Ordering, fence};

/// No more writers will come.
const SEALED: u32 = 1 << 31;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Turn {
    version: AtomicU32,
    writers: AtomicU32,
}

/// Whether the caller has to end the log's pin.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Others write, or will.
    Stay,
    /// Nobody will write any more.
    Unpin,
}

impl Turn {
    /// Of a segment that nobody has written to yet.
    pub(crate) fn new() -> Self {
        Self { version: AtomicU32::new(0), writers: AtomicU32::new(SEALED) }
    }

    /// For who has pinned the segment, or keeps it from being put to another use.
    #[inline]
    pub(crate) fn version(&self) -> Version {
        // Acquire pairs with the Release in `end_use`: who sees a new version sees where the items are that have left, and that the
        // others are out of the index. (That bytes are not somebody else's rests on the fence in `before_pin` and the caller's pin.)
        Version::from_count(self.version.load(Ordering::Acquire))
    }

    /// No item is left in the segment.
    pub(crate) fn end_use(&self) {
        // Release pairs with the Acquire in `version`. (Only who holds the policy's lock gets here.)
        self.version.fetch_add(1, Ordering::Release);
    }

    /// To be called before the pin by which a segment is put to a new use.
    pub(crate) fn before_pin(&self) {
        // Release pairs with the Acquire of a reader's pin, if it comes after the caller's pin, which is an exchange of the same word:
        // the reader sees the new version.
        fence(Ordering::Release);
    }

    /// The caller is the only one who reaches the segment's bytes: values can be written.
    pub(crate) fn begin_use(&self) {
        // Relaxed: the lock of the log publishes it.
        self.writers.store(0, Ordering::Relaxed);
    }

    /// One more writer, who holds the lock of the log that the segment is in.
    pub(crate) fn begin_write(&self) {
        // Relaxed: the same lock is held by who seals.
        self.writers.fetch_add(1, Ordering::Relaxed);
    }

    /// A writer is done.
    pub(crate) fn end_write(&self) -> Leave {
        // Release pairs with the Acquire in `is_quiet`; both here, since the last one ends the pin for all.
        Self::leave(self.writers.fetch_sub(1, Ordering::AcqRel) - 1)
    }

    /// No more writers will come.
    pub(crate) fn seal(&self) -> Leave {
        // As in `end_write`.
        Self::leave(self.writers.fetch_or(SEALED, Ordering::AcqRel) | SEALED)
    }

    fn leave(writers: u32) -> Leave {
        if writers == SEALED { Leave::Unpin } else { Leave::Stay }
    }

    /// Is it sealed, and everything written and in the index?
    pub(crate) fn is_quiet(&self) -> bool {
        // Acquire pairs with the Release in `end_write`.
        self.writers.load(Ordering::Acquire) == SEALED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(loom))]
    fn the_last_one_leaves() {
        let turn = Turn::new();
        assert!(turn.is_quiet());
        turn.begin_use();
        turn.begin_write();
        turn.begin_write();
        assert_eq!(turn.end_write(), Leave::Stay);
        assert_eq!(turn.seal(), Leave::Stay);
        assert!(!turn.is_quiet());
        assert_eq!(turn.end_write(), Leave::Unpin);
        assert!(turn.is_quiet());
        turn.begin_use();
        assert_eq!(turn.seal(), Leave::Unpin);
    }

    /// The pins of a buffer, as far as readers and writers of a segment rely on them: exchanges of one word, Acquire at the beginning and
    /// Release at the end.
    #[cfg(loom)]
    struct Model {
        turn: Turn,
        pins: AtomicU32,
        bytes: loom::cell::UnsafeCell<u32>,
    }

    #[cfg(loom)]
    impl Model {
        fn pin(&self) {
            self.pins.fetch_add(1, Ordering::Acquire);
        }

        fn unpin(&self) {
            self.pins.fetch_sub(1, Ordering::SeqCst);
        }

        fn read(&self, wanted: Version) -> Option<u32> {
            self.pin();
            // SAFETY: loom checks that nobody writes meanwhile.
            let found = (self.turn.version() == wanted).then(|| self.bytes.with(|bytes| unsafe { *bytes }));
            self.unpin();
            found
        }

        fn put_to_new_use(&self, with_fence: bool) -> bool {
            self.turn.end_use();
            if with_fence {
                self.turn.before_pin();
            }
            self.pin();
            let alone = self.pins.load(Ordering::Acquire) == 1;
            if alone {
                // SAFETY: loom checks that nobody reads meanwhile.
                self.bytes.with_mut(|bytes| unsafe { *bytes = 2 });
            }
            self.unpin();
            alone
        }
    }

    #[cfg(loom)]
    fn run_model(with_fence: bool) {
        loom::model(move || {
            let model = loom::sync::Arc::new(Model {
                turn: Turn::new(),
                pins: AtomicU32::new(0),
                bytes: loom::cell::UnsafeCell::new(1),
            });
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let model = model.clone();
                    loom::thread::spawn(move || {
                        let found = model.read(Version::from_count(0));
                        assert!(found.is_none_or(|value| value == 1), "somebody else's bytes");
                    })
                })
                .collect();
            model.put_to_new_use(with_fence);
            readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
        });
    }

    #[test]
    #[cfg(loom)]
    fn loom_a_reader_never_sees_another_use() {
        run_model(true);
    }

    /// The protection taken out.
    #[test]
    #[cfg(loom)]
    #[should_panic]
    fn loom_without_the_fence_it_does() {
        run_model(false);
    }
}
