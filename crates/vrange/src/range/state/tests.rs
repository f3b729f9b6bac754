//! Every transition of the table, from every phase.

use super::*;

const ALL: [Phase; 8] = [
    Phase::Free,
    Phase::Empty,
    Phase::Pinned,
    Phase::Volatile,
    Phase::Offering,
    Phase::Offered,
    Phase::Rescuing,
    Phase::Releasing,
];

fn at(ticks: u64) -> Generation {
    Generation::from_ticks(ticks)
}

/// A state in `phase`, as the transitions leave it: unpinned at 100, pinned once if at all.
fn state_in(phase: Phase) -> State {
    let pins = u64::from(phase == Phase::Pinned);
    State(AtomicU64::new(Word(0).with_phase(phase).with_pins(pins).with_generation(at(100)).0))
}

/// What `act` makes of each phase; the phases it leaves alone are not listed.
fn moves(act: impl Fn(&State)) -> Vec<(Phase, Phase)> {
    let after = |before| {
        let state = state_in(before);
        act(&state);
        (before, state.glance().phase())
    };
    ALL.into_iter().map(after).filter(|(before, after)| before != after).collect()
}

#[test]
fn the_word_keeps_its_parts_apart() {
    let full = Word(u64::MAX);
    for phase in ALL {
        assert_eq!(full.with_phase(phase).phase(), phase);
        assert_eq!(full.with_phase(phase).pins(), PINS_MAX);
    }
    let word = full.with_pins(0).with_generation(at(0)).with_losses(false);
    assert_eq!((word.pins(), word.generation(), word.has_losses()), (0, at(0), false));
    assert!(word.is_cancelled() && word.is_shared() && word.phase() == Phase::Releasing);
    let flags = PHASE | CANCEL | WAITERS | LOSSES | SHARED;
    assert_eq!(flags.count_ones() + PINS.count_ones() + GENERATION.count_ones(), 64, "no bit is left over");
    assert_eq!(flags ^ PINS ^ GENERATION, u64::MAX, "no bit serves twice");
}

#[test]
fn a_pin_takes_what_is_in_use_or_in_memory() {
    let not_free = |state: &State| {
        if state.glance().phase() != Phase::Free {
            let _ = state.begin_pin();
        }
    };
    assert_eq!(moves(not_free), [(Phase::Empty, Phase::Pinned), (Phase::Volatile, Phase::Pinned)]);
    assert_eq!(state_in(Phase::Offered).begin_pin(), BeginPin::Offered);
    assert!(matches!(state_in(Phase::Empty).begin_pin(), BeginPin::PinnedEmpty(word) if word.pins() == 1));
    assert!(matches!(state_in(Phase::Volatile).begin_pin(), BeginPin::Pinned(word) if word.pins() == 1));
    assert!(matches!(state_in(Phase::Pinned).begin_pin(), BeginPin::Pinned(word) if word.pins() == 2));
}

#[test]
fn a_pin_asks_offers_and_releases_to_stop_and_waits_for_a_rescue() {
    for (phase, cancels) in [(Phase::Offering, true), (Phase::Releasing, true), (Phase::Rescuing, false)] {
        let state = state_in(phase);
        // The second pinner finds it asked already.
        for _ in 0..2 {
            assert_eq!(state.begin_pin(), BeginPin::Claimed);
            assert_eq!((state.glance().phase(), state.is_cancelled()), (phase, cancels));
        }
    }
}

#[test]
#[should_panic(expected = "dropped")]
fn a_dropped_range_is_not_pinned() {
    let _ = State::new_free().begin_pin();
}

#[test]
fn the_last_unpin_makes_it_volatile_as_of_now() {
    let state = state_in(Phase::Pinned);
    assert!(matches!(state.begin_pin(), BeginPin::Pinned(_)));
    assert_eq!(state.unpin(at(200)), Unpin::StillPinned);
    assert_eq!((state.glance().pins(), state.glance().generation()), (1, at(100)));
    let Unpin::Volatile(word) = state.unpin(at(201)) else { panic!("that was the last") };
    assert_eq!((word.phase(), word.pins(), word.generation()), (Phase::Volatile, 0, at(201)));
    assert_eq!(state.glance(), word);
}

#[test]
fn a_count_of_pins_that_is_full_stays_full() {
    let state = state_in(Phase::Empty);
    for _ in 0..PINS_MAX + 10 {
        assert!(matches!(state.begin_pin(), BeginPin::Pinned(_) | BeginPin::PinnedEmpty(_)));
    }
    let full = state.glance();
    assert_eq!((full.pins(), full.generation()), (PINS_MAX, at(100)), "nothing spilled over");
    for _ in 0..PINS_MAX + 10 {
        assert_eq!(state.unpin(at(300)), Unpin::StillPinned);
    }
    assert_eq!(state.glance(), full, "leaked guards keep it pinned");
    assert_eq!(state.begin_release(), BeginRelease::Pinned);
    // Its owner may drop it all the same, and what comes next in the slot starts anew.
    assert_eq!(state.begin_retire(), BeginRelease::Claimed(Phase::Pinned));
    assert_eq!(state.glance().pins(), 0);
    assert_eq!(state.end_retire(), EndClaim::Quiet);
    state.publish();
    assert!(matches!(state.begin_pin(), BeginPin::PinnedEmpty(word) if word.pins() == 1));
}

#[test]
fn only_an_offered_range_is_rescued() {
    let rescue = |state: &State| {
        let _ = state.begin_rescue();
    };
    assert_eq!(moves(rescue), [(Phase::Offered, Phase::Rescuing)]);
    for lost in [false, true] {
        let state = state_in(Phase::Rescuing);
        let (word, end) = state.end_rescue(lost);
        assert_eq!((word.phase(), word.pins(), word.has_losses()), (Phase::Pinned, 1, lost));
        assert_eq!(end, EndClaim::Quiet);
    }
}

#[test]
fn a_loss_stays_reported_until_it_is_acknowledged() {
    let state = state_in(Phase::Rescuing);
    let _ = state.end_rescue(true);
    assert!(matches!(state.begin_pin(), BeginPin::Pinned(word) if word.has_losses()));
    let _ = state.unpin(at(1));
    assert!(matches!(state.unpin(at(1)), Unpin::Volatile(word) if word.has_losses()));
    let seen = state.glance();
    assert_eq!(state.begin_offer(seen), Some(Phase::Volatile));
    assert_eq!(state.end_offer(true, false), EndClaim::Quiet);
    assert!(state.begin_rescue());
    assert!(state.end_rescue(false).0.has_losses(), "an intact rescue does not take back an older loss");
    state.acknowledge_losses();
    assert!(!state.glance().has_losses());
    assert_eq!((state.glance().phase(), state.glance().pins()), (Phase::Pinned, 1));
}

#[test]
fn an_offer_claims_what_is_as_it_was_seen() {
    let offer = |state: &State| {
        let _ = state.begin_offer(state.glance());
    };
    assert_eq!(moves(offer), [(Phase::Volatile, Phase::Offering), (Phase::Offered, Phase::Offering)]);
    let state = state_in(Phase::Volatile);
    let seen = state.glance();
    let _ = state.begin_pin();
    let _ = state.unpin(at(101));
    assert_eq!(state.begin_offer(seen), None, "it was used in between");
    assert_eq!(state.begin_release_of(seen), None, "and is not to be released either");
    assert_eq!(state.glance().phase(), Phase::Volatile);
}

#[test]
fn an_offer_ends_as_far_as_it_came() {
    for (reached_pages, phase) in [(true, Phase::Offered), (false, Phase::Volatile)] {
        let state = state_in(Phase::Offering);
        assert_eq!(state.begin_pin(), BeginPin::Claimed);
        assert!(state.ask_to_be_woken());
        assert_eq!(state.end_offer(reached_pages, false), EndClaim::WakeWaiters);
        assert_eq!(
            (state.glance().phase(), state.glance().generation()),
            (phase, at(100)),
            "its age is kept"
        );
        assert!(!state.is_cancelled() && !state.ask_to_be_woken(), "the next claim starts without flags");
    }
}

#[test]
fn a_release_claims_what_nobody_uses() {
    let release = |state: &State| {
        let _ = state.begin_release();
    };
    assert_eq!(moves(release), [(Phase::Volatile, Phase::Releasing), (Phase::Offered, Phase::Releasing)]);
    let seen = |state: &State| {
        let _ = state.begin_release_of(state.glance());
    };
    assert_eq!(moves(seen), moves(release));
    for (phase, answer) in [
        (Phase::Free, BeginRelease::Empty),
        (Phase::Empty, BeginRelease::Empty),
        (Phase::Pinned, BeginRelease::Pinned),
        (Phase::Volatile, BeginRelease::Claimed(Phase::Volatile)),
        (Phase::Offering, BeginRelease::Busy),
        (Phase::Offered, BeginRelease::Claimed(Phase::Offered)),
        (Phase::Rescuing, BeginRelease::Busy),
        (Phase::Releasing, BeginRelease::Busy),
    ] {
        assert_eq!(state_in(phase).begin_release(), answer, "{phase:?}");
    }
}

#[test]
fn a_release_ends_in_the_phase_it_is_told_and_reports_losses() {
    for left in [Phase::Empty, Phase::Volatile, Phase::Offered] {
        for lost in [false, true] {
            let state = state_in(Phase::Releasing);
            assert_eq!(state.end_release(left, lost), EndClaim::Quiet);
            assert_eq!((state.glance().phase(), state.glance().has_losses()), (left, lost));
        }
    }
}

#[test]
fn a_retirement_claims_everything_but_claims() {
    let retire = |state: &State| {
        let _ = state.begin_retire();
    };
    let moved = moves(retire);
    assert!(moved.iter().all(|(_, after)| *after == Phase::Releasing));
    let claimed: Vec<Phase> = moved.into_iter().map(|(before, _)| before).collect();
    assert_eq!(claimed, [Phase::Free, Phase::Empty, Phase::Pinned, Phase::Volatile, Phase::Offered]);
    for phase in ALL.into_iter().filter(|phase| phase.is_claimed()) {
        let state = state_in(phase);
        assert_eq!(state.begin_retire(), BeginRelease::Busy);
        assert!(state.is_cancelled(), "the owner of the claim is asked to hurry");
        assert_eq!(state.glance().phase(), phase);
    }
}

#[test]
fn only_a_claim_is_waited_for() {
    for phase in ALL {
        let state = state_in(phase);
        assert_eq!(state.ask_to_be_woken(), phase.is_claimed(), "{phase:?}");
    }
    let state = state_in(Phase::Rescuing);
    assert!(state.ask_to_be_woken() && state.ask_to_be_woken(), "any number may wait");
    assert_eq!(state.end_rescue(false).1, EndClaim::WakeWaiters);
}

#[test]
fn the_mark_of_sharing_survives_every_transition_and_changes_nothing_else() {
    for phase in ALL {
        let state = state_in(phase);
        let before = state.glance();
        assert_eq!(state.set_shared(true), before);
        assert!(state.glance().is_shared() && state.glance().phase() == phase);
        assert_eq!(state.set_shared(false), Word(before.0 | SHARED));
        assert_eq!(state.glance(), before);
    }
    let state = state_in(Phase::Offering);
    let _ = state.set_shared(true);
    let _ = state.end_offer(true, false);
    assert!(state.begin_rescue());
    assert!(state.end_rescue(false).0.is_shared());
    assert!(matches!(state.unpin(at(1)), Unpin::Volatile(word) if word.is_shared()));
}

#[test]
fn a_claim_can_make_its_range_young_again() {
    let state = state_in(Phase::Offering);
    assert_eq!(state.begin_pin(), BeginPin::Claimed);
    state.make_youngest(at(777));
    assert_eq!((state.glance().generation(), state.is_cancelled()), (at(777), true));
    assert_eq!(state.end_offer(false, false), EndClaim::Quiet);
    assert_eq!(state.glance().generation(), at(777));
}

#[test]
fn a_child_takes_over_what_the_parents_threads_had_claimed() {
    for phase in ALL {
        let state = state_in(phase);
        let _ = state.set_shared(true);
        if phase.is_claimed() {
            let _ = state.begin_pin();
            assert!(state.ask_to_be_woken());
        }
        state.recover_in_child();
        let word = state.glance();
        let expected = if phase.is_claimed() { Phase::Offered } else { phase };
        assert_eq!((word.phase(), word.is_cancelled(), word.0 & WAITERS), (expected, false, 0), "{phase:?}");
        assert!(
            word.is_shared()
                && word.generation() == at(100)
                && word.pins() == state_in(phase).glance().pins()
        );
    }
}

/// The rescue, release or offer was over but for the end of its claim: nothing is offered that a rescue could look at.
#[test]
fn a_child_hears_of_losses_that_were_noted_under_a_claim() {
    for phase in ALL.into_iter().filter(|phase| phase.is_claimed()) {
        let state = state_in(phase);
        state.note_losses();
        state.recover_in_child();
        assert!(state.glance().has_losses(), "{phase:?}");
        assert_eq!(state.begin_pin(), BeginPin::Offered);
        assert!(state.begin_rescue());
        assert!(state.end_rescue(false).0.has_losses(), "{phase:?}");
    }
}

#[test]
fn ages_are_told_across_the_wrap_and_the_future_is_young() {
    assert_eq!(at(100).age(at(350)), 250);
    assert_eq!(at(350).age(at(100)), 0, "another processor's clock ran ahead");
    let last = Generation::MASK;
    assert_eq!(at(last - 5).age(at(10)), 16, "2^41 ticks are one round");
    assert_eq!(at(last + 1), at(0), "ticks beyond the width wrap");
    assert_eq!(at(0).age(at(Generation::AGE_MAX * 2)), Generation::AGE_MAX * 2);
    assert_eq!(at(7).age(at(7)), 0);
}

#[test]
fn a_very_old_range_is_cut_down_before_it_seems_young() {
    let now = at(100 + Generation::AGE_MAX + 1);
    for phase in ALL {
        let state = state_in(phase);
        let before = state.glance();
        state.cut_age(now);
        if matches!(phase, Phase::Volatile | Phase::Offered) {
            assert_eq!(state.glance().generation().age(now), Generation::AGE_MAX);
            assert_eq!(state.glance().phase(), phase);
        } else {
            assert_eq!(state.glance(), before, "{phase:?} has no age");
        }
    }
    let state = state_in(Phase::Volatile);
    state.cut_age(at(100 + Generation::AGE_MAX));
    assert_eq!(state.glance().generation(), at(100), "not old enough yet");
    // Cut again and again over several rounds of the clock, it stays the oldest.
    let step = Generation::AGE_MAX / 2;
    for round in 1..20 {
        let now = at(100 + round * step);
        state.cut_age(now);
        assert_eq!(state.glance().generation().age(now), (round * step).min(Generation::AGE_MAX));
    }
}

#[test]
fn debug_output_names_the_phase() {
    assert!(format!("{:?}", state_in(Phase::Offered)).contains("Offered"));
}
