//! The patch's mechanism, piece by piece. Each test quotes the sentence that it shows, from RFC v3, "Support volatile range
//! for anon vma" (Minchan Kim, December 2012), and most have a control with the mechanism taken out.

mod cost;
mod fault;
mod fork;
mod manners;
mod migration;
mod reclaim;
mod swap;
mod vma;

use vrange_model::{Advice, Errno, Kind, Machine, PAGE_SIZE, ProcessId, Semantics, Setup, Swapless};

/// Where the tests map their memory: a page number.
const AT: u64 = 0x1000;

/// More than any of these machines has.
const EVERYTHING: u64 = 1 << 20;

/// The kernel of the patch, with one process that has mapped some pages at [`AT`] and written their number plus one to each.
fn rfc_with(setup: Setup, pages: u64) -> (Machine, ProcessId) {
    let mut machine = Machine::new(setup);
    let process = machine.spawn();
    machine.map(process, AT, pages, Kind::Anonymous).unwrap();
    fill(&mut machine, process, AT, pages);
    (machine, process)
}

fn rfc(pages: u64) -> (Machine, ProcessId) {
    rfc_with(Setup::new(Semantics::RfcV3), pages)
}

/// The kernel of the patch as its text promises it on a machine without swap.
fn without_swap(swapless: Swapless) -> Setup {
    Setup { swap_slots: 0, swapless, ..Setup::new(Semantics::RfcV3) }
}

fn fill(machine: &mut Machine, process: ProcessId, first: u64, pages: u64) {
    for page in 0..pages {
        machine.write(process, first + page, page + 1).unwrap();
    }
}

fn mark(machine: &mut Machine, process: ProcessId, first: u64, pages: u64) -> Result<(), Errno> {
    machine.madvise(process, first * PAGE_SIZE, pages * PAGE_SIZE, Advice::Volatile).map(|_| ())
}

/// What some pages read as.
fn contents(machine: &mut Machine, process: ProcessId, first: u64, pages: u64) -> Vec<u64> {
    (first..first + pages).map(|page| machine.read(process, page).unwrap()).collect()
}

/// The VMAs of a process as ranges counted from [`AT`], and whether each is volatile.
fn layout(machine: &Machine, process: ProcessId) -> Vec<(u64, u64, bool)> {
    let vmas = machine.vmas(process).into_iter();
    vmas.map(|vma| (vma.start - AT, vma.end - AT, vma.flags.volatile)).collect()
}
