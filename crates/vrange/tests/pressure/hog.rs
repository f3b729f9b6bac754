//! A program that needs memory: it faults in ordinary memory as fast as it can.
//!
//! | it hears | it does | it says |
//! |---|---|---|
//! | `take BYTES THREADS WAY` | takes this much, in addition to what it holds, by so many threads, in this [`Way`] | nanoseconds it took, and of processor time |
//! | `free` | frees all it holds | `freed` |

use std::path::PathBuf;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use vrange_os::{HUGE_PAGE_BYTES, PAGE_BYTES};
use vrange_testing::{Child, Ended, Job, Talk};

/// How memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By writing to each page: what programs do.
    Touch,
    /// The same, where the kernel may give huge pages: fewer faults, so it is faster.
    Huge,
    /// By one system call (`MADV_POPULATE_WRITE`): no faults at all.
    Populate,
    /// By writing to each page of memory that could be shared, which is page cache to the kernel but cannot be dropped.
    Shared,
    /// By writing to each page, with a wait after every few: between two readings the group grows by no more than noise.
    Slow,
}

/// After this many pages the slow way waits so long: a quarter of a gigabyte a second.
const SLOW_PAGES: usize = 64;
const SLOW_WAIT: Duration = Duration::from_millis(1);

impl Way {
    pub(crate) const ALL: [Self; 5] = [Self::Touch, Self::Huge, Self::Populate, Self::Shared, Self::Slow];

    fn name(self) -> String {
        format!("{self:?}")
    }

    fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|way| way.name() == name).expect("a way")
    }
}

/// Memory that was taken.
pub(crate) struct Memory {
    base: *mut u8,
    bytes: usize,
}

impl Memory {
    /// Takes `bytes` bytes at full speed.
    pub(crate) fn take(bytes: u64, threads: usize, way: Way) -> Self {
        let bytes = usize::try_from(bytes).expect("fits");
        let flags = if way == Way::Shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
        // SAFETY: a new mapping wherever the kernel likes; it cannot overlap memory in use.
        let base = unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags) };
        let memory = Self { base: base.expect("address space").cast(), bytes };
        let pages = if way == Way::Huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
        // SAFETY: the advice changes no contents. A kernel without huge pages refuses it, which is as good.
        let _ = unsafe { madvise(memory.base.cast(), bytes, pages) };
        let share = bytes.div_ceil(threads).next_multiple_of(HUGE_PAGE_BYTES);
        // SAFETY: the mapping is as long, fresh, and known to nobody else.
        let all = unsafe { std::slice::from_raw_parts_mut(memory.base, bytes) };
        std::thread::scope(|scope| {
            for share in all.chunks_mut(share) {
                scope.spawn(move || take_share(share, way));
            }
        });
        memory
    }
}

fn take_share(share: &mut [u8], way: Way) {
    if way == Way::Populate {
        // SAFETY: the advice changes no contents. Kernels before 5.14 refuse it: then it is done page by page.
        let _ = unsafe { madvise(share.as_mut_ptr().cast(), share.len(), Advice::LinuxPopulateWrite) };
    }
    for pages in share.chunks_mut(SLOW_PAGES * PAGE_BYTES) {
        pages.chunks_mut(PAGE_BYTES).for_each(|page| page[0] = 1);
        if way == Way::Slow {
            std::thread::sleep(SLOW_WAIT);
        }
    }
    std::hint::black_box(share);
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `take` and no reference into it exists any more.
        let _ = unsafe { munmap(self.base.cast(), self.bytes) };
    }
}

pub(crate) fn run(talk: &mut Talk) {
    let mut held = Vec::new();
    talk.say("ready");
    while let Some(line) = talk.hear() {
        let (start, start_ns) = (Instant::now(), processor_time_ns());
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["take", bytes, threads, way] => {
                let (bytes, threads) = (bytes.parse().expect("a number"), threads.parse().expect("a number"));
                held.push(Memory::take(bytes, threads, Way::named(way)));
                talk.say(&format!("{} {}", start.elapsed().as_nanos(), processor_time_ns() - start_ns));
            }
            ["free"] => {
                held.clear();
                talk.say("freed");
            }
            _ => panic!("unknown: {line}"),
        }
    }
}

/// Processor time that this process has used, all its threads together.
fn processor_time_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(answer, 0, "every Linux has this clock");
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// What taking memory cost the hog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
    pub(crate) processor_seconds: f64,
}

impl Took {
    #[expect(clippy::cast_precision_loss, reason = "times for people and ratios")]
    fn of_line(line: &str) -> Self {
        let mut seconds =
            line.split_whitespace().map(|word| word.parse::<u64>().expect("nanoseconds") as f64 / 1e9);
        let mut next = || seconds.next().expect("two numbers");
        Self { seconds: next(), processor_seconds: next() }
    }
}

/// A hog as its test sees it.
pub(crate) struct Hog(pub(crate) Child);

impl Hog {
    /// Starts one in the group with this entry.
    #[track_caller]
    pub(crate) fn start(entry: impl Into<PathBuf>) -> Self {
        Self::start_job(Job::new("hog").enter(entry))
    }

    /// As [`start`](Self::start), from a job.
    #[track_caller]
    pub(crate) fn start_job(job: Job) -> Self {
        let mut child = job.start();
        child.hear().expect("the hog starts");
        Self(child)
    }

    /// Has it take memory by writing to it.
    pub(crate) fn take(&mut self, bytes: u64, threads: usize) -> Result<Took, Ended> {
        self.take_by(bytes, threads, Way::Touch)
    }

    /// As [`take`](Self::take), in another way.
    pub(crate) fn take_by(&mut self, bytes: u64, threads: usize, way: Way) -> Result<Took, Ended> {
        let line = self.0.ask(&format!("take {bytes} {threads} {}", way.name()))?;
        Ok(Took::of_line(&line))
    }

    /// As [`take`](Self::take), but `None` where it takes longer than `time`. Then there is no use for this hog any more.
    pub(crate) fn take_within(
        &mut self,
        bytes: u64,
        threads: usize,
        time: Duration,
    ) -> Result<Option<Took>, Ended> {
        self.0.say(&format!("take {bytes} {threads} {}", Way::Touch.name()));
        Ok(self.0.hear_within(time)?.map(|line| Took::of_line(&line)))
    }

    pub(crate) fn free(&mut self) -> Result<(), Ended> {
        self.0.ask("free").map(drop)
    }
}
