//! Reclaim: aging the lists, and taking pages from their ends.

use crate::frame::FrameId;
use crate::lru::List;
use crate::machine::{Machine, Semantics, Swapless};
use crate::rmap::{Reason, References, Unmapped};

/// What is decided about a page by how it was used (`page_check_references`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageRef {
    /// `PAGEREF_RECLAIM`
    Reclaim,
    /// `PAGEREF_ACTIVATE`
    Activate,
}

/// What is done with a page that was looked at (`shrink_page_list`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shrunk {
    /// Its frame is free.
    Freed,
    /// `activate_locked`
    Activate,
    /// `keep_locked`
    Keep,
    /// `cull_mlocked`
    Cull,
}

const PRIORITY_MAX: u32 = 12;

impl Machine {
    /// Takes pages until `wanted` are free that were not, or nothing more will go. Returns how many went.
    ///
    /// What programs have offered goes first. Then the lists are scanned, a small part first and more of them when that is
    /// not enough, and again when all of that only aged them, as an allocation that has to wait does.
    pub fn reclaim(&mut self, wanted: u64) -> u64 {
        const RETRIES: u32 = 3;
        let mut freed = self.take_offers(wanted);
        for _ in 0..RETRIES {
            for priority in (0..=PRIORITY_MAX).rev() {
                if freed >= wanted || !self.scans_anonymous_pages() {
                    return freed;
                }
                freed += self.shrink_inactive(priority, wanted - freed);
                self.age(self.lists.length(List::ActiveAnon) >> priority);
            }
        }
        freed
    }

    /// Takes what programs have offered, and lets them offer more as long as they have something.
    fn take_offers(&mut self, wanted: u64) -> u64 {
        let mut freed = 0;
        loop {
            let offered = self.offer_coldest(wanted - freed);
            freed += self.shrink_lazy_free(wanted - freed);
            if freed >= wanted || offered == 0 {
                return freed;
            }
        }
    }

    /// Whether reclaim looks at anonymous pages at all (`get_scan_count`): not where there is nowhere to put them.
    fn scans_anonymous_pages(&self) -> bool {
        self.swap.has_free() || self.discards_without_slot()
    }

    /// Whether a volatile page may go without a slot: as the patch promises, not as it does.
    fn discards_without_slot(&self) -> bool {
        self.setup.swapless == Swapless::AsPromised && self.setup.semantics != Semantics::Vrange
    }

    /// Moves up to `pages` pages from the active list to the inactive one, unless that is long enough
    /// (`shrink_active_list`, `inactive_anon_is_low`). Without swap it is not done, unless the machine is to age then too.
    pub fn age(&mut self, pages: u64) {
        if !self.swap.exists() && !self.discards_without_slot() {
            return;
        }
        for _ in 0..pages {
            if !self.inactive_is_low() {
                break;
            }
            let Some(frame) = self.lists.tail(List::ActiveAnon) else { break };
            let References { flags, .. } = self.page_referenced(frame);
            if flags.locked {
                self.lists.move_to_head(frame, List::Unevictable);
                continue;
            }
            // That it was touched does not keep an anonymous page on the active list: it has the way through the
            // inactive list to be touched again.
            self.lists.move_to_head(frame, List::InactiveAnon);
            self.count.pgdeactivate += 1;
        }
    }

    fn inactive_is_low(&self) -> bool {
        // One page in two on small machines, fewer on large ones: the ratio is the root of ten times the gigabytes.
        const FRAMES_PER_GIGABYTE: u64 = 1 << 18;
        let gigabytes = u64::from(self.frames.limit()) / FRAMES_PER_GIGABYTE;
        let ratio = (10 * gigabytes).isqrt().max(1);
        self.lists.length(List::InactiveAnon) * ratio < self.lists.length(List::ActiveAnon)
    }

    /// Looks at a part of the inactive list (`shrink_inactive_list`).
    fn shrink_inactive(&mut self, priority: u32, wanted: u64) -> u64 {
        let mut freed = 0;
        for _ in 0..self.lists.length(List::InactiveAnon) >> priority {
            let Some(frame) = self.lists.tail(List::InactiveAnon) else { break };
            freed += u64::from(self.shrink_and_sort(frame));
            if freed >= wanted {
                break;
            }
        }
        freed
    }

    /// Does what reclaim does to a page, and puts it on the list where it belongs. True if its frame is free.
    fn shrink_and_sort(&mut self, frame: FrameId) -> bool {
        match self.shrink_page(frame) {
            Shrunk::Freed => return true,
            Shrunk::Activate => {
                self.count.pgactivate += 1;
                self.lists.move_to_head(frame, List::ActiveAnon);
            }
            Shrunk::Keep => self.lists.move_to_head(frame, List::InactiveAnon),
            Shrunk::Cull => self.lists.move_to_head(frame, List::Unevictable),
        }
        false
    }

    /// Decides by how the page was used. A touched page is used again soon, unless it was touched through a volatile VMA.
    fn page_check_references(&mut self, frame: FrameId) -> PageRef {
        let References { ptes, flags } = self.page_referenced(frame);
        self.frames.get_mut(frame).referenced = false;
        // A locked page goes on to `try_to_unmap`, which knows where to put it.
        if flags.locked || flags.volatile || ptes == 0 { PageRef::Reclaim } else { PageRef::Activate }
    }

    /// The way of one page through `shrink_page_list`.
    fn shrink_page(&mut self, frame: FrameId) -> Shrunk {
        if self.page_check_references(frame) == PageRef::Activate {
            return Shrunk::Activate;
        }
        if self.frames.get(frame).slot.is_none() && !self.add_to_swap(frame) {
            if self.discards_without_slot() && self.is_volatile_for_all(frame) {
                return self.unmap_and_free(frame, Reason::DiscardWithoutSlot);
            }
            return Shrunk::Activate;
        }
        self.unmap_and_free(frame, Reason::Reclaim)
    }

    fn unmap_and_free(&mut self, frame: FrameId, reason: Reason) -> Shrunk {
        if self.frames.get(frame).map_count > 0 {
            match self.try_to_unmap(frame, reason) {
                Unmapped::Discard => {
                    self.count.pgvolatile += 1;
                    self.remove_mapping(frame);
                    return Shrunk::Freed;
                }
                Unmapped::Fail => return Shrunk::Activate,
                Unmapped::Again => return Shrunk::Keep,
                Unmapped::Mlock => return Shrunk::Cull,
                Unmapped::Success => {}
            }
        }
        self.page_out(frame);
        self.remove_mapping(frame);
        Shrunk::Freed
    }

    /// Gives a page a slot and puts it into the swap cache (`add_to_swap`). False: no slot is free.
    fn add_to_swap(&mut self, frame: FrameId) -> bool {
        let Some(slot) = self.swap.allocate(frame) else { return false };
        let page = self.frames.get_mut(frame);
        page.slot = Some(slot);
        page.dirty = true;
        self.count.swap_cache_add += 1;
        true
    }

    /// Writes a dirty page to its slot. The model's device is done at once, so writeback needs no second look.
    fn page_out(&mut self, frame: FrameId) {
        let page = self.frames.get_mut(frame);
        let slot = page.slot.expect("a page that is written out has a slot");
        if std::mem::take(&mut page.dirty) {
            self.swap.get_mut(slot).written = Some(page.content);
            self.count.pswpout += 1;
        }
    }

    /// Takes a page that nobody maps out of the swap cache and frees its frame (`__remove_mapping`, `free_it`).
    fn remove_mapping(&mut self, frame: FrameId) {
        let page = self.frames.get_mut(frame);
        assert!(!page.dirty, "a dirty page is not freed");
        if let Some(slot) = page.slot.take() {
            self.count.swap_cache_del += 1;
            self.swap.release_cache(slot);
        }
        self.lists.remove(frame);
        self.frames.release(frame);
    }

    /// Takes pages given up with `MADV_FREE`, the oldest first. One that was read lately is passed over once.
    fn shrink_lazy_free(&mut self, wanted: u64) -> u64 {
        let mut freed = 0;
        for _ in 0..self.lists.length(List::LazyFree) {
            if freed >= wanted {
                break;
            }
            let Some(frame) = self.lists.tail(List::LazyFree) else { break };
            if self.page_referenced(frame).ptes > 0 {
                self.lists.move_to_head(frame, List::LazyFree);
            } else if self.try_to_unmap_lazy_free(frame) {
                self.count.pglazyfreed += 1;
                self.remove_mapping(frame);
                freed += 1;
            } else {
                let is_locked = self.page_referenced(frame).flags.locked;
                let list = if is_locked { List::Unevictable } else { List::ActiveAnon };
                self.count.pgactivate += 1;
                self.lists.move_to_head(frame, list);
            }
        }
        freed
    }

    /// Reclaims what it may of some pages of a process, whatever list they are on: for tests, and for purges.
    pub fn reclaim_pages(&mut self, process: crate::ProcessId, first: u64, pages: u64) -> u64 {
        let mut freed = 0;
        for page in self.process(process).table.populated(first..first + pages) {
            let Some(frame) = self.process(process).table.get(page).frame() else { continue };
            match self.lists.list_of(frame) {
                Some(List::ActiveAnon | List::InactiveAnon) => {
                    self.page_referenced(frame);
                    freed += u64::from(self.shrink_and_sort(frame));
                }
                Some(List::LazyFree) if self.try_to_unmap_lazy_free(frame) => {
                    self.count.pglazyfreed += 1;
                    self.remove_mapping(frame);
                    freed += 1;
                }
                Some(List::LazyFree) => self.lists.move_to_head(frame, List::ActiveAnon),
                Some(List::Unevictable) | None => {}
            }
        }
        freed
    }
}
