//! How long a pin waits while very much is being offered.

use std::time::{Duration, Instant};

use vrange::{Buffer, Heap, Phase};
use vrange_testing::{Job, Talk, alone, is_emulated, scale, skipped};

use crate::{MIB, pages};

/// What the promise names.
const WAIT_MAX: Duration = Duration::from_millis(1);
/// Other programs can delay a pin, and none makes one faster, so one quiet attempt among these is enough.
const ATTEMPTS: u32 = 8;

/// The job: fills buffers, has a thread offer them all, and pins some at random meanwhile, those apart that are offered
/// already (rescuing them takes time that grows with their length). Says the waits at p50, p99, p99.9 and the longest, in
/// nanoseconds, and how many there were.
pub(crate) fn run(talk: &mut Talk) {
    let buffer_bytes = usize::try_from(talk.number("buffer").expect("a size")).expect("fits");
    let count = usize::try_from(talk.number("bytes").expect("a size")).expect("fits") / buffer_bytes;
    let (heap, _reclaimer) = Heap::builder().build_manual().expect("a heap");
    let buffers: Vec<Buffer> = (0..count)
        .map(|index| {
            let mut buffer = heap.buffer(buffer_bytes).expect("a buffer");
            let mut bytes = buffer.pin_mut().intact().expect("new");
            bytes.chunks_mut(4096).enumerate().for_each(|(page, bytes)| pages::write(bytes, index, page));
            drop(bytes);
            buffer
        })
        .collect();
    while talk.hear().is_some() {
        // Whatever is offered is taken back.
        buffers.iter().for_each(|buffer| drop(buffer.pin()));
        let mut waits_ns = std::thread::scope(|scope| {
            let offering = scope.spawn(|| heap.offer(u64::MAX));
            let mut waits_ns = Vec::new();
            let mut random = 1usize;
            while !offering.is_finished() {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let buffer = &buffers[(random >> 33) % count];
                if buffer.phase() != Phase::Offered {
                    waits_ns.push(wait_ns(buffer));
                }
            }
            waits_ns
        });
        waits_ns.sort_unstable();
        let at = |per_mille: usize| waits_ns.get(waits_ns.len() * per_mille / 1000).copied().unwrap_or(0);
        let longest = waits_ns.last().copied().unwrap_or(0);
        talk.say(&format!("{} {} {} {longest} {}", at(500), at(990), at(999), waits_ns.len()));
    }
}

fn wait_ns(buffer: &Buffer) -> u64 {
    let start = Instant::now();
    let pinned = buffer.pin();
    let wait = start.elapsed();
    drop(pinned);
    u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
}

#[test]
fn a_pin_waits_a_millisecond_at_most_while_much_is_offered() {
    if is_emulated() {
        return skipped("processors are emulated, and too slow for a promise in milliseconds");
    }
    let _alone = alone();
    let bytes = scale().pick(256 * MIB, 1024 * MIB);
    for buffer_bytes in [MIB / 4, MIB, 64 * MIB] {
        let mut child = Job::new(format!("tail bytes={bytes} buffer={buffer_bytes}")).start();
        let mut seen = Vec::new();
        let is_short = (0..ATTEMPTS).any(|_| {
            let line = child.ask("again").expect("it goes on");
            let waits: Vec<u64> =
                line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            println!("{buffer_bytes} bytes: p50 p99 p99.9 longest, in ns, of how many: {line}");
            let at_p999_ns = u128::from(waits[2]);
            seen.push(line);
            waits[4] > 0 && at_p999_ns <= WAIT_MAX.as_nanos()
        });
        assert!(is_short, "{buffer_bytes} bytes: p50 p99 p99.9 longest, in ns, of how many: {seen:?}");
    }
}
