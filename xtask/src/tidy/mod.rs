//! `cargo xtask tidy`: the house rules that a program can check.
//!
//! Every rule is a function from one file to its findings, so that its tests need no workspace. A rule that a
//! place has to break for a good reason is switched off there, with the reason:
//!
//! ```text
//! // tidy: allow(banned-call): the control shows what this call fails to do
//! ```
//!
//! on the line itself or in the comment directly above it.

mod banned;
mod dependencies;
mod functions;
mod imports;
mod layers;
mod length;
mod orderings;
mod required;
mod source;
mod text;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::tidy::source::RustSource;
use crate::workspace::Workspace;

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: PathBuf,
    /// Counted from one; zero where the finding is about the whole file.
    line: usize,
    rule: &'static str,
    /// What is wrong and what to do about it.
    message: String,
}

impl Finding {
    fn new(path: &Path, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, message } = self;
        match line {
            0 => write!(f, "{}: {rule}: {message}", path.display()),
            _ => write!(f, "{}:{line}: {rule}: {message}", path.display()),
        }
    }
}

/// Checks every file of the project and prints what it finds.
///
/// # Errors
/// A rule is broken somewhere, or the files cannot be read.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let files = workspace.files()?;
    let mut findings = required::check(&files);
    for path in &files {
        let bytes = fs::read(workspace.root().join(path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        // What is not text (a picture, an archive) has no lines to check.
        if let Ok(text) = String::from_utf8(bytes) {
            findings.extend(check_file(path, &text));
        }
    }
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files, nothing to say", files.len());
            Ok(())
        }
        count => bail!("tidy: {count} finding(s)"),
    }
}

/// Every rule that looks at one file.
fn check_file(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = text::check(path, text);
    if path.file_name().is_some_and(|name| name == "Cargo.toml") {
        findings.extend(dependencies::check(path, text));
    }
    if path.extension().is_some_and(|extension| extension == "rs") {
        let source = RustSource::parse(path, text);
        findings.extend(length::check(&source));
        findings.extend(functions::check(&source));
        findings.extend(banned::check(&source));
        findings.extend(layers::check(&source));
        findings.extend(orderings::check(&source));
        findings.retain(|finding| !source.allows(finding.rule, finding.line));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_place_and_rule() {
        let finding = Finding::new(Path::new("src/a.rs"), 7, "banned-call", "use b");
        assert_eq!(finding.to_string(), "src/a.rs:7: banned-call: use b");
        let whole_file = Finding::new(Path::new("src/a.rs"), 0, "required-file", "write it");
        assert_eq!(whole_file.to_string(), "src/a.rs: required-file: write it");
    }

    #[test]
    fn an_allowed_rule_is_silent_only_where_it_is_allowed() {
        let allowed = "// tidy: allow(banned-call): a control.\nfn f() { word.fetch_or(0, order); }\n";
        assert_eq!(check_file(Path::new("crates/a/src/lib.rs"), allowed), []);
        let elsewhere = format!("{allowed}\nfn g() {{ word.fetch_or(0, order); }}\n");
        let findings = check_file(Path::new("crates/a/src/lib.rs"), &elsewhere);
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn the_rules_hold_for_the_checker_itself() {
        let workspace = Workspace::find().unwrap();
        for path in workspace.files().unwrap().iter().filter(|path| path.starts_with("xtask")) {
            let text = fs::read_to_string(workspace.root().join(path)).unwrap();
            assert_eq!(check_file(path, &text), [], "{}", path.display());
        }
    }
}
