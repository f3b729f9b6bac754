//! Marks on memory that the library did not map, on the real kernel. A test is named after the promise it is for; a `control`
//! shows what happens without the protection.

mod abandoned;
mod allocations;
mod at_once;
mod differences;
mod forks;
mod free_memory;
mod manners;
mod marks;
mod partly_adopted;
mod random;
mod reuse;
mod support;
mod threads;
