//! Writing results to standard output, where a reader that went away is no reason to panic.

use std::io::Write as _;

use serde::Serialize;

use crate::failure::Failure;

/// Prints `text` as it is.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Failure::output(&error))
}

/// Prints one value as JSON, in one line.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let mut document = serde_json::to_string(value).map_err(|error| not_json(&error))?;
    document.push('\n');
    text(&document)
}

fn not_json(error: &serde_json::Error) -> Failure {
    Failure::run(format!("writing the result as JSON: {error}"))
}

/// Prints one value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut document = serde_json::to_string_pretty(value).map_err(|error| not_json(&error))?;
    document.push('\n');
    text(&document)
}
