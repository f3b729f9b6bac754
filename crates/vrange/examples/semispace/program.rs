//! The program that runs on the heap: it builds trees and drops them, beside a table that lives as long as the program and changes
//! all the time. After every collection each word of both is compared with what it has to be.

use std::error::Error;
use std::time::Duration;

use crate::clock::processor_time;
use crate::half::{Held, Layout, Policy};
use crate::heap::{Heap, Object};

/// Trees that are there at a time; the oldest makes room for the next.
const TREES: usize = 4;
/// How many entries a list of the table may have; then it begins anew.
const LIST_ENTRIES: usize = 16;
/// Words of data in an entry.
const ENTRY_DATA: usize = 5;

/// The roots at the bottom of the stack: the table, then the trees. Above them is what is being made.
const TABLE: usize = 0;
const FIRST_TREE: usize = 1;

/// References of an entry: the one that was made before it, and the table, so that there are cycles.
const OLDER: usize = 0;
const BACK: usize = 1;

/// A list of the table, as it has to be.
#[derive(Clone, Copy, Debug, Default)]
struct List {
    seed: usize,
    entries: usize,
}

impl List {
    /// The data of one of its entries, counted from the oldest.
    fn data(self, entry: usize) -> [usize; ENTRY_DATA] {
        std::array::from_fn(|word| mix(self.seed ^ (entry * ENTRY_DATA + word)))
    }
}

/// The program, its heap, and what the heap has to hold.
#[derive(Debug)]
pub(crate) struct Program {
    heap: Heap,
    lists: Vec<List>,
    /// The key of each tree, once it was built.
    trees: [Option<usize>; TREES],
    depth: u32,
    /// Steps so far.
    steps: usize,
    seed: usize,
    checked: Checked,
}

/// What the checks have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// After how many collections.
    pub(crate) collections: u32,
    /// Of all words that were looked at, in order.
    pub(crate) checksum: usize,
}

/// What a part of the program took, without the checks after collections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// Processor time, that of collections included.
    pub(crate) time: Duration,
    /// Processor time of collections.
    pub(crate) pause: Duration,
}

impl Program {
    /// A tree takes about 1/64 of a half, the table 1/8.
    pub(crate) fn new(layout: Layout, policy: Policy, seed: usize) -> Result<Self, Box<dyn Error>> {
        const NODE_BYTES: usize = 4 * size_of::<usize>();
        const LIST_BYTES: usize = LIST_ENTRIES / 2 * (3 + ENTRY_DATA) * size_of::<usize>();
        let (lists, nodes) = (layout.half_bytes / 8 / LIST_BYTES, layout.half_bytes / 64 / NODE_BYTES);
        if lists == 0 || nodes < 2 {
            return Err("too little memory for the program".into());
        }
        let mut program = Self {
            heap: Heap::new(layout, policy)?,
            lists: vec![List::default(); lists],
            trees: [None; TREES],
            depth: nodes.ilog2() - 1,
            steps: 0,
            seed,
            checked: Checked::default(),
        };
        program.make_table()?;
        (0..TREES).for_each(|_| program.heap.push_none());
        Ok(program)
    }

    /// Runs until there were `collections` more collections.
    pub(crate) fn run(&mut self, collections: u32) -> Result<Took, Box<dyn Error>> {
        let (begin, pause, until) =
            (processor_time(), self.heap.pause(), self.heap.collections() + collections);
        let mut checks = Duration::ZERO;
        while self.heap.collections() < until {
            checks += self.step()?;
        }
        Ok(Took { time: processor_time() - begin - checks, pause: self.heap.pause() - pause })
    }

    /// Collects now, as a program may that is about to wait for something.
    pub(crate) fn collect(&mut self) -> Result<(), Box<dyn Error>> {
        self.heap.collect()?;
        self.check()
    }

    /// What takes up memory, or swap.
    pub(crate) fn held(&self) -> Result<Held, vrange_os::OsError> {
        self.heap.held()
    }

    /// See [`Heap::squeeze`].
    pub(crate) fn squeeze(&self) -> Result<(), Box<dyn Error>> {
        self.heap.squeeze()
    }

    pub(crate) fn checked(&self) -> Checked {
        self.checked
    }

    /// Looks at the oldest tree and builds another in its place, and adds to a 64th of the table's lists. Returns what checks after
    /// collections took.
    fn step(&mut self) -> Result<Duration, Box<dyn Error>> {
        let mut checks = Duration::ZERO;
        let tree = self.steps % TREES;
        self.steps += 1;
        if let Some(key) = self.trees[tree] {
            // A use of the tree, and so a part of the program that is measured.
            self.checked.checksum ^= self.read_tree(tree, key)?;
        }
        let key = mix(self.seed ^ self.steps);
        self.build_tree(key, 1, self.depth, &mut checks)?;
        self.heap.pop_to_root(FIRST_TREE + tree);
        self.trees[tree] = Some(key);
        for number in 0..self.lists.len().div_ceil(64) {
            let random = mix(key ^ number);
            self.add_to_list(random % self.lists.len(), random, &mut checks)?;
        }
        Ok(checks)
    }

    /// Makes an object as [`Heap::make`], and checks everything if there was a collection.
    fn make(
        &mut self,
        references: usize,
        data: &[usize],
        checks: &mut Duration,
    ) -> Result<(), Box<dyn Error>> {
        let collections = self.heap.collections();
        self.heap.make(references, data)?;
        if self.heap.collections() != collections {
            let begin = processor_time();
            self.check()?;
            *checks += processor_time() - begin;
        }
        Ok(())
    }

    fn make_table(&mut self) -> Result<(), Box<dyn Error>> {
        (0..self.lists.len()).for_each(|_| self.heap.push_none());
        self.heap.make(self.lists.len(), &[])?;
        Ok(())
    }

    /// Adds an entry, or begins the list anew if it is full.
    fn add_to_list(
        &mut self,
        list: usize,
        random: usize,
        checks: &mut Duration,
    ) -> Result<(), Box<dyn Error>> {
        if self.lists[list].entries == LIST_ENTRIES {
            self.heap.push_none();
            self.heap.pop_to_reference(TABLE, list);
            self.lists[list] = List { seed: random, entries: 0 };
        }
        let data = self.lists[list].data(self.lists[list].entries);
        self.heap.push_reference(TABLE, list);
        self.heap.push_root(TABLE);
        self.make(2, &data, checks)?;
        self.heap.pop_to_reference(TABLE, list);
        self.lists[list].entries += 1;
        Ok(())
    }

    /// Pushes a new tree, from the leaves up. Nodes are numbered as in a binary heap, and hold a word made of number and key.
    fn build_tree(
        &mut self,
        key: usize,
        number: usize,
        depth: u32,
        checks: &mut Duration,
    ) -> Result<(), Box<dyn Error>> {
        for child in [2 * number, 2 * number + 1] {
            match depth {
                0 => self.heap.push_none(),
                _ => self.build_tree(key, child, depth - 1, checks)?,
            }
        }
        self.make(2, &[key ^ number], checks)
    }

    /// Compares everything with what it has to be.
    fn check(&mut self) -> Result<(), Box<dyn Error>> {
        let mut checksum = self.checked.checksum;
        for (tree, key) in self.trees.iter().enumerate() {
            if let Some(key) = key {
                checksum = mix(checksum ^ self.read_tree(tree, *key)?);
            }
        }
        let table = self.heap.root(TABLE).ok_or("the table is gone")?;
        for (number, list) in self.lists.iter().enumerate() {
            let read = read_list(table, number, *list);
            checksum = mix(checksum ^ read.ok_or_else(|| self.wrong("list", number))?);
        }
        self.checked = Checked { collections: self.checked.collections + 1, checksum };
        Ok(())
    }

    /// The checksum of a tree.
    fn read_tree(&self, tree: usize, key: usize) -> Result<usize, String> {
        read_node(self.heap.root(FIRST_TREE + tree), key, 1, self.depth)
            .ok_or_else(|| self.wrong("tree", tree))
    }

    fn wrong(&self, what: &str, number: usize) -> String {
        format!("{what} {number} is wrong after {} collections", self.heap.collections())
    }
}

/// The checksum of a node and what is under it; none if any of it is not as it has to be.
fn read_node(node: Option<Object<'_>>, key: usize, number: usize, depth: u32) -> Option<usize> {
    let node = node?;
    let [data] = *node.data() else { return None };
    if data != key ^ number {
        return None;
    }
    let children = [node.reference(0), node.reference(1)];
    if depth == 0 {
        return (children == [None, None]).then_some(data);
    }
    let left = read_node(children[0], key, 2 * number, depth - 1)?;
    let right = read_node(children[1], key, 2 * number + 1, depth - 1)?;
    Some(data.wrapping_add(left).wrapping_add(right))
}

/// The checksum of a list; none if any of it is not as it has to be.
fn read_list(table: Object<'_>, number: usize, list: List) -> Option<usize> {
    let mut checksum = 0_usize;
    let mut next = table.reference(number);
    for entry in (0..list.entries).rev() {
        let object = next?;
        if object.data() != list.data(entry) || object.reference(BACK) != Some(table) {
            return None;
        }
        checksum = object.data().iter().fold(checksum, |sum, word| sum.wrapping_add(*word));
        next = object.reference(OLDER);
    }
    next.is_none().then_some(checksum)
}

/// Another number for each number, as if at random (the finalizer of splitmix64).
fn mix(number: usize) -> usize {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
