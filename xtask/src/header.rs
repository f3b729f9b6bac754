//! `cargo xtask header`: `vrange.h`, made from the functions that it declares.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

const CRATE: &str = "crates/vrange-capi";
/// Where the header is, from the workspace's root.
pub(crate) const HEADER: &str = "crates/vrange-capi/include/vrange.h";

/// Write it, or look.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Change nothing; fail if the header is not what it should be.
    #[arg(long)]
    check: bool,
}

/// Writes the header, or checks it.
///
/// # Errors
/// The source cannot be read, or the header differs and was only to be checked.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let path = workspace.root().join(HEADER);
    let made = make(workspace)?;
    if fs::read_to_string(&path).is_ok_and(|header| header == made) {
        println!("header: {HEADER} is as its functions are");
        return Ok(());
    }
    if options.check {
        bail!("{HEADER} is not as its functions are; run `cargo xtask header`");
    }
    fs::write(&path, made).with_context(|| format!("cannot write {HEADER}"))?;
    println!("header: wrote {HEADER}");
    Ok(())
}

/// The text that the header should have.
fn make(workspace: &Workspace) -> Result<String> {
    let folder = workspace.root().join(CRATE);
    let settings = folder.join("cbindgen.toml");
    let mut config = match cbindgen::Config::from_file(&settings) {
        Ok(config) => config,
        Err(error) => bail!("{}: {error}", settings.display()),
    };
    config.after_includes = Some(version_macros());
    let bindings = cbindgen::Builder::new()
        .with_crate(&folder)
        .with_config(config)
        .generate()
        .with_context(|| format!("cannot read the functions of {CRATE}"))?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    Ok(plain(&String::from_utf8(text)?))
}

/// For a compiler to ask which version it has. All crates of the workspace have the same.
fn version_macros() -> String {
    format!(
        "\n#define VRANGE_VERSION \"{}\"\n#define VRANGE_VERSION_MAJOR {}\n#define VRANGE_VERSION_MINOR {}",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
    )
}

/// What is said to a reader of Rust alone is left out: sections about safety, and the names' own marks.
fn plain(header: &str) -> String {
    let mut lines = Vec::new();
    let mut is_about_safety = false;
    for line in header.lines() {
        let text = line.trim_start().trim_start_matches("*").trim();
        if text == "# Safety" {
            is_about_safety = true;
            // The empty line above it.
            lines.pop();
        }
        if line.trim_start().starts_with("*/") {
            is_about_safety = false;
        }
        if !is_about_safety {
            lines.push(line.trim_end());
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_as_its_functions_are() {
        let workspace = Workspace::find().unwrap();
        let header = fs::read_to_string(workspace.root().join(HEADER)).unwrap();
        assert!(header == make(&workspace).unwrap(), "run `cargo xtask header`");
    }

    #[test]
    fn what_is_about_safety_is_left_out() {
        let header = "/*\n * Does it.\n *\n * # Safety\n * Of a kind.\n */\nint f(void);\n";
        assert_eq!(plain(header), "/*\n * Does it.\n */\nint f(void);\n");
    }
}
