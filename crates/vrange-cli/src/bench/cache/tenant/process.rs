//! The tenant: it grows and shrinks, and says how long growing took.

use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bench::cache::process::Link;
use crate::demo::hog::Memory;
use crate::demo::wire::monotonic_ns;
use crate::failure::Failure;

/// What the process is asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Life {
    /// What it always holds.
    pub(super) low_bytes: u64,
    /// What it grows to.
    pub(super) high_bytes: u64,
    /// How often.
    pub(super) growths: u32,
    /// How long it stays small, and how long large.
    pub(super) stay: Duration,
}

/// What it says first, and hears then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Signal {
    /// It holds what it always holds.
    Ready,
    Go,
}

/// One growth, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bench::cache) struct Growth {
    pub(in crate::bench::cache) started_ns: u64,
    pub(in crate::bench::cache) ended_ns: u64,
    /// When it shrank again.
    pub(in crate::bench::cache) shrunk_ns: u64,
}

/// The process's side: answers each growth as it is over.
pub(in crate::bench::cache) fn work(link: &mut Link) -> Result<(), Failure> {
    let life: Life = link.request()?;
    let low = memory(life.low_bytes)?;
    low.write_every_page();
    link.answer(&Signal::Ready)?;
    let Signal::Go = link.request()? else { return Err(Failure::run("the parent spoke out of turn")) };
    for _ in 0..life.growths {
        thread::sleep(life.stay);
        let more = memory(life.high_bytes.saturating_sub(life.low_bytes))?;
        let started_ns = monotonic_ns();
        more.write_every_page();
        let ended_ns = monotonic_ns();
        thread::sleep(life.stay);
        drop(more);
        link.answer(&Growth { started_ns, ended_ns, shrunk_ns: monotonic_ns() })?;
    }
    drop(low);
    Ok(())
}

/// Fresh memory, of which each page is still to be brought in.
fn memory(bytes: u64) -> Result<Memory, Failure> {
    Memory::map(bytes)
        .ok_or_else(|| Failure::run("the tenant got no address space").hint("look at `ulimit -v`"))
}
