//! A process that keeps volatile memory in a container.
//!
//! Its words: `reserve=`, `max_unoffered=` (bytes), `free=` (it keeps garbage, as an allocator does, for so many milliseconds),
//! `unattended` (nobody ever offers).
//!
//! | it hears | it does | it says |
//! |---|---|---|
//! | `keep BYTES` | fills so much more volatile memory, and lets go of it | `kept` |
//! | `hold BYTES` | fills so much more ordinary memory | `held` |
//! | `offer BYTES` | offers the coldest by hand | bytes offered |
//! | `use` | pins and unpins all | bytes that were lost |

use std::time::{Duration, Instant};

use vrange::{Buffer, Content, Heap, Pinned, Reclaimer};
use vrange_testing::{Child, Job, MemoryGroup, Talk, drain_processors};

use crate::MIB;
use crate::figures::Figures;

/// What the kernel counts more or less than there is: lists of a processor's own, page tables, the process itself.
pub(crate) const SLACK_BYTES: u64 = 6 * MIB;
/// The reclaimer needs some milliseconds; a busy machine, or one that is emulated, some more.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn run(talk: &mut Talk) {
    let mut builder = Heap::builder();
    let mut is_unattended = false;
    for word in talk.words() {
        match word.split_once('=') {
            Some(("reserve", bytes)) => builder = builder.reserve(bytes.parse().expect("a number")),
            Some(("max_unoffered", bytes)) => {
                builder = builder.max_unoffered(bytes.parse().expect("a number"));
            }
            Some(("free", ms)) => {
                let decay = Duration::from_millis(ms.parse().expect("a number"));
                builder = builder.content(Content::Free { decay });
            }
            _ if word == "unattended" => is_unattended = true,
            _ => panic!("unknown: {word}"),
        }
    }
    let (heap, _reclaimer): (Heap, Option<Reclaimer>) = if is_unattended {
        let (heap, reclaimer) = builder.build_manual().expect("a heap");
        (heap, Some(reclaimer))
    } else {
        (builder.build().expect("a heap"), None)
    };
    let (mut kept, mut held): (Vec<Buffer>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    talk.say("ready");
    while let Some(line) = talk.hear() {
        let (verb, bytes) = line.split_once(' ').unwrap_or((&line, "0"));
        let bytes: u64 = bytes.parse().expect("a number");
        match verb {
            "keep" => {
                for _ in 0..bytes / MIB {
                    let mut buffer = heap.buffer(1 << 20).expect("a buffer");
                    buffer.pin_mut().intact().expect("new").fill(7);
                    kept.push(buffer);
                }
                talk.say("kept");
            }
            "hold" => {
                held.push(vec![7; usize::try_from(bytes).expect("fits")]);
                talk.say("held");
            }
            "offer" => talk.say(&heap.offer(bytes).to_string()),
            "use" => {
                let lost: u64 = kept.iter().map(lost_bytes).sum();
                talk.say(&lost.to_string());
            }
            _ => panic!("unknown: {line}"),
        }
        drain_processors();
    }
    std::hint::black_box(held);
}

/// Pins it, and lets go of it.
fn lost_bytes(buffer: &Buffer) -> u64 {
    match buffer.pin() {
        Pinned::Intact(_) => 0,
        Pinned::Purged(purged) => purged.lost_bytes() as u64,
    }
}

/// The pod as a test sees it.
pub(crate) struct Pod {
    pub(crate) group: MemoryGroup,
    pub(crate) process: Child,
}

impl Pod {
    /// Starts one in a cgroup with this limit. `None`, and says so, where none can be made.
    pub(crate) fn start(purpose: &str, limit_bytes: u64, words: &str) -> Option<Self> {
        let group =
            MemoryGroup::make(purpose, limit_bytes).map_err(|why| vrange_testing::skipped(&why)).ok()?;
        let mut process = Job::new(format!("pod {words}")).enter(group.entry()).start();
        process.hear().expect("it starts");
        Some(Self { group, process })
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.process.ask(line).expect("nobody was killed")
    }

    #[track_caller]
    pub(crate) fn figures(&self) -> Figures {
        Figures::of(&self.group)
    }

    /// Memory of the process, as `top` shows it, in bytes.
    pub(crate) fn process_resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).expect("it lives");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        line.and_then(|kib| kib.trim().parse::<u64>().ok()).expect("a figure") << 10
    }
}

/// Waits until a group's figures are so.
#[track_caller]
pub(crate) fn wait_until(group: &MemoryGroup, what: &str, is_so: impl Fn(Figures) -> bool) {
    let until = Instant::now() + SETTLED_WITHIN;
    loop {
        let figures = Figures::of(group);
        if is_so(figures) {
            return;
        }
        assert!(Instant::now() < until, "waited for {what}: {figures:?}, {:?}", group.read());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Is one about as much as the other?
pub(crate) fn is_about(bytes: u64, other_bytes: u64) -> bool {
    bytes.abs_diff(other_bytes) <= SLACK_BYTES
}
