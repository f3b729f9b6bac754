//! `madvise`: the manners of the system call, and what each advice does.

use crate::frame::FrameId;
use crate::lru::List;
use crate::machine::{Errno, Machine, PAGE_SIZE, ProcessId, Semantics};
use crate::page_table::{Mapped, Pte};
use crate::vma::{Flags, Kind, Vma, VmaId};

/// What a program advises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// `MADV_VOLATILE`: pages may vanish. With [`Semantics::Vrange`] this is an implicit mark.
    Volatile,
    /// `MADV_NOVOLATILE`: they may not any more. RFC v3 does not have it.
    NoVolatile,
    /// `MADV_DONTNEED`: they vanish now.
    DontNeed,
    /// `MADV_FREE`: they may vanish until they are written. Linux has it since 4.5, so only [`Semantics::Vrange`] does.
    Free,
}

impl Advice {
    /// Whether an unfinished page at the end is left out, instead of being included.
    fn rounds_down(self) -> bool {
        matches!(self, Self::Volatile | Self::NoVolatile)
    }
}

/// Checks a range given in bytes and turns it into pages, first and one past the last.
///
/// # Errors
/// `EINVAL` for an unaligned address, a range that wraps round, and a length that rounds to nothing without being nothing.
pub fn page_range(start: u64, length: u64, rounds_down: bool) -> Result<(u64, u64), Errno> {
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let rounded = if rounds_down {
        length - length % PAGE_SIZE
    } else {
        length.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0)
    };
    if length > 0 && rounded == 0 {
        return Err(Errno::EINVAL);
    }
    let end = start.checked_add(rounded).ok_or(Errno::EINVAL)?;
    Ok((start / PAGE_SIZE, end / PAGE_SIZE))
}

impl Machine {
    /// Gives advice about `length` bytes from `start`. True if it was [`Advice::NoVolatile`], the kernel has it, and
    /// something in the range was discarded since it was marked.
    ///
    /// # Errors
    /// `EINVAL` for a range that makes no sense, for locked memory that was to become volatile, and for advice that this
    /// kernel does not know; `ENOMEM` if a part of the range is not mapped, after the rest was done; `EAGAIN` if there
    /// may be no more VMAs.
    pub fn madvise(
        &mut self,
        process: ProcessId,
        start: u64,
        length: u64,
        advice: Advice,
    ) -> Result<bool, Errno> {
        let vrange = self.setup.semantics == Semantics::Vrange;
        let is_known = match advice {
            Advice::Volatile | Advice::DontNeed => true,
            Advice::NoVolatile => self.setup.semantics != Semantics::RfcV3,
            Advice::Free => vrange,
        };
        if !is_known {
            return Err(Errno::EINVAL);
        }
        let (first, end) = page_range(start, length, advice.rounds_down())?;
        if advice.rounds_down() && !vrange {
            self.count.mmap_sem_writes += 1;
        }
        let mut purged = false;
        self.for_each_vma(process, first, end, |machine, vma, first, end| {
            match advice {
                Advice::Volatile if vrange => machine.free_range(vma, first, end)?,
                Advice::Volatile => machine.set_volatile(vma, first, end)?,
                Advice::NoVolatile if vrange => machine.dirty_range(process, first, end)?,
                Advice::NoVolatile => purged |= machine.clear_volatile(vma, first, end)?,
                Advice::DontNeed => machine.zap(process, first, end),
                Advice::Free => machine.free_range(vma, first, end)?,
            }
            Ok(())
        })?;
        Ok(purged)
    }

    /// Walks the mapped parts of a range. The first error ends the walk; a part that is not mapped does not, and is told
    /// at the end.
    pub(crate) fn for_each_vma(
        &mut self,
        process: ProcessId,
        first: u64,
        end: u64,
        mut act: impl FnMut(&mut Self, VmaId, u64, u64) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut page = first;
        let mut result = Ok(());
        while page < end {
            let Some(id) = self.vmas.find(&self.process(process).space, page) else {
                return Err(Errno::ENOMEM);
            };
            let Vma { start: vma_start, end: vma_end, .. } = *self.vmas.get(id);
            if page < vma_start {
                result = Err(Errno::ENOMEM);
                page = vma_start;
                if page >= end {
                    break;
                }
            }
            act(self, id, page, vma_end.min(end))?;
            page = vma_end;
        }
        result
    }

    /// Marks a part of a VMA (`madvise_behavior`), which becomes a VMA of its own. No page is looked at.
    fn set_volatile(&mut self, vma: VmaId, first: u64, end: u64) -> Result<(), Errno> {
        if self.vmas.get(vma).flags.locked {
            return Err(Errno::EINVAL);
        }
        self.change_flags(vma, first, end, |flags| flags.volatile = true)
    }

    /// Ends the mark of a part of a VMA. True if something in the VMA was discarded since.
    fn clear_volatile(&mut self, vma: VmaId, first: u64, end: u64) -> Result<bool, Errno> {
        let purged = self.vmas.get(vma).flags.purged;
        self.change_flags(vma, first, end, |flags| {
            flags.volatile = false;
            flags.purged = false;
        })?;
        Ok(purged)
    }

    /// Changes the flags of a part of a VMA: splits it off, and merges it with neighbours of the same flags.
    pub(crate) fn change_flags(
        &mut self,
        vma: VmaId,
        first: u64,
        end: u64,
        change: impl FnOnce(&mut Flags),
    ) -> Result<(), Errno> {
        let Vma { process, mut flags, .. } = *self.vmas.get(vma);
        change(&mut flags);
        if flags == self.vmas.get(vma).flags {
            return Ok(());
        }
        let (vmas, space) = self.vmas_and_space(process);
        vmas.isolate(space, vma, first, end).map_err(|_| Errno::EAGAIN)?;
        vmas.get_mut(vma).flags = flags;
        vmas.merge(space, vma);
        Ok(())
    }

    /// `MADV_FREE` on a part of a VMA, with the manners of a mark.
    fn free_range(&mut self, vma: VmaId, first: u64, end: u64) -> Result<(), Errno> {
        let process = self.vma_for_marks(vma)?;
        for page in self.process(process).table.populated(first..end) {
            self.free_page(process, page);
        }
        Ok(())
    }

    /// The process whose VMA it is, if today's marks can be made in it: private anonymous memory that is not locked.
    pub(crate) fn vma_for_marks(&self, vma: VmaId) -> Result<ProcessId, Errno> {
        let Vma { process, kind, flags, .. } = *self.vmas.get(vma);
        if flags.locked || kind != Kind::Anonymous { Err(Errno::EINVAL) } else { Ok(process) }
    }

    /// `MADV_FREE` on one page (`madvise_free_pte_range`).
    pub(crate) fn free_page(&mut self, process: ProcessId, page: u64) {
        match self.pte(process, page) {
            Pte::None | Pte::Zero | Pte::Migration(_) => {}
            // What is on swap is gone at once.
            Pte::Swap(_) => self.zap_page(process, page),
            Pte::Present(mapped) => {
                if !self.make_clean(mapped.frame) {
                    return;
                }
                let clean = Mapped { dirty: false, young: false, ..mapped };
                self.set_pte(process, page, Pte::Present(clean));
                self.mark_lazy_free(mapped.frame);
            }
        }
    }

    /// Takes the dirty flag and the swap slot from a page that is to be given up. Not possible where others share it.
    fn make_clean(&mut self, frame: FrameId) -> bool {
        let page = self.frames.get(frame);
        if page.slot.is_none() && !page.dirty {
            return true;
        }
        let is_shared = page.map_count != 1;
        let keeps_slot = page.slot.is_some();
        if is_shared || (keeps_slot && !self.try_to_free_swap(frame)) {
            return false;
        }
        self.frames.get_mut(frame).dirty = false;
        true
    }

    /// Puts a page among those that go without swap. A page that is there already keeps its place.
    fn mark_lazy_free(&mut self, frame: FrameId) {
        let is_locked = self.lists.list_of(frame) == Some(List::Unevictable);
        let page = self.frames.get_mut(frame);
        if page.swap_backed && !is_locked {
            page.swap_backed = false;
            self.lists.move_to_head(frame, List::LazyFree);
        }
    }

    /// Makes every page of a range dirty that is there, by writing to it what it holds.
    fn dirty_range(&mut self, process: ProcessId, first: u64, end: u64) -> Result<(), Errno> {
        for page in self.process(process).table.populated(first..end) {
            if let Some(frame) = self.process(process).table.get(page).frame() {
                let content = self.frames.get(frame).content;
                self.write(process, page, content).map_err(|_| Errno::ENOMEM)?;
            }
        }
        Ok(())
    }
}
