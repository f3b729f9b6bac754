//! A server that forks its workers before it serves, as web servers for Python and Ruby do: the workers share what their parent
//! loaded, and each frees memory of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

use vrange_testing::{scale, skipped};

use crate::support::{Server, Way, assert_back, assert_loaded, has_reclaimer, input, kept_by_plain_run};

const PYTHON: &str = "/usr/bin/python3";
const WORKERS: usize = 3;
/// What parent and workers share: enough that the few that an allocator needs for itself do not count.
const KEPT_MIB: u64 = 48;

/// A connection to one worker, which serves no other as long as it lasts.
struct Worker {
    stream: BufReader<TcpStream>,
    pid: u32,
}

impl Worker {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        let mut worker = Self { stream: BufReader::new(stream), pid: 0 };
        worker.pid = worker.hear().parse().expect("a process number");
        worker
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stream.get_mut(), "{line}").expect("the worker reads");
    }

    #[track_caller]
    fn hear(&mut self) -> String {
        let mut line = String::new();
        let len = self.stream.read_line(&mut line).expect("the worker answers");
        assert!(len > 0, "the worker {} has ended", self.pid);
        line.trim_end().to_owned()
    }
}

/// What a worker answers to `seed count bytes`: the sum of blocks that are all of one byte.
fn sum(seed: u64, count: u64, bytes: u64) -> u64 {
    (0..count).map(|number| ((seed * 31 + number) % 255 + 1) * (bytes + number * 16)).sum()
}

/// The whole load; what is resident of the workers after they freed memory is judged by `judge`. Returns their digests of what
/// they share.
fn load(way: Way, judge: impl FnOnce(&[Worker])) -> Vec<String> {
    let mut command = way.command(Path::new(PYTHON));
    command.arg(input("prefork.py")).args([WORKERS.to_string(), KEPT_MIB.to_string()]);
    let mut server = Server::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut port = String::new();
    let stdout = server.child().stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut port).expect("a line");
    let port = port.trim().parse().expect("the server names its port");
    // While one is connected, the next connection is another worker's.
    let mut workers: Vec<_> = (0..WORKERS).map(|_| Worker::connect(port)).collect();
    for round in 0..scale().pick(6, 60) {
        // Small blocks, large ones, and those of many MiB, by all workers at once.
        for (count, bytes) in [(2000, 1000), (64, 1 << 20), (6, 20 << 20)] {
            for (seed, worker) in (round..).zip(&mut workers) {
                worker.say(&format!("{seed} {count} {bytes}"));
            }
            for (seed, worker) in (round..).zip(&mut workers) {
                assert_eq!(worker.hear(), sum(seed, count, bytes).to_string(), "{way}, round {round}");
            }
        }
    }
    judge(&workers);
    let digests = workers.iter_mut().map(|worker| {
        worker.say("kept");
        worker.hear()
    });
    let digests = digests.collect();
    // The workers end with their input, when nobody is connected.
    drop(workers);
    drop(server.child().stdin.take());
    let status = server.wait_for_end();
    assert!(status.success(), "{way}: {status}");
    digests
}

/// What a worker of the plain run keeps, and the digests.
fn plain() -> &'static (u64, Vec<String>) {
    static PLAIN: OnceLock<(u64, Vec<String>)> = OnceLock::new();
    PLAIN.get_or_init(|| {
        let mut kept = 0;
        let digests = load(Way::Plain, |workers| {
            kept = kept_by_plain_run(workers[0].pid);
        });
        (kept, digests)
    })
}

#[test]
fn prefork_workers_on_mimalloc() {
    let way = Way::Malloc("auto");
    if !Path::new(PYTHON).exists() {
        return skipped("there is no /usr/bin/python3");
    }
    if !way.is_here(None) {
        return;
    }
    let (plain_bytes, plain_digests) = plain();
    let digests = load(way, |workers| {
        for worker in workers {
            assert_loaded("a worker", worker.pid, *plain_bytes);
            assert!(has_reclaimer(worker.pid), "{way}: a worker marks nothing");
            assert_back("a worker", way, worker.pid, *plain_bytes);
        }
    });
    assert_eq!(&digests, plain_digests, "{way}");
}
