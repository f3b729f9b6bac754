//! Random programs of marks on some pages over the border of two blocks, compared page by page, after each step, with what the
//! documentation says a page may hold.

mod data;
mod free_memory;

use std::ops::Range;

use proptest::prelude::*;
use vrange::raw;
use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::scale;

use crate::support::{BLOCK, Mapping};

/// How many pages a program works on.
const PAGES: usize = 64;
const WHOLE: Range<usize> = 0..PAGES;

/// A few pages, or all from one on.
fn some_pages() -> impl Strategy<Value = Range<usize>> + Clone {
    let length = prop_oneof![3 => 1..=20usize, 1 => Just(PAGES)];
    (WHOLE, length).prop_map(|(start, length)| start..(start + length).min(PAGES))
}

/// The pages that a program works on, in a mapping of their own.
struct Pages {
    mapping: Mapping,
    first: usize,
}

impl Pages {
    fn new() -> Self {
        let mapping = Mapping::new(3 * BLOCK);
        let first = mapping.first_block() + BLOCK - PAGES / 2;
        Self { mapping, first }
    }

    /// The same pages, as the mapping counts them.
    fn of(&self, pages: &Range<usize>) -> Range<usize> {
        self.first + pages.start..self.first + pages.end
    }

    fn at(&self, page: usize) -> *mut u8 {
        self.mapping.at_page(self.first + page)
    }

    /// Where some pages begin, and their bytes.
    fn start(&self, pages: &Range<usize>) -> (*mut u8, usize) {
        (self.at(pages.start), pages.len() * PAGE_BYTES)
    }

    fn write(&self, page: usize, value: u64) {
        self.mapping.write(self.first + page, value);
    }

    fn read(&self, page: usize) -> u64 {
        self.mapping.read(self.first + page)
    }

    fn take(&self, pages: &Range<usize>) {
        take_each(self.mapping.span(self.of(pages)));
    }

    /// Ends marks, and returns which pages were told to be lost, each once.
    #[track_caller]
    fn try_unmark(&self, pages: &Range<usize>) -> (Result<(), vrange::Error>, Vec<usize>) {
        let mut told = Vec::new();
        let (start, bytes) = self.start(pages);
        // SAFETY: nobody stores to the pages meanwhile.
        let outcome = unsafe { raw::unmark_each(start, bytes, |page| told.push(pages.start + page)) };
        let count = told.len();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), count, "told twice");
        (outcome, told)
    }

    #[track_caller]
    fn unmark(&self, pages: &Range<usize>) -> Vec<usize> {
        let (outcome, told) = self.try_unmark(pages);
        outcome.unwrap_or_else(|error| panic!("{pages:?} cannot be unmarked: {error}"));
        told
    }
}

/// Has the kernel take what it may of these pages.
fn take_each(span: Span) {
    for page in 0..span.pages() {
        // Locked pages are refused, and with them what lies behind in the same call.
        let _ = page_out(span.slice(page, 1));
    }
}

/// In a child of a program, which is not to hang for ever.
fn limit_time() {
    // SAFETY: a timer of the child's own.
    unsafe { libc::alarm(60) };
}

/// As many programs are run.
fn count() -> u32 {
    scale().pick(40, 1500)
}
