//! The command as `cargo xtask install` puts it in place: with its libraries, manual and what shells complete.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::{stderr, stdout};
use tempfile::TempDir;
use vrange_testing::{Console, skipped};

/// Below the prefix.
const BASH: &str = "share/bash-completion/completions/vrange";
const ZSH: &str = "share/zsh/site-functions";
const FISH: &str = "share/fish/vendor_completions.d/vrange.fish";

/// Installed once for all tests, as a user does it.
fn installed(path: &str) -> PathBuf {
    static INSTALLED: OnceLock<TempDir> = OnceLock::new();
    let folder = INSTALLED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let output = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([
                "run",
                "--quiet",
                "--locked",
                "--package",
                "xtask",
                "--",
                "install",
                "--debug",
                "--prefix",
            ])
            .arg(folder.path())
            .env_remove("DESTDIR")
            .output()
            .expect("cargo");
        assert!(output.status.success(), "{}", stderr(&output));
        folder
    });
    // As the kernel names it.
    folder.path().canonicalize().expect("it is there").join(path)
}

/// A shell that reads none of the user's settings and finds the command; `None`, and says so, where it is not installed.
fn shell(name: &str, arguments: &[&str], script: &str) -> Option<Output> {
    let home = tempfile::tempdir().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let started = Command::new(name)
        .args(arguments)
        .arg(script)
        .env("PATH", format!("{}:{path}", installed("bin").display()))
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path())
        .env("XDG_DATA_HOME", home.path())
        .current_dir(home.path())
        .output();
    started.map_err(|error| skipped(&format!("{name}: {error}"))).ok()
}

#[track_caller]
fn words(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
    assert_eq!(stderr(output), "");
    stdout(output).split_whitespace().map(str::to_owned).collect()
}

#[test]
fn run_finds_the_installed_libraries() {
    for (malloc, library) in [("none", "libvrange_preload.so"), ("mimalloc", "libvrange_mimalloc.so")] {
        let output = Command::new(installed("bin/vrange"))
            .args(["run", "--malloc", malloc, "sh", "-c", "echo $LD_PRELOAD"])
            .env_remove("LD_PRELOAD")
            .env_remove("VRANGE_LIBDIR")
            .output()
            .expect("the command starts");
        let expected = installed("lib").join(library);
        assert_eq!(stdout(&output), format!("{}\n", expected.display()), "{}", stderr(&output));
    }
}

/// What bash offers when Tab is pressed behind a line.
fn bash(line: &str) -> Option<Vec<String>> {
    let script = format!(
        "source '{}'
         COMP_LINE='{line}' COMP_POINT=${{#COMP_LINE}}
         read -ra COMP_WORDS <<< \"$COMP_LINE\"
         [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')
         COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
         # The function that `complete` was told of.
         entry=$(complete -p vrange); entry=${{entry#*-F }}; entry=${{entry%% *}}
         $entry vrange \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\" 2>&1
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        installed(BASH).display()
    );
    shell("bash", &["--norc", "--noprofile", "-c"], &script).map(|output| words(&output))
}

#[test]
fn bash_completes_commands_options_and_values() {
    let Some(offered) = bash("vrange ex") else { return };
    assert_eq!(offered, ["exporter"]);
    let commands = bash("vrange ").expect("bash is there");
    for command in ["demo", "doctor", "stat", "top", "exporter", "run", "bench", "completions", "--color"] {
        assert!(commands.iter().any(|offered| offered == command), "{command}: {commands:?}");
    }
    // What is not for users is not told to shells.
    for hidden in ["demo-process", "malloc-work", "cache-process", "manual"] {
        assert!(commands.iter().all(|offered| offered != hidden), "{hidden}: {commands:?}");
    }
    assert_eq!(bash("vrange bench ma").expect("bash is there"), ["malloc"]);
    assert_eq!(bash("vrange run --mal").expect("bash is there"), ["--malloc"]);
    assert_eq!(bash("vrange run --malloc j").expect("bash is there"), ["jemalloc"]);
    assert_eq!(bash("vrange --color n").expect("bash is there"), ["never"]);
    assert!(bash("vrange demo --pre").expect("bash is there").is_empty(), "an option that is not for users");
    // The control: bash by itself offers nothing.
    let output =
        shell("bash", &["--norc", "--noprofile", "-c"], "complete -p vrange").expect("bash is there");
    assert!(!output.status.success());
}

#[test]
fn fish_completes_commands_options_and_values() {
    let complete = |line: &str| {
        let script = format!("source '{}'; complete -C '{line}'", installed(FISH).display());
        let output = shell("fish", &["--no-config", "-c"], &script)?;
        assert_eq!(stderr(&output), "");
        // What is offered, a tab, and what it means.
        let offered = stdout(&output);
        let offered = offered.lines().filter_map(|line| line.split('\t').next());
        Some(offered.map(str::to_owned).collect::<Vec<_>>())
    };
    let Some(offered) = complete("vrange ex") else { return };
    assert_eq!(offered, ["exporter"]);
    assert_eq!(complete("vrange run --malloc j").expect("fish is there"), ["jemalloc"]);
    assert_eq!(complete("vrange bench ma").expect("fish is there"), ["malloc"]);
    assert_eq!(complete("vrange demo --color n").expect("fish is there"), ["never"]);
    assert!(complete("vrange demo-p").expect("fish is there").is_empty());
}

/// zsh completes on a terminal only, so it is given one.
#[test]
fn zsh_completes_commands_options_and_values() {
    if let Err(error) = Command::new("zsh").arg("--version").output() {
        return skipped(&format!("zsh: {error}"));
    }
    let home = tempfile::tempdir().expect("a folder");
    let settings = format!(
        "fpath=('{}' $fpath); autoload -Uz compinit; compinit -u; PS1='ready> '",
        installed(ZSH).display()
    );
    fs::write(home.path().join(".zshrc"), settings).expect("a file");
    let mut command = Command::new("zsh");
    command.args(["--no-globalrcs", "-i"]).env("HOME", home.path()).env("ZDOTDIR", home.path());
    command.current_dir(home.path());
    let mut console = Console::start(command, 40, 120);
    console.wait_for("the prompt", |text| text.contains("ready>"));
    for (typed, completed) in [
        ("vrange ex", "vrange exporter"),
        ("vrange run --malloc j", "vrange run --malloc jemalloc"),
        ("vrange bench ma", "vrange bench malloc"),
        ("vrange --color n", "vrange --color never"),
    ] {
        console.press(&format!("{typed}\t"));
        console.wait_for(completed, |text| {
            text.lines().any(|line| line.trim_end() == format!("ready> {completed}"))
        });
        // The line is given up.
        console.press("\x03");
        console.wait_for("another prompt", |text| text.trim_end().ends_with("ready>"));
    }
}

#[test]
fn the_documents_are_there() {
    for document in ["README.md", "CHANGELOG.md", "docs/containers.md"] {
        let text = fs::read_to_string(installed("share/doc/vrange").join(document)).expect("a document");
        assert!(text.starts_with("# "), "{document}");
    }
}

/// The manual is read by its names, and tells of exit codes.
#[test]
fn each_command_has_its_page() {
    for page in ["vrange", "vrange-run", "vrange-completions", "vrange-bench-cache"] {
        let text = fs::read_to_string(installed(&format!("share/man/man1/{page}.1"))).expect("a page");
        assert!(text.contains("EXIT STATUS"), "{page}: {text}");
    }
    assert!(!installed("share/man/man1/vrange-demo-process.1").exists());
}
