//! memcached, with the test of its protocol and the load that libmemcached's tools bring.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use vrange_testing::Signal;

use crate::support::{
    Server, Way, assert_back, content, finish, has_reclaimer, is_soak, kept_by_plain_run, program, said,
};

/// Values, as files for the tools: of up to 900 KB, 135 MB in all.
const VALUES: usize = 300;

/// The tools, by the names that they have on Debian or elsewhere.
struct Tools {
    capable: PathBuf,
    load: PathBuf,
}

impl Tools {
    fn find() -> Option<Self> {
        let either =
            |debian: &str, elsewhere: &str| which::which(debian).or_else(|_| which::which(elsewhere)).ok();
        let found = either("memccapable", "memcapable").zip(either("memcaslap", "memaslap"));
        let others =
            ["memccp", "memccat", "memcrm", "memcflush"].iter().all(|name| which::which(name).is_ok());
        let Some((capable, load)) = found.filter(|_| others) else {
            vrange_testing::skipped("there is no memccapable or memcaslap (Debian: libmemcached-tools)");
            return None;
        };
        Some(Self { capable, load })
    }

    /// Starts a server, gives it work, and has `judge` judge what is resident at the end.
    fn load(&self, way: Way, judge: impl FnOnce(&Server)) {
        let folder = TempDir::new().expect("a directory");
        let (mut server, port) = start(way, folder.path());
        server.wait_for("memcached", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let said_of_it = said(Command::new(&self.capable).args(["-h", "127.0.0.1", "-p", &port.to_string()]));
        assert!(said_of_it.contains("All tests passed"), "{way}: {said_of_it}");
        let mut load = Command::new(&self.load);
        load.args(["-T", "2", "-c", "16", "-t", "5s", "-v", "1.0", "-s", &format!("127.0.0.1:{port}")]);
        let counts = said(&mut load);
        for none in ["verify_failed: 0", "verify_misses: 0"] {
            assert!(counts.lines().any(|line| line.trim() == none), "{way}: {counts}");
        }
        values(way, port, folder.path());
        judge(&server);
        let status = server.end(Signal::TERM);
        assert!(status.success(), "{way}: {status}");
    }
}

/// Starts a server at a port of its own choice.
fn start(way: Way, folder: &Path) -> (Server, u16) {
    let file = folder.join("port");
    let mut command = way.command(&which::which("memcached").expect("it is there"));
    // The user is for root, whom it refuses to serve otherwise.
    command.args(["-l", "127.0.0.1", "-p", "-1", "-u", "root", "-m", "256"]);
    let mut server = Server::start(command.env("MEMCACHED_PORT_FILENAME", &file));
    let port = server.wait_for("memcached's port", || {
        fs::read_to_string(&file)
            .ok()?
            .lines()
            .find_map(|line| line.strip_prefix("TCP INET: ")?.trim().parse().ok())
    });
    (server, port)
}

/// Stores values, reads them back, deletes some, reads the others, and deletes all.
fn values(way: Way, port: u16, folder: &Path) {
    let names: Vec<_> = (0..VALUES).map(|number| format!("value-{number}")).collect();
    let of = |name: &String| {
        content(name, 16 + 3001 * name.trim_start_matches("value-").parse::<usize>().expect("a number"))
    };
    for name in &names {
        fs::write(folder.join(name), of(name)).expect("a file");
    }
    let tool = |program: &str, names: &[String]| {
        let mut command = Command::new(program);
        command.arg(format!("--servers=127.0.0.1:{port}")).args(names).current_dir(folder);
        finish(&mut command).stdout
    };
    // Each value with a line feed behind it.
    let expected = |names: &[String]| {
        names.iter().flat_map(|name| [of(name), b"\n".to_vec()]).flatten().collect::<Vec<u8>>()
    };
    tool("memccp", &names);
    assert!(tool("memccat", &names) == expected(&names), "{way}: wrong values");
    let (gone, rest) = names.split_at(VALUES / 2);
    tool("memcrm", gone);
    assert!(tool("memccat", rest) == expected(rest), "{way}: wrong values after others were deleted");
    tool("memcflush", &[]);
}

#[test]
fn memcached_on_mimalloc() {
    let way = Way::Malloc("auto");
    if !is_soak() || program("memcached").is_none() || !way.is_here(None) {
        return;
    }
    let Some(tools) = Tools::find() else { return };
    let mut plain = 0;
    tools.load(Way::Plain, |server| plain = kept_by_plain_run(server.pid()));
    // It keeps its slabs, so that no load is needed: there must not be more.
    tools.load(way, |server| {
        assert!(has_reclaimer(server.pid()), "{way}: memcached marks nothing");
        assert_back("memcached", way, server.pid(), plain);
    });
}
