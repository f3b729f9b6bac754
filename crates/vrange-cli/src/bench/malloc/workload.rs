//! What the measured process does with its allocator.

use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use super::block::Block;
use crate::failure::Failure;
use crate::shuffle::Shuffle;

/// Blocks that are held at once in a round of `churn`, and their size.
const CHURN_BLOCKS: usize = 16;
const CHURN_BYTES: usize = 4 << 20;
/// Sizes of the copies in `search`.
const COPY_BYTES_MIN: usize = 1 << 20;
const COPY_BYTES_MAX: usize = 8 << 20;

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// 16 blocks of 4 MiB are allocated, each is filled, and all are freed: a program that works in phases. A record is one block.
    Churn,
    /// What the program ebizzy does, with large chunks: a copy of 1 to 8 MiB of sorted keys is made in fresh memory, one key is
    /// looked up in it, and it is freed: a server that answers requests. A record is one look-up.
    Search,
}

/// How a program takes a block from its allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// As it comes.
    AsItIs,
    /// It sets it to zero first.
    Cleared,
}

impl Fresh {
    fn block(self, bytes: usize) -> Result<Block, Failure> {
        let mut block = Block::allocate(bytes)?;
        if self == Self::Cleared {
            block.fill(0);
        }
        Ok(block)
    }
}

/// For how long something is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// First without counting, so that what is done once, such as the first growth of the heap, is done.
    pub(super) warm_up: Duration,
    /// Then with counting.
    pub(super) work: Duration,
}

impl Workload {
    /// As it is written on the command line and in rows.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Churn => "churn",
            Self::Search => "search",
        }
    }

    /// Does it in as many threads, and returns the records in a second of all of them together, and what `afterwards` finds.
    pub(super) fn run<T>(
        self,
        threads: u32,
        fresh: Fresh,
        pace: Pace,
        afterwards: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<(f64, T), Failure> {
        let keys = match self {
            Self::Churn => Vec::new(),
            Self::Search => keys(),
        };
        let job = |thread, started: &Barrier| {
            let mut shuffle = Shuffle::numbered(u64::from(thread));
            let mut byte = 0_u8;
            pace.rate(started, || match self {
                Self::Churn => {
                    byte = byte.wrapping_add(1);
                    churn(byte, fresh)
                }
                Self::Search => search(&keys, &mut shuffle, fresh),
            })
        };
        together(threads, job, afterwards)
    }
}

impl Pace {
    /// How often `round` is done in a second, in records.
    fn rate(
        self,
        started: &Barrier,
        mut round: impl FnMut() -> Result<u32, Failure>,
    ) -> Result<f64, Failure> {
        started.wait();
        let begin = Instant::now();
        while begin.elapsed() < self.warm_up {
            round()?;
        }
        let begin = Instant::now();
        let mut records = 0.0;
        loop {
            records += f64::from(round()?);
            let took = begin.elapsed();
            if took >= self.work {
                return Ok(records / took.as_secs_f64());
            }
        }
    }
}

/// Runs `job` in threads that start at the same time, the calling one among them, and adds up. Then the calling thread does what
/// comes `afterwards`, while the others stay: the end of a thread is an occasion on which allocators clean up, and those of a server
/// that has nothing to do only sleep.
fn together<T>(
    threads: u32,
    job: impl Fn(u32, &Barrier) -> Result<f64, Failure> + Sync,
    afterwards: impl FnOnce() -> Result<T, Failure>,
) -> Result<(f64, T), Failure> {
    let started = Barrier::new(usize::try_from(threads).unwrap_or(usize::MAX));
    let stay = Mutex::new(());
    let (job, started, stay) = (&job, &started, &stay);
    let not_yet = stay.lock();
    thread::scope(|scope| {
        let other = |thread| {
            scope.spawn(move || {
                let rate = job(thread, started);
                drop(stay.lock());
                rate
            })
        };
        let others: Vec<_> = (1..threads).map(other).collect();
        let first = job(0, started);
        let found = afterwards();
        drop(not_yet);
        let rates = others.into_iter().map(|other| {
            other.join().unwrap_or_else(|_| Err(Failure::run("a thread of the workload panicked")))
        });
        let rate = rates.chain([first]).sum::<Result<f64, Failure>>()?;
        Ok((rate, found?))
    })
}

fn churn(byte: u8, fresh: Fresh) -> Result<u32, Failure> {
    let mut blocks = Vec::with_capacity(CHURN_BLOCKS);
    for _ in 0..CHURN_BLOCKS {
        let mut block = fresh.block(CHURN_BYTES)?;
        block.fill(byte);
        blocks.push(block);
    }
    Ok(u32::try_from(blocks.len()).unwrap_or(u32::MAX))
}

/// Sorted, with gaps, as many as the largest copy holds.
fn keys() -> Vec<u64> {
    (0..).step_by(3).take(COPY_BYTES_MAX / size_of::<u64>()).collect()
}

fn search(keys: &[u64], shuffle: &mut Shuffle, fresh: Fresh) -> Result<u32, Failure> {
    let bytes = COPY_BYTES_MIN + shuffle.below(COPY_BYTES_MAX - COPY_BYTES_MIN);
    let mut block = fresh.block(bytes)?;
    let copy = block.copy_of(keys);
    let wanted = keys[shuffle.below(copy.len())];
    match copy.binary_search(&wanted) {
        Ok(_) => Ok(1),
        Err(_) => Err(Failure::run("the copy of the keys is not what was copied")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Pace = Pace { warm_up: Duration::ZERO, work: Duration::from_millis(1) };

    #[test]
    fn every_workload_gets_something_done() {
        for (workload, threads) in [(Workload::Churn, 1), (Workload::Search, 1), (Workload::Search, 2)] {
            for fresh in [Fresh::AsItIs, Fresh::Cleared] {
                let (rate, found) = workload.run(threads, fresh, SHORT, || Ok(7)).expect("there is memory");
                assert!(rate > 0.0, "{workload:?} in {threads} threads: {rate}");
                assert_eq!(found, 7);
            }
        }
    }

    #[test]
    fn a_thread_that_fails_fails_the_run() {
        let outcome = together(
            2,
            |thread, started| {
                started.wait();
                if thread == 0 { Ok(1.0) } else { Err(Failure::run("no memory")) }
            },
            || Ok(()),
        );
        assert!(outcome.is_err());
        assert_eq!(together(3, |_, _| Ok(2.0), || Ok(5)).ok(), Some((6.0, 5)));
    }
}
