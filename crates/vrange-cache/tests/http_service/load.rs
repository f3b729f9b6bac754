//! Right answers, and how many in a second, with and without the cache.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use vrange_testing::{alone, is_emulated, skipped};

use crate::page::render;
use crate::{Running, count, files_below};

/// How long a load generator runs, in seconds.
const LOAD_S: u32 = 2;
const CONNECTIONS: u32 = 16;
/// How many times as many requests a second are served at least with the cache. (It is several times as much; what else runs on the
/// machine must not matter.)
const GAIN_MIN: f64 = 2.0;

/// Of a smaller page there is less to gain.
const FILE_BYTES_MIN: u64 = 8 << 10;

/// The project's own sources, which are text.
fn sources() -> (PathBuf, Vec<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let is_text = |path: &Path| path.extension().is_some_and(|ending| ending == "rs" || ending == "md");
    let names =
        files_below(&folder, &mut |path, length| is_text(path) && (FILE_BYTES_MIN..).contains(&length));
    assert!(names.len() > 20, "{names:?}");
    (folder, names)
}

fn decompress(body: &[u8]) -> Vec<u8> {
    let mut page = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut page).expect("gzip");
    page
}

/// Each page twice, in both encodings, against what the file says.
fn check_each_page(running: &Running, folder: &Path, names: &[String]) {
    let mut client = running.client();
    for name in names {
        let expected = render(name, &std::fs::read(folder.join(name)).expect("a file"));
        for _ in 0..2 {
            assert!(client.page(name).expect("an answer") == expected, "{name}");
            let answer = client.get(&format!("/page/{name}"), "br, gzip").expect("an answer");
            assert!(answer.fields.contains("content-encoding: gzip\r\n"), "{}", answer.fields);
            assert!(answer.body.len() < expected.len() && decompress(&answer.body) == expected, "{name}");
        }
    }
}

#[test]
fn pages_are_right_and_made_once() {
    let (folder, names) = sources();
    let running = Running::start("volatile", &folder, None);
    check_each_page(&running, &folder, &names);
    let mut client = running.client();
    for missing in ["nowhere", "../Cargo.toml", "vrange", "%2e%2e/Cargo.toml"] {
        assert_eq!(
            client.get(&format!("/page/{missing}"), "gzip").expect("an answer").status,
            404,
            "{missing}"
        );
    }
    drop(client);
    let stats = running.interrupt();
    assert_eq!(count(&stats, "entries"), 2 * names.len() as u64);
    assert_eq!(count(&stats, "misses"), 2 * names.len() as u64);
    assert_eq!(count(&stats, "hits"), 2 * names.len() as u64);
}

#[test]
fn a_page_of_a_file_that_has_changed_is_new() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("http_service-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("notes");
    let running = Running::start("volatile", &folder, None);
    let mut client = running.client();
    let start = std::time::SystemTime::now();
    for (version, text) in ["one\n", "two & <three>\n", "\u{0}\u{1}"].iter().enumerate() {
        std::fs::write(&file, text).expect("a file");
        let later = start + std::time::Duration::from_secs(version as u64);
        std::fs::File::options()
            .append(true)
            .open(&file)
            .and_then(|file| file.set_modified(later))
            .expect("a file");
        assert!(client.page("notes").expect("an answer") == render("notes", text.as_bytes()));
    }
    std::fs::remove_dir_all(&folder).expect("a folder of ours");
}

/// Requests a second of `wrk`, which asks for compressed pages, some of them much more often than others.
fn requests_per_second(running: &Running, script: &Path) -> f64 {
    let output = Command::new("wrk")
        .args(["--threads=1", &format!("--connections={CONNECTIONS}"), &format!("--duration={LOAD_S}s")])
        .args(["--timeout=30s", "--script"])
        .arg(script)
        .arg(format!("http://127.0.0.1:{}/", running.port))
        .output()
        .expect("wrk");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("done ")).unwrap_or_else(|| panic!("{text}"));
    let numbers: Vec<f64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
    let [requests, microseconds, errors] = numbers[..] else { panic!("{line}") };
    assert!(requests > 0.0 && errors == 0.0, "{text}");
    requests / microseconds * 1e6
}

/// For `wrk`: which pages, and one line with the outcome.
fn write_script(names: &[String]) -> PathBuf {
    let list: Vec<String> = names.iter().map(|name| format!("\"/page/{name}\"")).collect();
    let script = format!(
        r#"local pages = {{ {} }}
local fields = {{ ["accept-encoding"] = "gzip" }}
function init() math.randomseed(7) end
function request()
  return wrk.format("GET", pages[math.floor(#pages * math.random() ^ 2) + 1], fields)
end
function done(summary)
  local errors = summary.errors
  local count = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("done %d %d %d\n", summary.requests, summary.duration, count))
end
"#,
        list.join(", ")
    );
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pages-{}.lua", std::process::id()));
    std::fs::write(&path, script).expect("a script");
    path
}

#[test]
fn under_load_more_is_served_with_the_cache() {
    if Command::new("wrk").arg("--version").output().is_err() {
        return skipped("the load generator `wrk` is not installed");
    }
    let _alone = alone();
    let (folder, names) = sources();
    let script = write_script(&names);
    let [with, without] = ["volatile", "none"].map(|store| {
        let running = Running::start(store, &folder, None);
        if store == "volatile" {
            check_each_page(&running, &folder, &names);
        }
        let rate = requests_per_second(&running, &script);
        // Right under load, and behind it.
        check_each_page(&running, &folder, &names[..names.len().min(5)]);
        rate
    });
    std::fs::remove_file(script).expect("a file of ours");
    println!("{with:.0} requests a second with the cache, {without:.0} without: {:.1} times", with / without);
    assert!(is_emulated() || with > GAIN_MIN * without, "{with} and {without} requests a second");
}
