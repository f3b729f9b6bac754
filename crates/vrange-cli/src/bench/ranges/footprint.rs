//! How much memory the library takes for itself.

use vrange::{Heap, Pinned};
use vrange_os::{PAGE_BYTES, Span};

use super::ours::fill;
use crate::bench::memory;
use crate::bench::table::Row;
use crate::failure::Failure;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    /// Bytes of state for each range of `pages` pages, everything it ever needs included.
    pub(super) state_bytes: f64,
    /// Pages of the ranges that were measured.
    pub(super) pages: usize,
    /// Resident memory that came with pinning a range that was lost whole.
    pub(super) pin_lost_bytes: u64,
    /// How large that range was.
    pub(super) lost_bytes: usize,
}

impl Footprint {
    /// As rows: the bytes are memory that was taken, beside the length of the range, and there is no time.
    #[expect(clippy::cast_precision_loss, reason = "ratios for people")]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some hundred bytes, never less than none"
    )]
    pub(super) fn rows(&self) -> [Row; 2] {
        let state_ratio = self.state_bytes / (self.pages * PAGE_BYTES) as f64;
        let pin_ratio = self.pin_lost_bytes as f64 / self.lost_bytes as f64;
        let pin_lost_bytes = usize::try_from(self.pin_lost_bytes).unwrap_or(usize::MAX);
        [
            Row::single("range_state", self.state_bytes.ceil() as usize, 0.0, ("range", state_ratio)),
            Row::single("memory_of_lost_pin", pin_lost_bytes, 0.0, ("range", pin_ratio)),
        ]
    }
}

/// Measures by resident memory, which also counts what allocators and the kernel round up to.
pub(super) fn measure(quick: bool) -> Result<Footprint, Failure> {
    const PAGES: usize = 16;
    // Enough of them that what is rounded up to whole pages elsewhere does not count.
    let ranges = if quick { 10_000 } else { 50_000 };
    let lost_bytes = if quick { 16 << 20 } else { 256 << 20 };
    Ok(Footprint {
        state_bytes: state_bytes(ranges, PAGES)?,
        pages: PAGES,
        pin_lost_bytes: pin_lost_bytes(lost_bytes)?,
        lost_bytes,
    })
}

/// Each range goes through everything, so that all state it ever has is there, and ends without contents.
fn state_bytes(ranges: usize, pages: usize) -> Result<f64, Failure> {
    let heap = Heap::new().map_err(failed)?;
    let mut buffers = Vec::with_capacity(ranges);
    // Written once, so that the handles themselves, which belong to the program, are counted before.
    buffers.resize_with(ranges, || None);
    let make = |slot: &mut Option<vrange::Buffer>| -> Result<(), Failure> {
        let buffer = slot.insert(heap.buffer(pages * PAGE_BYTES).map_err(failed)?);
        fill(buffer);
        buffer.offer();
        buffer.release();
        Ok(())
    };
    let (first, rest) = buffers.split_at_mut(ranges / 10);
    first.iter_mut().try_for_each(make)?;
    let before_bytes = resident_bytes()?;
    rest.iter_mut().try_for_each(make)?;
    let more_bytes = resident_bytes()?.saturating_sub(before_bytes);
    Ok(per(more_bytes, rest.len()))
}

/// The kernel takes the whole range; the pin that finds out must not bring it back.
fn pin_lost_bytes(bytes: usize) -> Result<u64, Failure> {
    let heap = Heap::new().map_err(failed)?;
    let mut buffer = heap.buffer(bytes).map_err(failed)?;
    fill(&mut buffer);
    buffer.offer();
    vrange_os::linux::page_out(Span::new(buffer.as_ptr().addr(), Span::pages_for(bytes)))
        .map_err(|error| Failure::run(error.to_string()))?;
    let before_bytes = resident_bytes()?;
    let pinned = buffer.pin();
    let more_bytes = resident_bytes()?.saturating_sub(before_bytes);
    match pinned {
        Pinned::Purged(purged) if purged.lost_bytes() == bytes => Ok(more_bytes),
        _ => Err(Failure::run("the kernel did not take an offered range when it was asked to")),
    }
}

fn failed(error: vrange::Error) -> Failure {
    Failure::run(format!("making a range: {error}"))
}

/// Anonymous memory in use. (Code of the program that runs for the first time is no state of a range.)
fn resident_bytes() -> Result<u64, Failure> {
    memory::anonymous_bytes()
}

#[expect(clippy::cast_precision_loss, reason = "a mean for people")]
fn per(bytes: u64, count: usize) -> f64 {
    bytes as f64 / count.max(1) as f64
}
