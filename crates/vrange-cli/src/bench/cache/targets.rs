//! The goals of this project's cache.

use super::gets::{Case, Gets};
use super::kind::Kind;
use super::tenant::{Guest, Other, Tenants};
use super::trace::Trace;
use super::{Found, peer::Look};
use super::{handback, hits};
use crate::bench::table::human_ns;
use crate::bench::targets::Target;
use crate::size::human;

/// Ours, if it takes part.
fn ours() -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.is_ours())
}

/// Compares what was measured with what it ought to be.
pub(super) fn all(found: &Found) -> Vec<Target> {
    let mut targets = gets(&found.gets);
    targets.extend(hit_rates(&found.hits));
    targets.extend(tenant(found.tenants.as_ref().ok()));
    targets.push(handback(found.handbacks.as_deref().ok()));
    targets
}

/// For each size of values the worst number of threads counts.
fn gets(gets: &Gets) -> Vec<Target> {
    let wanted = [
        ("get of 64 B, against the fastest other", 64, Look::Ends),
        ("get of 1 KiB, against the fastest other", 1 << 10, Look::Ends),
        ("get of 64 KiB, against the fastest other", 64 << 10, Look::Ends),
        ("the same with all of it read", 64 << 10, Look::Lines),
    ];
    let target = |(what, value_bytes, look)| {
        let cases =
            Case::all().into_iter().filter(|case| case.value_bytes == value_bytes && case.look == look);
        let compared = cases.filter_map(|case| {
            let (peer, fastest) = gets.fastest_peer(case)?;
            Some((gets.median(case, ours()?)? / fastest, peer, case.threads))
        });
        let worst = compared.min_by(|left, right| left.0.total_cmp(&right.0));
        Target {
            what,
            goal: "at least as many in a second".to_owned(),
            found: worst.map_or("not measured".to_owned(), |(ratio, peer, threads)| {
                format!("{ratio:.2} times {}, {}", peer.name(), threads_of(threads))
            }),
            reached: worst.map(|(ratio, _, _)| ratio >= 1.0),
        }
    };
    wanted.map(target).into()
}

fn threads_of(threads: u32) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

/// For each trace the worst size of values counts.
fn hit_rates(rows: &[hits::Row]) -> Vec<Target> {
    let wanted = [
        ("hit rate at equal memory, zipf", Trace::Zipf),
        ("hit rate at equal memory, scan", Trace::Scan),
        ("hit rate at equal memory, flood", Trace::Flood),
    ];
    let target = |(what, trace)| {
        let compared =
            rows.iter().filter(|row| row.trace == trace && row.cache.is_ours()).filter_map(|ours| {
                let others = rows.iter().filter(|row| {
                    !row.cache.is_ours() && row.trace == trace && row.value_bytes == ours.value_bytes
                });
                let best = others.max_by(|left, right| left.hit_rate.total_cmp(&right.hit_rate))?;
                Some((ours, best))
            });
        let worst = compared.min_by(|left, right| {
            (left.0.hit_rate - left.1.hit_rate).total_cmp(&(right.0.hit_rate - right.1.hit_rate))
        });
        Target {
            what,
            goal: "at least the best other".to_owned(),
            found: worst.map_or("not measured".to_owned(), |(ours, best)| {
                format!(
                    "{:.2} %, {} {:.2} %, values of {}",
                    ours.hit_rate * 100.0,
                    best.cache.name(),
                    best.hit_rate * 100.0,
                    human(ours.value_bytes)
                )
            }),
            // With another amount of memory it is no comparison.
            reached: worst
                .map(|(ours, best)| ours.is_at_budget && best.is_at_budget && ours.hit_rate >= best.hit_rate),
        }
    };
    wanted.map(target).into()
}

fn tenant(tenants: Option<&Tenants>) -> [Target; 3] {
    let ours = || Some((tenants?, tenants?.of(Guest::Cache(ours()?))?));
    let served = ours().and_then(|(tenants, ours)| {
        let (peer, best) = tenants.best_peer()?;
        // Killed, it has served nothing that counts.
        Some((ours.hits_per_second().unwrap_or(0.0) / best, peer))
    });
    let kills = ours().map(|(_, ours)| ours.oom_kills());
    let slowdown = ours().and_then(|(tenants, ours)| tenants.slowdown(ours.guest));
    let idle = tenants.and_then(|tenants| tenants.slowdown(Guest::Other(Other::NoCache)));
    [
        Target {
            what: "hits served beside a tenant",
            goal: "at least 1.5 times the best other".to_owned(),
            found: served.map_or("not measured".to_owned(), |(ratio, peer)| {
                format!("{ratio:.2} times {}", peer.name())
            }),
            reached: served.map(|(ratio, _)| ratio >= 1.5),
        },
        Target {
            what: "kills beside a tenant",
            goal: "none".to_owned(),
            found: kills.map_or("not measured".to_owned(), |kills| kills.to_string()),
            reached: kills.map(|kills| kills == 0),
        },
        Target {
            what: "the tenant's growth, against no cache",
            goal: "at most 1.1 times".to_owned(),
            found: slowdown.map_or("not measured".to_owned(), |times| {
                let idle = idle.map(|idle| format!(" (a server without a cache: {idle:.2})"));
                format!("{times:.2} times{}", idle.unwrap_or_default())
            }),
            reached: slowdown.map(|times| times <= 1.1),
        },
    ]
}

/// Of several sizes of values the worst counts.
fn handback(rows: Option<&[handback::Row]>) -> Target {
    const GOAL_NS: f64 = 10e6;
    let rows = rows.unwrap_or_default();
    let worst = rows.iter().max_by(|left, right| left.handback_ns.total_cmp(&right.handback_ns));
    // Without a kill in the control run nobody needed what was handed back.
    let is_real = rows.iter().all(|row| row.oom_kills == 0 && row.control_is_killed);
    Target {
        what: "256 MiB handed back",
        goal: "under 10 ms".to_owned(),
        found: worst.map_or("not measured".to_owned(), |row| {
            let doubt = if is_real { "" } else { ", but somebody was killed, or nobody in the control" };
            format!("{}, values of {}{doubt}", human_ns(row.handback_ns), human(row.value_bytes))
        }),
        reached: worst.map(|row| is_real && row.handback_ns < GOAL_NS),
    }
}
