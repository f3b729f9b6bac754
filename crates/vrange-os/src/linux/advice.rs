//! Page advice that destroys contents: the offer, one by one or vectored, and the release.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, madvise, munlock};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::descriptors::DescriptorPerProcess;
use crate::system::Offered;
use crate::{OsError, Placement, Span};

const OFFER: &str = "madvise(MADV_FREE)";
const OFFER_VECTOR: &str = "process_madvise(MADV_FREE)";
const RELEASE: &str = "madvise(MADV_DONTNEED)";

/// `PIDFD_SELF`: "this process" without a descriptor (Linux 6.14).
const PIDFD_SELF: i32 = -10_000;
/// Vectors that one `process_madvise` takes (`UIO_MAXIOV`).
const VECTORS_MAX: usize = 1024;
/// Is every mapping of this process open to KSM (Linux 6.4)?
const PR_GET_MEMORY_MERGE: i32 = 68;

/// Which forms of destructive advice this kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdviceSupport {
    /// `madvise(MADV_FREE)` on private anonymous memory (Linux 4.5), or what the kernel (or a seccomp filter) said.
    pub offer: Result<(), OsError>,
    /// `process_madvise(MADV_FREE)` on ourselves, many ranges in one call (Linux 6.13), and how we name ourselves.
    pub vectored: Option<Vectored>,
}

/// How `process_madvise` is told that the process is ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectored {
    /// By `PIDFD_SELF`, no descriptor (Linux 6.14).
    PidfdSelf,
    /// By a descriptor from `pidfd_open` (Linux 6.13).
    Descriptor,
}

// Numbers for `Caller::vectored`.
const UNKNOWN: u8 = 0;
const NONE: u8 = 1;
const BY_ITSELF: u8 = 2;
const BY_DESCRIPTOR: u8 = 3;

/// Calls the kernel in the best form it takes.
#[derive(Debug)]
pub(super) struct Caller {
    /// What [`Vectored`] there is, as a number. Kept without a lock, which a child of a process that forks meanwhile would never have.
    vectored: AtomicU8,
    pidfd: DescriptorPerProcess,
}

impl Caller {
    pub(super) const fn new() -> Self {
        Self { vectored: AtomicU8::new(UNKNOWN), pidfd: DescriptorPerProcess::new() }
    }

    fn vectored(&self) -> Option<Vectored> {
        // Relaxed, both: the number is all there is. Of several threads that come first, each finds it out.
        match self.vectored.load(Ordering::Relaxed) {
            UNKNOWN => {
                let vectored = self.support().vectored;
                let number = match vectored {
                    None => NONE,
                    Some(Vectored::PidfdSelf) => BY_ITSELF,
                    Some(Vectored::Descriptor) => BY_DESCRIPTOR,
                };
                self.vectored.store(number, Ordering::Relaxed);
                vectored
            }
            BY_ITSELF => Some(Vectored::PidfdSelf),
            BY_DESCRIPTOR => Some(Vectored::Descriptor),
            _ => None,
        }
    }

    /// Tries each form on a page of its own.
    pub(super) fn support(&self) -> AdviceSupport {
        let mut vectored = None;
        let offer = on_scratch_page(|span| {
            // SAFETY: a page mapped for this purpose; it holds nothing.
            unsafe { offer_one(span) }?;
            let forms = [Vectored::PidfdSelf, Vectored::Descriptor];
            vectored = forms.into_iter().find(|form| {
                // SAFETY: as above.
                unsafe { self.offer_vector(*form, &[span]) }.is_ok_and(|pages| pages == 1)
            });
            Ok(())
        });
        AdviceSupport { offer: offer.and_then(|outcome| outcome), vectored }
    }

    /// See [`System::offer`](crate::System::offer).
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn offer(&self, spans: &[Span]) -> Offered {
        if let Err(error) = forbid_merging(spans) {
            return Offered { pages: 0, stopped_by: Some(error) };
        }
        let mut pages = 0;
        let mut left = spans;
        if left.len() > 1
            && let Some(form) = self.vectored()
        {
            while !left.is_empty() {
                let batch = &left[..left.len().min(VECTORS_MAX)];
                let wanted: usize = batch.iter().map(Span::pages).sum();
                // SAFETY: passed on from the caller.
                match unsafe { self.offer_vector(form, batch) } {
                    Ok(done) if done == wanted => pages += done,
                    // Short counts and refusals: the loop below offers the batch again from its start, one by one
                    // (a second offer of the same page changes nothing), and finds where and why it stops.
                    Ok(_) | Err(_) => break,
                }
                left = &left[batch.len()..];
            }
        }
        for span in left {
            // SAFETY: passed on from the caller.
            match unsafe { offer_one(*span) } {
                Ok(()) => pages += span.pages(),
                Err(error) => return Offered { pages, stopped_by: Some(error) },
            }
        }
        Offered { pages, stopped_by: None }
    }

    /// One `process_madvise`. Returns the pages advised.
    ///
    /// # Safety
    /// As for [`offer`](Self::offer).
    unsafe fn offer_vector(&self, form: Vectored, spans: &[Span]) -> Result<usize, OsError> {
        let pidfd = match form {
            Vectored::PidfdSelf => PIDFD_SELF,
            Vectored::Descriptor => self
                .pidfd
                .get_or_try_open(|| pidfd_open(getpid(), PidfdFlags::empty()).map(|pidfd| (pidfd, true)))
                .map_err(|errno| OsError::new("pidfd_open", errno))?
                .0
                .as_raw_fd(),
        };
        let mut vectors = [const { libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 } }; VECTORS_MAX];
        for (vector, span) in vectors.iter_mut().zip(spans) {
            vector.iov_base = std::ptr::without_provenance_mut(span.address());
            vector.iov_len = span.bytes();
        }
        let count = spans.len().min(VECTORS_MAX);
        // SAFETY: the vectors outlive the call; that the memory may be lost is passed on from the caller.
        let advised = unsafe {
            libc::syscall(libc::SYS_process_madvise, pidfd, vectors.as_ptr(), count, libc::MADV_FREE, 0)
        };
        match usize::try_from(advised) {
            Ok(bytes) => Ok(Span::pages_for(bytes)),
            Err(_) => Err(OsError::new(OFFER_VECTOR, OsError::last_errno())),
        }
    }
}

/// Tries something on a page made for it, which is gone afterwards. The page is not locked, even in a process that has all its
/// memory locked: what is to be found out is what the kernel takes, not what this process has forbidden itself.
///
/// # Errors
/// There is no address space for the page.
pub(super) fn on_scratch_page<T>(attempt: impl FnOnce(Span) -> T) -> Result<T, OsError> {
    let page = super::mapping::reserve(1, Placement::SmallPages, false)?;
    // SAFETY: changes no contents. A failure means that a filter forbids the call; memory is rarely locked there.
    let _ = unsafe { munlock(page.base().cast(), page.span().bytes()) };
    let outcome = attempt(page.span());
    // SAFETY: nobody else knows the page.
    unsafe { super::mapping::unmap(&page) };
    Ok(outcome)
}

/// `prctl(PR_SET_MEMORY_MERGE)` opens mappings to KSM that had been closed to it when they were made. An offered page
/// that KSM shares would drag others along, so they are closed again; that also takes the shared copies apart.
///
/// # Errors
/// Taking copies apart needs memory, and there may be none: then nothing may be offered.
fn forbid_merging(spans: &[Span]) -> Result<(), OsError> {
    // SAFETY: only reads a flag of the process.
    let merging = unsafe { libc::prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) };
    if merging != 1 {
        return Ok(());
    }
    spans.iter().try_for_each(|span| {
        // SAFETY: does not change the contents of memory.
        unsafe { advise(*span, Advice::LinuxUnmergeable) }
            .map_err(|errno| OsError::new("madvise(MADV_UNMERGEABLE)", errno))
    })
}

/// Hands pages to the kernel with one system call and nothing else: see [`System::offer`](crate::System::offer).
///
/// # Safety
/// As there, and KSM does not merge the pages: the kernel would take others that were merged with them along.
///
/// # Errors
/// What the kernel answered.
pub unsafe fn offer_unmerged(span: Span) -> Result<(), OsError> {
    // SAFETY: passed on from the caller.
    unsafe { offer_one(span) }
}

/// # Safety
/// As for [`Caller::offer`].
unsafe fn offer_one(span: Span) -> Result<(), OsError> {
    // SAFETY: passed on from the caller.
    unsafe { advise(span, Advice::LinuxFree) }.map_err(|errno| OsError::new(OFFER, errno))
}

/// Drops pages at once, if they are not locked; they read as zeros afterwards (`madvise(MADV_DONTNEED)`).
///
/// # Safety
/// As for [`System::release`](crate::System::release).
///
/// # Errors
/// What the kernel answered: `EINVAL` where some of the memory is locked. What lies before that may have been dropped.
pub unsafe fn release_unlocked(span: Span) -> Result<(), OsError> {
    // SAFETY: passed on from the caller.
    unsafe { advise(span, Advice::LinuxDontNeed) }.map_err(|errno| OsError::new(RELEASE, errno))
}

/// See [`System::release`](crate::System::release).
///
/// # Safety
/// As there.
pub(super) unsafe fn release(span: Span) -> Result<(), OsError> {
    // SAFETY: passed on from the caller.
    match unsafe { advise(span, Advice::LinuxDontNeed) } {
        // Locked memory (mlock, mlockall): the owner asks by name for this memory to be dropped, and nothing else is
        // promised about it. MADV_DONTNEED_LOCKED exists since Linux 5.18.
        // SAFETY: passed on from the caller.
        Err(Errno::INVAL) => match unsafe { libc_advise(span, libc::MADV_DONTNEED_LOCKED) } {
            Ok(()) => Ok(()),
            Err(_) => Err(OsError::new(RELEASE, Errno::INVAL)),
        },
        other => other.map_err(|errno| OsError::new(RELEASE, errno)),
    }
}

/// Asks the kernel to reclaim pages now (`madvise(MADV_PAGEOUT)`, Linux 5.4). Offered pages are dropped at once, with
/// and without swap; dirty pages stay where there is no swap. The lever by which loss can be shown without pressure.
///
/// # Errors
/// What the kernel answered.
pub fn page_out(span: Span) -> Result<(), OsError> {
    // SAFETY: reclaim keeps the contents of memory that was not offered; offered memory may vanish at any time anyway.
    unsafe { advise(span, Advice::LinuxPageOut) }
        .map_err(|errno| OsError::new("madvise(MADV_PAGEOUT)", errno))
}

/// Makes pages dirty without a store of ours, so that an offer of them is over (`madvise(MADV_POPULATE_WRITE)`, Linux 5.14).
/// Pages that are not there are brought in as zeros.
///
/// # Errors
/// `ENOSYS`: the kernel has no such advice. `EACCES`: the memory cannot be written to. Others as the kernel answered, for
/// example where nothing is mapped (`ENOMEM`).
pub fn make_dirty(span: Span) -> Result<(), OsError> {
    // SAFETY: changes no contents.
    let outcome = unsafe { advise(span, Advice::LinuxPopulateWrite) }.map_err(|errno| match errno {
        Errno::INVAL if !knows_populate_write() => Errno::NOSYS,
        Errno::INVAL | Errno::FAULT => Errno::ACCESS,
        other => other,
    });
    outcome.map_err(|errno| OsError::new("madvise(MADV_POPULATE_WRITE)", errno))
}

/// Tries it on memory that can be written to for certain.
fn knows_populate_write() -> bool {
    let mut word = 0u64;
    let page = (&raw mut word).addr() & !(crate::PAGE_BYTES - 1);
    // SAFETY: a page of this thread's stack; changes no contents.
    unsafe { advise(Span::new(page, 1), Advice::LinuxPopulateWrite) }.is_ok()
}

/// Closes memory to KSM, which takes live pages along with an offered one that it has merged. A kernel without KSM has
/// nothing to close.
///
/// # Errors
/// Taking shared copies apart needs memory, and there is none (`ENOMEM`, `EAGAIN`).
pub fn close_to_merging(span: Span) -> Result<(), OsError> {
    // SAFETY: changes no contents.
    match unsafe { advise(span, Advice::LinuxUnmergeable) } {
        // What else is wrong with the span, an offer of it will tell.
        Ok(()) | Err(Errno::INVAL | Errno::NOMEM) => Ok(()),
        Err(errno) => Err(OsError::new("madvise(MADV_UNMERGEABLE)", errno)),
    }
}

/// # Safety
/// The span is memory of this process, and what `advice` does to its contents is wanted.
unsafe fn advise(span: Span, advice: Advice) -> Result<(), Errno> {
    let address = std::ptr::without_provenance_mut(span.address());
    loop {
        // SAFETY: passed on from the caller.
        match unsafe { madvise(address, span.bytes(), advice) } {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// [`advise`] for advice that the wrapper has no name for.
///
/// # Safety
/// As there.
pub(super) unsafe fn libc_advise(span: Span, advice: i32) -> Result<(), Errno> {
    // SAFETY: passed on from the caller. The system call itself, so that a preloaded `madvise` is not asked.
    let answer = unsafe { libc::syscall(libc::SYS_madvise, span.address(), span.bytes(), advice) };
    if answer == 0 { Ok(()) } else { Err(OsError::last_errno()) }
}
