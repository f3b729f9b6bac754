//! The cache process: files in volatile buffers, their digests in ordinary memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use vrange::{Heap, Phase, Pinned};

use super::cached::{Cached, Link};
use super::files::SHARE_OF_MEMORY;
use super::verify;
use super::watch::Watch;
use super::wire::{FromCache, ToCache, receive};
use crate::failure::Failure;
use crate::shuffle::Shuffle;

/// While the cache is at most this full (per cent of its target) old files are touched again, so that the order of age
/// is neither that of reading nor that of addresses. Later, what is oldest may be with the kernel already, and the
/// kernel keeps an offered page's place in its queue even if the page is rescued and offered once more.
const TOUCH_UNTIL_PERCENT: u64 = 60;
/// How many steps the lever is pulled in, so that there is an order to see.
const LEVER_STEPS: u64 = 40;

/// Serves the parent until it says so or goes away. A failure is told to the parent, which tells the user.
pub(crate) fn run() -> Result<(), Failure> {
    let mut link = Link::new();
    match serve(&mut link) {
        Ok(()) => Ok(()),
        Err(message) => link
            .answer(&FromCache::Failed { message: message.clone() })
            .map_err(|_| Failure::run(format!("the cache process: {message}"))),
    }
}

fn serve(link: &mut Link) -> Result<(), String> {
    let heap = Heap::builder().name("demo").build().map_err(|error| error.to_string())?;
    let mut cache = Cache { heap, files: Vec::new(), touches: 0, shuffle: Shuffle::new() };
    let mut watch = None;
    while let Some(request) =
        receive(&mut link.from).map_err(|error| format!("reading a request: {error}"))?
    {
        match request {
            ToCache::Fill { target_bytes, files } => {
                let cached_bytes = cache.fill(target_bytes, &files, link)?;
                link.answer(&FromCache::Filled { cached_bytes })?;
            }
            ToCache::Watch => watch = Some(cache.watch(link)?),
            ToCache::PullLever { bytes } => {
                watch = Some(cache.pull_lever(bytes)?);
                link.answer(&FromCache::LeverPulled)?;
            }
            ToCache::Verify { memory_bytes } => {
                let mut report = verify::report(&cache.files, watch.as_ref(), link)?;
                report.offered_bytes = cache.heap.stats().offered.bytes();
                report.reserve_bytes = cache.heap.reserve_in_cgroup(memory_bytes);
                link.answer(&FromCache::Verified(Box::new(report)))?;
            }
        }
    }
    Ok(())
}

struct Cache {
    heap: Heap,
    files: Vec<Cached>,
    touches: u64,
    shuffle: Shuffle,
}

impl Cache {
    /// Reads files until `target_bytes` are held. A file that cannot be read is passed over.
    fn fill(&mut self, target_bytes: u64, paths: &[PathBuf], link: &mut Link) -> Result<u64, String> {
        const PROGRESS_BYTES: u64 = 4 << 20;
        self.files.reserve_exact(paths.len());
        let mut cached_bytes = 0;
        let mut reported_bytes = 0;
        for path in paths {
            let Ok(Some((file, bytes))) = open(path, target_bytes / SHARE_OF_MEMORY) else { continue };
            let held_bytes = bytes.next_multiple_of(vrange_os::PAGE_BYTES as u64);
            if cached_bytes + held_bytes > target_bytes {
                continue;
            }
            let Some(cached) = self.read(path, file, bytes)? else { continue };
            cached_bytes += held_bytes;
            self.files.push(cached);
            if cached_bytes < target_bytes / 100 * TOUCH_UNTIL_PERCENT {
                self.touch_one();
            }
            if cached_bytes - reported_bytes >= PROGRESS_BYTES {
                reported_bytes = cached_bytes;
                link.answer(&FromCache::Progress { done_bytes: cached_bytes })?;
            }
        }
        self.files.sort_by_key(|file| file.age);
        Ok(cached_bytes)
    }

    /// Reads one file into a buffer of its own. None if it cannot be read or has become shorter.
    fn read(&mut self, path: &Path, mut file: File, bytes: u64) -> Result<Option<Cached>, String> {
        let len = usize::try_from(bytes).map_err(|_| "a file is larger than the address space".to_owned())?;
        let mut buffer = self.heap.buffer(len).map_err(|error| error.to_string())?;
        let mut guard = match buffer.pin_mut() {
            Pinned::Intact(guard) => guard,
            // Nothing was there to lose; whatever is reported, the file is written over it.
            Pinned::Purged(purged) => purged.acknowledge(),
        };
        if file.read_exact(&mut guard).is_err() {
            return Ok(None);
        }
        let digest = blake3::hash(&guard);
        drop(guard);
        self.touches += 1;
        Ok(Some(Cached { path: path.to_owned(), buffer, digest, age: self.touches }))
    }

    /// Pins and unpins a file at random, which makes it the youngest.
    fn touch_one(&mut self) {
        let index = self.shuffle.below(self.files.len());
        let file = &mut self.files[index];
        drop(file.buffer.pin());
        self.touches += 1;
        file.age = self.touches;
    }

    /// Looks at the pages again and again until the next request.
    fn watch(&self, link: &mut Link) -> Result<Watch, String> {
        let mut watch = Watch::new(&self.files)?;
        let offered_bytes = watch.resident_bytes_where(&self.files, Phase::Offered);
        link.answer(&FromCache::Watching { offered_bytes })?;
        watch.until_readable(&link.from)?;
        Ok(watch)
    }

    /// Gives up `bytes`: offers what is oldest, then has the kernel take exactly what was offered.
    fn pull_lever(&self, bytes: u64) -> Result<Watch, String> {
        let mut watch = Watch::new(&self.files)?;
        let mut offered_bytes = 0;
        for step in 1..=LEVER_STEPS {
            let due_bytes = (bytes / LEVER_STEPS * step).saturating_sub(offered_bytes);
            offered_bytes += self.heap.offer(due_bytes);
            for file in &self.files {
                if file.buffer.phase() == Phase::Offered {
                    vrange_os::linux::page_out(super::watch::span(file))
                        .map_err(|error| error.to_string())?;
                }
            }
            watch.look()?;
        }
        Ok(watch)
    }
}

/// Opens a file if it is (still) a regular one of 1 to `bytes_max` bytes.
fn open(path: &Path, bytes_max: u64) -> io::Result<Option<(File, u64)>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    let usable = metadata.is_file() && (1..=bytes_max).contains(&metadata.len());
    Ok(usable.then_some((file, metadata.len())))
}
