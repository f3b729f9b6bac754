//! Loads, stores, and the page faults that they take.

use crate::anon_vma::AnonVmaId;
use crate::frame::{Frame, FrameId};
use crate::lru::List;
use crate::machine::{AccessError, Machine, ProcessId, Semantics};
use crate::page_table::{Mapped, Pte};
use crate::swap::SlotId;
use crate::vma::{Kind, VmaId};

/// A page fault that has given up `mmap_sem` for a moment, to take it again for writing.
#[must_use]
#[derive(Debug)]
pub struct PendingFault {
    process: ProcessId,
    page: u64,
    write: bool,
}

/// How far a fault came in its first half.
#[must_use]
#[derive(Debug)]
pub enum BeginFault {
    /// All the way.
    Done,
    /// To the point where it waits for `mmap_sem`: others may come first.
    Pending(PendingFault),
}

impl Machine {
    /// Loads from a page.
    ///
    /// # Errors
    /// No anonymous memory is mapped there, or there is no memory.
    pub fn read(&mut self, process: ProcessId, page: u64) -> Result<u64, AccessError> {
        loop {
            match self.process(process).table.get(page) {
                Pte::Zero => return Ok(0),
                Pte::Present(mapped) => {
                    self.set_pte(process, page, Pte::Present(Mapped { young: true, ..mapped }));
                    return Ok(self.frames.get(mapped.frame).content);
                }
                Pte::None | Pte::Swap(_) | Pte::Migration(_) => self.fault(process, page, false)?,
            }
        }
    }

    /// Stores to a page; `value` stands for all of its bytes.
    ///
    /// # Errors
    /// Nothing is mapped there, or there is no memory.
    pub fn write(&mut self, process: ProcessId, page: u64, value: u64) -> Result<(), AccessError> {
        loop {
            match self.process(process).table.get(page) {
                Pte::Present(mapped) if mapped.writable => {
                    let mapped = Mapped { young: true, dirty: true, ..mapped };
                    self.set_pte(process, page, Pte::Present(mapped));
                    self.frames.get_mut(mapped.frame).content = value;
                    return Ok(());
                }
                _ => self.fault(process, page, true)?,
            }
        }
    }

    /// Takes a page fault from beginning to end.
    fn fault(&mut self, process: ProcessId, page: u64, write: bool) -> Result<(), AccessError> {
        match self.begin_fault(process, page, write)? {
            BeginFault::Done => Ok(()),
            BeginFault::Pending(pending) => self.finish_fault(pending),
        }
    }

    /// The first half of a page fault, with `mmap_sem` held for reading. A fault that has to remove a mark stops where
    /// it has given the semaphore up, so that a test can let others in.
    ///
    /// # Errors
    /// Nothing is mapped there, or there is no memory.
    pub fn begin_fault(
        &mut self,
        process: ProcessId,
        page: u64,
        write: bool,
    ) -> Result<BeginFault, AccessError> {
        self.count.pgfault += 1;
        let covering = self.vmas.covering(&self.process(process).space, page);
        let is_modelled = |id: &VmaId| self.vmas.get(*id).kind == Kind::Anonymous;
        let vma = covering.filter(is_modelled).ok_or(AccessError::Segv)?;
        let pte = self.pte(process, page);
        let may_clear = pte == Pte::None || self.setup.every_fault_clears;
        if self.setup.semantics == Semantics::RfcV3 && may_clear && self.vmas.get(vma).flags.volatile {
            return Ok(BeginFault::Pending(PendingFault { process, page, write }));
        }
        self.handle_pte_fault(process, vma, page, write)?;
        Ok(BeginFault::Done)
    }

    /// Does what the entry asks for (`handle_pte_fault`).
    fn handle_pte_fault(
        &mut self,
        process: ProcessId,
        vma: VmaId,
        page: u64,
        write: bool,
    ) -> Result<(), AccessError> {
        match self.process(process).table.get(page) {
            Pte::None => self.anonymous_page(process, vma, page, write),
            Pte::Swap(slot) => self.swap_page_in(process, vma, page, slot, write),
            Pte::Zero | Pte::Present(_) if write => self.write_protected_page(process, vma, page),
            Pte::Zero | Pte::Present(_) => Ok(()),
            Pte::Migration(_) => unreachable!("a migration ends before anything else begins"),
        }
    }

    /// The second half, with `mmap_sem` held for writing: looks the VMA up again, removes the mark from it and merges it.
    ///
    /// # Errors
    /// The VMA is gone, or there is no memory.
    pub fn finish_fault(&mut self, pending: PendingFault) -> Result<(), AccessError> {
        let PendingFault { process, page, write } = pending;
        self.count.mmap_sem_writes += 1;
        let found = self.vmas.find(&self.process(process).space, page);
        let mut vma = found.filter(|id| self.vmas.get(*id).start <= page).ok_or(AccessError::Segv)?;
        if self.vmas.get(vma).flags.volatile {
            self.vmas.get_mut(vma).flags.volatile = false;
            self.count.marks_cleared_by_fault += 1;
            let (vmas, space) = self.vmas_and_space(process);
            let left = vmas.merge(space, vma);
            // The patch goes on with the pointer that it had. The model counts that, and goes on with the VMA that is
            // left.
            self.count.stale_vma_uses += u64::from(left != vma);
            vma = left;
        }
        // Somebody may have brought the page in meanwhile; the kernel looks again under the page table's lock.
        self.handle_pte_fault(process, vma, page, write)
    }

    /// Brings in a page that was never there (`do_anonymous_page`): the zero page for a read, a frame for a write.
    fn anonymous_page(
        &mut self,
        process: ProcessId,
        vma: VmaId,
        page: u64,
        write: bool,
    ) -> Result<(), AccessError> {
        if !write {
            self.set_pte(process, page, Pte::Zero);
            return Ok(());
        }
        let frame = self.new_page(vma, page, 0)?;
        self.set_pte(process, page, Pte::Present(Mapped { frame, writable: true, dirty: true, young: true }));
        Ok(())
    }

    /// Makes a page writable that was not (`do_wp_page`): its own if nobody shares it, else a copy.
    fn write_protected_page(&mut self, process: ProcessId, vma: VmaId, page: u64) -> Result<(), AccessError> {
        let old = self.process(process).table.get(page).frame();
        if let Some(frame) = old.filter(|frame| self.reuse_swap_page(*frame)) {
            if let Some(set) = self.vmas.get(vma).anon_vma {
                self.frames.get_mut(frame).anon_vma = set;
            }
            let mapped = Mapped { frame, writable: true, dirty: true, young: true };
            self.set_pte(process, page, Pte::Present(mapped));
            return Ok(());
        }
        let content = old.map_or(0, |frame| self.frames.get(frame).content);
        let copy = self.new_page(vma, page, content)?;
        // To get a frame may have taken reclaim, which may have taken the old one.
        match self.pte(process, page) {
            Pte::Present(mapped) => self.drop_mapping(mapped.frame),
            Pte::Swap(slot) => self.free_swap_and_cache(slot),
            Pte::None | Pte::Zero | Pte::Migration(_) => {}
        }
        let mapped = Mapped { frame: copy, writable: true, dirty: true, young: true };
        self.set_pte(process, page, Pte::Present(mapped));
        Ok(())
    }

    /// Whether the page is ours alone, counting the entries that name its swap slot (`reuse_swap_page`). If so it leaves
    /// the swap cache.
    fn reuse_swap_page(&mut self, frame: FrameId) -> bool {
        let page = self.frames.get(frame);
        let entries = page.slot.map_or(0, |slot| self.swap.get(slot).map_count);
        let alone = page.map_count + entries <= 1;
        if alone && page.slot.is_some() {
            self.delete_from_swap_cache(frame);
        }
        alone
    }

    /// Brings a page back from the swap cache or from the device (`do_swap_page`). A mark on its VMA stays.
    fn swap_page_in(
        &mut self,
        process: ProcessId,
        vma: VmaId,
        page: u64,
        slot: SlotId,
        write: bool,
    ) -> Result<(), AccessError> {
        let cached = self.swap.get(slot).cache;
        let frame = match cached {
            Some(frame) => frame,
            None => self.read_swap(vma, page, slot)?,
        };
        let exclusive = write && self.frames.get(frame).map_count + self.swap.get(slot).map_count <= 1;
        if exclusive && cached.is_none() {
            let set = self.anon_vma(vma);
            self.frames.get_mut(frame).anon_vma = set;
        }
        self.frames.get_mut(frame).map_count += 1;
        let mapped = Mapped { frame, writable: exclusive, dirty: exclusive, young: true };
        self.set_pte(process, page, Pte::Present(mapped));
        self.swap.release_entry(slot);
        if exclusive {
            self.delete_from_swap_cache(frame);
        } else if self.swap.is_full() || self.vmas.get(vma).flags.locked {
            self.try_to_free_swap(frame);
        }
        if self.vmas.get(vma).flags.locked {
            self.lists.move_to_head(frame, List::Unevictable);
        }
        Ok(())
    }

    /// Reads a page from the device into the swap cache.
    fn read_swap(&mut self, vma: VmaId, page: u64, slot: SlotId) -> Result<FrameId, AccessError> {
        let content = self.swap.get(slot).written.expect("a slot without a cache has been written");
        let set = self.anon_vma(vma);
        let root = self.vmas.anon_vmas.root(set);
        let frame = self.allocate(Frame {
            content,
            index: page,
            // Others of the family may share the page, so it is entered where all of them are found.
            anon_vma: root,
            map_count: 0,
            slot: Some(slot),
            dirty: false,
            referenced: false,
            swap_backed: true,
        })?;
        self.swap.get_mut(slot).cache = Some(frame);
        self.lists.move_to_head(frame, List::ActiveAnon);
        self.count.pgmajfault += 1;
        self.count.pswpin += 1;
        self.count.swap_cache_add += 1;
        Ok(frame)
    }

    /// A frame that one entry is about to lead to, on the active list.
    fn new_page(&mut self, vma: VmaId, page: u64, content: u64) -> Result<FrameId, AccessError> {
        let anon_vma = self.anon_vma(vma);
        let frame = self.allocate(Frame {
            content,
            index: page,
            anon_vma,
            map_count: 1,
            slot: None,
            dirty: false,
            referenced: false,
            swap_backed: true,
        })?;
        let locked = self.vmas.get(vma).flags.locked;
        self.lists.move_to_head(frame, if locked { List::Unevictable } else { List::ActiveAnon });
        Ok(frame)
    }

    /// The VMA's place in the reverse mapping, which its first page makes (`anon_vma_prepare`).
    fn anon_vma(&mut self, vma: VmaId) -> AnonVmaId {
        self.vmas.get(vma).anon_vma.unwrap_or_else(|| {
            let set = self.vmas.anon_vmas.create(None);
            self.vmas.set_anon_vma(vma, set);
            set
        })
    }

    /// A frame, if need be one that reclaim has to find first.
    fn allocate(&mut self, frame: Frame) -> Result<FrameId, AccessError> {
        const SWAP_CLUSTER_MAX: u64 = 32;
        if self.frames.free_count() == 0 {
            self.reclaim(SWAP_CLUSTER_MAX);
        }
        self.frames.allocate(frame).ok_or(AccessError::OutOfMemory)
    }
}
