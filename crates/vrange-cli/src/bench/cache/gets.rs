//! `get` of what is there: every cache holds all keys, and threads read them by Zipf's law.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::kind::{Kind, Size};
use super::peer::{Look, Peer, Tally, Values};
use super::row::median;
use super::zipf::Zipf;
use crate::bench::progress::Progress;
use crate::bench::table::significant;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// Keys that are read between two looks at the clock.
const CHUNK: usize = 4096;
/// Keys that are drawn beforehand, for each thread; then they begin anew.
const DRAWN: usize = 1 << 20;

/// Room for so many more than there are is left in any case: 64 keys are spread unevenly over eight shards.
const FEW_KEYS: u64 = 4096;

/// What is read, and by how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) value_bytes: usize,
    pub(super) look: Look,
    pub(super) threads: u32,
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) rounds: u32,
    /// How long each cache reads in a round.
    pub(super) work: Duration,
    /// All values of a cache together.
    pub(super) data_bytes: u64,
}

/// Rates by case and cache, one a round.
#[derive(Debug, Default)]
pub(super) struct Gets {
    rates: BTreeMap<(Case, Kind), Vec<f64>>,
}

/// One cache in one case.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) cache: Kind,
    value_bytes: usize,
    look: Look,
    threads: u32,
    /// Reads in a second, of all threads together.
    gets_per_second: f64,
    /// That over the fastest of the other caches.
    ratio_to_fastest_peer: Option<f64>,
}

impl Case {
    pub(super) fn all() -> Vec<Self> {
        let looks =
            [(64, Look::Ends), (1 << 10, Look::Ends), (64 << 10, Look::Ends), (64 << 10, Look::Lines)];
        let of = |(value_bytes, look)| [1, 2].map(|threads| Self { value_bytes, look, threads });
        looks.into_iter().flat_map(of).collect()
    }
}

impl Gets {
    /// Was nothing measured?
    pub(super) fn is_empty(&self) -> bool {
        self.rates.is_empty()
    }

    /// None for what was not measured.
    pub(super) fn median(&self, case: Case, kind: Kind) -> Option<f64> {
        median(self.rates.get(&(case, kind))?)
    }

    /// The fastest of the others in a case.
    pub(super) fn fastest_peer(&self, case: Case) -> Option<(Kind, f64)> {
        let peers = Kind::ALL.into_iter().filter(|kind| !kind.is_ours());
        peers
            .filter_map(|kind| Some((kind, self.median(case, kind)?)))
            .max_by(|left, right| left.1.total_cmp(&right.1))
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |(case, kind): &(Case, Kind)| {
            let rate = self.median(*case, *kind)?;
            let fastest = self.fastest_peer(*case);
            Some(Row {
                cache: *kind,
                value_bytes: case.value_bytes,
                look: case.look,
                threads: case.threads,
                gets_per_second: significant(rate),
                ratio_to_fastest_peer: fastest.map(|(_, fastest)| significant(rate / fastest)),
            })
        };
        self.rates.keys().filter_map(row).collect()
    }
}

/// Measures all cases.
pub(super) fn measure(plan: Plan, interrupt: &Interrupt, progress: &Progress) -> Result<Gets, Failure> {
    let mut gets = Gets::default();
    let mut value_bytes: Vec<_> = Case::all().iter().map(|case| case.value_bytes).collect();
    value_bytes.dedup();
    for bytes in value_bytes {
        measure_values(bytes, plan, &mut gets, interrupt, progress)?;
    }
    Ok(gets)
}

/// All cases with values of one size, on the same full caches, in turns, every other round backwards.
fn measure_values(
    value_bytes: usize,
    plan: Plan,
    gets: &mut Gets,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<(), Failure> {
    let cases: Vec<_> = Case::all().into_iter().filter(|case| case.value_bytes == value_bytes).collect();
    let keys = plan.data_bytes / u64::try_from(value_bytes).unwrap_or(u64::MAX);
    progress.phase(&format!("filling caches with values of {value_bytes} bytes"), Kind::ALL.len());
    let mut caches = Vec::new();
    for kind in Kind::ALL {
        caches.push((kind, full(kind, keys, value_bytes, interrupt)?));
        progress.step();
    }
    let draw = |number| {
        let mut zipf = Zipf::numbered(keys, number);
        (0..DRAWN).map(|_| zipf.key()).collect::<Vec<_>>()
    };
    let drawn: Vec<_> = [11, 12].map(draw).into();
    let turns = usize::try_from(plan.rounds).unwrap_or(0) * cases.len() * caches.len();
    progress.phase(&format!("reading values of {value_bytes} bytes"), turns);
    // The first round is not counted: processor caches, and what a cache does once.
    for round in 0..=plan.rounds {
        for case in &cases {
            for index in 0..caches.len() {
                interrupt.check()?;
                let index = if round % 2 == 0 { index } else { caches.len() - 1 - index };
                let (kind, cache) = &caches[index];
                let work = if round == 0 { plan.work / 4 } else { plan.work };
                let rate = rate(*kind, &**cache, *case, &drawn, work)?;
                if round > 0 {
                    gets.rates.entry((*case, *kind)).or_default().push(rate);
                    progress.step();
                }
            }
        }
    }
    Ok(())
}

/// A cache that holds all keys. Those that ask for a size get twice what is needed, and of few keys more, so that shards to which more keys
/// belong than to others evict nothing.
fn full(kind: Kind, keys: u64, value_bytes: usize, interrupt: &Interrupt) -> Result<Box<dyn Peer>, Failure> {
    /// A signal is looked for after this many.
    const KEYS_UNHEARD: u64 = 4096;
    let bytes = u64::try_from(value_bytes).unwrap_or(u64::MAX);
    let capacity_bytes = (!kind.is_ours()).then_some((keys + keys.max(FEW_KEYS)) * bytes);
    let cache = kind.make(Size { capacity_bytes, value_bytes: bytes })?;
    let mut values = Values::of(value_bytes);
    for key in 0..keys {
        if key.is_multiple_of(KEYS_UNHEARD) {
            interrupt.check()?;
        }
        cache.insert(key, values.value(key))?;
    }
    cache.settle();
    Ok(cache)
}

/// Reads in a second of all threads together. Each starts elsewhere in what was drawn for it in every turn.
fn rate(
    kind: Kind,
    cache: &dyn Peer,
    case: Case,
    drawn: &[Vec<u64>],
    work: Duration,
) -> Result<f64, Failure> {
    let threads = usize::try_from(case.threads).unwrap_or(usize::MAX);
    let started = Barrier::new(threads);
    let started = &started;
    let outcomes: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> = drawn
            .iter()
            .take(threads)
            .map(|keys| scope.spawn(move || read(cache, keys, case.look, work, started)))
            .collect();
        readers.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut rate = 0.0;
    for outcome in outcomes {
        let (tally, reads, took) =
            outcome.map_err(|_| Failure::run(format!("{} panicked in a get", kind.name())))?;
        if tally.wrong > 0 {
            return Err(Failure::run(format!("{} returned {} wrong values", kind.name(), tally.wrong)));
        }
        if tally.hits != reads {
            let lost = reads - tally.hits;
            return Err(Failure::run(format!("{} no longer has {lost} of {reads} values", kind.name()))
                .hint("there is not enough memory for this benchmark"));
        }
        rate += ratio(reads, took);
    }
    Ok(rate)
}

fn read(
    cache: &dyn Peer,
    keys: &[u64],
    look: Look,
    work: Duration,
    started: &Barrier,
) -> (Tally, u64, Duration) {
    // Large values take longer to read, and the clock is not to be overslept.
    let chunk = if look == Look::Lines { CHUNK / 64 } else { CHUNK };
    started.wait();
    let begin = Instant::now();
    let (mut sum, mut reads) = (Tally::default(), 0);
    for keys in keys.chunks(chunk).cycle() {
        let tally = cache.read_all(keys, look);
        sum.hits += tally.hits;
        sum.wrong += tally.wrong;
        reads += u64::try_from(keys.len()).unwrap_or(0);
        if begin.elapsed() >= work {
            break;
        }
    }
    (sum, reads, begin.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn ratio(reads: u64, took: Duration) -> f64 {
    reads as f64 / took.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_caches_hit_always() {
        let keys: Vec<u64> = (0..1000).collect();
        for kind in Kind::ALL {
            let cache = full(kind, 1000, 1024, &Interrupt::default()).expect("little memory");
            for look in [Look::Ends, Look::Lines] {
                let case = Case { value_bytes: 1024, look, threads: 2 };
                let drawn = [keys.clone(), keys.clone()];
                let rate = rate(kind, &*cache, case, &drawn, Duration::from_millis(1));
                assert!(rate.is_ok_and(|rate| rate > 0.0), "{kind:?}");
            }
        }
    }

    #[test]
    fn a_miss_is_a_failure() {
        let cache = full(Kind::Moka, 10, 1024, &Interrupt::default()).expect("little memory");
        let case = Case { value_bytes: 1024, look: Look::Ends, threads: 1 };
        let failure = rate(Kind::Moka, &*cache, case, &[vec![1, 10]], Duration::ZERO).expect_err("a miss");
        assert!(failure.report().contains("1 of 2"), "{}", failure.report());
    }

    #[test]
    fn a_rate_is_compared_with_the_fastest_of_the_others() {
        let mut gets = Gets::default();
        let case = Case::all()[0];
        for (kind, rates) in [(Kind::Moka, [1.0, 9.0, 2.0]), (Kind::QuickCache, [4.0, 4.0, 1.0])] {
            gets.rates.insert((case, kind), rates.to_vec());
        }
        assert_eq!(gets.fastest_peer(case), Some((Kind::QuickCache, 4.0)));
        assert_eq!(gets.rows()[0].ratio_to_fastest_peer, Some(0.5));
    }
}
