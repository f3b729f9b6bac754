//! The service in a memory cgroup in which another program needs memory.

use std::hash::BuildHasher;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use foldhash::fast::FixedState;
use vrange_testing::{Job, MemoryGroup, Talk, alone, scale, skipped};

use crate::page::render;
use crate::{Running, count, files_below};

const MIB: u64 = 1 << 20;
const GROUP_BYTES: u64 = 96 * MIB;
/// What the other program takes at once.
const HOG_BYTES: u64 = 56 * MIB;
/// Of all pages together: more than the group has memory.
const PAGES_BYTES: u64 = 120 * MIB;
const FILE_BYTES_MIN: u64 = 8 << 10;
const FILE_BYTES_MAX: u64 = 192 << 10;
/// Where there are files of the system.
const FOLDER: &str = "/usr";
/// What is asked for while the other program runs: the pages that were asked for last, which fit beside it.
const HOT_ONE_IN: usize = 12;

/// Takes memory and frees it, as it is told.
pub(crate) fn run_hog(talk: &mut Talk) {
    while let Some(line) = talk.hear() {
        let bytes: usize = line.parse().expect("a number of bytes");
        let mut memory = vec![0_u8; bytes];
        memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        talk.say("taken");
        // Until the next line, which is empty.
        let _ = talk.hear();
        drop(memory);
        talk.say("freed");
    }
}

/// Pages, and what each has to be.
struct Pages {
    names: Vec<String>,
    hashes: Vec<u64>,
    bytes: u64,
}

fn hash(page: &[u8]) -> u64 {
    FixedState::default().hash_one(page)
}

impl Pages {
    /// The same for all tests: to make them takes a while.
    fn chosen() -> Result<&'static Self, String> {
        static CHOSEN: OnceLock<Result<Pages, String>> = OnceLock::new();
        CHOSEN.get_or_init(Self::choose).as_ref().map_err(String::clone)
    }

    /// Of files of the system, until they are enough.
    fn choose() -> Result<Self, String> {
        let mut chosen = Self { names: Vec::new(), hashes: Vec::new(), bytes: 0 };
        let folder = Path::new(FOLDER);
        let mut bytes = 0;
        let names = files_below(folder, &mut |_, length| {
            // A page has at least as many bytes as its file.
            let is_wanted = (FILE_BYTES_MIN..FILE_BYTES_MAX).contains(&length) && bytes < PAGES_BYTES;
            bytes += if is_wanted { length } else { 0 };
            is_wanted
        });
        for name in names {
            if chosen.bytes >= PAGES_BYTES {
                break;
            }
            let Ok(file) = std::fs::read(folder.join(&name)) else { continue };
            let page = render(&name, &file);
            chosen.bytes += page.len() as u64;
            chosen.hashes.push(hash(&page));
            chosen.names.push(name);
        }
        if chosen.bytes < PAGES_BYTES {
            return Err(format!("{FOLDER} has files for {} MiB of pages only", chosen.bytes / MIB));
        }
        Ok(chosen)
    }

    /// Asks for some pages, one after the other. False: the service is gone.
    fn ask(&self, running: u16, which: impl Iterator<Item = usize>) -> bool {
        let Ok(mut client) = crate::client::Client::connect(running) else { return false };
        for number in which {
            let Ok(page) = client.page(&self.names[number]) else { return false };
            assert_eq!(hash(&page), self.hashes[number], "{}", self.names[number]);
        }
        true
    }

    /// Has two clients ask for all pages once. False: the service is gone.
    fn ask_for_all(&self, port: u16) -> bool {
        let half = |first: usize| self.ask(port, (first..self.names.len()).step_by(2));
        thread::scope(|scope| {
            let halves = [0, 1].map(|first| scope.spawn(move || half(first)));
            halves.into_iter().all(|half| half.join().expect("every page right"))
        })
    }

    fn hot_count(&self) -> usize {
        self.names.len() / HOT_ONE_IN
    }

    /// The numbers of those that were asked for last, again and again.
    fn hot(&self) -> impl Iterator<Item = usize> {
        (self.names.len() - self.hot_count()..self.names.len()).cycle()
    }
}

#[test]
fn beside_a_program_that_needs_memory_the_service_lives_and_keeps_what_it_can() {
    let _alone = alone();
    let (group, pages) =
        match MemoryGroup::make("service", GROUP_BYTES).and_then(|group| Ok((group, Pages::chosen()?))) {
            Ok(both) => both,
            Err(why) => return skipped(&why),
        };
    let running = Running::start("volatile", Path::new(FOLDER), Some(group.entry()));
    assert!(pages.ask_for_all(running.port), "it was killed without anybody else");
    let full = running.client().stats().expect("an answer");
    let held = |stats: &str| count(stats, "resident_bytes") + count(stats, "offered_bytes");
    assert!(held(&full) > GROUP_BYTES / 3, "it has grown: {full}");
    assert!(held(&full) < GROUP_BYTES, "and stopped: {full}");

    let mut hog = Job::new("hog").enter(group.entry()).start();
    let is_over = AtomicBool::new(false);
    let mut squeezed = None;
    // Relaxed, both: the flag orders nothing.
    let hot = || pages.hot().take_while(|_| !is_over.load(Ordering::Relaxed));
    thread::scope(|scope| {
        let clients =
            [0, 1].map(|_| scope.spawn(|| assert!(pages.ask(running.port, hot()), "it was killed")));
        for _ in 0..scale().pick(3, 20) {
            hog.say(&HOG_BYTES.to_string());
            hog.hear().expect("the other program was killed");
            thread::sleep(Duration::from_millis(300));
            squeezed = running.client().stats().ok();
            hog.ask("").expect("the other program was killed");
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("every page right"));
    });
    let squeezed = squeezed.expect("an answer");
    println!("full {full}\nsqueezed {squeezed}");
    assert_eq!(group.oom_kills(), 0);
    // Which entries are gone is noticed when somebody asks for them; how much memory is, at once.
    let kept_bytes_max = held(&full).min(GROUP_BYTES - HOG_BYTES);
    assert!(held(&squeezed) < kept_bytes_max, "it has given memory back: {squeezed} after {full}");
    assert!(count(&squeezed, "hits") > count(&full, "hits"), "{squeezed} after {full}");

    // The other program has ended: what is asked for from now on is kept.
    drop(hog);
    let hot_once = || pages.hot().take(pages.hot_count());
    assert!((0..2).all(|_| pages.ask(running.port, hot_once())), "it was killed when all was over");
    let hits = || count(&running.client().stats().expect("an answer"), "hits");
    let before = hits();
    assert!(pages.ask(running.port, hot_once()));
    let kept = hits() - before;
    println!("{kept} of {} kept when all was over", pages.hot_count());
    assert!(kept * 10 >= pages.hot_count() as u64 * 9);
    running.interrupt();
}

/// The control: pages in ordinary memory.
#[test]
fn with_pages_in_ordinary_memory_it_is_killed() {
    let _alone = alone();
    let (group, pages) =
        match MemoryGroup::make("ordinary", GROUP_BYTES).and_then(|group| Ok((group, Pages::chosen()?))) {
            Ok(both) => both,
            Err(why) => return skipped(&why),
        };
    let mut running = Running::start("ordinary", Path::new(FOLDER), Some(group.entry()));
    assert!(!pages.ask_for_all(running.port));
    assert!(running.child.hear().expect_err("it was killed").was_killed());
    assert!(group.oom_kills() > 0);
}
