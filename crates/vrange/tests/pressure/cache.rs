//! A program that keeps data in volatile buffers, and checks what it finds in them.
//!
//! Its words: `bytes=`, `buffer=` (bytes of one buffer), `reserve=`, `max_unoffered=`, `care=` (see [`Care`]), `small_pages` (large
//! buffers get no huge pages, for now), `idle` (runs only when nobody else wants to: `SCHED_IDLE`), and those of [`crate::outside`].
//!
//! | it hears | it does | it says |
//! |---|---|---|
//! | `fill` | writes what is missing in each buffer, from the first to the last | bytes that it found lost |
//! | `use STRIDE` | pins and unpins each, in steps of so many buffers, round and round | bytes that it found lost |
//! | `use_last COUNT` | pins and unpins only so many, the last | bytes that it found lost |
//! | `look` | pins each and checks its contents | bytes kept, bytes lost, pages that hold what they should not |
//! | `lost` | pins each | its lost bytes, for each buffer |
//! | `churn MS` | fills one after the other for so long, and checks them | as `look`, in all |
//! | `swing BYTES THREADS` | is its own hog: takes memory and frees it | `done` |
//! | `offer BYTES` | offers the coldest by hand | bytes offered |
//! | `collapse` | has the kernel make huge pages of all buffers, as khugepaged does by itself | `done`, or what it answered |
//! | `drain` | has the kernel do what it put off with new and with offered pages | `done` |
//! | `swapped` | asks the page table | pages of its buffers that are on swap |
//! | `totals` | nothing | what was offered, rescued, lost and released since the start, in words |

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use vrange::{Buffer, Heap, LostBytes, Pinned, Reclaimer};
use vrange_os::PAGE_BYTES;
use vrange_os::cgroup::{Controller, Hierarchies, MemoryLevel, Reading};
use vrange_os::kernel_file::{BUFFER_BYTES, Root};
use vrange_testing::{Child, Ended, Job, MemoryGroup, Talk, drain_processors};

use crate::{MIB, hog, outside, pages};

/// Who sees to the cache.
#[expect(clippy::large_enum_variant, reason = "there is one of them in a process")]
enum Care {
    /// The library's thread, unless said otherwise.
    Thread,
    /// `unattended`: nobody, so nothing is ever offered. `limit_less_usage`, `lists`: a loop of the program's own that takes
    /// for headroom what one might who does not know better. The library's reclaimer is kept, and never asked.
    Other { _reclaimer: Reclaimer },
}

struct Cache {
    heap: Heap,
    buffers: Vec<Buffer>,
    _care: Care,
}

/// What a look at buffers found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kept_bytes: u64,
    pub(crate) lost_bytes: u64,
    /// Pages that hold neither what was written nor, if reported lost, zeros.
    pub(crate) wrong_pages: u64,
}

impl Cache {
    fn make(talk: &Talk) -> Self {
        let mut builder = Heap::builder();
        if let Some(bytes) = talk.number("reserve") {
            builder = builder.reserve(bytes);
        }
        if let Some(bytes) = talk.number("max_unoffered") {
            builder = builder.max_unoffered(bytes);
        }
        let (heap, care) = match talk.option("care") {
            None => (builder.build().expect("a heap"), Care::Thread),
            Some(who) => {
                let (heap, _reclaimer) = builder.build_manual().expect("a heap");
                let headroom: Option<fn(&Reading) -> u64> = match who {
                    "unattended" => None,
                    "limit_less_usage" => Some(limit_less_usage),
                    "lists" => Some(|reading| limit_less_usage(reading) + reading.file.lists_bytes),
                    other => panic!("unknown: {other}"),
                };
                if let Some(headroom) = headroom {
                    let watched = heap.clone();
                    std::thread::spawn(move || keep(&watched, headroom));
                }
                (heap, Care::Other { _reclaimer })
            }
        };
        let buffer_bytes = talk.number("buffer").unwrap_or(MIB);
        let count = talk.number("bytes").expect("how much to keep") / buffer_bytes;
        let bytes = usize::try_from(buffer_bytes).expect("fits");
        let buffers: Vec<Buffer> = (0..count).map(|_| heap.buffer(bytes).expect("a buffer")).collect();
        if talk.has("small_pages") {
            // A kernel without huge pages refuses it, which is as good.
            buffers.iter().for_each(|buffer| drop(advise(buffer, libc::MADV_NOHUGEPAGE)));
        }
        Self { heap, buffers, _care: care }
    }

    fn collapse(&self) -> io::Result<()> {
        self.buffers.iter().try_for_each(|buffer| {
            advise(buffer, libc::MADV_HUGEPAGE)?;
            // EAGAIN: a page was on its way between the kernel's lists.
            let is_again = |outcome: &io::Result<()>| {
                outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            };
            let mut outcomes = (0..100).map(|_| advise(buffer, libc::MADV_COLLAPSE));
            outcomes.find(|outcome| !is_again(outcome)).unwrap_or(Err(io::ErrorKind::WouldBlock.into()))
        })
    }

    fn fill(&mut self) -> u64 {
        self.buffers.iter_mut().enumerate().map(|(index, buffer)| fill(buffer, index)).sum()
    }

    /// Pins and unpins each buffer, in the order of [`order_of_use`], and tells what it found lost.
    fn use_all(&self, stride: usize) -> u64 {
        order_of_use(self.buffers.len(), stride).map(|index| lost_bytes(&self.buffers[index])).sum()
    }

    fn look(&self) -> Found {
        let mut found = Found::default();
        self.buffers.iter().enumerate().for_each(|(index, buffer)| look(buffer, index, &mut found));
        found
    }

    /// Pages of the buffers that are on swap (bit 62 of the page table's entries).
    fn swapped_pages(&self) -> usize {
        let table = File::open("/proc/self/pagemap").expect("the page table");
        let swapped_of = |buffer: &Buffer| {
            let mut entries = vec![0; buffer.len().div_ceil(PAGE_BYTES) * size_of::<u64>()];
            let offset = buffer.as_ptr().addr() / PAGE_BYTES * size_of::<u64>();
            table.read_exact_at(&mut entries, offset as u64).expect("the page table");
            entries.as_chunks().0.iter().filter(|entry| u64::from_ne_bytes(**entry) & 1 << 62 != 0).count()
        };
        self.buffers.iter().map(swapped_of).sum()
    }

    fn churn(&mut self, time: Duration) -> Found {
        let mut found = Found::default();
        let until = Instant::now() + time;
        let count = self.buffers.len();
        let mut next = 0;
        while Instant::now() < until {
            look(&self.buffers[next], next, &mut found);
            fill(&mut self.buffers[next], next);
            next = (next + 1) % count;
        }
        found
    }
}

/// Gives advice on a buffer's memory, such as keeps its contents.
fn advise(buffer: &Buffer, advice: i32) -> io::Result<()> {
    // SAFETY: the advice changes no contents.
    match unsafe { libc::madvise(buffer.as_ptr().cast_mut().cast(), buffer.len(), advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn lost_bytes(buffer: &Buffer) -> u64 {
    match buffer.pin() {
        Pinned::Intact(_) => 0,
        Pinned::Purged(purged) => purged.lost_bytes() as u64,
    }
}

/// Every number below `count` once, in steps of `stride`, which has no divisor in common with it.
pub(crate) fn order_of_use(count: usize, stride: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |step| step * stride % count)
}

/// Writes what is missing in a buffer; everything, the first time. Returns the bytes that were lost.
fn fill(buffer: &mut Buffer, index: usize) -> u64 {
    let write = |bytes: &mut [u8], run: std::ops::Range<usize>| {
        let first = run.start / PAGE_BYTES;
        for (page, bytes) in bytes[run].chunks_mut(PAGE_BYTES).enumerate() {
            pages::write(bytes, index, first + page);
        }
    };
    match buffer.pin_mut() {
        Pinned::Intact(mut bytes) => {
            if pages::is_zero(&bytes[..PAGE_BYTES]) {
                let all = 0..bytes.len();
                write(&mut bytes, all);
            }
            0
        }
        Pinned::Purged(purged) => {
            let lost_bytes = purged.lost_bytes() as u64;
            drop(purged.refill(|bytes, lost: LostBytes<'_>| lost.for_each(|run| write(bytes, run))));
            lost_bytes
        }
    }
}

fn look(buffer: &Buffer, index: usize, found: &mut Found) {
    let (bytes, lost) = match buffer.pin() {
        Pinned::Intact(bytes) => (bytes, Vec::new()),
        Pinned::Purged(purged) => {
            let lost: Vec<_> = purged.lost().collect();
            (purged.into_guard(), lost)
        }
    };
    for (page, bytes) in bytes.chunks(PAGE_BYTES).enumerate() {
        let at = page * PAGE_BYTES;
        if lost.iter().any(|run| run.contains(&at)) {
            found.lost_bytes += bytes.len() as u64;
            found.wrong_pages += u64::from(!pages::is_zero(bytes));
        } else {
            found.kept_bytes += bytes.len() as u64;
            found.wrong_pages += u64::from(!pages::is_written(bytes, index, page));
        }
    }
}

fn limit_less_usage(reading: &Reading) -> u64 {
    reading.limits.max_bytes.expect("a limit").saturating_sub(reading.usage_bytes)
}

/// A reclaimer such as one might write oneself: marks like the library's, the shorter a wait the nearer the mark, and a
/// headroom of its own.
fn keep(heap: &Heap, headroom: fn(&Reading) -> u64) {
    const LOW_BYTES: u64 = 40 * MIB;
    const HIGH_BYTES: u64 = 56 * MIB;
    /// What two processors can fault in.
    const BYTES_PER_MICROSECOND: u64 = 5_000;
    let own =
        Hierarchies::read(&Root::real()).and_then(|own| own.group_of(Controller::Memory)).expect("our group");
    let level =
        MemoryLevel::open(own.version(), &own.directories()[0], false).expect("files").expect("a limit");
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        let headroom_bytes = headroom(&level.read(&mut buffer).expect("readable files").expect("a limit"));
        if headroom_bytes < LOW_BYTES {
            heap.offer(HIGH_BYTES - headroom_bytes);
        }
        let slack_bytes = headroom_bytes.saturating_sub(LOW_BYTES / 2);
        std::thread::sleep(Duration::from_micros((slack_bytes / BYTES_PER_MICROSECOND / 2).max(500)));
    }
}

/// For this thread and those that it starts, the reclaimer among them.
fn run_only_when_idle() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure outlives the call, which changes only when this thread runs.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    assert_eq!(answer, 0, "any thread may ask for less: {}", std::io::Error::last_os_error());
}

pub(crate) fn run(talk: &mut Talk) {
    outside::change(talk);
    if talk.has("idle") {
        run_only_when_idle();
    }
    let mut cache = Cache::make(talk);
    talk.say("ready");
    while let Some(line) = talk.hear() {
        let words: Vec<_> = line.split_whitespace().collect();
        let number =
            |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok()).expect("a number");
        let answer = match words[0] {
            "fill" => cache.fill().to_string(),
            "use" => cache.use_all(usize::try_from(number(1)).expect("fits")).to_string(),
            "use_last" => {
                let first = cache.buffers.len() - usize::try_from(number(1)).expect("fits");
                cache.buffers[first..].iter().map(lost_bytes).sum::<u64>().to_string()
            }
            "lost" => join(cache.buffers.iter().map(lost_bytes)),
            "look" => cache.look().to_line(),
            "churn" => cache.churn(Duration::from_millis(number(1))).to_line(),
            "offer" => cache.heap.offer(number(1)).to_string(),
            "collapse" => cache.collapse().map_or_else(|error| error.to_string(), |()| "done".to_owned()),
            "drain" => {
                drain_processors();
                "done".to_owned()
            }
            "swapped" => cache.swapped_pages().to_string(),
            "swing" => {
                let threads = usize::try_from(number(2)).expect("fits");
                drop(hog::Memory::take(number(1), threads, hog::Way::Touch));
                "done".to_owned()
            }
            "totals" => {
                let stats = cache.heap.stats();
                let mib = [stats.offered, stats.rescued, stats.lost, stats.released]
                    .map(|pages| pages.bytes() / MIB);
                format!(
                    "offered {} MiB, rescued {}, found lost {}, released {}",
                    mib[0], mib[1], mib[2], mib[3]
                )
            }
            other => panic!("unknown: {other}"),
        };
        talk.say(&answer);
    }
}

/// Waits until this much could be had in the group at once: what is free, and what the kernel may take of the caches. (No
/// file is read there, so there is no page cache to speak of.)
#[track_caller]
pub(crate) fn wait_for_headroom(group: &MemoryGroup, caches: &[&Process], wanted_bytes: u64) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let free_bytes = limit_less_usage(&group.read());
        let takable_bytes: u64 = caches.iter().map(|cache| cache.takable_bytes()).sum();
        if free_bytes + takable_bytes >= wanted_bytes {
            return;
        }
        assert!(Instant::now() < until, "free: {free_bytes}, takable: {takable_bytes}, {:?}", group.read());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn join(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
}

fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

impl Found {
    fn to_line(self) -> String {
        join([self.kept_bytes, self.lost_bytes, self.wrong_pages])
    }

    fn of_line(line: &str) -> Self {
        let [kept_bytes, lost_bytes, wrong_pages] = numbers(line)[..] else { panic!("not found: {line}") };
        Self { kept_bytes, lost_bytes, wrong_pages }
    }
}

/// A cache as its test sees it.
pub(crate) struct Process {
    pub(crate) child: Child,
}

impl Process {
    /// Starts a cache of `bytes` bytes in a group, and fills it. More words as in the table above.
    #[track_caller]
    pub(crate) fn start_filled(group: &MemoryGroup, bytes: u64, words: &str) -> Self {
        Self::start_job(Job::new(format!("cache bytes={bytes} {words}")).enter(group.entry()))
    }

    /// As [`start_filled`](Self::start_filled), from a job.
    #[track_caller]
    pub(crate) fn start_job(job: Job) -> Self {
        let mut cache = Self::start(job);
        cache.fill().expect("the cache is filled");
        cache
    }

    /// As [`start_job`](Self::start_job), but the cache is still empty.
    #[track_caller]
    pub(crate) fn start(job: Job) -> Self {
        let mut cache = Self { child: job.start() };
        cache.child.hear().expect("the cache starts");
        cache
    }

    pub(crate) fn fill(&mut self) -> Result<u64, Ended> {
        self.begin_filling();
        self.end_filling()
    }

    pub(crate) fn begin_filling(&mut self) {
        self.child.say("fill");
    }

    pub(crate) fn end_filling(&mut self) -> Result<u64, Ended> {
        Ok(numbers(&self.child.hear()?)[0])
    }

    pub(crate) fn use_all(&mut self, stride: usize) -> Result<u64, Ended> {
        Ok(numbers(&self.child.ask(&format!("use {stride}"))?)[0])
    }

    pub(crate) fn use_last(&mut self, count: u64) -> Result<u64, Ended> {
        Ok(numbers(&self.child.ask(&format!("use_last {count}"))?)[0])
    }

    pub(crate) fn look(&mut self) -> Result<Found, Ended> {
        Ok(Found::of_line(&self.child.ask("look")?))
    }

    pub(crate) fn lost_bytes_by_buffer(&mut self) -> Result<Vec<u64>, Ended> {
        Ok(numbers(&self.child.ask("lost")?))
    }

    pub(crate) fn begin_churning(&mut self, time: Duration) {
        self.child.say(&format!("churn {}", time.as_millis()));
    }

    pub(crate) fn end_churning(&mut self) -> Result<Found, Ended> {
        Ok(Found::of_line(&self.child.hear()?))
    }

    pub(crate) fn swing(&mut self, bytes: u64, threads: usize) -> Result<(), Ended> {
        self.child.ask(&format!("swing {bytes} {threads}")).map(drop)
    }

    pub(crate) fn drain(&mut self) -> Result<(), Ended> {
        self.child.ask("drain").map(drop)
    }

    pub(crate) fn swapped_pages(&mut self) -> Result<u64, Ended> {
        Ok(numbers(&self.child.ask("swapped")?)[0])
    }

    pub(crate) fn offer(&mut self, bytes: u64) -> Result<u64, Ended> {
        Ok(numbers(&self.child.ask(&format!("offer {bytes}"))?)[0])
    }

    /// Has the kernel make huge pages of the buffers. What it answered, if it does not.
    pub(crate) fn collapse(&mut self) -> Result<Result<(), String>, Ended> {
        let answer = self.child.ask("collapse")?;
        Ok(if answer == "done" { Ok(()) } else { Err(answer) })
    }

    /// Bytes that the kernel may take of the process now: offered, still there, and not written since. The kernel's own
    /// count, which lags by 31 pages a processor.
    pub(crate) fn takable_bytes(&self) -> u64 {
        let file = format!("/proc/{}/smaps_rollup", self.child.pid());
        let text = std::fs::read_to_string(file).expect("the process lives");
        let line =
            text.lines().find_map(|line| line.strip_prefix("LazyFree:")).expect("Linux 4.12 counts it");
        let kibibytes = line.trim().strip_suffix(" kB").and_then(|number| number.parse::<u64>().ok());
        kibibytes.expect("a number of KiB") * 1024
    }

    /// Bytes offered, rescued, lost and released since the start, in words for a message.
    pub(crate) fn totals(&mut self) -> String {
        self.child.ask("totals").unwrap_or_else(|ended| format!("{ended:?}"))
    }
}
