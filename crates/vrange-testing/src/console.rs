//! A program on a terminal of its own, and what it has drawn there.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// No program takes longer to draw something.
const DRAWN_WITHIN: Duration = Duration::from_secs(20);

/// What is written behind the last that a program has written. Without a line break of its own, it says as little about the screen's
/// state as may be.
const END: &str = "~ended~";

/// A process that has a terminal. Dropping it kills the process.
#[derive(Debug)]
pub struct Console {
    process: Child,
    keyboard: File,
    /// The program's side, kept open to ask what state it is left in.
    line: OwnedFd,
    modes_before: LocalModes,
    screen: Arc<Mutex<Screen>>,
    /// All that was written, as it was.
    written: Arc<Mutex<Vec<u8>>>,
}

struct Screen(vt100::Parser);

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.screen().contents())
    }
}

impl Console {
    /// Starts the program as the leader of a session on a new terminal.
    ///
    /// # Panics
    /// There is no terminal to be had, or no such program.
    pub fn start(mut command: Command, lines: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let keyboard = openpt(flags).expect("a terminal");
        grantpt(&keyboard).expect("a terminal of ours");
        unlockpt(&keyboard).expect("a terminal of ours");
        let name = ptsname(&keyboard, Vec::new()).expect("a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = rustix::fs::open(name, flags, Mode::empty()).expect("the program's side");
        tcsetwinsize(&keyboard, size(lines, columns)).expect("a size");
        let copy = || line.try_clone().expect("a descriptor");
        command.stdin(copy()).stdout(copy()).stderr(copy()).env("TERM", "xterm-256color");
        let take_terminal = || {
            // As a terminal's programs have them: tests that run in the background inherit that some are ignored.
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                // SAFETY: no handler is set.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            setsid()?;
            ioctl_tiocsctty(std::io::stdin().as_fd())?;
            Ok(())
        };
        // SAFETY: system calls, in a child that has not yet become the program.
        unsafe { command.pre_exec(take_terminal) };
        let modes_before = modes(&line);
        let process = command.spawn().expect("the program starts");
        let screen = Arc::new(Mutex::new(Screen(empty(lines, columns))));
        let written = Arc::new(Mutex::new(Vec::new()));
        let (drawn, kept, mut output) = (
            Arc::clone(&screen),
            Arc::clone(&written),
            File::from(keyboard.try_clone().expect("a descriptor")),
        );
        // Ends when the console is dropped, which closes the program's side.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                lock(&drawn).0.process(&bytes[..length]);
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..length]);
            }
        });
        Self { process, keyboard: keyboard.into(), line, modes_before, screen, written }
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Types.
    ///
    /// # Panics
    /// The terminal takes nothing.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a terminal that is open");
    }

    /// Makes the terminal another size, which the program is told of.
    ///
    /// # Panics
    /// The terminal refuses.
    pub fn resize(&mut self, lines: u16, columns: u16) {
        // Nothing that was drawn for the size before is to be taken for the program's answer.
        lock(&self.screen).0 = {
            let mut empty = empty(lines, columns);
            empty.process(b"\x1b[?1049h");
            empty
        };
        tcsetwinsize(&self.keyboard, size(lines, columns)).expect("a size");
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// It has ended, and was waited for.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("a child of ours");
    }

    /// What is on the screen, in lines.
    pub fn text(&self) -> String {
        lock(&self.screen).0.screen().contents()
    }

    /// Was this written, though it may have been wiped out since?
    pub fn has_written(&self, text: &str) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written).contains(text)
    }

    /// Waits until the screen is so.
    ///
    /// # Panics
    /// It is not for 20 seconds.
    #[track_caller]
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + DRAWN_WITHIN;
        loop {
            let text = self.text();
            if is_so(&text) {
                return text;
            }
            assert!(Instant::now() < until, "waited for {what}:\n{text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// It does not end within 20 seconds.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + DRAWN_WITHIN;
        loop {
            if let Some(status) = self.process.try_wait().expect("a child of ours") {
                // What it wrote last comes to the screen before this.
                rustix::io::write(&self.line, END.as_bytes()).expect("a terminal that is open");
                self.wait_for("the end of what it wrote", |text| text.contains(END));
                return status;
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Is the program showing a screen of its own, instead of what was there before?
    pub fn is_taken(&self) -> bool {
        lock(&self.screen).0.screen().alternate_screen()
    }

    /// Has anything on the screen a colour of its own?
    pub fn is_coloured(&self) -> bool {
        let screen = lock(&self.screen);
        let screen = screen.0.screen();
        let (lines, columns) = screen.size();
        let mut cells = (0..lines.get())
            .flat_map(|line| (0..columns.get()).filter_map(move |column| screen.cell(line, column)));
        cells.any(|cell| cell.fgcolor() != vt100::Color::Default)
    }

    /// Is the terminal as it was before the program ran: what was on the screen, the cursor, echo, lines and signals?
    pub fn is_restored(&self) -> bool {
        let screen = lock(&self.screen);
        let screen = screen.0.screen();
        !screen.alternate_screen() && !screen.hide_cursor() && modes(&self.line) == self.modes_before
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn empty(lines: u16, columns: u16) -> vt100::Parser {
    let [lines, columns] = [lines, columns].map(|count| NonZero::new(count).expect("a screen has a size"));
    vt100::Parser::new(lines, columns, 0)
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn modes(line: &OwnedFd) -> LocalModes {
    tcgetattr(line).expect("a terminal").local_modes
}

fn size(lines: u16, columns: u16) -> Winsize {
    Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
