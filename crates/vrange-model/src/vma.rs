//! VMAs: the ranges of an address space, which split where their flags differ and merge where they do not.

use std::collections::BTreeMap;

use crate::anon_vma::{AnonVmaId, AnonVmas};
use crate::machine::{Errno, ProcessId};

/// One VMA. Its number may be given to another after it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VmaId(pub(crate) u32);

/// What backs a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Private anonymous memory, the only kind whose pages the model executes.
    #[default]
    Anonymous,
    /// A file, or memory shared through one. It is there for system calls to refuse or accept.
    FileOrShared,
}

/// The flags of a VMA that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `VM_VOLATILE`.
    pub volatile: bool,
    /// `VM_LOCKED`.
    pub locked: bool,
    /// Pages were discarded since the mark. Only [`Semantics::V4`](crate::Semantics::V4) looks at it.
    pub purged: bool,
}

/// A range of pages with the same flags.
#[derive(Clone, Debug)]
pub(crate) struct Vma {
    pub(crate) process: ProcessId,
    /// The first page.
    pub(crate) start: u64,
    /// The page after the last.
    pub(crate) end: u64,
    pub(crate) kind: Kind,
    pub(crate) flags: Flags,
    /// Where the pages that it brings in are entered.
    pub(crate) anon_vma: Option<AnonVmaId>,
    /// Every set that it is a member of.
    pub(crate) chain: Vec<AnonVmaId>,
}

impl Vma {
    pub(crate) fn covers(&self, page: u64) -> bool {
        (self.start..self.end).contains(&page)
    }
}

/// The VMAs of one process by their first page.
pub(crate) type AddressSpace = BTreeMap<u64, VmaId>;

/// What limits splitting and merging.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Whether `VM_SPECIAL` names `VM_VOLATILE`, so that volatile VMAs are never merged.
    pub(crate) volatile_is_special: bool,
    /// `vm.max_map_count`.
    pub(crate) max_map_count: usize,
}

/// All VMAs of all processes, and the reverse mapping that they are linked into.
#[derive(Clone, Debug)]
pub(crate) struct Vmas {
    all: Vec<Option<Vma>>,
    free: Vec<VmaId>,
    pub(crate) anon_vmas: AnonVmas,
    pub(crate) rules: Rules,
    pub(crate) splits: u64,
    pub(crate) merges: u64,
}

impl Vmas {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { all: Vec::new(), free: Vec::new(), anon_vmas: AnonVmas::new(), rules, splits: 0, merges: 0 }
    }

    pub(crate) fn get(&self, id: VmaId) -> &Vma {
        self.all[id.0 as usize].as_ref().expect("a VMA in use")
    }

    pub(crate) fn get_mut(&mut self, id: VmaId) -> &mut Vma {
        self.all[id.0 as usize].as_mut().expect("a VMA in use")
    }

    pub(crate) fn used(&self) -> impl Iterator<Item = (VmaId, &Vma)> {
        (0..).map(VmaId).zip(&self.all).filter_map(|(id, vma)| Some((id, vma.as_ref()?)))
    }

    /// The first VMA that ends behind `page` (`find_vma`): the one that covers it, or else the next.
    pub(crate) fn find(&self, space: &AddressSpace, page: u64) -> Option<VmaId> {
        let before = space.range(..=page).next_back().map(|(_, id)| *id);
        let covering = before.filter(|id| self.get(*id).end > page);
        covering.or_else(|| space.range(page..).next().map(|(_, id)| *id))
    }

    /// The VMA that covers `page`.
    pub(crate) fn covering(&self, space: &AddressSpace, page: u64) -> Option<VmaId> {
        self.find(space, page).filter(|id| self.get(*id).covers(page))
    }

    /// Adds a VMA and links it into the sets of its chain.
    pub(crate) fn insert(&mut self, space: &mut AddressSpace, vma: Vma) -> VmaId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            VmaId(u32::try_from(self.all.len() - 1).expect("VMAs are counted in 32 bits"))
        });
        for set in &vma.chain {
            self.anon_vmas.link(*set, id);
        }
        space.insert(vma.start, id);
        self.all[id.0 as usize] = Some(vma);
        id
    }

    pub(crate) fn remove(&mut self, space: &mut AddressSpace, id: VmaId) -> Vma {
        let vma = self.all[id.0 as usize].take().expect("a VMA in use");
        space.remove(&vma.start);
        for set in &vma.chain {
            self.anon_vmas.unlink(*set, id);
        }
        self.free.push(id);
        vma
    }

    /// Puts the VMA into a set, and lets it enter its new pages there.
    pub(crate) fn set_anon_vma(&mut self, id: VmaId, set: AnonVmaId) {
        let vma = self.get_mut(id);
        vma.anon_vma = Some(set);
        vma.chain.push(set);
        self.anon_vmas.link(set, id);
    }

    /// Splits a VMA before the page `at`. The VMA `id` keeps the upper part if the new one is to be `below`.
    pub(crate) fn split(
        &mut self,
        space: &mut AddressSpace,
        id: VmaId,
        at: u64,
        below: bool,
    ) -> Result<(), Errno> {
        if space.len() >= self.rules.max_map_count {
            return Err(Errno::ENOMEM);
        }
        self.splits += 1;
        let mut new = self.get(id).clone();
        assert!(new.start < at && at < new.end, "split outside the VMA");
        if below {
            new.end = at;
            let old = self.get_mut(id);
            old.start = at;
            space.insert(at, id);
        } else {
            new.start = at;
            self.get_mut(id).end = at;
        }
        self.insert(space, new);
        Ok(())
    }

    /// Splits so that the VMA `id` spans `start..end` and nothing else.
    pub(crate) fn isolate(
        &mut self,
        space: &mut AddressSpace,
        id: VmaId,
        start: u64,
        end: u64,
    ) -> Result<(), Errno> {
        if start > self.get(id).start {
            self.split(space, id, start, true)?;
        }
        if end < self.get(id).end {
            self.split(space, id, end, false)?;
        }
        Ok(())
    }

    /// Merges a VMA with the neighbours that it does not differ from (`vma_merge`), the lower one first. Returns the one
    /// that is left, which is another if the lower neighbour took it over.
    pub(crate) fn merge(&mut self, space: &mut AddressSpace, mut id: VmaId) -> VmaId {
        let Vma { start, end, .. } = *self.get(id);
        let lower = space.range(..start).next_back().map(|(_, lower)| *lower);
        if let Some(lower) = lower.filter(|lower| self.get(*lower).end == start && self.mergeable(id, *lower))
        {
            self.absorb(space, lower, id);
            id = lower;
        }
        if let Some(upper) = space.get(&end).copied().filter(|upper| self.mergeable(id, *upper)) {
            self.absorb(space, id, upper);
        }
        id
    }

    /// Whether the VMA may become one with a neighbour that it touches.
    fn mergeable(&self, id: VmaId, neighbour: VmaId) -> bool {
        let (vma, neighbour) = (self.get(id), self.get(neighbour));
        if vma.flags != neighbour.flags || vma.kind != neighbour.kind {
            return false;
        }
        if vma.flags.volatile && self.rules.volatile_is_special {
            return false;
        }
        // `is_mergeable_anon_vma`: where one has none yet, the neighbour must not have been cloned from a parent.
        let one_has_none = vma.anon_vma.is_none() || neighbour.anon_vma.is_none();
        vma.anon_vma == neighbour.anon_vma || (one_has_none && neighbour.chain.len() == 1)
    }

    fn absorb(&mut self, space: &mut AddressSpace, lower: VmaId, upper: VmaId) {
        self.merges += 1;
        let upper = self.remove(space, upper);
        let vma = self.get_mut(lower);
        assert_eq!(vma.end, upper.start, "merged VMAs that do not touch");
        vma.end = upper.end;
        vma.anon_vma = vma.anon_vma.or(upper.anon_vma);
        let missing: Vec<_> = upper.chain.into_iter().filter(|set| !vma.chain.contains(set)).collect();
        vma.chain.extend(&missing);
        for set in missing {
            self.anon_vmas.link(set, lower);
        }
    }
}
