//! What can be a value.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Plain old data: bytes, and slices and structs without pointers, padding or invalid bit patterns. Every type that has zerocopy's
/// derives of these four is one; alignments up to 16 fit.
pub trait Value: FromBytes + IntoBytes + Immutable + KnownLayout + Send + Sync + 'static {}

impl<V: FromBytes + IntoBytes + Immutable + KnownLayout + Send + Sync + ?Sized + 'static> Value for V {}
