//! The rows of all parts, and what they have in common.

use serde::Serialize;

use super::{gets, handback, hits, tenant};

/// One figure or a few, of one cache.
#[derive(Debug, Serialize)]
#[serde(tag = "bench", rename_all = "snake_case")]
pub(super) enum Row {
    Get(gets::Row),
    HitRate(hits::Row),
    Tenant(tenant::Row),
    Handback(handback::Row),
    /// A part that this machine cannot do.
    NotMeasured {
        part: &'static str,
        reason: String,
    },
}

/// The middle one; none of nothing.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
