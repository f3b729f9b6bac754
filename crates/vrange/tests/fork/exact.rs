//! After a fork, parent and child each find exactly what they should, whatever the range was doing.

use std::collections::BTreeSet;

use vrange::{Buffer, Heap, Phase, Pinned};
use vrange_os::PAGE_BYTES;
use vrange_testing::in_child;

use crate::support::{
    Line, assert_intact, byte_of, eventually, fill, filled, fork, lost_pages, own_pages, quiet_heap, span,
    take,
};

/// Sizes that take different ways through the engine: a page map in the slot, several pieces, huge pages.
const SIZES_PAGES: [usize; 4] = [1, 20, 300, 1100];

/// One buffer in each phase, of one size, with what a pin must find in it.
struct Phases {
    never_used: Buffer,
    volatile: Buffer,
    offered: Buffer,
    partly_taken: Buffer,
    released: Buffer,
    found_lost: Buffer,
}

const NOTHING: BTreeSet<usize> = BTreeSet::new();

impl Phases {
    fn new(heap: &Heap, pages: usize) -> Self {
        let mut phases = Self {
            never_used: heap.buffer(pages * PAGE_BYTES).expect("a buffer"),
            volatile: filled(heap, pages, 1),
            offered: filled(heap, pages, 2),
            partly_taken: filled(heap, pages, 3),
            released: filled(heap, pages, 4),
            found_lost: filled(heap, pages, 5),
        };
        assert!(phases.offered.offer() && phases.partly_taken.offer() && phases.found_lost.offer());
        take(&phases.partly_taken, 0..pages.div_ceil(2));
        assert!(phases.released.release());
        take(&phases.found_lost, 0..1);
        assert_eq!(lost_pages(&phases.found_lost, 5), BTreeSet::from([0]));
        phases.check_phases();
        phases
    }

    fn check_phases(&mut self) {
        let phases = [
            &self.never_used,
            &self.volatile,
            &self.offered,
            &self.partly_taken,
            &self.released,
            &self.found_lost,
        ];
        let expected =
            [Phase::Empty, Phase::Volatile, Phase::Offered, Phase::Offered, Phase::Empty, Phase::Volatile];
        assert_eq!(phases.map(Buffer::phase), expected);
    }

    /// Pins each twice: what was lost stays reported.
    fn check(&self) {
        let pages = span(&self.volatile).pages();
        for _ in 0..2 {
            assert!(
                matches!(self.never_used.pin(), Pinned::Intact(bytes) if bytes.chunks(PAGE_BYTES).all(|page| *page == [0; PAGE_BYTES]))
            );
            assert_eq!(lost_pages(&self.volatile, 1), NOTHING);
            assert_eq!(lost_pages(&self.offered, 2), NOTHING);
            assert_eq!(lost_pages(&self.partly_taken, 3), (0..pages.div_ceil(2)).collect());
            assert_eq!(lost_pages(&self.released, 4), (0..pages).collect());
            assert_eq!(lost_pages(&self.found_lost, 5), BTreeSet::from([0]));
        }
    }

    fn each(&mut self) -> [&mut Buffer; 6] {
        [
            &mut self.never_used,
            &mut self.volatile,
            &mut self.offered,
            &mut self.partly_taken,
            &mut self.released,
            &mut self.found_lost,
        ]
    }

    /// Writes all anew, offers it, has the kernel take a page, and finds just that page lost.
    fn use_further(&mut self, seed: u8) {
        for buffer in self.each() {
            fill(buffer, seed);
            assert_intact(buffer, seed);
            assert!(buffer.offer(), "all pages are this process's own now");
            assert_intact(buffer, seed);
            assert!(buffer.offer());
            take(buffer, 0..1);
            assert_eq!(lost_pages(buffer, seed), BTreeSet::from([0]));
        }
    }
}

#[test]
fn c09_pin_is_exact_in_parent_and_child_in_every_phase() {
    in_child(|| {
        let (heap, _reclaimer) = quiet_heap();
        for pages in SIZES_PAGES {
            let mut phases = Phases::new(&heap, pages);
            let child = fork(|line| {
                phases.check_phases();
                phases.check();
                phases.use_further(50);
                line.signal();
            });
            // The child's pins and writes change nothing here.
            child.line.wait();
            phases.check_phases();
            phases.check();
            child.finish();
            phases.use_further(60);
        }
    });
}

#[test]
fn c09_the_parent_goes_on_while_the_child_looks() {
    in_child(|| {
        let (heap, _reclaimer) = quiet_heap();
        for pages in SIZES_PAGES {
            let mut phases = Phases::new(&heap, pages);
            let child = fork(|line| {
                line.wait();
                phases.check();
                phases.use_further(50);
            });
            phases.check();
            phases.each().into_iter().for_each(|buffer| fill(buffer, 60));
            child.line.signal();
            child.finish();
            phases.use_further(70);
        }
    });
}

#[test]
fn c09_a_guard_held_across_a_fork_holds_in_both() {
    in_child(|| {
        let (heap, _reclaimer) = quiet_heap();
        for pages in SIZES_PAGES {
            let mut buffer = filled(&heap, pages, 1);
            let other = filled(&heap, pages, 2);
            let mut bytes = buffer.pin_mut().intact().expect("never offered");
            let read = other.pin().intact().expect("never offered");
            let child = fork(|_| {
                assert_eq!((heap.stats().pinned.ranges, other.offer()), (2, false));
                assert!(
                    read.chunks(PAGE_BYTES).enumerate().all(|(page, bytes)| bytes[0] == byte_of(page, 2))
                );
                assert!(
                    bytes.chunks(PAGE_BYTES).enumerate().all(|(page, bytes)| bytes[0] == byte_of(page, 1))
                );
            });
            bytes.fill(7);
            drop(bytes);
            drop(read);
            child.finish();
            assert!(
                buffer
                    .pin()
                    .intact()
                    .is_some_and(|bytes| bytes.chunks(PAGE_BYTES).all(|page| *page == [7; PAGE_BYTES]))
            );
            assert_intact(&other, 2);
        }
    });
}

#[test]
fn c09_a_loss_is_acknowledged_on_each_side_for_itself() {
    in_child(|| {
        let (heap, _reclaimer) = quiet_heap();
        let mut buffer = filled(&heap, 40, 1);
        assert!(buffer.offer());
        take(&buffer, 3..5);
        let child = fork(|_| {
            assert_eq!(lost_pages(&buffer, 1), BTreeSet::from([3, 4]));
            fill(&mut buffer, 9);
            assert_intact(&buffer, 9);
        });
        child.finish();
        assert_eq!(lost_pages(&buffer, 1), BTreeSet::from([3, 4]));
        let Pinned::Purged(purged) = buffer.pin_mut() else { panic!("the loss stays reported") };
        drop(purged.acknowledge());
        assert!(!buffer.pin().is_purged());
    });
}

#[test]
fn c09_forks_may_be_nested() {
    fn descend(depth: usize, buffers: &mut [Buffer], heap: &Heap) {
        if depth == 0 {
            return;
        }
        let lost = BTreeSet::from([1, 2]);
        let seed = u8::try_from(depth).expect("a small depth");
        let child = fork(|_| {
            assert_intact(&buffers[0], 1);
            assert_eq!(lost_pages(&buffers[1], 2), lost);
            let mine = filled(heap, 30, seed);
            fill(&mut buffers[2], seed);
            assert!(buffers[2].offer());
            descend(depth - 1, buffers, heap);
            assert_intact(&mine, seed);
            assert_intact(&buffers[2], seed);
        });
        assert_intact(&buffers[0], 1);
        child.finish();
        assert_eq!(lost_pages(&buffers[1], 2), lost);
    }
    in_child(|| {
        let (heap, _reclaimer) = quiet_heap();
        let mut buffers = [filled(&heap, 30, 1), filled(&heap, 30, 2), filled(&heap, 30, 3)];
        assert!(buffers[1].offer());
        take(&buffers[1], 1..3);
        descend(6, &mut buffers, &heap);
        assert_intact(&buffers[2], 3);
    });
}

/// Pins copy nothing but what is written, or must be rescued from an offer.
#[test]
fn c09_pins_in_the_child_copy_what_they_write_or_rescue() {
    in_child(|| {
        let (heap, _reclaimer) = quiet_heap();
        let pages = 300;
        let mut volatile = filled(&heap, pages, 1);
        let offered = filled(&heap, pages, 2);
        let half_lost = filled(&heap, pages, 3);
        let lost = filled(&heap, pages, 4);
        assert!(offered.offer() && half_lost.offer() && lost.offer());
        take(&half_lost, 0..pages / 2);
        take(&lost, 0..pages);
        let child = fork(|line: &Line| {
            assert_intact(&volatile, 1);
            assert_eq!(own_pages(&volatile), 0, "reading shares");
            for page in [0, 7, 299] {
                let mut bytes = volatile.pin_mut().intact().expect("never offered");
                bytes[page * PAGE_BYTES] ^= 0x10;
            }
            assert_eq!(own_pages(&volatile), 3);
            assert_intact(&offered, 2);
            assert_eq!(own_pages(&offered), pages, "a rescue writes to each page");
            assert_eq!(lost_pages(&half_lost, 3).len(), pages / 2);
            assert_eq!(own_pages(&half_lost), pages - pages / 2);
            assert_eq!(lost_pages(&lost, 4).len(), pages);
            assert_eq!(own_pages(&lost), 0, "what is lost stays without memory");
            line.signal();
            line.wait();
        });
        child.line.wait();
        assert_eq!(
            own_pages(&volatile),
            3,
            "the parent has the originals for itself where the child has copies"
        );
        assert_eq!(own_pages(&offered), pages);
        child.line.signal();
        child.finish();
        eventually("all is the parent's own", || own_pages(&volatile) == pages);
    });
}
