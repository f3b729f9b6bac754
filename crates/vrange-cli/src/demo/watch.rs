//! Watches pages go without touching them: the page table tells which are there.

use std::io::{BufReader, StdinLock};
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vrange::Phase;
use vrange_os::linux::Linux;
use vrange_os::{PAGE_BYTES, Residency, Span, System as _};

use super::cached::Cached;
use super::wire::{Sample, monotonic_ns};

/// Time from one look to the next. A look at 512 MiB takes 1 to 2 ms of a processor that the hog does not use.
const LOOK_EVERY_MS: i64 = 16;
/// Looks that are kept: memory for them is set aside before memory becomes short.
const LOOKS_MAX: usize = 4096;
/// Buffers that are no farther apart are looked at in one go: a system call for each of 10,000 files would take 30 ms.
const GAP_BYTES_MAX: usize = 1 << 20;

/// What was seen. Holds no memory that grows while memory is short.
#[derive(Debug)]
pub(super) struct Watch {
    linux: &'static Linux,
    /// Where the files are, by address.
    places: Vec<Place>,
    /// Resident pages of each file, at the last look.
    resident_pages: Vec<usize>,
    /// For each file, by position: when it was first seen to miss a page.
    pub(super) lost_at_ns: Vec<Option<u64>>,
    /// The cache as a whole, look by look.
    pub(super) samples: Vec<Sample>,
}

/// Where a file's buffer is.
#[derive(Clone, Copy, Debug)]
struct Place {
    span: Span,
    /// Position of the file in the order of age.
    file: usize,
}

impl Watch {
    /// Takes the first look.
    ///
    /// # Errors
    /// The page table cannot be read.
    pub(super) fn new(files: &[Cached]) -> Result<Self, String> {
        let place = |(file, cached)| Place { span: span(cached), file };
        let mut places: Vec<Place> = files.iter().enumerate().map(place).collect();
        places.sort_by_key(|place| place.span.address());
        let mut watch = Self {
            linux: Linux::get().map_err(|error| error.to_string())?,
            places,
            resident_pages: vec![0; files.len()],
            lost_at_ns: vec![None; files.len()],
            samples: Vec::with_capacity(LOOKS_MAX),
        };
        watch.look()?;
        Ok(watch)
    }

    /// Takes one look at every file.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let at_ns = monotonic_ns();
        self.count_resident_pages()?;
        for place in &self.places {
            let lost_at_ns = &mut self.lost_at_ns[place.file];
            if self.resident_pages[place.file] < place.span.pages() && lost_at_ns.is_none() {
                *lost_at_ns = Some(at_ns);
            }
        }
        if self.samples.len() < LOOKS_MAX {
            let resident_bytes = bytes_of(self.resident_pages.iter().sum());
            self.samples.push(Sample { at_ns, resident_bytes });
        }
        Ok(())
    }

    /// Looks until the parent has something to say.
    pub(super) fn until_readable(&mut self, from: &BufReader<StdinLock<'static>>) -> Result<(), String> {
        let pause = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY_MS * 1_000_000 };
        while from.buffer().is_empty() {
            let stdin = std::io::stdin();
            let mut polled = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
            match poll(&mut polled, Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => self.look()?,
                Ok(_) => break,
                Err(errno) => return Err(format!("poll: {errno}")),
            }
        }
        self.look()
    }

    /// Bytes that were resident at the last look, of the files that are in one phase now.
    pub(super) fn resident_bytes_where(&self, files: &[Cached], phase: Phase) -> u64 {
        let in_phase =
            files.iter().zip(&self.resident_pages).filter(|(file, _)| file.buffer.phase() == phase);
        bytes_of(in_phase.map(|(_, pages)| pages).sum())
    }

    fn count_resident_pages(&mut self) -> Result<(), String> {
        self.resident_pages.fill(0);
        let near = |left: &Place, right: &Place| right.span.address() - left.span.end() <= GAP_BYTES_MAX;
        for group in self.places.chunk_by(near) {
            count_in(self.linux, group, &mut self.resident_pages)?;
        }
        Ok(())
    }
}

/// Adds up the resident pages of files that lie close together.
fn count_in(linux: &Linux, group: &[Place], resident_pages: &mut [usize]) -> Result<(), String> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
    let start = first.span.address();
    let whole = Span::new(start, (last.span.end() - start) / PAGE_BYTES);
    let mut next = 0;
    linux
        .residency(whole, false, &mut |run, residency| {
            // The demo's group does not swap. Outside of one, what is on swap is not in memory either.
            if residency != Residency::Swapped {
                let run = start + run.start * PAGE_BYTES..start + run.end * PAGE_BYTES;
                while group.get(next).is_some_and(|place| place.span.end() <= run.start) {
                    next += 1;
                }
                for place in group[next..].iter().take_while(|place| place.span.address() < run.end) {
                    let from = place.span.address().max(run.start);
                    let to = place.span.end().min(run.end);
                    resident_pages[place.file] += (to - from) / PAGE_BYTES;
                }
            }
        })
        .map_err(|error| error.to_string())
}

/// The pages of a file's buffer.
pub(super) fn span(file: &Cached) -> Span {
    Span::new(file.buffer.as_ptr().addr(), Span::pages_for(file.buffer.len()))
}

fn bytes_of(pages: usize) -> u64 {
    u64::try_from(pages).map_or(u64::MAX, |pages| pages * PAGE_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_for_the_file_they_belong_to() {
        let linux = Linux::get().expect("a supported kernel");
        let memory = linux.reserve(16, vrange_os::Placement::SmallPages, false).expect("address space");
        for page in [0, 1, 3, 4, 5, 9, 15] {
            // SAFETY: inside of the reservation just made.
            let page = unsafe { memory.base().add(page * PAGE_BYTES) };
            // SAFETY: as above; it is writable, and nobody else knows it.
            unsafe { page.write(1) };
        }
        let start = memory.span().address();
        let place = |page: usize, pages: usize, file| Place {
            span: Span::new(start + page * PAGE_BYTES, pages),
            file,
        };
        let group = [place(0, 3, 2), place(3, 2, 0), place(8, 3, 1), place(12, 2, 3)];
        let mut counts = [0; 4];
        count_in(linux, &group, &mut counts).expect("the page table can be read");
        assert_eq!(counts, [2, 1, 2, 0]);
        // SAFETY: nobody uses it any more.
        unsafe { linux.unmap(memory) };
    }
}
