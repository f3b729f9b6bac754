//! For an ordinary user: a part of the cgroup tree from the user's own service manager.
//!
//! `systemd-run --user --scope -p Delegate=yes` starts a program in a group that belongs to the user. The demo starts
//! itself again in such a scope, moves itself into a leaf below it, and can then make groups beside that leaf like root
//! can: cache and hog in one, the hog alone in another, which a single `MemoryMax=` on the scope could not give.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use vrange_os::cgroup::{Controller, Hierarchies, Version};
use vrange_os::kernel_file::Root;

use super::write;

/// The option by which the program knows that it was started again.
const IN_SCOPE: &str = "--in-scope";

/// Starts this program again inside a scope, with the same arguments; does not return then. In the scope, makes room
/// for groups and returns. Where there is no service manager that could help, returns with the reason.
pub(crate) fn reenter(in_scope: bool) -> Result<(), String> {
    if in_scope {
        return move_to_leaf();
    }
    if rustix::process::geteuid().is_root() {
        return Err("root makes its groups itself".to_owned());
    }
    let own = Hierarchies::read(&Root::real())
        .and_then(|hierarchies| hierarchies.group_of(Controller::Memory))
        .map_err(|missing| missing.to_string())?;
    if own.version() != Version::V2 {
        return Err("service managers hand down memory limits in cgroup v2 only".to_owned());
    }
    // First with a program that does nothing: once we are replaced there is no way back.
    match scope().arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => {}
        Ok(_) => return Err("systemd-run --user --scope was refused".to_owned()),
        Err(error) => return Err(format!("systemd-run: {error}")),
    }
    let program = std::env::current_exe().map_err(|error| format!("finding this program: {error}"))?;
    let error = scope().arg(program).args(std::env::args_os().skip(1)).arg(IN_SCOPE).exec();
    Err(format!("systemd-run: {error}"))
}

/// The command that runs what is appended to it in a scope of the user's.
fn scope() -> Command {
    let mut command = Command::new("systemd-run");
    command.args(["--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--"]);
    command
}

/// A group of v2 that hands controllers down may hold no process, so this one moves down a level.
fn move_to_leaf() -> Result<(), String> {
    let own = Hierarchies::read(&Root::real())
        .and_then(|hierarchies| hierarchies.group_of(Controller::Memory))
        .map_err(|missing| missing.to_string())?;
    let scope: &Path = own.directories().first().ok_or("no cgroup can be seen")?;
    let leaf = scope.join("vrange-demo-parent");
    std::fs::create_dir(&leaf).map_err(|error| format!("creating {}: {error}", leaf.display()))?;
    // The service manager removes the leaf together with the scope once this process has ended.
    write(&leaf, "cgroup.procs", "0")
}
