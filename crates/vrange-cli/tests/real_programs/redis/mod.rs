//! Redis, which on Debian brings jemalloc with it: values of all sizes, a snapshot by a child while the parent frees what both
//! have, and its own benchmark.

mod client;

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;
use vrange_testing::{Signal, scale};

use self::client::Client;
use crate::support::{
    Server, Way, assert_back, assert_loaded, content, finish, has_reclaimer, kept_by_plain_run, program,
};

/// What stays to the end: 40 MiB, beside which the few that an allocator needs for itself do not count. First in memory, so that
/// what is freed later lies apart.
const KEPT: Values = Values { name: "kept", small: 4000, large: 20 };
/// What is freed: 90 MiB.
const FREED: Values = Values { name: "freed", small: 5000, large: 40 };

/// Values whose contents follow from their names.
struct Values {
    name: &'static str,
    small: usize,
    large: usize,
}

impl Values {
    /// Name and length of each.
    fn all(&self) -> impl Iterator<Item = (String, usize)> {
        let small = (0..self.small).map(|number| (number, 16 + number * 4999 % 12_000));
        let large =
            (0..self.large).map(|number| (number + self.small, 300_000 + number * 65_536 % 3_000_000));
        small.chain(large).map(|(number, len)| (format!("{}:{number}", self.name), len))
    }

    fn set(&self, client: &mut Client) {
        for (name, len) in self.all() {
            client.ask(&[b"SET", name.as_bytes(), &content(&name, len)]);
        }
    }

    #[track_caller]
    fn verify(&self, client: &mut Client) {
        for (name, len) in self.all() {
            let found = client.ask(&[b"GET", name.as_bytes()]);
            assert!(
                found.is_some_and(|value| value == content(&name, len)),
                "{name} of {len} bytes is wrong"
            );
        }
    }

    /// Deletes every `step`th.
    fn delete(&self, client: &mut Client, step: usize) {
        for (name, _) in self.all().step_by(step) {
            client.ask(&[b"DEL", name.as_bytes()]);
        }
    }
}

/// A server in a directory of its own.
struct Redis {
    server: Server,
    client: Client,
    socket: PathBuf,
}

impl Redis {
    fn start(way: Way, folder: &Path, name: &str) -> Self {
        let socket = folder.join(name);
        let log = File::create(folder.join("log")).expect("a file");
        let mut command = way.command(&server_program(folder));
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--rdbcompression", "no"]);
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(folder);
        if way == Way::Plain {
            // Both give back what has been free for the same second.
            command.env("MALLOC_CONF", "dirty_decay_ms:1000,muzzy_decay_ms:0");
        }
        let mut server = Server::start(command.stdout(log));
        let client = server.wait_for("redis-server to have read its snapshot", || {
            let mut client = Client::connect(&socket)?;
            (client.info("loading") == "0").then_some(client)
        });
        Self { server, client, socket }
    }

    #[track_caller]
    fn end(self) {
        let status = self.server.end(Signal::TERM);
        assert!(status.success(), "redis-server: {status}");
    }

    /// Has a child write a snapshot while this process frees half of what both have, and puts other values there.
    fn snapshot(&mut self) {
        // Microseconds for each value, so that the child is not done before we begin.
        self.client.say(&["CONFIG", "SET", "rdb-key-save-delay", "100"]);
        self.client.say(&["BGSAVE"]);
        FREED.delete(&mut self.client, 2);
        Values { name: "later", ..FREED }.set(&mut self.client);
        let Self { server, client, .. } = self;
        server.wait_for("the snapshot", || (client.info("rdb_bgsave_in_progress") == "0").then_some(()));
        assert_eq!(client.info("rdb_last_bgsave_status"), "ok");
    }

    /// The benchmark of Redis itself, in a database of its own.
    fn benchmark(&self) {
        let mut command = Command::new(which::which("redis-benchmark").expect("it is there"));
        let requests = scale().pick("5000", "200000");
        command.args(["-n", requests, "-r", "5000", "-d", "2000", "-P", "8", "--dbnum", "1", "-q"]);
        command.args(["-t", "set,get,incr,lpush,lpop,sadd,spop,hset,zadd,mset"]);
        let output = finish(command.arg("-s").arg(&self.socket));
        let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert!(said.contains("requests per second") && !said.contains("err"), "{said}");
    }
}

/// The server's program. It is the same as another, under its own name, so that the package of tools has it too: it, unlike that
/// of the server, starts no service when it is installed.
fn server_program(folder: &Path) -> PathBuf {
    let path = folder.join("redis-server");
    if !path.exists() {
        symlink(which::which("redis-check-rdb").expect("it is there"), &path).expect("a link");
    }
    path
}

/// The whole load; what is resident after memory was freed is judged by `judge`.
fn load(way: Way, judge: impl FnOnce(&Server)) {
    let folder = TempDir::new().expect("a directory");
    let mut redis = Redis::start(way, folder.path(), "first");
    KEPT.set(&mut redis.client);
    FREED.set(&mut redis.client);
    KEPT.verify(&mut redis.client);
    FREED.verify(&mut redis.client);
    redis.snapshot();
    // Another server has what there was when the child was made.
    let mut second = Redis::start(way, folder.path(), "second");
    KEPT.verify(&mut second.client);
    FREED.verify(&mut second.client);
    assert_eq!(second.client.say(&["DBSIZE"]), (KEPT.all().count() + FREED.all().count()).to_string());
    second.end();
    redis.benchmark();
    redis.client.say(&["SELECT", "1"]);
    redis.client.say(&["FLUSHDB", "SYNC"]);
    redis.client.say(&["SELECT", "0"]);
    FREED.delete(&mut redis.client, 1);
    Values { name: "later", ..FREED }.delete(&mut redis.client, 1);
    judge(&redis.server);
    KEPT.verify(&mut redis.client);
    KEPT.delete(&mut redis.client, 1);
    assert_eq!(redis.client.say(&["DBSIZE"]), "0");
    redis.end();
}

/// What a server without us keeps.
fn plain_bytes(way: Way) -> u64 {
    let mut kept = 0;
    load(way, |server| kept = kept_by_plain_run(server.pid()));
    kept
}

fn check(malloc: &'static str) {
    static PLAIN: OnceLock<u64> = OnceLock::new();
    let way = Way::Malloc(malloc);
    // Of one package on Debian.
    let programs = ["redis-check-rdb", "redis-benchmark"];
    if !programs.iter().all(|name| program(name).is_some()) || !way.is_here(Some("jemalloc")) {
        return;
    }
    let plain = match malloc {
        // The same allocator without us, where it is another than the program's own.
        "tcmalloc" => plain_bytes(Way::Tcmalloc),
        "mimalloc" => plain_bytes(Way::Mimalloc),
        _ => *PLAIN.get_or_init(|| plain_bytes(Way::Plain)),
    };
    load(way, |server| {
        assert_loaded("redis-server", server.pid(), plain);
        assert!(has_reclaimer(server.pid()), "{way}: redis-server marks nothing");
        assert_back("redis-server", way, server.pid(), plain);
    });
}

#[test]
fn redis_on_the_jemalloc_it_brings() {
    check("auto");
}

#[test]
fn redis_on_mimalloc() {
    check("mimalloc");
}

#[test]
fn redis_on_tcmalloc() {
    check("tcmalloc");
}
