//! The adapter for `http-cache`, under the real client against a server on loopback that counts what it is asked.
#![cfg(not(loom))]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_cache_reqwest::{Cache as Caching, CacheManager, CacheMode, HttpCache, HttpCacheOptions};
use reqwest_middleware::ClientWithMiddleware;
use vrange::Heap;
use vrange_cache::adapters::http_cache::VrangeManager;
use vrange_cache::{Builder, Cache, Cause};

const MIB: usize = 1 << 20;

/// What the server was asked.
#[derive(Default)]
struct Asked {
    /// Requests that were answered with a body.
    full: AtomicUsize,
    /// Requests that were answered with 304.
    unchanged: AtomicUsize,
    /// Counted up to change all bodies.
    edition: AtomicUsize,
}

impl Asked {
    /// What was asked since the last time, as (full, unchanged).
    fn take(&self) -> (usize, usize) {
        (self.full.swap(0, Ordering::SeqCst), self.unchanged.swap(0, Ordering::SeqCst))
    }
}

/// All bytes there are, in an order of the edition's and length's own.
fn body(edition: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 + at / 251 + edition * 7 + bytes).to_le_bytes()[0]).collect()
}

/// `how` is `fresh` for an hour, or `checked` each time it is used.
async fn answer(
    State(asked): State<Arc<Asked>>,
    Path((how, bytes)): Path<(String, usize)>,
    headers: HeaderMap,
) -> Response {
    let edition = asked.edition.load(Ordering::SeqCst);
    let tag = format!("\"{edition}-{bytes}\"");
    let control = if how == "fresh" { "max-age=3600" } else { "max-age=0" };
    let fields = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, control.to_owned())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == tag) {
        asked.unchanged.fetch_add(1, Ordering::SeqCst);
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    asked.full.fetch_add(1, Ordering::SeqCst);
    (fields, body(edition, bytes)).into_response()
}

/// A server, and a client with a cache.
struct Scene {
    asked: Arc<Asked>,
    address: SocketAddr,
    client: ClientWithMiddleware,
    manager: VrangeManager,
}

impl Scene {
    async fn set(settings: Builder<String, [u8]>) -> Self {
        let asked = Arc::<Asked>::default();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let changed = |State(_): State<Arc<Asked>>| async { StatusCode::NO_CONTENT };
        let router = Router::new().route("/{how}/{bytes}", get(answer).post(changed));
        let router = router.with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let manager = VrangeManager::new(settings.build().expect("a cache"));
        let client = client(manager.clone());
        Self { asked, address, client, manager }
    }

    fn url(&self, how: &str, bytes: usize) -> String {
        format!("http://{}/{how}/{bytes}", self.address)
    }

    /// Fetches, and checks all that came. Returns whether it says that it comes from the cache.
    async fn fetch(&self, how: &str, bytes: usize) -> bool {
        let response = self.client.get(self.url(how, bytes)).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let edition = self.asked.edition.load(Ordering::SeqCst);
        assert_eq!(response.headers()[header::ETAG], format!("\"{edition}-{bytes}\""));
        let is_hit = response.headers()["x-cache"] == "HIT";
        let found: Bytes = response.bytes().await.expect("a body");
        assert!(found == body(edition, bytes), "{bytes} bytes are not those of the server");
        is_hit
    }
}

fn client(manager: VrangeManager) -> ClientWithMiddleware {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let caching = HttpCache { mode: CacheMode::Default, manager, options: HttpCacheOptions::default() };
    reqwest_middleware::ClientBuilder::new(client).with(Caching(caching)).build()
}

#[tokio::test]
async fn what_is_fresh_is_not_asked_for_again() {
    let scene = Scene::set(Cache::builder()).await;
    for bytes in [0, 1, 1000, MIB / 8, MIB, 3 * MIB] {
        assert!(!scene.fetch("fresh", bytes).await);
        for _ in 0..3 {
            assert!(scene.fetch("fresh", bytes).await);
        }
        assert_eq!(scene.asked.take(), (1, 0), "{bytes} bytes");
    }
    assert_eq!(scene.manager.cache().stats().hits, 18);
    // Another client has the same cache.
    let other = Scene { client: client(scene.manager.clone()), ..scene };
    assert!(other.fetch("fresh", MIB).await);
    assert_eq!(other.asked.take(), (0, 0));
}

#[tokio::test]
async fn what_is_out_of_date_is_checked_and_only_what_has_changed_is_sent() {
    let scene = Scene::set(Cache::builder()).await;
    for bytes in [1000, MIB] {
        scene.fetch("checked", bytes).await;
        assert_eq!(scene.asked.take(), (1, 0));
        assert!(scene.fetch("checked", bytes).await);
        assert!(scene.fetch("checked", bytes).await);
        assert_eq!(scene.asked.take(), (0, 2), "unchanged");
        scene.asked.edition.fetch_add(1, Ordering::SeqCst);
        assert!(!scene.fetch("checked", bytes).await);
        assert_eq!(scene.asked.take(), (1, 0), "changed");
        assert!(scene.fetch("checked", bytes).await);
        assert_eq!(scene.asked.take(), (0, 1), "the new one was kept");
    }
}

#[tokio::test]
async fn what_is_changed_through_the_client_is_forgotten() {
    let scene = Scene::set(Cache::builder()).await;
    scene.fetch("fresh", 1000).await;
    scene.asked.edition.fetch_add(1, Ordering::SeqCst);
    scene.client.post(scene.url("fresh", 1000)).send().await.expect("an answer");
    assert!(!scene.fetch("fresh", 1000).await);
    assert_eq!(scene.asked.take(), (2, 0));
}

#[tokio::test]
async fn what_memory_was_taken_of_is_fetched_again() {
    let heap = Heap::new().expect("a heap");
    let purged = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&purged);
    let listener = move |_: &String, cause| {
        assert_eq!(cause, Cause::Purged);
        count.fetch_add(1, Ordering::SeqCst);
    };
    let scene = Scene::set(Cache::builder().heap(heap.clone()).listener(listener)).await;
    let lengths = || (100_000..100_060).chain([MIB, 2 * MIB]);
    let mut hits = 0;
    for bytes in lengths() {
        scene.fetch("fresh", bytes).await;
    }
    for bytes in lengths() {
        hits += usize::from(scene.fetch("fresh", bytes).await);
    }
    assert_eq!((hits, scene.asked.take()), (62, (62, 0)), "nothing was taken yet");
    assert!(heap.reclaim(u64::MAX) > 0);
    for bytes in lengths() {
        scene.fetch("fresh", bytes).await;
    }
    // What is being filled stays: at most one segment of 2 MiB.
    let (again, _) = scene.asked.take();
    assert!((42..=62).contains(&again), "{again} were fetched again");
    assert_eq!(purged.load(Ordering::SeqCst), again);
    for bytes in lengths() {
        assert!(scene.fetch("fresh", bytes).await, "it was kept anew");
    }
}

#[tokio::test]
async fn what_there_is_no_room_for_comes_all_the_same_and_nothing_old_stays() {
    let scene = Scene::set(Cache::builder().max_bytes(4 * MIB as u64)).await;
    for _ in 0..2 {
        assert!(!scene.fetch("fresh", 3 * MIB).await);
    }
    assert_eq!(scene.asked.take(), (2, 0));
    assert!(scene.manager.cache().is_empty());

    // A response that fits is followed by one that does not.
    let key = "GET:somewhere";
    let (response, policy) = {
        scene.fetch("fresh", 1000).await;
        let stored = format!("GET:{}", scene.url("fresh", 1000));
        scene.manager.get(&stored).await.expect("no error").expect("stored")
    };
    scene.manager.put(key.to_owned(), response.clone(), policy.clone()).await.expect("no error");
    assert!(scene.manager.get(key).await.expect("no error").is_some());
    let mut larger = response;
    larger.body = vec![1; 3 * MIB];
    let passed_on = scene.manager.put(key.to_owned(), larger, policy).await.expect("no error");
    assert!(passed_on.body == vec![1; 3 * MIB]);
    assert!(scene.manager.get(key).await.expect("no error").is_none(), "the old one is out of date");
}

#[tokio::test]
async fn what_somebody_else_has_put_in_is_not_taken_for_a_response() {
    let scene = Scene::set(Cache::builder()).await;
    let key = format!("GET:{}", scene.url("fresh", 1000));
    scene.fetch("fresh", 1000).await;
    let stored = scene.manager.cache().get(&key).expect("stored").to_vec();
    let head_bytes = stored.len() - 1000 - 4;
    let claims_too_much = [&(u32::MAX).to_le_bytes()[..], &stored[4..]].concat();
    for not_ours in [&[][..], &[1, 0], &stored[..4 + head_bytes / 2], &claims_too_much, &[0xff; 500]] {
        scene.manager.cache().insert(key.clone(), not_ours).expect("room");
        assert!(!scene.fetch("fresh", 1000).await);
        assert!(scene.fetch("fresh", 1000).await, "and is replaced");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_a_time_get_what_they_asked_for() {
    let scene = Arc::new(Scene::set(Cache::builder().max_bytes(8 * MIB as u64)).await);
    let misses = Arc::new(Mutex::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (scene, misses) = (Arc::clone(&scene), Arc::clone(&misses));
            tokio::spawn(async move {
                for turn in 0..100 {
                    // Together they are more than there is room for.
                    let bytes = 1000 + (task * 37 + turn * 13) % 97 * 1500;
                    let is_hit = scene.fetch(if turn % 3 == 0 { "checked" } else { "fresh" }, bytes).await;
                    *misses.lock().expect("whole") += usize::from(!is_hit);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let (full, _) = scene.asked.take();
    assert_eq!(full, *misses.lock().expect("whole"));
    assert!(full < 800, "{full} of 800 from the server");
}
