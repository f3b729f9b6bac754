//! A process that serves reads, one after the other, through a cache or without one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::kind::{Kind, Size};
use super::peer::{Look, Peer, Values};
use super::process::Link;
use super::trace::Trace;
use crate::demo::wire::monotonic_ns;
use crate::failure::Failure;

/// How often a sample is taken.
const SAMPLE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What the process is asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Serve {
    /// None: nothing is cached.
    pub(super) kind: Option<Kind>,
    pub(super) size: Size,
    pub(super) keys: u64,
    /// Reads before the answer that it is ready, for which misses take no time.
    pub(super) warm_up: u64,
    /// How long a miss waits for whoever has the data.
    pub(super) miss: Duration,
}

/// What the process says, and hears, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Signal {
    /// The cache is warm.
    Ready,
    /// Serve now. Afterwards any line ends it.
    Go,
    Stop,
}

/// What was served, and how much memory the process took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// On the monotonic clock.
    pub(super) at_ns: u64,
    /// Since the beginning.
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) resident_bytes: u64,
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Served {
    pub(super) samples: Vec<Sample>,
    pub(super) wrong: u64,
}

/// Counts that the serving thread writes and the other one reads.
#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    stop: AtomicU64,
}

/// The process's side.
pub(super) fn work(link: &mut Link) -> Result<(), Failure> {
    let serve: Serve = link.request()?;
    let cache = serve.kind.map(|kind| kind.make(serve.size)).transpose()?;
    let cache = cache.as_deref();
    let mut values = Values::of(usize::try_from(serve.size.value_bytes).unwrap_or(usize::MAX));
    let mut reads = Trace::Zipf.reads(serve.keys);
    let mut served = Served::default();
    for key in reads.by_ref().take(usize::try_from(serve.warm_up).unwrap_or(usize::MAX)) {
        served.wrong += u64::from(read(cache, key, Duration::ZERO, &mut values)? == Read::Wrong);
    }
    link.answer(&Signal::Ready)?;
    let Signal::Go = link.request()? else { return Err(Failure::run("the parent spoke out of turn")) };
    let counts = Counts::default();
    let counts = &counts;
    let samples = thread::scope(|scope| {
        let sampler = scope.spawn(move || sample_until_told(counts));
        let mut outcome = Ok(());
        // Relaxed: it orders nothing, and a read more or less makes no difference.
        while counts.stop.load(Ordering::Relaxed) == 0 && outcome.is_ok() {
            let Some(key) = reads.next() else { break };
            match read(cache, key, serve.miss, &mut values) {
                Ok(Read::Hit) => count(&counts.hits),
                Ok(Read::Miss) => count(&counts.misses),
                Ok(Read::Wrong) => served.wrong += 1,
                Err(failure) => outcome = Err(failure),
            }
        }
        let samples = sampler.join().map_err(|_| Failure::run("taking samples panicked"))?;
        outcome.and(samples)
    });
    served.samples = samples?;
    link.answer(&served)
}

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Hit,
    Miss,
    Wrong,
}

/// One read. A miss waits, as for a disk or another machine, without using the processor, and is then put into the cache.
fn read(cache: Option<&dyn Peer>, key: u64, miss: Duration, values: &mut Values) -> Result<Read, Failure> {
    match cache.and_then(|cache| cache.check(key, Look::Lines)) {
        Some(true) => return Ok(Read::Hit),
        Some(false) => return Ok(Read::Wrong),
        None => {}
    }
    if !miss.is_zero() {
        thread::sleep(miss);
    }
    if let Some(cache) = cache {
        cache.insert(key, values.value(key))?;
    }
    Ok(Read::Miss)
}

/// One more, of a counter that only this thread writes.
fn count(counter: &AtomicU64) {
    // Relaxed: counts order nothing.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

fn sample_until_told(counts: &Counts) -> Result<Vec<Sample>, Failure> {
    let mut samples = Vec::new();
    let outcome = loop {
        match sample(counts) {
            Ok(sample) => samples.push(sample),
            Err(failure) => break Err(failure),
        }
        let stdin = rustix::stdio::stdin();
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&SAMPLE)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => break Ok(()),
            Err(errno) => break Err(Failure::run(format!("poll: {errno}"))),
        }
    };
    let last = sample(counts);
    // Relaxed: see the loop that looks at it.
    counts.stop.store(1, Ordering::Relaxed);
    outcome?;
    samples.push(last?);
    Ok(samples)
}

fn sample(counts: &Counts) -> Result<Sample, Failure> {
    // Relaxed: counts order nothing.
    let (hits, misses) = (counts.hits.load(Ordering::Relaxed), counts.misses.load(Ordering::Relaxed));
    Ok(Sample { at_ns: monotonic_ns(), hits, misses, resident_bytes: resident_bytes()? })
}

/// To some pages, but without a walk through all of them.
fn resident_bytes() -> Result<u64, Failure> {
    const STATM: &str = "/proc/self/statm";
    let text = std::fs::read_to_string(STATM).map_err(|error| Failure::io("reading", STATM, &error))?;
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| Failure::run(format!("{STATM} tells something strange")))?;
    Ok(pages * vrange_os::PAGE_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_is_cached_and_nothing_is_without_a_cache() {
        let size = Size { capacity_bytes: Some(1 << 20), value_bytes: 1024 };
        let cache = Kind::Moka.make(size).expect("little memory");
        let mut values = Values::of(1024);
        let mut get = |cache| read(cache, 7, Duration::ZERO, &mut values).expect("no failure");
        assert_eq!([get(Some(&*cache)), get(Some(&*cache))], [Read::Miss, Read::Hit]);
        assert_eq!([get(None), get(None)], [Read::Miss, Read::Miss]);
        cache.insert(7, Values::of(1024).value(8)).expect("there is room");
        assert_eq!(get(Some(&*cache)), Read::Wrong);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes().is_ok_and(|bytes| bytes > 0));
    }
}
