//! What is counted: events by the kernel's names, and the work that each operation costs.

/// Everything that has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `PGVOLATILE`: volatile pages discarded by reclaim.
    pub pgvolatile: u64,
    /// `PGLAZYFREED`: pages given up with `MADV_FREE` and taken by reclaim.
    pub pglazyfreed: u64,
    /// `PGFAULT`: page faults of every kind.
    pub pgfault: u64,
    /// `PGMAJFAULT`: faults that had to read from swap.
    pub pgmajfault: u64,
    /// `PGACTIVATE`: pages moved to the active list by reclaim.
    pub pgactivate: u64,
    /// `PGDEACTIVATE`: pages moved to the inactive list by aging.
    pub pgdeactivate: u64,
    /// `PSWPIN`: pages read from swap.
    pub pswpin: u64,
    /// `PSWPOUT`: pages written to swap.
    pub pswpout: u64,
    /// Pages put into the swap cache.
    pub swap_cache_add: u64,
    /// Pages taken out of it.
    pub swap_cache_del: u64,
    /// Page-table entries read or changed.
    pub ptes_touched: u64,
    /// VMAs looked at by the reverse mapping.
    pub rmap_steps: u64,
    /// VMAs split in two.
    pub vma_splits: u64,
    /// Pairs of VMAs merged.
    pub vma_merges: u64,
    /// Times that `mmap_sem` was taken for writing.
    pub mmap_sem_writes: u64,
    /// Marks that a page fault has removed.
    pub marks_cleared_by_fault: u64,
    /// Faults that went on with a VMA that their own merge had freed.
    pub stale_vma_uses: u64,
    /// Pages offered by a program's own reclaimer.
    pub offered: u64,
}

impl Counters {
    /// What has been added since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            pgvolatile: self.pgvolatile - before.pgvolatile,
            pglazyfreed: self.pglazyfreed - before.pglazyfreed,
            pgfault: self.pgfault - before.pgfault,
            pgmajfault: self.pgmajfault - before.pgmajfault,
            pgactivate: self.pgactivate - before.pgactivate,
            pgdeactivate: self.pgdeactivate - before.pgdeactivate,
            pswpin: self.pswpin - before.pswpin,
            pswpout: self.pswpout - before.pswpout,
            swap_cache_add: self.swap_cache_add - before.swap_cache_add,
            swap_cache_del: self.swap_cache_del - before.swap_cache_del,
            ptes_touched: self.ptes_touched - before.ptes_touched,
            rmap_steps: self.rmap_steps - before.rmap_steps,
            vma_splits: self.vma_splits - before.vma_splits,
            vma_merges: self.vma_merges - before.vma_merges,
            mmap_sem_writes: self.mmap_sem_writes - before.mmap_sem_writes,
            marks_cleared_by_fault: self.marks_cleared_by_fault - before.marks_cleared_by_fault,
            stale_vma_uses: self.stale_vma_uses - before.stale_vma_uses,
            offered: self.offered - before.offered,
        }
    }
}
