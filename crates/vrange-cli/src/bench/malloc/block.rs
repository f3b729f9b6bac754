//! Memory of whatever allocator is in the process: Rust's own asks `malloc` and `free`.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;
use std::ptr::NonNull;
use std::slice;

use crate::failure::Failure;

/// What every `malloc` aligns to, so that `malloc` is what is called.
const ALIGN: usize = 16;

/// One allocation. Dropping it frees it.
#[derive(Debug)]
pub(super) struct Block {
    base: NonNull<u8>,
    layout: Layout,
}

impl Block {
    /// Allocates memory that holds nothing yet.
    pub(super) fn allocate(bytes: usize) -> Result<Self, Failure> {
        let layout = Layout::from_size_align(bytes, ALIGN)
            .ok()
            .filter(|layout| layout.size() > 0)
            .ok_or_else(|| Failure::run(format!("no block has {bytes} bytes")))?;
        // SAFETY: the size is not 0.
        let base = unsafe { alloc(layout) };
        // The compiler knows what `alloc` does, and may join it with stores to `calloc`, or leave both out where nobody reads
        // them. Behind this it knows nothing of the pointer.
        let base = NonNull::new(black_box(base))
            .ok_or_else(|| Failure::run(format!("malloc has no {bytes} bytes")))?;
        Ok(Self { base, layout })
    }

    /// Writes to every byte.
    pub(super) fn fill(&mut self, byte: u8) {
        // SAFETY: the block has this many bytes, they are ours, and a byte may have any value.
        unsafe { self.base.write_bytes(byte, self.layout.size()) };
        self.is_looked_at();
    }

    /// Copies as many of the keys as the block has room for, and gives them to be read.
    pub(super) fn copy_of(&mut self, keys: &[u64]) -> &[u64] {
        let count = keys.len().min(self.layout.size() / size_of::<u64>());
        let copy = self.base.cast::<u64>();
        let from = NonNull::from(keys).cast::<u64>();
        // SAFETY: both have `count` keys at least, the block is aligned to more than a key needs, and it is ours alone, so that
        // it does not overlap with `keys`.
        unsafe { copy.copy_from_nonoverlapping(from, count) };
        self.is_looked_at();
        // SAFETY: `count` keys were written just now, and nobody writes to the block while it is borrowed.
        unsafe { slice::from_raw_parts(copy.as_ptr(), count) }
    }

    /// Everything that was stored might be read here, for all that the compiler knows.
    fn is_looked_at(&self) {
        black_box(self.base.as_ptr());
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated by `allocate` with this layout, and nothing refers to it any more.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_ends_where_the_block_does() {
        let keys: Vec<u64> = (0..100).collect();
        let mut block = Block::allocate(8 * 60 + 7).expect("little memory");
        assert_eq!(block.copy_of(&keys), &keys[..60]);
        let mut block = Block::allocate(4096).expect("little memory");
        assert_eq!(block.copy_of(&keys), keys);
        block.fill(7);
        assert!(Block::allocate(0).is_err());
    }
}
