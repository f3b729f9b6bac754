//! The library's own calls.

use std::time::Instant;

use rustix::io::Errno;
use vrange::raw;

use super::Plan;
use super::op::Op;
use crate::bench::mapping::Mapping;
use crate::bench::samples::Samples;
use crate::failure::Failure;

/// Calls that are timed together: one alone is shorter than reading the clock.
pub(super) const CALLS: usize = 1000;

/// An adopted mapping whose pages are in memory.
#[derive(Debug)]
pub(super) struct Ours {
    adopted: Mapping,
    plan: Plan,
    preloaded: bool,
}

impl Ours {
    pub(super) fn new(plan: Plan, preloaded: bool) -> Result<Self, Failure> {
        let failed = |errno: Errno| Failure::run(format!("mapping memory: {errno}"));
        let adopted = Mapping::new(plan.mapping_bytes, false).map_err(failed)?;
        adopted.write_every_page();
        // SAFETY: private, anonymous, readable and writable; forgotten when this ends.
        unsafe { raw::adopt(adopted.base(), plan.mapping_bytes) }.map_err(|error| failed_call(&error))?;
        Ok(Self { adopted, plan, preloaded })
    }

    /// Does every operation.
    pub(super) fn round(&mut self, samples: &mut Samples<Op>) -> Result<(), Failure> {
        self.mark_and_unmark(samples)?;
        if self.preloaded {
            self.pass_through(samples);
        }
        Ok(())
    }

    fn mark_and_unmark(&self, samples: &mut Samples<Op>) -> Result<(), Failure> {
        // In the middle of the mapping, where a change of flags would split it in three.
        let start = self.adopted.base().wrapping_add(self.plan.offset_bytes());
        let calls = if self.plan.bytes > 1 << 20 { 1 } else { CALLS };
        let begin = Instant::now();
        // SAFETY: nobody uses the memory.
        unsafe { raw::mark(start, self.plan.bytes) }.map_err(|error| failed_call(&error))?;
        samples.add(Op::Mark, begin.elapsed(), 1);
        // SAFETY: as above.
        let _ = unsafe { raw::unmark(start, self.plan.bytes) }.map_err(|error| failed_call(&error))?;
        let begin = Instant::now();
        for _ in 0..calls {
            // SAFETY: as above.
            let marked = unsafe { raw::mark(start, self.plan.bytes) };
            // SAFETY: as above.
            let unmarked = unsafe { raw::unmark(start, self.plan.bytes) };
            std::hint::black_box((marked.is_ok(), unmarked.is_ok()));
        }
        samples.add(Op::MarkUnmark, begin.elapsed(), calls);
        Ok(())
    }

    fn pass_through(&self, samples: &mut Samples<Op>) {
        let start = self.adopted.base();
        let begin = Instant::now();
        for _ in 0..CALLS {
            // SAFETY: no advice to no bytes: the call itself and nothing else.
            // tidy: allow(banned-call): the function that is preloaded is what is measured.
            std::hint::black_box(unsafe { libc::madvise(start.cast(), 0, libc::MADV_NORMAL) });
        }
        samples.add(Op::PassThrough, begin.elapsed(), CALLS);
    }
}

fn failed_call(error: &vrange::Error) -> Failure {
    Failure::run(format!("a mark: {error}"))
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = raw::forget(self.adopted.base(), self.plan.mapping_bytes);
    }
}
