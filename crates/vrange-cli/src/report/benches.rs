//! What is measured, and what is said about it.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Bench {
    /// `vrange demo`.
    Demo,
    /// `vrange bench ranges`.
    Ranges,
    /// `vrange bench raw`.
    Raw,
    /// `vrange bench malloc`.
    Malloc,
    /// `vrange bench cache`.
    Cache,
}

/// The demo's memory limit when there is little time.
const QUICK_DEMO_MIB: u64 = 256;
/// The same otherwise: the demo's own default.
const DEMO_MIB: u64 = 512;

impl Bench {
    /// All, in the order in which they are measured and shown.
    pub(super) const ALL: [Self; 5] = [Self::Demo, Self::Ranges, Self::Raw, Self::Malloc, Self::Cache];

    /// In file names.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Ranges => "ranges",
            Self::Raw => "raw",
            Self::Malloc => "malloc",
            Self::Cache => "cache",
        }
    }

    /// What is typed behind `vrange` to have the results as JSON.
    pub(super) fn arguments(self, quick: bool) -> Vec<String> {
        let mut arguments: Vec<String> = match self {
            Self::Demo if quick => {
                vec![
                    "demo".into(),
                    "--memory".into(),
                    format!("{QUICK_DEMO_MIB}M"),
                    "--rounds".into(),
                    "1".into(),
                ]
            }
            Self::Demo => vec!["demo".into(), "--memory".into(), format!("{DEMO_MIB}M")],
            _ => vec!["bench".into(), self.name().into()],
        };
        if quick && self != Self::Demo {
            arguments.push("--quick".into());
        }
        arguments.push("--json".into());
        arguments
    }

    /// Memory without which it is not even tried.
    pub(super) fn needed_bytes(self, quick: bool) -> Option<u64> {
        (self == Self::Demo).then_some((if quick { QUICK_DEMO_MIB } else { DEMO_MIB }) << 20)
    }

    /// How long it takes on a machine with two processors and nothing else to do.
    pub(super) fn about(self, quick: bool) -> Duration {
        Duration::from_secs(match (self, quick) {
            (Self::Demo, true) => 5,
            (Self::Demo, false) => 40,
            (Self::Ranges, true) => 3,
            (Self::Ranges, false) => 30,
            (Self::Raw, true) => 2,
            (Self::Raw, false) => 10,
            (Self::Malloc, true) => 20,
            (Self::Malloc, false) => 12 * 60,
            (Self::Cache, true) => 20,
            (Self::Cache, false) => 30 * 60,
        })
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Demo => "Real files in volatile memory, and a hog beside them",
            Self::Ranges => "Operations on a range",
            Self::Raw => "Marks on a program's own memory",
            Self::Malloc => "Freed memory: kept, given back, or marked",
            Self::Cache => "A cache without a size",
        }
    }

    /// What is measured, in a sentence or two.
    pub(super) fn about_what(self) -> &'static str {
        match self {
            Self::Demo => {
                "A process fills most of a memory limit with files in volatile buffers; another one then faults in 60 % of that limit at \
                 full speed. Measured is what was lost of what had to go, in which order, whether every byte that was kept is right, and \
                 how much longer the other process took than alone. Where no memory cgroup can be made there is no other process, and \
                 memory is given up by advice."
            }
            Self::Ranges => {
                "What each operation on a volatile range costs, by its size, beside the system calls with which a program would do the same \
                 without the library. All are measured in one run, in turns; medians are compared."
            }
            Self::Raw => {
                "What marks cost that a program sets on memory of its own, as the RFC's system call would have them, beside MADV_FREE and a \
                 madvise that changes a mapping's flags. All are measured in one run, in turns; medians are compared."
            }
            Self::Malloc => {
                "One program on several allocators, each told to keep the memory that is freed, to give it back at once, or to mark it: \
                 records in a second, and the memory in use after a rest. Each is measured in a process of its own, in turns; medians are \
                 compared."
            }
            Self::Cache => {
                "This project's cache, which has no size, beside others that are told one: how fast a hit is, how often there is one with \
                 equal memory, hits served beside a tenant that grows and shrinks, and how fast memory is handed back."
            }
        }
    }

    /// What the names in the tables mean.
    pub(super) fn terms(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Demo => &[],
            Self::Ranges => &[
                ("unpin+pin", "a range is no longer in use, and in use again, while memory is plentiful"),
                (
                    "offer, offer_many",
                    "one range, or many together, handed to the kernel, which may take them",
                ),
                ("rescue", "a pin of an offered range that is still there"),
                ("release", "a range is dropped at once"),
                ("refill", "a pin of a range that was lost, with every byte written again"),
                (
                    "pin_while_offering_p99.9",
                    "what 999 of 1000 pins wait at most while others are being offered",
                ),
                ("madv_dontneed, refault", "MADV_DONTNEED, and touching every page after it"),
                ("madv_free, madv_free_retouch", "MADV_FREE, and writing to every page after it"),
                ("vma_flag_pair", "two calls of madvise that change a mapping's flags and change them back"),
                (
                    "tag_pages",
                    "a tag written to every page, and checked and replaced later: loss told without the kernel",
                ),
                (
                    "idle_second",
                    "processor time of a second in which nothing happens while so much is volatile",
                ),
                ("range_state", "memory that the state of a range of 64 KiB takes"),
                ("memory_of_lost_pin", "memory that comes with pinning a range that was lost whole"),
            ],
            Self::Raw => &[
                ("mark+unmark", "a mark and its end, in memory that was not offered"),
                ("mark", "a mark alone, of pages in memory"),
                ("mark_now", "a mark by which the kernel is told at once, as without --paired"),
                (
                    "pass_through, other_advice",
                    "other advice through the preloaded library, and by libc's own function",
                ),
                ("vma_flag_pair", "two calls of madvise that change a mapping's flags and change them back"),
                ("madv_free", "MADV_FREE"),
            ],
            Self::Malloc => &[
                ("keep", "memory is never given back"),
                ("dontneed", "it is given back with MADV_DONTNEED as soon as it is freed"),
                ("free", "the same with MADV_FREE"),
                ("marks", "it is marked volatile, offered a little later, and given back after the decay"),
                ("default", "the C library with nothing set"),
                ("churn", "16 blocks of 4 MiB are allocated, filled and freed"),
                (
                    "search",
                    "1 to 8 MiB are allocated, sorted keys are copied there, one is looked up, and the copy is freed",
                ),
            ],
            Self::Cache => &[
                (
                    "get",
                    "a hit: `ends` reads the first word of the value and the last, `lines` a byte of each cache line",
                ),
                (
                    "hit rate",
                    "with the size by which each cache takes equal memory; zipf, scan and flood are traces of reads",
                ),
                (
                    "tenant",
                    "the others get the largest size with which nobody is killed; `alone` is the tenant with nobody beside it, `no_cache` a \
                     server without a cache",
                ),
                ("handback", "from the waking of the reclaimer until so much is handed to the kernel"),
            ],
        }
    }

    /// What it is compared with, as built into this program and its libraries: name and version. (Other allocators tell theirs in the
    /// results.)
    pub(super) fn peers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Malloc => &[("mimalloc", "3, in libvrange_mimalloc.so")],
            Self::Cache => &PEERS,
            _ => &[],
        }
    }
}

/// The caches that `bench cache` is built with.
const PEERS: [(&str, &str); 3] = [("moka", "0.12"), ("quick_cache", "0.7"), ("foyer-memory", "0.22")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_that_are_locked() {
        let lock = include_str!("../../../../Cargo.lock");
        for (name, version) in PEERS {
            let entry = format!("name = \"{name}\"\nversion = \"{version}.");
            assert!(lock.contains(&entry), "{name} is locked in another version than {version}");
        }
    }

    #[test]
    fn quick_is_quick() {
        let quick: Duration = Bench::ALL.into_iter().map(|bench| bench.about(true)).sum();
        assert!(quick < Duration::from_secs(180), "{quick:?}");
    }
}
