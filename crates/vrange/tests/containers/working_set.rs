//! What counts as working set: all that is not offered.

use std::time::Duration;

use vrange_os::cgroup::Version;
use vrange_testing::alone;

use crate::MIB;
use crate::pod::{Pod, SLACK_BYTES, is_about, wait_until};

/// More than any of these tests needs: nothing is short.
const NO_LIMIT_BYTES: u64 = 1 << 40;
const KEPT_BYTES: u64 = 96 * MIB;

#[test]
fn offered_pages_leave_the_working_set_at_once_and_stay_in_usage_and_rss() {
    let _alone = alone();
    let Some(mut pod) = Pod::start("offered", NO_LIMIT_BYTES, "") else { return };
    pod.ask(&format!("keep {KEPT_BYTES}"));
    let (before, resident) = (pod.figures(), pod.process_resident_bytes());
    assert_eq!(pod.ask(&format!("offer {KEPT_BYTES}")), KEPT_BYTES.to_string());
    let after = pod.figures();
    assert!(is_about(before.working_set - after.working_set, KEPT_BYTES), "{before:?} {after:?}");
    assert!(is_about(before.usage, after.usage), "{before:?} {after:?}");
    assert!(is_about(before.rss, after.rss) && after.rss >= KEPT_BYTES - SLACK_BYTES, "{before:?} {after:?}");
    assert!(is_about(resident, pod.process_resident_bytes()), "{resident}");
    // Nothing was lost by it.
    assert_eq!(pod.ask("use"), "0");
}

/// The control: where nothing is offered the working set does not fall, whether memory is volatile or not.
#[test]
fn control_volatile_memory_that_is_not_offered_counts_like_any_other() {
    let _alone = alone();
    let Some(mut pod) = Pod::start("unoffered", NO_LIMIT_BYTES, "") else { return };
    let empty = pod.figures();
    pod.ask(&format!("keep {KEPT_BYTES}"));
    let volatile = pod.figures();
    assert!(is_about(volatile.working_set, empty.working_set + KEPT_BYTES), "{empty:?} {volatile:?}");
    assert_eq!(pod.ask("offer 0"), "0");
    assert!(is_about(pod.figures().working_set, volatile.working_set), "{volatile:?} {:?}", pod.figures());
    pod.ask(&format!("hold {KEPT_BYTES}"));
    let both = pod.figures();
    assert!(is_about(both.working_set, empty.working_set + 2 * KEPT_BYTES), "{empty:?} {both:?}");
}

/// The kernel looks at what was offered when it needs memory, and not before. Nobody offers while it looks: all that is short then is
/// this test's doing.
#[test]
fn pages_that_are_used_again_count_once_the_kernel_has_looked() {
    let _alone = alone();
    let Some(mut pod) = Pod::start("used-again", NO_LIMIT_BYTES, "unattended") else { return };
    pod.ask(&format!("keep {KEPT_BYTES}"));
    let before = pod.figures();
    pod.ask(&format!("offer {KEPT_BYTES}"));
    assert_eq!(pod.ask("use"), "0");
    let used = pod.figures();
    assert!(is_about(before.working_set - used.working_set, KEPT_BYTES), "they look offered: {used:?}");
    // Less than there is: the kernel looks for something to take. Nothing is offered any more, so it finds nothing.
    squeeze(&pod, before.usage / 2);
    squeeze(&pod, NO_LIMIT_BYTES);
    let looked = pod.figures();
    assert_eq!(pod.ask("use"), "0", "lost, though nobody had offered it again");
    assert!(is_about(looked.working_set, before.working_set), "{before:?} {looked:?}");
}

/// As the first, in a group in which the kernel has looked for memory before, again and again.
#[test]
fn offered_pages_leave_the_working_set_also_where_memory_was_short_before() {
    let _alone = alone();
    let Some(mut pod) = Pod::start("short-before", NO_LIMIT_BYTES, "unattended") else { return };
    pod.ask(&format!("keep {KEPT_BYTES}"));
    for _ in 0..10 {
        squeeze(&pod, KEPT_BYTES / 2);
        squeeze(&pod, NO_LIMIT_BYTES);
        assert_eq!(pod.ask("use"), "0");
    }
    let before = pod.figures();
    assert_eq!(pod.ask(&format!("offer {KEPT_BYTES}")), KEPT_BYTES.to_string());
    let after = pod.figures();
    println!("{before:?} {after:?}");
    assert!(is_about(before.working_set - after.working_set, KEPT_BYTES), "{before:?} {after:?}");
}

/// Limits the group as far as it can be done without a kill.
fn squeeze(pod: &Pod, bytes: u64) {
    // Version 1 tries, and answers EBUSY.
    let _ = match pod.group.version() {
        Version::V1 => pod.group.set_limit(bytes),
        Version::V2 => pod.group.set_high(bytes),
    };
}

#[test]
fn max_unoffered_bounds_the_working_set() {
    const BOUND_BYTES: u64 = 16 * MIB;
    let _alone = alone();
    let words = format!("max_unoffered={BOUND_BYTES}");
    let Some(mut pod) = Pod::start("bounded", NO_LIMIT_BYTES, &words) else { return };
    let empty = pod.figures();
    pod.ask(&format!("keep {KEPT_BYTES}"));
    let kept = pod.figures();
    assert!(kept.working_set <= empty.working_set + BOUND_BYTES + SLACK_BYTES, "{empty:?} {kept:?}");
    assert!(is_about(kept.usage, empty.usage + KEPT_BYTES), "it is all still there: {kept:?}");
    assert_eq!(pod.ask("use"), "0");
    // The control: the same without the bound.
    let Some(mut pod) = Pod::start("unbounded", NO_LIMIT_BYTES, "") else { return };
    pod.ask(&format!("keep {KEPT_BYTES}"));
    let kept = pod.figures();
    assert!(kept.working_set >= KEPT_BYTES - SLACK_BYTES, "{kept:?}");
}

/// An allocator's garbage goes by itself: out of the working set soon, and out of everything when it has been left alone for longer.
#[test]
fn free_memory_leaves_the_working_set_and_then_usage_without_any_pressure() {
    let _alone = alone();
    let Some(mut pod) = Pod::start("free", NO_LIMIT_BYTES, "free=3000") else { return };
    let empty = pod.figures();
    pod.ask(&format!("keep {KEPT_BYTES}"));
    wait_until(&pod.group, "the offer", |figures| figures.working_set <= empty.working_set + SLACK_BYTES);
    wait_until(&pod.group, "the release", |figures| figures.usage <= empty.usage + SLACK_BYTES);
    // The control: data that is kept is still there after as long.
    let Some(mut pod) = Pod::start("data", NO_LIMIT_BYTES, "") else { return };
    pod.ask(&format!("keep {KEPT_BYTES}"));
    let before = pod.figures();
    std::thread::sleep(Duration::from_secs(4));
    assert!(is_about(before.working_set, pod.figures().working_set), "{before:?} {:?}", pod.figures());
}

#[test]
fn nothing_outlives_its_process() {
    let _alone = alone();
    let Some(mut pod) = Pod::start("restarted", NO_LIMIT_BYTES, "") else { return };
    pod.ask(&format!("keep {KEPT_BYTES}"));
    pod.ask(&format!("offer {}", KEPT_BYTES / 2));
    let Pod { group, process } = pod;
    drop(process);
    wait_until(&group, "an empty group", |figures| figures.usage <= SLACK_BYTES);
}
