//! Functions fit a screen.

use super::Finding;
use super::source::{RustSource, item_lines};

const RULE: &str = "function-length";
const LINES_MAX: usize = 70;

/// Finds functions outside tests that are too long, counted from `fn` to the closing brace.
pub(super) fn check(source: &RustSource) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, code) in source.numbered_code() {
        let Some(name) = function_name(code) else { continue };
        let length = item_lines(&source.code, line - 1).len();
        if length > LINES_MAX && !source.is_test_line(line) {
            let message = format!("`{name}` has {length} lines, at most {LINES_MAX}: give its parts names");
            findings.push(Finding::new(&source.path, line, RULE, message));
        }
    }
    findings
}

/// The name of the function that is declared on this line.
fn function_name(code: &str) -> Option<&str> {
    let mut words = code.split_whitespace();
    words.by_ref().find(|word| *word == "fn")?;
    let name = words.next()?;
    let end = name.find(|character: char| !character.is_alphanumeric() && character != '_');
    // `fn(u8)` as a type has no name.
    Some(&name[..end.unwrap_or(name.len())]).filter(|name| !name.is_empty())
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
    fn a_long_function_is_found_and_its_neighbours_are_not() {
        let body = "    let [_, _] = [0; 2];\n".repeat(LINES_MAX);
        let text = format!(
            "fn short() {{}}\npub(crate) fn long(a: [u8; 4]) -> [u8; 2] {{\n{body}}}\nfn last() {{}}\n"
        );
        assert_eq!(lines(&text), [2]);
    }

    #[test]
    fn a_declaration_without_a_body_is_short() {
        let text = format!("trait T {{\n    fn a(&self) -> u8;\n{}}}\n", "    const B: u8;\n".repeat(100));
        assert_eq!(lines(&text), NONE);
    }

    #[test]
    fn a_long_test_is_left_alone() {
        let text = format!("#[cfg(test)]\nmod tests {{\nfn a() {{\n{}}}\n}}\n", "    b();\n".repeat(100));
        assert_eq!(lines(&text), NONE);
    }
}
