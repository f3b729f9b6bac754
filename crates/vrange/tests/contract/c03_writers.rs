//! C3, last sentence: after `pin` nothing more is lost, however the bytes are written.
//!
//! A page that a pin found intact must be dirty, also where the program does not write to it by the processor: a device or the
//! kernel that writes through a reference of its own leaves the page table as it was.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use vrange::{Buffer, Heap, Pinned, WriteGuard};
use vrange_os::PAGE_BYTES;
use vrange_testing::{Ring, skipped};

use crate::support::raw::Raw;
use crate::support::{SIZES_PAGES, assert_filled, fill, filled, memory, quiet_heap};

const PAGES: usize = 64;

/// A file with what `fill(…, seed)` writes.
fn source(seed: u64) -> tempfile::NamedTempFile {
    let mut bytes = vec![0; PAGES * PAGE_BYTES];
    fill(&mut bytes, seed);
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&bytes).expect("space on disk");
    file.as_file().sync_all().expect("written");
    file
}

/// Buffers as a pin may find them: with contents that were rescued, that were lost, and that were never written.
fn buffers(heap: &Heap) -> [Buffer; 4] {
    let offered = || {
        let buffer = filled(heap, PAGES, 1);
        assert!(buffer.offer());
        buffer
    };
    let lost = offered();
    memory::take(&lost, 0..PAGES);
    let blank = heap.buffer(PAGES * PAGE_BYTES).expect("a buffer");
    let mut zeros = heap.buffer(PAGES * PAGE_BYTES).expect("a buffer");
    zeros.pin_mut().intact().expect("new").fill(0);
    assert!(zeros.offer());
    [offered(), lost, blank, zeros]
}

/// Has `write` fill each kind of buffer with the bytes of `source(2)`; they must be there after the kernel has tried to take
/// the pages, as long as the pin lasts.
#[track_caller]
fn nothing_is_lost_after(mut write: impl FnMut(&mut WriteGuard<'_>)) {
    let heap = quiet_heap();
    for mut buffer in buffers(&heap) {
        let span = memory::span(&buffer);
        let mut guard = match buffer.pin_mut() {
            Pinned::Intact(guard) => guard,
            Pinned::Purged(purged) => purged.acknowledge(),
        };
        write(&mut guard);
        memory::page_out_everywhere(span);
        assert_filled(&guard, 2);
    }
}

#[test]
fn c03_bytes_that_were_only_kept_are_not_lost_after_the_pin() {
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let buffer = filled(&heap, pages, 3);
        assert!(buffer.offer());
        let guard = buffer.pin().intact().expect("nothing was taken");
        memory::page_out_everywhere(memory::span(&buffer));
        assert_filled(&guard, 3);
    }
}

#[test]
fn c03_control_a_rescue_that_only_looks_loses_what_it_saw() {
    let mut raw = Raw::new(PAGES);
    fill(raw.bytes_mut(), 3);
    raw.offer();
    assert_eq!(raw.load_each_page(), PAGES, "every page is there");
    raw.take(0..PAGES);
    assert_eq!(raw.load_each_page(), 0, "and then none is");
}

#[test]
fn c03_bytes_stored_by_the_processor_are_not_lost() {
    nothing_is_lost_after(|guard| fill(guard, 2));
}

#[test]
fn c03_bytes_read_from_a_file_are_not_lost() {
    let source = source(2);
    nothing_is_lost_after(|guard| source.reopen().expect("the file").read_exact(guard).expect("all of it"));
    nothing_is_lost_after(|guard| source.as_file().read_exact_at(guard, 0).expect("all of it"));
}

#[test]
fn c03_bytes_read_past_the_page_cache_are_not_lost() {
    let source = source(2);
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(source.path());
    let Ok(direct) = direct else {
        skipped("the file system of temporary files has no O_DIRECT");
        return;
    };
    nothing_is_lost_after(|guard| direct.read_exact_at(guard, 0).expect("all of it"));
}

#[test]
fn c03_bytes_read_through_io_uring_into_registered_memory_are_not_lost() {
    let Some(mut ring) = Ring::new() else { return };
    let source = source(2);
    nothing_is_lost_after(|guard| ring.read_registered(source.as_file(), guard));
}

#[test]
fn c03_control_registered_memory_that_was_only_looked_at_is_lost() {
    let Some(mut ring) = Ring::new() else { return };
    let source = source(2);
    let mut raw = Raw::new(PAGES);
    fill(raw.bytes_mut(), 1);
    raw.offer();
    assert_eq!(raw.load_each_page(), PAGES, "every page is there");
    ring.read_registered(source.as_file(), raw.bytes_mut());
    assert_filled(raw.bytes(), 2);
    raw.take(0..PAGES);
    assert_eq!(raw.load_each_page(), 0, "the bytes that the kernel wrote went with the pages");
}
