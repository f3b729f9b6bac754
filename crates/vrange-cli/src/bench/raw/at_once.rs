//! Marks by which the kernel is told at once, and the bare call, on the same memory.

use std::time::Instant;

use rustix::io::Errno;
use rustix::mm::Advice;
use vrange::raw;

use super::Plan;
use super::op::Op;
use crate::bench::mapping::Mapping;
use crate::bench::samples::Samples;
use crate::failure::Failure;

/// The RFC's number.
const MADV_VOLATILE: i32 = 5;

/// A mapping that nobody has adopted.
#[derive(Debug)]
pub(super) struct AtOnce {
    memory: Mapping,
    plan: Plan,
    preloaded: bool,
}

impl AtOnce {
    pub(super) fn new(plan: Plan, preloaded: bool) -> Result<Self, Failure> {
        let memory = Mapping::new(plan.bytes * plan.pieces(), false)
            .map_err(|errno| Failure::run(format!("mapping memory: {errno}")))?;
        Ok(Self { memory, plan, preloaded })
    }

    /// A mark: as programs make it, if the library is preloaded.
    pub(super) fn mark(&self, samples: &mut Samples<Op>) -> Result<(), Failure> {
        self.time(samples, Op::MarkNow, |offset| {
            let start = self.memory.base().wrapping_add(offset);
            let done = if self.preloaded {
                // SAFETY: nobody uses the memory.
                // tidy: allow(banned-call): the function that is preloaded is what is measured.
                unsafe { libc::madvise(start.cast(), self.plan.bytes, MADV_VOLATILE) == 0 }
            } else {
                // SAFETY: as above.
                unsafe { raw::mark_now(start, self.plan.bytes) }.is_ok()
            };
            if done { Ok(()) } else { Err(Errno::INVAL) }
        })
    }

    /// The bare call.
    pub(super) fn free(&self, samples: &mut Samples<Op>) -> Result<(), Failure> {
        self.time(samples, Op::MadvFree, |offset| {
            self.memory.advise(offset, self.plan.bytes, Advice::LinuxFree)
        })
    }

    /// Writes to every page, and has `call` called for each piece.
    fn time(
        &self,
        samples: &mut Samples<Op>,
        op: Op,
        call: impl Fn(usize) -> Result<(), Errno>,
    ) -> Result<(), Failure> {
        self.memory.write_every_page();
        let begin = Instant::now();
        let outcome = (0..self.plan.pieces()).try_for_each(|piece| call(piece * self.plan.bytes));
        samples.add(op, begin.elapsed(), self.plan.pieces());
        outcome.map_err(|errno| Failure::run(format!("advice: {errno}")))
    }
}
