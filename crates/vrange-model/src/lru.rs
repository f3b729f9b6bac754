//! The lists by which the kernel remembers which pages were used long ago.

use crate::frame::FrameId;

/// The lists. New pages come to the head, reclaim looks at the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Anonymous pages that are looked at before anything is done to them.
    ActiveAnon,
    /// Anonymous pages that go next.
    InactiveAnon,
    /// Pages given up with `MADV_FREE`, in the order in which the kernel was told. In Linux this is the inactive file
    /// list; the model has no page cache to share it with.
    LazyFree,
    /// Locked pages, which nobody looks at.
    Unevictable,
}

const LISTS: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    list: Option<List>,
    toward_head: Option<FrameId>,
    toward_tail: Option<FrameId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    head: Option<FrameId>,
    tail: Option<FrameId>,
    length: u64,
}

/// All lists, threaded through one array, so that a frame moves in constant time.
#[derive(Clone, Debug)]
pub(crate) struct Lists {
    links: Vec<Link>,
    ends: [Ends; LISTS],
}

impl Lists {
    pub(crate) fn new() -> Self {
        Self { links: Vec::new(), ends: [Ends::default(); LISTS] }
    }

    pub(crate) fn length(&self, list: List) -> u64 {
        self.ends[list as usize].length
    }

    pub(crate) fn tail(&self, list: List) -> Option<FrameId> {
        self.ends[list as usize].tail
    }

    pub(crate) fn list_of(&self, frame: FrameId) -> Option<List> {
        self.links.get(frame.index()).and_then(|link| link.list)
    }

    /// Moves the frame to the head of `list`, from wherever it was.
    pub(crate) fn move_to_head(&mut self, frame: FrameId, list: List) {
        self.remove(frame);
        if self.links.len() <= frame.index() {
            self.links.resize(frame.index() + 1, Link::default());
        }
        let head = self.ends[list as usize].head.replace(frame);
        self.links[frame.index()] = Link { list: Some(list), toward_head: None, toward_tail: head };
        match head {
            Some(old) => self.links[old.index()].toward_head = Some(frame),
            None => self.ends[list as usize].tail = Some(frame),
        }
        self.ends[list as usize].length += 1;
    }

    /// Takes the frame off its list, if it is on one.
    pub(crate) fn remove(&mut self, frame: FrameId) {
        let Some(link) = self.links.get(frame.index()).copied() else { return };
        let Some(list) = link.list else { return };
        match link.toward_head {
            Some(other) => self.links[other.index()].toward_tail = link.toward_tail,
            None => self.ends[list as usize].head = link.toward_tail,
        }
        match link.toward_tail {
            Some(other) => self.links[other.index()].toward_head = link.toward_head,
            None => self.ends[list as usize].tail = link.toward_head,
        }
        self.ends[list as usize].length -= 1;
        self.links[frame.index()] = Link::default();
    }

    /// The frames of a list from head to tail.
    pub(crate) fn frames(&self, list: List) -> Vec<FrameId> {
        let follow = |frame: &FrameId| self.links[frame.index()].toward_tail;
        std::iter::successors(self.ends[list as usize].head, follow).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_whatever_leaves_it() {
        let mut lists = Lists::new();
        for id in 0..5 {
            lists.move_to_head(FrameId(id), List::ActiveAnon);
        }
        lists.remove(FrameId(4));
        lists.remove(FrameId(0));
        lists.move_to_head(FrameId(2), List::InactiveAnon);
        lists.move_to_head(FrameId(1), List::ActiveAnon);
        assert_eq!(lists.frames(List::ActiveAnon), [FrameId(1), FrameId(3)]);
        assert_eq!(lists.tail(List::ActiveAnon), Some(FrameId(3)));
        assert_eq!(lists.frames(List::InactiveAnon), [FrameId(2)]);
        assert_eq!((lists.length(List::ActiveAnon), lists.list_of(FrameId(0))), (2, None));
    }
}
