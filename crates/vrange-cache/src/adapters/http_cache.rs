//! HTTP responses in volatile memory: the storage of [`http-cache`](http_cache), the cache of reqwest-middleware and surf (feature
//! `http-cache`).
//!
//! This trait was the first to get an adapter, since what it stores fits a cache of bytes: whole responses, which are copied in and out
//! anyway, which can be fetched again by definition, and of which nobody knows beforehand how much memory they should have. (The
//! traits of `cached` hand out clones of a program's own types, which would have to be serialised for nothing. An `object_store`
//! has parts of objects, lists and conditional writes to be right about, which is a cache of its own.)
//!
//! ```
//! use http_cache_reqwest::{Cache, CacheMode, HttpCache, HttpCacheOptions};
//! use vrange_cache::adapters::http_cache::VrangeManager;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let manager = VrangeManager::new(vrange_cache::Cache::new()?);
//! let client = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
//!     .with(Cache(HttpCache { mode: CacheMode::Default, manager, options: HttpCacheOptions::default() }))
//!     .build();
//! # drop(client);
//! # Ok(())
//! # }
//! ```

use http_cache::{CacheManager, HttpResponse, Result};
use http_cache_semantics::CachePolicy;

use crate::Cache;

/// Bytes before a response: the length of its head.
const PREFIX_BYTES: usize = size_of::<u32>();

/// Stores responses in a [`Cache`], under the keys that [`http-cache`](http_cache) makes. Cloning gives another handle to the same cache.
///
/// A response whose memory was taken is fetched again, as one that was never there, and one for which there is no room is passed on without
/// being kept: neither is an error. What is kept follows the rules of HTTP alone, and those of the cache given to
/// [`new`](Self::new): its limit, its time to live, its listener.
///
/// The body is copied once on its way in and once on its way out. Nothing here waits, so the futures are ready at once.
#[derive(Clone, Debug)]
pub struct VrangeManager {
    cache: Cache<String>,
}

impl VrangeManager {
    /// Stores in this cache. It may be looked at and cleared, and shared with others whose keys are different: what was put in by somebody
    /// else under the key of a response is not taken for one.
    pub fn new(cache: Cache<String>) -> Self {
        Self { cache }
    }

    /// Where responses are stored: for [`stats`](Cache::stats), for instance.
    pub fn cache(&self) -> &Cache<String> {
        &self.cache
    }
}

#[async_trait::async_trait]
impl CacheManager for VrangeManager {
    async fn get(&self, cache_key: &str) -> Result<Option<(HttpResponse, CachePolicy)>> {
        Ok(self.cache.get(cache_key).and_then(|stored| read(&stored)))
    }

    async fn put(
        &self,
        cache_key: String,
        mut response: HttpResponse,
        policy: CachePolicy,
    ) -> Result<HttpResponse> {
        // The body goes in as it is, and the head does not contain it.
        let body = std::mem::take(&mut response.body);
        let head = postcard::to_allocvec(&(&response, &policy))?;
        response.body = body;
        let prefix = u32::try_from(head.len())?.to_le_bytes();
        let bytes = PREFIX_BYTES + head.len() + response.body.len();
        let kept = self.cache.insert_with(cache_key.clone(), bytes, |target| {
            let (target_prefix, rest) = target.split_at_mut(PREFIX_BYTES);
            let (target_head, target_body) = rest.split_at_mut(head.len());
            target_prefix.copy_from_slice(&prefix);
            target_head.copy_from_slice(&head);
            target_body.copy_from_slice(&response.body);
        });
        if kept.is_err() {
            // No room for it. What was there before is out of date.
            self.cache.remove(&cache_key);
        }
        Ok(response)
    }

    async fn delete(&self, cache_key: &str) -> Result<()> {
        self.cache.remove(cache_key);
        Ok(())
    }
}

/// A response as [`put`](CacheManager::put) has written it. `None`: it was somebody else who wrote that.
fn read(stored: &[u8]) -> Option<(HttpResponse, CachePolicy)> {
    let (prefix, rest) = stored.split_first_chunk::<PREFIX_BYTES>()?;
    let head_bytes = usize::try_from(u32::from_le_bytes(*prefix)).ok()?;
    let (head, body) = rest.split_at_checked(head_bytes)?;
    let (mut response, policy): (HttpResponse, CachePolicy) = postcard::from_bytes(head).ok()?;
    response.body = body.to_vec();
    Some((response, policy))
}
