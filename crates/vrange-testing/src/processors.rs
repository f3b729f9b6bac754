//! What each processor keeps for itself, and how to have it given up.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use vrange_os::linux::{Linux, page_out};
use vrange_os::{Placement, System};

/// Runs `work` on each processor that this thread may run on, one after the other.
pub fn on_each_processor(work: impl Fn()) {
    let allowed = sched_getaffinity(None).expect("the processors of this thread");
    for processor in (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)) {
        let mut one = CpuSet::new();
        one.set(processor);
        sched_setaffinity(None, &one).expect("a processor of this thread");
        work();
    }
    sched_setaffinity(None, &allowed).expect("the processors of this thread");
}

/// Empties the lists (of up to 31 pages) in which each processor's pages wait for their place in the kernel's, before an offer
/// can take effect, and in which offers wait. (`MADV_PAGEOUT` of anything empties those of the processor it runs on.)
pub fn drain_processors() {
    let linux = Linux::get().expect("this kernel");
    let page = linux.reserve(1, Placement::SmallPages, false).expect("a page");
    on_each_processor(|| page_out(page.span()).expect("a look at the page"));
    // SAFETY: made above, and known to nobody else.
    unsafe { linux.unmap(page) };
}
