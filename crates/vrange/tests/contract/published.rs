//! What the process publishes of its heaps and marks, read as another process would read it.

use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vrange::observe::{FILE_BYTES, FILE_NAME, HeapKind, Snapshot, Unreadable};
use vrange::{Buffer, Content, Heap, HeapBuilder, Pinned, raw};
use vrange_os::PAGE_BYTES;
use vrange_os::sealed::{NotReadable, SealedFile};
use vrange_testing::{allocations_so_far, in_child, reclaimers_of, seccomp};

use crate::support::{filled, memory};

/// The file among the descriptors of the reclaimer's thread.
fn path() -> Option<PathBuf> {
    let task = reclaimers_of("self").pop()?;
    let descriptors = std::fs::read_dir(task.join("fd")).expect("descriptors").flatten();
    let name = format!("/memfd:{FILE_NAME} ");
    let mut paths = descriptors.map(|descriptor| descriptor.path());
    paths.find(|path| std::fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with(&name)))
}

/// Waits for figures of this process that are so.
fn figures_when(what: &str, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let until = Instant::now() + Duration::from_secs(20);
    let mut bytes = vec![0; FILE_BYTES];
    loop {
        let opened = path().and_then(|path| match SealedFile::open(&path, FILE_BYTES) {
            // It is being made.
            Err(NotReadable::NoSealedMemory) => None,
            opened => Some(opened.expect("sealed memory")),
        });
        let parsed = opened.map(|file| {
            file.read(&mut bytes).expect("reading");
            Snapshot::parse(&bytes)
        });
        match parsed {
            Some(Ok(snapshot)) if is_so(&snapshot) => return snapshot,
            None | Some(Ok(_) | Err(Unreadable::NotYet)) => {}
            Some(Err(error)) => panic!("{error}"),
        }
        assert!(Instant::now() < until, "waited 20 s for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Figures that were taken after now. (The next that are published may have been taken a moment before.)
fn next_figures() -> Snapshot {
    let before = figures_when("figures", |_| true).sequence;
    figures_when("newer figures", |snapshot| snapshot.sequence > before + 1)
}

fn named(name: &str, settings: impl Fn(HeapBuilder) -> HeapBuilder) -> Heap {
    settings(Heap::builder().name(name)).build().expect("a heap")
}

#[test]
fn c12_what_is_published_is_what_the_heaps_count() {
    in_child(|| {
        let photos = named("photos", |builder| builder.limit(1 << 30));
        let garbage = named("garbage", |builder| builder.content(Content::free()));
        let buffers: Vec<Buffer> = (0..6).map(|seed| filled(&photos, 20, seed)).collect();
        assert!(buffers[0].offer() && buffers[1].offer());
        memory::take(&buffers[0], 0..7);
        let Pinned::Purged(_pinned) = buffers[0].pin() else { panic!("seven pages were taken") };
        assert!(buffers[2].release());
        let _freed = filled(&garbage, 300, 1);
        let snapshot = next_figures();
        assert_eq!(snapshot.process, std::process::id());
        assert!(!snapshot.is_parked && snapshot.can_offer, "{snapshot:?}");
        let [first, second] = &snapshot.heaps[..] else { panic!("{:?}", snapshot.heaps) };
        assert_eq!(
            (first.name.as_str(), first.kind, first.limit_bytes),
            ("photos", HeapKind::Heap, Some(1 << 30))
        );
        assert_eq!(first.stats, photos.stats());
        assert_eq!(first.stats.lost.pages(), 7);
        assert!(!first.is_free_memory && second.is_free_memory && second.limit_bytes.is_none());
        // The reclaimer is at work on this one.
        assert_eq!(second.name, "garbage");
        let soon = figures_when("an offer of garbage", |snapshot| {
            snapshot.heaps[1].stats.offered_now.pages.pages() == 300
        });
        let unused: u64 = soon.heaps[0].ages.iter().map(|age| age.bytes).sum();
        assert_eq!(unused, 4 * 20 * PAGE_BYTES as u64, "{:?}", soon.heaps[0].ages);
    });
}

#[test]
fn c12_marks_are_published_too() {
    in_child(|| {
        const PAGES: usize = 40;
        let flags = rustix::mm::MapFlags::PRIVATE;
        let protection = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        // SAFETY: a new mapping wherever the kernel likes.
        let base = unsafe { rustix::mm::mmap_anonymous(null_mut(), PAGES * PAGE_BYTES, protection, flags) };
        let base = base.expect("address space").cast::<u8>();
        // SAFETY: the mapping is this test's own, and writable.
        unsafe { base.write_bytes(1, PAGES * PAGE_BYTES) };
        // SAFETY: as above; it is never unmapped.
        unsafe { raw::adopt(base, PAGES * PAGE_BYTES) }.expect("to be adopted");
        // SAFETY: as above; nobody uses it while it is marked.
        unsafe { raw::mark(base, 30 * PAGE_BYTES) }.expect("to be marked");
        let snapshot = next_figures();
        let [marks] = &snapshot.heaps[..] else { panic!("{:?}", snapshot.heaps) };
        assert_eq!((marks.kind, marks.name.as_str()), (HeapKind::Marks, ""));
        assert_eq!(marks.stats.marked.pages, raw::stats().marked);
        assert_eq!(marks.stats.marked.pages.pages(), 30);
    });
}

/// As long as it sleeps, nothing could be newer: at its last turn it has told how things stand.
#[test]
fn the_last_figures_before_the_reclaimer_sleeps_say_so() {
    in_child(|| {
        let heap = named("in use", |builder| builder);
        let buffer = filled(&heap, 300, 1);
        let guard = buffer.pin();
        let parked = figures_when("a reclaimer that sleeps", |snapshot| snapshot.is_parked);
        assert_eq!(parked.heaps[0].stats, heap.stats());
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(figures_when("figures", |_| true).sequence, parked.sequence);
        drop(guard);
        let awake = figures_when("newer figures", |snapshot| snapshot.sequence > parked.sequence);
        assert!(!awake.is_parked && awake.heaps[0].stats.marked.ranges == 1, "{awake:?}");
    });
}

#[test]
fn c14_where_nothing_can_be_published_all_else_is_as_ever() {
    in_child(|| {
        seccomp::refuse(libc::SYS_memfd_create, libc::ENOSYS);
        let heap =
            named("garbage", |builder| builder.content(Content::Free { decay: Duration::from_millis(300) }));
        let _buffer = filled(&heap, 300, 1);
        let until = Instant::now() + Duration::from_secs(20);
        while heap.stats().released.pages() < 300 {
            assert!(Instant::now() < until, "{:?}", heap.stats());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(path(), None);
    });
}

/// Calls of the housekeeping, and allocations of the reclaimer's thread between the third and the last.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// Runs in the reclaimer's thread.
fn count() {
    match CALLS.fetch_add(1, Ordering::SeqCst) {
        // It is still opening files.
        0 | 1 => {}
        2 => assert_eq!(allocations_so_far(), 0),
        3 => {
            ALLOCATIONS.store(allocations_so_far(), Ordering::SeqCst);
            // The control: what is allocated here is counted.
            drop(std::hint::black_box(Box::new(1)));
        }
        4 => assert_eq!(allocations_so_far() - ALLOCATIONS.load(Ordering::SeqCst), 2),
        _ => {}
    }
}

#[test]
fn c13_publishing_does_not_allocate() {
    in_child(|| {
        raw::set_housekeeping(Duration::from_secs(1), count);
        let heap = named("garbage", |builder| builder.content(Content::free()));
        let _buffers: Vec<Buffer> = (0..20).map(|seed| filled(&heap, 20, seed)).collect();
        let until = Instant::now() + Duration::from_secs(60);
        let mut first = None;
        while CALLS.load(Ordering::SeqCst) < 6 {
            assert!(Instant::now() < until, "{} calls", CALLS.load(Ordering::SeqCst));
            if CALLS.load(Ordering::SeqCst) == 3 && first.is_none() {
                first = Some(figures_when("figures", |_| true).sequence);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(
            figures_when("figures", |_| true).sequence > first.expect("seen"),
            "it has published meanwhile"
        );
        assert_eq!(ALLOCATIONS.load(Ordering::SeqCst), 0);
    });
}
