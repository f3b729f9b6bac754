//! C13 and what belongs to it: volatile memory in real memory cgroups, beside programs that need memory.
//!
//! Caches and hogs are processes of their own (see [`cache`] and [`hog`]), put into a group that only they fill, so that the
//! machine does not notice. Each promise has a *control*: the same with the protection taken out, which fails. Without it,
//! a test that passes might as well test nothing.
//!
//! Tests run one at a time, since they fill memory and measure time. `VRANGE_TEST_SCALE=soak` runs the long form.

mod c13;
mod cache;
mod high;
mod hog;
mod limits;
mod machine;
mod many;
mod naive;
mod order;
mod outside;
mod page_cache;
mod pages;
mod rescued;
mod slowdown;
mod starved;
mod stress;
mod swap;
mod tail;
mod taken_back;
mod undone;
mod withheld;

const MIB: u64 = 1 << 20;

/// Not a test: what the child processes of the tests run.
#[test]
fn jobs() {
    vrange_testing::serve(&[
        ("allocator", taken_back::run),
        ("cache", cache::run),
        ("hog", hog::run),
        ("naive", naive::run),
        ("stream", page_cache::run),
        ("stress", stress::run),
        ("tail", tail::run),
    ]);
}
