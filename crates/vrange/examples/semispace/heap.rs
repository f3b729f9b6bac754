//! Objects, roots, allocation, and Cheney's collector (C. J. Cheney, "A nonrecursive list compacting algorithm", 1970).
//!
//! An object is a header, references to other objects, and data, all of them words:
//!
//! ```text
//!     header             reference 0 … reference R−1     data 0 … data D−1
//!     R in the upper half, 1 + R + D in the lower; or, once the object was copied, where to
//! ```
//!
//! A reference is the number of a word in the half in use, 0 for none. A program never holds one: it works on a stack of roots, as
//! on the stack of a virtual machine, and looks at objects only while nothing can move them ([`Object`] borrows the heap).

use std::error::Error;
use std::ops::Range;
use std::time::Duration;

use crate::clock::processor_time;
use crate::half::{Half, Held, Layout, Policy};

/// No object is here, so that 0 can stand for none.
const FIRST: usize = 1;
const NONE: usize = 0;

/// The first word of an object.
#[derive(Clone, Copy, Debug)]
struct Header(usize);

impl Header {
    /// In the header of an object that was copied; the other bits tell where to.
    const COPIED: usize = 1 << (usize::BITS - 1);
    const SIZE_BITS: u32 = 32;

    fn new(references: usize, data: usize) -> Self {
        Self(references << Self::SIZE_BITS | (1 + references + data))
    }

    fn copied(to: usize) -> Self {
        Self(Self::COPIED | to)
    }

    /// Where the object was copied to, if it was.
    fn copy(self) -> Option<usize> {
        (self.0 & Self::COPIED != 0).then_some(self.0 & !Self::COPIED)
    }

    /// All words of the object.
    fn words(self) -> usize {
        self.0 & ((1 << Self::SIZE_BITS) - 1)
    }

    fn references(self) -> usize {
        self.0 >> Self::SIZE_BITS
    }
}

/// Two halves, of which one is in use.
#[derive(Debug)]
pub(crate) struct Heap {
    used: Half,
    idle: Half,
    /// The first word of the half in use that no object has.
    free: usize,
    roots: Vec<usize>,
    collections: u32,
    pause: Duration,
}

impl Heap {
    pub(crate) fn new(layout: Layout, policy: Policy) -> Result<Self, Box<dyn Error>> {
        let (used, idle) = (Half::new(layout, policy)?, Half::new(layout, policy)?);
        Ok(Self { used, idle, free: FIRST, roots: Vec::new(), collections: 0, pause: Duration::ZERO })
    }

    /// Takes the uppermost `references` roots from the stack and pushes a new object that refers to them, the lowest first.
    pub(crate) fn make(&mut self, references: usize, data: &[usize]) -> Result<(), Box<dyn Error>> {
        let header = Header::new(references, data.len());
        if !self.used.open(self.free + header.words())? {
            self.collect()?;
            if !self.used.open(self.free + header.words())? {
                return Err("the heap is full".into());
            }
        }
        let (at, end) = (self.free, self.free + header.words());
        self.free = end;
        // Every word is written: the memory holds whatever was there before, or zeros if that was lost.
        let object = &mut self.used.words_mut()[at..end];
        let first_root = self.roots.len() - references;
        object[0] = header.0;
        object[1..=references].copy_from_slice(&self.roots[first_root..]);
        object[1 + references..].copy_from_slice(data);
        self.roots.truncate(first_root);
        self.roots.push(at);
        Ok(())
    }

    /// Pushes a root that refers to nothing.
    pub(crate) fn push_none(&mut self) {
        self.roots.push(NONE);
    }

    /// Pushes what root number `root`, counted from the bottom, refers to.
    pub(crate) fn push_root(&mut self, root: usize) {
        self.roots.push(self.roots[root]);
    }

    /// Pushes a reference of the object that root number `root` refers to.
    pub(crate) fn push_reference(&mut self, root: usize, reference: usize) {
        let place = self.place_of(root, reference);
        self.roots.push(self.used.words()[place]);
    }

    /// Takes the uppermost root from the stack and has root number `root` refer to what it referred to.
    pub(crate) fn pop_to_root(&mut self, root: usize) {
        let top = self.pop();
        self.roots[root] = top;
    }

    /// Takes the uppermost root from the stack and has the object that root number `root` refers to refer to it.
    pub(crate) fn pop_to_reference(&mut self, root: usize, reference: usize) {
        let top = self.pop();
        let place = self.place_of(root, reference);
        self.used.words_mut()[place] = top;
    }

    /// What root number `root` refers to.
    pub(crate) fn root(&self, root: usize) -> Option<Object<'_>> {
        Object::at(self.used.words(), self.roots[root])
    }

    fn pop(&mut self) -> usize {
        self.roots.pop().expect("a root was pushed")
    }

    /// The word that holds a reference of the object that root number `root` refers to.
    fn place_of(&self, root: usize, reference: usize) -> usize {
        let at = self.roots[root];
        assert!(
            at != NONE && reference < Header(self.used.words()[at]).references(),
            "there is such a reference"
        );
        at + 1 + reference
    }

    /// Copies what the roots reach to the other half, breadth first, and closes the half in which it was.
    pub(crate) fn collect(&mut self) -> Result<(), Box<dyn Error>> {
        let begin = processor_time();
        let mut copy = Copy { from: &mut self.used, to: &mut self.idle, free: FIRST };
        for root in &mut self.roots {
            *root = copy.moved(*root)?;
        }
        // What is copied but not scanned yet is Cheney's queue.
        let mut scan = FIRST;
        while scan < copy.free {
            let header = Header(copy.to.words()[scan]);
            for place in scan + 1..=scan + header.references() {
                let moved = copy.moved(copy.to.words()[place])?;
                copy.to.words_mut()[place] = moved;
            }
            scan += header.words();
        }
        self.free = copy.free;
        self.used.close()?;
        std::mem::swap(&mut self.used, &mut self.idle);
        self.collections += 1;
        self.pause += processor_time() - begin;
        Ok(())
    }

    pub(crate) fn collections(&self) -> u32 {
        self.collections
    }

    /// Processor time that collections took, all together.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// What takes up memory, or swap.
    pub(crate) fn held(&self) -> Result<Held, vrange_os::OsError> {
        Ok(self.used.held()? + self.idle.held()?)
    }

    /// As if memory were short: what is volatile is offered, which is what the reclaimer does then, and the kernel takes what it may
    /// take of the whole heap.
    pub(crate) fn squeeze(&self) -> Result<(), Box<dyn Error>> {
        vrange::raw::offer(u64::MAX)?;
        self.used.page_out()?;
        self.idle.page_out()?;
        Ok(())
    }
}

/// A collection in progress.
struct Copy<'a> {
    from: &'a mut Half,
    to: &'a mut Half,
    /// The first word of `to` that no object has.
    free: usize,
}

impl Copy<'_> {
    /// Where the object at `at` is now. Copies it, unless that was done.
    fn moved(&mut self, at: usize) -> Result<usize, vrange::Error> {
        if at == NONE {
            return Ok(NONE);
        }
        let header = Header(self.from.words()[at]);
        if let Some(to) = header.copy() {
            return Ok(to);
        }
        let to = self.free..self.free + header.words();
        let has_room = self.to.open(to.end)?;
        assert!(has_room, "the halves are of one size");
        self.to.words_mut()[to.clone()].copy_from_slice(&self.from.words()[at..at + header.words()]);
        self.from.words_mut()[at] = Header::copied(to.start).0;
        self.free = to.end;
        Ok(to.start)
    }
}

/// An object, as long as nothing is allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    words: &'a [usize],
    at: usize,
}

impl<'a> Object<'a> {
    fn at(words: &'a [usize], at: usize) -> Option<Self> {
        (at != NONE).then_some(Self { words, at })
    }

    fn header(self) -> Header {
        Header(self.words[self.at])
    }

    /// What it refers to.
    pub(crate) fn reference(self, reference: usize) -> Option<Self> {
        assert!(reference < self.header().references(), "there is such a reference");
        Self::at(self.words, self.words[self.at + 1 + reference])
    }

    pub(crate) fn data(self) -> &'a [usize] {
        let Range { start, end } = self.at + 1 + self.header().references()..self.at + self.header().words();
        &self.words[start..end]
    }
}

/// Whether they are one object.
impl PartialEq for Object<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.words, other.words) && self.at == other.at
    }
}
