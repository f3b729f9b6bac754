//! Marks on memory that the library did not map, on the real kernel. A test is named after the promise it is for; a `control`
//! shows what happens without the protection.

mod allocations;
mod at_once;
mod forks;
mod manners;
mod marks;
mod reuse;
mod support;
mod threads;
