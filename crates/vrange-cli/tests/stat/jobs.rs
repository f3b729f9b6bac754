//! What the processes do that are looked at.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vrange::observe::{FILE_BYTES, FILE_NAME, THREAD_NAME};
use vrange::{Buffer, Heap, Pinned, Stats};
use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::{Named, Talk, drain_processors, on_each_processor};

pub(crate) const ALL: &[Named] = &[
    ("volatile", volatile),
    ("parked", parked),
    ("many", many),
    ("forks", forks),
    ("executes", executes),
    ("alone_in_namespace", alone_in_namespace),
    ("pretends", pretends),
    ("renamed", renamed),
];

const PAGES: usize = 256;

fn filled(heap: &Heap) -> Buffer {
    let mut buffer = heap.buffer(PAGES * PAGE_BYTES).expect("a buffer");
    buffer.pin_mut().intact().expect("new").fill(7);
    buffer
}

/// Ranges and bytes in each phase, then the totals: as the tests find them in what is shown.
pub(crate) fn line_of(stats: &Stats) -> String {
    let phases = [stats.empty, stats.pinned, stats.marked, stats.offered_now, stats.in_transit];
    let phases = phases.iter().flat_map(|now| [now.ranges, now.pages.bytes()]);
    let totals = [stats.offered, stats.rescued, stats.lost, stats.released].map(|pages| pages.bytes());
    phases.chain(totals).map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
}

/// Has the kernel take what is offered, as it would when memory is short.
fn take(buffer: &Buffer, pages: usize) {
    let span = Span::new(buffer.as_ptr().expose_provenance(), pages);
    on_each_processor(|| page_out(span).expect("MADV_PAGEOUT"));
}

/// A heap with ranges in every phase, one of which the kernel has taken pages of. Says its counts when asked.
fn volatile(talk: &mut Talk) {
    let heap = Heap::builder().name("thumbnails").limit(1 << 30).build().expect("a heap");
    let buffers: Vec<Buffer> = (0..8).map(|_| filled(&heap)).collect();
    let _never_used = heap.buffer(5 * PAGE_BYTES).expect("a buffer");
    // Of pages that wait in a processor's list, an offer would come to nothing.
    drain_processors();
    for buffer in &buffers[..4] {
        assert!(buffer.offer());
    }
    take(&buffers[0], 100);
    let Pinned::Purged(_lost) = buffers[0].pin() else { panic!("nothing was taken") };
    drop(buffers[1].pin());
    assert!(buffers[4].release());
    talk.say("ready");
    while talk.hear().is_some() {
        talk.say(&line_of(&heap.stats()));
    }
}

/// Everything is in use again.
fn parked(talk: &mut Talk) {
    let heap = Heap::builder().name("in use").build().expect("a heap");
    let buffers: Vec<Buffer> = (0..3).map(|_| filled(&heap)).collect();
    let _guards: Vec<_> = buffers.iter().map(Buffer::pin).collect();
    talk.say("ready");
    talk.hear();
}

/// More heaps than there is room for.
fn many(talk: &mut Talk) {
    let heaps: Vec<Heap> = (0..40)
        .map(|number| Heap::builder().name(format!("heap {number}")).build().expect("a heap"))
        .collect();
    let _buffers: Vec<Buffer> = heaps.iter().map(filled).collect();
    talk.say("ready");
    talk.hear();
}

/// A child without a heap's thread, which has the parent's memory, and one that has its own.
fn forks(talk: &mut Talk) {
    let heap = Heap::builder().name("forked").build().expect("a heap");
    let buffer = filled(&heap);
    // SAFETY: the child pins and unpins a buffer, which it may, and waits to be killed with its parent.
    let quiet = unsafe { libc::fork() };
    if quiet == 0 {
        wait_for_end();
    }
    // SAFETY: as above.
    let active = unsafe { libc::fork() };
    if active == 0 {
        drop(buffer.pin());
        wait_for_end();
    }
    talk.say("ready");
    talk.say(&format!("{quiet} {active}"));
    talk.hear();
    for child in [quiet, active] {
        // SAFETY: children of this process that were not waited for.
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
}

fn wait_for_end() -> ! {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .expect("a death signal");
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// Becomes another program on request.
fn executes(talk: &mut Talk) {
    let heap = Heap::new().expect("a heap");
    let _buffer = filled(&heap);
    talk.say("ready");
    talk.hear();
    panic!("{}", Command::new("sleep").arg("600").exec());
}

/// A process that knows itself by the number 1. Says the number by which others know it.
fn alone_in_namespace(talk: &mut Talk) {
    // SAFETY: a flag, which concerns children only.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        talk.say("refused");
        return;
    }
    // SAFETY: the child makes a heap of its own, and waits to be killed with its parent.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let heap = Heap::builder().name("inside").build().expect("a heap");
        let _buffer = filled(&heap);
        assert_eq!(std::process::id(), 1);
        wait_for_end();
    }
    talk.say("ready");
    talk.say(&child.to_string());
    talk.hear();
}

/// Has names that do something to a terminal which shows them.
fn renamed(talk: &mut Talk) {
    // Of the process's first thread, which is not the one that runs this.
    std::fs::write("/proc/self/comm", "\x1b[2Jevil").expect("a name");
    let heap = Heap::builder().name("\x1b]0;evil\x07").build().expect("a heap");
    let _buffer = filled(&heap);
    talk.say("ready");
    talk.hear();
}

/// Has a thread and a file that are named as ours are. The word says what the file is.
fn pretends(talk: &mut Talk) {
    let word = talk.words().next().expect("a word").to_owned();
    let file = match word.as_str() {
        "copied" => sealed(FILE_BYTES, &published_by(talk.number("pid").expect("a process"))),
        _ => pretended(&word),
    };
    // Handed over, not put down: a thread has its name once it runs.
    let (hold, held) = std::sync::mpsc::sync_channel::<OwnedFd>(0);
    let thread = std::thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || {
        let _file = held.recv();
        std::thread::sleep(std::time::Duration::from_secs(600));
    });
    hold.send(file).expect("the thread waits");
    thread.expect("a thread");
    talk.say("ready");
    talk.hear();
}

/// A descriptor for a reader to fall for.
fn pretended(word: &str) -> OwnedFd {
    match word {
        "unsealed" => memfd(FILE_BYTES),
        "short" => sealed(100, &[]),
        "huge" => sealed(1 << 40, &[]),
        "zeros" => sealed(FILE_BYTES, &[]),
        "noise" => sealed(FILE_BYTES, &[0xff; FILE_BYTES]),
        "other_version" => sealed(FILE_BYTES, b"vrange\0S\x09\0\0\0\0\0\0\0"),
        "pipe" => pipe(),
        other => panic!("no way to pretend {other}"),
    }
}

fn memfd(bytes: usize) -> OwnedFd {
    let file = memfd_create(FILE_NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memfd");
    ftruncate(&file, bytes as u64).expect("a size");
    file
}

fn sealed(bytes: usize, contents: &[u8]) -> OwnedFd {
    let file = memfd(bytes);
    rustix::io::pwrite(&file, contents, 0).expect("contents");
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).expect("seals");
    file
}

/// What a real process has published.
fn published_by(pid: u64) -> Vec<u8> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten() {
        for file in std::fs::read_dir(task.path().join("fd")).into_iter().flatten().flatten() {
            let link = std::fs::read_link(file.path()).unwrap_or_default();
            if link.to_string_lossy().contains(FILE_NAME) {
                return std::fs::read(file.path()).expect("its contents");
            }
        }
    }
    panic!("process {pid} publishes nothing");
}

/// A pipe whose path looks like a memfd's. A reader that opens it waits for ever for somebody who writes.
fn pipe() -> OwnedFd {
    let name = format!("memfd:{FILE_NAME} {}", std::process::id());
    // Only there does it begin as it should, and only root may make it there.
    let folders = [PathBuf::from("/"), std::env::temp_dir()];
    let mode = Mode::RUSR | Mode::WUSR;
    let made = folders
        .iter()
        .map(|folder| folder.join(&name))
        .find(|path| rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0).is_ok());
    let path = made.expect("a folder for a pipe");
    // Without this it would wait itself.
    let reader = rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    std::fs::remove_file(&path).expect("it is open");
    reader.expect("a pipe")
}
