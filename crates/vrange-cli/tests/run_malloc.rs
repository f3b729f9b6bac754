//! `vrange run`: which allocator a program gets, told by what it is started with and by what is said about it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{are_built, stderr, stdout, vrange, wait_until};
use vrange_testing::{copy_program, skipped, without_allocator_settings, write_program};

const PRELOAD: &str = "libvrange_preload.so";
const MIMALLOC: &str = "libvrange_mimalloc.so";
const JEMALLOC_SETTINGS: &str = "dirty_decay_ms:0,muzzy_decay_ms:0,oversize_threshold:0";

/// `vrange run` with nothing inherited that matters to it.
fn vrange_run(options: &[&str]) -> Command {
    let mut command = vrange();
    without_allocator_settings(&mut command);
    command.arg("run").args(options).arg("--");
    command
}

/// The environment that a program said it has.
struct Environment(Vec<(String, String)>);

impl Environment {
    fn read(text: &str) -> Self {
        let pairs = text.split(['\n', '\0']).filter_map(|line| line.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[track_caller]
    fn of(output: &Output) -> Self {
        assert!(output.status.success(), "{}: {}", output.status, stderr(output));
        Self::read(&stdout(output))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// What is preloaded, by the names of the files. Ours has to be named by its path.
    #[track_caller]
    fn preloaded(&self) -> Vec<&str> {
        let list: Vec<&str> = self.get("LD_PRELOAD").expect("something is preloaded").split(':').collect();
        assert!(list[0].starts_with('/'), "{list:?}");
        list.into_iter().map(|path| path.rsplit('/').next().expect("a part")).collect()
    }
}

#[track_caller]
fn environment_of_sh(mut command: Command) -> Environment {
    Environment::of(&command.args(["sh", "-c", "env"]).output().expect("the command starts"))
}

/// Writes its environment.
const SAY: &str = "#include <stdio.h>\n#include <stdlib.h>\nextern char **environ;\n\
    int main(void) { void *volatile some = malloc(100); free(some);\n\
    for (char **each = environ; *each; each++) puts(*each); return 0; }\n";

/// An allocator, of a kind.
const ALLOCATOR: &str = "#include <stddef.h>\n#include <string.h>\n\
    static _Alignas(16) char pool[64 << 20]; static size_t used;\n\
    void *malloc(size_t bytes) { size_t all = (bytes + 31) & ~(size_t)15;\n\
        size_t at = __atomic_fetch_add(&used, all, __ATOMIC_RELAXED); if (at + all > sizeof pool) return NULL;\n\
        memcpy(pool + at, &bytes, sizeof bytes); return pool + at + 16; }\n\
    void free(void *block) { (void)block; }\n\
    void *calloc(size_t count, size_t bytes) { return malloc(count * bytes); }\n\
    void *realloc(void *block, size_t bytes) { void *other = malloc(bytes); size_t old;\n\
        if (block && other) { memcpy(&old, (char *)block - 16, sizeof old);\n\
            memcpy(other, block, old < bytes ? old : bytes); } return other; }\n";

/// A place for programs that are made for a test.
struct Workshop(tempfile::TempDir);

impl Workshop {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Compiles `name` from C. Says why if that cannot be done here.
    fn compile(&self, name: &str, source: &str, options: &[&str]) -> Option<PathBuf> {
        let (file, made) = (self.path(&format!("{name}.c")), self.path(name));
        fs::write(&file, source).expect("a file");
        let compiled = Command::new("cc")
            .args(["-fno-builtin", "-Wl,--no-as-needed", "-o"])
            .args([&made, &file])
            .args(options)
            .stderr(Stdio::null())
            .status();
        let is_made = compiled.is_ok_and(|status| status.success());
        if !is_made {
            skipped(&format!("no C program can be compiled here with {options:?}"));
        }
        is_made.then_some(made)
    }

    /// A library of that name, and a program that is linked with it.
    fn linked_with(&self, library: &str, source: &str) -> Option<PathBuf> {
        self.compile(library, source, &["-shared", "-fPIC", &format!("-Wl,-soname,{library}")])?;
        let folder = self.0.path().to_str().expect("UTF-8");
        let options = [&format!("-L{folder}"), &format!("-Wl,-rpath,{folder}"), &format!("-l:{library}")];
        self.compile("say", SAY, &options.map(String::as_str))
    }
}

/// Does the dynamic linker find the library?
fn is_installed(library: &str) -> bool {
    let output = Command::new("/bin/sh").args(["-c", ":"]).env("LD_PRELOAD", library).output().expect("sh");
    let installed = !stderr(&output).contains("cannot be preloaded");
    if !installed {
        skipped(&format!("{library} is not installed"));
    }
    installed
}

#[test]
fn the_allocator_of_libc_is_replaced_by_mimalloc() {
    if !are_built(&[MIMALLOC]) {
        return;
    }
    for options in [&[][..], &["--malloc", "auto"], &["--malloc", "mimalloc"]] {
        let environment = environment_of_sh(vrange_run(options));
        assert_eq!(environment.preloaded(), [MIMALLOC]);
        assert_eq!(environment.get("VRANGE_MALLOC"), Some("on"));
        assert_eq!(environment.get("VRANGE_MODE"), Some("implicit"));
        assert_eq!(environment.get("VRANGE_DECAY"), Some("10"));
        for unset in ["VRANGE_LIMIT", "VRANGE_STATS", "MALLOC_CONF", "TCMALLOC_AGGRESSIVE_DECOMMIT"] {
            assert_eq!(environment.get(unset), None, "{unset}");
        }
    }
}

#[test]
fn options_become_variables() {
    if !are_built(&[PRELOAD]) {
        return;
    }
    let options = ["--malloc", "none", "--decay", "0.5", "--limit", "1.5M", "--stats", "--paired"];
    let mut command = vrange_run(&options);
    // What was inherited gives way to an option.
    command.env("VRANGE_MALLOC", "on").env("VRANGE_DECAY", "7").env("VRANGE_LIMIT", "7");
    let environment = environment_of_sh(command);
    assert_eq!(environment.preloaded(), [PRELOAD]);
    for (name, value) in [
        ("VRANGE_MALLOC", "off"),
        ("VRANGE_MODE", "paired"),
        ("VRANGE_DECAY", "0.5"),
        ("VRANGE_LIMIT", "1572864"),
        ("VRANGE_STATS", "1"),
    ] {
        assert_eq!(environment.get(name), Some(value), "{name}");
    }
    let mut command = vrange_run(&["--malloc", "none"]);
    command.env("VRANGE_DECAY", "7").env("VRANGE_LIMIT", "4K").env("VRANGE_STATS", "1");
    let environment = environment_of_sh(command);
    for (name, value) in [("VRANGE_DECAY", "7"), ("VRANGE_LIMIT", "4096"), ("VRANGE_STATS", "1")] {
        assert_eq!(environment.get(name), Some(value), "{name}");
    }
}

/// What a real server gets that is linked with jemalloc.
#[test]
fn a_server_with_jemalloc_keeps_it() {
    let redis = Path::new("/usr/bin/redis-server");
    let lists =
        Command::new("ldd").arg(redis).output().is_ok_and(|list| stdout(&list).contains("libjemalloc.so.2"));
    if !lists {
        return skipped("needs a redis-server that is linked with libjemalloc.so.2");
    }
    if !are_built(&[PRELOAD]) {
        return;
    }
    let output = vrange_run(&[]).arg(redis).arg("--version").output().expect("the command starts");
    assert!(stdout(&output).starts_with("Redis server v="), "{}{}", stdout(&output), stderr(&output));

    // It waits for its configuration. The process is the command's: it becomes the program.
    let mut server = vrange_run(&[])
        .arg(redis)
        .args(["-", "--port", "0"])
        .env("MALLOC_CONF", "narenas:2")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the command starts");
    let process = PathBuf::from(format!("/proc/{}", server.id()));
    let program = redis.canonicalize().expect("a path");
    wait_until("redis-server", || fs::read_link(process.join("exe")).is_ok_and(|exe| exe == program));
    let environment = fs::read_to_string(process.join("environ")).expect("its environment");
    server.kill().expect("to be ended");
    server.wait().expect("its end");
    let environment = Environment::read(&environment);
    assert_eq!(environment.preloaded(), [PRELOAD]);
    assert_eq!(environment.get("VRANGE_MALLOC"), Some("on"));
    assert_eq!(environment.get("MALLOC_CONF"), Some(format!("{JEMALLOC_SETTINGS},narenas:2").as_str()));
}

#[test]
fn a_program_with_tcmalloc_keeps_it_and_so_does_its_script() {
    if !are_built(&[PRELOAD]) {
        return;
    }
    let workshop = Workshop::new();
    let Some(program) = workshop.compile("say", SAY, &["-l:libtcmalloc_minimal.so.4"]) else { return };
    let script = workshop.path("script");
    write_program(&script, &format!("#!{}\n", program.display()));
    for start in [&program, &script] {
        for options in [&[][..], &["--malloc", "tcmalloc"]] {
            let output = vrange_run(options).arg(start).output().expect("the command starts");
            let environment = Environment::of(&output);
            assert_eq!(environment.preloaded(), [PRELOAD]);
            assert_eq!(environment.get("VRANGE_MALLOC"), Some("on"));
            assert_eq!(environment.get("TCMALLOC_AGGRESSIVE_DECOMMIT"), Some("1"));
            assert_eq!(environment.get("MALLOC_CONF"), None);
            assert_eq!(stderr(&output), "");
        }
    }
}

/// Ours first, then the allocator that was asked for, then what the user preloads.
#[test]
fn an_allocator_that_the_program_lacks_is_brought() {
    if !are_built(&[PRELOAD]) {
        return;
    }
    for (name, library, variable, value) in [
        ("tcmalloc", "libtcmalloc_minimal.so.4", "TCMALLOC_AGGRESSIVE_DECOMMIT", "1"),
        ("jemalloc", "libjemalloc.so.2", "MALLOC_CONF", JEMALLOC_SETTINGS),
    ] {
        if !is_installed(library) {
            continue;
        }
        let mut command = vrange_run(&["--malloc", name]);
        command.env("LD_PRELOAD", "libm.so.6");
        let environment = environment_of_sh(command);
        assert_eq!(environment.preloaded(), [PRELOAD, library, "libm.so.6"]);
        assert_eq!(environment.get("VRANGE_MALLOC"), Some("on"));
        assert_eq!(environment.get(variable), Some(value));
    }
}

#[test]
fn an_allocator_that_the_user_preloads_is_found() {
    if !are_built(&[PRELOAD]) || !is_installed("libjemalloc.so.2") {
        return;
    }
    let mut command = vrange_run(&[]);
    command.env("LD_PRELOAD", "libm.so.6 libjemalloc.so.2");
    let environment = environment_of_sh(command);
    assert_eq!(environment.preloaded(), [PRELOAD, "libm.so.6", "libjemalloc.so.2"]);
    assert_eq!(environment.get("MALLOC_CONF"), Some(JEMALLOC_SETTINGS));
}

/// A program that is run by a program that is run: what was chosen for the outer one gives way.
#[test]
fn one_library_of_ours_is_enough() {
    if !are_built(&[PRELOAD]) {
        return;
    }
    let mut command = vrange_run(&["--malloc", "none"]);
    command.arg(env!("CARGO_BIN_EXE_vrange")).args(["run", "--malloc", "none"]);
    assert_eq!(environment_of_sh(command).preloaded(), [PRELOAD]);
}

#[test]
fn an_unknown_allocator_is_left_alone_unless_it_is_to_be_replaced() {
    if !are_built(&[PRELOAD]) {
        return;
    }
    let workshop = Workshop::new();
    let Some(program) = workshop.linked_with("libown.so", ALLOCATOR) else { return };
    let output = vrange_run(&[]).arg(&program).output().expect("the command starts");
    let environment = Environment::of(&output);
    assert_eq!(environment.preloaded(), [PRELOAD]);
    assert_eq!(environment.get("VRANGE_MALLOC"), Some("off"));
    let said = stderr(&output);
    assert!(said.starts_with("warning: ") && said.lines().count() == 1, "{said}");
    for part in ["/libown.so, an allocator that vrange does not know", "not marked", "`--malloc mimalloc`"] {
        assert!(said.contains(part), "{said}");
    }
    // Said once: not if that is what was asked for.
    let output = vrange_run(&["--malloc", "none"]).arg(&program).output().expect("the command starts");
    assert_eq!((Environment::of(&output).preloaded(), stderr(&output)), (vec![PRELOAD], String::new()));
    if are_built(&[MIMALLOC]) {
        let output =
            vrange_run(&["--malloc", "mimalloc"]).arg(&program).output().expect("the command starts");
        assert_eq!((Environment::of(&output).preloaded(), stderr(&output)), (vec![MIMALLOC], String::new()));
    }
}

#[test]
fn a_tcmalloc_that_cannot_be_hooked_is_said_to_be_one() {
    if !are_built(&[PRELOAD]) {
        return;
    }
    let workshop = Workshop::new();
    let functions = "void *tc_malloc(size_t bytes) { return malloc(bytes); }\n\
        size_t _Z22TCMalloc_SystemReleasePvm(void *at, size_t bytes) { return at && bytes; }\n\
        void _Z21TCMalloc_SystemCommitPvm(void *at, size_t bytes) { (void)at; (void)bytes; }\n\
        size_t uses_both(void) { _Z21TCMalloc_SystemCommitPvm(0, 0); return _Z22TCMalloc_SystemReleasePvm(0, 0); }\n";
    let source = format!("{ALLOCATOR}{functions}");
    let Some(program) = workshop.linked_with("libhooked.so", &source) else { return };
    let output = vrange_run(&[]).arg(&program).output().expect("the command starts");
    assert_eq!(Environment::of(&output).get("VRANGE_MALLOC"), Some("on"), "the control: {}", stderr(&output));

    let hidden = functions.replace("size_t _Z", "__attribute__((visibility(\"hidden\"))) size_t _Z");
    let source = format!("{ALLOCATOR}{hidden}");
    let Some(program) = workshop.linked_with("libhidden.so", &source) else { return };
    let output = vrange_run(&[]).arg(&program).output().expect("the command starts");
    assert_eq!(Environment::of(&output).get("VRANGE_MALLOC"), Some("off"));
    assert!(
        stderr(&output).contains("/libhidden.so is a tcmalloc that was built with hidden visibility"),
        "{}",
        stderr(&output)
    );
    if is_installed("libtcmalloc_minimal.so.4") {
        let output =
            vrange_run(&["--malloc", "tcmalloc"]).arg(&program).output().expect("the command starts");
        assert_eq!(Environment::of(&output).preloaded(), [PRELOAD, "libtcmalloc_minimal.so.4"]);
    }
}

#[test]
fn an_allocator_that_is_linked_in_cannot_be_replaced() {
    if !are_built(&[PRELOAD]) {
        return;
    }
    let workshop = Workshop::new();
    let Some(program) = workshop.compile("own", &format!("{ALLOCATOR}{SAY}"), &[]) else { return };
    let output = vrange_run(&[]).arg(&program).output().expect("the command starts");
    assert_eq!(Environment::of(&output).get("VRANGE_MALLOC"), Some("off"));
    assert!(stderr(&output).contains("/own has an allocator of its own linked in"), "{}", stderr(&output));
    for malloc in ["tcmalloc", "jemalloc", "mimalloc"] {
        let output = vrange_run(&["--malloc", malloc]).arg(&program).output().expect("the command starts");
        assert_eq!(output.status.code(), Some(126), "{}", stderr(&output));
        assert!(stderr(&output).contains("no preloaded library can replace"), "{}", stderr(&output));
        assert_eq!(stdout(&output), "", "the program ran all the same");
    }
    // Under a name of its own it takes nothing from others, but the program uses it.
    let prefixed = format!("{SAY}int _rjem_mallctl(void) {{ return 0; }}\n");
    let Some(program) = workshop.compile("prefixed", &prefixed, &[]) else { return };
    let output = vrange_run(&[]).arg(&program).output().expect("the command starts");
    assert!(
        stderr(&output).contains("/prefixed has an allocator of its own linked in"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_jemalloc_that_is_linked_in_and_exported_is_kept() {
    if !are_built(&[PRELOAD]) {
        return;
    }
    let workshop = Workshop::new();
    // It answers ENOENT, as jemalloc does for a name that it does not have.
    let source = format!("{ALLOCATOR}{SAY}int mallctl(void) {{ return 2; }}\n");
    let Some(program) = workshop.compile("exported", &source, &["-rdynamic"]) else { return };
    let output = vrange_run(&[]).arg(&program).output().expect("the command starts");
    let environment = Environment::of(&output);
    assert_eq!(environment.preloaded(), [PRELOAD]);
    assert_eq!(environment.get("VRANGE_MALLOC"), Some("on"));
    assert_eq!(environment.get("MALLOC_CONF"), Some(JEMALLOC_SETTINGS));
}

#[test]
fn a_file_that_is_only_called_jemalloc_is_not_taken_for_it() {
    let workshop = Workshop::new();
    let Some(_) = workshop.compile("libjemalloc.so.2", ALLOCATOR, &["-shared", "-fPIC"]) else { return };
    let mut command = vrange_run(&["--malloc", "jemalloc"]);
    command.env("LD_LIBRARY_PATH", workshop.0.path()).args(["sh", "-c", "echo ran"]);
    let output = command.output().expect("the command starts");
    assert_eq!(output.status.code(), Some(126), "{}", stderr(&output));
    assert!(stderr(&output).contains("/libjemalloc.so.2 is not the jemalloc"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "", "the program ran all the same");
}

/// No other allocator is taken in silence.
#[test]
fn a_command_without_its_libraries_says_which_is_missing() {
    let folder = tempfile::tempdir().expect("a directory");
    let command = folder.path().join("vrange");
    copy_program(env!("CARGO_BIN_EXE_vrange"), &command);
    for (malloc, library, package) in [
        ("auto", MIMALLOC, "vrange-mimalloc"),
        ("mimalloc", MIMALLOC, "vrange-mimalloc"),
        ("none", PRELOAD, "vrange-preload"),
    ] {
        let output = Command::new(&command)
            .args(["run", "--malloc", malloc, "/bin/sh", "-c", "echo ran"])
            .env_remove("LD_PRELOAD")
            .output()
            .expect("the command starts");
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("{library} is neither in ")), "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("cargo build -p {package}")), "{}", stderr(&output));
        assert_eq!(stdout(&output), "", "the program ran all the same");
    }
}
