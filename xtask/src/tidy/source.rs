//! A Rust file split into what the compiler reads, what people read, and which lines are tests.
//!
//! This is a lexer, not a parser: it knows comments, literals and brackets, which is all the rules need, and it
//! accepts any input.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// How a rule is switched off for a line; the rule's name and a reason follow.
const ALLOW_MARKER: &str = "tidy: allow(";

/// One Rust file, seen three ways. All views have the same lines.
pub(super) struct RustSource {
    pub(super) path: PathBuf,
    /// The code, with comments and the contents of literals blanked.
    pub(super) code: Vec<String>,
    /// The comments, with everything else blanked.
    pub(super) comments: Vec<String>,
    is_test: Vec<bool>,
}

/// What a character belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Code,
    Comment,
    Literal,
}

impl RustSource {
    /// Splits `text`; never fails, whatever the text is.
    pub(super) fn parse(path: &Path, text: &str) -> Self {
        let characters: Vec<char> = text.chars().collect();
        let classes = classify(&characters);
        let view = |wanted: Class| -> Vec<String> {
            let text: String = characters
                .iter()
                .zip(&classes)
                .map(
                    |(&character, &class)| {
                        if character == '\n' || class == wanted { character } else { ' ' }
                    },
                )
                .collect();
            text.lines().map(str::to_owned).collect()
        };
        let code = view(Class::Code);
        let is_test = if is_test_file(path) { vec![true; code.len()] } else { test_lines(&code) };
        Self { path: path.to_owned(), comments: view(Class::Comment), code, is_test }
    }

    /// Whether the line (counted from one) is compiled into tests only.
    pub(super) fn is_test_line(&self, line: usize) -> bool {
        line.checked_sub(1).and_then(|index| self.is_test.get(index)).copied().unwrap_or(false)
    }

    /// The lines of code with their numbers, counted from one.
    pub(super) fn numbered_code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }

    /// Whether a comment on the line, or directly above it, switches `rule` off and gives a reason.
    pub(super) fn allows(&self, rule: &str, line: usize) -> bool {
        let marker = format!("{ALLOW_MARKER}{rule}):");
        let gives_reason =
            |comment: &str| comment.split_once(&marker).is_some_and(|(_, reason)| !reason.trim().is_empty());
        let Some(index) = line.checked_sub(1).filter(|&index| index < self.code.len()) else {
            return false;
        };
        if gives_reason(&self.comments[index]) {
            return true;
        }
        // The whole block of comment lines above counts, so that the reason may be long.
        (0..index)
            .rev()
            .take_while(|&above| {
                self.code[above].trim().is_empty() && !self.comments[above].trim().is_empty()
            })
            .any(|above| gives_reason(&self.comments[above]))
    }
}

/// Whether all of a file is tests, by where it lies or what it is called.
fn is_test_file(path: &Path) -> bool {
    let is_test_name = |name: &str| ["tests", "benches"].contains(&name) || name.ends_with("_tests");
    let in_test_folder =
        path.parent().is_some_and(|folder| folder.iter().any(|part| is_test_name(&part.to_string_lossy())));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    in_test_folder || is_test_name(&stem)
}

/// Says of each character whether it is code, comment or the inside of a literal.
fn classify(text: &[char]) -> Vec<Class> {
    let mut classes = vec![Class::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let (length, class) = token(text, at);
        classes[at..at + length].fill(class);
        at += length;
    }
    classes
}

/// The length and class of the comment, literal or single character that begins at `at`.
fn token(text: &[char], at: usize) -> (usize, Class) {
    let rest = &text[at..];
    match rest {
        ['/', '/', ..] => (until_newline(rest), Class::Comment),
        ['/', '*', ..] => (block_comment(rest), Class::Comment),
        ['"', ..] => (quoted(rest, '"'), Class::Literal),
        ['r', '"' | '#', ..] | ['b' | 'c', 'r', '"' | '#', ..] if !continues_identifier(text, at) => {
            raw_string(rest).map_or((1, Class::Code), |length| (length, Class::Literal))
        }
        // A quote and one character (or an escape) and a quote; anything else is a lifetime.
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => (quoted(rest, '\''), Class::Literal),
        _ => (1, Class::Code),
    }
}

fn continues_identifier(text: &[char], at: usize) -> bool {
    at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_')
}

fn until_newline(rest: &[char]) -> usize {
    rest.iter().position(|&character| character == '\n').unwrap_or(rest.len())
}

/// Block comments nest in Rust.
fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            character if character == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a raw string literal, or `None` where this is a raw identifier or no string at all.
fn raw_string(rest: &[char]) -> Option<usize> {
    let prefix = rest.iter().position(|&character| character == 'r')? + 1;
    let hashes = rest[prefix..].iter().take_while(|&&character| character == '#').count();
    let mut at = prefix + hashes;
    if rest.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < rest.len() {
        let closing = rest[at + 1..].iter().take(hashes).filter(|&&character| character == '#').count();
        if rest[at] == '"' && closing == hashes {
            return Some(at + 1 + hashes);
        }
        at += 1;
    }
    Some(rest.len())
}

/// Marks the lines of every item under a `#[cfg(test)]` or `#[test]`.
fn test_lines(code: &[String]) -> Vec<bool> {
    let mut is_test = vec![false; code.len()];
    for index in 0..code.len() {
        let line: String = code[index].split_whitespace().collect();
        let test_only = line.contains("#[test]")
            || line
                .split_once("#[cfg(")
                .is_some_and(|(_, rest)| rest.starts_with("test)") || rest.starts_with("all(test,"));
        if test_only && !is_test[index] {
            let lines = item_lines(code, index);
            is_test[lines].fill(true);
        }
    }
    is_test
}

/// The lines of the item that begins at the line of index `first`: to its closing brace, or to its semicolon.
pub(super) fn item_lines(code: &[String], first: usize) -> Range<usize> {
    let mut depth = 0_usize;
    let mut in_body = false;
    for (index, line) in code.iter().enumerate().skip(first) {
        for character in line.chars() {
            match character {
                '(' | '[' => depth += 1,
                ')' | ']' => depth = depth.saturating_sub(1),
                '{' => {
                    in_body = in_body || depth == 0;
                    depth += 1;
                }
                '}' => {
                    depth = depth.saturating_sub(1);
                    if in_body && depth == 0 {
                        return first..index + 1;
                    }
                }
                ';' if depth == 0 && !in_body => return first..index + 1,
                _ => {}
            }
        }
    }
    first..code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RustSource {
        RustSource::parse(Path::new("crates/a/src/a.rs"), text)
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let source = parse("let a = \"x // y\"; // z\nlet b = r#\"p\"q\"#; /* r /* s */ w */ u();\n");
        assert_eq!(source.code[0].trim_end(), "let a =         ;");
        assert_eq!(source.comments[0].trim(), "// z");
        assert!(source.code[1].contains("u();"));
        assert!(!source.code[1].contains('q') && !source.code[1].contains('w'), "{}", source.code[1]);
    }

    #[test]
    fn lifetimes_and_character_literals_are_told_apart() {
        let source = parse("fn f<'a>(x: &'a str) { g('\"', '\\'', 'b'); h(); }");
        assert!(source.code[0].contains("fn f<'a>(x: &'a str)"));
        assert!(source.code[0].contains("h(); }"));
        assert!(!source.code[0].contains('b'));
    }

    #[test]
    fn raw_identifiers_are_code() {
        assert!(parse("let r#type = bar\"x\";").code[0].contains("r#type"));
    }

    #[test]
    fn test_items_end_at_their_closing_brace() {
        let source = parse("fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n");
        let marks: Vec<bool> = (1..=6).map(|line| source.is_test_line(line)).collect();
        assert_eq!(marks, [false, true, true, true, true, false]);
    }

    #[test]
    fn a_module_declared_elsewhere_is_one_item() {
        let source = parse("#[cfg(all(test, not(loom)))]\nmod tests;\nfn c() {}\n");
        assert!(source.is_test_line(2) && !source.is_test_line(3));
    }

    #[test]
    fn code_left_out_of_tests_is_no_test() {
        assert!(!parse("#[cfg(not(test))]\nfn a() {}\n").is_test_line(2));
    }

    #[test]
    fn test_folders_and_names_are_known() {
        for path in [
            "crates/a/tests/c03.rs",
            "crates/a/benches/b.rs",
            "crates/a/src/state/tests.rs",
            "crates/a/src/b_tests/c.rs",
        ] {
            assert!(is_test_file(Path::new(path)), "{path}");
        }
        assert!(!is_test_file(Path::new("crates/a/src/latest.rs")));
    }

    #[test]
    fn a_rule_is_switched_off_only_with_a_reason() {
        let source = parse("// tidy: allow(x): because.\n// More.\na();\nb(); // tidy: allow(x):\n");
        assert!(source.allows("x", 3) && !source.allows("y", 3) && !source.allows("x", 4));
        assert!(!source.allows("x", 0) && !source.allows("x", 99));
    }

    #[test]
    fn unfinished_text_is_accepted() {
        for text in ["\"", "'", "r#\"", "/* /*", "#[cfg(test)]\nmod a {", "'\\", "\"\\"] {
            parse(text);
        }
    }
}
