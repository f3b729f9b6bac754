//! Guards: the bytes of a pinned buffer, and the news of what was lost.

use std::ops::{Deref, DerefMut, Range};

use vrange_os::PAGE_BYTES;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::buffer::Buffer;
use crate::range::page_map::Words;

/// The outcome of a pin.
#[must_use = "a pin that is not looked at is dropped, and unpins"]
#[derive(Debug)]
pub enum Pinned<G> {
    /// Every byte is as it was at the last unpin. (A new buffer is all zeros.)
    Intact(G),
    /// Some pages are gone, or were found gone by an earlier pin and nobody has acknowledged it yet.
    Purged(Purged<G>),
}

impl<G> Pinned<G> {
    #[inline]
    pub(crate) fn new(guard: G, purged: bool) -> Self {
        if purged { Self::Purged(Purged { guard }) } else { Self::Intact(guard) }
    }

    /// The guard, if nothing was lost.
    #[inline]
    pub fn intact(self) -> Option<G> {
        match self {
            Self::Intact(guard) => Some(guard),
            Self::Purged(_) => None,
        }
    }

    /// Was anything lost?
    pub fn is_purged(&self) -> bool {
        matches!(self, Self::Purged(_))
    }
}

/// A pinned buffer of which pages were lost. The lost pages read as zeros, the others are as they were, and while this
/// or the guard made from it lives nothing more is lost.
#[derive(Debug)]
pub struct Purged<G> {
    guard: G,
}

impl<G: Guard> Purged<G> {
    /// The lost runs, as byte ranges of the buffer, in order. They begin at a page and end at a page or at the buffer's
    /// end.
    pub fn lost(&self) -> LostBytes<'_> {
        LostBytes::of(self.guard.buffer())
    }

    /// How many pages were lost.
    pub fn lost_pages(&self) -> usize {
        self.guard.buffer().lost_pages()
    }

    /// How many bytes were lost.
    pub fn lost_bytes(&self) -> usize {
        self.lost().map(|run| run.len()).sum()
    }
}

impl<'a> Purged<ReadGuard<'a>> {
    /// The bytes all the same; lost pages read as zeros. The loss stays reported.
    pub fn into_guard(self) -> ReadGuard<'a> {
        self.guard
    }
}

impl<'a> Purged<WriteGuard<'a>> {
    /// Has `refill` write what was lost, then takes the buffer for intact. If it panics, the loss stays reported.
    pub fn refill(mut self, refill: impl FnOnce(&mut [u8], LostBytes<'_>)) -> WriteGuard<'a> {
        let lost = LostBytes::of(self.guard.buffer);
        refill(self.guard.bytes_mut(), lost);
        self.acknowledge()
    }

    /// As [`refill`](Self::refill), where making the contents again can fail.
    ///
    /// # Errors
    /// What `refill` returned. The loss stays reported.
    pub fn try_refill<E>(
        mut self,
        refill: impl FnOnce(&mut [u8], LostBytes<'_>) -> Result<(), E>,
    ) -> Result<WriteGuard<'a>, E> {
        let lost = LostBytes::of(self.guard.buffer);
        refill(self.guard.bytes_mut(), lost)?;
        Ok(self.acknowledge())
    }

    /// Takes the buffer as it is, zeros in place of what was lost, from now on for intact.
    pub fn acknowledge(self) -> WriteGuard<'a> {
        // SAFETY: this is the only guard, and it holds a pin.
        unsafe { self.guard.buffer.acknowledge_leaked() };
        self.guard
    }
}

/// Lost byte ranges of a buffer, in order.
#[derive(Clone, Debug)]
pub struct LostBytes<'a> {
    map: Words<'a>,
    page: usize,
    bytes: usize,
}

impl<'a> LostBytes<'a> {
    fn of(buffer: &'a Buffer) -> Self {
        Self { map: map(buffer), page: 0, bytes: buffer.len() }
    }
}

impl Iterator for LostBytes<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let run = self.map.next_lost_run(self.page)?;
        self.page = run.end;
        Some(run.start * PAGE_BYTES..self.bytes.min(run.end * PAGE_BYTES))
    }
}

pub(crate) fn map(buffer: &Buffer) -> Words<'_> {
    // SAFETY: the buffer is borrowed, so its range exists.
    unsafe { buffer.slot().map() }
}

/// What both guards have in common. Not to be implemented elsewhere.
pub trait Guard: sealed::HasBuffer {}
impl<G: sealed::HasBuffer> Guard for G {}

mod sealed {
    /// The buffer that a guard keeps pinned.
    pub trait HasBuffer {
        #[doc(hidden)]
        fn buffer(&self) -> &crate::Buffer;
    }
}

/// The bytes of a buffer, for reading. Dropping it unpins.
#[must_use = "a guard that is dropped at once unpins at once"]
#[derive(Debug)]
pub struct ReadGuard<'a> {
    buffer: &'a Buffer,
}

impl<'a> ReadGuard<'a> {
    /// The buffer is pinned, and this guard will unpin it.
    #[inline]
    pub(crate) fn new(buffer: &'a Buffer) -> Self {
        Self { buffer }
    }

    /// The bytes as values of `T`, as many as fit. No copy; the buffer begins at a page, so every alignment fits.
    ///
    /// # Panics
    /// If `T` has no size, or an alignment of more than a page.
    pub fn as_slice_of<T: FromBytes + Immutable>(&self) -> &[T] {
        slice_of(self)
    }
}

impl sealed::HasBuffer for ReadGuard<'_> {
    fn buffer(&self) -> &Buffer {
        self.buffer
    }
}

impl Deref for ReadGuard<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the range is pinned as long as this guard lives: it is mapped, and no reclaimer, kernel or writer
        // changes it (a write guard needs the buffer by `&mut`, and this guard borrows it).
        unsafe { std::slice::from_raw_parts(self.buffer.as_ptr(), self.buffer.len()) }
    }
}

impl Drop for ReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.buffer.unpin();
    }
}

/// The bytes of a buffer, for writing. Dropping it unpins.
#[must_use = "a guard that is dropped at once unpins at once"]
#[derive(Debug)]
pub struct WriteGuard<'a> {
    /// Borrowed mutably from the owner, who gave it to nobody else.
    buffer: &'a Buffer,
    exclusive: std::marker::PhantomData<&'a mut Buffer>,
}

impl<'a> WriteGuard<'a> {
    /// The buffer is pinned, and this guard will unpin it.
    #[inline]
    pub(crate) fn new(buffer: &'a mut Buffer) -> Self {
        Self { buffer, exclusive: std::marker::PhantomData }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range is pinned as long as this guard lives, and the guard holds the buffer exclusively. (A guard
        // that was leaked before keeps a pin, but no reference.)
        unsafe { std::slice::from_raw_parts_mut(self.buffer.base().as_ptr(), self.buffer.len()) }
    }

    /// See [`ReadGuard::as_slice_of`].
    ///
    /// # Panics
    /// As there.
    pub fn as_slice_of<T: FromBytes + Immutable>(&self) -> &[T] {
        slice_of(self)
    }

    /// See [`ReadGuard::as_slice_of`].
    ///
    /// # Panics
    /// As there.
    pub fn as_mut_slice_of<T: FromBytes + IntoBytes + Immutable>(&mut self) -> &mut [T] {
        let bytes = self.bytes_mut();
        let whole = bytes.len() / size_of::<T>() * size_of::<T>();
        <[T]>::mut_from_bytes(&mut bytes[..whole]).expect("a page is aligned for the type")
    }
}

fn slice_of<T: FromBytes + Immutable>(bytes: &[u8]) -> &[T] {
    let whole = bytes.len() / size_of::<T>() * size_of::<T>();
    <[T]>::ref_from_bytes(&bytes[..whole]).expect("a page is aligned for the type")
}

impl sealed::HasBuffer for WriteGuard<'_> {
    fn buffer(&self) -> &Buffer {
        self.buffer
    }
}

impl Deref for WriteGuard<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`; nobody else writes.
        unsafe { std::slice::from_raw_parts(self.buffer.as_ptr(), self.buffer.len()) }
    }
}

impl DerefMut for WriteGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes_mut()
    }
}

impl Drop for WriteGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.buffer.unpin();
    }
}
