//! What one would do without the library.

use std::time::Instant;

use rustix::io::Errno;
use rustix::mm::Advice;

use super::Plan;
use super::op::Op;
use super::ours::CALLS;
use crate::bench::mapping::Mapping;
use crate::bench::samples::Samples;
use crate::failure::Failure;

/// Pairs of flag changes that are timed together.
const FLAG_PAIRS: usize = 16;

type Madvise = unsafe extern "C" fn(*mut libc::c_void, libc::size_t, libc::c_int) -> libc::c_int;

/// Memory with nothing to it, laid out as ours is.
#[derive(Debug)]
pub(super) struct Peers {
    large: Mapping,
    plan: Plan,
    /// libc's own function, where ours stands before it.
    madvise: Option<Madvise>,
}

impl Peers {
    pub(super) fn new(plan: Plan, preloaded: bool) -> Result<Self, Failure> {
        let failed = |errno: Errno| Failure::run(format!("mapping memory to compare with: {errno}"));
        let large = Mapping::new(plan.mapping_bytes, false).map_err(failed)?;
        large.write_every_page();
        Ok(Self { large, plan, madvise: if preloaded { Some(madvise_of_libc()?) } else { None } })
    }

    /// Does every operation.
    pub(super) fn round(&mut self, samples: &mut Samples<Op>) -> Result<(), Failure> {
        let failed = |errno: Errno| Failure::run(format!("advice to compare with: {errno}"));
        self.vma_flag_pairs(samples).map_err(failed)?;
        if let Some(madvise) = self.madvise {
            let start = self.large.base();
            let begin = Instant::now();
            for _ in 0..CALLS {
                // SAFETY: no advice to no bytes, as for ours.
                std::hint::black_box(unsafe { madvise(start.cast(), 0, libc::MADV_NORMAL) });
            }
            samples.add(Op::OtherAdvice, begin.elapsed(), CALLS);
        }
        Ok(())
    }

    fn vma_flag_pairs(&self, samples: &mut Samples<Op>) -> Result<(), Errno> {
        let (bytes, offset) = (self.plan.bytes, self.plan.offset_bytes());
        let begin = Instant::now();
        for _ in 0..FLAG_PAIRS {
            self.large.advise(offset, bytes, Advice::LinuxDontDump)?;
            self.large.advise(offset, bytes, Advice::LinuxDoDump)?;
        }
        samples.add(Op::VmaFlagPair, begin.elapsed(), FLAG_PAIRS);
        Ok(())
    }
}

/// The function in libc itself, past whatever is preloaded.
fn madvise_of_libc() -> Result<Madvise, Failure> {
    // SAFETY: the name ends with a zero byte; libc is loaded already, and stays.
    let libc = unsafe { libc::dlopen(c"libc.so.6".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    if libc.is_null() {
        return Err(Failure::run("libc.so.6 is not what this command is linked to"));
    }
    // SAFETY: a handle that was just given, and a name that ends with a zero byte.
    let found = unsafe { libc::dlsym(libc, c"madvise".as_ptr()) };
    if found.is_null() {
        return Err(Failure::run("libc has no madvise"));
    }
    // SAFETY: the function of this name has this type.
    Ok(unsafe { std::mem::transmute::<*mut libc::c_void, Madvise>(found) })
}
