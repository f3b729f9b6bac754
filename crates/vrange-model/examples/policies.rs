//! Hit ratios of a cache that is larger than memory, under different orders of reclaim, on a machine larger than this one.
//!
//! ```text
//! cargo run --release -p vrange-model --example policies -- 1048576
//! ```
//!
//! The number is how many frames the machine has: a quarter of a million, unless told. A process has items of 16 pages
//! each, twice as many as fit. It uses one after the other; an item that has lost a page is filled again. There is no swap.
//! The patch (with its lists aged, as its text promises) discards by age of use; ours offers by age of mark, and once at
//! random and once the youngest first, to see what the order is worth.

use vrange_model::{
    Advice, Kind, Machine, OfferOrder, PAGE_SIZE, ProcessId, Rng, Semantics, Setup, Swapless,
};

const ITEM_PAGES: u64 = 16;
/// Pages from one item to the next: one is left out, so that no two items share a VMA.
const ITEM_STRIDE: u64 = ITEM_PAGES + 1;

/// Which item comes next.
#[derive(Clone, Copy)]
enum Trace {
    /// A few items are used often and most hardly ever.
    Skewed,
    /// The same, and one use in four belongs to a scan over everything.
    SkewedWithScan,
}

impl Trace {
    fn next(self, rng: &mut Rng, step: u64, items: u64) -> u64 {
        match self {
            Self::SkewedWithScan if step.is_multiple_of(4) => step / 4 % items,
            Self::Skewed | Self::SkewedWithScan => {
                let bound = rng.below(items) + 1;
                let bound = rng.below(bound) + 1;
                // Spread over all addresses, so that nothing depends on where the popular items lie.
                rng.below(bound).wrapping_mul(0x9E37_79B1) % items
            }
        }
    }
}

/// A cache on a machine.
struct Cache {
    machine: Machine,
    process: ProcessId,
    filled: Vec<bool>,
}

impl Cache {
    fn new(setup: Setup, items: u64) -> Self {
        let mut machine = Machine::new(setup);
        let process = machine.spawn();
        for item in 0..items {
            machine
                .map(process, item * ITEM_STRIDE, ITEM_PAGES, Kind::Anonymous)
                .expect("items do not overlap");
        }
        let filled = vec![false; usize::try_from(items).expect("items are counted in memory")];
        Self { machine, process, filled }
    }

    /// Uses an item. True if it was all there.
    fn get(&mut self, item: u64) -> bool {
        let index = usize::try_from(item).expect("items are counted in memory");
        let filled = std::mem::replace(&mut self.filled[index], true);
        if self.machine.setup().semantics == Semantics::Vrange {
            self.get_paired(item, filled)
        } else {
            self.get_implicit(item)
        }
    }

    /// Unmark, use or fill, mark.
    fn get_paired(&mut self, item: u64, filled: bool) -> bool {
        let (first, length) = (item * ITEM_STRIDE, ITEM_PAGES * PAGE_SIZE);
        let unmarked = self.machine.unmark_paired(self.process, first * PAGE_SIZE, length);
        unmarked.result.expect("a rescue needs no memory");
        let hit = filled && !unmarked.lost.contains(&true);
        self.touch(first, hit);
        self.machine.mark_paired(self.process, first * PAGE_SIZE, length).expect("items are mapped");
        hit
    }

    /// Look; if something is missing, fill and mark again.
    fn get_implicit(&mut self, item: u64) -> bool {
        let (first, length) = (item * ITEM_STRIDE, ITEM_PAGES * PAGE_SIZE);
        let hit = self.touch(first, true);
        if !hit {
            self.touch(first, false);
            let marked = self.machine.madvise(self.process, first * PAGE_SIZE, length, Advice::Volatile);
            marked.expect("items are mapped");
        }
        hit
    }

    /// Reads an item's pages, or fills them. True if all have contents.
    fn touch(&mut self, first: u64, read: bool) -> bool {
        (first..first + ITEM_PAGES).fold(true, |all, page| {
            let value = if read {
                self.machine.read(self.process, page).expect("reads need no memory")
            } else {
                self.machine.write(self.process, page, 1).expect("volatile memory is headroom");
                1
            };
            all && value != 0
        })
    }
}

fn setups(frames: u32) -> Vec<(&'static str, Setup)> {
    let swapless = |semantics, offer_order| Setup {
        frames,
        swap_slots: 0,
        swapless: Swapless::AsPromised,
        offer_order,
        max_map_count: usize::MAX,
        ..Setup::new(semantics)
    };
    vec![
        ("the patch: by age of use", swapless(Semantics::RfcV3, OfferOrder::Oldest)),
        ("offers: oldest mark first", swapless(Semantics::Vrange, OfferOrder::Oldest)),
        ("offers: at random", swapless(Semantics::Vrange, OfferOrder::Random)),
        ("offers: youngest mark first", swapless(Semantics::Vrange, OfferOrder::Youngest)),
    ]
}

fn main() {
    let frames =
        std::env::args().nth(1).map_or(1 << 18, |frames| frames.parse().expect("a number of frames"));
    let items = u64::from(frames) / ITEM_PAGES * 2;
    println!("{frames} frames, {items} items of {ITEM_PAGES} pages\n");
    for (name, trace) in [("skewed", Trace::Skewed), ("skewed, with a scan", Trace::SkewedWithScan)] {
        println!("{name:<28} {:>10} {:>18}", "hits", "entries per use");
        for (name, setup) in setups(frames) {
            let mut cache = Cache::new(setup, items);
            let mut rng = Rng::new(1);
            let uses = items * 2;
            for step in 0..uses {
                cache.get(trace.next(&mut rng, step, items));
            }
            let before = cache.machine.counters();
            let hits = (0..uses).filter(|step| cache.get(trace.next(&mut rng, uses + step, items))).count();
            let touched = cache.machine.counters().since(&before).ptes_touched;
            let permille = u64::try_from(hits).expect("a count has at most 64 bits") * 1000 / uses;
            println!("{name:<28} {:>8}.{} % {:>16}", permille / 10, permille % 10, touched / uses);
        }
        println!();
    }
}
