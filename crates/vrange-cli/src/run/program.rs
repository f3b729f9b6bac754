//! Whether a program will really run with the library. One that would silently run without it is refused.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{ELFCLASS64, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use rustix::process::{getegid, geteuid};

use super::symbols::Symbols;
use crate::failure::Failure;

/// Interpreters of interpreters, as far as the kernel follows them.
const INTERPRETERS_MAX: u32 = 5;
/// The kernel looks at no more of a script's first line.
const FIRST_LINE_BYTES: u64 = 256;
const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = object::elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = object::elf::EM_AARCH64;

/// What really runs: a program that the dynamic linker will load the library into.
#[derive(Debug)]
pub(super) struct Program {
    /// The program itself, or the one that interprets a script, without symbolic links.
    pub(super) file: PathBuf,
    /// The dynamic linker that it names.
    pub(super) linker: PathBuf,
}

/// The file that a shell would run for this name.
pub(super) fn find(name: &OsStr) -> Result<PathBuf, Failure> {
    which::which(name).map_err(|_| {
        let is_there = name.as_bytes().contains(&b'/') && Path::new(name).exists();
        if is_there {
            return Failure::cannot_run(format!("{} is not a file that may be executed", name.display()));
        }
        Failure::not_found(format!("no program {}", name.display()))
            .hint("give a path, or the name of a program in PATH")
    })
}

/// Is the program, and whatever interprets it, one that the dynamic linker will load the library into?
pub(super) fn check(path: &Path) -> Result<Program, Failure> {
    let mut current = path.to_owned();
    for _ in 0..=INTERPRETERS_MAX {
        check_rights(&current)?;
        match interpreter_of(&current)? {
            Some(interpreter) => current = interpreter,
            None => return check_dynamic(&current),
        }
    }
    Err(Failure::cannot_run(format!("{} has more interpreters than the kernel follows", path.display())))
}

fn refused(path: &Path, why: &str, hint: &str) -> Failure {
    Failure::cannot_run(format!("{} {why}, so the library would not be loaded into it", path.display()))
        .hint(hint)
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::cannot_run(format!("cannot look into {}: {error}", path.display()))
        .hint("the program must be readable, to see whether the library can be loaded into it")
}

/// The dynamic linker ignores `LD_PRELOAD` in programs that run with other rights than their caller's (ld.so(8),
/// "secure-execution mode").
fn check_rights(path: &Path) -> Result<(), Failure> {
    let metadata = fs::metadata(path).map_err(|error| cannot_read(path, &error))?;
    let other_user = metadata.mode() & SET_USER != 0 && metadata.uid() != geteuid().as_raw();
    let other_group = metadata.mode() & SET_GROUP != 0 && metadata.gid() != getegid().as_raw();
    if other_user || other_group {
        return Err(refused(
            path,
            "is set-user-ID or set-group-ID",
            "run it as its owner, or run a copy of it",
        ));
    }
    let capabilities = rustix::fs::getxattr(path, "security.capability", &mut [0u8; 64]).is_ok();
    if capabilities && !geteuid().is_root() {
        return Err(refused(path, "has file capabilities", "run it as root, or run a copy of it"));
    }
    Ok(())
}

/// What the first line of a script names.
fn interpreter_of(path: &Path) -> Result<Option<PathBuf>, Failure> {
    let mut first = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FIRST_LINE_BYTES).read_to_end(&mut first))
        .map_err(|error| cannot_read(path, &error))?;
    Ok(interpreter_in(&first))
}

fn interpreter_in(first: &[u8]) -> Option<PathBuf> {
    let line = first.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.next().map(|word| PathBuf::from(OsStr::from_bytes(word)))
}

/// Does the dynamic linker run it, and can it load this library?
fn check_dynamic(path: &Path) -> Result<Program, Failure> {
    let data = fs::read(path).map_err(|error| cannot_read(path, &error))?;
    match kind(&data) {
        Kind::Dynamic { linker } => {
            let linker = PathBuf::from(OsStr::from_bytes(linker));
            check_linker(path, &linker)?;
            let file = path.canonicalize().map_err(|error| cannot_read(path, &error))?;
            Ok(Program { file, linker })
        }
        Kind::Static => Err(refused(
            path,
            "is statically linked",
            "use a dynamically linked build, or the C library's calls",
        )),
        Kind::OtherMachine => {
            Err(refused(path, "was built for another kind of machine", "use a build for this one"))
        }
        // A script without a first line that says so: it is for a shell.
        Kind::NoProgram => Err(Failure::cannot_run(format!("{} is not a program", path.display()))
            .hint("name the interpreter: vrange run -- sh FILE")),
    }
}

/// The library needs glibc, and only glibc's dynamic linker lists what it would load: musl's would run the program instead.
fn check_linker(path: &Path, linker: &Path) -> Result<(), Failure> {
    if !linker.exists() {
        let what = format!("needs the dynamic linker {}, which is not there", linker.display());
        return Err(refused(path, &what, "use a build for this system"));
    }
    if !Symbols::of_library(linker)?.exports("_rtld_global") {
        let what =
            format!("is linked with another C library than glibc (its linker is {})", linker.display());
        return Err(refused(path, &what, "use a build for glibc"));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind<'data> {
    Dynamic { linker: &'data [u8] },
    Static,
    OtherMachine,
    NoProgram,
}

fn kind(data: &[u8]) -> Kind<'_> {
    if !data.starts_with(b"\x7fELF") {
        return Kind::NoProgram;
    }
    if data.get(4) != Some(&ELFCLASS64) {
        return Kind::OtherMachine;
    }
    let Ok(header) = FileHeader64::<Endianness>::parse(data) else { return Kind::NoProgram };
    let Ok(endian) = header.endian() else { return Kind::NoProgram };
    if header.e_machine(endian) != MACHINE {
        return Kind::OtherMachine;
    }
    let Ok(segments) = header.program_headers(endian, data) else { return Kind::NoProgram };
    match segments.iter().find_map(|segment| segment.interpreter(endian, data).transpose()) {
        Some(Ok(linker)) => Kind::Dynamic { linker },
        Some(Err(_)) => Kind::NoProgram,
        None => Kind::Static,
    }
}

#[cfg(test)]
mod tests {
    use object::elf::PT_INTERP;

    use super::*;

    #[test]
    fn the_first_line_of_a_script_names_its_interpreter() {
        for (line, interpreter) in [
            ("#!/bin/sh\nexit", Some("/bin/sh")),
            ("#! /usr/bin/env -S python3 -u\n", Some("/usr/bin/env")),
            ("#!\n", None),
            ("echo\n", None),
            ("", None),
        ] {
            assert_eq!(interpreter_in(line.as_bytes()), interpreter.map(PathBuf::from), "{line:?}");
        }
    }

    #[test]
    fn programs_are_told_apart() {
        let this = fs::read(std::env::current_exe().expect("a path")).expect("this test program");
        let Kind::Dynamic { linker } = kind(&this) else { panic!("{:?}", kind(&this)) };
        assert!(linker.starts_with(b"/") && !linker.contains(&0), "{}", linker.escape_ascii());
        let mut other = this.clone();
        other[18..20].copy_from_slice(&object::elf::EM_S390.to_le_bytes());
        assert_eq!(kind(&other), Kind::OtherMachine);
        let mut narrow = this.clone();
        narrow[4] = object::elf::ELFCLASS32;
        assert_eq!(kind(&narrow), Kind::OtherMachine);
        assert_eq!(kind(&this[..60]), Kind::NoProgram);
        assert_eq!(kind(b"echo"), Kind::NoProgram);
        // Without the entry that names the dynamic linker.
        let mut plain = this;
        let count = usize::from(u16::from_le_bytes([plain[56], plain[57]]));
        for entry in 0..count {
            let at = 64 + entry * 56;
            if plain[at..at + 4] == PT_INTERP.to_le_bytes() {
                plain[at] = 0;
            }
        }
        assert_eq!(kind(&plain), Kind::Static);
    }
}
