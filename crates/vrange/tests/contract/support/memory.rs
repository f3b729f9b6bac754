//! What the kernel says about pages, read without the code under test, and the lever that makes it take them.

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use vrange::Buffer;
use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::on_each_processor;

use super::raw::Raw;

/// Bits of an entry of `/proc/self/pagemap` (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const EXCLUSIVE: u64 = 1 << 56;

/// The pages of a buffer.
pub(crate) fn span(buffer: &Buffer) -> Span {
    Span::new(buffer.as_ptr().expose_provenance(), Span::pages_for(buffer.len()))
}

fn pagemap(span: Span) -> Vec<u64> {
    let mut entries = vec![0; span.pages() * size_of::<u64>()];
    let offset = span.address() / PAGE_BYTES * size_of::<u64>();
    let file = File::open("/proc/self/pagemap").expect("the page table");
    file.read_exact_at(&mut entries, offset as u64).expect("the page table");
    entries.as_chunks().0.iter().map(|entry| u64::from_ne_bytes(*entry)).collect()
}

/// Pages in memory that are this process's own: neither absent, nor the kernel's zero page, nor on swap.
pub(crate) fn own(span: Span) -> Vec<bool> {
    pagemap(span).iter().map(|entry| entry & PRESENT != 0 && entry & EXCLUSIVE != 0).collect()
}

/// How many of the pages are the process's own.
pub(crate) fn own_pages(span: Span) -> usize {
    own(span).iter().filter(|own| **own).count()
}

/// The frames of physical memory that the pages are in, 0 for those that are in none. `None`: only the superuser is told.
pub(crate) fn frames(span: Span) -> Option<Vec<u64>> {
    const FRAME: u64 = (1 << 55) - 1;
    let entries = pagemap(span);
    let is_hidden = |entry: &u64| entry & PRESENT != 0 && entry & FRAME == 0;
    if entries.iter().any(is_hidden) {
        return None;
    }
    Some(entries.iter().map(|entry| if entry & PRESENT != 0 { entry & FRAME } else { 0 }).collect())
}

/// KiB of huge pages in the mapping that a buffer lies in.
pub(crate) fn huge_kib(span: Span) -> u64 {
    smaps_kib(span.address(), "AnonHugePages")
}

/// How many of the pages are on swap.
pub(crate) fn swapped_pages(span: Span) -> usize {
    pagemap(span).iter().filter(|entry| **entry & SWAPPED != 0).count()
}

/// Makes the kernel take these pages of an offered buffer, as it would when memory is short, and makes sure that it did.
#[track_caller]
pub(crate) fn take(buffer: &Buffer, pages: Range<usize>) {
    // An offer does nothing to a page that waits in a list of another processor's for its place in the kernel's: there it was
    // written, and then the thread moved. The lists are empty after the first try.
    take_in_time(span(buffer).slice(pages.start, pages.len()), || _ = buffer.offer());
}

/// As [`take`], of any offered memory.
#[track_caller]
pub(crate) fn take_span(span: Span) {
    take_in_time(span, || ());
}

/// Does something before each further try. The kernel leaves pages that somebody in it refers to, such as who moves memory or watches how
/// it is used, and who may have to wait for a processor meanwhile.
#[track_caller]
fn take_in_time(span: Span, mut before_more: impl FnMut()) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_taken(span) {
        assert!(
            Instant::now() < until,
            "the kernel did not take {} of {} offered pages",
            own_pages(span),
            span.pages()
        );
        before_more();
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Has the kernel look at the pages, from every processor if need be. Are they gone?
fn is_taken(span: Span) -> bool {
    // Both are asked of one reading: a page that the kernel moves meanwhile looks as if on swap, before that it is present and so it
    // is afterwards, and two readings could each miss it.
    let is_there = |entry: &u64| entry & PRESENT != 0 && entry & EXCLUSIVE != 0 || entry & SWAPPED != 0;
    let is_gone = || !pagemap(span).iter().any(is_there);
    press(span);
    is_gone() || {
        page_out_everywhere(span);
        is_gone()
    }
}

/// `MADV_PAGEOUT` on each processor in turn: pages wait in lists of each processor (up to 31) before an offer takes effect, and
/// the call empties those of the processor it runs on.
pub(crate) fn page_out_everywhere(span: Span) {
    on_each_processor(|| press(span));
}

fn press(span: Span) {
    // Locked memory is refused; everything else can be paged out.
    if let Err(error) = page_out(span) {
        assert_eq!(error.errno(), rustix::io::Errno::INVAL);
    }
}

/// Has the processors forget the translations that they remember, so that their next access to a page is noted in the page
/// table: the kernel does so when much is unmapped (on x86, more than 33 pages), and not when it clears the notes.
pub(crate) fn forget_translations() {
    let mut unmapped = Raw::new(64);
    unmapped.bytes_mut().fill(1);
}

/// Page faults of this thread so far that needed no disk (`ru_minflt`).
pub(crate) fn minor_faults() -> i64 {
    // SAFETY: all zeros is a valid rusage.
    let mut usage: libc::rusage = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the structure outlives the call.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
    usage.ru_minflt
}

/// Page faults of this thread while `work` runs, the least of several tries: the scheduler's own faults are not `work`'s.
pub(crate) fn faults_of(mut work: impl FnMut()) -> i64 {
    let tries = (0..3).map(|_| {
        let before = minor_faults();
        work();
        minor_faults() - before
    });
    tries.min().expect("several tries")
}

/// A field of the mapping that `address` lies in, from `/proc/self/smaps`, in KiB.
pub(crate) fn smaps_kib(address: usize, field: &str) -> u64 {
    let value = smaps(address, field);
    value.trim().trim_end_matches("kB").trim().parse().expect("a number of KiB")
}

/// A field of the mapping that `address` lies in, from `/proc/self/smaps`, as it stands there.
pub(crate) fn smaps(address: usize, field: &str) -> String {
    let text = fs::read_to_string("/proc/self/smaps").expect("smaps");
    let mut inside = false;
    for line in text.lines() {
        if let Some((start, end)) = bounds(line) {
            inside = (start..end).contains(&address);
        } else if let Some(value) = line.strip_prefix(field).and_then(|rest| rest.strip_prefix(':'))
            && inside
        {
            return value.to_owned();
        }
    }
    panic!("no {field} for {address:#x}");
}

/// `7f00-7f01 rw-p …`, the line that begins a mapping.
fn bounds(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

/// A field of `/proc/self/status` or `/proc/meminfo`, in bytes.
pub(crate) fn proc_bytes(file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(file).expect("a kernel file");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number of KiB") * 1024
}

/// Anonymous memory of this process (`RssAnon`).
pub(crate) fn resident_bytes() -> u64 {
    proc_bytes("/proc/self/status", "RssAnon")
}
