//! The library as a C or C++ program has it: installed, found with pkg-config, linked in both ways, and run, also under valgrind
//! and AddressSanitizer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;
use vrange_testing::skipped;

/// Every program, from this crate's folder, and what it says last.
const PROGRAMS: [(&str, &str); 5] = [
    ("examples/thumbnails.c", "every pixel right"),
    ("examples/freelist.c", "for the kernel to take"),
    ("examples/vectors.cpp", "right again: yes"),
    ("tests/programs/every_call.c", "every call did as it should"),
    ("tests/programs/last_thread.c", "the process ended with its last thread"),
];

/// What an exit status of valgrind's own is.
const FOUND: i32 = 99;

struct Installed {
    folder: TempDir,
}

impl Installed {
    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn list(&self, folder: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.path(folder)).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
    }

    /// What pkg-config says of the library, a word each.
    fn pkg_config(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", self.path("lib/pkgconfig")).args(arguments).arg("vrange");
        run(&mut command).split_whitespace().map(str::to_owned).collect()
    }
}

/// Installed once for all tests, as a user does it.
fn installed() -> &'static Installed {
    static INSTALLED: OnceLock<Installed> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO"));
        // The manual pages of the workspace's command come with it.
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args([
            "run",
            "--quiet",
            "--locked",
            "--package",
            "xtask",
        ]);
        command.args(["--", "install", "--debug", "--prefix"]).arg(folder.path());
        command.env_remove("DESTDIR");
        run(&mut command);
        Installed { folder }
    })
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {status}: {said}{}", String::from_utf8_lossy(&stderr));
    said
}

fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skipped(&format!("there is no {program}"));
    }
    found
}

/// A compiler for the source, which takes every warning for an error.
fn compiler(source: &str) -> Command {
    let (variable, default, standard) = match source.rsplit_once('.') {
        Some((_, "cpp")) => ("CXX", "c++", "-std=c++17"),
        _ => ("CC", "cc", "-std=c11"),
    };
    let mut command = Command::new(std::env::var_os(variable).unwrap_or_else(|| default.into()));
    command.args([standard, "-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(source));
    command.args(installed().pkg_config(&["--cflags"]));
    command
}

/// Compiles a program with the shared library, which it finds where it is installed.
fn compiled(source: &str, flags: &[&str], to: &Path) -> PathBuf {
    let program = to.join(Path::new(source).file_stem().expect("a name"));
    let mut command = compiler(source);
    command.args(flags).args(installed().pkg_config(&["--libs"]));
    command.arg(format!("-Wl,-rpath,{}", installed().path("lib").display())).arg("-o").arg(&program);
    run(&mut command);
    program
}

fn assert_runs(program: &Path, through: &[&str], last_words: &str) {
    let mut command = match through {
        [] => Command::new(program),
        [wrapper, arguments @ ..] => {
            let mut command = Command::new(wrapper);
            command.args(arguments).arg(program);
            command
        }
    };
    let said = run(&mut command);
    assert!(said.contains(last_words), "{}: {said}", program.display());
}

#[test]
fn programs_run_with_the_shared_library() {
    let folder = tempfile::tempdir().expect("a folder");
    for (source, last_words) in PROGRAMS {
        assert_runs(&compiled(source, &[], folder.path()), &[], last_words);
    }
}

#[test]
fn programs_run_with_the_static_library() {
    let folder = tempfile::tempdir().expect("a folder");
    for (source, last_words) in PROGRAMS {
        let program = folder.path().join("program");
        let mut command = compiler(source);
        // The archive by its name, since the linker would prefer the shared library.
        command.arg(installed().path("lib/libvrange.a"));
        let libraries = installed().pkg_config(&["--static", "--libs-only-l"]);
        command.args(libraries.iter().filter(|library| *library != "-lvrange")).arg("-o").arg(&program);
        run(&mut command);
        assert_runs(&program, &[], last_words);
    }
}

#[test]
fn programs_run_under_valgrind() {
    if !is_there("valgrind") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let exit = format!("--error-exitcode={FOUND}");
    // The reclaimer's thread outlives `main`, so what it holds is possibly lost.
    let kinds = "--errors-for-leak-kinds=definite,indirect";
    let valgrind =
        ["valgrind", "--quiet", exit.as_str(), "--leak-check=full", "--show-leak-kinds=definite", kinds];
    for (source, last_words) in PROGRAMS {
        assert_runs(&compiled(source, &[], folder.path()), &valgrind, last_words);
    }
}

/// The control: what the test before looks for is found.
#[test]
fn control_valgrind_finds_what_is_wrong() {
    if !is_there("valgrind") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let program = compiled("tests/programs/wrong.c", &[], folder.path());
    let exit = format!("--error-exitcode={FOUND}");
    let mut command = Command::new("valgrind");
    command.args(["--quiet", &exit, "--leak-check=full", "--errors-for-leak-kinds=definite"]).arg(program);
    assert_eq!(command.output().expect("valgrind").status.code(), Some(FOUND));
}

#[test]
fn programs_run_under_address_sanitizer() {
    let folder = tempfile::tempdir().expect("a folder");
    for (source, last_words) in PROGRAMS {
        let program =
            compiled(source, &["-fsanitize=address,undefined", "-fno-sanitize-recover"], folder.path());
        assert_runs(&program, &[], last_words);
    }
}

/// What programs may call is what the header declares, and has a manual page.
#[test]
fn the_library_the_header_and_the_manual_have_the_same_functions() {
    let header = fs::read_to_string(installed().path("include/vrange.h")).expect("the header");
    let declared: BTreeSet<String> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '#', '}']))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("vrange_"))
        .map(str::to_owned)
        .collect();
    assert!(declared.len() > 30, "{declared:?}");

    let mut command = Command::new("nm");
    command.args(["--dynamic", "--defined-only", "--format=posix"]).arg(installed().path("lib/libvrange.so"));
    let exported: BTreeSet<String> =
        run(&mut command).lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert_eq!(exported, declared);

    let pages = installed().list("share/man/man3");
    for name in &declared {
        assert!(pages.contains(&format!("{name}.3")), "{name} has no manual page");
    }
}

#[test]
fn the_manual_has_no_mistakes() {
    if !is_there("groff") {
        return;
    }
    let pages: Vec<_> = ["share/man/man1", "share/man/man3", "share/man/man7"]
        .into_iter()
        .flat_map(|folder| installed().list(folder).into_iter().map(move |page| format!("{folder}/{page}")))
        .collect();
    assert!(pages.iter().any(|page| page.ends_with("/vrange-run.1")), "{pages:?}");
    for page in pages {
        let mut command = Command::new("groff");
        // From the manual's root, where pages that lead to others look for them.
        command.current_dir(installed().path("share/man"));
        command.args(["-man", "-t", "-s", "-Tutf8", "-ww", "-z"]).arg(installed().path(&page));
        let output = command.output().expect("groff");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{page}: {said}");
    }
}

/// The command that was installed finds the libraries that were installed.
#[test]
fn the_installed_command_runs_programs() {
    for (malloc, library) in [("none", "lib/libvrange_preload.so"), ("mimalloc", "lib/libvrange_mimalloc.so")]
    {
        let mut command = Command::new(installed().path("bin/vrange"));
        command.env_remove("LD_PRELOAD");
        let said = run(command.args(["run", "--malloc", malloc, "--", "/bin/sh", "-c", "echo $LD_PRELOAD"]));
        assert_eq!(said.trim_end(), installed().path(library).to_string_lossy());
    }
}
