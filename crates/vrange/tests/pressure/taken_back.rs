//! An allocator that takes back more than it needs, while another process needs memory.
//!
//! It takes free memory in large pieces, of which the program may use little. A piece that comes back with all that was in it counts as
//! used from then on, and nobody can have it.
//!
//! | the allocator hears | it does |
//! |---|---|
//! | `take` | takes all back that it has freed, and says whether memory was short, as it is said to be within two seconds |
//! | `use` | writes to a part of it |

use std::ptr::null_mut;
use std::time::{Duration, Instant};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use vrange::{Content, raw};
use vrange_os::PAGE_BYTES;
use vrange_testing::{Child, Ended, Job, MemoryGroup, Talk, alone, skipped};

use crate::MIB;
use crate::hog::Hog;

const LIMIT_BYTES: u64 = 256 * MIB;
/// Free memory, which is taken back as a whole, and what of it the program then uses. That and what the hog takes are 82 % of the limit.
const FREE_BYTES: u64 = 160 * MIB;
const USED_BYTES: u64 = 10 * MIB;
/// The hog takes so much while memory is free, so that it gets short; and so much more when it was taken back.
const FIRST_BYTES: u64 = 140 * MIB;
const MORE_BYTES: u64 = 60 * MIB;
/// The reclaimer has read how short memory is after this time, however busy the machine.
const READING_MAX: Duration = Duration::from_secs(2);

/// The job: what an allocator's hooks do. `keeping`: what it takes back comes as it was left.
pub(crate) fn run(talk: &mut Talk) {
    let bytes = usize::try_from(FREE_BYTES).expect("fits");
    let (access, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping wherever the kernel likes, until the process ends.
    let memory = unsafe { mmap_anonymous(null_mut(), bytes, access, private) }.expect("address space");
    // SAFETY: changes no contents. A kernel without huge pages refuses.
    let _ = unsafe { madvise(memory, bytes, Advice::LinuxNoHugepage) };
    let memory: *mut u8 = memory.cast();
    raw::set_content(Content::Free { decay: Duration::from_secs(3600) });
    raw::prepare().expect("a reclaimer");
    // SAFETY: as above, and not locked.
    unsafe { raw::adopt(memory, bytes) }.expect("to be adopted");
    // SAFETY: the job's own mapping, which is marked below.
    unsafe { memory.write_bytes(1, bytes) };
    // SAFETY: nobody uses it until it is taken back.
    assert!(unsafe { raw::try_mark(memory, bytes) }.expect("a range"), "there is a reclaimer");
    talk.say("free");
    while let Some(line) = talk.hear() {
        if line == "use" {
            let used = usize::try_from(USED_BYTES).expect("fits");
            // SAFETY: taken back before; nobody else uses it.
            unsafe { memory.write_bytes(2, used) };
            talk.say("used");
            continue;
        }
        let until = Instant::now() + READING_MAX;
        while !raw::is_short() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let is_short = raw::is_short();
        if talk.has("keeping") {
            // SAFETY: nobody uses the memory.
            let _ = unsafe { raw::unmark(memory, bytes) }.expect("taken back");
        } else {
            // SAFETY: nobody uses the memory, or wants its contents.
            let empty = unsafe { raw::unmark_dropped(memory, bytes) }.expect("taken back");
            assert_eq!(empty, bytes / PAGE_BYTES);
        }
        talk.say(if is_short { "short" } else { "plenty" });
    }
}

/// What becomes of the hog. `None`: no groups can be made here.
fn swing(words: &str) -> Option<(MemoryGroup, Result<(), Ended>)> {
    let group = MemoryGroup::make("taken-back", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()?;
    let mut allocator: Child = Job::new(format!("allocator {words}")).enter(group.entry()).start();
    assert_eq!(allocator.hear().expect("it frees"), "free");
    let mut hog = Hog::start(group.entry());
    hog.take(FIRST_BYTES, 1).expect("free memory is there for it");
    // Free memory is offered early, so there is headroom, until it is taken back.
    assert_eq!(allocator.ask("take").expect("it goes on"), "short");
    let more = hog.take(MORE_BYTES, 1).map(drop);
    let used = allocator.ask("use").map(drop);
    Some((group, more.and(used)))
}

#[test]
fn c13_what_is_taken_back_and_not_used_is_there_for_others() {
    let _alone = alone();
    let Some((group, outcome)) = swing("") else { return };
    assert_eq!(group.oom_kills(), 0, "{:?}", group.read());
    outcome.expect("nobody was killed");
}

/// The control: it comes back with all that is in it.
#[test]
fn control_what_is_taken_back_as_it_was_left_has_somebody_killed() {
    let _alone = alone();
    let Some((group, outcome)) = swing("keeping") else { return };
    assert!(outcome.is_err_and(|ended| ended.was_killed()), "nobody was killed: {:?}", group.read());
    assert!(group.oom_kills() > 0);
}

/// Where there is enough, nobody is told that it is short, and what is taken back costs no page fault.
#[test]
fn control_memory_is_not_short_where_there_is_enough() {
    let Ok(group) = MemoryGroup::make("taken-back-plenty", 2 * LIMIT_BYTES) else {
        return skipped("no memory cgroup can be made here");
    };
    let _alone = alone();
    let mut allocator = Job::new("allocator keeping").enter(group.entry()).start();
    assert_eq!(allocator.hear().expect("it frees"), "free");
    let mut hog = Hog::start(group.entry());
    hog.take(FIRST_BYTES, 1).expect("there is enough");
    assert_eq!(allocator.ask("take").expect("it goes on"), "plenty");
}
