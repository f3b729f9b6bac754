//! One run: a tenant, and perhaps a process that serves reads, in one memory cgroup.

use std::time::Duration;

use super::process::{Growth, Life, Signal as TenantSignal};
use crate::bench::cache::process;
use crate::bench::cache::serve::{Sample, Serve, Served, Signal};
use crate::demo::child::NoAnswer;
use crate::demo::group::{Home, MemoryGroup};
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// What happened.
#[derive(Clone, Debug, Default)]
pub(in crate::bench::cache) struct Scene {
    pub(in crate::bench::cache) growths: Vec<Growth>,
    /// Empty without a server, and with one that was killed.
    pub(in crate::bench::cache) samples: Vec<Sample>,
    /// When it began.
    pub(in crate::bench::cache) started_ns: u64,
    pub(super) oom_kills: u64,
    /// The kernel killed one of the two.
    pub(super) was_killed: bool,
}

impl Scene {
    /// Everybody lived.
    pub(super) fn is_survived(&self) -> bool {
        !self.was_killed && self.oom_kills == 0
    }

    /// Hits, misses and how long it took, from the first sample to the last.
    pub(super) fn served(&self) -> Option<(u64, u64, Duration)> {
        let (first, last) = (self.samples.first()?, self.samples.last()?);
        let took = Duration::from_nanos(last.at_ns.saturating_sub(first.at_ns));
        Some((last.hits - first.hits, last.misses - first.misses, took))
    }
}

/// Runs it.
pub(super) fn run(
    home: &Home,
    limit_bytes: u64,
    life: Life,
    serve: Option<Serve>,
    interrupt: &Interrupt,
) -> Result<Scene, Failure> {
    let group = home.make("tenant", limit_bytes)?;
    let mut scene = Scene::default();
    match play(&group, life, serve, interrupt, &mut scene) {
        Ok(()) => {}
        Err(NoAnswer::Killed) => scene.was_killed = true,
        Err(NoAnswer::Failed(failure)) => return Err(failure),
    }
    scene.oom_kills = group.oom_kills()?;
    Ok(scene)
}

/// Fills in what is known of the scene on the way.
fn play(
    group: &MemoryGroup,
    life: Life,
    serve: Option<Serve>,
    interrupt: &Interrupt,
    scene: &mut Scene,
) -> Result<(), NoAnswer> {
    let entry = group.entry();
    let mut tenant = process::start("tenant", Some(&entry), interrupt).map_err(NoAnswer::Failed)?;
    tenant.send(&life)?;
    let TenantSignal::Ready = tenant.receive()? else { return Err(out_of_turn()) };
    let server = serve.map(|serve| {
        let mut server = process::start("serve", Some(&entry), interrupt).map_err(NoAnswer::Failed)?;
        server.send(&serve)?;
        let Signal::Ready = server.receive()? else { return Err(out_of_turn()) };
        server.send(&Signal::Go)?;
        Ok(server)
    });
    let mut server = server.transpose()?;
    scene.started_ns = crate::demo::wire::monotonic_ns();
    tenant.send(&TenantSignal::Go)?;
    for _ in 0..life.growths {
        scene.growths.push(tenant.receive()?);
    }
    tenant.finish()?;
    if let Some(mut server) = server.take() {
        server.send(&Signal::Stop)?;
        let served: Served = server.receive()?;
        server.finish()?;
        if served.wrong > 0 {
            let failure = Failure::run(format!("the cache returned {} wrong values", served.wrong));
            return Err(NoAnswer::Failed(failure));
        }
        scene.samples = served.samples;
    }
    Ok(())
}

/// The two sides of a conversation are one program; they agree, unless it was replaced in the middle of a run.
fn out_of_turn() -> NoAnswer {
    NoAnswer::Failed(Failure::run("a process answered out of turn"))
}
