//! Every order of the steps of marking, unmarking and offering.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::model::{check, mistake_in};
use crate::sync::{AtomicU32, Ordering};

/// Two pages of a block, and whether the kernel may take each: what the offer and the rescue really do.
struct Memory {
    block: Block,
    takable: [AtomicU32; 2],
}

impl Memory {
    fn new() -> Self {
        Self { block: Block::new(), takable: [AtomicU32::new(0), AtomicU32::new(0)] }
    }

    fn mark(&self, page: usize) {
        self.block.hold().mark(page..page + 1, Generation::from_ticks(1));
    }

    /// As [`Marks`](crate::marks::Marks) does it.
    fn unmark(&self, page: usize) {
        let held = self.block.hold();
        if self.block.offered.has_any(page..page + 1) {
            // Relaxed: the block's state has ordered the offer before this.
            self.takable[page].store(0, Ordering::Relaxed);
        }
        held.forget_marks(page..page + 1);
    }

    /// As the reclaimer does it.
    fn offer(&self) {
        let seen = self.block.state.glance();
        if self.block.state.begin_offer(seen).is_none() {
            return;
        }
        let fresh = self.block.fresh();
        for page in fresh.runs(1).map(|run| run.start) {
            if self.block.state.is_cancelled() {
                break;
            }
            self.block.offered.insert(page..page + 1);
            // Relaxed: the end of the claim orders it.
            self.takable[page].store(1, Ordering::Relaxed);
        }
        let any = !self.block.offered.all().is_empty();
        let end = self.block.state.end_offer(any, false);
        self.block.wakes.wake(end);
    }

    fn assert_not_takable(&self, page: usize) {
        // Relaxed: the block's state orders it.
        assert_eq!(self.takable[page].load(Ordering::Relaxed), 0, "page {page} could be taken");
    }
}

#[test]
fn no_page_can_be_taken_after_its_unmark() {
    check(|| {
        let memory = Arc::new(Memory::new());
        memory.mark(0);
        let reclaimer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || memory.offer()
        });
        memory.unmark(0);
        memory.assert_not_takable(0);
        reclaimer.join().expect("the model");
        memory.assert_not_takable(0);
    });
}

#[test]
fn neighbours_do_not_disturb_each_other() {
    check(|| {
        let memory = Arc::new(Memory::new());
        memory.mark(0);
        let neighbour = thread::spawn({
            let memory = Arc::clone(&memory);
            move || {
                memory.mark(1);
                memory.unmark(1);
                memory.assert_not_takable(1);
            }
        });
        memory.offer();
        memory.unmark(0);
        memory.assert_not_takable(0);
        neighbour.join().expect("the model");
        memory.offer();
        memory.assert_not_takable(0);
        memory.assert_not_takable(1);
        assert!(memory.block.marked.all().is_empty());
    });
}

#[test]
fn a_mark_beside_an_offer_is_not_forgotten() {
    check(|| {
        let memory = Arc::new(Memory::new());
        memory.mark(0);
        let reclaimer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || memory.offer()
        });
        memory.mark(1);
        reclaimer.join().expect("the model");
        assert!(memory.block.marked.has_all(0..2));
        memory.offer();
        assert!(memory.block.offered.has_all(0..2));
    });
}

/// As `abandon` does it: the pages' marks end, for a thread that knows nothing of who marks them.
fn abandon(memory: &Memory, page: usize) {
    let _claimed = memory.block.claim();
    memory.block.adopted.remove(page..page + 1);
    if memory.block.offered.has_any(page..page + 1) {
        // Relaxed: the claim has ordered the offer before this.
        memory.takable[page].store(0, Ordering::Relaxed);
    }
    memory.block.forget_marks(page..page + 1);
}

#[test]
fn no_page_can_be_taken_after_its_memory_was_abandoned() {
    check(|| {
        let memory = Arc::new(Memory::new());
        memory.block.adopted.insert(0..2);
        memory.mark(0);
        let reclaimer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || memory.offer()
        });
        abandon(&memory, 0);
        memory.assert_not_takable(0);
        reclaimer.join().expect("the model");
        memory.assert_not_takable(0);
    });
}

#[test]
fn a_mark_beside_an_abandonment_is_deferred_or_refused() {
    check(|| {
        let memory = Arc::new(Memory::new());
        memory.block.adopted.insert(0..2);
        let other = thread::spawn({
            let memory = Arc::clone(&memory);
            move || abandon(&memory, 0)
        });
        let held = memory.block.hold();
        let is_deferred = memory.block.adopted.has_all(0..1);
        if is_deferred {
            held.mark(0..1, Generation::from_ticks(1));
        } else {
            drop(held);
        }
        other.join().expect("the model");
        // If it was deferred it came first, and the abandonment has ended it.
        assert!(memory.block.marked.all().is_empty());
        assert!(memory.block.adopted.has_all(1..2) && !memory.block.adopted.has_any(0..1));
    });
}

/// The control: without holding the block, an offer that has read the marks goes on after the unmark.
#[test]
fn control_an_unmark_that_does_not_hold_the_block_is_found_out() {
    let mistake = mistake_in(|| {
        let memory = Arc::new(Memory::new());
        memory.mark(0);
        let reclaimer = thread::spawn({
            let memory = Arc::clone(&memory);
            move || memory.offer()
        });
        memory.block.marked.remove(0..1);
        memory.assert_not_takable(0);
        reclaimer.join().expect("the model");
        memory.assert_not_takable(0);
    });
    assert!(mistake.contains("could be taken"), "{mistake}");
}
