//! A program's processes on the real kernel.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use vrange::{Error, ErrorKind, raw};
use vrange_model::{Errno, Op, Pages};
use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};

use crate::wire::{Line, Seen};

/// What of the library's protocol is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// All of it.
    All,
    /// For a control: the end of a paired mark is not told to the library.
    NoUnmark,
}

/// The processes, seen from the test.
pub(crate) struct Kernel {
    lines: BTreeMap<u8, Line>,
    /// Processes that have begun and not ended.
    live: Vec<u8>,
    first: libc::pid_t,
    played: usize,
}

impl Kernel {
    /// Starts process 0, which waits to be told.
    pub(crate) fn start(ops: &[Op], protection: Protection) -> Self {
        let forked = ops.iter().filter_map(|op| match op {
            Op::Fork { child, .. } => Some(*child),
            _ => None,
        });
        let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        for process in std::iter::once(0).chain(forked) {
            let (one, other) = Line::pair();
            ours.insert(process, one);
            theirs.insert(process, other);
        }
        // SAFETY: the child plays the program and exits.
        let first = unsafe { libc::fork() };
        assert!(first >= 0, "no process: {}", std::io::Error::last_os_error());
        if first == 0 {
            drop(ours);
            Process::live(ops, protection, theirs);
        }
        Self { lines: ours, live: vec![0], first, played: 0 }
    }

    /// Has the process that the next operation is for play it.
    pub(crate) fn play(&mut self, op: &Op) -> Seen {
        let at = self.played;
        self.played += 1;
        let seen = match *op {
            Op::Pressure { .. } => {
                self.live.iter().for_each(|process| {
                    self.lines[process].order(at);
                    self.lines[process].hear();
                });
                Seen::Done
            }
            Op::Map { process, .. }
            | Op::Unmap { process, .. }
            | Op::Write { process, .. }
            | Op::Read { process, .. }
            | Op::Mark { process, .. }
            | Op::Unmark { process, .. }
            | Op::Purge { process, .. }
            | Op::Exit { process }
            | Op::Fork { parent: process, .. } => {
                self.lines[&process].order(at);
                self.lines[&process].hear()
            }
        };
        match *op {
            Op::Fork { child, .. } => self.live.push(child),
            Op::Exit { process } => self.live.retain(|live| *live != process),
            _ => {}
        }
        seen
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // Without its line each process ends.
        self.lines.clear();
        let mut status = 0;
        // SAFETY: waits for the child made by `start`.
        unsafe { libc::waitpid(self.first, &raw mut status, 0) };
    }
}

/// Where mappings begin, and how far apart they are: more than any has.
const LOWEST: usize = 16 << 30;
const STRIDE: usize = 64 << 20;

struct Mapping {
    base: *mut u8,
    pages: u16,
    paired: bool,
}

impl Mapping {
    fn page(&self, page: u16) -> *mut u8 {
        self.base.wrapping_add(usize::from(page) * PAGE_BYTES)
    }

    /// The word of a page that is written and read: not always at its start.
    fn word(&self, page: u16) -> *mut u64 {
        self.page(page).wrapping_add(usize::from(page) * 8 % PAGE_BYTES).cast()
    }
}

/// One process, seen from itself.
struct Process<'a> {
    ops: &'a [Op],
    protection: Protection,
    line: Line,
    /// For processes that are still to be made.
    others: BTreeMap<u8, Line>,
    mappings: BTreeMap<u8, Mapping>,
}

impl<'a> Process<'a> {
    /// The life of process 0.
    fn live(ops: &'a [Op], protection: Protection, mut lines: BTreeMap<u8, Line>) -> ! {
        let line = lines.remove(&0).expect("the line of process 0");
        Self { ops, protection, line, others: lines, mappings: BTreeMap::new() }.obey()
    }

    /// Plays what it is told to, until the test goes.
    fn obey(&mut self) -> ! {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            while let Some(at) = self.line.next_order() {
                let op = self.ops[at];
                let seen = self.play(&op);
                self.line.tell(&seen);
                if matches!(op, Op::Exit { .. }) {
                    break;
                }
            }
        }));
        // SAFETY: ends the process without the test harness's exit handlers.
        unsafe { libc::_exit(i32::from(ended.is_err())) }
    }

    fn play(&mut self, op: &Op) -> Seen {
        match *op {
            Op::Map { mapping, pages, paired, .. } => self.map(mapping, pages, paired),
            Op::Unmap { mapping, pages, .. } => self.unmap(mapping, pages),
            Op::Write { mapping, page, value, .. } => {
                // SAFETY: the program says that the page is mapped.
                unsafe { self.mappings[&mapping].word(page).write_volatile(value) };
            }
            Op::Read { mapping, page, .. } => {
                // SAFETY: as above.
                return Seen::Value(unsafe { self.mappings[&mapping].word(page).read_volatile() });
            }
            Op::Mark { mapping, pages, .. } => return self.mark(mapping, pages),
            Op::Unmark { mapping, pages, .. } => return self.unmark(mapping, pages),
            Op::Purge { mapping, pages, .. } => self.purge(mapping, pages),
            Op::Fork { child, .. } => self.fork(child),
            Op::Exit { .. } => {}
            Op::Pressure { pages } => self.be_pressed(pages),
        }
        Seen::Done
    }

    fn map(&mut self, mapping: u8, pages: u16, paired: bool) {
        let bytes = usize::from(pages) * PAGE_BYTES;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // Where the kernel puts nothing by itself, since it begins at the top: holes are to stay holes.
        let place = std::ptr::without_provenance_mut(LOWEST + usize::from(mapping) * STRIDE);
        // SAFETY: a new mapping, over nothing.
        let base = unsafe {
            mmap_anonymous(place, bytes, protection, MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE)
        };
        let base = base.expect("address space").cast::<u8>();
        // With a page that is written to a huge page would bring in others that nobody wrote to, and those may go to swap.
        // SAFETY: changes no contents.
        match unsafe { madvise(base.cast(), bytes, Advice::LinuxNoHugepage) } {
            // A kernel without huge pages has nothing to keep out.
            Ok(()) | Err(io::Errno::INVAL) => {}
            Err(errno) => panic!("{errno}"),
        }
        if paired {
            // SAFETY: private, anonymous, readable and writable; its end is told in `unmap`.
            unsafe { raw::adopt(base, bytes) }.expect("to be adopted");
        }
        self.mappings.insert(mapping, Mapping { base, pages, paired });
    }

    fn range(&self, mapping: u8, pages: Pages) -> (*mut u8, usize) {
        (self.mappings[&mapping].page(pages.first), usize::from(pages.count) * PAGE_BYTES)
    }

    fn unmap(&mut self, mapping: u8, pages: Pages) {
        let (start, bytes) = self.range(mapping, pages);
        if self.mappings[&mapping].paired {
            raw::forget(start, bytes).expect("to be forgotten");
        }
        // SAFETY: the program uses the pages no more.
        unsafe { munmap(start.cast(), bytes) }.expect("to be unmapped");
    }

    fn mark(&mut self, mapping: u8, pages: Pages) -> Seen {
        let (start, bytes) = self.range(mapping, pages);
        let marked = if self.mappings[&mapping].paired {
            // SAFETY: the program uses the pages only after their unmark.
            unsafe { raw::mark(start, bytes) }
        } else {
            // SAFETY: their contents may go.
            unsafe { raw::mark_now(start, bytes) }
        };
        Seen::Answer(marked.map_err(|error: Error| match error.kind() {
            ErrorKind::NotMapped => Errno::ENOMEM,
            _ => Errno::EINVAL,
        }))
    }

    fn unmark(&mut self, mapping: u8, pages: Pages) -> Seen {
        let (start, bytes) = self.range(mapping, pages);
        if !self.mappings[&mapping].paired {
            // SAFETY: the process has one thread that uses the memory.
            let kept = unsafe { raw::unmark_now(start, bytes) };
            return kept.map_or_else(|error| panic!("{error}"), |()| Seen::Done);
        }
        let mut lost = vec![false; usize::from(pages.count)];
        if self.protection == Protection::All {
            // SAFETY: as above.
            unsafe { raw::unmark_each(start, bytes, |page| lost[page] = true) }.expect("the end of marks");
        }
        Seen::Lost(lost)
    }

    fn purge(&mut self, mapping: u8, pages: Pages) {
        let (start, bytes) = self.range(mapping, pages);
        if self.mappings[&mapping].paired {
            // SAFETY: what is marked may go.
            unsafe { raw::purge(start, bytes) }.expect("a purge");
        } else {
            // Takes what is volatile and not written to since. Holes are passed over, and told.
            let _ = page_out(Span::new(start.addr(), usize::from(pages.count)));
        }
    }

    fn fork(&mut self, child: u8) {
        let line = self.others.remove(&child).expect("a line for each process");
        // SAFETY: the child goes on as a process of the program.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "no process: {}", std::io::Error::last_os_error());
        if pid == 0 {
            self.line = line;
            self.obey();
        }
    }

    /// Memory is short: some of what is marked is offered, and the kernel takes what it may.
    fn be_pressed(&mut self, pages: u16) {
        raw::offer(u64::from(pages) * PAGE_BYTES as u64).expect("an offer");
        for mapping in self.mappings.values() {
            for page in 0..mapping.pages {
                // Page by page, because of holes.
                let _ = page_out(Span::new(mapping.page(page).addr(), 1));
            }
        }
    }
}
