//! PostgreSQL: a server that forks a process for each session, under its own benchmark, looked through by its own tools.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use vrange_testing::{Signal, skipped};

use crate::support::{
    Server, Way, assert_back, assert_loaded, finish, has_reclaimer, is_soak, kept_by_plain_run, said,
};

const OWNER: &str = "postgres";

/// What must come out the same after the same transactions.
const SUMS: &str = "SELECT count(*), sum(abalance), md5(string_agg(aid || ':' || abalance, ',' ORDER BY aid)) FROM pgbench_accounts;
    SELECT count(*), sum(bbalance) FROM pgbench_branches;
    SELECT count(*), sum(tbalance) FROM pgbench_tellers;
    SELECT count(*), sum(delta) FROM pgbench_history;";
/// A session's work: a table of its own, which stays in its memory, and queries that need much and give it back.
const WORK: &str =
    "SET work_mem = '256MB'; SET temp_buffers = '64MB'; SET max_parallel_workers_per_gather = 0;
    CREATE TEMP TABLE kept AS SELECT n, repeat(md5(n::text), 4) AS body FROM generate_series(1, 300000) n;
    SELECT md5(string_agg(filler || aid, ',' ORDER BY md5(aid::text))) FROM pgbench_accounts;
    SELECT md5(string_agg(md5(n::text), ',' ORDER BY md5((n * 7)::text))) FROM generate_series(1, 800000) n;
    SELECT pg_backend_pid();";
/// What it asks of the table afterwards.
const KEPT: &str = "SELECT count(*), md5(string_agg(body, ',' ORDER BY n)) FROM kept;";

/// Where everything of one server lies.
struct Place {
    folder: TempDir,
    /// Of PostgreSQL.
    programs: PathBuf,
    /// A copy of the command that PostgreSQL's user may run, wherever the original lies.
    vrange: PathBuf,
    way: Way,
}

impl Place {
    fn make(programs: &Path, way: Way) -> Self {
        let folder = TempDir::new().expect("a directory");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("to be made readable");
        let own = folder.path().join("own");
        fs::create_dir(&own).expect("a directory");
        if let Some((user, group)) = owner() {
            chown(&own, Some(user), Some(group)).expect("root may");
        }
        let vrange = Way::copy_command(folder.path());
        Self { folder, programs: programs.to_owned(), vrange, way }
    }

    fn own(&self) -> PathBuf {
        self.folder.path().join("own")
    }

    fn data(&self) -> PathBuf {
        self.own().join("data")
    }

    /// A program that works on the data, which root is not allowed to.
    fn of_server(&self, name: &str) -> Command {
        let program = self.way.command_by(&self.vrange, &self.programs.join(name), &[]);
        let Some(_) = owner() else { return program };
        let mut command = Command::new("setpriv");
        command.args(["--reuid", OWNER, "--regid", OWNER, "--init-groups", "--pdeathsig", "KILL", "--"]);
        command.arg(program.get_program()).args(program.get_args()).current_dir("/");
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// A program that talks to the server.
    fn client(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env("PGHOST", self.own()).env("PGUSER", OWNER).env("PGDATABASE", OWNER);
        command
    }

    fn start(&self) -> Server {
        let mut initdb = self.of_server("initdb");
        initdb.args(["--username", OWNER, "--auth", "trust", "--data-checksums", "--no-sync"]);
        finish(initdb.args(["--locale", "C", "--encoding", "UTF8"]).arg("--pgdata").arg(self.data()));
        let mut postgres = self.of_server("postgres");
        postgres.arg("-D").arg(self.data()).arg("-k").arg(self.own()).args(["-c", "listen_addresses="]);
        // The memory that its processes share is no allocator's.
        postgres.args(["-c", "shared_buffers=16MB", "-c", "fsync=off"]);
        let log = fs::File::create(self.folder.path().join("log")).expect("a file");
        let mut server = Server::start(postgres.stderr(log));
        server.wait_for("PostgreSQL", || {
            let ready = self.client("pg_isready").arg("--quiet").status().expect("pg_isready");
            ready.success().then_some(())
        });
        server
    }
}

/// The user and group that run PostgreSQL where we are root: it refuses to run as root.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let number = |of: &str| said(Command::new("id").args([of, OWNER])).trim().parse().expect("a number");
    Some((number("-u"), number("-g")))
}

/// The newest PostgreSQL's programs: Debian keeps those of the server out of the user's path.
fn programs() -> Option<PathBuf> {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let debian =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = debian.max_by_key(version).map(|path| path.join("bin"));
    let found =
        newest.or_else(|| Some(which::which("initdb").ok()?.canonicalize().ok()?.parent()?.to_owned()));
    let names = ["initdb", "postgres", "psql", "pgbench", "pg_amcheck", "pg_checksums", "pg_isready"];
    let all = found.filter(|folder| names.iter().all(|name| folder.join(name).exists()));
    let root = rustix::process::geteuid().is_root();
    let user = !root || Command::new("id").arg(OWNER).output().is_ok_and(|output| output.status.success());
    if all.is_none() || !user {
        skipped("PostgreSQL and a user for it are not installed (Debian: postgresql)");
    }
    all.filter(|_| user)
}

/// Work that a session does, after which `judge` judges what is resident of the session's process. Returns the results.
fn session(place: &Place, judge: impl FnOnce(u32)) -> Vec<String> {
    let mut psql = place.client("psql");
    psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]);
    let mut psql = Server::start(psql.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut stdin = psql.child().stdin.take().expect("a pipe");
    let mut lines = BufReader::new(psql.child().stdout.take().expect("a pipe")).lines();
    writeln!(stdin, "{WORK}").expect("psql reads");
    let mut line = || lines.next().expect("psql answers").expect("text");
    let mut results = vec![line(), line()];
    let pid = line().parse().expect("a process number");
    judge(pid);
    writeln!(stdin, "{KEPT}").expect("psql reads");
    results.push(line());
    drop(stdin);
    let status = psql.wait_for_end();
    assert!(status.success(), "psql: {status}");
    results
}

/// Everything that is done with one server. Returns what came out.
fn work(programs: &Path, way: Way, judge: impl FnOnce(u32)) -> Vec<String> {
    let place = Place::make(programs, way);
    let server = place.start();
    finish(place.client("pgbench").args(["--initialize", "--quiet", "--scale", "5"]));
    // The same transactions in some order, whose sums are the same.
    let mut transactions = place.client("pgbench");
    finish(transactions.args([
        "--client",
        "4",
        "--jobs",
        "2",
        "--transactions",
        "1000",
        "--random-seed",
        "7",
    ]));
    let mut results = session(&place, judge);
    results.push(said(place.client("psql").args([
        "--no-psqlrc",
        "--tuples-only",
        "--no-align",
        "--command",
        SUMS,
    ])));
    // A process for each transaction.
    let mut sessions = place.client("pgbench");
    finish(sessions.args(["--connect", "--select-only", "--client", "4", "--time", "5"]));
    let mut transactions = place.client("pgbench");
    finish(transactions.args(["--client", "4", "--jobs", "2", "--time", "5"]));
    finish(place.client("pg_amcheck").args(["--all", "--install-missing", "--heapallindexed"]));
    let status = server.end(Signal::INT);
    assert!(status.success(), "{way}: {status}");
    finish(place.of_server("pg_checksums").arg("--check").arg("--pgdata").arg(place.data()));
    results
}

#[test]
fn postgresql_on_mimalloc() {
    let way = Way::Malloc("auto");
    if !is_soak() || !way.is_here(None) {
        return;
    }
    let Some(programs) = programs() else { return };
    let mut plain_bytes = 0;
    let plain = work(&programs, Way::Plain, |pid| plain_bytes = kept_by_plain_run(pid));
    let ours = work(&programs, way, |pid| {
        assert_loaded("a session of PostgreSQL", pid, plain_bytes);
        assert!(has_reclaimer(pid), "{way}: a session of PostgreSQL marks nothing");
        assert_back("a session of PostgreSQL", way, pid, plain_bytes);
    });
    assert_eq!(ours, plain, "{way}");
}
