//! What a process lets others see of its volatile memory.
//!
//! The reclaimer's thread writes the figures of all heaps and marks into a sealed memfd, named [`FILE_NAME`], that is among its
//! descriptors: `/proc/PID/task/TID/fd`, where the thread is named [`THREAD_NAME`]. Whoever may look into the process there may read it:
//! the same user, and root. It is gone with the process. Writing costs a few microseconds, ten times a second at most, and nothing while
//! the thread sleeps; it is nobody's business who reads, or whether.
//!
//! `vrange stat` is the tool for people. A program of your own reads [`FILE_BYTES`] bytes from the start of the file (with
//! [`vrange_os::sealed::SealedFile`], which opens nothing else by mistake) and has a [`Snapshot`] made of them.
//!
//! A program reads its own figures through [`OwnFigures`]. With the feature `metrics` it can hand them to the recorder that it has
//! installed for crate `metrics` (`record_metrics`), and with the feature `tracing` have what has changed told as events of crate
//! `tracing` (`Changes`). It does so itself, when it likes, since recorders and subscribers may allocate and lock.
//!
//! * `layout` is what the bytes mean;
//! * `publisher` writes them;
//! * `snapshot` makes sense of them, whoever has written them;
//! * `own` reads those of the process itself, for `metrics` and `tracing`.
//!
//! Nothing here knows where the figures come from: that is for the reclaimer to say.

pub(crate) mod layout;
#[cfg(feature = "metrics")]
mod metrics;
mod own;
mod publisher;
mod snapshot;
#[cfg(feature = "tracing")]
mod tracing;

#[cfg(feature = "metrics")]
pub use metrics::{describe_metrics, record_metrics};
pub use own::OwnFigures;
pub(crate) use publisher::Publisher;
pub(crate) use snapshot::AGES_BELOW;
pub use snapshot::{Age, HeapKind, HeapView, LevelView, Severity, Snapshot, Source, Sources, Unreadable};
#[cfg(feature = "tracing")]
pub use tracing::Changes;

/// The name of the file, which shows as `/memfd:vrange-stats`.
pub const FILE_NAME: &str = "vrange-stats";
/// The size of the file.
pub const FILE_BYTES: usize = layout::FILE_BYTES;
/// The name of the thread that has the file open.
pub const THREAD_NAME: &str = "vrange-reclaim";
