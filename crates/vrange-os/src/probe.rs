//! What this kernel, and this process's permissions, allow: found out by trying, never by version number.

use std::io::Read;

use rustix::process::{Resource, getrlimit};

use crate::OsError;
use crate::linux::{AdviceSupport, Linux, ResidencyMethod};

/// Which memory is given huge pages.
pub(crate) const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// The answers. Reading them all takes a few milliseconds, a handful of system calls and one scratch page.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel_release: String,
    /// Offers: whether `madvise(MADV_FREE)` is taken, and in vectors.
    pub advice: AdviceSupport,
    /// How page residency is read, or why it cannot be (then nothing is offered, only released).
    pub residency: Result<ResidencyMethod, OsError>,
    /// The selected mode of `/sys/kernel/mm/transparent_hugepage/enabled`: `always`, `madvise` or `never`; `None` where
    /// the kernel has no transparent huge pages.
    pub huge_pages: Option<String>,
    /// Whether the multi-generational LRU is on (`/sys/kernel/mm/lru_gen/enabled`); `None` where it is not built in.
    pub multi_generational_lru: Option<bool>,
    /// Whether the KSM daemon merges pages now (`/sys/kernel/mm/ksm/run` is 1).
    pub ksm_running: bool,
    /// Soft limit of `RLIMIT_MEMLOCK` in bytes; `None` when unlimited.
    pub memlock_bytes: Option<u64>,
    /// Bytes of this process that are locked now (`VmLck`): locked memory cannot be offered.
    pub locked_bytes: u64,
    /// The mode of `vm.overcommit_memory`; 2 charges reserved address space.
    pub overcommit_mode: Option<u8>,
}

impl Probe {
    /// Tries everything.
    ///
    /// # Errors
    /// The kernel's page size is not the one that this library is built for.
    pub fn run() -> Result<Self, OsError> {
        let linux = Linux::get()?;
        Ok(Self {
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
            advice: linux.advice_support(),
            residency: linux.residency_method(),
            huge_pages: read(HUGE_PAGES).as_deref().and_then(selected).map(str::to_owned),
            multi_generational_lru: read("/sys/kernel/mm/lru_gen/enabled").map(|text| is_lru_gen_on(&text)),
            ksm_running: read("/sys/kernel/mm/ksm/run").is_some_and(|text| text.trim() == "1"),
            memlock_bytes: getrlimit(Resource::Memlock).current,
            locked_bytes: read("/proc/self/status").as_deref().and_then(locked_bytes).unwrap_or(0),
            overcommit_mode: read("/proc/sys/vm/overcommit_memory").and_then(|text| text.trim().parse().ok()),
        })
    }
}

/// A small kernel file, whole; `None` where it is missing or unreadable.
fn read(path: &str) -> Option<String> {
    const BYTES_MAX: u64 = 1 << 16;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The word in brackets: `always [madvise] never`.
pub(crate) fn selected(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word)
}

/// A bit mask such as `0x0007`, or `y`.
fn is_lru_gen_on(text: &str) -> bool {
    let text = text.trim();
    let mask = u32::from_str_radix(text.trim_start_matches("0x"), 16);
    text == "y" || mask.is_ok_and(|mask| mask & 1 != 0)
}

/// The `VmLck` line of `/proc/self/status`, which is in KiB.
fn locked_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_understood() {
        assert_eq!(selected("always [madvise] never\n"), Some("madvise"));
        assert_eq!(selected("always madvise"), None);
        assert!(is_lru_gen_on("0x0007\n"));
        assert!(!is_lru_gen_on("0x0000\n"));
        assert!(!is_lru_gen_on(""));
        assert_eq!(locked_bytes("VmPeak:\t 10 kB\nVmLck:\t       8 kB\n"), Some(8192));
        assert_eq!(locked_bytes("VmLck:\t18446744073709551615 kB"), None);
    }

    #[test]
    fn this_machine_can_be_probed() {
        let probe = Probe::run().expect("a supported page size");
        assert!(!probe.kernel_release.is_empty());
    }
}
