//! SQLite's shell: tables in memory, with small and large values, that end up in the same file.

use std::fs::{self, File};
use std::sync::OnceLock;

use crate::support::{Way, errors, finish_with, input, program};

/// What the shell printed, and the file it wrote.
type Outcome = (String, Vec<u8>);

fn tables(way: Way) -> Outcome {
    let folder = tempfile::tempdir().expect("a directory");
    let mut command = way.command_with_stats(&which::which("sqlite3").expect("it is there"));
    // No settings of the user's.
    command.args(["-batch", ":memory:"]).current_dir(folder.path()).env("HOME", folder.path());
    let output = finish_with(&mut command, File::open(input("tables.sql")).expect("the script").into());
    way.assert_marked(&errors(&output));
    let file = fs::read(folder.path().join("written.db")).expect("what was written");
    (String::from_utf8(output.stdout).expect("text"), file)
}

fn check(malloc: &'static str) {
    static PLAIN: OnceLock<Outcome> = OnceLock::new();
    let way = Way::Malloc(malloc);
    if program("sqlite3").is_none() || !way.is_here(None) {
        return;
    }
    let (plain, plain_file) = PLAIN.get_or_init(|| tables(Way::Plain));
    assert_eq!(plain.lines().filter(|line| *line == "ok").count(), 2, "{plain}");
    let (ours, file) = tables(way);
    assert_eq!(&ours, plain, "{way}");
    assert!(&file == plain_file, "{way}: the file has other bytes");
}

#[test]
fn sqlite_on_mimalloc() {
    check("auto");
}

#[test]
fn sqlite_on_tcmalloc() {
    check("tcmalloc");
}

#[test]
fn sqlite_on_jemalloc() {
    check("jemalloc");
}
