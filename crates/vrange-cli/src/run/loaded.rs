//! What the dynamic linker would load with a program.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::PRELOAD;
use super::program::Program;
use crate::failure::Failure;

/// What else would have the dynamic linker say more, or do more, than list.
const TALKATIVE: [&str; 4] = ["LD_VERBOSE", "LD_DEBUG", "LD_WARN", "LD_BIND_NOW"];

/// The files, in the order in which a symbol is looked for in them, but for the program itself, which comes first.
///
/// # Errors
/// The dynamic linker cannot be asked, or says that it could not load the program.
pub(super) fn objects(program: &Program, preload: &OsStr) -> Result<Vec<PathBuf>, Failure> {
    let cannot = |why: &str| {
        Failure::cannot_run(format!("cannot list what is loaded with {}: {why}", program.file.display()))
            .hint("with `--malloc none` nobody looks for the program's allocator")
    };
    let mut command = Command::new(&program.linker);
    for variable in TALKATIVE {
        command.env_remove(variable);
    }
    // As `ldd` does, but by a call of the linker itself: no code of the program can run.
    let output = command
        .arg("--list")
        .arg(&program.file)
        .env(PRELOAD, preload)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot(&format!("{}: {error}", program.linker.display())))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(cannot(said.lines().next().unwrap_or("the dynamic linker failed")));
    }
    Ok(parse(&output.stdout))
}

/// Reads lines `name => path (0x…)` and `path (0x…)`. What has no file (`linux-vdso.so.1`) or was not found is left out.
fn parse(list: &[u8]) -> Vec<PathBuf> {
    list.split(|byte| *byte == b'\n').filter_map(path_in).collect()
}

fn path_in(line: &[u8]) -> Option<PathBuf> {
    let line = line.strip_prefix(b"\t")?.strip_suffix(b")")?;
    let line = &line[..position(line, b" (0x", Side::Last)?];
    let path = match position(line, b" => ", Side::First) {
        Some(arrow) => &line[arrow + b" => ".len()..],
        None => line,
    };
    path.contains(&b'/').then(|| PathBuf::from(OsString::from_vec(path.to_vec())))
}

#[derive(Clone, Copy)]
enum Side {
    First,
    Last,
}

/// Where a part of the line begins. Paths need not be text.
fn position(line: &[u8], part: &[u8], side: Side) -> Option<usize> {
    let mut windows = line.windows(part.len());
    match side {
        Side::First => windows.position(|window| window == part),
        Side::Last => windows.rposition(|window| window == part),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_list_is_read_in_its_order() {
        let list = b"\tlinux-vdso.so.1 (0x00007fc852925000)\n\
            \t/opt/my (new) libs/libfirst.so (0x00007f2a20e00000)\n\
            \tlibjemalloc.so.2 => /lib/x86_64-linux-gnu/libjemalloc.so.2 (0x00007f0bc9600000)\n\
            \tlibmissing.so.1 => not found\n\
            \tlib\xff.so => ./lib\xff.so (0x00007f0bc9600000)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0bc92a5000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f0bc9a7e000)\n";
        let expected: [&[u8]; 5] = [
            b"/opt/my (new) libs/libfirst.so",
            b"/lib/x86_64-linux-gnu/libjemalloc.so.2",
            b"./lib\xff.so",
            b"/lib/x86_64-linux-gnu/libc.so.6",
            b"/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse(list), expected.map(|path| PathBuf::from(OsStr::from_bytes(path))));
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "",
            "\tstatically linked",
            "\tVersion information:",
            "\t\tlibc.so.6 (GLIBC_2.34) => /lib/x86_64-linux-gnu/libc.so.6",
            "no tab => /lib/libno.so (0x0)",
        ] {
            assert_eq!(parse(line.as_bytes()), Vec::<PathBuf>::new(), "{line:?}");
        }
    }
}
