//! A value in use.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::index::place::SEGMENT_BYTES_MAX;
use crate::log::large::Large;
use crate::log::segment::Segment;
use crate::value::Value;

/// Bytes that stay as they are, in memory that stays, until this is dropped. In two words, so that a lookup returns it in registers.
pub(crate) struct Held<'a> {
    /// Who has to be told when the bytes are not used any more: a [`Segment`], or, if `part` says so, an `Arc` of a [`Large`].
    pin: NonNull<()>,
    part: Part,
    pinned: PhantomData<&'a Segment>,
}

/// Which bytes of a segment: from bit 0, their number (32), and where they begin (32).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Part(u64);

impl Part {
    /// All of a range that is the value's own. (No segment has so many bytes.)
    const OWN: Self = Self(u64::MAX);

    #[inline]
    fn new(offset: usize, bytes: usize) -> Self {
        debug_assert!(offset < SEGMENT_BYTES_MAX && bytes < SEGMENT_BYTES_MAX);
        Self((offset as u64) << 32 | bytes as u64)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "halves of the word")]
    fn offset_and_bytes(self) -> (usize, usize) {
        ((self.0 >> 32) as usize, self.0 as u32 as usize)
    }
}

// SAFETY: the bytes are only read, and pins may be ended by any thread.
unsafe impl Send for Held<'_> {}
// SAFETY: as above.
unsafe impl Sync for Held<'_> {}

impl<'a> Held<'a> {
    /// # Safety
    /// The segment is pinned, which this will end, and has an item's `bytes` bytes at `offset`, in the version that the item names.
    #[inline]
    pub(crate) unsafe fn of_segment(segment: &'a Segment, offset: usize, bytes: usize) -> Self {
        Self { pin: NonNull::from(segment).cast(), part: Part::new(offset, bytes), pinned: PhantomData }
    }

    /// # Safety
    /// It is pinned, which this will end, and written.
    pub(crate) unsafe fn of_large(large: Arc<Large>) -> Self {
        let large = NonNull::new(Arc::into_raw(large).cast_mut()).expect("an Arc's pointer");
        Self { pin: large.cast(), part: Part::OWN, pinned: PhantomData }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        let (address, bytes) = if self.part == Part::OWN {
            // SAFETY: the pointer is that of an Arc, which this has.
            let large = unsafe { self.pin.cast::<Large>().as_ref() };
            (large.address(), large.bytes())
        } else {
            // SAFETY: the pointer is that of a segment, which is borrowed as long as this lives.
            let segment = unsafe { self.pin.cast::<Segment>().as_ref() };
            let (offset, bytes) = self.part.offset_and_bytes();
            (segment.address(offset), bytes)
        };
        // SAFETY: the range is pinned as long as this lives, its bytes belong to one item and were written before it was published, and
        // nobody writes to them before all pins of this version are gone.
        unsafe { std::slice::from_raw_parts(address.as_ptr(), bytes) }
    }
}

impl Drop for Held<'_> {
    // With calls and nothing to drop after it, it becomes a part of its callers, which then need no `Held` in memory.
    #[inline]
    fn drop(&mut self) {
        if self.part == Part::OWN {
            // SAFETY: the pointer is that of an Arc, which this has and which is not used after this; the pin is ours, and nobody borrows
            // the bytes any more.
            unsafe { end_own(self.pin.cast()) };
        } else {
            // SAFETY: as in `bytes`.
            let segment = unsafe { self.pin.cast::<Segment>().as_ref() };
            // SAFETY: the pin is ours, and nobody borrows the bytes any more.
            unsafe { segment.unpin() };
        }
    }
}

/// # Safety
/// `large` is that of an `Arc::into_raw`, which this ends. The pin is the caller's, who uses neither the bytes nor the pointer any more.
#[cold]
unsafe fn end_own(large: NonNull<Large>) {
    // SAFETY: passed on from the caller.
    let large = unsafe { Arc::from_raw(large.as_ptr().cast_const()) };
    // SAFETY: as above.
    unsafe { large.unpin() };
}

const _: () = assert!(size_of::<Option<Entry<'_, [u8]>>>() == 16, "two registers");

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
