//! Every order of steps of small programs over one range: pinners, the reclaimer, and a kernel that takes a page.
//!
//! Who owns the bytes is checked by loom, through a cell that each owner enters; what the bytes are, by the models. Each
//! protection has a control, in which it is missing and the same model fails.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

use super::*;
use crate::model::{check, check_within, mistake_in};
use crate::range::wakes::Wakes;

mod controls;

/// In a page: stored to since the offer, so that the kernel must not take it. (A new page counts as stored to.)
const DIRTY: u64 = 1 << 63;
/// What stands for memory that was given back.
const UNMAPPED: u64 = DIRTY | 0xdead;

/// What the page map says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Note {
    Nothing,
    Witnessed,
    Lost,
}

/// A page, as the kernel sees it, and what is known of it.
struct Page {
    /// Contents and [`DIRTY`]. Zero: nothing, or discarded.
    contents: AtomicU64,
    note: UnsafeCell<Note>,
    /// Entered by whoever uses the contents: shared by readers, alone by a writer, an offer, a release, a retirement.
    owner: UnsafeCell<()>,
}

impl Page {
    fn new() -> Self {
        Self {
            contents: AtomicU64::new(DIRTY),
            note: UnsafeCell::new(Note::Nothing),
            owner: UnsafeCell::new(()),
        }
    }

    fn read(&self) -> u64 {
        self.owner.with(|_| self.contents.load(Ordering::Relaxed) & !DIRTY)
    }

    fn write(&self, contents: u64) {
        self.owner.with_mut(|_| self.contents.store(contents | DIRTY, Ordering::Relaxed));
    }

    fn note(&self) -> Note {
        // SAFETY: loom checks that nobody writes meanwhile.
        self.note.with(|note| unsafe { *note })
    }

    fn set_note(&self, value: Note) {
        // SAFETY: loom checks that nobody else accesses it meanwhile.
        self.note.with_mut(|note| unsafe { *note = value });
    }

    /// Notes the contents, and lets the kernel have them.
    fn offer(&self) {
        self.owner.with_mut(|_| {
            assert_ne!(self.contents.load(Ordering::Relaxed), UNMAPPED, "offered memory that was given back");
            if self.note() != Note::Lost {
                self.set_note(Note::Witnessed);
            }
            self.contents.fetch_and(!DIRTY, Ordering::Relaxed);
        });
    }

    /// The kernel discards the page, if it may.
    fn take(&self) {
        let contents = self.contents.load(Ordering::Relaxed);
        if contents & DIRTY == 0 {
            let _ = self.contents.compare_exchange(contents, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Takes the page back; says whether it was lost.
    fn rescue(&self) -> bool {
        let intact = self.contents.load(Ordering::Relaxed) != 0
            && self.contents.fetch_or(DIRTY, Ordering::Relaxed) & !DIRTY != 0;
        if !intact {
            self.set_note(Note::Lost);
        }
        !intact
    }
}

/// A range of one page or two.
struct Range<const PAGES: usize> {
    state: State,
    wakes: Wakes,
    pages: [Page; PAGES],
}

/// How a range's owner does the steps that controls get wrong.
type Step<T> = fn(&Range<1>) -> T;

impl<const PAGES: usize> Range<PAGES> {
    /// Page `n` holds `n + 1`, and the range was unpinned at 1.
    fn new_volatile() -> Arc<Self> {
        let range = Self {
            state: State::new_free(),
            wakes: Wakes::new(),
            pages: std::array::from_fn(|_| Page::new()),
        };
        range.state.publish();
        assert!(matches!(range.state.begin_pin(), BeginPin::PinnedEmpty(_)));
        (1..).zip(&range.pages).for_each(|(contents, page)| page.write(contents));
        range.unpin(1);
        Arc::new(range)
    }

    fn new_offered() -> Arc<Self> {
        let range = Self::new_volatile();
        range.offer();
        assert_eq!(range.state.glance().phase(), Phase::Offered);
        range
    }

    /// As `Protocol::pin_slowly`.
    fn pin(&self) -> Word {
        loop {
            match self.state.begin_pin() {
                BeginPin::Pinned(word) | BeginPin::PinnedEmpty(word) => return word,
                BeginPin::Offered if self.state.begin_rescue() => {
                    let witnessed = self.pages.iter().filter(|page| page.note() == Note::Witnessed);
                    let lost = witnessed.filter(|page| page.rescue()).count();
                    let (word, end) = self.state.end_rescue(lost > 0);
                    self.wakes.wake(end);
                    return word;
                }
                BeginPin::Offered => {}
                BeginPin::Claimed => self.wakes.wait(&self.state),
            }
        }
    }

    fn unpin(&self, now: u64) {
        let _ = self.state.unpin(Generation::from_ticks(now));
    }

    /// As `Protocol::offer_in_pieces`, with pieces of one page.
    fn offer(&self) {
        let seen = self.state.glance();
        self.offer_seen(seen);
    }

    fn offer_seen(&self, seen: Word) {
        let Some(before) = self.state.begin_offer(seen) else { return };
        let mut reached = 0;
        while reached < PAGES && !self.state.is_cancelled() {
            self.pages[reached].offer();
            reached += 1;
        }
        self.wakes.wake(self.state.end_offer(reached > 0 || before == Phase::Offered, false));
    }

    /// As `Protocol::release`, without the wait.
    fn release(&self) {
        if let BeginRelease::Claimed(_) = self.state.begin_release() {
            for page in &self.pages {
                page.set_note(Note::Lost);
                page.write(0);
            }
            self.wakes.wake(self.state.end_release(Phase::Empty, true));
        }
    }

    /// As `Protocol::retire`.
    fn retire(&self) {
        while let BeginRelease::Busy = self.state.begin_retire() {
            self.wakes.wait(&self.state);
        }
        for page in &self.pages {
            page.owner.with_mut(|_| page.contents.store(UNMAPPED, Ordering::Relaxed));
        }
        self.wakes.wake(self.state.end_retire());
    }

    /// The bytes are as the pin said, and stay so while it lasts.
    fn assert_exact(&self, word: Word, expected: [u64; PAGES]) {
        let lost = self.pages.each_ref().map(|page| word.has_losses() && page.note() == Note::Lost);
        assert!(lost.contains(&true) == word.has_losses(), "a loss has a page");
        for _ in 0..2 {
            for ((page, lost), expected) in self.pages.iter().zip(lost).zip(expected) {
                assert_eq!(page.read(), if lost { 0 } else { expected }, "lost: {lost}");
            }
            thread::yield_now();
        }
    }

    /// Pins for reading, looks twice, unpins.
    fn read(&self, expected: [u64; PAGES], now: u64) {
        let word = self.pin();
        self.assert_exact(word, expected);
        self.unpin(now);
    }

    fn take(&self) {
        self.pages.iter().for_each(Page::take);
    }
}

impl Range<1> {
    /// Pins for writing, and refills what was lost.
    fn rewrite(&self, contents: u64, now: u64) {
        let word = self.pin();
        self.pages[0].write(contents);
        if word.has_losses() {
            self.pages[0].set_note(Note::Nothing);
            self.state.acknowledge_losses();
        }
        self.unpin(now);
    }
}

/// Another thread that does `step`.
fn beside<const PAGES: usize>(
    range: &Arc<Range<PAGES>>,
    step: impl FnOnce(&Range<PAGES>) + 'static,
) -> JoinHandle<()> {
    let range = Arc::clone(range);
    thread::spawn(move || step(&range))
}

fn join<const THREADS: usize>(threads: [JoinHandle<()>; THREADS]) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A writer, the reclaimer and the kernel: what was written under the pin is there, or reported lost.
fn write_beside_an_offer(rewrite: Step<()>, offer: Step<()>) {
    let range = Range::<1>::new_volatile();
    let threads = [beside(&range, offer), beside(&range, Range::take)];
    rewrite(&range);
    join(threads);
    range.read([7], 3);
}

/// Two pinners meet on an offered range, while the kernel takes its page, or does not.
fn two_rescuers(pin: Step<Word>) {
    let range = Range::<1>::new_offered();
    let read = move |range: &Range<1>| {
        let word = pin(range);
        range.assert_exact(word, [1]);
        range.unpin(2);
    };
    let threads = [beside(&range, Range::take), beside(&range, read)];
    read(&range);
    join(threads);
}

#[test]
fn what_was_written_is_kept_or_reported_lost() {
    check(|| write_beside_an_offer(|range| range.rewrite(7, 2), Range::offer));
}

#[test]
fn two_pinners_hear_the_same_and_nothing_is_lost_under_them() {
    check(|| two_rescuers(Range::pin));
}

#[test]
fn readers_and_an_offer_exclude_each_other() {
    check_within(2, || {
        let range = Range::<1>::new_volatile();
        let threads = [beside(&range, Range::offer), beside(&range, |range| range.read([1], 2))];
        range.read([1], 2);
        join(threads);
    });
}

#[test]
fn nested_pins_keep_it_until_the_last_is_gone() {
    check(|| {
        let range = Range::<1>::new_volatile();
        let threads = [beside(&range, Range::offer), beside(&range, Range::take)];
        let outer = range.pin();
        range.read([if outer.has_losses() { 0 } else { 1 }], 2);
        range.assert_exact(outer, [1]);
        range.unpin(3);
        join(threads);
    });
}

#[test]
fn a_full_count_of_pins_is_never_claimed() {
    check(|| {
        let range = Range::<1>::new_volatile();
        let _ = range.pin();
        let almost = range.state.glance().with_pins(PINS_MAX - 1);
        range.state.0.store(almost.0, Ordering::Relaxed);
        let pin_twice = |range: &Range<1>| {
            let _ = (range.pin(), range.pin());
            range.unpin(2);
            range.unpin(2);
        };
        let threads = [beside(&range, pin_twice), beside(&range, Range::offer)];
        pin_twice(&range);
        join(threads);
        assert_eq!((range.state.glance().phase(), range.state.glance().pins()), (Phase::Pinned, PINS_MAX));
    });
}

#[test]
fn a_pinner_stops_an_offer_between_two_pieces() {
    check(|| {
        let range = Range::<2>::new_volatile();
        let threads = [beside(&range, Range::offer), beside(&range, Range::take)];
        range.read([1, 2], 2);
        join(threads);
        range.read([1, 2], 3);
    });
}

#[test]
fn an_offer_made_again_forgets_no_loss() {
    check(|| {
        let range = Range::<1>::new_offered();
        let threads = [beside(&range, Range::offer), beside(&range, Range::take)];
        range.read([1], 2);
        join(threads);
        range.read([1], 3);
    });
}

#[test]
fn a_release_happens_before_a_pin_or_not_at_all() {
    check(|| {
        let range = Range::<1>::new_volatile();
        let threads = [beside(&range, Range::release), beside(&range, |range| range.read([1], 2))];
        range.read([1], 2);
        join(threads);
    });
}

#[test]
fn a_release_and_an_offer_exclude_each_other() {
    check(|| {
        let range = Range::<1>::new_volatile();
        let threads = [beside(&range, Range::release), beside(&range, Range::take)];
        range.offer();
        join(threads);
        range.read([1], 2);
    });
}

#[test]
fn memory_is_given_back_when_nobody_works_on_it() {
    check(|| {
        let range = Range::<1>::new_volatile();
        let threads = [beside(&range, Range::offer), beside(&range, Range::release)];
        range.retire();
        assert_eq!(range.pages[0].contents.load(Ordering::Relaxed), UNMAPPED, "untouched since");
        join(threads);
        assert_eq!(range.pages[0].contents.load(Ordering::Relaxed), UNMAPPED, "untouched since");
        assert_eq!(range.state.glance().phase(), Phase::Free);
    });
}

#[test]
fn a_new_range_in_the_slot_is_not_taken_for_the_old_one() {
    check(|| {
        let range = Range::<1>::new_volatile();
        let seen = range.state.glance();
        let reclaimer = beside(&range, move |range| range.offer_seen(seen));
        range.retire();
        range.pages[0].write(7);
        range.pages[0].set_note(Note::Nothing);
        range.state.publish();
        let word = range.pin();
        range.assert_exact(word, [7]);
        range.unpin(2);
        reclaimer.join().unwrap();
        assert_eq!(
            range.state.glance().phase(),
            Phase::Volatile,
            "it is younger than what the reclaimer saw"
        );
    });
}

#[test]
fn whoever_waits_is_woken() {
    check_within(2, || {
        let range = Range::<1>::new_offered();
        assert!(range.state.begin_rescue());
        let wait = |range: &Range<1>| {
            let _ = range.pin();
            range.unpin(2);
        };
        let threads = [beside(&range, wait), beside(&range, wait)];
        range.wakes.wake(range.state.end_rescue(false).1);
        range.unpin(2);
        join(threads);
    });
}

#[test]
fn who_sees_the_mark_of_sharing_sees_where_to_count() {
    check(|| {
        let range = Range::<1>::new_volatile();
        let record = Arc::new(UnsafeCell::new(0));
        let fork = {
            let record = Arc::clone(&record);
            beside(&range, move |range| {
                // SAFETY: loom checks that nobody else accesses it meanwhile.
                record.with_mut(|record| unsafe { *record = 1 });
                let _ = range.state.set_shared(true);
            })
        };
        // SAFETY: loom checks that nobody writes meanwhile.
        let count = || assert_eq!(record.with(|record| unsafe { *record }), 1);
        if range.pin().is_shared() {
            count();
        }
        if let Unpin::Volatile(word) = range.state.unpin(Generation::from_ticks(2))
            && word.is_shared()
        {
            count();
        }
        fork.join().unwrap();
    });
}
