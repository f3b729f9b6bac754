//! The reclaimer without a thread, for programs that have a loop of their own.

use std::sync::{Arc, Weak};
use std::time::Duration;

use vrange_os::kernel_file::Root;

use super::cycle::{Cycle, Step};
use super::pool::Pool;
use super::runtime;
use crate::inner::Inner;

/// A reclaimer that the program drives itself. See [`HeapBuilder::build_manual`](crate::HeapBuilder::build_manual).
///
/// Nothing is offered or released for its heap, but by request, unless [`step`](Self::step) is called.
#[derive(Debug)]
pub struct Reclaimer {
    heap: Weak<Inner>,
    cycle: Cycle,
}

impl Reclaimer {
    pub(crate) fn new(heap: Weak<Inner>) -> Self {
        Self { heap, cycle: Cycle::new(Root::real()) }
    }

    /// One turn: reads how short memory is, on the machine and in every memory cgroup from this process's to the root, and
    /// offers and releases what that asks for. Some ten microseconds when there is nothing to do; never waits but for a
    /// `fork` in progress. After the heap's end it does nothing.
    pub fn step(&mut self) -> Step {
        match self.heap.upgrade() {
            Some(heap) => {
                runtime::enter(&heap);
                heap.take_part();
                self.cycle.turn(&[heap as Arc<dyn Pool>])
            }
            None => Step { wait: Duration::MAX, ..Step::default() },
        }
    }
}
