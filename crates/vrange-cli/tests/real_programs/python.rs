//! CPython, with its own tests: every test ends as it does without us.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use vrange_testing::{scale, skipped};

use crate::support::{Way, errors, finish, input};

const PYTHON: &str = "/usr/bin/python3";

/// Modules of Python's `test` package that allocate much, and of many sizes.
const MODULES: &[&str] = &[
    "array",
    "bytes",
    "deque",
    "dict",
    "gzip",
    "json",
    "list",
    "memoryio",
    "memoryview",
    "mmap",
    "ordered_dict",
    "struct",
    "thread",
    "zlib",
];
/// Those that take longer: threads, forks, and worker processes among them.
const LONG_MODULES: &[&str] = &[
    "ast",
    "buffer",
    "bz2",
    "fork1",
    "gc",
    "itertools",
    "lzma",
    "multiprocessing_fork",
    "pickle",
    "set",
    "tarfile",
    "threading",
    "unicode",
    "weakref",
    "zipfile",
];

/// The tests' outcomes, and what was said beside them.
fn outcomes(way: Way) -> (String, String) {
    let folder = tempfile::tempdir().expect("a directory");
    let mut command = way.command(Path::new(PYTHON));
    let file = folder.path().join("outcomes");
    command.arg(input("outcomes.py")).arg(&file);
    let modules = scale().pick([MODULES, &[]], [MODULES, LONG_MODULES]).concat();
    command.args(modules.iter().map(|name| format!("test.test_{name}")));
    // Every object is one of the allocator's: Python's own pools would hide the small ones from it.
    command.env("PYTHONMALLOC", "malloc").env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder.path());
    let errors = errors(&finish(&mut command));
    (fs::read_to_string(&file).expect("what was written"), errors)
}

fn plain_outcomes() -> &'static str {
    static PLAIN: OnceLock<String> = OnceLock::new();
    PLAIN.get_or_init(|| outcomes(Way::Plain).0)
}

/// Is there a Python with tests of its own? Many systems leave them out.
fn has_tests() -> bool {
    let has = Path::new(PYTHON).exists()
        && Command::new(PYTHON)
            .args(["-c", "import test.test_array"])
            .output()
            .is_ok_and(|o| o.status.success());
    if !has {
        skipped("Python's own tests are not installed (Debian: libpython3-testsuite)");
    }
    has
}

fn check(malloc: &'static str) {
    let way = Way::Malloc(malloc);
    if !has_tests() || !way.is_here(None) {
        return;
    }
    let plain = plain_outcomes();
    let passed = plain.lines().filter(|line| line.starts_with("passed")).count();
    assert!(passed > 1000, "{passed} tests of Python passed:\n{plain}");
    let (ours, errors) = outcomes(way);
    let changed: Vec<_> = ours.lines().filter(|line| !plain.lines().any(|plain| plain == *line)).collect();
    assert!(changed.is_empty(), "{way}: otherwise than plainly: {changed:#?}\n{errors}");
    assert_eq!(ours.lines().count(), plain.lines().count(), "{way}: some tests have not run");
    assert!(errors.contains("thread vrange-reclaim"), "{way}: Python marks nothing:\n{errors}");
}

#[test]
fn pythons_own_tests_on_mimalloc() {
    check("auto");
}
