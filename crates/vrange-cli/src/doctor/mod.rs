//! `vrange doctor`: what this machine can do for volatile memory, what that means, and what to change.

mod advice;
mod finding;
pub(crate) mod machine;

use std::fmt::Write as _;

use serde::Serialize;

use crate::command_line::DoctorOptions;
use crate::failure::Failure;
use crate::output;
use finding::{Finding, Status};
use machine::Machine;

/// Everything that was found out.
#[derive(Debug, Serialize)]
struct Report {
    /// The worst of all findings.
    verdict: Status,
    findings: Vec<Finding>,
}

/// Examines the machine and prints the report. Succeeds whatever it finds.
pub(crate) fn run(options: &DoctorOptions) -> Result<(), Failure> {
    let machine = Machine::examine()?;
    let report = Report::new(advice::findings(&machine));
    if options.json { output::json(&report) } else { output::text(&report.text()) }
}

impl Report {
    fn new(findings: Vec<Finding>) -> Self {
        let verdict = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Good);
        Self { verdict, findings }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let mark = finding.status.mark();
            let _ = writeln!(text, "{mark} {}: {}", finding.title, finding.value);
            let _ = writeln!(text, "{}", indented(&finding.meaning));
            if let Some(change) = &finding.change {
                let _ = writeln!(text, "{}", indented(&format!("→ {change}")));
            }
        }
        let _ = writeln!(text, "\n{}", self.verdict.sentence());
        text
    }
}

/// Breaks a text into lines of 90 characters at most, four spaces in.
fn indented(text: &str) -> String {
    const LINE_CHARS: usize = 90;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut() {
            if line.is_empty() {
                line.push_str(word);
                continue;
            }
            if line.chars().count() + 1 + word.chars().count() <= LINE_CHARS {
                line.push(' ');
                line.push_str(word);
                continue;
            }
        }
        lines.push(word.to_owned());
    }
    lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_the_worst_finding() {
        let finding = |status| Finding { status, ..Finding::good("topic", "title", "value", "meaning") };
        assert_eq!(
            Report::new(vec![finding(Status::Good), finding(Status::Limited)]).verdict,
            Status::Limited
        );
        assert_eq!(Report::new(Vec::new()).verdict, Status::Good);
    }

    #[test]
    fn long_sentences_are_broken_at_words() {
        let text = indented(&"word ".repeat(50));
        assert!(
            text.lines().all(|line| line.starts_with("    word") && line.chars().count() <= 94),
            "{text}"
        );
    }
}
