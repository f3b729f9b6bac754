//! A copying collector whose idle half is volatile, beside the same collector that gives it back, and one that keeps it.
//!
//! ```text
//! cargo run --release -p vrange --example semispace                 # halves of 64 MiB, 5 rounds of 10 collections
//! cargo run --release -p vrange --example semispace -- 256 3 20
//! ```
//!
//! Such a collector (C. J. Cheney's, of 1970) has twice the memory that it uses: objects are made in one half, and when that is full
//! the live ones are copied to the other. In between the other half holds nothing that anybody wants. A runtime may keep it, which
//! costs memory that others could use; or give it back with `madvise(MADV_DONTNEED)`, which costs a page fault and a page of zeros for
//! each page at the next collection, needed or not. Volatile it is there for whoever needs it, and costs nothing as long as
//! nobody does. The same is true of the part of the half in use that allocation has not reached yet.
//!
//! [`vrange::raw`] fits better than [`vrange::Heap`]: objects must lie in one piece of memory, of which a part is in use and the rest
//! is volatile; a buffer is volatile or not as a whole, and its guard would have to live from one collection to the next beside the
//! buffer that it borrows. The mapping is the collector's own, so [`vrange::raw::adopt`] is no promise that is hard to keep, and makes a
//! mark a matter of nanoseconds. What the unmark tells does not interest here: memory that is opened is written before it is read, so
//! it makes no difference whether it holds dead objects or zeros. A collector that hands out zeroed memory would have to clear what
//! survived.
//!
//! Each round runs the same program under the three policies, compares every object with what it has to be after every collection
//! (which is not measured), and then has memory short for a moment. It prints the median of the processor time, for the program and
//! for one collection, beside that of `nothing`; and what the heap takes up after a collection, before and after the shortage. All of
//! it is done in small pages and again in huge ones, where getting memory back from the kernel is many times cheaper.

mod clock;
mod half;
mod heap;
mod program;
mod trial;

use std::error::Error;

use half::Layout;
use trial::Plan;

/// `semispace [MIB [ROUNDS [COLLECTIONS]]]`
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<usize> =
        std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let argument = |number: usize, default| arguments.get(number).copied().unwrap_or(default);
    let half_bytes = argument(0, 64).checked_mul(1 << 20).ok_or("more than there can be")?;
    let (rounds, collections) = (argument(1, 5), u32::try_from(argument(2, 10))?);
    for huge_pages in [false, true] {
        let layout = Layout { half_bytes, huge_pages };
        println!("{}\n", trial::run(Plan { layout, rounds, collections })?);
    }
    Ok(())
}
