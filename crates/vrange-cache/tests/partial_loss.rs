//! When the kernel takes some pages, the entries on them are gone, and no other: not even their neighbours in the same segment.

#[path = "support/pages.rs"]
mod pages;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use support::{quiet_heap, value};
use vrange::{Heap, Reclaimer};
use vrange_cache::{Cache, Cause};
use vrange_testing::drain_processors;

const MIB: usize = 1 << 20;

type Told = Arc<Mutex<Vec<(u64, Cause)>>>;

struct Setting {
    heap: Heap,
    _reclaimer: Reclaimer,
    cache: Cache<u64>,
    told: Told,
    /// Length of each value.
    lengths: BTreeMap<u64, usize>,
}

impl Setting {
    /// Values of all lengths, among them larger ones than a page and one with a range of its own.
    fn filled(max_bytes: Option<u64>, count: u64) -> Self {
        let (heap, _reclaimer) = quiet_heap();
        let told = Told::default();
        let log = Arc::clone(&told);
        let mut builder = Cache::<u64>::builder()
            .heap(heap.clone())
            .listener(move |key: &u64, cause| log.lock().expect("whole").push((*key, cause)));
        if let Some(bytes) = max_bytes {
            builder = builder.max_bytes(bytes);
        }
        let cache = builder.build().expect("a cache");
        let mut lengths = BTreeMap::new();
        for key in 0..count {
            let bytes = match key {
                1234 => 400_000,
                _ => [100, 1_000, 37, 4_096, 0, 2_500, 10_000][usize::try_from(key % 7).expect("small")],
            };
            cache.insert(key, &value(key, bytes)).expect("room");
            lengths.insert(key, bytes);
        }
        Self { heap, _reclaimer, cache, told, lengths }
    }

    /// On which pages each value that is there lies.
    fn pages(&self) -> BTreeMap<u64, std::ops::Range<usize>> {
        let page_of = |key: &u64| Some((*key, pages::pages_of(&self.cache.get(key)?)));
        self.lengths.keys().filter_map(page_of).collect()
    }

    /// Has the kernel take these pages, as far as they are not in use; returns those that are gone, by the page table.
    fn take(&self, pages: &[usize]) -> BTreeSet<usize> {
        drain_processors();
        self.heap.offer(u64::MAX);
        pages::press_everywhere(pages);
        pages.iter().copied().filter(|page| is_gone(*page)).collect()
    }

    fn told(&self) -> Vec<(u64, Cause)> {
        std::mem::take(&mut *self.told.lock().expect("whole"))
    }

    /// The value is there, as it was put in.
    fn is_there(&self, key: u64) -> bool {
        let found = self.cache.get(&key);
        found.is_some_and(|found| {
            assert_eq!(*found, value(key, self.lengths[&key]), "{key} has other bytes");
            true
        })
    }
}

/// Is there nothing in memory for this page, or only the kernel's zeros?
fn is_gone(page: usize) -> bool {
    // Bits of an entry (Documentation/admin-guide/mm/pagemap.rst).
    const PRESENT: u64 = 1 << 63;
    const EXCLUSIVE: u64 = 1 << 56;
    let mut entry = [0; 8];
    let file = File::open("/proc/self/pagemap").expect("the page table");
    file.read_exact_at(&mut entry, (page * 8) as u64).expect("the page table");
    let entry = u64::from_ne_bytes(entry);
    entry & PRESENT == 0 || entry & EXCLUSIVE == 0
}

/// Those whose pages are among the ones that are gone. (A value without bytes has nothing to lose.)
fn on_pages(
    setting: &Setting,
    pages: &BTreeMap<u64, std::ops::Range<usize>>,
    gone: &BTreeSet<usize>,
) -> BTreeSet<u64> {
    let is_on = |(key, pages): (&u64, &std::ops::Range<usize>)| {
        (setting.lengths[key] > 0 && pages.clone().any(|page| gone.contains(&page))).then_some(*key)
    };
    pages.iter().filter_map(is_on).collect()
}

fn every(pages: &BTreeMap<u64, std::ops::Range<usize>>, step: usize) -> Vec<usize> {
    let all: BTreeSet<usize> = pages.values().flat_map(Clone::clone).collect();
    all.into_iter().step_by(step).collect()
}

#[test]
fn entries_on_lost_pages_go_and_their_neighbours_stay() {
    let setting = Setting::filled(None, 4_000);
    let pages = setting.pages();
    assert_eq!(pages.len(), 4_000);
    let gone = setting.take(&every(&pages, 11));
    assert!(gone.len() > 100, "only {} pages were taken", gone.len());
    let lost = on_pages(&setting, &pages, &gone);
    let missing: BTreeSet<u64> = pages.keys().copied().filter(|key| !setting.is_there(*key)).collect();
    assert_eq!(missing, lost);
    assert!(lost.contains(&1234), "a large value lost some of its pages");
    let told = setting.told();
    assert_eq!(told.len(), lost.len(), "each once");
    let purged: BTreeSet<u64> =
        told.iter().filter(|(_, cause)| *cause == Cause::Purged).map(|(key, _)| *key).collect();
    assert_eq!(purged, lost);
    assert_eq!(setting.cache.stats().purged, lost.len() as u64);
    assert_eq!(setting.cache.len(), 4_000 - lost.len());
    // What was lost before stays out of the way of a second loss, and can be put in again.
    for key in &lost {
        setting.cache.insert(*key, &value(*key, setting.lengths[key])).expect("room");
    }
    let pages = setting.pages();
    assert_eq!(pages.len(), 4_000);
    let gone = setting.take(&every(&pages, 7));
    let lost = on_pages(&setting, &pages, &gone);
    assert!(lost.len() > 100);
    let missing: BTreeSet<u64> = pages.keys().copied().filter(|key| !setting.is_there(*key)).collect();
    assert_eq!(missing, lost);
}

/// The control: nothing is offered, so the kernel takes nothing.
#[test]
fn control_what_was_not_offered_stays() {
    let setting = Setting::filled(None, 4_000);
    let pages = setting.pages();
    drain_processors();
    let pressed = every(&pages, 11);
    pages::press_everywhere(&pressed);
    assert_eq!(pressed.iter().filter(|page| is_gone(**page)).count(), 0);
    assert!(pages.keys().all(|key| setting.is_there(*key)));
    assert_eq!(setting.told(), []);
}

#[test]
fn what_is_in_use_is_not_taken() {
    let setting = Setting::filled(None, 4_000);
    let pages = setting.pages();
    let held: Vec<_> = (4..4_000).step_by(10).map(|key| setting.cache.get(&key).expect("there")).collect();
    let gone = setting.take(&every(&pages, 1));
    assert_eq!(gone.iter().next(), None, "the large one is held, and entries in each segment");
    assert!(pages.keys().all(|key| setting.is_there(*key)));
    drop(held);
    assert!(!setting.take(&every(&pages, 1)).is_empty());
}

#[test]
fn a_segment_that_is_emptied_tells_of_losses_as_losses() {
    // So large that each of these values is in a segment.
    let setting = Setting::filled(Some(16 * MIB as u64), 1_000);
    let pages = setting.pages();
    let gone = setting.take(&every(&pages, 5));
    let lost = on_pages(&setting, &pages, &gone);
    assert!(lost.len() > 100, "{} entries were lost", lost.len());
    assert_eq!(setting.told(), [], "nobody has looked");
    // Nobody asks for them: they make room.
    for key in 10_000..45_000 {
        setting.cache.insert(key, &value(key, 1_000)).expect("room");
    }
    let told = setting.told();
    let of = |wanted: Cause| -> BTreeSet<u64> {
        told.iter().filter(|(key, cause)| *key < 1_000 && *cause == wanted).map(|(key, _)| *key).collect()
    };
    // A large value's losses are noticed when it is asked for.
    assert_eq!(of(Cause::Purged), lost);
    // Of the others, those that have made room were told of as that; what had been used has been moved, whole.
    let evicted = of(Cause::Evicted);
    assert!(!evicted.is_empty() || pages.len() > lost.len(), "some were not lost");
    for key in pages.keys().filter(|key| !lost.contains(key)) {
        let found = setting.cache.get(key);
        assert_eq!(found.is_none(), evicted.contains(key), "key {key}");
        assert!(found.is_none_or(|found| *found == value(*key, found.len())), "key {key}");
    }
}
