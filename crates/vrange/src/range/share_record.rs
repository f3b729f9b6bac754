//! What processes that share a range tell each other: two counts and a hint, in memory that all of them map.

use std::ptr::null_mut;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// Counts kept in memory that forked processes share: the processes that map a range, in units of [`MAPPER`], and those
/// among them in which it is volatile, in units of [`VOLATILE`]. And whether one of those has [offered](OFFERED) it.
///
/// One word, so that nobody sees one count without the other. Each process adds and takes away its own share, in any
/// order: the sum is what counts, and while steps are under way it is never more than it will be.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct ShareRecord(AtomicU64);

const MAPPER: u64 = 1 << 32;
const VOLATILE: u64 = 1;
/// Some process has offered the range, and none has pinned it since.
const OFFERED: u64 = 1 << 63;

impl ShareRecord {
    /// More processes map it; it is volatile in more of them.
    pub(crate) fn add(&self, mappers: u64, volatile: u64) {
        // Relaxed: counts that order nothing. A new process sees what was added before the fork.
        self.0.fetch_add(mappers * MAPPER + volatile * VOLATILE, Ordering::Relaxed);
    }

    /// Fewer processes map it; it is volatile in fewer of them.
    pub(crate) fn take_away(&self, mappers: u64, volatile: u64) {
        // Relaxed: as above.
        self.0.fetch_sub(mappers * MAPPER + volatile * VOLATILE, Ordering::Relaxed);
    }

    /// One of the processes in which it is volatile has offered it.
    pub(crate) fn note_offer(&self) {
        self.0.fetch_or(OFFERED, Ordering::Relaxed); // Relaxed: a hint.
    }

    /// A process has pinned it.
    pub(crate) fn forget_offer(&self) {
        self.0.fetch_and(!OFFERED, Ordering::Relaxed); // Relaxed: a hint.
    }

    /// Has a process offered it, and none pinned it since?
    pub(crate) fn is_offered(&self) -> bool {
        self.0.load(Ordering::Relaxed) & OFFERED != 0 // Relaxed: a hint.
    }

    /// Do all that map it hold it volatile?
    pub(crate) fn all_volatile(&self) -> bool {
        // Relaxed: as above. A process that pins at this moment may find its neighbour's offer harmless: only the
        // neighbour's mapping is offered.
        let counts = self.0.load(Ordering::Relaxed) & !OFFERED;
        counts / MAPPER == counts % MAPPER
    }
}

/// Records that are mapped together: 64 KiB. A mapping for each fork would use up the mappings that a process may have.
#[repr(C)]
struct Chunk {
    /// Records given out by all the processes that share the chunk: a forked child goes on where its parent stood.
    taken: AtomicU64,
    records: [ShareRecord; CHUNK_RECORDS],
}

const CHUNK_RECORDS: usize = (64 << 10) / size_of::<ShareRecord>() - 1;

/// The chunk with records to give out, or null.
static CHUNK: AtomicPtr<Chunk> = AtomicPtr::new(null_mut());

/// A record that nobody uses, or null if there is no memory for more. Records are never given back: a process that has
/// died cannot say that it does not use one any more.
pub(crate) fn new_record() -> *mut ShareRecord {
    loop {
        // Relaxed: only forks come here, one at a time.
        let chunk = CHUNK.load(Ordering::Relaxed);
        // SAFETY: null, or mapped by `map_chunk` and never unmapped.
        if let Some(chunk) = unsafe { chunk.as_ref() } {
            // Relaxed: each number is given out once, in all processes together.
            let number = chunk.taken.fetch_add(1, Ordering::Relaxed);
            if let Some(record) = usize::try_from(number).ok().and_then(|number| chunk.records.get(number)) {
                return std::ptr::from_ref(record).cast_mut();
            }
        }
        let Some(chunk) = map_chunk() else { return null_mut() };
        CHUNK.store(chunk, Ordering::Relaxed); // Relaxed: as above.
    }
}

fn map_chunk() -> Option<*mut Chunk> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping wherever the kernel likes. Zeros are a valid chunk. It is never unmapped: other processes come
    // and go, and each keeps its own mapping of it until it ends.
    let mapped = unsafe { mmap_anonymous(null_mut(), size_of::<Chunk>(), access, MapFlags::SHARED) };
    mapped.ok().map(|chunk| chunk.cast())
}
