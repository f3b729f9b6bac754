//! The machine: its memory, its processes, and what they ask of it.

use crate::counters::Counters;
use crate::frame::{Frame, FrameId, Frames};
use crate::lru::{List, Lists};
use crate::offer::{Offers, PageMark};
use crate::page_table::{PageTable, Pte};
use crate::rng::Rng;
use crate::sparse::Sparse;
use crate::swap::{SlotId, Swap};
use crate::vma::{AddressSpace, Flags, Kind, Rules, Vma, VmaId, Vmas};

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

/// A process of the machine. Numbers are not given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(pub(crate) u32);

/// Why a system call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::upper_case_acronyms, reason = "the names that C gives them")]
pub enum Errno {
    /// The request makes no sense, or not for this memory.
    EINVAL,
    /// A part of the range is not mapped, or there may be no more VMAs.
    ENOMEM,
    /// There may be no more VMAs, as `madvise` says it.
    EAGAIN,
}

/// Why a load or store did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// `SIGSEGV`: nothing is mapped there.
    Segv,
    /// No frame is free and reclaim found none: the process would be killed.
    OutOfMemory,
}

/// Which kernel and which program the machine plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Semantics {
    /// The kernel of RFC v3 (December 2012, on Linux 3.6), the patch as written: the mark is a flag of the VMA, and the
    /// first fault of a page that is not there removes it.
    RfcV3,
    /// The same kernel with `MADV_NOVOLATILE`, as the version after it had: that call removes the mark, faults do not.
    V4,
    /// A kernel of today, where marks are made of `MADV_FREE`. An implicit mark is `MADV_FREE` at once, and a write ends
    /// it on its page; a paired mark is a note in the program, which offers the pages when memory is short and rescues
    /// them before they are used again.
    Vrange,
}

/// What reclaim does with volatile pages where there is no swap slot for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapless {
    /// The patch as written: anonymous lists are not aged without swap, and a page that gets no slot stays.
    AsWritten,
    /// As the patch's text wants it: the lists are aged, and a page that all its VMAs call volatile goes without a slot.
    AsPromised,
}

/// The order in which a program's own reclaimer offers what it has marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferOrder {
    /// The oldest mark first.
    Oldest,
    /// Any mark.
    Random,
    /// The youngest mark first.
    Youngest,
}

/// How a machine is built.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Kernel and program.
    pub semantics: Semantics,
    /// Frames of memory.
    pub frames: u32,
    /// Slots of the swap device; with 0 there is none.
    pub swap_slots: u32,
    /// What happens without a slot.
    pub swapless: Swapless,
    /// How many VMAs a process may have.
    pub max_map_count: usize,
    /// Whether `VM_SPECIAL` names `VM_VOLATILE`. It does in the patch.
    pub volatile_is_special: bool,
    /// Whether every page fault in a volatile VMA removes the mark, as the patch's text has it. Its code does so only where
    /// the entry is empty, not for a page that is on swap or write-protected.
    pub every_fault_clears: bool,
    /// Whether migration passes `TTU_IGNORE_VOLATILE`. It does in the patch.
    pub migration_ignores_volatile: bool,
    /// Whether a discard first makes sure that everybody who has the page, in memory or on swap, has made it volatile. The
    /// patch does not: it asks the VMAs up to the last that maps the page, and then takes it from all.
    pub discard_asks_all_sharers: bool,
    /// The order of offers.
    pub offer_order: OfferOrder,
    /// For what is random.
    pub seed: u64,
}

impl Setup {
    /// A small machine with swap, the patch's rules as they were written, and the oldest offers first.
    #[must_use]
    pub fn new(semantics: Semantics) -> Self {
        Self {
            semantics,
            frames: 1024,
            swap_slots: 1024,
            swapless: Swapless::AsWritten,
            max_map_count: 65_530,
            volatile_is_special: true,
            every_fault_clears: false,
            migration_ignores_volatile: true,
            discard_asks_all_sharers: false,
            offer_order: OfferOrder::Oldest,
            seed: 0,
        }
    }
}

/// A process's address space and its page table; for [`Semantics::Vrange`] the program's notes too.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) space: AddressSpace,
    pub(crate) table: PageTable,
    pub(crate) marks: Sparse<PageMark>,
}

/// What is visible of a VMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmaInfo {
    /// The first page.
    pub start: u64,
    /// The page after the last.
    pub end: u64,
    /// Its flags.
    pub flags: Flags,
}

/// Where a page of a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// Nowhere: never touched, or taken away.
    Absent,
    /// The shared zero page.
    Zero,
    /// In a frame, on this list, and in the swap cache or not.
    Resident {
        /// The list that the frame is on.
        list: List,
        /// Whether it is in the swap cache.
        swap_cache: bool,
    },
    /// In a swap slot; `cached` if a frame still holds it as well.
    Swapped {
        /// Whether a frame holds it as well.
        cached: bool,
    },
}

/// A machine: a few or many pages, and no clock.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) setup: Setup,
    pub(crate) frames: Frames,
    pub(crate) lists: Lists,
    pub(crate) swap: Swap,
    pub(crate) vmas: Vmas,
    pub(crate) processes: Vec<Option<Process>>,
    pub(crate) offers: Offers,
    pub(crate) rng: Rng,
    pub(crate) count: Counters,
}

impl Machine {
    /// A machine without processes.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let rules =
            Rules { volatile_is_special: setup.volatile_is_special, max_map_count: setup.max_map_count };
        Self {
            frames: Frames::new(setup.frames),
            lists: Lists::new(),
            swap: Swap::new(setup.swap_slots),
            vmas: Vmas::new(rules),
            processes: Vec::new(),
            offers: Offers::default(),
            rng: Rng::new(setup.seed),
            count: Counters::default(),
            setup,
        }
    }

    /// A new process with nothing mapped.
    pub fn spawn(&mut self) -> ProcessId {
        let process = Process { space: AddressSpace::new(), table: PageTable::new(), marks: Sparse::new() };
        self.processes.push(Some(process));
        ProcessId(u32::try_from(self.processes.len() - 1).expect("processes are counted in 32 bits"))
    }

    /// Maps `pages` pages at page number `first`.
    ///
    /// # Errors
    /// `EINVAL` if there are none, or if something is mapped there already; `ENOMEM` if there are too many VMAs.
    pub fn map(&mut self, process: ProcessId, first: u64, pages: u64, kind: Kind) -> Result<(), Errno> {
        let end = first.checked_add(pages).filter(|end| *end > first).ok_or(Errno::EINVAL)?;
        self.count.mmap_sem_writes += 1;
        let space = &self.process(process).space;
        if self.vmas.find(space, first).is_some_and(|id| self.vmas.get(id).start < end) {
            return Err(Errno::EINVAL);
        }
        if space.len() >= self.setup.max_map_count {
            return Err(Errno::ENOMEM);
        }
        let flags = Flags::default();
        let vma = Vma { process, start: first, end, kind, flags, anon_vma: None, chain: Vec::new() };
        let (vmas, space) = self.vmas_and_space(process);
        let id = vmas.insert(space, vma);
        vmas.merge(space, id);
        Ok(())
    }

    /// Unmaps what is mapped of a range.
    ///
    /// # Errors
    /// `ENOMEM` if that takes a split and there are too many VMAs.
    pub fn unmap(&mut self, process: ProcessId, first: u64, pages: u64) -> Result<(), Errno> {
        self.count.mmap_sem_writes += 1;
        let (mut page, end) = (first, first + pages);
        while let Some(id) = self.vmas.find(&self.process(process).space, page) {
            let Vma { start: vma_start, end: vma_end, .. } = *self.vmas.get(id);
            if vma_start >= end {
                break;
            }
            let (vmas, space) = self.vmas_and_space(process);
            vmas.isolate(space, id, vma_start.max(first), vma_end.min(end))?;
            self.zap(process, vma_start.max(first), vma_end.min(end));
            self.forget_marks(process, vma_start.max(first), vma_end.min(end));
            let (vmas, space) = self.vmas_and_space(process);
            vmas.remove(space, id);
            page = vma_end;
        }
        Ok(())
    }

    /// Ends a process.
    pub fn exit(&mut self, process: ProcessId) {
        while let Some((_, &id)) = self.process(process).space.first_key_value() {
            let Vma { start, end, .. } = *self.vmas.get(id);
            self.zap(process, start, end);
            let (vmas, space) = self.vmas_and_space(process);
            vmas.remove(space, id);
        }
        self.processes[process.0 as usize] = None;
    }

    /// Counters since the machine was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { vma_splits: self.vmas.splits, vma_merges: self.vmas.merges, ..self.count }
    }

    /// How the machine was built.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Frames that hold nothing.
    #[must_use]
    pub fn free_frames(&self) -> u32 {
        self.frames.free_count()
    }

    /// Swap slots that hold something, or that a page in the swap cache keeps.
    #[must_use]
    pub fn used_swap_slots(&self) -> usize {
        self.swap.used_count()
    }

    /// How many frames are on a list.
    #[must_use]
    pub fn list_length(&self, list: List) -> u64 {
        self.lists.length(list)
    }

    /// The VMAs of a process from the lowest to the highest.
    #[must_use]
    pub fn vmas(&self, process: ProcessId) -> Vec<VmaInfo> {
        let info = |id: &VmaId| {
            let Vma { start, end, flags, .. } = *self.vmas.get(*id);
            VmaInfo { start, end, flags }
        };
        self.process(process).space.values().map(info).collect()
    }

    /// Where a page is.
    #[must_use]
    pub fn page_state(&self, process: ProcessId, page: u64) -> PageState {
        match self.process(process).table.get(page) {
            Pte::None => PageState::Absent,
            Pte::Zero => PageState::Zero,
            Pte::Swap(slot) => PageState::Swapped { cached: self.swap.get(slot).cache.is_some() },
            Pte::Present(mapped) | Pte::Migration(mapped) => PageState::Resident {
                list: self.lists.list_of(mapped.frame).expect("a mapped frame is on a list"),
                swap_cache: self.frames.get(mapped.frame).slot.is_some(),
            },
        }
    }

    pub(crate) fn process(&self, process: ProcessId) -> &Process {
        self.processes[process.0 as usize].as_ref().expect("a live process")
    }

    pub(crate) fn process_mut(&mut self, process: ProcessId) -> &mut Process {
        self.processes[process.0 as usize].as_mut().expect("a live process")
    }

    pub(crate) fn vmas_and_space(&mut self, process: ProcessId) -> (&mut Vmas, &mut AddressSpace) {
        let process = self.processes[process.0 as usize].as_mut().expect("a live process");
        (&mut self.vmas, &mut process.space)
    }

    pub(crate) fn pte(&mut self, process: ProcessId, page: u64) -> Pte {
        self.count.ptes_touched += 1;
        self.process(process).table.get(page)
    }

    pub(crate) fn set_pte(&mut self, process: ProcessId, page: u64, pte: Pte) {
        self.process_mut(process).table.set(page, pte);
    }

    /// Takes every page of a range out of the page table (`zap_page_range`).
    pub(crate) fn zap(&mut self, process: ProcessId, start: u64, end: u64) {
        for page in self.process(process).table.populated(start..end) {
            self.zap_page(process, page);
        }
    }

    pub(crate) fn zap_page(&mut self, process: ProcessId, page: u64) {
        let pte = self.pte(process, page);
        self.set_pte(process, page, Pte::None);
        match pte {
            Pte::None | Pte::Zero => {}
            Pte::Swap(slot) => self.free_swap_and_cache(slot),
            Pte::Present(mapped) => self.drop_mapping(mapped.frame),
            Pte::Migration(_) => unreachable!("a migration ends before anything else begins"),
        }
    }

    /// One mapping fewer; a frame that nobody needs any more is freed.
    pub(crate) fn drop_mapping(&mut self, frame: FrameId) {
        self.frames.get_mut(frame).map_count -= 1;
        self.free_if_unused(frame);
    }

    /// Frees a frame that is not mapped, unless it is in the swap cache on behalf of an entry somewhere.
    pub(crate) fn free_if_unused(&mut self, frame: FrameId) {
        let Frame { map_count, slot, .. } = *self.frames.get(frame);
        if map_count > 0 {
            return;
        }
        if let Some(slot) = slot {
            if self.swap.get(slot).map_count > 0 {
                return;
            }
            self.delete_from_swap_cache(frame);
        }
        self.lists.remove(frame);
        self.frames.release(frame);
    }

    /// Takes a page out of the swap cache. What memory holds is now all there is, so the page is dirty.
    pub(crate) fn delete_from_swap_cache(&mut self, frame: FrameId) {
        let page = self.frames.get_mut(frame);
        let slot = page.slot.take().expect("a page in the swap cache");
        page.dirty = true;
        self.count.swap_cache_del += 1;
        self.swap.release_cache(slot);
    }

    /// Drops an entry that named a slot, and the frame in its swap cache if that was the last (`free_swap_and_cache`).
    pub(crate) fn free_swap_and_cache(&mut self, slot: SlotId) {
        let cache = self.swap.get(slot).cache;
        self.swap.release_entry(slot);
        if let Some(frame) = cache {
            self.free_if_unused(frame);
        }
    }

    /// Gives up the slot of a page that is back in memory, unless an entry still names it (`try_to_free_swap`).
    pub(crate) fn try_to_free_swap(&mut self, frame: FrameId) -> bool {
        let in_use = |slot| self.swap.get(slot).map_count > 0;
        if self.frames.get(frame).slot.is_none_or(in_use) {
            return false;
        }
        self.delete_from_swap_cache(frame);
        true
    }
}
