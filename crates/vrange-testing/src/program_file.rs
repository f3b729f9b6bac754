//! Files that are to be executed.
//!
//! The kernel executes no file that is open for writing (`ETXTBSY`). A test that writes one itself has it open for a moment in which
//! another test's thread may fork, and the child has it open, too, until it executes something else. So another process writes it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Copies a program, with the rights that it has.
///
/// # Panics
/// It cannot be copied.
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let (from, to) = (from.as_ref(), to.as_ref());
    let status = Command::new("cp").arg("--").args([from, to]).status().expect("cp");
    assert!(status.success(), "{} cannot be copied to {}", from.display(), to.display());
}

/// Writes a file that everybody may execute.
///
/// # Panics
/// It cannot be written.
pub fn write_program(to: impl AsRef<Path>, text: &str) {
    const WRITE: &str = r#"cat > "$1" && chmod 755 "$1""#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", WRITE, "sh"]).arg(to.as_ref()).stdin(Stdio::piped());
    let mut writer = command.spawn().expect("a shell");
    writer.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let status = writer.wait().expect("it ends");
    assert!(status.success(), "{} cannot be written", to.as_ref().display());
}
