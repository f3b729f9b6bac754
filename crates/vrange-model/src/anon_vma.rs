//! The reverse mapping: from a page to the VMAs that may map it.

use crate::vma::VmaId;

/// A set of VMAs that may share pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AnonVmaId(pub(crate) u32);

#[derive(Clone, Debug)]
struct AnonVma {
    /// The set of the first process of the family, which every other of it is part of.
    root: AnonVmaId,
    /// The VMAs in the order in which they were linked: a parent's before its child's, the lower half of a split before
    /// or after the upper, as it happened.
    members: Vec<VmaId>,
}

/// All sets.
#[derive(Clone, Debug)]
pub(crate) struct AnonVmas {
    all: Vec<AnonVma>,
}

impl AnonVmas {
    pub(crate) fn new() -> Self {
        Self { all: Vec::new() }
    }

    /// A new set: of its own family, or of the family of `parent`.
    pub(crate) fn create(&mut self, parent: Option<AnonVmaId>) -> AnonVmaId {
        let id = AnonVmaId(u32::try_from(self.all.len()).expect("sets are counted in 32 bits"));
        let root = parent.map_or(id, |parent| self.root(parent));
        self.all.push(AnonVma { root, members: Vec::new() });
        id
    }

    pub(crate) fn root(&self, id: AnonVmaId) -> AnonVmaId {
        self.all[id.0 as usize].root
    }

    pub(crate) fn members(&self, id: AnonVmaId) -> &[VmaId] {
        &self.all[id.0 as usize].members
    }

    pub(crate) fn link(&mut self, id: AnonVmaId, vma: VmaId) {
        self.all[id.0 as usize].members.push(vma);
    }

    pub(crate) fn unlink(&mut self, id: AnonVmaId, vma: VmaId) {
        self.all[id.0 as usize].members.retain(|member| *member != vma);
    }
}
