//! Which pages are in memory, from the page table itself.
//!
//! `mincore(2)` cannot be used: it calls swapped pages absent and the shared zero page resident.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::descriptors::DescriptorPerProcess;
use crate::{OsError, PAGE_BYTES, Residency, Span};

const OPEN: &str = "open(/proc/self/pagemap)";
const READ: &str = "read(/proc/self/pagemap)";
const SCAN: &str = "ioctl(PAGEMAP_SCAN)";

/// How the page table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `ioctl(PAGEMAP_SCAN)`, Linux 6.7: 12 ns a page, 0.3 in huge pages, and it tells the zero page.
    Scan,
    /// Reading `/proc/self/pagemap`: 36 ns a page, 9 in huge pages.
    Read,
}

/// Reads the page table of whichever process it finds itself in: the open file speaks of the process that opened it.
#[derive(Debug)]
pub(super) struct Reader {
    pagemap: DescriptorPerProcess,
}

impl Reader {
    pub(super) const fn new() -> Self {
        Self { pagemap: DescriptorPerProcess::new() }
    }

    pub(super) fn method(&self) -> Result<Method, OsError> {
        Ok(self.pagemap()?.1)
    }

    fn pagemap(&self) -> Result<(BorrowedFd<'static>, Method), OsError> {
        let (file, scans) = self.pagemap.get_or_try_open(|| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = rustix::fs::open("/proc/self/pagemap", flags, Mode::empty())
                .map_err(|errno| OsError::new(OPEN, errno))?;
            // The page that holds this very word exists, so a scan of nothing but it tells whether scans work.
            let word = 0u64;
            let page = (&raw const word).addr() & !(PAGE_BYTES - 1);
            let scans = scan(file.as_fd(), Span::new(page, 1), &mut |_, _| {}).is_ok();
            Ok((file, scans))
        })?;
        Ok((file, if scans { Method::Scan } else { Method::Read }))
    }

    /// See [`System::residency`](crate::System::residency).
    pub(super) fn read(
        &self,
        span: Span,
        sharing: bool,
        visit: &mut dyn FnMut(Range<usize>, Residency),
    ) -> Result<(), OsError> {
        let mut is_visited = false;
        let read = self.read_open(span, sharing, &mut |pages, residency| {
            is_visited = true;
            visit(pages, residency);
        });
        match read {
            // A program may close descriptors that it does not know (closefrom(3)).
            Err(error) if is_another_file(&error) => {
                self.pagemap.forget();
                // Whoever was told of some pages is not told of them again.
                if is_visited { read } else { self.read_open(span, sharing, visit) }
            }
            read => read,
        }
    }

    /// See [`Linux::count_small_pages`](super::Linux::count_small_pages).
    pub(super) fn count_small_pages(&self, span: Span) -> Result<usize, OsError> {
        let (file, method) = self.pagemap()?;
        if method != Method::Scan {
            return Err(OsError::new(SCAN, Errno::NOSYS));
        }
        let mut small = 0;
        let looked = scan_categories(file, span, &SMALL, &mut |pages, _| small += pages.len());
        if looked.as_ref().is_err_and(is_another_file) {
            // See `read`. The next look opens another.
            self.pagemap.forget();
        }
        looked.map(|()| small)
    }

    fn read_open(
        &self,
        span: Span,
        sharing: bool,
        visit: &mut dyn FnMut(Range<usize>, Residency),
    ) -> Result<(), OsError> {
        match self.pagemap()? {
            (file, Method::Scan) if !sharing => scan(file, span, visit),
            (file, Method::Scan | Method::Read) => {
                check_is_proc(file)?;
                read(file, span, visit)
            }
        }
    }
}

/// Is the descriptor not what was opened?
fn is_another_file(error: &OsError) -> bool {
    matches!(error.errno(), Errno::BADF | Errno::NOTTY | Errno::STALE)
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct ScanArguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`
const PAGEMAP_SCAN: u64 = 0xC060_6610;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
const PAGE_IS_HUGE: u64 = 1 << 6;
/// Regions that one call can return. More need another call. Not many at once, nor entries below: an allocator's hooks come here on whatever
/// stack the program has given to its thread.
const REGIONS: usize = 32;

/// Which pages a scan finds, and what it tells of them.
struct Categories {
    /// All of these, but for those that are `inverted`, which must be missing.
    all: u64,
    inverted: u64,
    /// Any of these, unless it is 0.
    any: u64,
    told: u64,
}

/// What is in memory, or was.
const NOT_ABSENT: Categories = Categories {
    all: 0,
    inverted: 0,
    any: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
    told: PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO,
};
/// What is in memory, and not in a huge page.
const SMALL: Categories = Categories {
    all: PAGE_IS_PRESENT | PAGE_IS_PFNZERO | PAGE_IS_HUGE,
    inverted: PAGE_IS_PFNZERO | PAGE_IS_HUGE,
    any: 0,
    told: PAGE_IS_PRESENT,
};

fn scan(
    file: BorrowedFd<'_>,
    span: Span,
    visit: &mut dyn FnMut(Range<usize>, Residency),
) -> Result<(), OsError> {
    scan_categories(file, span, &NOT_ABSENT, &mut |pages, categories| match categories {
        categories if categories & PAGE_IS_SWAPPED != 0 => visit(pages, Residency::Swapped),
        categories if categories & PAGE_IS_PFNZERO != 0 => {}
        _ => visit(pages, Residency::Present),
    })
}

/// Calls `visit` with runs of the pages that are wanted, and what is told of them.
fn scan_categories(
    file: BorrowedFd<'_>,
    span: Span,
    wanted: &Categories,
    visit: &mut dyn FnMut(Range<usize>, u64),
) -> Result<(), OsError> {
    let mut regions = [PageRegion::default(); REGIONS];
    let end = span.end() as u64;
    let mut start = span.address() as u64;
    while start < end {
        let mut arguments = ScanArguments {
            size: size_of::<ScanArguments>() as u64,
            start,
            end,
            vec: regions.as_mut_ptr().expose_provenance() as u64,
            vec_len: REGIONS as u64,
            category_inverted: wanted.inverted,
            category_mask: wanted.all,
            category_anyof_mask: wanted.any,
            return_mask: wanted.told,
            ..ScanArguments::default()
        };
        // SAFETY: the structure and the vector it points to have the layout of linux/fs.h, are writable, and outlive
        // the call; the scan changes no page (no PM_SCAN_WP_MATCHING).
        let found = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN, &raw mut arguments) };
        let Ok(found) = usize::try_from(found) else {
            match std::io::Error::last_os_error() {
                error if error.kind() == std::io::ErrorKind::Interrupted => continue,
                error => return Err(os_error(SCAN, &error)),
            }
        };
        for region in regions.iter().take(found) {
            visit(pages_within(span, region.start, region.end), region.categories);
        }
        if arguments.walk_end <= start {
            // The kernel promises progress; a filter that fakes success does not.
            return Err(OsError::new(SCAN, Errno::IO));
        }
        start = arguments.walk_end;
    }
    Ok(())
}

/// The addresses `start..end` as page numbers inside `span`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "addresses of this process fit usize; the crate is 64-bit only"
)]
fn pages_within(span: Span, start: u64, end: u64) -> Range<usize> {
    let page = |address: u64| {
        (address as usize).clamp(span.address(), span.end()).abs_diff(span.address()) / PAGE_BYTES
    };
    page(start)..page(end)
}

const PAGEMAP_PRESENT: u64 = 1 << 63;
const PAGEMAP_SWAPPED: u64 = 1 << 62;
/// No other page table maps the page (Linux 4.2). Not set for the zero page.
const PAGEMAP_EXCLUSIVE: u64 = 1 << 56;
const ENTRY_BYTES: usize = size_of::<u64>();
/// Entries that are read with one call.
const ENTRIES: usize = 128;

fn read(
    file: BorrowedFd<'_>,
    span: Span,
    visit: &mut dyn FnMut(Range<usize>, Residency),
) -> Result<(), OsError> {
    let mut entries = [0u8; ENTRIES * ENTRY_BYTES];
    let first = span.address() / PAGE_BYTES;
    let mut page = 0;
    while page < span.pages() {
        let wanted = (span.pages() - page).min(entries.len() / ENTRY_BYTES);
        let buffer = &mut entries[..wanted * ENTRY_BYTES];
        read_exact_at(file, buffer, ((first + page) * ENTRY_BYTES) as u64)?;
        for (offset, entry) in buffer.as_chunks::<ENTRY_BYTES>().0.iter().enumerate() {
            let entry = u64::from_ne_bytes(*entry);
            let residency = if entry & PAGEMAP_SWAPPED != 0 {
                Residency::Swapped
            } else if entry & PAGEMAP_PRESENT == 0 {
                continue;
            } else if entry & PAGEMAP_EXCLUSIVE == 0 {
                Residency::Shared
            } else {
                Residency::Present
            };
            visit(page + offset..page + offset + 1, residency);
        }
        page += wanted;
    }
    Ok(())
}

/// The number may be that of another file by now, of which nothing must be believed. (A scan of such a file is refused.)
fn check_is_proc(file: BorrowedFd<'_>) -> Result<(), OsError> {
    /// `PROC_SUPER_MAGIC` of <linux/magic.h>.
    const PROC: u64 = 0x9fa0;
    let about = rustix::fs::fstatfs(file).map_err(|errno| OsError::new(READ, errno))?;
    if about.f_type.cast_unsigned() == PROC { Ok(()) } else { Err(OsError::new(READ, Errno::STALE)) }
}

fn read_exact_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<(), OsError> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(file, &mut buffer[done..], offset + done as u64) {
            // Beyond the end of the address space, for which a scan says the same.
            Ok(0) => return Err(OsError::new(READ, Errno::FAULT)),
            Ok(bytes) => done += bytes,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(OsError::new(READ, errno)),
        }
    }
    Ok(())
}

fn os_error(call: &'static str, error: &std::io::Error) -> OsError {
    OsError::new(call, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Placement;
    use crate::linux::mapping;

    type ReadFn = fn(BorrowedFd<'_>, Span, &mut dyn FnMut(Range<usize>, Residency)) -> Result<(), OsError>;

    fn runs(method: ReadFn, file: BorrowedFd<'_>, span: Span) -> Vec<(usize, Residency)> {
        let mut found = Vec::new();
        method(file, span, &mut |pages, residency| found.extend(pages.map(|page| (page, residency))))
            .expect("the page table");
        found
    }

    #[test]
    fn written_pages_are_present_and_others_are_not() {
        let reservation = mapping::reserve(8, Placement::SmallPages, false).expect("address space");
        for page in [1, 2, 6] {
            // SAFETY: inside a reservation that only this test knows.
            unsafe { reservation.base().wrapping_add(page * PAGE_BYTES).write(1) };
        }
        // SAFETY: as above.
        let zero = unsafe { reservation.base().wrapping_add(4 * PAGE_BYTES).read_volatile() };
        assert_eq!(zero, 0);
        let file = std::fs::File::open("/proc/self/pagemap").expect("pagemap");
        let file = file.as_fd();
        let present = |page| (page, Residency::Present);
        if Reader::new().method() == Ok(Method::Scan) {
            assert_eq!(runs(scan, file, reservation.span()), [present(1), present(2), present(6)]);
        }
        // Without the scan the zero page cannot be told from one that another process shares.
        let expected = [present(1), present(2), (4, Residency::Shared), present(6)];
        assert_eq!(runs(read, file, reservation.span()), expected);
        // SAFETY: nobody uses it any more.
        unsafe { mapping::unmap(&reservation) };
    }

    #[test]
    fn more_regions_than_one_call_returns_are_all_found() {
        let pages = REGIONS * 5;
        let reservation = mapping::reserve(pages, Placement::SmallPages, false).expect("address space");
        for page in (0..pages).step_by(2) {
            // SAFETY: inside a reservation that only this test knows.
            unsafe { reservation.base().wrapping_add(page * PAGE_BYTES).write(1) };
        }
        let reader = Reader::new();
        let mut found = Vec::new();
        reader.read(reservation.span(), false, &mut |pages, _| found.extend(pages)).expect("the page table");
        assert_eq!(found, (0..pages).step_by(2).collect::<Vec<_>>());
        // SAFETY: nobody uses it any more.
        unsafe { mapping::unmap(&reservation) };
    }

    /// A program that closes what it does not know does so at any moment, also between two calls of one look.
    #[test]
    fn a_descriptor_that_is_closed_in_the_middle_of_a_look_has_no_page_told_twice() {
        let pages = REGIONS * 5;
        let reservation = mapping::reserve(pages, Placement::SmallPages, false).expect("address space");
        for page in (0..pages).step_by(2) {
            // SAFETY: inside a reservation that only this test knows.
            unsafe { reservation.base().wrapping_add(page * PAGE_BYTES).write(1) };
        }
        let reader = Reader::new();
        for sharing in [false, true] {
            let descriptor = reader.pagemap().expect("the page table").0.as_raw_fd();
            let mut found = Vec::new();
            let looked = reader.read(reservation.span(), sharing, &mut |run, _| {
                if found.is_empty() {
                    // SAFETY: the reader's own, which it will not find open.
                    assert_eq!(unsafe { libc::close(descriptor) }, 0);
                }
                found.extend(run);
            });
            assert!(found.is_sorted_by(|one, next| one < next), "pages are told twice");
            assert!(looked.is_err(), "a look was cut short");
            let again = reader.read(reservation.span(), sharing, &mut |_, _| {});
            again.expect("the next look opens another");
        }
        // SAFETY: nobody uses it any more.
        unsafe { mapping::unmap(&reservation) };
    }
}
