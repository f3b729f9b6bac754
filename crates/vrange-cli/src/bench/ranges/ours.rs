//! The library's own operations.

use std::hint::black_box;
use std::time::{Duration, Instant};

use vrange::{Buffer, Heap, Pinned};

use super::op::Op;
use crate::bench::samples::Samples;
use crate::failure::Failure;

/// Pins that are timed together: one alone is shorter than reading the clock.
const PAIRS: usize = 1000;

/// Ranges of one size, between two rounds all volatile and in memory.
#[derive(Debug)]
pub(super) struct Ours {
    heap: Heap,
    buffers: Vec<Buffer>,
    bytes: usize,
}

impl Ours {
    /// Makes the ranges in a heap as every user has it, reclaimer included, and fills them.
    pub(super) fn new(bytes: usize, ranges: usize) -> Result<Self, Failure> {
        let failed = |error: vrange::Error| Failure::run(format!("making a range: {error}"));
        let heap = Heap::new().map_err(failed)?;
        let buffers =
            (0..ranges).map(|_| heap.buffer(bytes)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let mut ours = Self { heap, buffers, bytes };
        for buffer in &mut ours.buffers {
            fill(buffer);
        }
        Ok(ours)
    }

    /// Does every operation once to every range.
    pub(super) fn round(&mut self, samples: &mut Samples<Op>) -> Result<(), Failure> {
        self.unpin_pin(samples);
        self.offer(samples)?;
        self.rescue(samples);
        // Fresh pages for each kind of offer: to offer a page again is cheaper, since the kernel keeps its place.
        self.release_and_refill(samples)?;
        self.offer_many(samples);
        self.release_and_refill(samples)
    }

    fn unpin_pin(&self, samples: &mut Samples<Op>) {
        let buffer = &self.buffers[0];
        let start = Instant::now();
        for _ in 0..PAIRS {
            if let Pinned::Intact(guard) = buffer.pin() {
                black_box(guard.as_ptr());
            }
        }
        samples.add(Op::UnpinPin, start.elapsed(), PAIRS);
    }

    fn offer(&self, samples: &mut Samples<Op>) -> Result<(), Failure> {
        let mut took = Duration::ZERO;
        for buffer in &self.buffers {
            let start = Instant::now();
            let offered = buffer.offer();
            took += start.elapsed();
            if !offered {
                return Err(Failure::run("a range could not be offered").hint("`vrange doctor` says why"));
            }
        }
        samples.add(Op::Offer, took, self.buffers.len());
        Ok(())
    }

    /// Pins everything that is offered. A round in which the machine took something counts for nothing.
    fn rescue(&mut self, samples: &mut Samples<Op>) {
        let mut took = Duration::ZERO;
        let mut lost = Vec::new();
        for (index, buffer) in self.buffers.iter().enumerate() {
            let start = Instant::now();
            let pinned = buffer.pin();
            took += start.elapsed();
            if let Pinned::Purged(_) = pinned {
                lost.push(index);
            }
        }
        for &index in &lost {
            fill(&mut self.buffers[index]);
        }
        if lost.is_empty() {
            samples.add(Op::Rescue, took, self.buffers.len());
        }
    }

    fn offer_many(&self, samples: &mut Samples<Op>) {
        let all_bytes = u64::try_from(self.bytes * self.buffers.len()).unwrap_or(u64::MAX);
        let start = Instant::now();
        let offered_bytes = self.heap.offer(all_bytes);
        let took = start.elapsed();
        if offered_bytes == all_bytes {
            samples.add(Op::OfferMany, took, self.buffers.len());
        }
    }

    fn release_and_refill(&mut self, samples: &mut Samples<Op>) -> Result<(), Failure> {
        let (mut released, mut refilled) = (Duration::ZERO, Duration::ZERO);
        let ranges = self.buffers.len();
        for buffer in &self.buffers {
            let start = Instant::now();
            let done = buffer.release();
            released += start.elapsed();
            if !done {
                return Err(Failure::run("a range that nobody has pinned could not be released"));
            }
        }
        for buffer in &mut self.buffers {
            let start = Instant::now();
            fill(buffer);
            refilled += start.elapsed();
        }
        samples.add(Op::Release, released, ranges);
        samples.add(Op::Refill, refilled, ranges);
        Ok(())
    }
}

/// Pins a range and writes every byte, whatever was there.
pub(super) fn fill(buffer: &mut Buffer) {
    match buffer.pin_mut() {
        Pinned::Intact(mut guard) => guard.fill(1),
        Pinned::Purged(purged) => drop(purged.refill(|bytes, _| bytes.fill(1))),
    }
}
