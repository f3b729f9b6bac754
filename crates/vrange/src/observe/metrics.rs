//! The figures for whatever recorder the program has installed for crate `metrics`.

use std::collections::BTreeMap;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::Snapshot;

/// What has a value at each moment, in bytes.
const GAUGES: [(&str, &str); 4] = [
    ("vrange_pinned_bytes", "Ranges in use"),
    ("vrange_volatile_bytes", "Ranges that are volatile and not offered to the kernel"),
    (
        "vrange_offered_bytes",
        "Ranges that are offered to the kernel, which may have taken some of their pages",
    ),
    ("vrange_in_transit_bytes", "Ranges that are being offered, taken back or released"),
];

/// What only grows, in bytes.
const COUNTERS: [(&str, &str); 4] = [
    ("vrange_offers_bytes_total", "Memory handed to the kernel, each time counted anew"),
    ("vrange_rescued_bytes_total", "Offered memory that was used again, intact"),
    ("vrange_lost_bytes_total", "Offered memory that was found to be taken by the kernel"),
    ("vrange_released_bytes_total", "Memory that the process itself gave back"),
];

/// Tells the recorder what the names mean. To be called once, after the recorder was installed.
pub fn describe_metrics() {
    GAUGES.iter().for_each(|(name, meaning)| describe_gauge!(*name, Unit::Bytes, *meaning));
    COUNTERS.iter().for_each(|(name, meaning)| describe_counter!(*name, Unit::Bytes, *meaning));
    describe_counter!("vrange_reclaimer_turns_total", "Turns of the reclaimer");
    describe_counter!(
        "vrange_pressure_wakes_total",
        "Waits of the reclaimer that a pressure source has ended"
    );
}

/// Sets gauges and counters by the names that `vrange exporter` has, with a label `heap`; heaps of the same name are added up. To be
/// called by the program, every few seconds or when it is asked for its metrics: neither the reclaimer nor a pin calls a recorder, which
/// may allocate and lock.
pub fn record_metrics(snapshot: &Snapshot) {
    let mut heaps: BTreeMap<String, ([u64; 4], [u64; 4])> = BTreeMap::new();
    for heap in &snapshot.heaps {
        let stats = &heap.stats;
        let now =
            [stats.pinned, stats.marked, stats.offered_now, stats.in_transit].map(|now| now.pages.bytes());
        let totals = [stats.offered, stats.rescued, stats.lost, stats.released].map(|pages| pages.bytes());
        let (now_sum, total_sum) = heaps.entry(heap.label()).or_default();
        now_sum.iter_mut().zip(now).chain(total_sum.iter_mut().zip(totals)).for_each(|(sum, more)| {
            *sum = sum.saturating_add(more);
        });
    }
    for (heap, (now, totals)) in heaps {
        for ((name, _), bytes) in GAUGES.iter().zip(now) {
            #[expect(clippy::cast_precision_loss, reason = "recorders count in floating point")]
            gauge!(*name, "heap" => heap.clone()).set(bytes as f64);
        }
        for ((name, _), bytes) in COUNTERS.iter().zip(totals) {
            counter!(*name, "heap" => heap.clone()).absolute(bytes);
        }
    }
    counter!("vrange_reclaimer_turns_total").absolute(snapshot.turns);
    counter!("vrange_pressure_wakes_total").absolute(snapshot.pressure_wakes);
}
