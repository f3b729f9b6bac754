//! Which values go when room is needed: what the policy knows, without what it does.
//!
//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), over segments instead of single items. It was
//! chosen because it needs no order of use: a hit writes two bits at most, an item is moved when its segment is emptied anyway, and
//! what is evicted is one whole segment, which is what a log-structured store can use again. What was put in lately and was not used
//! goes first, so a scan does not empty the cache.

use std::collections::VecDeque;
use std::sync::Weak;

use crate::index::key::Mark;
use crate::log::Queue;
use crate::log::large::Large;

/// The share of the cache that newcomers have, in per cent.
const SMALL_PER_CENT: u64 = 7;

/// Members that are looked at for the segment with the least in it. (All of them each time would be a time that grows with the square
/// of the cache's size. A cache of 10 GiB has 5,000 segments: 40 times, and the hand has been at each.)
const LOOKS_MAX: usize = 128;

/// What is in a queue.
#[derive(Debug)]
pub(crate) enum Member {
    /// A sealed segment.
    Segment(usize),
    /// A large value.
    Own(Mark, Weak<Large>, u64),
}

/// See the [module](self). Under one lock.
#[derive(Debug)]
pub(crate) struct Policy {
    small: Members,
    main: Members,
    /// Segments without items that have memory.
    pub(crate) warm: Vec<usize>,
    /// Segments without items and without memory.
    pub(crate) cold: Vec<usize>,
    /// A segment put to use already, for what is moved while another is emptied.
    pub(crate) spare: Option<usize>,
    /// Where in both queues, one behind the other, the last search for the least segment has ended.
    hand: usize,
}

#[derive(Debug, Default)]
struct Members {
    list: VecDeque<Member>,
    bytes: u64,
    /// Large values that came since those that have ended were last taken out.
    came: usize,
}

impl Members {
    /// Takes out large values that have ended, now and then: so often that there are never more of them than of the others, and so rarely
    /// that it does not matter for how long a list it is done.
    fn sweep(&mut self) {
        self.came += 1;
        if self.came * 2 <= self.list.len() {
            return;
        }
        self.came = 0;
        let bytes = &mut self.bytes;
        self.list.retain(|member| match member {
            Member::Own(_, large, large_bytes) if large.upgrade().is_none_or(|large| large.has_ended()) => {
                *bytes -= large_bytes;
                false
            }
            _ => true,
        });
    }
}

impl Policy {
    pub(crate) fn new() -> Self {
        Self {
            small: Members::default(),
            main: Members::default(),
            warm: Vec::new(),
            cold: Vec::new(),
            spare: None,
            hand: 0,
        }
    }

    fn members(&mut self, queue: Queue) -> &mut Members {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }

    pub(crate) fn push(&mut self, queue: Queue, member: Member, segment_bytes: usize) {
        let members = self.members(queue);
        if matches!(member, Member::Own(..)) {
            members.sweep();
        }
        members.bytes += bytes_of(&member, segment_bytes);
        members.list.push_back(member);
    }

    pub(crate) fn pop(&mut self, queue: Queue, segment_bytes: usize) -> Option<Member> {
        let members = self.members(queue);
        let member = members.list.pop_front()?;
        members.bytes -= bytes_of(&member, segment_bytes);
        Some(member)
    }

    /// The queue whose turn it is to give something up.
    pub(crate) fn next_queue(&self) -> Queue {
        if self.main.list.is_empty() || self.small.bytes * 100 > self.bytes() * SMALL_PER_CENT {
            Queue::Small
        } else {
            Queue::Main
        }
    }

    /// Memory of all members, of which the kernel may have taken some.
    pub(crate) fn bytes(&self) -> u64 {
        self.small.bytes + self.main.bytes
    }

    /// How many members both queues have.
    pub(crate) fn len(&self) -> usize {
        self.small.list.len() + self.main.list.len()
    }

    /// Takes the segment for which `worth` is least, if that is less than `worth_max`: of all, or, where there are more than
    /// [`LOOKS_MAX`], of so many that follow those of the last time.
    pub(crate) fn take_least(
        &mut self,
        segment_bytes: usize,
        worth_max: u32,
        worth: impl Fn(usize) -> u32,
    ) -> Option<(Queue, usize)> {
        let (small, members) = (self.small.list.len(), self.len());
        let mut least = None;
        let mut worth_least = worth_max;
        for _ in 0..members.min(LOOKS_MAX) {
            let at = self.hand % members;
            self.hand = at + 1;
            let (queue, position) = if at < small { (Queue::Small, at) } else { (Queue::Main, at - small) };
            let Member::Segment(segment) = self.members(queue).list[position] else { continue };
            let worth = worth(segment);
            if worth < worth_least {
                worth_least = worth;
                least = Some((queue, position));
            }
        }
        let (queue, position) = least?;
        let members = self.members(queue);
        match members.list.remove(position) {
            Some(Member::Segment(segment)) => {
                members.bytes -= segment_bytes as u64;
                Some((queue, segment))
            }
            _ => None,
        }
    }
}

fn bytes_of(member: &Member, segment_bytes: usize) -> u64 {
    match member {
        Member::Segment(_) => segment_bytes as u64,
        Member::Own(_, _, bytes) => *bytes,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SEGMENT_BYTES: usize = 2 << 20;
    /// A cache of 10 GiB.
    const SEGMENTS: usize = 5_000;

    fn full(segments: usize) -> Policy {
        let mut policy = Policy::new();
        for segment in 0..segments {
            let queue = if segment % 25 == 0 { Queue::Small } else { Queue::Main };
            policy.push(queue, Member::Segment(segment), SEGMENT_BYTES);
        }
        policy
    }

    #[test]
    fn the_least_segment_is_taken() {
        let mut policy = full(LOOKS_MAX);
        let worth = |segment: usize| if segment == 77 { 5 } else { 10 };
        assert_eq!(policy.take_least(SEGMENT_BYTES, 10, worth), Some((Queue::Main, 77)));
        assert_eq!(policy.take_least(SEGMENT_BYTES, 10, worth), None);
        assert_eq!(policy.bytes(), ((LOOKS_MAX - 1) * SEGMENT_BYTES) as u64);
        let (queue, segment) = policy.take_least(SEGMENT_BYTES, 11, worth).expect("all are as good");
        assert_eq!(queue == Queue::Small, segment % 25 == 0);
    }

    /// To fill a cache, of which nothing is overwritten, takes looks in proportion to its size, and to find one segment in it that is of no use
    /// any more, too.
    #[test]
    fn looks_for_the_least_segment_do_not_grow_with_the_square() {
        let looks = Cell::new(0_usize);
        let mut policy = Policy::new();
        for segment in 0..SEGMENTS {
            let worth = |_| {
                looks.set(looks.get() + 1);
                10
            };
            assert_eq!(policy.take_least(SEGMENT_BYTES, 1, worth), None);
            policy.push(Queue::Main, Member::Segment(segment), SEGMENT_BYTES);
        }
        assert!(looks.get() <= SEGMENTS * LOOKS_MAX, "{} looks", looks.get());
        let worth = |segment: usize| u32::from(segment != 3_333);
        let tries = (1..).find(|_| policy.take_least(SEGMENT_BYTES, 1, worth).is_some());
        assert!(tries.is_some_and(|tries| tries <= SEGMENTS / LOOKS_MAX + 1), "{tries:?} tries");
    }
}
