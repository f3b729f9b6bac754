//! Huge pages for memory that is in small ones.

use rustix::fs::{Mode, OFlags};

use super::advice::libc_advise;
use crate::probe::{HUGE_PAGES, selected};
use crate::{OsError, Span};

/// `MADV_COLLAPSE` of `linux/mman.h` (Linux 6.1).
const MADV_COLLAPSE: i32 = 25;
/// Linux 6.8.
const OF_THIS_SIZE: &str = "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled";

/// Moves the contents of a span, which begins and ends at huge pages, into such, at once (`madvise(MADV_COLLAPSE)`, Linux 6.1). What is not
/// in memory is brought in as zeros; what is shared with forked processes is copied. Costs nothing where they are huge; otherwise a copy,
/// about half a millisecond each, during which threads that fault near it wait, and those that map or unmap anything; before that the kernel
/// waits a moment for all processors. Where memory is short or in pieces it tries hard. Done whatever the administrator has chosen:
/// see [`are_huge_pages_given`].
///
/// # Errors
/// `EINVAL`: the kernel has no such advice, or the memory is not to be in huge pages (`MADV_NOHUGEPAGE`, `prctl(PR_SET_THP_DISABLE)`).
/// `EAGAIN`: a page is in use by the kernel. `ENOMEM`, `EBUSY`: there is no huge page to be had, or no room in the cgroup. Some may have
/// been moved.
pub fn collapse(span: Span) -> Result<(), OsError> {
    // SAFETY: changes no contents.
    unsafe { libc_advise(span, MADV_COLLAPSE) }.map_err(|errno| OsError::new("madvise(MADV_COLLAPSE)", errno))
}

/// Does the kernel give this process huge pages if it asks for them, as the administrator has chosen? A system call, and one or two small
/// files; allocates nothing.
pub fn are_huge_pages_given() -> bool {
    // SAFETY: only reads flags of the process. (1: none at all. An old kernel says that there are no such flags.)
    let are_forbidden = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) } == 1;
    !are_forbidden && is_given(OF_THIS_SIZE).or_else(|| is_given(HUGE_PAGES)).unwrap_or(false)
}

/// What a setting says, if it says it for itself.
fn is_given(setting: &str) -> Option<bool> {
    let file = rustix::fs::open(setting, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 128];
    let bytes = rustix::io::read(&file, &mut text).ok()?;
    match selected(std::str::from_utf8(text.get(..bytes)?).ok()?)? {
        "inherit" => None,
        mode => Some(mode != "never"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_says_whether_there_are_huge_pages() {
        let folder = tempfile::tempdir().expect("a folder");
        let setting = folder.path().join("enabled");
        let says = |text: &str| {
            std::fs::write(&setting, text).expect("a file");
            is_given(setting.to_str().expect("text"))
        };
        assert_eq!(says("always [madvise] never\n"), Some(true));
        assert_eq!(says("always madvise [never]\n"), Some(false));
        assert_eq!(says("always [inherit] madvise never\n"), None);
        assert_eq!((says(""), is_given("/nowhere")), (None, None));
    }
}
