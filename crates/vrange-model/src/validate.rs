//! Recomputes every count, to be called after each step of a test.

use std::collections::BTreeMap;

use crate::frame::FrameId;
use crate::lru::List;
use crate::machine::Machine;
use crate::page_table::Pte;
use crate::swap::SlotId;

impl Machine {
    /// Checks that everything the machine keeps twice agrees.
    ///
    /// # Panics
    /// When something does not.
    pub fn validate(&self) {
        let mut mappings: BTreeMap<FrameId, u32> = BTreeMap::new();
        let mut entries: BTreeMap<SlotId, u32> = BTreeMap::new();
        for process in self.processes.iter().flatten() {
            for page in process.table.populated(0..u64::MAX) {
                let vma = self.vmas.covering(&process.space, page).expect("a page has a VMA");
                match process.table.get(page) {
                    Pte::None | Pte::Zero => {}
                    Pte::Migration(_) => panic!("a migration was left unfinished"),
                    Pte::Swap(slot) => *entries.entry(slot).or_default() += 1,
                    Pte::Present(mapped) => {
                        *mappings.entry(mapped.frame).or_default() += 1;
                        let frame = self.frames.get(mapped.frame);
                        assert_eq!(frame.index, page, "a page is mapped at its index");
                        let members = self.vmas.anon_vmas.members(frame.anon_vma);
                        assert!(members.contains(&vma), "the reverse mapping finds every mapping");
                        assert!(!mapped.writable || frame.map_count == 1, "a shared page is write-protected");
                    }
                }
            }
        }
        self.validate_frames(&mappings);
        self.validate_slots(&entries);
        self.validate_vmas();
    }

    fn validate_frames(&self, mappings: &BTreeMap<FrameId, u32>) {
        let mut listed = 0;
        for list in [List::ActiveAnon, List::InactiveAnon, List::LazyFree, List::Unevictable] {
            let frames = self.lists.frames(list);
            assert_eq!(
                u64::try_from(frames.len()),
                Ok(self.lists.length(list)),
                "{list:?} is as long as it says"
            );
            listed += frames.len();
        }
        assert_eq!(listed, self.frames.used().count(), "every frame in use is on one list");
        assert_eq!(listed, self.frames.used_count() as usize, "frames in use are counted");
        for (id, frame) in self.frames.used() {
            assert!(self.lists.list_of(id).is_some(), "a frame in use is on a list");
            assert_eq!(frame.map_count, mappings.get(&id).copied().unwrap_or(0), "mappings are counted");
            match frame.slot {
                Some(slot) => {
                    assert_eq!(self.swap.get(slot).cache, Some(id), "the swap cache knows its page");
                }
                None => assert!(frame.map_count > 0, "a page that nobody has is freed"),
            }
        }
    }

    fn validate_slots(&self, entries: &BTreeMap<SlotId, u32>) {
        for (id, slot) in self.swap.used() {
            assert_eq!(slot.map_count, entries.get(&id).copied().unwrap_or(0), "entries are counted");
            assert!(slot.map_count > 0 || slot.cache.is_some(), "a slot that nobody names is freed");
            assert!(slot.cache.is_some() || slot.written.is_some(), "a page is in memory or on the device");
            if let Some(frame) = slot.cache {
                let frame = self.frames.get(frame);
                assert_eq!(frame.slot, Some(id), "the page knows its swap cache");
                assert!(slot.map_count + frame.map_count > 0, "a page that nobody has is freed");
                let differs = slot.written != Some(frame.content);
                let may_differ = frame.dirty || self.is_written_through(frame.index, slot.cache);
                assert!(!differs || may_differ, "a page that differs from the device is dirty");
            }
        }
    }

    /// Whether a process has written to the frame without the kernel having noticed yet.
    fn is_written_through(&self, page: u64, frame: Option<FrameId>) -> bool {
        let tables = self.processes.iter().flatten().map(|process| process.table.get(page));
        tables.into_iter().any(|pte| matches!(pte, Pte::Present(m) if Some(m.frame) == frame && m.dirty))
    }

    fn validate_vmas(&self) {
        let mut count = 0;
        for process in self.processes.iter().flatten() {
            let mut end_before = 0;
            for (start, id) in &process.space {
                let vma = self.vmas.get(*id);
                assert_eq!(vma.start, *start, "a VMA is found where it starts");
                assert!(end_before <= vma.start && vma.start < vma.end, "VMAs do not overlap");
                end_before = vma.end;
                for set in &vma.chain {
                    assert!(
                        self.vmas.anon_vmas.members(*set).contains(id),
                        "a VMA is in the sets of its chain"
                    );
                }
                if let Some(set) = vma.anon_vma {
                    assert!(vma.chain.contains(&set), "a VMA's own set is one of its chain");
                }
                count += 1;
            }
        }
        assert_eq!(count, self.vmas.used().count(), "every VMA belongs to a process");
    }
}
