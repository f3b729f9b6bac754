//! Migration: a page moves to another frame, and nobody may notice.

use crate::frame::{Frame, FrameId};
use crate::machine::{Machine, ProcessId};
use crate::page_table::{Mapped, Pte};
use crate::rmap::{Reason, Unmapped};

impl Machine {
    /// Moves the page to another frame. False if it is in none, or no other is free.
    pub fn migrate(&mut self, process: ProcessId, page: u64) -> bool {
        let Some(old) = self.process(process).table.get(page).frame() else { return false };
        let copy = Frame { map_count: 0, slot: None, ..self.frames.get(old).clone() };
        let Some(new) = self.frames.allocate(copy) else { return false };
        let ignore_volatile = self.setup.migration_ignores_volatile;
        // The kernel does not look at the answer, only at whether the page is still mapped.
        let _: Unmapped = self.try_to_unmap(old, Reason::Migration { ignore_volatile });
        assert_eq!(self.frames.get(old).map_count, 0, "a migration ignores locks and accesses");
        self.move_to_new_page(old, new);
        self.remove_migration_ptes(old, new);
        self.frames.release(old);
        self.free_if_unused(new);
        true
    }

    /// Hands over the flags, the place in the swap cache and the place on the lists.
    fn move_to_new_page(&mut self, old: FrameId, new: FrameId) {
        let Frame { dirty, .. } = *self.frames.get(old);
        let slot = self.frames.get_mut(old).slot.take();
        let page = self.frames.get_mut(new);
        page.dirty = dirty;
        page.slot = slot;
        if let Some(slot) = slot {
            self.swap.get_mut(slot).cache = Some(new);
        }
        let list = self.lists.list_of(old).expect("a frame in use is on a list");
        self.lists.remove(old);
        self.lists.move_to_head(new, list);
    }

    /// Turns the entries that stand for the page on its way into entries that lead to its new frame.
    fn remove_migration_ptes(&mut self, old: FrameId, new: FrameId) {
        let index = self.frames.get(new).index;
        for (_, process) in self.vmas_of(new) {
            match self.pte(process, index) {
                Pte::Migration(mapped) if mapped.frame == old => {
                    self.set_pte(process, index, Pte::Present(Mapped { frame: new, ..mapped }));
                    self.frames.get_mut(new).map_count += 1;
                }
                _ => {}
            }
        }
    }
}
