//! What one would do without the library, at its best: the same pages, huge where ours are, and no more work than needed.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mm::Advice;
use vrange_os::{HUGE_PAGE_BYTES, PAGE_BYTES};

use super::op::Op;
use crate::bench::mapping::Mapping;
use crate::bench::samples::Samples;
use crate::failure::Failure;

/// What a tag is. Odd, so that it is never zero and can be told from what an aligned pointer would be.
const TAG: u64 = 0x7461_6701;

/// Pairs of flag changes that are timed together.
const FLAG_PAIRS: usize = 16;

/// Memory with nothing to it.
#[derive(Debug)]
pub(super) struct Peers {
    /// All ranges, one behind the other.
    memory: Mapping,
    /// One range that is a mapping by itself, as far from others as the kernel needs to leave it alone.
    alone: Mapping,
    bytes: usize,
    ranges: usize,
    /// The words that tags stand in for.
    replaced: Vec<u64>,
}

impl Peers {
    /// Maps and fills the memory.
    pub(super) fn new(bytes: usize, ranges: usize) -> Result<Self, Failure> {
        let failed = |errno: Errno| Failure::run(format!("mapping memory to compare with: {errno}"));
        let memory = Mapping::new(bytes * ranges, bytes >= HUGE_PAGE_BYTES).map_err(failed)?;
        let alone = Mapping::new(bytes, bytes >= HUGE_PAGE_BYTES).map_err(failed)?;
        memory.write_every_page();
        alone.write_every_page();
        Ok(Self { memory, alone, bytes, ranges, replaced: vec![0; bytes / PAGE_BYTES] })
    }

    /// Does every operation once to every range.
    pub(super) fn round(&mut self, samples: &mut Samples<Op>) -> Result<(), Failure> {
        let failed = |errno: Errno| Failure::run(format!("advice to compare with: {errno}"));
        self.tag_pages(samples);
        self.vma_flag_pairs(samples).map_err(failed)?;
        samples.add(Op::MadvFree, self.advise_each(Advice::LinuxFree).map_err(failed)?, self.ranges);
        samples.add(Op::FreeRetouch, self.touch(), self.ranges);
        samples.add(Op::DontNeed, self.advise_each(Advice::LinuxDontNeed).map_err(failed)?, self.ranges);
        samples.add(Op::Refault, self.touch(), self.ranges);
        Ok(())
    }

    fn advise_each(&self, advice: Advice) -> Result<Duration, Errno> {
        let mut took = Duration::ZERO;
        for range in 0..self.ranges {
            let start = Instant::now();
            self.memory.advise(range * self.bytes, self.bytes, advice)?;
            took += start.elapsed();
        }
        Ok(took)
    }

    fn touch(&self) -> Duration {
        let start = Instant::now();
        self.memory.write_every_page();
        start.elapsed()
    }

    /// The call that would carry a volatile flag would cost this much.
    fn vma_flag_pairs(&self, samples: &mut Samples<Op>) -> Result<(), Errno> {
        let start = Instant::now();
        for _ in 0..FLAG_PAIRS {
            self.alone.advise(0, self.bytes, Advice::LinuxDontDump)?;
            self.alone.advise(0, self.bytes, Advice::LinuxDoDump)?;
        }
        samples.add(Op::VmaFlagPair, start.elapsed(), FLAG_PAIRS);
        Ok(())
    }

    /// What libraries do that look for a tag to tell whether a page was discarded. Without the advice itself.
    fn tag_pages(&mut self, samples: &mut Samples<Op>) {
        let start = Instant::now();
        for (page, replaced) in self.replaced.iter_mut().enumerate() {
            *replaced = self.alone.swap_word(page * PAGE_BYTES, TAG);
        }
        let mut lost_pages = 0_usize;
        for (page, replaced) in self.replaced.iter().enumerate() {
            lost_pages += usize::from(self.alone.swap_word(page * PAGE_BYTES, *replaced) != TAG);
        }
        let took = start.elapsed();
        if std::hint::black_box(lost_pages) == 0 {
            samples.add(Op::TagPages, took, 1);
        }
    }
}
