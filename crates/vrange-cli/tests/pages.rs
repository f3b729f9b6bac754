//! What pages say of tests and show in pictures: that there are such.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names of all functions of all integration tests.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a file");
            let names = text.lines().filter_map(|line| line.strip_prefix("fn ")?.split('(').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

fn all_tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for package in fs::read_dir(root().join("crates")).expect("a folder").flatten() {
        let tests = package.path().join("tests");
        if tests.is_dir() {
            functions(&tests, &mut found);
        }
    }
    found
}

/// What stands between backticks and has a test's name: words that are joined, at least four.
fn named(page: &str) -> BTreeSet<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted
        .filter(|name| {
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        })
        .filter(|name| name.matches('_').count() >= 3)
        .filter(|name| !name.starts_with("vrange_") && !name.starts_with("container_"))
        .collect()
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let tests = all_tests();
    let mut count = 0;
    for page in fs::read_dir(root().join("docs")).expect("pages").flatten() {
        if page.path().is_dir() {
            continue;
        }
        let text = fs::read_to_string(page.path()).expect("a page");
        for name in named(&text) {
            assert!(tests.contains(name), "{}: there is no test {name}", page.path().display());
            count += 1;
        }
    }
    assert!(count >= 25, "{count} tests are named");
}

/// The control.
#[test]
fn a_name_that_is_no_tests_is_noticed() {
    let named = named("It is so: `a_test_that_nobody_wrote`, of `vrange_lost_bytes_total` and `page_cache`.");
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["a_test_that_nobody_wrote"]);
    assert!(!all_tests().contains("a_test_that_nobody_wrote"));
}

/// The pictures that a page shows, by their names.
fn shown(page: &str) -> BTreeSet<&str> {
    page.split("](docs/pictures/").skip(1).filter_map(|rest| Some(rest.split_once(".svg)")?.0)).collect()
}

#[test]
fn every_picture_is_shown_and_says_what_has_drawn_it() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a page");
    let folder = root().join("docs/pictures");
    let mut there = BTreeSet::new();
    for picture in fs::read_dir(&folder).expect("pictures").flatten() {
        let path = picture.path();
        let (name, text) = (path.file_stem().expect("a name"), fs::read_to_string(&path).expect("a picture"));
        let name = name.to_str().expect("text").to_owned();
        let command = if name == "demo" { "vrange demo".to_owned() } else { format!("vrange bench {name}") };
        assert!(text.starts_with("<svg ") && text.contains(&command), "{}", path.display());
        there.insert(name);
    }
    assert_eq!(shown(&readme), there.iter().map(String::as_str).collect());
    assert!(!there.is_empty());
}
