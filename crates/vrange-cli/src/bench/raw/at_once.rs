//! Marks by which the kernel is told at once, and the bare call, on the same memory.

use std::time::Instant;

use rustix::io::Errno;
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

    /// Both, each as often first as the other: whoever comes first finds the caches full of something else.
    pub(super) fn round(&self, samples: &mut Samples<Op>, turn: u32) -> Result<(), Failure> {
        if turn.is_multiple_of(2) {
            self.mark(samples)?;
            self.free(samples)
        } else {
            self.free(samples)?;
            self.mark(samples)
        }
    }

    /// A mark: as programs make it, if the library is preloaded.
    fn mark(&self, samples: &mut Samples<Op>) -> Result<(), Failure> {
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

    /// The bare call, by a function of libc, as programs make it, and past the preloaded one. (A system call that is compiled into
    /// the loop takes 0.3 µs less on some processors: the return from a function behind a system call is not predicted.)
    fn free(&self, samples: &mut Samples<Op>) -> Result<(), Failure> {
        self.time(samples, Op::MadvFree, |offset| {
            let start = self.memory.base().wrapping_add(offset);
            // SAFETY: nobody uses the memory.
            let answer = unsafe { libc::syscall(libc::SYS_madvise, start, self.plan.bytes, libc::MADV_FREE) };
            if answer == 0 { Ok(()) } else { Err(Errno::INVAL) }
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
