//! Children, buffers with known contents, and the lever that makes the kernel take offered pages.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use vrange::{Buffer, Content, Heap, Pinned, Reclaimer, WriteGuard};
use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::{is_emulated, reclaimers_of};

/// A child that hangs is ended by the kernel after this many seconds: then its test fails.
const CHILD_TIMEOUT_S: u32 = 20;
/// The same for a whole test. Hundreds of forks take an emulated machine minutes.
fn test_timeout_s() -> u32 {
    if is_emulated() { 300 } else { 60 }
}

/// From the first fork of a test on: it ends in time, and every process tells why it failed.
fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        report_panics();
        // SAFETY: the default action of SIGALRM ends the process, which is what is wanted.
        unsafe { libc::alarm(test_timeout_s()) };
    });
}

/// Panics are told by a plain system call: in a child, the locks of the standard library's own report may be held by threads
/// that only the parent has, and the test harness would swallow what it prints.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = format!("process {}: {panic}\n", std::process::id());
        // SAFETY: the text outlives the call.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    }));
}

/// A connection between parent and child.
pub(crate) struct Line(UnixStream);

impl Line {
    /// Says something to the other side.
    pub(crate) fn say(&self, message: &[u8]) {
        (&self.0).write_all(message).expect("the other side is there");
    }

    /// Waits until the other side has said as many bytes.
    pub(crate) fn hear<const BYTES: usize>(&self) -> [u8; BYTES] {
        let mut message = [0; BYTES];
        (&self.0).read_exact(&mut message).expect("the other side is there, and says something");
        message
    }

    /// Tells the other side that this point is reached.
    pub(crate) fn signal(&self) {
        self.say(b".");
    }

    /// Waits until the other side has called [`signal`](Self::signal).
    pub(crate) fn wait(&self) {
        let [_] = self.hear();
    }
}

/// A process made by a test. Dropped before its end, it is killed.
pub(crate) struct Child {
    pid: libc::pid_t,
    pub(crate) line: Line,
    is_running: bool,
}

/// Has a child made by libc's `fork` do `job`.
pub(crate) fn fork(job: impl FnOnce(&Line)) -> Child {
    // SAFETY: the child does what every test here does; whether that works in it is what is tested.
    make(|| unsafe { libc::fork() }, job)
}

/// Has a child made by the system call alone do `job`: nobody is told, not even libc.
pub(crate) fn raw_clone(job: impl FnOnce(&Line)) -> Child {
    let clone = || {
        // SAFETY: a new process with a copy of this one's memory, as `fork` makes it.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        libc::pid_t::try_from(pid).expect("a process id")
    };
    make(clone, job)
}

fn make(clone: impl FnOnce() -> libc::pid_t, job: impl FnOnce(&Line)) -> Child {
    watch();
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    match clone() {
        0 => {
            drop(ours);
            be_child(|| job(&Line(theirs)))
        }
        pid => {
            assert!(pid > 0, "no process to be had: {}", std::io::Error::last_os_error());
            Child { pid, line: Line(ours), is_running: true }
        }
    }
}

fn be_child(job: impl FnOnce()) -> ! {
    // SAFETY: the default action of SIGALRM ends the process, which is what is wanted.
    unsafe { libc::alarm(CHILD_TIMEOUT_S) };
    let ended = catch_unwind(AssertUnwindSafe(job));
    // SAFETY: ends this process and nothing else: what is to be done at exit is the parent's business.
    unsafe { libc::_exit(i32::from(ended.is_err())) }
}

impl Child {
    /// Waits for the end, which must come by itself, with success.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        let status = self.reap();
        let way = match libc::WTERMSIG(status) {
            libc::SIGALRM => "it hung",
            libc::SIGKILL => "it was killed",
            _ => "it failed",
        };
        assert!(
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
            "a child ended with {status:#x}: {way}"
        );
    }

    /// Ends it by a signal.
    pub(crate) fn kill(mut self, signal: i32) {
        // SAFETY: a child of ours that was not waited for, so the number is still its own.
        unsafe { libc::kill(self.pid, signal) };
        self.reap();
    }

    /// Waits for the end, whatever it is.
    pub(crate) fn end(mut self) {
        self.reap();
    }

    fn reap(&mut self) -> i32 {
        let mut status = 0;
        // SAFETY: as in `kill`; the status outlives the call.
        let reaped = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        self.is_running = false;
        assert_eq!(reaped, self.pid, "waiting: {}", std::io::Error::last_os_error());
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_running {
            // SAFETY: as in `kill`.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            self.reap();
        }
    }
}

/// A heap that only the test works on.
pub(crate) fn quiet_heap() -> (Heap, Reclaimer) {
    Heap::builder().build_manual().expect("a heap")
}

/// A heap whose ranges the reclaimer offers soon after their unpin, however much memory there is.
pub(crate) fn eager_heap() -> Heap {
    Heap::builder().content(Content::Free { decay: Duration::from_secs(3600) }).build().expect("a heap")
}

/// A buffer of whole pages, filled and unpinned.
pub(crate) fn filled(heap: &Heap, pages: usize, seed: u8) -> Buffer {
    let mut buffer = heap.buffer(pages * PAGE_BYTES).expect("a buffer");
    fill(&mut buffer, seed);
    buffer
}

/// Fills a buffer under a pin of its own, whatever was lost of it.
pub(crate) fn fill(buffer: &mut Buffer, seed: u8) {
    drop(fill_and_hold(buffer, seed));
}

/// As [`fill`], but the pin goes on.
pub(crate) fn fill_and_hold(buffer: &mut Buffer, seed: u8) -> WriteGuard<'_> {
    let mut guard = match buffer.pin_mut() {
        Pinned::Intact(guard) => guard,
        Pinned::Purged(purged) => purged.acknowledge(),
    };
    for (page, bytes) in guard.chunks_mut(PAGE_BYTES).enumerate() {
        bytes.fill(byte_of(page, seed));
    }
    guard
}

/// What [`fill`] writes into a page: never zero.
pub(crate) fn byte_of(page: usize, seed: u8) -> u8 {
    u8::try_from(page % 127).expect("less than 127").wrapping_mul(2).wrapping_add(seed) | 1
}

/// Pins for reading and checks every page: those reported lost read as zeros, all others hold what [`fill`] wrote. Returns the
/// lost ones.
#[track_caller]
pub(crate) fn lost_pages(buffer: &Buffer, seed: u8) -> BTreeSet<usize> {
    let (bytes, lost) = match buffer.pin() {
        Pinned::Intact(bytes) => (bytes, BTreeSet::new()),
        Pinned::Purged(purged) => {
            let pages = |run: std::ops::Range<usize>| run.start / PAGE_BYTES..run.end.div_ceil(PAGE_BYTES);
            let lost = purged.lost().flat_map(pages).collect();
            (purged.into_guard(), lost)
        }
    };
    for (page, bytes) in bytes.chunks(PAGE_BYTES).enumerate() {
        let expected = if lost.contains(&page) { 0 } else { byte_of(page, seed) };
        assert!(*bytes == [expected; PAGE_BYTES], "page {page} is {} and not {expected}", bytes[0]);
    }
    lost
}

/// The contents are all there.
#[track_caller]
pub(crate) fn assert_intact(buffer: &Buffer, seed: u8) {
    let lost = lost_pages(buffer, seed);
    assert!(lost.is_empty(), "{} pages are lost, the first {:?}", lost.len(), lost.first());
}

/// The pages of a buffer.
pub(crate) fn span(buffer: &Buffer) -> Span {
    Span::new(buffer.as_ptr().expose_provenance(), Span::pages_for(buffer.len()))
}

/// Pages in memory that no other process maps (bit 56 of the page table's entries).
pub(crate) fn own_pages(buffer: &Buffer) -> usize {
    count_pages(span(buffer), 1 << 63 | 1 << 56)
}

/// Pages that have all these bits in `/proc/self/pagemap` (Documentation/admin-guide/mm/pagemap.rst).
fn count_pages(span: Span, bits: u64) -> usize {
    let mut entries = vec![0; span.pages() * size_of::<u64>()];
    let offset = span.address() / PAGE_BYTES * size_of::<u64>();
    let file = File::open("/proc/self/pagemap").expect("the page table");
    file.read_exact_at(&mut entries, offset as u64).expect("the page table");
    entries.as_chunks().0.iter().filter(|entry| u64::from_ne_bytes(**entry) & bits == bits).count()
}

/// Makes the kernel take pages of an offered buffer that no other process maps.
#[track_caller]
pub(crate) fn take(buffer: &Buffer, pages: std::ops::Range<usize>) {
    let span = span(buffer).slice(pages.start, pages.len());
    let allowed = sched_getaffinity(None).expect("the processors we may use");
    for processor in (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).cycle().take(1000) {
        // Pages wait in lists of each processor (up to 31): new ones, to which an offer does nothing yet, and offered ones,
        // before the offer takes effect. The call empties only the lists of the processor that it runs on.
        let mut here = CpuSet::new();
        here.set(processor);
        sched_setaffinity(None, &here).expect("a processor we may use");
        page_out(span).expect("MADV_PAGEOUT");
        buffer.offer();
        page_out(span).expect("MADV_PAGEOUT");
        if count_pages(span, 1 << 63 | 1 << 56) == 0 {
            break;
        }
    }
    sched_setaffinity(None, &allowed).expect("the processors we may use");
    assert_eq!(count_pages(span, 1 << 63 | 1 << 56), 0, "the kernel did not take the offered pages");
}

/// Threads of this process with the reclaimer's name.
pub(crate) fn reclaimers() -> usize {
    reclaimers_of("self").len()
}

/// Waits until `condition` holds; fails if it does not within some seconds.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "not in 10 s: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
