//! Where pages are kept once they were made.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::body::Bytes;
use vrange_cache::Cache;

/// Which page, of which state of its file: when the file changes, its old pages are not found any more, and go in time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) path: PathBuf,
    pub(crate) modified: SystemTime,
    pub(crate) is_compressed: bool,
}

/// The example's subject is the first; the others are there to be compared with it.
pub(crate) enum Store {
    /// In memory that the kernel may have back.
    Volatile(Cache<Key>),
    /// In ordinary memory, all that was ever made: a cache without a limit, as one should not write it.
    Ordinary(Mutex<HashMap<Key, Arc<[u8]>>>),
    /// Nowhere.
    None,
}

impl Store {
    /// One of `volatile`, `ordinary` and `none`.
    pub(crate) fn named(name: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        match name {
            "volatile" => Ok(Self::Volatile(Cache::builder().name("pages").build()?)),
            "ordinary" => Ok(Self::Ordinary(Mutex::default())),
            "none" => Ok(Self::None),
            other => Err(format!("{other}: one of volatile, ordinary, none was expected").into()),
        }
    }

    /// The page, which is made if it is not there.
    ///
    /// It is copied for the response. An entry could be lent to the socket instead, but then whoever reads slowly decides for how long it
    /// is held, and with it memory that the kernel could have had.
    pub(crate) async fn get_or_make<F: Future<Output = io::Result<Vec<u8>>>>(
        &self,
        key: Key,
        make: impl FnOnce() -> F,
    ) -> io::Result<Bytes> {
        match self {
            Self::Volatile(cache) => {
                let page = cache.try_get_or_insert_with_async(key, make).await?;
                Ok(Bytes::copy_from_slice(&page))
            }
            Self::Ordinary(pages) => {
                let found = pages.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
                let page = match found {
                    Some(page) => page,
                    None => Arc::from(make().await?),
                };
                let mut pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(Bytes::copy_from_slice(pages.entry(key).or_insert(page)))
            }
            Self::None => Ok(make().await?.into()),
        }
    }

    /// Counts, as a JSON object.
    pub(crate) fn stats(&self) -> String {
        match self {
            Self::Volatile(cache) => {
                let stats = cache.stats();
                format!(
                    r#"{{"hits":{},"misses":{},"purged":{},"evicted":{},"entries":{},"resident_bytes":{},"offered_bytes":{}}}"#,
                    stats.hits,
                    stats.misses,
                    stats.purged,
                    stats.evicted,
                    stats.entries,
                    stats.resident_bytes,
                    stats.offered_bytes
                )
            }
            Self::Ordinary(pages) => {
                let pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
                let bytes: usize = pages.values().map(|page| page.len()).sum();
                format!(r#"{{"entries":{},"resident_bytes":{bytes}}}"#, pages.len())
            }
            Self::None => "{}".to_owned(),
        }
    }
}
