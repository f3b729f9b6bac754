//! A running guest: QEMU, its serial line, and the certainty that it ends.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::protocol::Report;

const MEMORY_MIB: u32 = 2048;

/// How often a silent guest's deadline and the interrupt flag are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a guest may take.
pub(super) struct Limits {
    /// Until it has set itself up.
    pub(super) boot: Duration,
    /// Until it is off.
    pub(super) whole: Duration,
}

/// A guest; dropping it ends it.
pub(super) struct Guest {
    qemu: Child,
    begin: Instant,
}

impl Guest {
    /// Starts QEMU. The kernel's own messages go to `kernel_log`.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub(super) fn boot(
        kernel: &Path,
        initramfs: &Path,
        disk: &Path,
        kernel_log: &Path,
        boot_arguments: &str,
    ) -> Result<Self> {
        // setpriv asks the kernel to end QEMU when we end, however we end.
        let qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(["-accel", "tcg,thread=multi", "-machine", "q35,mem-merge=off", "-cpu", "max", "-smp", "2"])
            .args(["-m", &MEMORY_MIB.to_string(), "-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-serial")
            .arg(format!("file:{}", kernel_log.display()))
            .args(["-serial", "stdio"])
            .arg("-drive")
            .arg(format!("file={},if=none,id=disk,format=raw,cache=unsafe", disk.display()))
            .args(["-device", "nvme,drive=disk,serial=scratch"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs)
            .arg("-append")
            .arg(format!("console=ttyS0 panic=-1 psi=1 {boot_arguments}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // In a group of its own, so that Ctrl-C reaches us alone and we end it in order.
            .process_group(0)
            .spawn()
            .context("cannot start QEMU")?;
        Ok(Self { qemu, begin: Instant::now() })
    }

    /// Repeats what the guest prints, until it is off, out of time, or we are interrupted.
    ///
    /// # Errors
    /// Out of time, interrupted, or QEMU failed before the guest was done.
    pub(super) fn run(&mut self, limits: &Limits, interrupted: &AtomicBool) -> Result<Report> {
        let output = self.qemu.stdout.take().context("the serial line is read already")?;
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            // A guest that crashes may print anything, so lines are bytes first.
            while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
        let mut report = Report::default();
        let outcome = loop {
            match lines.recv_timeout(LOOK_EVERY) {
                Ok(line) => {
                    println!("    {line}");
                    report.take_line(&line);
                }
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(error) = self.check(limits, &report, interrupted) {
                break Err(error);
            }
        };
        self.end();
        // The reader sees the end of the pipe now.
        let _ = reader.join();
        match outcome {
            // The verdict on what ran is worth more than the time that ran out.
            Err(error) => Err(match report.verdict(0) {
                Err(first) if report.is_ready => error.context(first),
                _ => error,
            }),
            Ok(()) => Ok(report),
        }
    }

    fn check(&self, limits: &Limits, report: &Report, interrupted: &AtomicBool) -> Result<()> {
        // Relaxed: the flag says only that it is time to stop.
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let elapsed = self.begin.elapsed();
        if !report.is_ready && elapsed > limits.boot {
            bail!("the guest was not set up after {} s", limits.boot.as_secs());
        }
        if elapsed > limits.whole {
            bail!("the guest was not done after {} s", limits.whole.as_secs());
        }
        Ok(())
    }

    /// Ends QEMU if it still runs, and waits for it.
    fn end(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}
