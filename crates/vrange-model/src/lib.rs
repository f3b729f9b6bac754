//! A model of volatile anonymous memory, and an oracle for programs that use it.
//!
//! "Volatile" memory is memory that a program can live without: the kernel may discard it instead of writing it to swap.
//! The idea is that of RFC v3, "Support volatile range for anon vma" (Minchan Kim, December 2012), a patch for Linux 3.6
//! that was never merged. This crate executes its mechanism, as it was written, on a machine made of plain data: VMAs that
//! split and merge, page tables, the reverse mapping, the lists and their aging, the swap cache, reclaim. There is no input
//! or output, no clock and no thread, and what is random comes from a seed.
//!
//! # Two oracles
//! - [`Machine`] with [`Semantics::RfcV3`] is the patch. It says what happens.
//! - [`Contract`] is what a program is promised instead. It says what may be observed, and nothing about how.
//!
//! The two differ, and the tests of this crate name each difference. The first is the reason for the contract: memory
//! that was marked and is used again without a page fault stays marked, and what is written then may be discarded.
//! [`search`] finds it by itself:
//!
//! ```
//! use vrange_model::{Marks, Semantics, Setup, Shape, search};
//!
//! let shape = Shape { processes: 1, marks: Marks::Implicit, ..Shape::default() };
//! let found = search(&Setup::new(Semantics::RfcV3), &shape, 0..1000).expect("the hole");
//! println!("{found}");
//! assert_eq!(search(&Setup::new(Semantics::Vrange), &shape, 0..100), None);
//! ```
//!
//! # Testing something else against the contract
//! Make a [`Program`] from a seed, play its operations on what is to be tested, tell each to the [`Contract`] with
//! [`Contract::apply`], and then ask it about what was seen: [`Contract::allows_read`], [`Contract::allows_unmark`],
//! [`Contract::allows_answer`]. [`check`] does this with a [`Machine`], and is the example to follow. A failing program is
//! made short with [`Program::shrink`], and its seed brings it back.
//!
//! # What is where
//! | the patch | here |
//! |---|---|
//! | VMAs, `VM_VOLATILE`, split and merge | `vma`, `madvise` |
//! | page tables, faults, the fault that clears the mark | `page_table`, `fault` |
//! | `anon_vma`, `try_to_unmap`, the all-VMAs rule, `try_to_zap_one` | `anon_vma`, `rmap` |
//! | lists, aging, `shrink_page_list`, `SWAP_DISCARD` | `lru`, `reclaim` |
//! | swap slots and the swap cache | `swap`, `fault`, `reclaim` |
//! | `fork`, `mlock`, migration | `fork`, `mlock`, `migrate` |
//! | vmstat | `counters` |
//!
//! The text of the patch breaks off in the last function that it changes, `shrink_page_list`. What follows there is taken
//! from its change log ("discard volatile pages without promotion in reclaim path", "add vmstat about the number of
//! discarded volatile pages") and its diffstat: `SWAP_DISCARD` is counted and goes on to where the page is freed.
//!
//! # What is left out
//! Files and page cache, huge pages, KSM, memory cgroups, `mremap` and `mprotect`. Writeback is done at once. Processors
//! and their caches of translations: an operation happens as a whole, but for a page fault that can be stopped in the
//! middle ([`Machine::begin_fault`]).

#![forbid(unsafe_code)]

mod anon_vma;
mod contract;
mod counters;
mod fault;
mod fork;
mod frame;
mod lru;
mod machine;
mod madvise;
mod migrate;
mod mlock;
mod offer;
mod page_table;
mod player;
mod program;
mod reclaim;
mod rmap;
mod rng;
mod sparse;
mod swap;
mod validate;
mod vma;

pub use contract::{Contract, Misuse, Rules, Violation, ViolationKind};
pub use counters::Counters;
pub use fault::{BeginFault, PendingFault};
pub use lru::List;
pub use machine::{
    AccessError, Errno, Machine, OfferOrder, PAGE_SIZE, PageState, ProcessId, Semantics, Setup, Swapless,
    VmaInfo,
};
pub use madvise::{Advice, page_range};
pub use offer::Unmarked;
pub use player::{Counterexample, Failure, Observation, Player, check, check_each, judge, search};
pub use program::{Marks, Op, Pages, Program, Shape, is_well_formed};
pub use rng::Rng;
pub use vma::{Flags, Kind};
