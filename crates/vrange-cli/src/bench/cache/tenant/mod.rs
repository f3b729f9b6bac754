//! A cache beside a tenant that grows and shrinks, in a memory cgroup that cannot hold both.
//!
//! Caches that need a size get the largest with which nobody is killed, which is searched for by trying. Ours gets none.

mod process;
mod scene;

use std::time::Duration;

use serde::Serialize;

use super::kind::{Kind, Size};
use super::row::median;
use super::serve::Serve;
use crate::bench::progress::Progress;
use crate::bench::table::significant;
use crate::demo::group::Home;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use process::Life;
pub(super) use process::work;
pub(super) use scene::Scene;

const MIB: u64 = 1 << 20;

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Of the group.
    pub(super) limit_bytes: u64,
    /// What the tenant holds at least and at most.
    pub(super) low_bytes: u64,
    pub(super) high_bytes: u64,
    pub(super) value_bytes: u64,
    /// All values together, cached or not.
    pub(super) data_bytes: u64,
    pub(super) miss: Duration,
    /// Growths of a run, and how long the tenant stays small and large.
    pub(super) growths: u32,
    pub(super) stay: Duration,
    pub(super) rounds: u32,
    /// The same while a size is searched.
    pub(super) trial_growths: u32,
    pub(super) trial_stay: Duration,
    /// Sizes are multiples of this.
    pub(super) step_bytes: u64,
}

/// Who is beside the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub(super) enum Guest {
    Cache(Kind),
    Other(Other),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Other {
    /// Nobody.
    Alone,
    /// The process that serves, without a cache.
    NoCache,
}

impl Guest {
    /// All, in the order of a round. Of foyer's policies only the one with the most hits is there.
    fn all() -> Vec<Self> {
        let caches = Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::FoyerLru | Kind::FoyerLfu));
        let others = [Other::Alone, Other::NoCache].map(Self::Other);
        others.into_iter().chain(caches.map(Self::Cache)).collect()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cache(kind) => kind.name(),
            Self::Other(Other::Alone) => "alone",
            Self::Other(Other::NoCache) => "no_cache",
        }
    }
}

/// Everything that was seen of one guest.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    pub(super) guest: Guest,
    /// None: no size was given.
    pub(super) capacity_bytes: Option<u64>,
    pub(super) scenes: Vec<Scene>,
}

/// One guest.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    cache: Guest,
    /// The size that was found; null where none is needed.
    capacity_bytes: Option<u64>,
    runs: usize,
    /// Over all runs.
    hits: u64,
    misses: u64,
    hits_per_second: Option<f64>,
    hit_rate: Option<f64>,
    /// That over the best of the other caches.
    ratio_to_best_peer: Option<f64>,
    oom_kills: u64,
    /// Median time in which the tenant grew.
    growth_ns: Option<f64>,
    /// That over the time of the tenant alone.
    slowdown: Option<f64>,
}

/// The results of all guests.
#[derive(Debug)]
pub(super) struct Tenants {
    pub(super) runs: Vec<Runs>,
}

impl Runs {
    /// Summed over all runs; none if somebody was killed in one.
    pub(super) fn served(&self) -> Option<(u64, u64, Duration)> {
        let mut sum = (0, 0, Duration::ZERO);
        for scene in &self.scenes {
            let (hits, misses, took) = scene.served()?;
            sum = (sum.0 + hits, sum.1 + misses, sum.2 + took);
        }
        (!self.scenes.is_empty()).then_some(sum)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn hits_per_second(&self) -> Option<f64> {
        let (hits, _, took) = self.served()?;
        Some(hits as f64 / took.as_secs_f64())
    }

    /// Median of all growths.
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    pub(super) fn growth_ns(&self) -> Option<f64> {
        let growths = self.scenes.iter().flat_map(|scene| &scene.growths);
        let times: Vec<_> =
            growths.map(|growth| growth.ended_ns.saturating_sub(growth.started_ns) as f64).collect();
        median(&times)
    }

    pub(super) fn oom_kills(&self) -> u64 {
        self.scenes.iter().map(|scene| scene.oom_kills.max(u64::from(scene.was_killed))).sum()
    }
}

impl Tenants {
    pub(super) fn of(&self, guest: Guest) -> Option<&Runs> {
        self.runs.iter().find(|runs| runs.guest == guest)
    }

    /// The other cache that served most.
    pub(super) fn best_peer(&self) -> Option<(Kind, f64)> {
        let rate = |runs: &Runs| match runs.guest {
            Guest::Cache(kind) if !kind.is_ours() => Some((kind, runs.hits_per_second()?)),
            _ => None,
        };
        self.runs.iter().filter_map(rate).max_by(|left, right| left.1.total_cmp(&right.1))
    }

    /// The tenant's time beside a guest over its time alone.
    pub(super) fn slowdown(&self, guest: Guest) -> Option<f64> {
        let alone_ns = self.of(Guest::Other(Other::Alone))?.growth_ns()?;
        Some(self.of(guest)?.growth_ns()? / alone_ns)
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        self.runs.iter().map(|runs| self.row(runs)).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn row(&self, runs: &Runs) -> Row {
        let (hits, misses, _) = runs.served().unwrap_or_default();
        let hits_per_second = runs.hits_per_second();
        let of_best = hits_per_second.zip(self.best_peer()).map(|(rate, (_, best))| rate / best);
        Row {
            cache: runs.guest,
            capacity_bytes: runs.capacity_bytes,
            runs: runs.scenes.len(),
            hits,
            misses,
            hits_per_second: hits_per_second.map(significant),
            hit_rate: (hits + misses > 0).then(|| significant(hits as f64 / (hits + misses) as f64)),
            ratio_to_best_peer: of_best.map(significant),
            oom_kills: runs.oom_kills(),
            growth_ns: runs.growth_ns().map(significant),
            slowdown: self.slowdown(runs.guest).map(significant),
        }
    }
}

/// Finds sizes, and lets every guest live beside the tenant, in turns.
pub(super) fn measure(
    plan: &Plan,
    home: &Home,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Tenants, Failure> {
    let stage = Stage { plan, home, interrupt };
    progress.phase("the largest caches that survive", Guest::all().len());
    let mut runs = Vec::new();
    for guest in Guest::all() {
        let capacity_bytes = match guest {
            Guest::Cache(kind) if !kind.is_ours() => Some(stage.largest_that_survives(kind)?),
            _ => None,
        };
        runs.push(Runs { guest, capacity_bytes, scenes: Vec::new() });
        progress.step();
    }
    progress.phase(
        "beside a tenant that grows and shrinks",
        runs.len() * usize::try_from(plan.rounds).unwrap_or(1),
    );
    // Not counted: the first to touch memory that a virtual machine was never given waits for its host.
    stage.trial(None)?;
    for round in 0..plan.rounds {
        for index in 0..runs.len() {
            let index = if round % 2 == 0 { index } else { runs.len() - 1 - index };
            stage.run(&mut runs[index])?;
            progress.step();
        }
    }
    Ok(Tenants { runs })
}

struct Stage<'a> {
    plan: &'a Plan,
    home: &'a Home,
    interrupt: &'a Interrupt,
}

impl Stage<'_> {
    /// One run. If it ends with a kill, a cache that has a size gets the next smaller one, and everything that it did before does
    /// not count: it was not the largest that survives.
    fn run(&self, runs: &mut Runs) -> Result<(), Failure> {
        let plan = self.plan;
        let scenes_before = runs.scenes.len();
        loop {
            let serve = match runs.guest {
                Guest::Other(Other::Alone) => None,
                Guest::Other(Other::NoCache) => Some(self.serve(None, None)),
                Guest::Cache(kind) => Some(self.serve(Some(kind), runs.capacity_bytes)),
            };
            let life = self.life(plan.growths, plan.stay);
            let scene = scene::run(self.home, plan.limit_bytes, life, serve, self.interrupt)?;
            let is_survived = scene.is_survived();
            match &mut runs.capacity_bytes {
                Some(bytes) if !is_survived && *bytes > plan.step_bytes => {
                    *bytes -= plan.step_bytes;
                    runs.scenes.clear();
                }
                _ => runs.scenes.push(scene),
            }
            if runs.scenes.len() > scenes_before {
                return Ok(());
            }
        }
    }

    /// Bisects, from nothing to all that is left beside the tenant at its largest.
    fn largest_that_survives(&self, kind: Kind) -> Result<u64, Failure> {
        let step_bytes = self.plan.step_bytes;
        let (mut survives, mut dies) = (0, (self.plan.limit_bytes - self.plan.high_bytes) / step_bytes + 1);
        while dies - survives > 1 {
            let middle = survives.midpoint(dies);
            if self.trial(Some(self.serve(Some(kind), Some(middle * step_bytes))))? {
                survives = middle;
            } else {
                dies = middle;
            }
        }
        Ok(survives.max(1) * step_bytes)
    }

    /// Does everybody live?
    fn trial(&self, serve: Option<Serve>) -> Result<bool, Failure> {
        let life = self.life(self.plan.trial_growths, self.plan.trial_stay);
        Ok(scene::run(self.home, self.plan.limit_bytes, life, serve, self.interrupt)?.is_survived())
    }

    fn life(&self, growths: u32, stay: Duration) -> Life {
        Life { low_bytes: self.plan.low_bytes, high_bytes: self.plan.high_bytes, growths, stay }
    }

    fn serve(&self, kind: Option<Kind>, capacity_bytes: Option<u64>) -> Serve {
        let Plan { value_bytes, data_bytes, miss, .. } = *self.plan;
        let keys = data_bytes / value_bytes;
        Serve { kind, size: Size { capacity_bytes, value_bytes }, keys, warm_up: 2 * keys, miss }
    }
}

impl Plan {
    /// What is written above the results.
    pub(super) fn describe(&self) -> String {
        format!(
            "a tenant grows from {} to {} MiB and back every {:.1} s, in a memory cgroup of {} MiB; {} MiB of values of {} KiB are read \
             by Zipf's law; a miss takes {} µs",
            self.low_bytes / MIB,
            self.high_bytes / MIB,
            2.0 * self.stay.as_secs_f64(),
            self.limit_bytes / MIB,
            self.data_bytes / MIB,
            self.value_bytes >> 10,
            self.miss.as_micros(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::process::Growth;
    use super::*;
    use crate::bench::cache::serve::Sample;

    fn scene(hits: u64, growth_ns: u64) -> Scene {
        let sample = |at_ns, hits| Sample { at_ns, hits, misses: hits, resident_bytes: 1 };
        Scene {
            growths: vec![Growth { started_ns: 5, ended_ns: 5 + growth_ns, shrunk_ns: 99 }],
            samples: vec![sample(1_000_000_000, 0), sample(3_000_000_000, hits)],
            ..Scene::default()
        }
    }

    fn runs(guest: Guest, scenes: Vec<Scene>) -> Runs {
        Runs { guest, capacity_bytes: None, scenes }
    }

    #[test]
    fn rates_and_times_are_compared() {
        let moka = Guest::Cache(Kind::Moka);
        let tenants = Tenants {
            runs: vec![
                runs(Guest::Other(Other::Alone), vec![scene(0, 100)]),
                runs(moka, vec![scene(100, 110), scene(300, 130)]),
                runs(Guest::Cache(Kind::QuickCache), vec![scene(50, 100)]),
            ],
        };
        assert_eq!(tenants.best_peer(), Some((Kind::Moka, 100.0)));
        assert_eq!(tenants.slowdown(moka), Some(1.3));
        let rows = tenants.rows();
        assert_eq!((rows[1].hits, rows[1].hit_rate, rows[1].oom_kills), (400, Some(0.5), 0));
        assert_eq!(rows[2].ratio_to_best_peer, Some(0.25));
    }

    #[test]
    fn a_kill_leaves_no_rate() {
        let killed = Scene { was_killed: true, ..Scene::default() };
        let moka = runs(Guest::Cache(Kind::Moka), vec![scene(100, 110), killed]);
        assert_eq!((moka.hits_per_second(), moka.oom_kills()), (None, 1));
    }
}
