//! The example `http_service`: its modules are part of this program, so that it is tested wherever tests run, as a process of its own.
#![cfg(not(loom))]

#[path = "../../examples/http_service/page.rs"]
mod page;
#[path = "../../examples/http_service/service.rs"]
mod service;
#[path = "../../examples/http_service/store.rs"]
mod store;

mod client;
mod load;
mod pressure;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vrange_testing::{Child, Job, Signal, Talk, serve};

use crate::client::Client;
use crate::service::Service;
use crate::store::Store;

/// Not a test: what the child processes of the tests run.
#[test]
fn jobs() {
    serve(&[("service", run_service), ("hog", pressure::run_hog)]);
}

/// The service: says its port, and its counts when it was interrupted.
fn run_service(talk: &mut Talk) {
    let folder = talk.option("folder").expect("a folder").into();
    let store = Store::named(talk.option("store").expect("a store")).expect("a store");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // What is being made is ordinary memory.
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let service = Arc::new(Service { folder, store });
        let answering = tokio::spawn(service::serve(listener, Arc::clone(&service)));
        talk.say(&port.to_string());
        answering.await.expect("no panic").expect("a socket");
        talk.say(&service.store.stats());
    });
}

/// A service in a process of its own.
struct Running {
    child: Child,
    port: u16,
}

impl Running {
    fn start(store: &str, folder: &Path, enter: Option<PathBuf>) -> Self {
        let job = Job::new(format!("service store={store} folder={}", folder.display()));
        let mut child = enter.into_iter().fold(job, Job::enter).start();
        let port = child.hear().expect("a service").parse().expect("a port");
        Self { child, port }
    }

    fn client(&self) -> Client {
        Client::connect(self.port).expect("a service")
    }

    /// Ctrl-C. Returns the counts that the service ends with.
    fn interrupt(mut self) -> String {
        self.child.signal(Signal::INT);
        let stats = self.child.hear().expect("a graceful end");
        assert!(self.child.hear().expect_err("it ends").0.success());
        stats
    }
}

/// One of the counts.
fn count(stats: &str, name: &str) -> u64 {
    let (_, behind) =
        stats.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} in {stats}"));
    let end = behind.find([',', '}']).expect("an end");
    behind[..end].parse().expect("a number")
}

/// Files below the folder for which `is_wanted` says so, in the order of their names, as paths relative to it. No links, and nothing that has
/// to be quoted in a URL.
fn files_below(folder: &Path, is_wanted: &mut dyn FnMut(&Path, u64) -> bool) -> Vec<String> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(next) = folders.pop() {
        let entries = std::fs::read_dir(next).into_iter().flatten().filter_map(Result::ok);
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (Ok(about), path) = (entry.metadata(), entry.path()) else { continue };
            let Some(name) = path.strip_prefix(folder).ok().and_then(Path::to_str) else { continue };
            let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
            if about.is_dir() {
                folders.push(path);
            } else if about.is_file() && is_plain && is_wanted(&path, about.len()) {
                files.push(name.to_owned());
            }
        }
    }
    files
}
