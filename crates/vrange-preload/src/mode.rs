//! What a mark means in this process: read from the environment once, when the library is loaded.

use std::sync::atomic::{AtomicU8, Ordering};

/// See the [crate].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The kernel is told at once; no MADV_NOVOLATILE is needed.
    Implicit,
    /// The program promises MADV_NOVOLATILE.
    Paired,
}

const VARIABLE: &str = "VRANGE_MODE";

/// 0: implicit, as long as nothing was read, and for good where nothing is set.
static PAIRED: AtomicU8 = AtomicU8::new(0);

pub(crate) fn mode() -> Mode {
    // Relaxed: set before the program's own code runs, and never again.
    if PAIRED.load(Ordering::Relaxed) == 1 { Mode::Paired } else { Mode::Implicit }
}

pub(crate) fn is_paired() -> bool {
    mode() == Mode::Paired
}

/// Reads the environment. Runs once, before `main`.
pub(crate) fn read() {
    match std::env::var_os(VARIABLE).as_deref().and_then(std::ffi::OsStr::to_str) {
        None | Some("" | "implicit") => {}
        // Relaxed: see `mode`.
        Some("paired") => PAIRED.store(1, Ordering::Relaxed),
        Some(other) => crate::complain(&format!(
            "{VARIABLE}={other} is not known, implicit is used; it may be `implicit` or `paired`"
        )),
    }
}
