//! `vrange run`: the library is loaded into the program, or the program is not run.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use common::{are_built, run, stderr, stdout, vrange};
use vrange_testing::{copy_program, skipped, write_program};

fn is_built() -> bool {
    are_built(&["libvrange_preload.so"])
}

/// `vrange run` with the allocator left as it is.
fn run_plain(arguments: &[&str]) -> Output {
    vrange().args(["run", "--malloc", "none"]).args(arguments).output().expect("the command starts")
}

#[track_caller]
fn refused(output: &Output, code: i32, says: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert!(stderr(output).contains(says), "{}", stderr(output));
    assert_eq!(stdout(output), "", "the program ran all the same");
}

#[test]
fn a_program_runs_with_its_arguments_environment_and_exit_code() {
    if !is_built() {
        return;
    }
    let output = vrange()
        .args([
            "run",
            "--paired",
            "--malloc",
            "none",
            "--",
            "sh",
            "-c",
            "echo \"$0 $1 $VRANGE_MODE $LD_PRELOAD\"; exit 7",
            "a",
            "--b",
        ])
        .env("LD_PRELOAD", "")
        .output()
        .expect("the command starts");
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.starts_with("a --b paired /") && said.ends_with("/libvrange_preload.so\n"), "{said}");
    let output = run_plain(&["sh", "-c", "echo $VRANGE_MODE"]);
    assert_eq!(stdout(&output), "implicit\n");
}

#[test]
fn what_the_user_preloads_is_kept() {
    if !is_built() {
        return;
    }
    let libc = "libc.so.6";
    let output = vrange()
        .args(["run", "--malloc", "none", "sh", "-c", "echo $LD_PRELOAD"])
        .env("LD_PRELOAD", libc)
        .output()
        .expect("the command starts");
    assert!(stdout(&output).ends_with(&format!("libvrange_preload.so:{libc}\n")), "{}", stdout(&output));
}

/// Also those that have the name of one of ours.
#[test]
fn options_behind_the_program_are_the_programs() {
    if !is_built() {
        return;
    }
    for arguments in [["--stats", "--json"], ["--help", "-h"], ["--version", "--"], ["--limit", "x"]] {
        for separated in [false, true] {
            let mut command = vrange();
            command.args(["run", "--malloc", "none"]);
            command.args(separated.then_some("--")).arg("/usr/bin/printf").args(["%s %s\n"]).args(arguments);
            let output = command.output().expect("the command starts");
            assert_eq!(stdout(&output), format!("{}\n", arguments.join(" ")), "{}", stderr(&output));
        }
    }
    // The first argument of all: `cat` has no option of that name.
    let output = run_plain(&["cat", "--stats"]);
    assert!(stderr(&output).contains("cat:") && !output.status.success(), "{}", stderr(&output));
    // In front of it, one that is unknown is refused.
    refused(&run_plain(&["--frobnicate", "sh", "-c", "echo ran"]), 2, "--frobnicate");
}

/// The advice works in a program and in what it starts.
#[test]
fn the_advice_is_known_in_the_program_and_its_children() {
    if !is_built() || !Path::new("/usr/bin/python3").exists() {
        return skipped("needs libvrange_preload.so and /usr/bin/python3");
    }
    let script = "import mmap; m = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE|mmap.MAP_ANONYMOUS); m.madvise(5); print('known')";
    let output = run_plain(&["sh", "-c", &format!("/usr/bin/python3 -c \"{script}\"")]);
    assert_eq!(stdout(&output), "known\n", "{}", stderr(&output));
    let plain = Command::new("/usr/bin/python3").args(["-c", script]).output().expect("python");
    assert!(!plain.status.success(), "a stock kernel knows the advice?");
}

#[test]
fn a_program_that_is_not_there_is_said_not_to_be() {
    refused(&run(&["run", "no-such-program-anywhere"]), 127, "no program no-such-program-anywhere");
}

#[test]
fn a_static_program_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let (source, program) = (folder.path().join("static.c"), folder.path().join("static"));
    fs::write(&source, "#include <stdio.h>\nint main(void) { return puts(\"ran\") < 0; }\n").expect("a file");
    let compiled = Command::new("cc").arg("-static").arg("-o").args([&program, &source]).status();
    if !compiled.is_ok_and(|status| status.success()) {
        return skipped("no static program can be compiled here");
    }
    let output = vrange().arg("run").arg(&program).output().expect("the command starts");
    refused(&output, 126, "is statically linked");
    // A script that it would interpret, too.
    let script = folder.path().join("script");
    write_program(&script, &format!("#!{}\n", program.display()));
    let output = vrange().arg("run").arg(&script).output().expect("the command starts");
    refused(&output, 126, "is statically linked");
}

#[test]
fn a_program_with_other_rights_is_refused() {
    if !is_built() {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let program = folder.path().join("echo");
    copy_program("/bin/echo", &program);
    if std::os::unix::fs::chown(&program, Some(65534), None).is_err() {
        return skipped("only root can give a file to another user");
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("to be made set-user-ID");
    let output = vrange().arg("run").arg(&program).arg("ran").output().expect("the command starts");
    refused(&output, 126, "set-user-ID");
    // The control: the same program without the right runs.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("to be made plain");
    let output = run_plain(&[program.to_str().expect("UTF-8"), "ran"]);
    assert_eq!(stdout(&output), "ran\n", "{}", stderr(&output));
}

#[test]
fn what_is_no_program_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("file");
    write_program(&file, "echo ran\n");
    let output = vrange().arg("run").arg(&file).output().expect("the command starts");
    refused(&output, 126, "is not a program");
}

/// Only glibc's dynamic linker is asked what it would load; another might run the program instead.
#[test]
fn a_program_for_another_c_library_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let (linker, source) = (folder.path().join("ld-other.so.1"), folder.path().join("program.c"));
    fs::write(&source, "#include <stdio.h>\nint main(void) { return puts(\"ran\") < 0; }\n").expect("a file");
    let library = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&linker, &source]).status();
    let program = folder.path().join("program");
    let linked = Command::new("cc")
        .arg(format!("-Wl,--dynamic-linker={}", linker.display()))
        .arg("-o")
        .args([&program, &source])
        .status();
    if ![library, linked].into_iter().all(|status| status.is_ok_and(|status| status.success())) {
        return skipped("no C program can be compiled here");
    }
    for malloc in ["auto", "none"] {
        let start = || vrange().args(["run", "--malloc", malloc]).arg(&program).output();
        refused(&start().expect("the command starts"), 126, "is linked with another C library than glibc");
        fs::rename(&linker, folder.path().join("away")).expect("to be moved");
        refused(&start().expect("the command starts"), 126, "ld-other.so.1, which is not there");
        fs::rename(folder.path().join("away"), &linker).expect("to be moved back");
    }
}

#[test]
fn a_script_that_interprets_itself_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let script = folder.path().join("script");
    write_program(&script, &format!("#!{}\n", script.display()));
    let output = vrange().arg("run").arg(&script).output().expect("the command starts");
    refused(&output, 126, "more interpreters than the kernel follows");
}
