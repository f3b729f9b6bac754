//! What threads see of one another: every history has an order in which it makes sense.
//!
//! Each key is a register that may lose its value at any moment, for good: who gets a value gets the one that was put in last; what
//! was removed, overwritten or lost does not come back. Where nothing can be lost, nothing is. Keys do not depend on each other, so
//! each key's history is checked by itself (Wing and Gong's search, with Lowe's memory of what was tried). The controls are caches with
//! a flaw, and histories written by hand.

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use support::{quiet_heap, value};
use vrange::Heap;
use vrange_cache::{Cache, Fetched};
use vrange_testing::StopAtEnd;

const MIB: usize = 1 << 20;
const THREADS: u64 = 4;
/// Keys of a round, at which all threads work at once.
const KEYS: u64 = 3;
/// Operations of a thread in a round.
const STEPS: usize = 18;

/// What an operation did, as far as its caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Put this value in.
    Insert(u64),
    /// Found this one, or none.
    Get(Option<u64>),
    /// Took one out, or found none.
    Remove(bool),
}

/// An operation on one key.
#[derive(Clone, Copy, Debug)]
struct Event {
    action: Action,
    begin: Instant,
    end: Instant,
}

/// The state after an action, if it is possible in this state.
fn after(state: Option<u64>, action: Action, may_lose: bool) -> Option<Option<u64>> {
    match action {
        Action::Insert(value) => Some(Some(value)),
        Action::Get(Some(found)) => (state == Some(found)).then_some(state),
        // A value that could be lost was lost just before.
        Action::Get(None) | Action::Remove(false) => (may_lose || state.is_none()).then_some(None),
        Action::Remove(true) => state.is_some().then_some(None),
    }
}

/// Is there an order of the events that keeps to time, and in which each is possible, from this state on?
fn makes_sense(first: Option<u64>, events: &[Event], may_lose: bool) -> bool {
    assert!(events.len() <= 128, "a bit for each");
    let all = if events.len() == 128 { u128::MAX } else { (1 << events.len()) - 1 };
    let mut tried = HashSet::new();
    let mut left = vec![(0_u128, first)];
    while let Some((done, state)) = left.pop() {
        if done == all {
            return true;
        }
        if !tried.insert((done, state)) {
            continue;
        }
        let open = || events.iter().enumerate().filter(|(index, _)| done >> index & 1 == 0);
        let first_end = open().map(|(_, event)| event.end).min().expect("not all are done");
        for (index, event) in open().filter(|(_, event)| event.begin <= first_end) {
            if let Some(next) = after(state, event.action, may_lose) {
                left.push((done | 1 << index, next));
            }
        }
    }
    false
}

/// What is wrong with the cache on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Now and then a value is found that was the last one some time ago.
    Stale,
    /// Now and then a removal is not done.
    KeepsRemoved,
    /// Now and then a value is not put in.
    Forgets,
}

/// A cache, and what it is told to do wrong.
struct Subject<'a> {
    cache: &'a Cache<u64>,
    flaw: Flaw,
    calls: AtomicU64,
    older: Mutex<HashMap<u64, u64>>,
}

/// A value is its number, key and length, and bytes that follow from them.
fn bytes_of(key: u64, number: u64) -> Vec<u8> {
    // Some are too long for a segment of a small cache.
    let lengths = [16, 100, 1_000, 3_000, 200, 8_000];
    let mut bytes = value(key ^ number << 20, lengths[usize::try_from(number % 6).expect("less than six")]);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn number_of(key: u64, bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    assert_eq!(bytes, bytes_of(key, number), "bytes that nobody has put in under {key}");
    number
}

impl Subject<'_> {
    fn is_wrong(&self, flaw: Flaw) -> bool {
        self.flaw == flaw && self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(40)
    }

    fn insert(&self, key: u64, number: u64) {
        if self.flaw == Flaw::Stale
            && let Some(found) = self.cache.get(&key)
        {
            self.older.lock().insert(key, number_of(key, &found));
        }
        if !self.is_wrong(Flaw::Forgets) {
            self.cache.insert(key, &bytes_of(key, number)).expect("room");
        }
    }

    fn get(&self, key: u64) -> Option<u64> {
        if self.is_wrong(Flaw::Stale)
            && let Some(older) = self.older.lock().get(&key)
        {
            return Some(*older);
        }
        self.cache.get(&key).map(|found| number_of(key, &found))
    }

    fn remove(&self, key: u64) -> bool {
        self.is_wrong(Flaw::KeepsRemoved) || self.cache.remove(&key)
    }
}

/// Numbers that look random (Knuth's linear congruence).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Keys come up again, some rounds later, so that they grow old in between.
fn first_key(round: u64) -> u64 {
    round % 16 * KEYS
}

/// One thread's part of a round.
fn work(subject: &Subject<'_>, round: u64, thread: u64) -> Vec<(u64, Event)> {
    let mut random = Random(round * THREADS + thread + 1);
    let mut events = Vec::with_capacity(2 * STEPS);
    for step in 0..STEPS as u64 {
        let key = first_key(round) + random.below(KEYS);
        let number = round << 16 | thread << 8 | (step + 1);
        let begin = Instant::now();
        let mut note = |action, begin, end| events.push((key, Event { action, begin, end }));
        match random.below(10) {
            0..3 => {
                subject.insert(key, number);
                note(Action::Insert(number), begin, Instant::now());
            }
            3..7 => {
                let found = subject.get(key);
                note(Action::Get(found), begin, Instant::now());
            }
            7 => {
                let was_there = subject.remove(key);
                note(Action::Remove(was_there), begin, Instant::now());
            }
            _ => {
                // Two steps: a lookup, and, if that finds none, an insertion. Others may come in between.
                let mut made = None;
                let fetched = subject.cache.get_or_insert_with(key, || {
                    made = Some(Instant::now());
                    bytes_of(key, number)
                });
                let end = Instant::now();
                let is_kept = matches!(fetched, Fetched::Cached(_));
                assert!(is_kept, "there was no room");
                match made {
                    Some(made) => {
                        note(Action::Get(None), begin, made);
                        note(Action::Insert(number), made, end);
                    }
                    None => note(Action::Get(Some(number_of(key, &fetched))), begin, end),
                }
            }
        }
    }
    events
}

/// What else goes on meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    /// Nothing: no value can be lost.
    None,
    /// The cache is small, and other keys push values out and about.
    Crowd,
    /// Memory is offered and taken.
    Loss,
    /// Both.
    Both,
}

/// Histories that make no sense, of those of so many rounds.
fn mistakes(disturbance: Disturbance, flaw: Flaw, rounds: u64) -> Vec<Vec<Event>> {
    let (heap, _reclaimer) = quiet_heap();
    let mut builder = Cache::<u64>::builder().heap(heap.clone());
    let (is_crowded, is_lossy) = match disturbance {
        Disturbance::None => (false, false),
        Disturbance::Crowd => (true, false),
        Disturbance::Loss => (false, true),
        Disturbance::Both => (true, true),
    };
    if is_crowded {
        builder = builder.max_bytes(MIB as u64);
    }
    let cache = builder.build().expect("a cache");
    let subject = Subject { cache: &cache, flaw, calls: AtomicU64::new(0), older: Mutex::default() };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // However this ends, those who disturb do.
        let over = StopAtEnd(&is_over);
        let crowd = is_crowded.then(|| scope.spawn(|| crowd(&cache, &is_over)));
        let loss = is_lossy.then(|| scope.spawn(|| take_memory(&heap, &is_over)));
        let may_lose = disturbance != Disturbance::None;
        let wrong = (0..rounds).flat_map(|round| wrong_histories(&subject, round, may_lose)).collect();
        drop(over);
        // ThreadSanitizer does not see how a scope waits.
        for thread in crowd.into_iter().chain(loss) {
            thread.join().expect("who disturbs does not fail");
        }
        wrong
    })
}

fn crowd(cache: &Cache<u64>, is_over: &AtomicBool) {
    let mut random = Random(7);
    while !is_over.load(Ordering::Relaxed) {
        let key = (1 << 40) + random.below(2_000);
        if cache.get(&key).is_none_or(|found| number_of(key, &found) != key) {
            cache.insert(key, &bytes_of(key, key)).expect("room");
        }
    }
}

fn take_memory(heap: &Heap, is_over: &AtomicBool) {
    let mut random = Random(9);
    while !is_over.load(Ordering::Relaxed) {
        match random.below(4) {
            0 => drop(heap.release()),
            1 => drop(heap.reclaim(1 + random.below(1 << 20))),
            _ => drop(heap.offer(u64::MAX)),
        }
        // Others are to run between two losses.
        std::thread::sleep(std::time::Duration::from_micros(random.below(200)));
    }
}

/// All threads at work at once on the keys of one round; the keys' histories that make no sense.
fn wrong_histories(subject: &Subject<'_>, round: u64, may_lose: bool) -> Vec<Vec<Event>> {
    let start = Barrier::new(usize::try_from(THREADS).expect("few"));
    let mut keys: HashMap<u64, (Option<u64>, Vec<Event>)> = HashMap::new();
    for key in first_key(round)..first_key(round) + KEYS {
        let found = subject.cache.get(&key).map(|found| number_of(key, &found));
        keys.insert(key, (found, Vec::new()));
    }
    let events = std::thread::scope(|scope| {
        let start = &start;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    start.wait();
                    work(subject, round, thread)
                })
            })
            .collect();
        let ended: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        ended.into_iter().flat_map(|events| events.expect("a thread failed")).collect::<Vec<_>>()
    });
    for (key, event) in events {
        keys.get_mut(&key).expect("a key of this round").1.push(event);
    }
    let is_wrong = |(first, events): &(Option<u64>, Vec<Event>)| !makes_sense(*first, events, may_lose);
    keys.into_values().filter(is_wrong).map(|(_, events)| events).collect()
}

fn rounds() -> u64 {
    vrange_testing::scale().pick(1_500, 60_000)
}

#[track_caller]
fn assert_sense(disturbance: Disturbance) {
    let mistakes = mistakes(disturbance, Flaw::None, rounds());
    if let Some(events) = mistakes.first() {
        let start = events.iter().map(|event| event.begin).min().expect("an event");
        let mut lines: Vec<_> =
            events.iter().map(|event| (event.begin - start, event.end - start, event.action)).collect();
        lines.sort_by_key(|line| line.0);
        panic!("{} histories make no sense; the first: {lines:#?}", mistakes.len());
    }
}

#[test]
fn where_nothing_is_lost_a_key_is_a_register() {
    assert_sense(Disturbance::None);
}

#[test]
fn values_that_are_pushed_out_and_about_are_lost_at_worst() {
    assert_sense(Disturbance::Crowd);
}

#[test]
fn values_whose_memory_is_taken_are_lost_at_worst() {
    assert_sense(Disturbance::Loss);
}

#[test]
fn values_are_lost_at_worst_whatever_goes_on() {
    assert_sense(Disturbance::Both);
}

#[test]
fn controls_are_found() {
    for flaw in [Flaw::Stale, Flaw::KeepsRemoved] {
        for disturbance in [Disturbance::None, Disturbance::Crowd, Disturbance::Loss] {
            let mistakes = mistakes(disturbance, flaw, 300);
            assert!(!mistakes.is_empty(), "{flaw:?} goes unnoticed, {disturbance:?}");
        }
    }
    assert!(!mistakes(Disturbance::None, Flaw::Forgets, 300).is_empty(), "a loss goes unnoticed");
}

#[test]
fn histories_by_hand() {
    use Action::{Get, Insert, Remove};
    let zero = Instant::now();
    let at = |begin: u64, end: u64, action| Event {
        action,
        begin: zero + std::time::Duration::from_micros(begin),
        end: zero + std::time::Duration::from_micros(end),
    };
    // The events, and whether they make sense without and with losses.
    let histories: [(&[Event], bool, bool); 11] = [
        (&[], true, true),
        (&[at(0, 1, Insert(1)), at(2, 3, Get(Some(1)))], true, true),
        (&[at(0, 1, Insert(1)), at(2, 3, Get(None))], false, true),
        (&[at(0, 1, Insert(1)), at(2, 3, Get(None)), at(4, 5, Get(Some(1)))], false, false),
        (&[at(0, 1, Insert(1)), at(2, 3, Insert(2)), at(4, 5, Get(Some(1)))], false, false),
        // The second may come first, since they overlap.
        (&[at(0, 3, Insert(1)), at(1, 2, Insert(2)), at(4, 5, Get(Some(1)))], true, true),
        (&[at(0, 9, Insert(1)), at(1, 2, Get(Some(1))), at(3, 4, Get(None))], false, true),
        (&[at(0, 1, Insert(1)), at(2, 3, Remove(true)), at(4, 5, Get(Some(1)))], false, false),
        (&[at(0, 1, Insert(1)), at(2, 3, Remove(true)), at(4, 5, Remove(true))], false, false),
        (&[at(0, 1, Insert(1)), at(2, 9, Remove(true)), at(4, 5, Get(Some(1)))], true, true),
        (&[at(0, 1, Get(Some(1))), at(2, 3, Insert(1))], false, false),
    ];
    for (number, (events, strictly, with_losses)) in histories.into_iter().enumerate() {
        assert_eq!(makes_sense(None, events, false), strictly, "history {number}");
        assert_eq!(makes_sense(None, events, true), with_losses, "history {number}, with losses");
    }
}
