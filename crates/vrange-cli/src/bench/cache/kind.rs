//! The caches that are compared.

use foyer_memory::{EvictionConfig, LfuConfig, LruConfig, S3FifoConfig};
use serde::{Deserialize, Serialize};

use super::peer::Peer;
use super::peers::{Foyer, Moka, QuickCache, Vrange};
use crate::failure::Failure;

/// A cache, and where it has a choice, its policy of eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// This project's.
    Vrange,
    /// moka: TinyLFU with a window.
    Moka,
    /// `quick_cache`: CLOCK-PRO with S3-FIFO's ideas.
    QuickCache,
    /// foyer, as it comes.
    FoyerLru,
    FoyerLfu,
    FoyerS3Fifo,
}

/// How large a cache may get.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Size {
    /// As the cache counts: bytes of values. None: as large as it likes, which only ours can be.
    pub(super) capacity_bytes: Option<u64>,
    /// Of one value, for those that ask how many there will be.
    pub(super) value_bytes: u64,
}

impl Kind {
    /// All, ours first.
    pub(super) const ALL: [Self; 6] =
        [Self::Vrange, Self::Moka, Self::QuickCache, Self::FoyerLru, Self::FoyerLfu, Self::FoyerS3Fifo];

    /// As it is written in rows.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vrange => "vrange",
            Self::Moka => "moka",
            Self::QuickCache => "quick_cache",
            Self::FoyerLru => "foyer_lru",
            Self::FoyerLfu => "foyer_lfu",
            Self::FoyerS3Fifo => "foyer_s3_fifo",
        }
    }

    /// Is it this project's?
    pub(super) fn is_ours(self) -> bool {
        self == Self::Vrange
    }

    /// An empty one.
    pub(super) fn make(self, size: Size) -> Result<Box<dyn Peer>, Failure> {
        let capacity_bytes = size.capacity_bytes.unwrap_or(u64::MAX);
        Ok(match self {
            Self::Vrange => Box::new(Vrange::new(size.capacity_bytes)?),
            Self::Moka => Box::new(Moka::new(capacity_bytes)),
            Self::QuickCache => Box::new(QuickCache::new(capacity_bytes, size.value_bytes)),
            Self::FoyerLru => foyer(capacity_bytes, LruConfig::default()),
            Self::FoyerLfu => foyer(capacity_bytes, LfuConfig::default()),
            Self::FoyerS3Fifo => foyer(capacity_bytes, S3FifoConfig::default()),
        })
    }
}

fn foyer(capacity_bytes: u64, policy: impl Into<EvictionConfig>) -> Box<dyn Peer> {
    Box::new(Foyer::new(capacity_bytes, policy.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cache::peer::{Look, Tally, Values};

    const VALUE_BYTES: u64 = 1024;
    const CAPACITY_BYTES: u64 = 1 << 20;

    #[test]
    fn every_cache_keeps_what_fits_and_no_more() {
        let size = Size { capacity_bytes: Some(CAPACITY_BYTES), value_bytes: VALUE_BYTES };
        let mut values = Values::of(1024);
        for kind in Kind::ALL {
            let cache = kind.make(size).expect("little memory");
            cache.insert(1, values.value(1)).expect("there is room");
            assert_eq!(cache.check(1, Look::Lines), Some(true), "{kind:?}");
            assert_eq!(cache.check(2, Look::Ends), None, "{kind:?}");
            let expected = Tally { hits: 2, wrong: 0 };
            assert_eq!(cache.read_all(&[1, 3, 1], Look::Ends), expected, "{kind:?}");
            for key in 0..10_000 {
                cache.insert(key, values.value(key)).expect("there is room");
            }
            cache.settle();
            let entries = cache.entries();
            let most = CAPACITY_BYTES / VALUE_BYTES;
            assert!((most / 2..=most + most / 8).contains(&entries), "{kind:?}: {entries}");
        }
    }

    #[test]
    fn a_wrong_value_is_found() {
        let size = Size { capacity_bytes: Some(CAPACITY_BYTES), value_bytes: VALUE_BYTES };
        let mut values = Values::of(1024);
        for kind in Kind::ALL {
            let cache = kind.make(size).expect("little memory");
            cache.insert(1, values.value(2)).expect("there is room");
            assert_eq!(cache.check(1, Look::Ends), Some(false), "{kind:?}");
        }
    }
}
