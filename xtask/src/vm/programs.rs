//! The programs a guest runs: static, since the guest has no libraries.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::CommandExt;
use crate::workspace::Workspace;

/// The target is named so that the static flags do not reach build scripts and procedural macros, which are loaded
/// into the compiler and must be dynamic.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Packages whose tests run in the guest. The command's tests need cargo's folders; the command itself runs there.
const TESTED: &[&str] = &["vrange-os", "vrange"];

/// One thing for the guest to run.
pub(super) struct Job {
    /// The program's name in the guest.
    pub(super) name: String,
    /// The program on this machine.
    pub(super) executable: PathBuf,
    /// One word each; the guest splits them at blanks.
    pub(super) arguments: Vec<String>,
}

/// Builds the tests of the library and its command, and says how to run them.
///
/// # Errors
/// The build fails, or no test program comes out of it.
pub(super) fn build(workspace: &Workspace, filter: Option<&str>) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for (name, executable) in test_programs(&cargo(workspace, &test_arguments())?)? {
        // Shown at once, so that a test that skips is seen to skip, and one that hangs leaves what it said.
        let mut arguments = vec!["--test-threads=1".to_owned(), "--nocapture".to_owned()];
        arguments.extend(filter.map(str::to_owned));
        jobs.push(Job { name, executable, arguments });
    }
    if jobs.is_empty() {
        bail!("cargo built no test program");
    }
    let wanted = |line: &&str| filter.is_none_or(|filter| line.contains(filter));
    let lines: Vec<&str> = COMMAND_LINES.iter().copied().filter(wanted).collect();
    if !lines.is_empty() {
        let command =
            command_program(&cargo(workspace, &["build", "--package", "vrange-cli", "--bin", "vrange"])?)?;
        let as_user = workspace.root().join("xtask/src/vm/as-user.sh");
        jobs.extend(lines.into_iter().map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            let name = words.next().unwrap_or_default();
            let executable = if name == "vrange" { command.clone() } else { as_user.clone() };
            Job { name, executable, arguments: words.collect() }
        }));
    }
    Ok(jobs)
}

/// What is run of the command itself.
const COMMAND_LINES: &[&str] = &[
    "vrange doctor",
    "vrange demo /scratch/files --memory 256M --json",
    "as-user vrange demo /scratch/files --memory 256M --json",
];

fn test_arguments() -> Vec<&'static str> {
    let packages = TESTED.iter().flat_map(|package| ["--package", package]);
    ["test", "--no-run", "--lib", "--tests"].into_iter().chain(packages).collect()
}

/// Runs cargo for a static, optimized build (emulation is slow) that still asserts, and returns its messages.
fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    workspace
        .cargo()
        .args(arguments)
        .args(["--locked", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .arg("--target-dir")
        .arg(workspace.target_folder().join("vm/build"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=debuginfo")
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
        .output_text()
}

/// The test programs among cargo's messages, each with a name that says its package and target.
fn test_programs(messages: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut programs = Vec::new();
    for artifact in artifacts(messages)? {
        let (Some(executable), Some(true)) =
            (artifact["executable"].as_str(), artifact["profile"]["test"].as_bool())
        else {
            continue;
        };
        let target = artifact["target"]["name"].as_str().context("cargo names no target")?;
        let is_integration =
            artifact["target"]["kind"].as_array().is_some_and(|kinds| kinds.contains(&"test".into()));
        let package = package_of(&artifact);
        let name = if is_integration { format!("{package}-{target}") } else { format!("{package}-unit") };
        programs.push((name, PathBuf::from(executable)));
    }
    programs.sort();
    Ok(programs)
}

fn command_program(messages: &str) -> Result<PathBuf> {
    let executable = artifacts(messages)?
        .into_iter()
        .filter(|artifact| artifact["target"]["name"] == "vrange")
        .find_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
    executable.context("cargo built no program `vrange`")
}

fn artifacts(messages: &str) -> Result<Vec<Value>> {
    let mut artifacts = Vec::new();
    // A package's build script may print lines of its own.
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("cargo printed a broken message")?;
        if message["reason"] == "compiler-artifact" {
            artifacts.push(message);
        }
    }
    Ok(artifacts)
}

/// The name of the folder the package's manifest is in, which is the package's name in this workspace.
fn package_of(artifact: &Value) -> String {
    let manifest = PathBuf::from(artifact["manifest_path"].as_str().unwrap_or_default());
    let folder = manifest.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
    folder.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"
{"reason":"compiler-artifact","manifest_path":"/a/vrange/Cargo.toml","target":{"name":"vrange","kind":["lib"]},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/a/vrange/Cargo.toml","target":{"name":"vrange","kind":["lib"]},"profile":{"test":true},"executable":"/t/vrange-1"}
{"reason":"compiler-artifact","manifest_path":"/a/vrange/Cargo.toml","target":{"name":"c03_exact","kind":["test"]},"profile":{"test":true},"executable":"/t/c03-2"}
{"reason":"compiler-artifact","manifest_path":"/a/vrange-cli/Cargo.toml","target":{"name":"vrange","kind":["bin"]},"profile":{"test":false},"executable":"/t/vrange"}
a line of a build script
{"reason":"build-finished","success":true}
"#;

    #[test]
    fn test_programs_are_named_by_package_and_target() {
        let programs = test_programs(MESSAGES).unwrap();
        assert_eq!(programs[0], ("vrange-c03_exact".to_owned(), PathBuf::from("/t/c03-2")));
        assert_eq!(programs[1], ("vrange-unit".to_owned(), PathBuf::from("/t/vrange-1")));
        assert_eq!(programs.len(), 2);
    }

    #[test]
    fn a_broken_message_is_an_error() {
        assert!(test_programs("{\"reason\":").is_err());
    }

    #[test]
    fn a_build_without_the_command_is_an_error() {
        assert!(command_program("{\"reason\":\"build-finished\"}").is_err());
    }
}
