//! What one would do without the library, at its best: the same pages, huge where ours are, and no more work than needed.

use std::ptr::null_mut;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use vrange_os::{HUGE_PAGE_BYTES, PAGE_BYTES};

use super::samples::{Op, Samples};
use crate::failure::Failure;

/// What a tag is. Odd, so that it is never zero and can be told from what an aligned pointer would be.
const TAG: u64 = 0x7461_6701;

/// Pairs of flag changes that are timed together.
const FLAG_PAIRS: usize = 16;

/// Memory with nothing to it.
#[derive(Debug)]
pub(super) struct Peers {
    /// All ranges, one behind the other.
    memory: Mapping,
    /// One range that is a mapping by itself, as far from others as the kernel needs to leave it alone.
    alone: Mapping,
    bytes: usize,
    ranges: usize,
    /// The words that tags stand in for.
    replaced: Vec<u64>,
}

impl Peers {
    /// Maps and fills the memory.
    pub(super) fn new(bytes: usize, ranges: usize) -> Result<Self, Failure> {
        let failed = |errno: Errno| Failure::run(format!("mapping memory to compare with: {errno}"));
        let memory = Mapping::new(bytes * ranges, bytes >= HUGE_PAGE_BYTES).map_err(failed)?;
        let alone = Mapping::new(bytes, bytes >= HUGE_PAGE_BYTES).map_err(failed)?;
        memory.write_every_page();
        alone.write_every_page();
        Ok(Self { memory, alone, bytes, ranges, replaced: vec![0; bytes / PAGE_BYTES] })
    }

    /// Does every operation once to every range.
    pub(super) fn round(&mut self, samples: &mut Samples) -> Result<(), Failure> {
        let failed = |errno: Errno| Failure::run(format!("advice to compare with: {errno}"));
        self.tag_pages(samples);
        self.vma_flag_pairs(samples).map_err(failed)?;
        samples.add(Op::MadvFree, self.advise_each(Advice::LinuxFree).map_err(failed)?, self.ranges);
        samples.add(Op::FreeRetouch, self.touch(), self.ranges);
        samples.add(Op::DontNeed, self.advise_each(Advice::LinuxDontNeed).map_err(failed)?, self.ranges);
        samples.add(Op::Refault, self.touch(), self.ranges);
        Ok(())
    }

    fn advise_each(&self, advice: Advice) -> Result<Duration, Errno> {
        let mut took = Duration::ZERO;
        for range in 0..self.ranges {
            let start = Instant::now();
            self.memory.advise(range * self.bytes, self.bytes, advice)?;
            took += start.elapsed();
        }
        Ok(took)
    }

    fn touch(&self) -> Duration {
        let start = Instant::now();
        self.memory.write_every_page();
        start.elapsed()
    }

    /// The call that would carry a volatile flag would cost this much.
    fn vma_flag_pairs(&self, samples: &mut Samples) -> Result<(), Errno> {
        let start = Instant::now();
        for _ in 0..FLAG_PAIRS {
            self.alone.advise(0, self.bytes, Advice::LinuxDontDump)?;
            self.alone.advise(0, self.bytes, Advice::LinuxDoDump)?;
        }
        samples.add(Op::VmaFlagPair, start.elapsed(), FLAG_PAIRS);
        Ok(())
    }

    /// What libraries do that look for a tag to tell whether a page was discarded. Without the advice itself.
    fn tag_pages(&mut self, samples: &mut Samples) {
        let start = Instant::now();
        for (page, replaced) in self.replaced.iter_mut().enumerate() {
            *replaced = self.alone.swap_word(page * PAGE_BYTES, TAG);
        }
        let mut lost_pages = 0_usize;
        for (page, replaced) in self.replaced.iter().enumerate() {
            lost_pages += usize::from(self.alone.swap_word(page * PAGE_BYTES, *replaced) != TAG);
        }
        let took = start.elapsed();
        if std::hint::black_box(lost_pages) == 0 {
            samples.add(Op::TagPages, took, 1);
        }
    }
}

/// Anonymous memory, a mapping by itself: inaccessible pages on both sides keep others from being merged with it.
#[derive(Debug)]
struct Mapping {
    whole: *mut u8,
    whole_bytes: usize,
    base: *mut u8,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize, huge: bool) -> Result<Self, Errno> {
        let align = if huge { HUGE_PAGE_BYTES } else { PAGE_BYTES };
        let whole_bytes = bytes + 2 * align;
        // SAFETY: a new private mapping wherever the kernel likes; it cannot overlap memory in use.
        let whole =
            unsafe { mmap_anonymous(null_mut(), whole_bytes, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        let whole = whole.cast::<u8>();
        let lead = (whole.addr() + PAGE_BYTES).next_multiple_of(align) - whole.addr();
        // SAFETY: `lead` is at most `align`, so at least `bytes` more lie behind it in the mapping.
        let base = unsafe { whole.add(lead) };
        let mapping = Self { whole, whole_bytes, base, bytes };
        // SAFETY: a part of the mapping just made, which nobody else knows.
        unsafe { mprotect(base.cast(), bytes, MprotectFlags::READ | MprotectFlags::WRITE) }?;
        let advice = if huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
        match mapping.advise(0, bytes, advice) {
            // Without huge pages in the kernel there is nothing to choose from.
            Ok(()) | Err(Errno::INVAL) => Ok(mapping),
            Err(errno) => Err(errno),
        }
    }

    fn advise(&self, offset: usize, bytes: usize, advice: Advice) -> Result<(), Errno> {
        debug_assert!(offset + bytes <= self.bytes, "the range is inside");
        // SAFETY: `offset` is inside the mapping.
        let start = unsafe { self.base.add(offset) };
        // SAFETY: the memory is ours, no reference into it exists, and its contents matter to nobody.
        unsafe { madvise(start.cast(), bytes, advice) }
    }

    fn write_every_page(&self) {
        for offset in (0..self.bytes).step_by(PAGE_BYTES) {
            self.swap_word(offset, 1);
        }
    }

    /// Reads the word at `offset`, a multiple of the page size, and writes another. Volatile: the accesses themselves
    /// are what is measured.
    fn swap_word(&self, offset: usize, word: u64) -> u64 {
        debug_assert!(offset < self.bytes, "the word is inside");
        // SAFETY: inside the mapping, by the assertion's condition, which all callers keep.
        let at = unsafe { self.base.add(offset) }.cast::<u64>();
        // SAFETY: as above; readable, aligned to a page, and known to nobody else.
        let before = unsafe { at.read_volatile() };
        // SAFETY: as above; writable.
        unsafe { at.write_volatile(word) };
        before
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and no reference into it exists.
        let _ = unsafe { munmap(self.whole.cast(), self.whole_bytes) };
    }
}
