//! How fast our cache hands memory back: from the moment at which the reclaimer wakes up and finds a need, to 256 MiB that the kernel
//! may take.
//!
//! In a memory cgroup there is a cache on a heap whose reclaimer the process drives itself, so that its waking has a time. A hog takes
//! what is left of the group; then the reclaimer is woken, and wants a reserve that is larger than what is to be handed back. Afterwards a
//! second hog takes that much, and lives if it was really handed back. In one more run the reclaimer is not woken, and the second hog
//! must be killed.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vrange::Heap;

use super::peer::{Peer as _, Values};
use super::peers::Vrange;
use super::process::{self, Link};
use super::row::median;
use crate::bench::memory;
use crate::bench::progress::Progress;
use crate::bench::table::significant;
use crate::demo::child::{Child, NoAnswer};
use crate::demo::group::{Home, MemoryGroup};
use crate::demo::wire::{FromHog, ToHog};
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// What the reclaimer may do in one run before it counts as unable.
const STEPS_MAX: u32 = 1000;

/// How it is measured.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Of the group.
    pub(super) limit_bytes: u64,
    /// All values together.
    pub(super) cached_bytes: u64,
    /// What is to be handed back.
    pub(super) handed_bytes: u64,
    /// What is left of the group when the first hog has taken its part: room for the processes themselves.
    pub(super) left_bytes: u64,
    pub(super) values_bytes: Vec<u64>,
    pub(super) rounds: u32,
}

/// What the process with the cache is to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Fill {
    value_bytes: u64,
    cached_bytes: u64,
    handed_bytes: u64,
}

/// What it says, and hears, in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Signal {
    Filled,
    WakeUp,
    HandedBack { took: Duration, bytes: u64, huge_bytes: u64 },
}

/// Values of one size.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) value_bytes: u64,
    cached_bytes: u64,
    handed_bytes: u64,
    runs: usize,
    /// Median from the reclaimer's waking to the end of the step with which that much was handed back.
    pub(super) handback_ns: f64,
    /// Of the process with the cache, what lay in huge pages before: the median. The kernel takes a huge page in one piece.
    pub(super) huge_bytes: u64,
    /// In all runs.
    pub(super) oom_kills: u64,
    /// Whether the run without the reclaimer ended in a kill, which shows that the others were spared one.
    pub(super) control_is_killed: bool,
}

/// What came of one run.
struct Outcome {
    took: Option<Duration>,
    huge_bytes: u64,
    oom_kills: u64,
}

/// Measures values of each size.
pub(super) fn measure(
    plan: &Plan,
    home: &Home,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for value_bytes in &plan.values_bytes {
        let rounds = usize::try_from(plan.rounds).unwrap_or(1);
        progress.phase(&format!("handing back, values of {value_bytes} bytes"), rounds + 1);
        let control = run(plan, *value_bytes, false, home, interrupt)?;
        progress.step();
        let (mut times_ns, mut huge_bytes, mut oom_kills) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            let outcome = run(plan, *value_bytes, true, home, interrupt)?;
            times_ns.extend(outcome.took.map(|took| took.as_secs_f64() * 1e9));
            huge_bytes.push(outcome.huge_bytes);
            oom_kills += outcome.oom_kills;
            progress.step();
        }
        huge_bytes.sort_unstable();
        rows.push(Row {
            value_bytes: *value_bytes,
            cached_bytes: plan.cached_bytes,
            handed_bytes: plan.handed_bytes,
            runs: rounds,
            handback_ns: median(&times_ns).map(significant).unwrap_or_default(),
            huge_bytes: huge_bytes.get(huge_bytes.len() / 2).copied().unwrap_or_default(),
            oom_kills,
            control_is_killed: control.oom_kills > 0,
        });
    }
    Ok(rows)
}

fn run(
    plan: &Plan,
    value_bytes: u64,
    is_woken: bool,
    home: &Home,
    interrupt: &Interrupt,
) -> Result<Outcome, Failure> {
    let group = home.make("handback", plan.limit_bytes)?;
    let mut outcome = Outcome { took: None, huge_bytes: 0, oom_kills: 0 };
    match play(plan, value_bytes, is_woken, &group, interrupt, &mut outcome) {
        Ok(()) | Err(NoAnswer::Killed) => {}
        Err(NoAnswer::Failed(failure)) => return Err(failure),
    }
    outcome.oom_kills = group.oom_kills()?;
    Ok(outcome)
}

fn play(
    plan: &Plan,
    value_bytes: u64,
    is_woken: bool,
    group: &MemoryGroup,
    interrupt: &Interrupt,
    outcome: &mut Outcome,
) -> Result<(), NoAnswer> {
    let entry = group.entry();
    let mut cache = process::start("handback", Some(&entry), interrupt).map_err(NoAnswer::Failed)?;
    let Plan { cached_bytes, handed_bytes, .. } = *plan;
    cache.send(&Fill { value_bytes, cached_bytes, handed_bytes })?;
    let Signal::Filled = cache.receive()? else { return Err(out_of_turn()) };
    let mut first = Child::start("hog", Some(&entry), interrupt).map_err(NoAnswer::Failed)?;
    let mut second = Child::start("hog", Some(&entry), interrupt).map_err(NoAnswer::Failed)?;
    let (FromHog::Ready, FromHog::Ready) = (first.receive()?, second.receive()?) else {
        return Err(out_of_turn());
    };
    let free_bytes = group.free_bytes().map_err(NoAnswer::Failed)?;
    demand(&mut first, free_bytes.saturating_sub(plan.left_bytes))?;
    if is_woken {
        cache.send(&Signal::WakeUp)?;
        let Signal::HandedBack { took, bytes, huge_bytes } = cache.receive()? else {
            return Err(out_of_turn());
        };
        if bytes < handed_bytes {
            let failure = format!("of {handed_bytes} bytes the reclaimer handed back {bytes}");
            return Err(NoAnswer::Failed(Failure::run(failure)));
        }
        outcome.took = Some(took);
        outcome.huge_bytes = huge_bytes;
    }
    demand(&mut second, handed_bytes)?;
    for hog in [first, second] {
        hog.finish()?;
    }
    cache.finish()
}

/// Has a hog take that much at full speed.
fn demand(hog: &mut Child<'_>, bytes: u64) -> Result<(), NoAnswer> {
    hog.send(&ToHog::Run { bytes })?;
    match hog.receive()? {
        FromHog::Done { .. } => Ok(()),
        FromHog::Failed => Err(NoAnswer::Failed(Failure::run("the hog got no address space"))),
        FromHog::Ready => Err(out_of_turn()),
    }
}

/// The process's side.
pub(super) fn work(link: &mut Link) -> Result<(), Failure> {
    let failed = |error: vrange::Error| Failure::run(format!("making a heap: {error}"));
    let fill: Fill = link.request()?;
    // With half as much again the reclaimer has all of it to hand back at its first step, whatever is a little more or less.
    let builder = Heap::builder().reserve(fill.handed_bytes / 2 * 3);
    let (heap, mut reclaimer) = builder.build_manual().map_err(failed)?;
    let cache = Vrange::on(heap)?;
    let mut values = Values::of(usize::try_from(fill.value_bytes).unwrap_or(usize::MAX));
    for key in 0..fill.cached_bytes / fill.value_bytes {
        cache.insert(key, values.value(key))?;
    }
    link.answer(&Signal::Filled)?;
    // Without a word the reclaimer sleeps on.
    let Some(Signal::WakeUp) = link.receive()? else { return Ok(()) };
    let huge_bytes = memory::huge_bytes()?;
    let woke_up = Instant::now();
    let (mut bytes, mut steps) = (0, 0);
    while bytes < fill.handed_bytes && steps < STEPS_MAX {
        let step = reclaimer.step();
        bytes += step.offered_bytes + step.released_bytes;
        steps += 1;
    }
    link.answer(&Signal::HandedBack { took: woke_up.elapsed(), bytes, huge_bytes })?;
    // The cache stays until the parent has seen what it wants to see.
    let _: Option<Signal> = link.receive()?;
    Ok(())
}

/// The two sides of a conversation are one program; they agree, unless it was replaced in the middle of a run.
fn out_of_turn() -> NoAnswer {
    NoAnswer::Failed(Failure::run("a process answered out of turn"))
}
