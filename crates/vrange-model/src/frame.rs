//! Page frames: the machine's memory.

use crate::anon_vma::AnonVmaId;
use crate::swap::SlotId;

/// One frame of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FrameId(pub(crate) u32);

impl FrameId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the kernel knows of a frame that holds an anonymous page.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The page's bytes, told apart by one number; 0 is a page of zeros.
    pub(crate) content: u64,
    /// The page number at which every process that maps it does so.
    pub(crate) index: u64,
    /// Where the reverse mapping begins.
    pub(crate) anon_vma: AnonVmaId,
    /// How many page-table entries lead here.
    pub(crate) map_count: u32,
    /// The slot, while the page is in the swap cache.
    pub(crate) slot: Option<SlotId>,
    /// `PG_dirty`: differs from what swap holds, or swap holds nothing.
    pub(crate) dirty: bool,
    /// `PG_referenced`: was found touched by the last look at it.
    pub(crate) referenced: bool,
    /// `PG_swapbacked`: has to be written to swap before it can go. Taken away by `MADV_FREE`.
    pub(crate) swap_backed: bool,
}

/// All frames.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    frames: Vec<Option<Frame>>,
    free: Vec<FrameId>,
    limit: u32,
}

impl Frames {
    pub(crate) fn new(limit: u32) -> Self {
        Self { frames: Vec::new(), free: Vec::new(), limit }
    }

    /// A frame for `frame`, or `None` if all are taken.
    pub(crate) fn allocate(&mut self, frame: Frame) -> Option<FrameId> {
        if let Some(id) = self.free.pop() {
            self.frames[id.index()] = Some(frame);
            return Some(id);
        }
        let next = u32::try_from(self.frames.len()).expect("frames are counted in 32 bits");
        (next < self.limit).then(|| {
            self.frames.push(Some(frame));
            FrameId(next)
        })
    }

    pub(crate) fn release(&mut self, id: FrameId) {
        let frame = self.frames[id.index()].take().expect("released a free frame");
        assert_eq!(frame.map_count, 0, "released a mapped frame");
        assert_eq!(frame.slot, None, "released a frame that is in the swap cache");
        self.free.push(id);
    }

    pub(crate) fn get(&self, id: FrameId) -> &Frame {
        self.frames[id.index()].as_ref().expect("a frame in use")
    }

    pub(crate) fn get_mut(&mut self, id: FrameId) -> &mut Frame {
        self.frames[id.index()].as_mut().expect("a frame in use")
    }

    pub(crate) fn used(&self) -> impl Iterator<Item = (FrameId, &Frame)> {
        let ids = (0..).map(FrameId);
        ids.zip(&self.frames).filter_map(|(id, frame)| Some((id, frame.as_ref()?)))
    }

    pub(crate) fn used_count(&self) -> u32 {
        u32::try_from(self.frames.len() - self.free.len()).expect("frames are counted in 32 bits")
    }

    pub(crate) fn free_count(&self) -> u32 {
        self.limit - self.used_count()
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }
}
