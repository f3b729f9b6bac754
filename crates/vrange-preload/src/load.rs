//! What happens when the library is loaded.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{allocators, mappings, mode, next};

/// Whether all was done. Relaxed: before there are other threads.
static DONE: AtomicBool = AtomicBool::new(false);

/// Runs before `main`, and before other libraries' functions of this kind where those depend on this one.
extern "C" fn load() {
    prepare();
    allocators::load();
}

/// What has to be done before anything else, once.
pub(crate) fn prepare() {
    // Relaxed: see `DONE`.
    if DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: before the first allocation: nothing of this library has run.
    unsafe { dlmalloc::enable_alloc_after_fork() };
    // After those of this library's allocator, and so before them in a fork: they wait for the reclaimer, which allocates.
    vrange::raw::at_load();
    next::find_all();
    mode::read();
    mappings::look_for_merging();
}

/// With a priority: in `libvrange_mimalloc.so` it comes after that library's own, which has the next lower one, and before mimalloc's, which has
/// none, in whatever order they are linked.
#[used]
#[unsafe(link_section = ".init_array.00201")]
static LOAD: extern "C" fn() = load;
