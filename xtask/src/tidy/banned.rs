//! Calls that compile, look right, and are wrong here.

use super::source::RustSource;
use super::{Finding, imports};

const RULE: &str = "banned-call";

/// A call, written without spaces, and what to do instead.
struct Banned {
    call: &'static str,
    instead: &'static str,
}

const NO_WRITE: &str = "an idempotent read-modify-write compiles to a fence and a load, so the page stays clean \
                        and the kernel may still take it; use the dirtying primitive in assembly";

const BANNED: &[Banned] = &[
    Banned { call: ".fetch_or(0,", instead: NO_WRITE },
    Banned { call: ".fetch_add(0,", instead: NO_WRITE },
    Banned { call: ".fetch_sub(0,", instead: NO_WRITE },
    Banned { call: ".fetch_xor(0,", instead: NO_WRITE },
    Banned { call: ".fetch_and(!0,", instead: NO_WRITE },
    Banned { call: ".fetch_and(u64::MAX,", instead: NO_WRITE },
    Banned { call: ".fetch_and(usize::MAX,", instead: NO_WRITE },
    Banned { call: ".fetch_max(0,", instead: NO_WRITE },
    Banned {
        call: "mincore(",
        instead: "mincore calls swapped pages absent and the zero page resident; read the pagemap",
    },
    Banned { call: "dbg!", instead: "remove it" },
    Banned { call: "todo!", instead: "write it" },
    Banned { call: "unimplemented!", instead: "write it, or return an error that says what is missing" },
    Banned { call: "#[ignore", instead: "a test that is switched off rots; make it run or remove it" },
];

/// Banned outside tests, which may want to see what it does.
const BANNED_OUTSIDE_TESTS: &[Banned] = &[Banned {
    call: "libc::madvise",
    instead: "a preloaded library may stand in for it; rustix calls the kernel directly",
}];

/// Finds banned calls in code and switched-off examples in documentation.
pub(super) fn check(source: &RustSource) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, code) in source.numbered_code() {
        let code: String = code.split_whitespace().collect();
        let outside = if source.is_test_line(line) { &[] } else { BANNED_OUTSIDE_TESTS };
        for Banned { call, instead } in
            BANNED.iter().chain(outside).filter(|banned| contains_call(&code, banned.call))
        {
            findings.push(Finding::new(&source.path, line, RULE, format!("`{call}`: {instead}")));
        }
    }
    for (path, line) in imports::used_paths(source) {
        if (path == "libc::madvise" && !source.is_test_line(line)) || path.ends_with("::mincore") {
            let message = format!("`{path}` imported: call rustix, or read the pagemap");
            findings.push(Finding::new(&source.path, line, RULE, message));
        }
    }
    for (index, comment) in source.comments.iter().enumerate() {
        let fence = comment.trim_start().trim_start_matches(['/', '!', '*']).trim_start();
        let attributes = fence.strip_prefix("```").unwrap_or_default();
        if attributes.split(',').any(|attribute| attribute.trim() == "ignore") {
            let message = "an example that is not compiled rots; use `no_run` or `text`";
            findings.push(Finding::new(&source.path, index + 1, RULE, message));
        }
    }
    // An import that spells the path out is found both as code and as a path.
    findings.sort();
    findings.dedup_by_key(|finding| finding.line);
    findings
}

/// Whether `code` has `call` as a word of its own, not as the end of a longer name.
fn contains_call(code: &str, call: &str) -> bool {
    let begins_word = call.starts_with(|character: char| character.is_alphanumeric());
    code.match_indices(call).any(|(at, _)| {
        !begins_word
            || !code[..at].ends_with(|character: char| character.is_alphanumeric() || character == '_')
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(text: &str) -> Vec<usize> {
        let source = RustSource::parse(Path::new("crates/a/src/a.rs"), text);
        check(&source).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn every_banned_call_is_found() {
        for Banned { call, .. } in BANNED.iter().chain(BANNED_OUTSIDE_TESTS) {
            let receiver = if call.starts_with('.') { "word" } else { "" };
            assert_eq!(lines(&format!("\n{receiver}{call}")), [2], "{call}");
        }
    }

    #[test]
    fn a_test_may_call_what_is_banned_outside() {
        assert_eq!(lines("#[cfg(test)]\nmod tests { fn f() { libc::madvise(x); } }\n"), NONE);
    }

    #[test]
    fn spaces_do_not_hide_a_call() {
        assert_eq!(lines("word.fetch_or( 0, Ordering::AcqRel);"), [1]);
    }

    #[test]
    fn imports_do_not_hide_a_call() {
        assert_eq!(lines("use libc::{c_int, madvise};\n"), [1]);
    }

    #[test]
    fn a_real_change_a_comment_and_a_literal_pass() {
        assert_eq!(lines("word.fetch_or(1, order); // never fetch_or(0, order)\nlet s = \"todo!\";"), NONE);
        assert_eq!(lines("fn is_mincored() { not_mincore(x); }"), NONE);
    }

    #[test]
    fn an_example_that_is_not_compiled_is_found() {
        assert_eq!(lines("/// ```ignore\n/// x\n/// ```\nfn f() {}\n"), [1]);
        assert_eq!(lines("//! ```no_run\n//! x\n//! ```\n"), NONE);
    }
}
