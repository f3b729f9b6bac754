//! Counting what a thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Calls to the allocator are counted in this thread, while it says so.
    static COUNTED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The system's allocator, with a count beside it. A test program that counts names it as its `#[global_allocator]`.
#[derive(Debug)]
pub struct CountingAllocator;

fn count() {
    // A thread that ends has nothing to count any more.
    let _ = COUNTED.try_with(|counted| counted.set(counted.get().map(|count| count + 1)));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local without a destructor, which
// neither allocates nor panics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count();
        // SAFETY: `block` came from `alloc` above with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

/// How often the calling thread allocates and frees in `work`. The program's allocator must be a [`CountingAllocator`], which is
/// checked.
///
/// # Panics
/// It is not.
pub fn allocations_of(work: impl FnOnce()) -> usize {
    let counted = |work: &mut dyn FnMut()| {
        COUNTED.set(Some(0));
        work();
        COUNTED.take().expect("set above")
    };
    assert_eq!(counted(&mut || drop(std::hint::black_box(Box::new(1)))), 2, "no `CountingAllocator`");
    let mut work = Some(work);
    counted(&mut || work.take().into_iter().for_each(|work| work()))
}

/// How often the calling thread has allocated and freed since it called this for the first time: for code that somebody else calls in
/// a thread of theirs. Not to be mixed with [`allocations_of`] in one thread.
pub fn allocations_so_far() -> usize {
    let so_far = COUNTED.get().unwrap_or(0);
    COUNTED.set(Some(so_far));
    so_far
}
