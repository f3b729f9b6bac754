//! The operating-system layer of `vrange`.
//!
//! It knows what the Linux kernel offers to a program that keeps volatile memory, and nothing of ranges, heaps or
//! policies:
//!
//! * [`System`] is an interface of intent (*reserve*, *residency*, *offer*, *release*) with a real implementation,
//!   [`linux::Linux`], and a [`fake::Fake`] for tests that want to play the kernel.
//! * [`kernel_file`], [`meminfo`], [`psi`] and [`cgroup`] read how short memory is, without allocating once opened.
//! * [`sealed`] is memory that other processes may read.
//! * [`probe`] finds out at run time what this kernel can do.
//! * [`clock`] and [`process`] answer two questions cheaply: when is it, and are we still the same process.
#![cfg_attr(not(target_os = "linux"), allow(unused))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("vrange runs on 64-bit Linux");

pub mod cgroup;
pub mod clock;
pub mod descriptors;
pub mod error;
pub mod fake;
pub mod kernel_file;
pub mod linux;
pub mod meminfo;
pub mod poll;
pub mod probe;
pub mod process;
pub mod psi;
pub mod sealed;
pub mod span;
pub mod system;
pub mod thread;

pub use error::OsError;
pub use span::Span;
pub use system::{Offered, Placement, Reservation, Residency, System};

/// Bytes in a page of the smallest size. Fixed to what every supported machine's kernel maps by default;
/// [`linux::Linux::get`] refuses to start where the kernel says otherwise.
pub const PAGE_BYTES: usize = 4096;

/// Bytes in a huge page: the size a page-table entry of the second level maps.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;
