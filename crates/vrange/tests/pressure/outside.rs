//! What a process can see of the cgroups it is in, and what the kernel does for it, made less. For child processes only.

use std::ffi::{CStr, CString};
use std::io;

use vrange_os::cgroup::{Controller, Hierarchies, Version};
use vrange_os::kernel_file::Root;
use vrange_testing::{Talk, seccomp};

/// Does what the words `cgroups=hidden`, `cgroups=read_only` or `cgroups=own_only` say, for the calling thread and those that
/// it starts.
///
/// * `hidden`: an empty file system lies over `/sys/fs/cgroup`, as in a careless container;
/// * `read_only`: nothing can be written there, as in a careful one;
/// * `own_only`: a cgroup namespace, and a mount that begins at our own group, as in any container: limits above are hidden.
///
/// And what the words `withheld=offers` or `withheld=page_table` say:
///
/// * `offers`: `MADV_FREE` is refused, as by a kernel that does not know it;
/// * `page_table`: what is in memory cannot be read.
pub(crate) fn change(talk: &Talk) {
    if let Some(what) = talk.option("cgroups") {
        show_less(what);
    }
    match talk.option("withheld") {
        None => {}
        Some("offers") => seccomp::refuse_offers(libc::EINVAL),
        Some("page_table") => hide_page_table().expect("a mount over the page table's file"),
        Some(other) => panic!("unknown: {other}"),
    }
}

fn show_less(what: &str) {
    own_mounts().expect("a mount namespace");
    match what {
        "hidden" => mount(c"none", c"/sys/fs/cgroup", Some(c"tmpfs"), 0, None),
        "read_only" => make_read_only(),
        "own_only" => see_own_only(),
        other => panic!("unknown: {other}"),
    }
    .unwrap_or_else(|error| panic!("{what}: {error}"));
}

fn own_mounts() -> io::Result<()> {
    // SAFETY: gives this thread a mount table of its own.
    answer(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    // Mounts made here must not be seen outside.
    mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)
}

/// A file with nothing in it lies over `/proc/self/pagemap`.
fn hide_page_table() -> io::Result<()> {
    own_mounts()?;
    mount(c"/dev/null", c"/proc/self/pagemap", None, libc::MS_BIND, None)
}

/// Each of the hierarchies is a mount of its own; that of memory is the one that matters.
fn make_read_only() -> io::Result<()> {
    let own =
        Hierarchies::read(&Root::real()).and_then(|own| own.group_of(Controller::Memory)).expect("our group");
    let point = CString::new(own.mount_point().to_str().expect("a plain path")).expect("no zero byte");
    mount(c"none", &point, None, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY, None)
}

fn see_own_only() -> io::Result<()> {
    let own =
        Hierarchies::read(&Root::real()).and_then(|own| own.group_of(Controller::Memory)).expect("our group");
    // SAFETY: gives this thread a view of the cgroups that begins at its own.
    answer(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })?;
    let point = CString::new(own.mount_point().to_str().expect("a plain path")).expect("no zero byte");
    // SAFETY: the text outlives the call. What was mounted there shows the whole hierarchy.
    answer(unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) })?;
    match own.version() {
        Version::V2 => mount(c"none", &point, Some(c"cgroup2"), 0, None),
        Version::V1 => mount(c"none", &point, Some(c"cgroup"), 0, Some(c"memory")),
    }
}

fn mount(
    source: &CStr,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    data: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the texts outlive the call.
    answer(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), pointer(kind), flags, pointer(data).cast())
    })
}

fn answer(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
