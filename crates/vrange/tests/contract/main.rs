//! The contract, promise by promise, on the real kernel. A test is named after the promise it is for; a `control` shows what
//! happens without the protection.

mod api;
mod c01;
mod c02;
mod c03;
mod c03_writers;
mod c04;
mod c05;
mod c07;
mod c08;
mod c11;
mod c12;
mod c13_allocations;
mod c14;
mod c14_last_step;
mod footprint;
mod manners;
mod published;
#[expect(dead_code, reason = "some of it is for C10, in moved.rs")]
mod support;
