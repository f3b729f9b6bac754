//! Every memory ordering says whom it pairs with.

use super::source::RustSource;
use super::{Finding, imports};

const RULE: &str = "ordering-comment";

/// The library whose orderings are explained; tests are not.
const FOLDER: &str = "crates/vrange/src/";

const ORDERINGS: &[&str] = &["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];

/// How far above an ordering its comment may begin.
const LINES_ABOVE_MAX: usize = 4;

/// Finds orderings without an explanation, and imports that would hide orderings from this rule.
pub(super) fn check(source: &RustSource) -> Vec<Finding> {
    if !source.path.to_string_lossy().starts_with(FOLDER) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (line, code) in source.numbered_code().filter(|(line, _)| !source.is_test_line(*line)) {
        if names_ordering(code) && !is_explained(source, line) {
            let message = format!(
                "say in a comment at most {LINES_ABOVE_MAX} lines above what it \"pairs with\", or begin with \
                 \"Relaxed:\" and say why none is needed"
            );
            findings.push(Finding::new(&source.path, line, RULE, message));
        }
    }
    for (path, line) in imports::used_paths(source) {
        if path.contains("Ordering::") && !source.is_test_line(line) {
            let message =
                format!("`{path}` imported: write `Ordering::…` where it is used, so that it stands out");
            findings.push(Finding::new(&source.path, line, RULE, message));
        }
    }
    findings
}

fn names_ordering(code: &str) -> bool {
    if code.trim_start().starts_with("use ") {
        return false;
    }
    code.split("Ordering::").skip(1).any(|rest| ORDERINGS.iter().any(|ordering| rest.starts_with(ordering)))
}

fn is_explained(source: &RustSource, line: usize) -> bool {
    let first = line.saturating_sub(1 + LINES_ABOVE_MAX);
    let comments = source.comments[first..line].join(" ").to_lowercase();
    // A comment may be broken between the words.
    let comments = comments.replace("//", " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let names_partner = comments.contains("pairs with") || comments.contains("pair with");
    // "Relaxed: …" and "Relaxed, all four: …": the reason follows in the same sentence.
    let gives_reason = comments
        .split("relaxed")
        .skip(1)
        .any(|rest| rest.split_once(':').is_some_and(|(before, _)| !before.contains(['.', ';'])));
    names_partner || gives_reason
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&RustSource::parse(Path::new(path), text)).iter().map(|finding| finding.line).collect()
    }

    const PATH: &str = "crates/vrange/src/range/state.rs";

    #[test]
    fn an_ordering_without_a_comment_is_found() {
        assert_eq!(lines(PATH, "fn f() {\n    a.load(Ordering::Acquire);\n}\n"), [2]);
        assert_eq!(lines(PATH, "// Why not.\na.load(Ordering::Relaxed);\n"), [2]);
    }

    #[test]
    fn a_partner_or_a_reason_satisfies() {
        assert_eq!(lines(PATH, "// Pairs with the Release in `offer`.\na.load(Ordering::Acquire);\n"), NONE);
        assert_eq!(lines(PATH, "// Acquire pairs\n// with `offer`.\na.load(Ordering::Acquire);\n"), NONE);
        assert_eq!(lines(PATH, "a.load(Ordering::Relaxed); // Relaxed: only a count.\n"), NONE);
    }

    #[test]
    fn a_comment_too_far_above_does_not() {
        let text = format!("// Pairs with `offer`.\n{}a.load(Ordering::Acquire);\n", "b();\n".repeat(4));
        assert_eq!(lines(PATH, &text), [6]);
    }

    #[test]
    fn a_literal_is_no_explanation() {
        assert_eq!(lines(PATH, "a.load(Ordering::Acquire).expect(\"pairs with\");\n"), [1]);
    }

    #[test]
    fn comparisons_tests_and_other_crates_are_free() {
        assert_eq!(lines(PATH, "match a.cmp(&b) { Ordering::Less => {} _ => {} }\n"), NONE);
        assert_eq!(
            lines(PATH, "#[cfg(test)]\nmod tests {\n  fn f() { a.load(Ordering::SeqCst); }\n}\n"),
            NONE
        );
        assert_eq!(lines("crates/vrange-cli/src/main.rs", "a.load(Ordering::SeqCst);\n"), NONE);
    }

    #[test]
    fn orderings_are_not_imported_by_name() {
        assert_eq!(lines(PATH, "use crate::sync::{AtomicU64, Ordering::{self, Acquire}};\n"), [1]);
        assert_eq!(lines(PATH, "use crate::sync::Ordering;\n"), NONE);
    }
}
