//! C9: `fork`. Parent and child each know exactly what they lost, neither waits for a thread that only the other has, and what
//! another process uses is not offered.
//!
//! Each test runs in a process of its own, since a fork copies everything in it.

mod churn;
mod exact;
mod pressure;
mod reclaimer;
mod sharing;
mod support;
mod unannounced;
