//! Swap slots and the swap cache.

use crate::frame::FrameId;

/// One slot of the swap device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SlotId(pub(crate) u32);

/// What a slot in use is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// How many page-table entries name it.
    pub(crate) map_count: u32,
    /// The frame that holds the same page, while it is in the swap cache.
    pub(crate) cache: Option<FrameId>,
    /// What was written to the device.
    pub(crate) written: Option<u64>,
}

/// The swap device. With no slots there is none.
#[derive(Clone, Debug)]
pub(crate) struct Swap {
    slots: Vec<Option<Slot>>,
    free: Vec<SlotId>,
}

impl Swap {
    pub(crate) fn new(slots: u32) -> Self {
        Self { slots: vec![None; slots as usize], free: (0..slots).rev().map(SlotId).collect() }
    }

    /// Whether a swap device exists (`total_swap_pages`).
    pub(crate) fn exists(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Whether a slot is free (`nr_swap_pages`).
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether less than half is free (`vm_swap_full`): slots of pages that are back in memory are then given up.
    pub(crate) fn is_full(&self) -> bool {
        self.free.len() * 2 < self.slots.len()
    }

    pub(crate) fn used_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn used(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        (0..).map(SlotId).zip(&self.slots).filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    pub(crate) fn get(&self, id: SlotId) -> &Slot {
        self.slots[id.0 as usize].as_ref().expect("a slot in use")
    }

    pub(crate) fn get_mut(&mut self, id: SlotId) -> &mut Slot {
        self.slots[id.0 as usize].as_mut().expect("a slot in use")
    }

    /// A slot whose swap cache is `frame`.
    pub(crate) fn allocate(&mut self, frame: FrameId) -> Option<SlotId> {
        let id = self.free.pop()?;
        self.slots[id.0 as usize] = Some(Slot { cache: Some(frame), ..Slot::default() });
        Some(id)
    }

    /// One more page-table entry names the slot.
    pub(crate) fn duplicate(&mut self, id: SlotId) {
        self.get_mut(id).map_count += 1;
    }

    /// One fewer does.
    pub(crate) fn release_entry(&mut self, id: SlotId) {
        self.get_mut(id).map_count -= 1;
        self.release_if_unused(id);
    }

    /// The swap cache lets go of the slot.
    pub(crate) fn release_cache(&mut self, id: SlotId) {
        self.get_mut(id).cache = None;
        self.release_if_unused(id);
    }

    fn release_if_unused(&mut self, id: SlotId) {
        let slot = self.get(id);
        if slot.map_count == 0 && slot.cache.is_none() {
            self.slots[id.0 as usize] = None;
            self.free.push(id);
        }
    }
}
