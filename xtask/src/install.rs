//! `cargo xtask install`: the command, the libraries, the header, the manual pages and what shells complete, where programs look for
//! them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::CommandExt;
use crate::header::HEADER;
use crate::workspace::Workspace;

const PACKAGES: &[&str] = &["vrange-cli", "vrange-capi", "vrange-preload", "vrange-mimalloc"];
const MANUAL: &str = "crates/vrange-capi/man";
/// A shell, and where below the prefix it looks.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/vrange"),
    ("zsh", "share/zsh/site-functions/_vrange"),
    ("fish", "share/fish/vendor_completions.d/vrange.fish"),
];
/// What a program that was linked with the library asks for; `crates/vrange-capi/build.rs` writes it into the library.
const SONAME: &str = "libvrange.so.0";
/// What a static library of Rust asks of the system (`rustc --print native-static-libs`).
const SYSTEM_LIBRARIES: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

/// Where to, and which build.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder whose `bin`, `lib`, `include` and `share` get what there is.
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Put everything below this folder, as if it were the root: for packages.
    #[arg(long, value_name = "DIR", env = "DESTDIR", hide_env = true)]
    destdir: Option<PathBuf>,
    /// An unoptimized build, which is made faster.
    #[arg(long)]
    debug: bool,
}

/// Builds and installs.
///
/// # Errors
/// The build fails, or a file cannot be written.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if !options.prefix.is_absolute() {
        bail!(
            "--prefix {}: give an absolute path, since it is written into vrange.pc",
            options.prefix.display()
        );
    }
    let built = build(workspace, options)?;
    let place = Place { root: options.destdir.clone(), prefix: options.prefix.clone() };
    let source = |path: &str| workspace.root().join(path);
    place.program(&built.join("vrange"), "bin/vrange")?;
    let library = format!("lib/libvrange.so.{}", env!("CARGO_PKG_VERSION"));
    place.program(&built.join("libvrange_capi.so"), &library)?;
    place.link(library.trim_start_matches("lib/"), &format!("lib/{SONAME}"))?;
    place.link(SONAME, "lib/libvrange.so")?;
    place.file(&built.join("libvrange_capi.a"), "lib/libvrange.a")?;
    for preloaded in ["libvrange_preload.so", "libvrange_mimalloc.so"] {
        place.program(&built.join(preloaded), &format!("lib/{preloaded}"))?;
    }
    place.file(&source(HEADER), "include/vrange.h")?;
    place.text(&pkg_config(&options.prefix), "lib/pkgconfig/vrange.pc")?;
    for document in ["README.md", "CHANGELOG.md", "docs/containers.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        place.file(&source(document), &format!("share/doc/vrange/{document}"))?;
    }
    install_manual(&source(MANUAL), &place)?;
    install_manual(&manual_of_the_command(workspace, &built)?, &place)?;
    install_completions(&built, &place)?;
    println!(
        "install: done; programs find the library once `ldconfig` has run, or with LD_LIBRARY_PATH or an rpath"
    );
    Ok(())
}

/// Returns the folder with what was built.
fn build(workspace: &Workspace, options: &Options) -> Result<PathBuf> {
    let mut command = workspace.cargo();
    command.args(["build", "--locked"]);
    command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    if !options.debug {
        command.arg("--release");
    }
    command.run()?;
    Ok(workspace.target_folder().join(if options.debug { "debug" } else { "release" }))
}

/// Has the command write its manual pages, and returns the folder.
fn manual_of_the_command(workspace: &Workspace, built: &Path) -> Result<PathBuf> {
    let folder = workspace.target_folder().join("manual");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Command::new(built.join("vrange")).arg("manual").arg(&folder).run()?;
    Ok(folder)
}

/// What the command says of itself to each shell, in the folder in which that shell looks.
fn install_completions(built: &Path, place: &Place) -> Result<()> {
    for (shell, path) in COMPLETIONS {
        let script = Command::new(built.join("vrange")).args(["completions", shell]).output_text()?;
        place.text(&script, path)?;
    }
    Ok(())
}

/// What pkg-config tells a program's build.
fn pkg_config(prefix: &Path) -> String {
    format!(
        "prefix={}\n\
         libdir=${{prefix}}/lib\n\
         includedir=${{prefix}}/include\n\
         \n\
         Name: vrange\n\
         Description: Volatile memory that the kernel may discard when memory is short\n\
         Version: {}\n\
         Cflags: -I${{includedir}}\n\
         Libs: -L${{libdir}} -lvrange\n\
         Libs.private: {SYSTEM_LIBRARIES}\n",
        prefix.display(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// The pages, and for each further name of a page one that leads to it.
fn install_manual(folder: &Path, place: &Place) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((name, section)) = file.rsplit_once('.') else { continue };
        let folder = format!("share/man/man{section}");
        place.file(&path, &format!("{folder}/{file}"))?;
        for other in names(&fs::read_to_string(&path)?).iter().filter(|other| *other != name) {
            place.text(&format!(".so man{section}/{file}\n"), &format!("{folder}/{other}.{section}"))?;
        }
    }
    Ok(())
}

/// What a manual page is about: its section NAME, up to the dash.
fn names(page: &str) -> Vec<String> {
    let mut lines = page.lines().skip_while(|line| *line != ".SH NAME").skip(1);
    let Some(line) = lines.next() else { return Vec::new() };
    let names = line.split(" \\- ").next().unwrap_or_default();
    names.split(',').map(|name| name.trim().replace("\\-", "-")).collect()
}

/// Below a prefix, perhaps below another root.
struct Place {
    root: Option<PathBuf>,
    prefix: PathBuf,
}

impl Place {
    /// Where a path really is. Makes the folder.
    fn path(&self, path: &str) -> Result<PathBuf> {
        let below_prefix = self.prefix.join(path);
        let path = match &self.root {
            Some(root) => root.join(below_prefix.strip_prefix("/").unwrap_or(&below_prefix)),
            None => below_prefix,
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(path)
    }

    fn program(&self, from: &Path, to: &str) -> Result<()> {
        self.copy(from, to, 0o755)
    }

    fn file(&self, from: &Path, to: &str) -> Result<()> {
        self.copy(from, to, 0o644)
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(&bytes, to, mode)
    }

    fn text(&self, text: &str, to: &str) -> Result<()> {
        self.write(text.as_bytes(), to, 0o644)
    }

    /// Beside its place first: a program that runs, or has the library loaded, keeps the file that it has.
    fn write(&self, bytes: &[u8], to: &str, mode: u32) -> Result<()> {
        let path = self.path(to)?;
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        fs::write(&beside, bytes)
            .and_then(|()| fs::set_permissions(&beside, fs::Permissions::from_mode(mode)))
            .and_then(|()| fs::rename(&beside, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("install: {}", path.display());
        Ok(())
    }

    fn link(&self, target: &str, to: &str) -> Result<()> {
        let path = self.path(to)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => symlink(target, &path),
        }
        .with_context(|| format!("cannot write {}", path.display()))?;
        println!("install: {} -> {target}", path.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_names_of_its_section_name() {
        let page = ".TH x 3\n.SH NAME\nvrange_mark, vrange_unmark \\- marks on memory\n.SH SYNOPSIS\n";
        assert_eq!(names(page), ["vrange_mark", "vrange_unmark"]);
        assert_eq!(names(".SH NAME\nvrange\\-run \\- run a program\n"), ["vrange-run"]);
        assert!(names("nothing").is_empty());
    }

    #[test]
    fn what_is_staged_lies_below_the_other_root() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { root: Some(folder.path().to_owned()), prefix: "/usr".into() };
        place.text("x", "lib/pkgconfig/vrange.pc").unwrap();
        place.link("a", "lib/b").unwrap();
        place.link("c", "lib/b").unwrap();
        assert!(folder.path().join("usr/lib/pkgconfig/vrange.pc").is_file());
        assert_eq!(fs::read_link(folder.path().join("usr/lib/b")).unwrap(), Path::new("c"));
    }

    #[test]
    fn pkg_config_names_the_prefix_once() {
        let text = pkg_config(Path::new("/opt/vrange"));
        assert_eq!(text.matches("/opt/vrange").count(), 1);
    }
}
