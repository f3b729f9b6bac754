//! Models of what has no lock, for loom: readers, writers and compaction of a segment together. (What the turn keeps apart by itself has
//! its models beside it.)
//!
//! Pins of a buffer are modelled as far as the cache relies on them: exchanges of one word, Acquire at the beginning and Release at the
//! end; and bytes are cells, of which loom checks that nobody reads or writes one while another writes it. Each model has a control, with
//! a mistake, which loom must find.

// The standard library's, which may be dropped after a model has failed.
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use crate::index::item::Packed;
use crate::index::place::{Place, Version};
use crate::sync::{AtomicU32, Ordering};
use crate::turn::{Leave, Turn};

/// A thread is interrupted in the middle at most this often, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
const PREEMPTIONS_MAX: usize = 3;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(PREEMPTIONS_MAX));
    builder.check(model);
}

/// A segment with room for one value.
struct Segment {
    turn: Turn,
    pins: AtomicU32,
    bytes: UnsafeCell<u32>,
}

impl Segment {
    fn holding(value: u32) -> Self {
        Self { turn: Turn::new(), pins: AtomicU32::new(0), bytes: UnsafeCell::new(value) }
    }

    fn pin(&self) {
        self.pins.fetch_add(1, Ordering::Acquire);
    }

    fn unpin(&self) {
        self.pins.fetch_sub(1, Ordering::SeqCst);
    }

    fn read(&self) -> u32 {
        // SAFETY: loom checks that nobody writes meanwhile.
        self.bytes.with(|bytes| unsafe { *bytes })
    }

    fn write(&self, value: u32) {
        // SAFETY: loom checks that nobody reads or writes meanwhile.
        self.bytes.with_mut(|bytes| unsafe { *bytes = value });
    }

    /// As `try_begin_use`, and writes somebody else's value.
    fn use_again(&self, value: u32) {
        self.turn.before_pin();
        self.pin();
        if self.pins.load(Ordering::Acquire) == 1 {
            self.write(value);
        }
        self.unpin();
    }
}

fn first_place(segment: usize) -> Place {
    Place::new(segment, Version::from_count(0), 0)
}

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// The item says where its bytes are before they are there.
    RelocatesFirst,
    /// The segment's use is over before its items say that they are elsewhere.
    EndsUseFirst,
    /// The segment is written to whoever looks at it.
    LooksForNobody,
    /// The log's pin is ended by who seals, whoever writes.
    UnpinsAtOnce,
}

/// One value in segment 0, which compaction moves to segment 1; then segment 0 is used again. A reader finds the value throughout.
fn moving(mistake: Mistake) {
    let segments = Arc::new([Segment::holding(7), Segment::holding(0)]);
    let packed = Arc::new(Packed::new(first_place(0), 4));
    let reader = {
        let (segments, packed) = (segments.clone(), packed.clone());
        thread::spawn(move || {
            let mut elsewhere = None;
            loop {
                let place = packed.place();
                let segment = &segments[place.segment()];
                segment.pin();
                if segment.turn.version() == place.version() {
                    packed.note_use(place);
                    assert_eq!(segment.read(), 7, "somebody else's bytes");
                    segment.unpin();
                    break;
                }
                segment.unpin();
                // Twice at the same place would be an item that was left behind.
                assert!(elsewhere.is_none_or(|before| place != before), "it counts as left behind");
                elsewhere = Some(place.with_uses(0));
            }
        })
    };
    let [from, to] = &*segments;
    from.pin();
    if mistake == Mistake::EndsUseFirst {
        from.turn.end_use();
    }
    let copy = from.read();
    if mistake != Mistake::RelocatesFirst {
        to.write(copy);
    }
    assert!(packed.relocate(first_place(0), first_place(1)));
    if mistake == Mistake::RelocatesFirst {
        to.write(copy);
    }
    if mistake != Mistake::EndsUseFirst {
        from.turn.end_use();
    }
    from.unpin();
    if mistake == Mistake::LooksForNobody {
        from.write(8);
    } else {
        from.use_again(8);
    }
    reader.join().expect("a reader");
}

#[test]
fn loom_a_value_that_is_moved_is_found() {
    check(|| moving(Mistake::None));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_control_relocates_first() {
    check(|| moving(Mistake::RelocatesFirst));
}

#[test]
#[should_panic(expected = "it counts as left behind")]
fn loom_control_ends_use_first() {
    check(|| moving(Mistake::EndsUseFirst));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_control_looks_for_nobody() {
    check(|| moving(Mistake::LooksForNobody));
}

/// An item is taken out of the index while compaction moves it: its bytes are given up exactly once, where it was or where it is, and
/// never moved again.
#[test]
fn loom_an_item_that_ends_while_it_is_moved_dies_once() {
    check(|| {
        let packed = Arc::new(Packed::new(first_place(0), 4));
        let dead: Arc<[AtomicU32; 2]> = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let note_dead = |dead: &[AtomicU32; 2], place: Place| {
            dead[place.segment()].fetch_add(1, Ordering::Relaxed);
        };
        let remover = {
            let (packed, dead) = (packed.clone(), dead.clone());
            thread::spawn(move || note_dead(&dead, packed.end()))
        };
        let user = {
            let packed = packed.clone();
            thread::spawn(move || packed.note_use(packed.place()))
        };
        let is_moved = packed.relocate(first_place(0), first_place(1));
        if !is_moved {
            note_dead(&dead, first_place(1));
        }
        remover.join().expect("who removes it");
        user.join().expect("who uses it");
        assert!(packed.place().is_gone(), "it came back");
        let counts = [0, 1].map(|segment: usize| dead[segment].load(Ordering::Relaxed));
        // The bytes that it left behind are counted by the end of the segment's use.
        assert_eq!(counts, if is_moved { [0, 1] } else { [1, 1] });
        assert!(!packed.relocate(first_place(1), first_place(0)), "it was moved after its end");
    });
}

/// Two writers and who seals: one of them ends the log's pin, when all is written; and who finds the segment quiet sees all of it.
fn sealing(mistake: Mistake) {
    let segment = Arc::new([Segment::holding(0), Segment::holding(0)]);
    let turn = Arc::new(Turn::new());
    turn.begin_use();
    // Under the lock of the log, as the place in `segment` is given out.
    turn.begin_write();
    turn.begin_write();
    let unpinned = Arc::new(AtomicU32::new(0));
    let look_at_all = |segment: &[Segment; 2]| {
        assert_eq!([segment[0].read(), segment[1].read()], [1, 2], "not all is written");
    };
    let writers: Vec<_> = (0..2)
        .map(|number: usize| {
            let (segment, turn, unpinned) = (segment.clone(), turn.clone(), unpinned.clone());
            thread::spawn(move || {
                segment[number].write(if number == 0 { 1 } else { 2 });
                if turn.end_write() == Leave::Unpin {
                    unpinned.fetch_add(1, Ordering::Relaxed);
                    look_at_all(&segment);
                }
            })
        })
        .collect();
    let leave = turn.seal();
    if leave == Leave::Unpin || mistake == Mistake::UnpinsAtOnce {
        unpinned.fetch_add(1, Ordering::Relaxed);
        look_at_all(&segment);
    }
    if turn.is_quiet() {
        look_at_all(&segment);
    }
    writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
    assert!(turn.is_quiet());
    assert_eq!(unpinned.load(Ordering::Relaxed), 1, "the log has one pin");
}

#[test]
fn loom_the_last_writer_ends_the_logs_pin() {
    check(|| sealing(Mistake::None));
}

#[test]
#[should_panic(expected = "not all is written")]
fn loom_control_unpins_at_once() {
    check(|| sealing(Mistake::UnpinsAtOnce));
}
