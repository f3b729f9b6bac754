//! What a guest boots: busybox, the programs, the modules for zram, and the script that runs them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};

use super::archive::Archive;
use super::kernel::Kernel;
use super::programs::Job;

/// The guest's first process.
const INIT: &str = include_str!("init.sh");

/// Stands in for the part of a service manager that the demo asks for.
const SYSTEMD_RUN: &str = include_str!("systemd-run.sh");

/// Writes an initramfs to `path`.
///
/// It is not compressed: emulated, a guest would spend longer unpacking than reading.
///
/// # Errors
/// A program or a module cannot be read, or the disk is full.
pub(super) fn write(path: &Path, kernel: &Kernel, jobs: &[Job]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for folder in ["bin", "proc", "sys", "dev", "tmp", "scratch", "modules", "etc"] {
        archive.folder(folder)?;
    }
    archive.program("init", INIT.as_bytes())?;
    archive.file("etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")?;
    archive.file("jobs", job_list(jobs).as_bytes())?;
    archive.program("bin/busybox", &read(&busybox()?)?)?;
    archive.program("bin/systemd-run", SYSTEMD_RUN.as_bytes())?;
    for (name, contents) in kernel.zram_modules()? {
        archive.file(&format!("modules/{name}"), &contents)?;
    }
    // A program that several jobs run is packed once.
    let programs: BTreeMap<&str, &Path> =
        jobs.iter().map(|job| (job.name.as_str(), job.executable.as_path())).collect();
    for (name, executable) in programs {
        archive.program(&format!("bin/{name}"), &read(executable)?)?;
    }
    archive.finish().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// One line a job: the program and its arguments.
fn job_list(jobs: &[Job]) -> String {
    let mut list = String::new();
    for job in jobs {
        list.push_str(&job.name);
        for argument in &job.arguments {
            list.push(' ');
            list.push_str(argument);
        }
        list.push('\n');
    }
    list
}

fn busybox() -> Result<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("busybox"))
        .find(|candidate| candidate.is_file())
        .context("busybox is not on the PATH (package busybox-static)")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_list_has_a_line_for_each_job() {
        let job = |name: &str, arguments: &[&str]| Job {
            name: name.to_owned(),
            executable: "x".into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(job_list(&[job("a", &["--b", "c"]), job("d", &[])]), "a --b c\nd\n");
    }
}
