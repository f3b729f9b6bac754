//! Processes of other users.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use vrange_testing::{copy_program, skipped};

use crate::{common, next_figures, started};

const NOBODY: u32 = 65534;

/// Runs the command as a user who may do nothing. `None`: only root may become somebody else.
fn run_as_nobody(arguments: &[&str]) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can become another user");
        return None;
    }
    // Where the build lies may be closed to others.
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    let program = folder.path().join("vrange");
    copy_program(env!("CARGO_BIN_EXE_vrange"), &program);
    let mut command = Command::new(&program);
    command.args(arguments).uid(NOBODY).gid(NOBODY).current_dir("/");
    Some(command.output().expect("the command starts"))
}

#[test]
fn what_may_not_be_seen_is_named_with_what_to_do() {
    let child = started("volatile");
    let _ = next_figures(child.pid());
    let Some(output) = run_as_nobody(&["stat", "--json"]) else { return };
    let all = common::json(&output);
    let mut closed = all["closed"].as_array().expect("a list").iter();
    let closed = closed.find(|closed| closed["pid"] == child.pid()).expect("it is seen to be there");
    assert_eq!(closed["reason"], "not_permitted");
    assert!(closed["message"].as_str().is_some_and(|message| message.contains("sudo")), "{closed}");
    assert!(
        all["processes"].as_array().expect("a list").iter().all(|process| process["pid"] != child.pid()),
        "figures of another user's process"
    );

    let Some(output) = run_as_nobody(&["stat", &child.pid().to_string()]) else { return };
    assert_eq!(output.status.code(), Some(1), "{}", common::stdout(&output));
    assert!(common::stderr(&output).contains("not permitted"), "{}", common::stderr(&output));
}
