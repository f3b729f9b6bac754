//! What is said in `docs/containers.md`: how volatile memory counts where containers are limited and evicted by it.
//!
//! A pod is a memory cgroup with a process in it that keeps volatile memory. What is looked at are the figures that the kubelet and
//! cAdvisor look at ([`figures`]). Both versions of cgroups are served by the same tests.

mod figures;
mod limits;
mod pod;
mod working_set;

const MIB: u64 = 1 << 20;

/// Not a test: what the child processes of the tests run.
#[test]
fn jobs() {
    vrange_testing::serve(&[("pod", pod::run)]);
}
