//! What is done to a page in all the processes that map it.
//!
//! Here is the patch's rule: a page is discarded only if all VMAs that point to it are volatile. It is executed as it was
//! written, with the order in which VMAs are asked, and the point at which the asking stops.

use crate::frame::FrameId;
use crate::machine::{Machine, ProcessId, Semantics};
use crate::page_table::{Mapped, Pte};
use crate::vma::{Flags, VmaId};

/// What became of the attempt to take a page out of all page tables.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmapped {
    /// `SWAP_SUCCESS`: nobody maps it any more.
    Success,
    /// `SWAP_AGAIN`: a mapping was missed.
    Again,
    /// `SWAP_FAIL`: it was touched meanwhile, or cannot go.
    Fail,
    /// `SWAP_MLOCK`: it is locked.
    Mlock,
    /// `SWAP_DISCARD`: it is volatile, and nobody knows of it any more.
    Discard,
}

/// How a page is taken out of the page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// To free its frame. Each entry becomes one that names its swap slot.
    Reclaim,
    /// To free its frame, when it has no slot and needs none.
    DiscardWithoutSlot,
    /// To move it to another frame (`TTU_MIGRATION|TTU_IGNORE_MLOCK|TTU_IGNORE_ACCESS`), with `TTU_IGNORE_VOLATILE` or
    /// without.
    Migration {
        /// `TTU_IGNORE_VOLATILE`.
        ignore_volatile: bool,
    },
}

/// What `page_referenced` collects.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct References {
    pub(crate) ptes: u32,
    /// The flags of the VMAs through which it was touched, and of those that lock it.
    pub(crate) flags: Flags,
}

impl Machine {
    /// The VMAs that the page's reverse mapping leads to and whose range has the page, in the order of the list.
    pub(crate) fn vmas_of(&mut self, frame: FrameId) -> Vec<(VmaId, ProcessId)> {
        let page = self.frames.get(frame);
        let (index, members) = (page.index, self.vmas.anon_vmas.members(page.anon_vma));
        self.count.rmap_steps += u64::try_from(members.len()).expect("a length has at most 64 bits");
        let covering = members.iter().filter(|id| self.vmas.get(**id).covers(index));
        covering.map(|id| (*id, self.vmas.get(*id).process)).collect()
    }

    /// The entry through which a process maps the frame (`page_check_address`).
    fn mapped_by(&mut self, process: ProcessId, frame: FrameId) -> Option<Mapped> {
        let index = self.frames.get(frame).index;
        match self.pte(process, index) {
            Pte::Present(mapped) if mapped.frame == frame => Some(mapped),
            _ => None,
        }
    }

    /// Collects and clears the young bits of a page (`page_referenced`).
    pub(crate) fn page_referenced(&mut self, frame: FrameId) -> References {
        let mut references = References::default();
        let index = self.frames.get(frame).index;
        for (vma, process) in self.vmas_of(frame) {
            let Some(mapped) = self.mapped_by(process, frame) else { continue };
            let flags = self.vmas.get(vma).flags;
            if flags.locked {
                references.flags.locked = true;
                break;
            }
            if mapped.young {
                references.ptes += 1;
                // The flags count only where the page was touched, as in the kernel.
                references.flags.volatile |= flags.volatile;
                self.set_pte(process, index, Pte::Present(Mapped { young: false, ..mapped }));
            }
        }
        references
    }

    /// Takes a page out of all page tables (`try_to_unmap`, with the patch's `try_to_unmap_anon`).
    pub(crate) fn try_to_unmap(&mut self, frame: FrameId, reason: Reason) -> Unmapped {
        let mut is_volatile = reason != Reason::Migration { ignore_volatile: true };
        let mut result = Unmapped::Again;
        let vmas = self.vmas_of(frame);
        for &(vma, process) in &vmas {
            if !self.vmas.get(vma).flags.volatile {
                is_volatile = false;
            }
            result = self.try_to_unmap_one(frame, vma, process, reason);
            if result != Unmapped::Again || self.frames.get(frame).map_count == 0 {
                break;
            }
        }
        let is_mapped = self.frames.get(frame).map_count > 0;
        if !is_mapped && is_volatile && self.may_discard(frame) {
            for &(vma, process) in &vmas {
                self.try_to_zap_one(frame, vma, process);
            }
            self.frames.get_mut(frame).dirty = false;
            return Unmapped::Discard;
        }
        if !is_mapped && result != Unmapped::Mlock { Unmapped::Success } else { result }
    }

    /// Whether everybody who has the page in memory or on swap calls it volatile, where the machine asks that.
    fn may_discard(&mut self, frame: FrameId) -> bool {
        !self.setup.discard_asks_all_sharers || self.is_volatile_for_all(frame)
    }

    /// Whether every VMA that the page's reverse mapping leads to is volatile.
    pub(crate) fn is_volatile_for_all(&mut self, frame: FrameId) -> bool {
        let vmas = self.vmas_of(frame);
        vmas.iter().all(|(vma, _)| self.vmas.get(*vma).flags.volatile)
    }

    /// Replaces one process's entry (`try_to_unmap_one`).
    fn try_to_unmap_one(
        &mut self,
        frame: FrameId,
        vma: VmaId,
        process: ProcessId,
        reason: Reason,
    ) -> Unmapped {
        let Some(mapped) = self.mapped_by(process, frame) else { return Unmapped::Again };
        let page = self.frames.get(frame);
        let (index, slot) = (page.index, page.slot);
        let is_migration = matches!(reason, Reason::Migration { .. });
        if self.vmas.get(vma).flags.locked && !is_migration {
            return Unmapped::Mlock;
        }
        if mapped.young && !is_migration {
            self.set_pte(process, index, Pte::Present(Mapped { young: false, ..mapped }));
            return Unmapped::Fail;
        }
        let entry = match (slot, reason) {
            // Also in a migration: a page that is in the swap cache is found again there.
            (Some(slot), _) => {
                self.swap.duplicate(slot);
                Pte::Swap(slot)
            }
            (None, Reason::Migration { .. }) => Pte::Migration(mapped),
            (None, Reason::DiscardWithoutSlot) => {
                self.note_purge(vma);
                Pte::None
            }
            (None, Reason::Reclaim) => unreachable!("reclaim gives a page a slot first"),
        };
        self.set_pte(process, index, entry);
        let page = self.frames.get_mut(frame);
        page.dirty |= mapped.dirty;
        page.map_count -= 1;
        Unmapped::Again
    }

    /// Notes in the VMA that a page of it was discarded, where the kernel tells programs so.
    fn note_purge(&mut self, vma: VmaId) {
        if self.setup.semantics == Semantics::V4 {
            self.vmas.get_mut(vma).flags.purged = true;
        }
    }

    /// Clears an entry that names the page's swap slot (`try_to_zap_one`). The patch does not look at the VMA's flags
    /// again, nor at who put the entry there.
    fn try_to_zap_one(&mut self, frame: FrameId, vma: VmaId, process: ProcessId) {
        let page = self.frames.get(frame);
        let (index, slot) = (page.index, page.slot);
        if let Pte::Swap(entry) = self.pte(process, index)
            && Some(entry) == slot
        {
            self.set_pte(process, index, Pte::None);
            self.swap.release_entry(entry);
            self.note_purge(vma);
        }
    }

    /// Whether a page given up with `MADV_FREE` could be taken out of all page tables. Whoever has not written to it since
    /// has lost it then, even where somebody else has and it stays (`try_to_unmap_one` for what is not swap-backed).
    pub(crate) fn try_to_unmap_lazy_free(&mut self, frame: FrameId) -> bool {
        let index = self.frames.get(frame).index;
        for (vma, process) in self.vmas_of(frame) {
            let Some(mapped) = self.mapped_by(process, frame) else { continue };
            if self.vmas.get(vma).flags.locked {
                return false;
            }
            let page = self.frames.get_mut(frame);
            page.dirty |= mapped.dirty;
            if page.dirty {
                page.swap_backed = true;
                return false;
            }
            page.map_count -= 1;
            self.set_pte(process, index, Pte::None);
        }
        self.frames.get(frame).map_count == 0
    }
}
