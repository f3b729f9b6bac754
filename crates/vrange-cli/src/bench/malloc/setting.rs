//! What is compared: allocators, each as it is told to do with memory that is freed.

use serde::Serialize;

/// An allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Allocator {
    /// gperftools' tcmalloc, as the system has it.
    Tcmalloc,
    /// jemalloc 5, as the system has it.
    Jemalloc,
    /// mimalloc 3, from this project's library.
    Mimalloc,
    /// The C library's own. It cannot be taught marks.
    Glibc,
}

/// What becomes of memory that is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Config {
    /// The allocator keeps it for good.
    Keep,
    /// The same, and the program sets each block to zero before it uses it: what marks come to with an allocator that expects zeros,
    /// if they cost nothing else.
    Cleared,
    /// What the allocator does if it is told nothing.
    Default,
    /// It is given back at once, with `MADV_DONTNEED`.
    Dontneed,
    /// It is offered at once, with `MADV_FREE`.
    Free,
    /// It is marked, offered by the reclaimer a little later, and given back after the decay.
    Marks,
}

/// One of the things that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Setting {
    pub(super) allocator: Allocator,
    pub(super) config: Config,
}

impl Allocator {
    pub(super) const ALL: [Self; 4] = [Self::Tcmalloc, Self::Jemalloc, Self::Mimalloc, Self::Glibc];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcmalloc => "tcmalloc",
            Self::Jemalloc => "jemalloc",
            Self::Mimalloc => "mimalloc",
            Self::Glibc => "glibc",
        }
    }

    /// Its configurations, in the order in which they are shown. tcmalloc knows no `MADV_FREE` that could be asked for.
    fn configs(self) -> &'static [Config] {
        match self {
            Self::Tcmalloc => &[Config::Keep, Config::Dontneed, Config::Marks],
            Self::Jemalloc => &[Config::Keep, Config::Cleared, Config::Dontneed, Config::Free, Config::Marks],
            Self::Mimalloc => &[Config::Keep, Config::Dontneed, Config::Free, Config::Marks],
            Self::Glibc => &[Config::Keep, Config::Default],
        }
    }

    /// This allocator in one of its configurations.
    pub(super) fn with(self, config: Config) -> Setting {
        Setting { allocator: self, config }
    }
}

impl Config {
    /// All of them, in the order in which they are shown.
    pub(super) const ALL: [Self; 6] =
        [Self::Keep, Self::Cleared, Self::Default, Self::Dontneed, Self::Free, Self::Marks];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Cleared => "cleared",
            Self::Default => "default",
            Self::Dontneed => "dontneed",
            Self::Free => "free",
            Self::Marks => "marks",
        }
    }
}

impl Setting {
    /// Everything that is compared, in the order in which it is shown.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let of = |allocator: Allocator| allocator.configs().iter().map(move |config| allocator.with(*config));
        Allocator::ALL.into_iter().flat_map(of)
    }
}
