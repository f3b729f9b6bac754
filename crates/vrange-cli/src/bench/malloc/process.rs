//! The process that is measured: this program again, with another allocator before libc.

use std::ffi::CStr;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::workload::{Fresh, Pace};
use super::{lazy, version};
use crate::bench::memory;
use crate::command_line::MallocWorkOptions;
use crate::failure::Failure;
use crate::output;
use crate::parent;

/// What it tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) records_per_second: f64,
    /// Memory in use after the work and the rest that followed, if there was one.
    pub(super) resident_bytes: Option<u64>,
    /// The most that was in use at any time.
    pub(super) peak_bytes: u64,
    /// The file that `malloc` is from.
    pub(super) malloc_from: String,
    /// The file that `madvise` is from.
    pub(super) madvise_from: String,
    /// The allocator's version, if it tells.
    pub(super) version: Option<String>,
}

/// Works, rests, and reports.
pub(crate) fn run(options: &MallocWorkOptions) -> Result<(), Failure> {
    parent::end_with(options.parent)?;
    if options.lazy {
        lazy::install()?;
    }
    let pace = Pace {
        warm_up: Duration::from_millis(options.warm_up_ms),
        work: Duration::from_millis(options.work_ms),
    };
    let fresh = if options.clear { Fresh::Cleared } else { Fresh::AsItIs };
    let (records_per_second, (resident_bytes, peak_bytes)) =
        options.workload.run(options.threads, fresh, pace, || {
            Ok((options.rest_ms.map(resident_after).transpose()?, memory::peak_bytes()?))
        })?;
    let malloc_from = file_of(c"malloc");
    output::json(&Report {
        records_per_second,
        resident_bytes,
        peak_bytes,
        version: version::of_malloc(&malloc_from),
        malloc_from,
        madvise_from: file_of(c"madvise"),
    })
}

/// Memory in use when nothing has called the allocator for a while.
fn resident_after(rest_ms: u64) -> Result<u64, Failure> {
    thread::sleep(Duration::from_millis(rest_ms));
    memory::resident_bytes()
}

/// The file that defines a function for the whole process; empty if there is no such function.
fn file_of(function: &CStr) -> String {
    // SAFETY: the name is a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, function.as_ptr()) };
    let mut found = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: any address may be asked for, and `found` is a place for the answer.
    let known = unsafe { libc::dladdr(address, &raw mut found) } != 0;
    if !known || found.dli_fname.is_null() {
        return String::new();
    }
    // SAFETY: the dynamic linker says that this is the name of a file that it has loaded, which stays as long as the file.
    let name = unsafe { CStr::from_ptr(found.dli_fname) };
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_traced_to_their_files() {
        assert!(file_of(c"malloc").contains(".so"), "{}", file_of(c"malloc"));
        assert_eq!(file_of(c"no_such_function_anywhere"), "");
    }
}
