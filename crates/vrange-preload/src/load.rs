//! What happens when the library is loaded.

use crate::{allocators, mappings, mode, next};

/// Runs before `main`, and before other libraries' functions of this kind where those depend on this one.
extern "C" fn load() {
    // SAFETY: before the first allocation: nothing of this library has run.
    unsafe { dlmalloc::enable_alloc_after_fork() };
    next::find_all();
    mode::read();
    mappings::look_for_merging();
    allocators::load();
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;
