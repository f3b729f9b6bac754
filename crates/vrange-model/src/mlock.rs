//! `mlock` and `munlock`.

use crate::lru::List;
use crate::machine::{AccessError, Errno, Machine, ProcessId};
use crate::page_table::Pte;

impl Machine {
    /// Locks `pages` pages from page number `first`, and brings in what is not there. A VMA that is volatile and therefore
    /// special stays unlocked, and nobody is told.
    ///
    /// # Errors
    /// `ENOMEM` if a part of the range is not mapped or there is no memory, `EAGAIN` if there may be no more VMAs.
    pub fn mlock(&mut self, process: ProcessId, first: u64, pages: u64) -> Result<(), Errno> {
        self.count.mmap_sem_writes += 1;
        let end = first + pages;
        self.for_each_vma(process, first, end, |machine, vma, first, end| {
            let is_special = machine.vmas.get(vma).flags.volatile && machine.setup.volatile_is_special;
            if is_special {
                return Ok(());
            }
            machine.change_flags(vma, first, end, |flags| flags.locked = true)
        })?;
        for page in first..end {
            self.populate(process, page).map_err(|_| Errno::ENOMEM)?;
        }
        Ok(())
    }

    /// Unlocks `pages` pages from page number `first`.
    ///
    /// # Errors
    /// `ENOMEM` if a part of the range is not mapped, `EAGAIN` if there may be no more VMAs.
    pub fn munlock(&mut self, process: ProcessId, first: u64, pages: u64) -> Result<(), Errno> {
        self.count.mmap_sem_writes += 1;
        self.for_each_vma(process, first, first + pages, |machine, vma, first, end| {
            machine.change_flags(vma, first, end, |flags| flags.locked = false)?;
            for page in machine.process(process).table.populated(first..end) {
                if let Some(frame) = machine.process(process).table.get(page).frame() {
                    machine.lists.move_to_head(frame, List::ActiveAnon);
                }
            }
            Ok(())
        })
    }

    /// Makes a page writable and dirty without changing it, and takes it off the lists if its VMA is locked.
    fn populate(&mut self, process: ProcessId, page: u64) -> Result<(), AccessError> {
        let value = self.read_for_write(process, page)?;
        self.write(process, page, value)?;
        let vma = self.vmas.covering(&self.process(process).space, page).ok_or(AccessError::Segv)?;
        if let Some(frame) = self.process(process).table.get(page).frame()
            && self.vmas.get(vma).flags.locked
        {
            self.lists.move_to_head(frame, List::Unevictable);
        }
        Ok(())
    }

    /// What a page holds, without bringing in the zero page for one that is not there.
    fn read_for_write(&mut self, process: ProcessId, page: u64) -> Result<u64, AccessError> {
        match self.process(process).table.get(page) {
            Pte::None => Ok(0),
            _ => self.read(process, page),
        }
    }
}
