//! An unpin is never missed by a reclaimer that falls asleep.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::model::{check, mistake_in};
use crate::range::state::{BeginPin, Generation, Phase, State, Unpin};

/// One range and the reclaimer's word.
struct Process {
    state: State,
    sleeper: Sleeper,
}

impl Process {
    /// The range is pinned, and the reclaimer is awake.
    fn new() -> Arc<Self> {
        let process = Self { state: State::new_free(), sleeper: Sleeper::new_asleep() };
        process.state.publish();
        assert!(matches!(process.state.begin_pin(), BeginPin::PinnedEmpty(_)));
        process.sleeper.stay_awake();
        Arc::new(process)
    }

    /// Unpins, and says whether that called the reclaimer.
    fn unpin(&self) -> bool {
        assert!(matches!(self.state.unpin(Generation::from_ticks(1)), Unpin::Volatile(_)));
        !self.sleeper.is_awake() && self.sleeper.rouse() == Wake::Rouse
    }

    fn needs_reclaimer(&self) -> bool {
        self.state.look().phase() == Phase::Volatile
    }

    /// The reclaimer's turn when there was nothing to do; says whether it stays awake.
    fn fall_asleep(&self) -> bool {
        self.sleeper.fall_asleep();
        let needed = self.needs_reclaimer();
        if needed {
            self.sleeper.stay_awake();
        }
        needed
    }
}

/// One unpin beside a reclaimer that finds nothing to do.
fn unpin_beside(fall_asleep: fn(&Process) -> bool) -> impl Fn() + Sync + Send + 'static {
    move || {
        let process = Process::new();
        let unpinner = {
            let process = Arc::clone(&process);
            thread::spawn(move || process.unpin())
        };
        let stayed_awake = fall_asleep(&process);
        let called = unpinner.join().unwrap();
        assert!(stayed_awake || called, "asleep beside a volatile range");
    }
}

fn assert_missed(fall_asleep: fn(&Process) -> bool) {
    let mistake = mistake_in(unpin_beside(fall_asleep));
    assert!(mistake.contains("asleep beside a volatile range"), "{mistake}");
}

#[test]
fn an_unpin_is_never_missed() {
    check(unpin_beside(Process::fall_asleep));
}

#[test]
fn a_sleeping_reclaimer_is_woken_by_the_unpin() {
    check(|| {
        let process = Process::new();
        let unpinner = {
            let process = Arc::clone(&process);
            thread::spawn(move || process.unpin())
        };
        if !process.fall_asleep() {
            process.sleeper.sleep();
        }
        assert!(process.needs_reclaimer(), "woken for nothing");
        let _ = unpinner.join().unwrap();
    });
}

#[test]
fn of_two_unpins_one_at_most_rouses() {
    check(|| {
        let process = Process::new();
        process.sleeper.fall_asleep();
        assert!(matches!(process.state.begin_pin(), BeginPin::Pinned(_)));
        let rouse = |process: &Process| {
            let _ = process.state.unpin(Generation::from_ticks(1));
            !process.sleeper.is_awake() && process.sleeper.rouse() == Wake::Rouse
        };
        let other = {
            let process = Arc::clone(&process);
            thread::spawn(move || rouse(&process))
        };
        let called = [rouse(&process), other.join().unwrap()];
        assert_eq!(called.iter().filter(|called| **called).count(), 1);
    });
}

#[test]
fn control_without_the_second_look_it_is_missed() {
    assert_missed(|process| {
        process.sleeper.fall_asleep();
        false
    });
}

#[test]
fn control_a_look_before_the_word_is_set_misses_it() {
    assert_missed(|process| {
        let needed = process.needs_reclaimer();
        process.sleeper.fall_asleep();
        needed
    });
}

#[test]
fn control_without_the_single_order_it_is_missed() {
    let without_fence = |process: &Process| {
        process.sleeper.0.store(ASLEEP, Ordering::Release);
        let needed = process.needs_reclaimer();
        if needed {
            process.sleeper.stay_awake();
        }
        needed
    };
    assert_missed(without_fence);
}
