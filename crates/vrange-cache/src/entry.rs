//! A value in use.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::log::large::Large;
use crate::log::segment::Segment;
use crate::value::Value;

/// Bytes that stay as they are, in memory that stays, until this is dropped.
pub(crate) struct Held<'a> {
    address: NonNull<u8>,
    bytes: usize,
    pin: Pin<'a>,
}

/// Who has to be told when the bytes are not used any more.
enum Pin<'a> {
    Segment(&'a Segment),
    Own(ManuallyDrop<Arc<Large>>),
}

// SAFETY: the bytes are only read, and pins may be ended by any thread.
unsafe impl Send for Held<'_> {}
// SAFETY: as above.
unsafe impl Sync for Held<'_> {}

impl<'a> Held<'a> {
    /// # Safety
    /// The segment is pinned, which this will end, and has an item's `bytes` bytes at `address`, in the version that the item names.
    #[inline]
    pub(crate) unsafe fn of_segment(segment: &'a Segment, address: NonNull<u8>, bytes: usize) -> Self {
        Self { address, bytes, pin: Pin::Segment(segment) }
    }

    /// # Safety
    /// It is pinned, which this will end, and written.
    pub(crate) unsafe fn of_large(large: Arc<Large>) -> Self {
        Self { address: large.address(), bytes: large.bytes(), pin: Pin::Own(ManuallyDrop::new(large)) }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range is pinned as long as this lives, its bytes belong to one item and were written before it was published, and
        // nobody writes to them before all pins of this version are gone.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.bytes) }
    }
}

impl Drop for Held<'_> {
    // With calls and nothing to drop after it, it becomes a part of its callers, which then need no `Held` in memory.
    #[inline]
    fn drop(&mut self) {
        match &mut self.pin {
            // SAFETY: the pin is ours, and nobody borrows the bytes any more.
            Pin::Segment(segment) => unsafe { segment.unpin() },
            // SAFETY: as above; and it is not used after this.
            Pin::Own(large) => unsafe { end_own(large) },
        }
    }
}

/// # Safety
/// The pin is the caller's, who uses neither the bytes nor `large` any more.
#[cold]
unsafe fn end_own(large: &mut ManuallyDrop<Arc<Large>>) {
    // SAFETY: passed on from the caller.
    unsafe { large.unpin() };
    // SAFETY: as above.
    unsafe { ManuallyDrop::drop(large) };
}

/// A value in use: dereferences to it, without a copy. As long as this lives, the value stays as it is, whatever is done to the cache, and
/// its memory (with that of up to 2 MiB around it) is neither taken by the kernel nor used for anything else. So do not keep many for
/// long.
#[must_use = "an entry that is dropped at once may be gone at once"]
pub struct Entry<'a, V: ?Sized> {
    held: Held<'a>,
    value: PhantomData<&'a V>,
}

impl<'a, V: Value + ?Sized> Entry<'a, V> {
    /// The bytes are those of a value.
    #[inline]
    pub(crate) fn new(held: Held<'a>) -> Self {
        Self { held, value: PhantomData }
    }
}

impl<V: Value + ?Sized> Deref for Entry<'_, V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        match V::ref_from_bytes(self.held.bytes()) {
            Ok(value) => value,
            Err(_) => unreachable!("length and alignment were checked when the value was put in"),
        }
    }
}

impl<V: Value + fmt::Debug + ?Sized> fmt::Debug for Entry<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A value that was in the cache, or has just been made.
#[must_use = "a value that is dropped at once may be gone at once"]
#[derive(Debug)]
pub enum Fetched<'a, V: Value + ?Sized, B> {
    /// It is in the cache.
    Cached(Entry<'a, V>),
    /// It was made, and there was no room for it.
    Made(B),
}

impl<V: Value + ?Sized, B: std::borrow::Borrow<V>> Deref for Fetched<'_, V, B> {
    type Target = V;

    fn deref(&self) -> &V {
        match self {
            Self::Cached(entry) => entry,
            Self::Made(value) => value.borrow(),
        }
    }
}
