//! How long a pin can take while everything around it is being offered.

use std::time::{Duration, Instant};

use vrange::{Buffer, Heap, Phase};

use super::ours::fill;
use crate::failure::Failure;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// What 999 of 1000 pins wait at most; none if no pin met an offer.
    pub(super) p999_ns: Option<f64>,
    /// How much was being offered meanwhile.
    pub(super) offered_bytes: usize,
}

/// Every how many ranges one is pinned; the others keep the offer going.
const STRIDE: usize = 4;

/// Offers everything again and again in one thread, while another one pins ranges at the worst moment: just as the
/// offer has reached them. Pins at any other moment find a range that is not offered, and cost next to nothing.
pub(super) fn measure(quick: bool) -> Result<Wait, Failure> {
    const RANGE_BYTES: usize = 1 << 20;
    let ranges = if quick { 64 } else { 1024 };
    let sweeps = if quick { 2 } else { 12 };
    let failed = |error: vrange::Error| Failure::run(format!("making a range: {error}"));
    let heap = Heap::new().map_err(failed)?;
    let mut buffers = Vec::new();
    for _ in 0..ranges {
        let mut buffer = heap.buffer(RANGE_BYTES).map_err(failed)?;
        fill(&mut buffer);
        buffers.push(buffer);
    }
    let mut waits = Vec::new();
    for sweep in 0..sweeps {
        meet_the_offer(&heap, &buffers[sweep % STRIDE..], &mut waits);
        // Back to volatile, the first the oldest again.
        for buffer in &mut buffers {
            buffer.release();
            fill(buffer);
        }
    }
    waits.sort_unstable();
    let p999 = waits.get(waits.len().saturating_mul(999) / 1000).or(waits.last());
    Ok(Wait { p999_ns: p999.map(|wait| wait.as_secs_f64() * 1e9), offered_bytes: ranges * RANGE_BYTES })
}

/// Follows the offer, which goes from the oldest to the youngest, and pins what it is working on.
fn meet_the_offer(heap: &Heap, buffers: &[Buffer], waits: &mut Vec<Duration>) {
    std::thread::scope(|scope| {
        let offer = scope.spawn(|| heap.offer(u64::MAX));
        for buffer in buffers.iter().step_by(STRIDE) {
            while buffer.phase() == Phase::Volatile && !offer.is_finished() {
                std::hint::spin_loop();
            }
            // What is offered completely by now would be a rescue, which has a row of its own.
            if buffer.phase() != Phase::Offered {
                let start = Instant::now();
                let pinned = buffer.pin();
                let wait = start.elapsed();
                drop(pinned);
                waits.push(wait);
            }
        }
    });
}
