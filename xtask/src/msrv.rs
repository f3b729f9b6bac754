//! `cargo xtask msrv`: the promised minimum Rust version holds for everything that is locked.
//!
//! That our own code keeps to it is clippy's `incompatible_msrv`; this looks at what we depend on, development
//! dependencies included, so that the tests build there as well.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::CommandExt;
use crate::workspace::{Workspace, host_triple};

/// A Rust version, `1.88` and `1.88.0` being the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct RustVersion([u32; 3]);

impl RustVersion {
    fn parse(text: &str) -> Result<Self> {
        let mut version = [0; 3];
        let mut parts = text.split('.');
        for (number, part) in version.iter_mut().zip(parts.by_ref()) {
            *number = part.parse().with_context(|| format!("`{text}` is no Rust version"))?;
        }
        if parts.next().is_some() {
            bail!("`{text}` is no Rust version");
        }
        Ok(Self(version))
    }
}

impl fmt::Display for RustVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// Compares every locked package's `rust-version` with the workspace's.
///
/// # Errors
/// A package needs a newer Rust, a member of the workspace does not say its version, or `cargo metadata` fails.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let host = host_triple()?;
    let metadata = workspace
        .cargo()
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &host])
        .output_text()?;
    let metadata: Value = serde_json::from_str(&metadata).context("`cargo metadata` printed broken JSON")?;
    let summary = compare(&metadata)?;
    for package in &summary.too_new {
        eprintln!("{package}");
    }
    if !summary.too_new.is_empty() {
        bail!(
            "msrv: {} locked package(s) need a newer Rust than {}",
            summary.too_new.len(),
            summary.promised
        );
    }
    println!(
        "msrv: {} packages keep to Rust {} ({} do not say)",
        summary.checked, summary.promised, summary.silent
    );
    Ok(())
}

struct Summary {
    promised: RustVersion,
    /// A line for each package that needs more than was promised.
    too_new: Vec<String>,
    checked: usize,
    /// Packages that do not say what they need.
    silent: usize,
}

fn compare(metadata: &Value) -> Result<Summary> {
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let members = metadata["workspace_members"].as_array().context("`cargo metadata` lists no members")?;
    let mut promised = None;
    for package in packages.iter().filter(|package| members.contains(&package["id"])) {
        let name = package["name"].as_str().unwrap_or("?");
        let version = package["rust_version"]
            .as_str()
            .with_context(|| format!("`{name}` has no rust-version: inherit the workspace's"))?;
        let version = RustVersion::parse(version)?;
        promised = Some(promised.map_or(version, |lowest| std::cmp::min(lowest, version)));
    }
    let promised = promised.context("the workspace has no members")?;
    let mut summary = Summary { promised, too_new: Vec::new(), checked: 0, silent: 0 };
    for package in packages {
        summary.checked += 1;
        let Some(needed) = package["rust_version"].as_str() else {
            summary.silent += 1;
            continue;
        };
        if RustVersion::parse(needed)? > promised {
            let name = package["name"].as_str().unwrap_or("?");
            let version = package["version"].as_str().unwrap_or("?");
            summary.too_new.push(format!(
                "{name} {version} needs Rust {needed}: lock an older version with `cargo update -p {name} --precise`"
            ));
        }
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(dependency: &Value) -> Value {
        json!({
            "packages": [
                { "id": "ours", "name": "ours", "version": "0.1.0", "rust_version": "1.88" },
                { "id": "theirs", "name": "theirs", "version": "2.0.0", "rust_version": dependency },
            ],
            "workspace_members": ["ours"],
        })
    }

    #[test]
    fn versions_are_compared_by_number() {
        let parse = |text| RustVersion::parse(text).unwrap();
        assert!(parse("1.9") < parse("1.88") && parse("1.88") == parse("1.88.0"));
        assert!(RustVersion::parse("1.x").is_err() && RustVersion::parse("1.2.3.4").is_err());
    }

    #[test]
    fn a_package_that_needs_a_newer_rust_is_found() {
        let summary = compare(&metadata(&json!("1.89.0"))).unwrap();
        assert_eq!(summary.too_new.len(), 1);
        assert!(summary.too_new[0].starts_with("theirs 2.0.0 needs Rust 1.89.0"));
    }

    #[test]
    fn an_older_and_a_silent_package_pass() {
        assert_eq!(compare(&metadata(&json!("1.63"))).unwrap().too_new.len(), 0);
        let summary = compare(&metadata(&Value::Null)).unwrap();
        assert_eq!((summary.too_new.len(), summary.checked, summary.silent), (0, 2, 1));
    }

    #[test]
    fn a_member_without_a_version_is_an_error() {
        let metadata = json!({ "packages": [{ "id": "a", "name": "a" }], "workspace_members": ["a"] });
        assert!(compare(&metadata).is_err());
    }
}
