//! C6: the system-call manners of the seed, where marks go to the kernel at once.

use std::os::fd::AsFd;
use std::ptr::null_mut;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use vrange::{Error, ErrorKind, raw};
use vrange_os::PAGE_BYTES;
use vrange_testing::{drain_processors, in_child};

use crate::support::Mapping;

/// The two ways of marking memory that the library does not know: with notes and without.
type MarkFn = unsafe fn(*mut u8, usize) -> Result<(), Error>;
const WAYS: [(&str, MarkFn); 2] = [("mark", raw::mark), ("mark_now", raw::mark_now)];

fn kind(outcome: Result<(), Error>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind())
}

#[test]
fn c06_an_unaligned_address_is_an_error() {
    let memory = Mapping::new(2);
    for (way, mark) in WAYS {
        // SAFETY: refused before anything happens.
        let outcome = unsafe { mark(memory.base().wrapping_add(1), PAGE_BYTES) };
        assert_eq!(kind(outcome), Some(ErrorKind::InvalidRange), "{way}");
    }
    assert_eq!(ErrorKind::InvalidRange.errno(), libc::EINVAL);
}

#[test]
fn c06_the_length_is_rounded_down() {
    for (way, mark) in WAYS {
        let memory = Mapping::new(3);
        memory.fill(0..3, 1);
        drain_processors();
        // SAFETY: the test writes nothing meanwhile.
        unsafe { mark(memory.base(), 3 * PAGE_BYTES - 1) }.expect(way);
        drain_processors();
        memory.take(0..3);
        assert_eq!([0, 1, 2].map(|page| memory.read(page)), [0, 0, 3], "{way}");
    }
}

#[test]
fn c06_a_length_of_nothing_is_fine_and_one_below_a_page_is_not() {
    let memory = Mapping::new(1);
    for (way, mark) in WAYS {
        // SAFETY: nothing is marked.
        unsafe { mark(memory.base(), 0) }.expect(way);
        for bytes in [1, 100, PAGE_BYTES - 1] {
            // SAFETY: as above.
            assert_eq!(kind(unsafe { mark(memory.base(), bytes) }), Some(ErrorKind::InvalidRange), "{way}");
        }
        // SAFETY: as above. Past the end of the address space.
        let outcome = unsafe { mark(memory.base(), usize::MAX - PAGE_BYTES + 1) };
        assert_eq!(kind(outcome), Some(ErrorKind::InvalidRange), "{way}");
    }
}

#[test]
fn c06_around_a_hole_the_mapped_parts_are_marked() {
    // In a process of its own: other tests' mappings would come into the hole.
    in_child(|| {
        // So would what the library maps when it is first used.
        assert_eq!(Mapping::new(1).unmark(0..1), []);
        for (way, mark) in WAYS {
            let memory = Mapping::new(9);
            memory.fill(0..9, 1);
            memory.unmap(3..6);
            drain_processors();
            // SAFETY: the test writes nothing meanwhile.
            let outcome = unsafe { mark(memory.base(), 9 * PAGE_BYTES) };
            assert_eq!(kind(outcome), Some(ErrorKind::NotMapped), "{way}");
            drain_processors();
            memory.take(0..3);
            memory.take(6..9);
            assert!([0, 1, 2, 6, 7, 8].iter().all(|page| memory.read(*page) == 0), "{way}");
            assert_eq!(memory.unmark(0..9).len(), if way == "mark" { 6 } else { 0 }, "{way}");
        }
        assert_eq!(ErrorKind::NotMapped.errno(), libc::ENOMEM);
    });
}

#[test]
fn c06_locked_memory_is_refused_and_kept() {
    for (way, mark) in WAYS {
        let memory = Mapping::new(4);
        memory.fill(0..4, 1);
        memory.lock(2..3);
        // SAFETY: the test writes nothing meanwhile.
        let outcome = unsafe { mark(memory.base(), 4 * PAGE_BYTES) };
        assert_eq!(kind(outcome), Some(ErrorKind::NotMarkable), "{way}");
        memory.take(3..4);
        memory.assert_filled(2..4, 1);
    }
    assert_eq!(ErrorKind::NotMarkable.errno(), libc::EINVAL);
}

#[test]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "all about the same memory, for the same reason")]
fn c06_shared_and_file_backed_memory_is_refused() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(PAGE_BYTES as u64).expect("a page");
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: new mappings wherever the kernel likes.
    let mappings = unsafe {
        [
            mmap_anonymous(null_mut(), PAGE_BYTES, protection, MapFlags::SHARED),
            mmap(null_mut(), PAGE_BYTES, protection, MapFlags::PRIVATE, file.as_fd(), 0),
            mmap(null_mut(), PAGE_BYTES, protection, MapFlags::SHARED, file.as_fd(), 0),
        ]
    };
    for base in mappings.map(|base| base.expect("address space").cast::<u8>()) {
        // SAFETY: a mapping of the test.
        unsafe { base.write(77) };
        for (way, mark) in WAYS {
            // SAFETY: as above.
            let outcome = unsafe { mark(base, PAGE_BYTES) };
            assert_eq!(kind(outcome), Some(ErrorKind::NotMarkable), "{way}");
        }
        // SAFETY: as above.
        assert!(!unsafe { raw::unmark(base, PAGE_BYTES) }.expect("nothing is marked").is_purged());
        // SAFETY: as above.
        unsafe {
            assert_eq!(base.read(), 77);
            munmap(base.cast(), PAGE_BYTES).expect("to be unmapped");
        }
    }
}

#[test]
fn unmarking_what_was_never_marked_does_nothing() {
    let memory = Mapping::new(4);
    memory.fill(0..4, 1);
    assert_eq!(memory.unmark(0..4), []);
    memory.unmap(0..4);
    assert_eq!(memory.unmark(0..4), []);
}
