//! Closed means that nobody is inside, and everybody who waits is woken.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::model::{check, check_within, mistake_in};

/// A heap behind a gate: those inside share it (their ranges keep them apart), the closer has it to itself.
struct Guarded {
    gate: Gate,
    heap: UnsafeCell<u32>,
}

impl Guarded {
    fn new() -> Arc<Self> {
        Arc::new(Self { gate: Gate::new(), heap: UnsafeCell::new(0) })
    }

    fn work_inside(&self) {
        let _pass = self.gate.enter();
        self.heap.with(|_| ());
    }

    fn fork(&self) {
        self.gate.close();
        // SAFETY: the gate is closed; loom complains if somebody is inside all the same.
        self.heap.with_mut(|heap| unsafe { *heap += 1 });
        self.gate.open();
    }
}

#[test]
fn closed_means_that_nobody_is_inside() {
    check_within(2, || {
        let guarded = Guarded::new();
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let guarded = Arc::clone(&guarded);
                thread::spawn(move || guarded.work_inside())
            })
            .collect();
        guarded.fork();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn two_forks_take_turns() {
    check_within(2, || {
        let guarded = Guarded::new();
        let forker = {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || guarded.fork())
        };
        let worker = {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || guarded.work_inside())
        };
        guarded.fork();
        forker.join().unwrap();
        worker.join().unwrap();
        // SAFETY: all other threads have ended.
        assert_eq!(guarded.heap.with(|heap| unsafe { *heap }), 2);
    });
}

#[test]
fn who_may_not_wait_is_turned_away_and_stops_nobody() {
    check(|| {
        let guarded = Guarded::new();
        let forker = {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || guarded.fork())
        };
        if let Some(_pass) = guarded.gate.try_enter() {
            guarded.heap.with(|_| ());
        }
        forker.join().unwrap();
        assert!(guarded.gate.try_enter().is_some(), "open again");
    });
}

#[test]
fn control_a_close_that_does_not_wait_is_found() {
    let mistake = mistake_in(|| {
        let guarded = Guarded::new();
        let worker = {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || guarded.work_inside())
        };
        guarded.gate.word.fetch_or(CLOSED, Ordering::Acquire);
        // SAFETY: not given, and loom says so.
        guarded.heap.with_mut(|heap| unsafe { *heap += 1 });
        guarded.gate.open();
        worker.join().unwrap();
    });
    assert!(mistake.contains("Causality violation"), "{mistake}");
}

#[test]
fn control_a_pass_that_wakes_nobody_is_found() {
    let mistake = mistake_in(|| {
        let guarded = Guarded::new();
        let worker = {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || {
                let pass = guarded.gate.enter();
                std::mem::forget(pass);
                guarded.gate.word.fetch_sub(1, Ordering::Release);
            })
        };
        guarded.fork();
        worker.join().unwrap();
    });
    assert!(mistake.contains("deadlock"), "{mistake}");
}

#[test]
fn control_a_pass_that_publishes_nothing_is_found() {
    let mistake = mistake_in(|| {
        let guarded = Guarded::new();
        let worker = {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || {
                let pass = guarded.gate.enter();
                guarded.heap.with(|_| ());
                std::mem::forget(pass);
                guarded.gate.word.fetch_sub(1, Ordering::Relaxed);
                wake_all(&guarded.gate.word);
            })
        };
        guarded.fork();
        worker.join().unwrap();
    });
    assert!(mistake.contains("Causality violation"), "{mistake}");
}
