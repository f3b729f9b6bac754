//! The hog: a process that faults in memory as fast as it can, page by page, and says how long it took.

use std::io::{BufReader, stdin, stdout};
use std::ptr::null_mut;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use vrange_os::PAGE_BYTES;

use super::wire::{FromHog, ToHog, monotonic_ns, receive, send};
use crate::failure::Failure;

/// Runs the hog's side of the conversation until the parent says so or goes away.
pub(crate) fn run() -> Result<(), Failure> {
    let mut from = BufReader::new(stdin().lock());
    let mut to = stdout().lock();
    let broken = |error: std::io::Error| Failure::io("the hog's", "pipe", &error);
    send(&mut to, &FromHog::Ready).map_err(broken)?;
    let mut held = None;
    while let Some(ToHog::Run { bytes }) = receive(&mut from).map_err(broken)? {
        // What an earlier run held goes first, or the two would add up.
        drop(held.take());
        let Some(memory) = Memory::map(bytes) else {
            return send(&mut to, &FromHog::Failed).map_err(broken);
        };
        let started_ns = monotonic_ns();
        memory.write_every_page();
        let ended_ns = monotonic_ns();
        held = Some(memory);
        send(&mut to, &FromHog::Done { started_ns, ended_ns }).map_err(broken)?;
    }
    Ok(())
}

/// Fresh anonymous memory.
#[derive(Debug)]
pub(crate) struct Memory {
    base: *mut u8,
    bytes: usize,
}

impl Memory {
    /// Maps it, in small pages: huge pages are given only while they lie around unused, so a run with them would
    /// measure how the machine was used before.
    pub(crate) fn map(bytes: u64) -> Option<Self> {
        let bytes = usize::try_from(bytes).ok()?;
        // SAFETY: a new private mapping wherever the kernel likes; it cannot overlap memory in use.
        let base = unsafe {
            mmap_anonymous(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }
        .ok()?;
        // SAFETY: the advice changes no contents. A kernel without huge pages refuses it, which is as good.
        let _ = unsafe { madvise(base, bytes, Advice::LinuxNoHugepage) };
        Some(Self { base: base.cast(), bytes })
    }

    /// One store a page and nothing else: the harshest pace a process can set.
    pub(crate) fn write_every_page(&self) {
        for offset in (0..self.bytes).step_by(PAGE_BYTES) {
            // SAFETY: `offset` is inside the mapping, which is writable and known to nobody else.
            let page = unsafe { self.base.add(offset) };
            // SAFETY: as above. Volatile, so that the stores are not left out although nobody reads them.
            unsafe { page.write_volatile(1) };
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` and no reference into it exists.
        let _ = unsafe { munmap(self.base.cast(), self.bytes) };
    }
}
