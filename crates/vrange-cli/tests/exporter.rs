//! `vrange exporter`, asked over loopback as Prometheus asks, and by people with other intentions.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, kill_process};
use serde_json::Value;
use vrange::{Buffer, Heap};
use vrange_os::PAGE_BYTES;
use vrange_testing::{Job, Signal, Talk, serve, skipped};

#[test]
fn jobs() {
    serve(&[("volatile", volatile)]);
}

/// A heap with 3 MiB that are offered, and a MiB that is not.
fn volatile(talk: &mut Talk) {
    let heap = Heap::builder().name("pictures").build().expect("a heap");
    let buffers: Vec<Buffer> = (0..5)
        .map(|_| {
            let mut buffer = heap.buffer(256 * PAGE_BYTES).expect("a buffer");
            buffer.pin_mut().intact().expect("new").fill(7);
            buffer
        })
        .collect();
    assert!(buffers[1..4].iter().all(Buffer::offer));
    assert!(buffers[4].release());
    talk.say("ready");
    talk.hear();
}

/// The exporter, on a port that was free.
struct Exporter {
    process: Child,
    address: SocketAddr,
}

impl Exporter {
    fn start(arguments: &[&str]) -> Self {
        let mut command: Command = common::vrange();
        command.args(["exporter", "--listen", "127.0.0.1:0"]).args(arguments).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the command starts");
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().expect("a pipe was asked for"));
        output.read_line(&mut line).expect("its address");
        let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics"));
        let address = address.and_then(|address| address.parse().ok()).expect("an address");
        Self { process, address }
    }

    fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(self.address).expect("it listens");
        connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        connection
    }

    /// Everything that comes back.
    fn ask(&self, request: &[u8]) -> String {
        let mut connection = self.connect();
        connection.write_all(request).expect("it reads");
        let mut answer = Vec::new();
        // Whoever is sent off in the middle of what he says may see a reset.
        let _ = connection.read_to_end(&mut answer);
        String::from_utf8(answer).expect("text")
    }

    /// Head and body of an answer.
    fn get(&self, path: &str) -> (String, String) {
        let answer = self.ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), body.to_owned())
    }

    /// Waits until it shows what the process has offered.
    fn wait_for_offers(&self, child: &vrange_testing::Child) {
        common::wait_until("3 MiB offered", || {
            self.value("vrange_offered_bytes", child.pid()) == Some(f64::from(3 << 20))
        });
    }

    /// The value of a process's series, if it has it.
    fn value(&self, series: &str, pid: u32) -> Option<f64> {
        let body = self.get("/metrics").1;
        let begin = format!("{series}{{pid=\"{pid}\",");
        let line = body.lines().find(|line| line.starts_with(&begin))?;
        line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn started() -> vrange_testing::Child {
    let mut child = Job::new("volatile").start();
    assert_eq!(child.hear().expect("it runs"), "ready");
    child
}

#[test]
fn a_scrape_has_what_stat_shows() {
    let child = started();
    let exporter = Exporter::start(&[]);
    exporter.wait_for_offers(&child);
    let (head, body) = exporter.get("/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let shown = common::json(&common::run(&["stat", "--json", &child.pid().to_string()]));
    let heap = &shown["processes"][0]["heaps"][0];
    for (series, figure) in [
        ("vrange_pinned_bytes", &heap["pinned"]["bytes"]),
        ("vrange_volatile_bytes", &heap["volatile"]["bytes"]),
        ("vrange_offered_bytes", &heap["offered"]["bytes"]),
        ("vrange_offers_bytes_total", &heap["offered_bytes_total"]),
        ("vrange_rescued_bytes_total", &heap["rescued_bytes_total"]),
        ("vrange_lost_bytes_total", &heap["lost_bytes_total"]),
        ("vrange_released_bytes_total", &heap["released_bytes_total"]),
    ] {
        assert_eq!(exporter.value(series, child.pid()), figure.as_f64(), "{series}: {heap}");
    }
    assert_eq!(exporter.value("vrange_released_bytes_total", child.pid()), Some(f64::from(1 << 20)));
    // A process that has ended leaves nothing behind.
    let pid = child.pid();
    drop(child);
    common::wait_until("its end", || exporter.value("vrange_offered_bytes", pid).is_none());
}

#[test]
fn only_what_was_asked_for_is_served() {
    let (wanted, other) = (started(), started());
    let exporter = Exporter::start(&[&wanted.pid().to_string()]);
    common::wait_until("the process", || {
        exporter.value("vrange_offered_bytes", wanted.pid()) == Some(f64::from(3 << 20))
    });
    assert_eq!(exporter.value("vrange_offered_bytes", other.pid()), None);
    assert!(exporter.get("/metrics").1.contains("\nvrange_processes 1\n"));
}

#[test]
fn other_requests_are_answered_by_the_book() {
    let exporter = Exporter::start(&[]);
    let begins = |answer: &str, begin: &str| assert!(answer.starts_with(begin), "{begin}: {answer}");
    begins(&exporter.get("/").1, "The figures of vrange are at /metrics.");
    begins(&exporter.get("/etc/passwd").0, "HTTP/1.1 404");
    begins(&exporter.get("/metrics?x=1").0, "HTTP/1.1 200");
    let posted = exporter.ask(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    begins(&posted, "HTTP/1.1 405");
    assert!(posted.to_lowercase().contains("allow: get, head"), "{posted}");
    let head = exporter.ask(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    begins(&head, "HTTP/1.1 200");
    assert!(head.ends_with("\r\n\r\n"), "a head and no body: {head}");
    begins(&exporter.ask(b"nonsense\r\n\r\n"), "HTTP/1.1 400");
    begins(&exporter.ask(&[b"GET /".as_slice(), &vec![b'a'; 1 << 20]].concat()), "HTTP/1.1 4");
}

/// Who says nothing, or half of something, keeps nobody else from being answered, and is sent away.
#[test]
fn slow_clients_do_not_block_it() {
    let exporter = Exporter::start(&[]);
    let mut silent: Vec<TcpStream> = (0..20).map(|_| exporter.connect()).collect();
    silent[0].write_all(b"GET /metrics HTTP/1.1\r\nHos").expect("it reads");
    assert!(exporter.get("/metrics").0.starts_with("HTTP/1.1 200"));
    for mut connection in silent {
        let mut answer = Vec::new();
        let ended = connection.read_to_end(&mut answer);
        assert!(ended.is_ok(), "it is still connected: {ended:?}");
    }
}

#[test]
fn addresses_that_it_should_not_or_cannot_have_are_refused() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9500"] {
        let output = common::run(&["exporter", "--listen", address]);
        assert_eq!(output.status.code(), Some(2), "{address}: {}", common::stderr(&output));
        assert!(common::stderr(&output).contains("--allow-remote"), "{}", common::stderr(&output));
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = common::run(&["exporter", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        common::stderr(&output).contains(&format!("listening on {address}")),
        "{}",
        common::stderr(&output)
    );
    // An address of no machine here: the user has insisted, and the system refuses.
    let output = common::run(&["exporter", "--allow-remote", "--listen", "192.0.2.1:9500"]);
    assert_eq!(output.status.code(), Some(1), "{}", common::stderr(&output));
}

#[test]
fn signals_end_it_with_success() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut exporter = Exporter::start(&[]);
        assert!(exporter.get("/metrics").0.starts_with("HTTP/1.1 200"));
        kill_process(Pid::from_child(&exporter.process), signal).expect("a child of ours");
        assert_eq!(exporter.process.wait().expect("it ends").code(), Some(0));
    }
}

/// The page on containers, which tells what to watch.
fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/containers.md")).expect("the page")
}

/// The rules that stand in it.
fn rules() -> String {
    let page = page();
    let (_, rest) = page.split_once("```yaml\ngroups:\n").expect("rules");
    format!("groups:\n{}", rest.split("```").next().expect("their end"))
}

#[test]
fn the_pages_series_are_served() {
    let child = started();
    let exporter = Exporter::start(&[]);
    exporter.wait_for_offers(&child);
    let body = exporter.get("/metrics").1;
    let page = page();
    let words = page.split(|of: char| !of.is_ascii_alphanumeric() && of != '_');
    let series: BTreeSet<&str> = words.filter(|word| word.starts_with("vrange_")).collect();
    assert!(series.len() >= 12, "{series:?}");
    for series in series {
        // This one is there only while there are such processes.
        let is_served = series == "vrange_closed_processes"
            || body.lines().any(|line| line.split(['{', ' ']).next() == Some(series));
        assert!(is_served, "{series}: {body}");
    }
}

#[test]
fn the_pages_rules_are_rules_to_promtool() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yml");
    let checked = |rules: &str| {
        fs::write(&file, rules).expect("a file");
        Command::new("promtool").args(["check", "rules"]).arg(&file).output()
    };
    let output = match checked(&rules()) {
        Ok(output) => output,
        Err(error) => return skipped(&format!("promtool: {error}")),
    };
    let text = common::stdout(&output) + &common::stderr(&output);
    assert!(output.status.success() && text.contains("SUCCESS: 4 rules found"), "{text}");
    // The control: it looks into expressions.
    let broken = checked(&rules().replace("rate(", "rate((")).expect("it started before");
    assert!(!broken.status.success());
}

/// A Prometheus of the system's, for as long as this lives.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn scraping(exporter: &Exporter) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let configuration = folder.path().join("prometheus.yml");
        let target = exporter.address;
        let text = format!(
            "global: {{scrape_interval: 200ms}}\nscrape_configs:\n- job_name: vrange\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        fs::write(&configuration, text).expect("a file");
        // It cannot say which port it was given, so it gets one that was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let started = Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(process) => Some(Self { process, address: free, _folder: folder }),
            Err(error) => {
                skipped(&format!("prometheus: {error}"));
                None
            }
        }
    }

    /// What a query finds, if it answers already.
    fn query(&self, query: &str) -> Option<Value> {
        let mut connection = TcpStream::connect(self.address).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let request = format!(
            "GET /api/v1/query?query={query} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        let body = answer.split_once("\r\n\r\n")?.1;
        let found: Value = serde_json::from_str(body).ok()?;
        Some(found["data"]["result"].clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_it() {
    let child = started();
    let exporter = Exporter::start(&[]);
    let Some(prometheus) = Prometheus::scraping(&exporter) else { return };
    // `up`, and a series with the job's labels beside ours.
    common::wait_until("a scrape", || {
        prometheus.query("up").is_some_and(|found| found[0]["value"][1] == "1")
    });
    let query = format!("vrange_offered_bytes%7Bpid=%22{}%22%7D", child.pid());
    common::wait_until("3 MiB offered", || {
        prometheus.query(&query).is_some_and(|found| found[0]["value"][1] == "3145728")
    });
    let found = prometheus.query(&query).expect("it answers");
    assert_eq!(
        (&found[0]["metric"]["job"], &found[0]["metric"]["heap"]),
        (&"vrange".into(), &"pictures".into())
    );
    // A type that it has understood: counters have a total.
    let total = prometheus.query("vrange_released_bytes_total").expect("it answers");
    assert!(total.as_array().is_some_and(|series| !series.is_empty()), "{total}");
}
