//! Debian's own kernels, downloaded with apt and unpacked without being installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::CommandExt;

/// A long-term kernel that Debian 12 carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Series {
    /// Debian 12's own.
    V6_1,
    /// Debian 13's, also built for Debian 12.
    V6_12,
}

impl Series {
    /// A pattern for `apt-cache search` that finds the series' packages and no metapackage.
    fn pattern(self) -> &'static str {
        match self {
            Self::V6_1 => r"^linux-image-6\.1\.[0-9]+-[0-9]+-cloud-amd64$",
            Self::V6_12 => r"^linux-image-6\.12\.[0-9]+\+deb[0-9]+-cloud-amd64$",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::V6_1 => "linux-image-6.1.",
            Self::V6_12 => "linux-image-6.12.",
        }
    }
}

/// The kernel modules zram needs, in the order in which they have to be loaded. What a kernel has built in, or does
/// not have, is skipped.
const ZRAM_MODULES: &[&str] = &[
    "lzo_compress",
    "lzo_decompress",
    "lzo",
    "lzo-rle",
    "lz4_compress",
    "lz4hc_compress",
    "lz4_decompress",
    "842_compress",
    "842_decompress",
    "zsmalloc",
    "zram",
];

/// A kernel that lies unpacked in a folder.
pub(super) struct Kernel {
    release: String,
    image: PathBuf,
    folder: PathBuf,
}

impl Kernel {
    /// Finds the newest kernel of the series and unpacks it below `cache`, unless it is there.
    ///
    /// # Errors
    /// apt knows no such kernel and none is in the cache, or it cannot be downloaded or unpacked.
    pub(super) fn fetch(series: Series, cache: &Path) -> Result<Self> {
        fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let listing =
            Command::new("apt-cache").args(["search", "--names-only", series.pattern()]).output_text()?;
        let package = match newest(listing.lines().filter_map(|line| line.split_whitespace().next())) {
            Some(package) => package.to_owned(),
            None => newest_cached(series, cache)?,
        };
        let folder = cache.join(&package);
        if !folder.is_dir() {
            download(&package, cache)?;
        }
        Self::open(&folder)
    }

    fn open(folder: &Path) -> Result<Self> {
        let boot = folder.join("boot");
        let entries = fs::read_dir(&boot).with_context(|| format!("cannot list {}", boot.display()))?;
        for entry in entries {
            let image = entry?.path();
            let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(release) = name.strip_prefix("vmlinuz-") {
                return Ok(Self { release: release.to_owned(), image, folder: folder.to_owned() });
            }
        }
        bail!("{} has no kernel: remove the folder to download it again", boot.display());
    }

    /// What `uname -r` says in the guest.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// The file that QEMU boots.
    pub(super) fn image(&self) -> &Path {
        &self.image
    }

    /// The modules that zram needs: file names that sort in loading order, and contents.
    ///
    /// # Errors
    /// The kernel has no zram, or a module cannot be read.
    pub(super) fn zram_modules(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        list_files(&self.folder.join("lib/modules"), &mut files)?;
        let mut modules = Vec::new();
        for (order, module) in ZRAM_MODULES.iter().enumerate() {
            let found = files.iter().find(|file| {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                name.strip_suffix(".xz").unwrap_or(&name).strip_suffix(".ko") == Some(module)
            });
            match found {
                Some(file) => modules.push((format!("{order:02}-{module}.ko"), read_module(file)?)),
                None if *module == "zram" => bail!("kernel {} has no zram module", self.release),
                None => {}
            }
        }
        Ok(modules)
    }
}

/// Modules are plain on 6.1 and compressed with xz on 6.12.
fn read_module(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(file)
        .output()
        .context("cannot start xz")?;
    if !output.status.success() {
        bail!("xz cannot unpack {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list_files(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn newest_cached(series: Series, cache: &Path) -> Result<String> {
    let names: Vec<String> = fs::read_dir(cache)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.starts_with(series.prefix()))
        .collect();
    newest(names.iter().map(String::as_str)).map(str::to_owned).with_context(|| {
        format!("apt knows no package like {}…-cloud-amd64: run `apt-get update` first", series.prefix())
    })
}

/// The package with the highest version; signed kernels only, since the unsigned ones hold the same.
fn newest<'a>(packages: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    packages.filter(|package| package.ends_with("-cloud-amd64")).max_by_key(|package| {
        package
            .split(|character: char| !character.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect::<Vec<u64>>()
    })
}

/// Downloads and unpacks a package into `cache`, in a folder of its name that appears only when it is complete.
fn download(package: &str, cache: &Path) -> Result<()> {
    println!("downloading {package}");
    let partial = cache.join(format!("{package}.partial"));
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial)?;
    Command::new("apt-get")
        // apt's own user cannot write here, and apt says so at length.
        .args(["download", "-qq", "-o", "APT::Sandbox::User=root", package])
        .current_dir(&partial)
        .run()?;
    let archive = fs::read_dir(&partial)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get downloaded no package {package}"))?;
    Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&partial).run()?;
    fs::remove_file(&archive)?;
    fs::rename(&partial, cache.join(package)).with_context(|| format!("cannot keep {package}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_is_chosen_by_number() {
        let packages = ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"];
        assert_eq!(newest(packages.into_iter()), Some(packages[1]));
        let packages = [
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-6.12.200+deb12-cloud-amd64-unsigned",
        ];
        assert_eq!(newest(packages.into_iter()), Some(packages[0]));
        assert_eq!(newest(std::iter::empty()), None);
    }
}
