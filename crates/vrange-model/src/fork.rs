//! `fork`: a child with the same VMAs, marks included, and the same pages, which both sides copy when they write.

use crate::machine::{Machine, ProcessId};
use crate::page_table::{Mapped, PageTable, Pte};
use crate::vma::{AddressSpace, Flags, Vma, VmaId};

impl Machine {
    /// Makes a child of `parent`.
    pub fn fork(&mut self, parent: ProcessId) -> ProcessId {
        let marks = self.process(parent).marks.clone();
        let child = self.spawn();
        self.inherit_offers(parent, child);
        let ids: Vec<VmaId> = self.process(parent).space.values().copied().collect();
        let mut space = AddressSpace::new();
        let mut table = PageTable::new();
        for id in ids {
            let has_pages = self.fork_vma(id, child, &mut space);
            if has_pages {
                self.copy_page_range(parent, id, &mut table);
            }
        }
        let process = self.process_mut(child);
        process.space = space;
        process.table = table;
        process.marks = marks;
        child
    }

    /// Copies a VMA and links the copy behind the original (`dup_mmap`, `anon_vma_fork`). False if it never had a page of
    /// its own, so that there is nothing to copy.
    fn fork_vma(&mut self, id: VmaId, child: ProcessId, space: &mut AddressSpace) -> bool {
        let vma = self.vmas.get(id).clone();
        let flags = Flags { locked: false, ..vma.flags };
        let parent_set = vma.anon_vma;
        let copy = self.vmas.insert(space, Vma { process: child, flags, anon_vma: None, ..vma });
        if let Some(parent_set) = parent_set {
            let set = self.vmas.anon_vmas.create(Some(parent_set));
            self.vmas.set_anon_vma(copy, set);
        }
        parent_set.is_some()
    }

    /// Copies page-table entries; pages become write-protected on both sides (`copy_page_range`).
    fn copy_page_range(&mut self, parent: ProcessId, id: VmaId, table: &mut PageTable) {
        let Vma { start, end, .. } = *self.vmas.get(id);
        for page in self.process(parent).table.populated(start..end) {
            let pte = self.pte(parent, page);
            match pte {
                Pte::Present(mapped) => {
                    let shared = Mapped { writable: false, ..mapped };
                    self.set_pte(parent, page, Pte::Present(shared));
                    table.set(page, Pte::Present(Mapped { young: false, ..shared }));
                    self.frames.get_mut(mapped.frame).map_count += 1;
                }
                Pte::Swap(slot) => {
                    self.swap.duplicate(slot);
                    table.set(page, pte);
                }
                Pte::None | Pte::Zero => table.set(page, pte),
                Pte::Migration(_) => unreachable!("a migration ends before anything else begins"),
            }
        }
    }
}
