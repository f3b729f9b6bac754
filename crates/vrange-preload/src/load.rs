//! What happens when the library is loaded.

use crate::{mappings, mode, next};

/// Runs before `main`, and before other libraries' functions of this kind where those depend on this one.
extern "C" fn load() {
    next::find_all();
    mode::read();
    mappings::look_for_merging();
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;
