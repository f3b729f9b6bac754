//! What a program's own recorder of metrics and its own subscriber of events are told.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tracing::field::{Field, Visit};
use tracing::span;
use vrange::observe::{Changes, OwnFigures, Snapshot, Unreadable, describe_metrics, record_metrics};
use vrange::{Buffer, Heap, Pinned};
use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::{drain_processors, in_child, on_each_processor};

const MIB: u64 = 1 << 20;

fn filled(heap: &Heap) -> Buffer {
    let mut buffer = heap.buffer(256 * PAGE_BYTES).expect("a buffer");
    buffer.pin_mut().intact().expect("new").fill(7);
    buffer
}

/// Offers a buffer, has the kernel take its pages, and finds it out. Returns the bytes that it took: not all, if some waited in a
/// processor's list for their place in the kernel's.
fn lose(buffer: &Buffer) -> u64 {
    drain_processors();
    assert!(buffer.offer());
    let span = Span::new(buffer.as_ptr().expose_provenance(), 256);
    on_each_processor(|| page_out(span).expect("MADV_PAGEOUT"));
    let Pinned::Purged(purged) = buffer.pin() else { panic!("nothing was taken") };
    purged.lost_bytes() as u64
}

/// Figures that were taken after now.
fn next(figures: &mut OwnFigures) -> Snapshot {
    let until = Instant::now() + Duration::from_secs(20);
    let mut first = None;
    loop {
        match figures.read() {
            Ok(snapshot) if snapshot.sequence > *first.get_or_insert(snapshot.sequence) + 1 => {
                return snapshot;
            }
            Ok(_) | Err(Unreadable::NotYet) => {}
            Err(other) => panic!("{other}"),
        }
        assert!(Instant::now() < until, "waited 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Keeps values by name and labels.
#[derive(Debug, Default)]
struct Values {
    gauges: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    counters: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    described: AtomicU64,
}

fn slot(values: &Mutex<BTreeMap<String, Arc<AtomicU64>>>, key: &Key) -> Arc<AtomicU64> {
    let labels: Vec<String> =
        key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    let name = format!("{}{{{}}}", key.name(), labels.join(","));
    Arc::clone(values.lock().expect("no panic").entry(name).or_default())
}

impl Recorder for Values {
    fn describe_counter(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {
        self.described.fetch_add(1, Ordering::SeqCst);
    }

    fn describe_gauge(&self, _key: KeyName, unit: Option<Unit>, _description: SharedString) {
        assert_eq!(unit, Some(Unit::Bytes));
        self.described.fetch_add(1, Ordering::SeqCst);
    }

    fn describe_histogram(&self, _key: KeyName, _unit: Option<Unit>, _description: SharedString) {}

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(slot(&self.counters, key))
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(slot(&self.gauges, key))
    }

    fn register_histogram(&self, _key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Values {
    fn gauge(&self, name: &str) -> Option<f64> {
        let values = self.gauges.lock().expect("no panic");
        values.get(name).map(|value| f64::from_bits(value.load(Ordering::SeqCst)))
    }

    fn counter(&self, name: &str) -> Option<u64> {
        self.counters.lock().expect("no panic").get(name).map(|value| value.load(Ordering::SeqCst))
    }
}

#[test]
fn a_recorder_is_told_what_the_heaps_count() {
    in_child(|| {
        let heaps = [0, 1].map(|_| Heap::builder().name("pictures").build().expect("a heap"));
        let buffers = [0, 0, 0, 1].map(|heap: usize| filled(&heaps[heap]));
        let lost = lose(&buffers[0]);
        assert!(buffers[1].offer());
        let _pinned = buffers[0].pin();
        let snapshot = next(&mut OwnFigures::new());
        let values = Values::default();
        metrics::with_local_recorder(&values, || {
            describe_metrics();
            record_metrics(&snapshot);
            // Again, with the same values.
            record_metrics(&snapshot);
        });
        assert_eq!(values.described.load(Ordering::SeqCst), 10);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let mib = |count: u64| Some((count * MIB) as f64);
        assert_eq!(values.gauge("vrange_pinned_bytes{heap=pictures}"), mib(1));
        assert_eq!(values.gauge("vrange_volatile_bytes{heap=pictures}"), mib(2), "of both heaps");
        assert_eq!(values.gauge("vrange_offered_bytes{heap=pictures}"), mib(1));
        assert_eq!(values.counter("vrange_lost_bytes_total{heap=pictures}"), Some(lost));
        assert_eq!(values.counter("vrange_offers_bytes_total{heap=pictures}"), Some(2 * MIB));
        assert_eq!(values.counter("vrange_reclaimer_turns_total{}"), Some(snapshot.turns));
    });
}

/// Keeps events as lines.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

/// An event as a line.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "vrange"
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        panic!("there are no spans")
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().expect("no panic").push(line.0);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

impl Lines {
    /// What was told since the last time.
    fn of(&self, changes: &mut Changes, snapshot: &Snapshot) -> Vec<String> {
        tracing::subscriber::with_default(self.clone(), || changes.trace(snapshot));
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

#[test]
fn a_subscriber_is_told_what_has_changed() {
    in_child(|| {
        let heap = Heap::builder().name("pictures").build().expect("a heap");
        let buffers = [0; 4].map(|_| filled(&heap));
        let _ = lose(&buffers[0]);
        let mut figures = OwnFigures::new();
        let (lines, mut changes) = (Lines::default(), Changes::new());
        let about_heaps = |lines: Vec<String>| -> Vec<String> {
            // The machine's pressure is others' doing.
            lines.into_iter().filter(|line| line.contains("heap=")).collect()
        };
        let first = next(&mut figures);
        assert_eq!(about_heaps(lines.of(&mut changes, &first)), [""; 0], "nothing to compare with");
        assert_eq!(lines.of(&mut changes, &first), [""; 0], "nothing has changed");
        let lost = lose(&buffers[1]);
        assert!(buffers[2].release());
        let second = next(&mut figures);
        assert_eq!(
            about_heaps(lines.of(&mut changes, &second)),
            [
                r#"DEBUG message=offered heap="pictures" bytes=1048576"#.to_owned(),
                format!(r#"INFO message=lost heap="pictures" bytes={lost}"#),
                r#"DEBUG message=released heap="pictures" bytes=1048576"#.to_owned(),
            ]
        );

        // A shortage is told when it begins and when it ends.
        let mut short = second.clone();
        let low = short.levels[0].low_bytes;
        short.levels.truncate(1);
        short.levels[0].headroom_bytes = low - 1;
        let told = lines.of(&mut changes, &short);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("WARN message=memory is short level=\"machine\" headroom_bytes="),
            "{told:?}"
        );
        assert_eq!(lines.of(&mut changes, &short), [""; 0]);
        short.levels[0].headroom_bytes = low;
        short.pressure_wakes += 2;
        short.last_pressure = Some(vrange::observe::Severity::Critical);
        assert_eq!(
            lines.of(&mut changes, &short),
            [
                r#"INFO message=memory pressure times=2 severity="critical""#,
                "INFO message=memory is no longer short"
            ]
        );
    });
}

#[test]
fn a_child_does_not_take_its_parents_figures_for_its_own() {
    in_child(|| {
        let heap = Heap::builder().name("parent's").build().expect("a heap");
        let buffer = filled(&heap);
        let mut figures = OwnFigures::new();
        assert_eq!(figures.read().err().filter(|why| *why != Unreadable::NotYet), None);
        let of_parent = next(&mut figures);
        // SAFETY: the child reads figures, pins and unpins a buffer, and ends without the harness's handlers.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let none = figures.read() == Err(Unreadable::NotYet) && figures.read() == Err(Unreadable::NotYet);
            drop(buffer.pin());
            let own = next(&mut figures);
            let is_own = own.process == std::process::id() && own.heaps[0].name == "parent's";
            // SAFETY: as above.
            unsafe { libc::_exit(i32::from(!(none && is_own))) };
        }
        let mut status = 0;
        // SAFETY: a child of this process that was not waited for; the status outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "what the child has read was not its own");
        assert!(next(&mut figures).sequence > of_parent.sequence);
    });
}
