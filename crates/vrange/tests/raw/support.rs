//! Mappings with known contents, and the lever that makes the kernel take offered pages.

use std::ptr::null_mut;
use std::time::{Duration, Instant};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use vrange::raw::{self, Mark};
use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::drain_processors;

/// Pages whose marks are kept together, which begin at an address that is a multiple of so many.
pub(crate) const BLOCK: usize = 1024;

/// A private anonymous mapping, unmapped at the end.
pub(crate) struct Mapping {
    base: *mut u8,
    pages: usize,
}

// SAFETY: an address and a length; the tests keep threads to pages of their own.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Memory that the library does not know.
    pub(crate) fn new(pages: usize) -> Self {
        Self::place(null_mut(), pages, MapFlags::empty())
    }

    /// Memory whose end is told to the library.
    pub(crate) fn adopted(pages: usize) -> Self {
        let mapping = Self::new(pages);
        mapping.adopt();
        mapping
    }

    /// At a certain address.
    pub(crate) fn at(base: *mut u8, pages: usize) -> Self {
        let mapping = Self::place(base, pages, MapFlags::FIXED_NOREPLACE);
        assert_eq!(mapping.base, base, "the address was free a moment ago");
        mapping
    }

    fn place(base: *mut u8, pages: usize, flags: MapFlags) -> Self {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | flags);
        // SAFETY: never over memory in use.
        let base = unsafe { mmap_anonymous(base.cast(), pages * PAGE_BYTES, protection, flags) };
        let base = base.expect("address space");
        // Pages that were never written to are counted. Where the kernel has no huge pages it refuses.
        // SAFETY: changes no contents.
        let _ = unsafe { madvise(base, pages * PAGE_BYTES, Advice::LinuxNoHugepage) };
        Self { base: base.cast(), pages }
    }

    pub(crate) fn adopt(&self) {
        // SAFETY: private, anonymous, readable and writable; told of its end when dropped.
        unsafe { raw::adopt(self.base, self.pages * PAGE_BYTES) }.expect("to be adopted");
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pages * PAGE_BYTES
    }

    pub(crate) fn at_page(&self, page: usize) -> *mut u8 {
        self.base.wrapping_add(page * PAGE_BYTES)
    }

    /// The page with which the first block begins that lies in the mapping from its start on.
    pub(crate) fn first_block(&self) -> usize {
        (BLOCK - self.base.addr() / PAGE_BYTES % BLOCK) % BLOCK
    }

    fn word(&self, page: usize) -> *mut u64 {
        // Somewhere in the page, not always at its start.
        self.at_page(page).wrapping_add(page % 500 * 8).cast()
    }

    /// Writes a number to a page; 0 makes it blank.
    pub(crate) fn write(&self, page: usize, value: u64) {
        // SAFETY: inside the mapping, which only the test knows.
        unsafe { self.word(page).write_volatile(value) };
    }

    pub(crate) fn read(&self, page: usize) -> u64 {
        // SAFETY: as above.
        unsafe { self.word(page).read_volatile() }
    }

    /// Writes a number of its own to each page.
    pub(crate) fn fill(&self, pages: std::ops::Range<usize>, seed: u64) {
        pages.for_each(|page| self.write(page, seed + page as u64));
    }

    #[track_caller]
    pub(crate) fn assert_filled(&self, pages: std::ops::Range<usize>, seed: u64) {
        for page in pages {
            assert_eq!(self.read(page), seed + page as u64, "page {page}");
        }
    }

    /// Marks pages, which the kernel can take at once if the library does not know them.
    pub(crate) fn mark_and_drain(&self, pages: std::ops::Range<usize>) {
        drain_processors();
        self.mark(pages);
        drain_processors();
    }

    pub(crate) fn mark(&self, pages: std::ops::Range<usize>) {
        // SAFETY: the test does not touch the pages until they are unmarked.
        unsafe { raw::mark(self.at_page(pages.start), pages.len() * PAGE_BYTES) }.expect("a mark");
    }

    /// Unmarks pages, and returns those that were lost.
    pub(crate) fn unmark(&self, pages: std::ops::Range<usize>) -> Vec<usize> {
        let mut lost = Vec::new();
        // SAFETY: nobody stores to the pages meanwhile.
        unsafe {
            raw::unmark_each(self.at_page(pages.start), pages.len() * PAGE_BYTES, |page| {
                lost.push(pages.start + page);
            })
        }
        .expect("the end of a mark");
        lost.sort_unstable();
        lost
    }

    /// Offers all that is marked in this process, and this memory for certain: another test may be offering the same blocks.
    pub(crate) fn offer(&self) {
        drain_processors();
        let is_fresh = || {
            let mut fresh = false;
            raw::query(self.base, self.pages * PAGE_BYTES, |_, mark| fresh |= mark == Mark::Fresh)
                .expect("a range");
            fresh
        };
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            raw::offer(u64::MAX).expect("an offer");
            if !is_fresh() {
                break;
            }
            assert!(Instant::now() < until, "marked pages were not offered");
            std::thread::yield_now();
        }
        drain_processors();
    }

    pub(crate) fn span(&self, pages: std::ops::Range<usize>) -> Span {
        Span::new(self.at_page(pages.start).addr(), pages.len())
    }

    /// Has the kernel take what it may take of these pages.
    pub(crate) fn take(&self, pages: std::ops::Range<usize>) {
        page_out(self.span(pages)).expect("a reclaim");
    }

    pub(crate) fn protect(&self, pages: std::ops::Range<usize>, protection: MprotectFlags) {
        let (start, bytes) = (self.at_page(pages.start), pages.len() * PAGE_BYTES);
        // SAFETY: memory of the test.
        unsafe { mprotect(start.cast(), bytes, protection) }.expect("to be protected");
    }

    /// Locks pages, and tells nobody. By the system call itself: the sanitizers make nothing of `mlock`.
    #[track_caller]
    pub(crate) fn lock(&self, pages: std::ops::Range<usize>) {
        let (start, bytes) = (self.at_page(pages.start), pages.len() * PAGE_BYTES);
        // SAFETY: memory of the test; changes no contents.
        let locked = unsafe { libc::syscall(libc::SYS_mlock, start, bytes) };
        assert_eq!(locked, 0, "{pages:?} cannot be locked: {}", std::io::Error::last_os_error());
    }

    pub(crate) fn unlock(&self, pages: std::ops::Range<usize>) {
        let (start, bytes) = (self.at_page(pages.start), pages.len() * PAGE_BYTES);
        // SAFETY: memory of the test; changes no contents.
        let unlocked = unsafe { libc::syscall(libc::SYS_munlock, start, bytes) };
        assert_eq!(unlocked, 0, "{pages:?} cannot be unlocked: {}", std::io::Error::last_os_error());
    }

    pub(crate) fn unmap(&self, pages: std::ops::Range<usize>) {
        let (start, bytes) = (self.at_page(pages.start), pages.len() * PAGE_BYTES);
        // SAFETY: memory of the test, which does not use it any more.
        unsafe { munmap(start.cast(), bytes) }.expect("to be unmapped");
    }

    /// Other memory at the same address, of whose change the library does not hear.
    pub(crate) fn replaced_unseen(self) -> Self {
        let pages = self.pages;
        let base = self.leak();
        // SAFETY: memory of the test, which does not use it any more.
        unsafe { munmap(base.cast(), pages * PAGE_BYTES) }.expect("to be unmapped");
        Self::at(base, pages)
    }

    /// Leaves the mapping to somebody else.
    pub(crate) fn leak(self) -> *mut u8 {
        let base = self.base;
        std::mem::forget(self);
        base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Also where nobody has promised it: the next test that gets the address is to find nothing of this one.
        raw::forget(self.base, self.pages * PAGE_BYTES).expect("to be forgotten");
        // SAFETY: the test's own, and it is over. Parts may be gone already.
        let _ = unsafe { munmap(self.base.cast(), self.pages * PAGE_BYTES) };
    }
}

/// Offers all that is marked in this process, so that the kernel can take each page.
pub(crate) fn offer_all() {
    drain_processors();
    raw::offer(u64::MAX).expect("an offer");
    drain_processors();
}

/// Runs `child` in a child made by `fork`, and returns whether it ended well.
pub(crate) fn in_fork(child: impl FnOnce()) -> bool {
    // SAFETY: the child runs `child`, which stays away from locks that other threads may hold, and exits.
    match unsafe { libc::fork() } {
        0 => end_child(child),
        pid => has_ended_well(pid),
    }
}

/// Runs what a child has to do, and ends the process.
pub(crate) fn end_child(work: impl FnOnce()) -> ! {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    // SAFETY: ends the child without the test harness's exit handlers.
    unsafe { libc::_exit(i32::from(outcome.is_err())) }
}

/// Waits for a child of the caller's.
pub(crate) fn has_ended_well(child: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: waits for that child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status == 0
}
