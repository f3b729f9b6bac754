//! The same models with a protection missing: loom finds each mistake, so it would find it in the code.

use super::*;
use crate::sync::{AtomicU32, wait_while, wake_all};

const RACE: &str = "Causality violation";

fn rewrite(range: &Range<1>) {
    range.rewrite(7, 2);
}

fn assert_found(mistake: &str, expected: &str) {
    assert!(mistake.contains(expected), "{mistake}");
}

#[test]
fn an_unpin_that_publishes_nothing() {
    let rewrite = |range: &Range<1>| {
        let word = range.pin();
        range.pages[0].write(7);
        if word.has_losses() {
            range.pages[0].set_note(Note::Nothing);
            range.state.acknowledge_losses();
        }
        let word = range.state.glance();
        let next = word.with_pins(0).with_phase(Phase::Volatile).with_generation(Generation::from_ticks(2));
        assert!(range.state.exchange(word, next, Ordering::Relaxed).is_ok());
    };
    assert_found(&mistake_in(move || write_beside_an_offer(rewrite, Range::offer)), RACE);
}

#[test]
fn an_offer_without_a_claim() {
    let offer = |range: &Range<1>| {
        if range.state.glance().phase() == Phase::Volatile {
            range.pages[0].offer();
        }
    };
    assert_found(&mistake_in(move || write_beside_an_offer(rewrite, offer)), RACE);
}

#[test]
fn a_pin_that_does_not_wait_for_the_offer_to_end() {
    let rewrite = |range: &Range<1>| {
        let mut word = range.state.glance();
        while matches!(word.phase(), Phase::Volatile | Phase::Offering) {
            let pinned = word.with_phase(Phase::Pinned).with_pins(1);
            match range.state.exchange(word, pinned, Ordering::Acquire) {
                Ok(()) => return range.pages[0].write(7),
                Err(now) => word = now,
            }
        }
    };
    let model = move || {
        let range = Range::<1>::new_volatile();
        let offer = beside(&range, Range::offer);
        rewrite(&range);
        offer.join().unwrap();
    };
    assert_found(&mistake_in(model), RACE);
}

/// Pins an offered range with a rescue of the control's own.
fn pin_with(range: &Range<1>, rescue: fn(&Page) -> bool) -> Word {
    loop {
        match range.state.begin_pin() {
            BeginPin::Pinned(word) | BeginPin::PinnedEmpty(word) => return word,
            BeginPin::Offered if range.state.begin_rescue() => {
                let intact = rescue(&range.pages[0]);
                if !intact {
                    range.pages[0].set_note(Note::Lost);
                }
                let (word, end) = range.state.end_rescue(!intact);
                range.wakes.wake(end);
                return word;
            }
            BeginPin::Offered => {}
            BeginPin::Claimed => range.wakes.wait(&range.state),
        }
    }
}

#[test]
fn a_rescue_that_only_loads() {
    let pin = |range: &Range<1>| pin_with(range, |page| page.contents.load(Ordering::Relaxed) != 0);
    assert_found(&mistake_in(move || two_rescuers(pin)), "lost: false");
}

#[test]
fn a_rescue_that_loads_and_then_stores() {
    let pin = |range: &Range<1>| {
        pin_with(range, |page| {
            let intact = page.contents.load(Ordering::Relaxed) != 0;
            page.contents.fetch_or(DIRTY, Ordering::Relaxed);
            intact
        })
    };
    assert_found(&mistake_in(move || two_rescuers(pin)), "lost: false");
}

#[test]
fn a_rescue_that_publishes_nothing() {
    let pin = |range: &Range<1>| {
        loop {
            match range.state.begin_pin() {
                BeginPin::Pinned(word) | BeginPin::PinnedEmpty(word) => return word,
                BeginPin::Offered if range.state.begin_rescue() => {
                    let lost = range.pages[0].rescue();
                    let word = range.state.glance();
                    let next = word.unclaimed(Phase::Pinned).with_pins(1).with_losses(lost);
                    while range.state.exchange(range.state.glance(), next, Ordering::Relaxed).is_err() {}
                    range.wakes.wake(EndClaim::WakeWaiters);
                    return next;
                }
                BeginPin::Offered => {}
                BeginPin::Claimed => range.wakes.wait(&range.state),
            }
        }
    };
    assert_found(&mistake_in(move || two_rescuers(pin)), RACE);
}

#[test]
fn a_retirement_that_does_not_wait() {
    let model = || {
        let range = Range::<1>::new_volatile();
        let offer = beside(&range, Range::offer);
        let _ = range.state.begin_retire();
        range.pages[0].owner.with_mut(|_| range.pages[0].contents.store(UNMAPPED, Ordering::Relaxed));
        offer.join().unwrap();
    };
    let mistake = mistake_in(model);
    assert!(mistake.contains(RACE) || mistake.contains("given back"), "{mistake}");
}

#[test]
fn a_wait_that_reads_the_count_after_asking() {
    let model = || {
        // Leaked, because loom's objects cannot be dropped while its report of a deadlock unwinds.
        let (state, wakes): &(State, AtomicU32) = Box::leak(Box::new((State::new_free(), AtomicU32::new(0))));
        assert_eq!(state.begin_retire(), BeginRelease::Claimed(Phase::Free));
        let owner = thread::spawn(|| {
            if state.end_release(Phase::Empty, false) == EndClaim::WakeWaiters {
                wakes.fetch_add(1, Ordering::Release);
                wake_all(wakes);
            }
        });
        if state.ask_to_be_woken() {
            wait_while(wakes, wakes.load(Ordering::Acquire));
        }
        owner.join().unwrap();
    };
    assert_found(&mistake_in(model), "deadlock");
}

#[test]
fn a_mark_of_sharing_that_publishes_nothing() {
    let model = || {
        let range = Range::<1>::new_volatile();
        let record = Arc::new(UnsafeCell::new(0));
        let fork = {
            let record = Arc::clone(&record);
            beside(&range, move |range| {
                // SAFETY: not given: that is the mistake, and loom says so.
                record.with_mut(|record| unsafe { *record = 1 });
                range.state.0.fetch_or(SHARED, Ordering::Relaxed);
            })
        };
        if range.pin().is_shared() {
            record.with(|_| ());
        }
        fork.join().unwrap();
    };
    assert_found(&mistake_in(model), RACE);
}
