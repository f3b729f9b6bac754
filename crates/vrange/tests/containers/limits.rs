//! Beside a limit: the reserve keeps the working set away from it.

use vrange_os::cgroup::Version;
use vrange_testing::{alone, skipped};

use crate::MIB;
use crate::pod::{Pod, SLACK_BYTES, wait_until};

const LIMIT_BYTES: u64 = 256 * MIB;
/// More than would fit if none of it went.
const KEPT_BYTES: u64 = LIMIT_BYTES / 10 * 12;
/// A sixth of the limit, 40 MiB at most: what is kept by default.
const RESERVE_BYTES: u64 = 40 * MIB;

/// Keeps more than fits, and waits until the working set leaves so much of the limit.
fn stays_below(pod: &mut Pod, reserve_bytes: u64) {
    for _ in 0..KEPT_BYTES / (16 * MIB) {
        pod.ask(&format!("keep {}", 16 * MIB));
    }
    let most = LIMIT_BYTES - reserve_bytes + SLACK_BYTES;
    wait_until(&pod.group, "the reserve", |figures| figures.working_set <= most);
    assert_eq!(pod.group.oom_kills(), 0);
}

#[test]
fn under_a_limit_the_working_set_leaves_the_reserve() {
    let _alone = alone();
    let Some(mut pod) = Pod::start("limit", LIMIT_BYTES, "") else { return };
    stays_below(&mut pod, RESERVE_BYTES);
    // The limit is used, all the same: what is offered stays in memory.
    let figures = pod.figures();
    assert!(figures.usage >= LIMIT_BYTES - 2 * RESERVE_BYTES, "{figures:?}");
    let Some(mut pod) = Pod::start("limit", LIMIT_BYTES, &format!("reserve={}", 96 * MIB)) else { return };
    stays_below(&mut pod, 96 * MIB);
}

/// `memory.high`, which is what the kubelet sets for a request with the feature gate MemoryQoS, is a limit like the other.
#[test]
fn under_memory_high_the_working_set_leaves_the_reserve() {
    let _alone = alone();
    let Some(mut pod) = Pod::start("high", 4 * LIMIT_BYTES, "") else { return };
    if pod.group.version() == Version::V1 {
        return skipped("cgroup v1 has no memory.high");
    }
    pod.group.set_high(LIMIT_BYTES).expect("version 2 has it");
    stays_below(&mut pod, RESERVE_BYTES);
}

/// The control: where nobody offers, the working set goes up to the limit.
#[test]
fn control_without_a_reclaimer_the_working_set_reaches_the_limit() {
    let _alone = alone();
    let Some(mut pod) = Pod::start("unattended", LIMIT_BYTES, "unattended") else { return };
    pod.ask(&format!("keep {}", LIMIT_BYTES - 20 * MIB));
    let figures = pod.figures();
    assert!(figures.working_set >= LIMIT_BYTES - RESERVE_BYTES + SLACK_BYTES, "{figures:?}");
}

/// The control: and beyond it somebody is killed.
#[test]
fn control_without_a_reclaimer_what_does_not_fit_is_a_kill() {
    let _alone = alone();
    let Some(mut pod) = Pod::start("unattended", LIMIT_BYTES, "unattended") else { return };
    let ended = pod.process.ask(&format!("keep {KEPT_BYTES}")).expect_err("it did not fit");
    assert!(ended.was_killed() && pod.group.oom_kills() > 0, "{ended:?}");
}
