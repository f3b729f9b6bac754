//! The results as tables.

use std::fmt::Write as _;

use super::gets::{Case, Gets};
use super::kind::Kind;
use super::peer::Look;
use super::tenant::Tenants;
use super::trace::Trace;
use super::{Found, Plan};
use super::{handback, hits};
use crate::bench::table::human_ns;
use crate::size::human;

/// All tables, with an empty line after each.
pub(super) fn all(found: &Found, plan: &Plan) -> String {
    let mut text = String::new();
    if !found.gets.is_empty() {
        text += &gets(&found.gets);
    }
    if !found.hits.is_empty() {
        text += &hit_rates(&found.hits, plan);
    }
    text += &format!("hits served: {}\n", plan.tenant.describe());
    match &found.tenants {
        Ok(tenants) => text += &tenant(tenants),
        Err(reason) => text += &format!("  not measured: {reason}\n\n"),
    }
    text += &handback(found.handbacks.as_deref(), plan);
    text
}

/// A line for each case.
fn gets(gets: &Gets) -> String {
    let mut text = "get of what is there, millions in a second\n".to_owned();
    let _ = write!(text, "  {:<10}{:<7}{:>8}", "value", "read", "threads");
    for kind in Kind::ALL {
        let _ = write!(text, "{:>15}", kind.name());
    }
    text.push('\n');
    for case in Case::all() {
        let look = match case.look {
            Look::Ends => "ends",
            Look::Lines => "all",
        };
        let _ = write!(text, "  {:<10}{look:<7}{:>8}", size(case.value_bytes as u64), case.threads);
        for kind in Kind::ALL {
            let rate = gets.median(case, kind).map_or("-".to_owned(), |rate| format!("{:.3}", rate / 1e6));
            let _ = write!(text, "{rate:>15}");
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// A table for each size of values.
fn hit_rates(rows: &[hits::Row], plan: &Plan) -> String {
    let mut text = String::new();
    for value_bytes in &plan.hits.values_bytes {
        let budget = human(plan.hits.budget_bytes);
        let _ = writeln!(text, "hit rate with {budget} of resident memory, values of {}", size(*value_bytes));
        let _ = write!(text, "  {:<16}", "cache");
        for trace in Trace::ALL {
            let _ = write!(text, "{:>10}", trace.name());
        }
        let _ = writeln!(text, "{:>17}", "overhead/entry");
        for kind in Kind::ALL {
            let of = |trace| {
                rows.iter()
                    .find(|row| row.cache == kind && row.trace == trace && row.value_bytes == *value_bytes)
            };
            let _ = write!(text, "  {:<16}", kind.name());
            for trace in Trace::ALL {
                let rate = of(trace).map_or("-".to_owned(), |row| {
                    let mark = if row.is_at_budget { "" } else { "*" };
                    format!("{mark}{:.2} %", row.hit_rate * 100.0)
                });
                let _ = write!(text, "{rate:>10}");
            }
            let overhead =
                of(Trace::Zipf).map_or("-".to_owned(), |row| format!("{:.1} B", row.overhead_bytes));
            let _ = writeln!(text, "{overhead:>17}");
        }
        text.push('\n');
    }
    for row in rows.iter().filter(|row| !row.is_at_budget) {
        let _ = writeln!(
            text,
            "* {} on {} with {}: {} of memory, which is not the budget",
            row.cache.name(),
            row.trace.name(),
            size(row.value_bytes),
            human(row.resident_bytes),
        );
    }
    text
}

fn tenant(tenants: &Tenants) -> String {
    let mut text = format!(
        "  {:<16}{:>11}{:>12}{:>11}{:>15}{:>10}{:>11}\n",
        "beside", "size", "hits/s", "hit rate", "tenant grows in", "slowdown", "OOM kills"
    );
    for runs in &tenants.runs {
        let or_dash = |figure: Option<String>| figure.unwrap_or_else(|| "-".to_owned());
        let hit_rate =
            runs.served().filter(|(hits, misses, _)| hits + misses > 0).map(|(hits, misses, _)| {
                #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
                let rate = hits as f64 / (hits + misses) as f64;
                format!("{:.1} %", rate * 100.0)
            });
        let _ = writeln!(
            text,
            "  {:<16}{:>11}{:>12}{:>11}{:>15}{:>10}{:>11}",
            runs.guest.name(),
            or_dash(runs.capacity_bytes.map(human)),
            or_dash(runs.hits_per_second().map(|rate| format!("{rate:.0}"))),
            or_dash(hit_rate),
            or_dash(runs.growth_ns().map(human_ns)),
            or_dash(tenants.slowdown(runs.guest).map(|times| format!("{times:.2}"))),
            runs.oom_kills(),
        );
    }
    text.push('\n');
    text
}

fn handback(rows: Result<&[handback::Row], &String>, plan: &Plan) -> String {
    let mut text = format!(
        "from the reclaimer's waking to {} handed back, of {} cached\n",
        human(plan.handback.handed_bytes),
        human(plan.handback.cached_bytes)
    );
    match rows {
        Ok(rows) => {
            for row in rows {
                let control = if row.control_is_killed { "a kill" } else { "NO kill" };
                let _ = writeln!(
                    text,
                    "  values of {:<9}{:>10}   {} in huge pages; OOM kills {}, without the reclaimer {control}",
                    size(row.value_bytes),
                    human_ns(row.handback_ns),
                    human(row.huge_bytes),
                    row.oom_kills,
                );
            }
        }
        Err(reason) => text += &format!("  not measured: {reason}\n"),
    }
    text.push('\n');
    text
}

fn size(bytes: u64) -> String {
    human(bytes)
}
