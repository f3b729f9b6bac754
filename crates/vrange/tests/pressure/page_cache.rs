//! A streamed file fills the group with page cache, which is headroom: nothing is given up for it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use vrange_testing::{Job, MemoryGroup, Talk, alone, folder_on_disk, scale, skipped};

use crate::MIB;
use crate::cache::Process;

const LIMIT_BYTES: u64 = 256 * MIB;
const CACHE_BYTES: u64 = 154 * MIB;
const FILE_BYTES: u64 = 4 * LIMIT_BYTES;
/// What a cache here is told to keep as headroom: what it would by itself on a machine that is not too busy.
const RESERVE_BYTES: u64 = 40 * MIB;

/// A large file, removed when dropped. It is one hole: the kernel keeps a page of page cache for each page that is read all
/// the same, without a disk's slowness.
struct LargeFile(PathBuf);

impl LargeFile {
    fn make() -> Result<Self, String> {
        let folder = folder_on_disk(env!("CARGO_TARGET_TMPDIR"))?;
        let file = Self(folder.join(format!("vrange-test-{}", std::process::id())));
        let made = File::create(&file.0).and_then(|made| made.set_len(FILE_BYTES));
        made.map_err(|error| format!("{}: {error}", file.0.display()))?;
        Ok(file)
    }
}

impl Drop for LargeFile {
    fn drop(&mut self) {
        // Tried for the next one's sake; there is nobody to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The job: reads a file as often as told.
pub(crate) fn run(talk: &mut Talk) {
    let path = Path::new(talk.option("file").expect("a file")).to_owned();
    talk.say("ready");
    while let Some(passes) = talk.hear() {
        let mut buffer = vec![0; 1 << 20];
        for _ in 0..passes.parse().expect("a number") {
            let mut file = File::open(&path).expect("the file");
            while file.read(&mut buffer).expect("the file") > 0 {}
        }
        talk.say("read");
    }
}

/// Bytes lost of a cache beside which a file is streamed; `None` where that cannot be tried.
fn lost_bytes_beside_a_stream(words: &str) -> Option<u64> {
    let group = MemoryGroup::make("page-cache", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()?;
    let file = LargeFile::make().map_err(|why| skipped(&why)).ok()?;
    let mut cache = Process::start_filled(&group, CACHE_BYTES, words);
    let mut stream = Job::new(format!("stream file={}", file.0.display())).enter(group.entry()).start();
    stream.hear().expect("the stream starts");
    stream.ask(&scale().pick(2, 5).to_string()).expect("not killed");
    let reading = group.read();
    assert!(reading.usage_bytes > LIMIT_BYTES / 100 * 95, "the file did not fill the group: {reading:?}");
    let found = cache.look().expect("not killed");
    assert_eq!((group.oom_kills(), found.wrong_pages), (0, 0));
    println!(
        "lost {} MiB of {} beside a stream; {}",
        found.lost_bytes / MIB,
        CACHE_BYTES / MIB,
        cache.totals()
    );
    Some(found.lost_bytes)
}

#[test]
fn c13_page_cache_costs_a_reserve_at_most() {
    let _alone = alone();
    let Some(lost_bytes) = lost_bytes_beside_a_stream(&format!("reserve={RESERVE_BYTES}")) else { return };
    assert!(lost_bytes <= RESERVE_BYTES, "{lost_bytes}");
}

/// The control: a loop that takes limit − usage for headroom gives everything up.
#[test]
fn control_with_limit_less_usage_for_headroom_everything_is_lost() {
    let _alone = alone();
    let Some(lost_bytes) = lost_bytes_beside_a_stream("care=limit_less_usage") else { return };
    assert!(lost_bytes > CACHE_BYTES / 10 * 9, "{lost_bytes}");
}
