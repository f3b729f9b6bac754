//! What goes wrong without the protocol. Each control does by hand, on memory of its own, what a simpler design would do,
//! and must lose data silently; the same steps through a buffer must not.

use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use vrange::{Heap, Pinned};
use vrange_os::linux::{Linux, page_out};
use vrange_os::{PAGE_BYTES, Placement, Reservation, Residency, Span, System};

const PAGES: usize = 64;
const WORDS: usize = PAGE_BYTES / 8;
const STAMP: u64 = 0x5afe_5afe_5afe_5afe;

/// Pages of our own, written, with nobody to look after them.
struct Pages {
    memory: Option<Reservation>,
}

impl Pages {
    fn written() -> Self {
        let pages = Self::untouched();
        pages.write(0..PAGES, STAMP);
        pages
    }

    fn untouched() -> Self {
        stay_on_one_processor();
        let memory = linux().reserve(PAGES, Placement::SmallPages, false).expect("room");
        Self { memory: Some(memory) }
    }

    fn write(&self, pages: Range<usize>, value: u64) {
        let words = pages.start * WORDS..pages.end * WORDS;
        words.for_each(|word| self.word(word).store(value, Ordering::Relaxed));
    }

    fn is_zero(&self, page: usize) -> bool {
        (0..WORDS).all(|word| self.word(page * WORDS + word).load(Ordering::Relaxed) == 0)
    }

    /// Which pages are resident, as `mincore(2)` sees it.
    fn resident(&self) -> [bool; PAGES] {
        let mut answers = [0u8; PAGES];
        let start = std::ptr::without_provenance_mut(self.span().address());
        // SAFETY: the pages are mapped, and there is room for an answer to each.
        // tidy: allow(banned-call): the control shows what this call gets wrong.
        let answer = unsafe { libc::mincore(start, self.span().bytes(), answers.as_mut_ptr()) };
        assert_eq!(answer, 0, "mincore: {}", std::io::Error::last_os_error());
        answers.map(|answer| answer & 1 != 0)
    }

    fn span(&self) -> Span {
        self.memory.as_ref().expect("until dropped").span()
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        assert!(word < PAGES * WORDS);
        let base = self.memory.as_ref().expect("until dropped").base().cast::<u64>();
        // SAFETY: mapped readable and writable as long as `self`, in bounds, aligned; used as atomics only.
        unsafe { AtomicU64::from_ptr(base.wrapping_add(word)) }
    }

    fn offer(&self) {
        // SAFETY: our own memory, whose contents may be lost.
        let offered = unsafe { linux().offer(&[self.span()]) };
        assert_eq!((offered.pages, offered.stopped_by), (PAGES, None));
    }

    fn take(&self) {
        page_out(self.span()).expect("the kernel takes MADV_PAGEOUT");
    }

    /// Pages that still hold all that was written.
    fn kept(&self) -> usize {
        let holds = |page: &usize| {
            (0..WORDS).all(|word| self.word(page * WORDS + word).load(Ordering::Relaxed) == STAMP)
        };
        (0..PAGES).filter(holds).count()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            // SAFETY: nobody refers to the pages any more.
            unsafe { linux().unmap(memory) };
        }
    }
}

/// Offered pages wait in a list of the processor's own for their place in the kernel's, and `MADV_PAGEOUT` looks only into
/// that of the processor it runs on. Threads that are spawned later stay there as well.
fn stay_on_one_processor() {
    let mut processors = CpuSet::new();
    processors.set(sched_getcpu());
    sched_setaffinity(None, &processors).expect("the processor it runs on is allowed");
}

fn linux() -> &'static Linux {
    Linux::get().expect("this kernel is supported")
}

/// Offers pages, has `rescue` say which it takes for intact, lets the kernel take what it can, and counts those that
/// are gone all the same.
fn misjudged(rescue: impl Fn(&Pages, usize) -> bool) -> usize {
    let pages = Pages::written();
    pages.offer();
    let intact = (0..PAGES).filter(|page| rescue(&pages, *page)).count();
    assert_eq!(intact, PAGES, "nothing was taken yet");
    pages.take();
    intact - pages.kept()
}

#[test]
fn a_rescue_that_only_loads_loses_what_it_calls_intact() {
    let load = |pages: &Pages, page: usize| pages.word(page * WORDS).load(Ordering::SeqCst) != 0;
    assert_eq!(misjudged(load), PAGES);
}

#[test]
fn a_rescue_by_a_fence_and_a_load_is_no_better() {
    let fenced_load = |pages: &Pages, page: usize| {
        fence(Ordering::SeqCst);
        pages.word(page * WORDS).load(Ordering::SeqCst) != 0
    };
    assert_eq!(misjudged(fenced_load), PAGES);
}

/// An idempotent read-modify-write is what LLVM makes that fence and load of, on this architecture and in optimized
/// builds. In others the zero is not known at compile time, and the operation stays one; and an optimized build that still
/// asserts cannot be told from those.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_rescue_by_an_idempotent_operation_is_such_a_load_when_optimized() {
    // tidy: allow(banned-call): the control shows what this call fails to do.
    let or_zero = |pages: &Pages, page: usize| pages.word(page * WORDS).fetch_or(0, Ordering::SeqCst) != 0;
    let lost = misjudged(or_zero);
    assert!(lost == PAGES || cfg!(debug_assertions) && lost == 0, "{lost} pages");
}

#[test]
fn a_rescue_that_stores_what_it_loaded_brings_back_one_word_of_a_page() {
    let pages = Pages::written();
    pages.offer();
    let intact = (0..PAGES).filter(|page| {
        let first = pages.word(page * WORDS);
        let value = first.load(Ordering::SeqCst);
        // The kernel is not late, it comes in between.
        page_out(pages.span().slice(*page, 1)).expect("the kernel takes MADV_PAGEOUT");
        first.store(value, Ordering::SeqCst);
        value != 0
    });
    assert_eq!((intact.count(), pages.kept()), (PAGES, 0));
    assert_eq!(pages.word(0).load(Ordering::Relaxed), STAMP, "the one that was looked at");
}

#[test]
fn a_pin_that_does_not_wait_for_an_offer_in_progress_loses_what_it_writes() {
    let pages = Pages::written();
    let (noted, pinned) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|threads| {
        let offerer = threads.spawn(|| {
            // Chosen and noted; the system call is about to be made.
            noted.wait();
            pinned.wait();
            pages.offer();
        });
        noted.wait();
        // "Being offered" taken for "volatile": pinned at once, and written.
        (0..PAGES * WORDS).for_each(|word| pages.word(word).store(STAMP, Ordering::SeqCst));
        pinned.wait();
        offerer.join().expect("the offerer does not fail");
    });
    pages.take();
    assert_eq!(pages.kept(), 0, "new bytes were lost under the pin");
}

/// Whoever takes a zero page for a lost one refills what was there, or was never wanted.
#[test]
fn zeros_taken_for_a_loss_misjudge_blank_and_unwritten_pages() {
    const BLANK: Range<usize> = 0..PAGES / 4;
    const UNWRITTEN: Range<usize> = PAGES / 4..PAGES / 2;
    let pages = Pages::untouched();
    pages.write(BLANK, 0);
    pages.write(PAGES / 2..PAGES, STAMP);
    pages.offer();
    let called_lost: Vec<usize> = (0..PAGES).filter(|page| pages.is_zero(*page)).collect();
    assert_eq!(called_lost, (BLANK.start..UNWRITTEN.end).collect::<Vec<_>>(), "though nothing was taken");

    let (heap, _reclaimer) = Heap::builder().build_manual().expect("this kernel is supported");
    let mut buffer = heap.buffer(PAGES * PAGE_BYTES).expect("room");
    let mut guard = buffer.pin_mut().intact().expect("new");
    guard.as_mut_slice_of::<u64>()[..BLANK.end * WORDS].fill(0);
    guard.as_mut_slice_of::<u64>()[UNWRITTEN.end * WORDS..].fill(STAMP);
    drop(guard);
    assert!(buffer.offer());
    assert!(buffer.pin().intact().is_some(), "nothing was taken");
    // And the same when all that was written is gone.
    assert!(buffer.offer());
    page_out(Span::new(buffer.as_ptr().addr(), PAGES)).expect("the kernel takes MADV_PAGEOUT");
    let Pinned::Purged(purged) = buffer.pin() else { panic!("lost, and not reported") };
    assert_eq!(purged.lost_pages(), PAGES / 2);
    assert_eq!(purged.lost().next(), Some(UNWRITTEN.end * PAGE_BYTES..PAGES * PAGE_BYTES));
}

/// A page that was only read is the kernel's zero page, which is nobody's: whoever takes it for a resident one makes it dirty in
/// a rescue, and so brings memory in for nothing.
#[test]
fn mincore_calls_the_zero_page_resident() {
    let pages = Pages::untouched();
    assert_eq!(pages.resident(), [false; PAGES]);
    assert!((0..PAGES).all(|page| pages.is_zero(page)));
    assert_eq!(pages.resident(), [true; PAGES]);
    // The page table knows that none of them is this process's own.
    let mut own = 0;
    let mut count = |run: Range<usize>, what| own += if what == Residency::Present { run.len() } else { 0 };
    linux().residency(pages.span(), true, &mut count).expect("a page table that can be read");
    assert_eq!(own, 0);
}

/// A page on swap has contents. Whoever takes it for one that was never written has nothing to miss when an offer drops it.
#[test]
fn mincore_calls_swapped_pages_absent() {
    if !vrange_testing::has_swap() {
        return vrange_testing::skipped("this machine has no swap");
    }
    let pages = Pages::written();
    pages.take();
    let resident = pages.resident();
    let absent: Vec<usize> = (0..PAGES).filter(|page| !resident[*page]).collect();
    if absent.is_empty() {
        return vrange_testing::skipped("the kernel swaps nothing out");
    }
    pages.offer();
    let lost = absent.iter().filter(|page| pages.is_zero(**page)).count();
    assert_eq!(lost, absent.len(), "had no contents, so nobody looks for them");
}

/// The second pinner of what was lost needs to know as much as the first.
#[test]
fn a_loss_that_the_first_pin_clears_is_not_told_to_the_second() {
    let pages = Pages::written();
    pages.offer();
    pages.take();
    let is_offered = AtomicBool::new(true);
    // Looks at the pages after an offer, and only then.
    let pin = || match is_offered.swap(false, Ordering::SeqCst) {
        true => (0..PAGES).filter(|page| pages.word(page * WORDS).load(Ordering::SeqCst) == 0).count(),
        false => 0,
    };
    assert_eq!([pin(), pin()], [PAGES, 0], "called intact");
    assert_eq!(pages.kept(), 0, "and nothing is there");

    let (heap, _reclaimer) = Heap::builder().build_manual().expect("this kernel is supported");
    let mut buffer = heap.buffer(PAGES * PAGE_BYTES).expect("room");
    buffer.pin_mut().intact().expect("new").as_mut_slice_of::<u64>().fill(STAMP);
    assert!(buffer.offer());
    page_out(Span::new(buffer.as_ptr().addr(), PAGES)).expect("the kernel takes MADV_PAGEOUT");
    for _ in 0..2 {
        let Pinned::Purged(purged) = buffer.pin() else { panic!("lost, and not reported") };
        assert_eq!(purged.lost_pages(), PAGES);
    }
    let Pinned::Purged(purged) = buffer.pin_mut() else { panic!("lost, and not reported") };
    drop(purged.acknowledge());
    assert!(!buffer.pin().is_purged(), "reported until then");
}

#[test]
fn a_buffer_misjudges_nothing() {
    stay_on_one_processor();
    let (heap, _reclaimer) = Heap::builder().build_manual().expect("this kernel is supported");
    let mut buffer = heap.buffer(PAGES * PAGE_BYTES).expect("room");
    buffer.pin_mut().intact().expect("new").as_mut_slice_of::<u64>().fill(STAMP);
    let span = Span::new(buffer.as_ptr().addr(), PAGES);
    assert!(buffer.offer());
    let guard = buffer.pin().intact().expect("nothing was taken yet");
    page_out(span).expect("the kernel takes MADV_PAGEOUT");
    assert!(guard.as_slice_of::<u64>().iter().all(|word| *word == STAMP), "taken under the pin");
    drop(guard);
    assert!(buffer.offer());
    page_out(span).expect("the kernel takes MADV_PAGEOUT");
    let Pinned::Purged(purged) = buffer.pin() else { panic!("lost, and not reported") };
    assert_eq!(purged.lost_pages(), PAGES);
}
