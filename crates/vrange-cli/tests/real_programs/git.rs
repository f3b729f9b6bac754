//! Git: a history that is imported, cloned, packed again and checked.

use std::path::Path;
use std::process::Command;

use crate::support::{Way, content, errors, finish, finish_with, program};

const COMMITS: u64 = 200;
const FILES: u64 = 40;

/// A history for `git fast-import`: each commit writes three files anew, of up to 32 KB.
fn history() -> Vec<u8> {
    let mut stream = Vec::new();
    for commit in 0..COMMITS {
        let time = 1_600_000_000 + commit * 60;
        let message = format!("change {commit}");
        stream.extend_from_slice(b"commit refs/heads/main\n");
        stream.extend_from_slice(format!("committer A <a@example.org> {time} +0000\n").as_bytes());
        stream.extend_from_slice(format!("data {}\n{message}\n", message.len()).as_bytes());
        for file in 0..3 {
            let file = (commit * 7 + file * 13) % FILES;
            let text = text(file, commit);
            stream.extend_from_slice(format!("M 644 inline folder-{}/file-{file}\n", file % 5).as_bytes());
            stream.extend_from_slice(format!("data {}\n", text.len()).as_bytes());
            stream.extend_from_slice(&text);
            stream.push(b'\n');
        }
    }
    stream
}

/// A file's lines: some are the same in each of its versions, as in real files, so that there is something to find for deltas.
fn text(file: u64, commit: u64) -> Vec<u8> {
    let mut text = String::new();
    for line in 0..100 + file * 10 {
        let version = if (line + commit).is_multiple_of(9) { commit } else { 0 };
        let bytes = content(&format!("{file} {line} {version}"), 32);
        text += &blake3::Hash::from_slice(&bytes).expect("32 bytes").to_hex();
        text.push('\n');
    }
    text.into_bytes()
}

/// Names and counts of the history after all that, and what was said beside it.
fn work(way: Way, history: &[u8]) -> (String, String) {
    let folder = tempfile::tempdir().expect("a directory");
    let stream = folder.path().join("stream");
    std::fs::write(&stream, history).expect("a file");
    let git = |at: &str, arguments: &[&str]| {
        let mut command = way.command_with_stats(&which::which("git").expect("it is there"));
        command.args(arguments).current_dir(folder.path().join(at));
        alone(&mut command, folder.path());
        command
    };
    let mut said = String::new();
    finish(&mut git(".", &["init", "--quiet", "--bare", "--initial-branch=main", "first"]));
    let mut import = git("first", &["fast-import", "--quiet"]);
    let stream = std::fs::File::open(&stream).expect("the stream");
    said += &errors(&finish_with(&mut import, stream.into()));
    let url = format!("file://{}/first", folder.path().display());
    said += &errors(&finish(&mut git(".", &["clone", "--quiet", &url, "second"])));
    said += &errors(&finish(&mut git("second", &["gc", "--quiet", "--aggressive", "--prune=now"])));
    let mut outcome = String::new();
    for arguments in [
        ["fsck", "--full", "--strict"].as_slice(),
        &["log", "--format=%H %T %s"],
        &["ls-tree", "-r", "HEAD"],
        &["cat-file", "--batch-all-objects", "--batch-check"],
        &["status", "--porcelain"],
    ] {
        let output = finish(&mut git("second", arguments));
        said += &errors(&output);
        outcome += &String::from_utf8(output.stdout).expect("text");
    }
    (outcome, said)
}

/// No settings of the user's or the machine's, and nothing of a repository around the test.
fn alone(command: &mut Command, home: &Path) {
    let variables = std::env::vars_os().map(|(name, _)| name);
    variables.filter(|name| name.to_string_lossy().starts_with("GIT_")).for_each(|name| {
        command.env_remove(name);
    });
    command.env("HOME", home).env("XDG_CONFIG_HOME", home).env("GIT_CONFIG_NOSYSTEM", "1");
}

#[test]
fn git_on_mimalloc() {
    let way = Way::Malloc("auto");
    if program("git").is_none() || !way.is_here(None) {
        return;
    }
    let history = history();
    let (plain, said) = work(Way::Plain, &history);
    Way::Plain.assert_marked(&said);
    let commits = plain.lines().filter(|line| line.contains(" change ")).count() as u64;
    assert_eq!(commits, COMMITS, "{plain}");
    let (ours, said) = work(way, &history);
    way.assert_marked(&said);
    assert!(ours == plain, "{way}: another history:\n{ours}");
}
