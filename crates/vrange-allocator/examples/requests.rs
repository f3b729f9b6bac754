//! A server in miniature: for each request it builds a large answer and frees it. With [`vrange_allocator::Mimalloc`] the memory stays
//! while requests come, costs no page fault, and is given back when they cease.
//!
//! ```text
//! cargo run --release -p vrange-allocator --example requests
//! VRANGE_MALLOC=off MIMALLOC_PURGE_DELAY=0 cargo run --release -p vrange-allocator --example requests
//! ```
//!
//! The second is mimalloc as it is, giving memory back at once.

use std::time::{Duration, Instant};

use vrange::raw;

#[global_allocator]
static ALLOCATOR: vrange_allocator::Mimalloc = vrange_allocator::Mimalloc;

const REQUESTS: usize = 400;
/// Answers that are being sent at the same time.
const AT_ONCE: usize = 8;
const ANSWER_BYTES: usize = 4 << 20;

/// The memory that this process has, in MiB.
fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    (pages * 4096) >> 20
}

/// Bytes that depend on all that came before.
fn answer(request: usize) -> Vec<u8> {
    let mut bytes = vec![b'.'; ANSWER_BYTES];
    for (place, line) in bytes.chunks_mut(80).enumerate() {
        line[0] = b'a' + u8::try_from((request + place) % 26).unwrap_or(0);
    }
    bytes
}

fn main() {
    let begin = Instant::now();
    let mut checksum = 0u64;
    for first in (0..REQUESTS).step_by(AT_ONCE) {
        let answers: Vec<Vec<u8>> = (first..first + AT_ONCE).map(answer).collect();
        checksum += answers.iter().flatten().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    println!("{REQUESTS} answers in {:.2} s, checksum {checksum}", begin.elapsed().as_secs_f64());
    println!("resident now: {} MiB", resident_mib());
    let decay: f64 = std::env::var("VRANGE_DECAY").ok().and_then(|text| text.parse().ok()).unwrap_or(10.0);
    std::thread::sleep(Duration::from_secs_f64(decay + 1.5));
    let released = raw::stats().released.bytes() >> 20;
    println!("after {decay} s of silence: {} MiB, {released} MiB released", resident_mib());
}
