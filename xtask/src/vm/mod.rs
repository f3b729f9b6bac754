//! `cargo xtask vm`: the library's tests on kernels and cgroups that this machine does not run.
//!
//! Debian's stock kernels are booted under QEMU's software emulation (no KVM needed, so it works inside another
//! virtual machine) with cgroup v2, PSI and, in half of the guests, zram swap. The way of a run through the files:
//! [`kernel`] downloads, [`programs`] builds static test programs, [`image`] packs both into an initramfs with
//! [`archive`], [`guest`] boots it, and [`protocol`] understands what the guest says on its serial line.

mod archive;
mod guest;
mod image;
mod kernel;
mod programs;
mod protocol;
mod scratch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::command::require_programs;
use crate::summary::Summary;
use crate::vm::guest::{Guest, Limits};
use crate::vm::kernel::{Kernel, Series};
use crate::vm::programs::Job;
use crate::vm::scratch::ScratchFolder;
use crate::workspace::Workspace;

/// Programs a run needs, and the Debian packages that have them.
const NEEDS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("setpriv", "util-linux"),
    ("xz", "xz-utils"),
];

/// Which guests to boot, and what to run in them.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which of Debian's kernels.
    #[arg(long, value_enum, default_value_t = KernelChoice::All)]
    kernel: KernelChoice,
    /// Without swap, with 128 MiB of it in zram, or both.
    #[arg(long, value_enum, default_value_t = SwapChoice::All)]
    swap: SwapChoice,
    /// With the multi-generational LRU, without it, or both.
    #[arg(long, value_enum, default_value_t = MglruChoice::All)]
    mglru: MglruChoice,
    /// Every combination of the above. By default half of them, in which each two of kernel, swap and LRU meet once.
    #[arg(long)]
    every: bool,
    /// Only tests whose name contains this, and runs of the command, such as `vrange demo`, that contain it.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// End a guest that has not finished after this many minutes.
    #[arg(long, default_value_t = 120)]
    timeout_minutes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KernelChoice {
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
    All,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SwapChoice {
    None,
    Zram,
    All,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MglruChoice {
    On,
    Off,
    All,
}

/// How one guest differs from the others on the same kernel.
#[derive(Clone, Copy)]
struct Variant {
    has_zram: bool,
    has_mglru: bool,
}

impl Variant {
    /// What the guest's `/init` finds in its environment: the kernel passes on what it does not know.
    fn boot_arguments(self) -> String {
        let zram = if self.has_zram { "ZRAM=128M " } else { "" };
        let mglru = if self.has_mglru { "y" } else { "n" };
        format!("{zram}MGLRU={mglru}")
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let swap = if self.has_zram { "zram" } else { "no-swap" };
        let mglru = if self.has_mglru { "mglru" } else { "no-mglru" };
        write!(f, "{swap} {mglru}")
    }
}

impl Options {
    fn series(&self) -> Vec<Series> {
        match self.kernel {
            KernelChoice::V6_1 => vec![Series::V6_1],
            KernelChoice::V6_12 => vec![Series::V6_12],
            KernelChoice::All => vec![Series::V6_1, Series::V6_12],
        }
    }

    fn variants(&self, series: Series) -> Vec<Variant> {
        let mut variants = Vec::new();
        for has_zram in [false, true] {
            for has_mglru in [true, false] {
                let swap = if has_zram { SwapChoice::Zram } else { SwapChoice::None };
                let mglru = if has_mglru { MglruChoice::On } else { MglruChoice::Off };
                let is_chosen = [swap, SwapChoice::All].contains(&self.swap)
                    && [mglru, MglruChoice::All].contains(&self.mglru);
                let is_narrow = self.swap != SwapChoice::All || self.mglru != MglruChoice::All;
                // Of each two choices, every pair of values is in one of the four guests for which this is true.
                let is_of_half = (series == Series::V6_12) ^ has_zram ^ has_mglru;
                if is_chosen && (is_narrow || self.every || is_of_half) {
                    variants.push(Variant { has_zram, has_mglru });
                }
            }
        }
        variants
    }
}

/// Boots every guest that was asked for, one after the other, and prints a table.
///
/// # Errors
/// A package is missing, something does not build, a guest does not finish, or a test in one fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the guests are x86-64: this chore runs on x86-64 Debian and its relatives only");
    }
    require_programs(NEEDS)?;
    let folder = workspace.target_folder().join("vm");
    let jobs = programs::build(workspace, options.filter.as_deref())?;
    let interrupted = interrupt_flag()?;
    let mut summary = Summary::default();
    for series in options.series() {
        let kernel = Kernel::fetch(series, &folder.join("kernels"))?;
        for variant in options.variants(series) {
            let name = format!("{} {variant}", kernel.release());
            summary.run(name.clone(), || {
                let scratch = ScratchFolder::make(&folder)?;
                let limits = Limits {
                    boot: Duration::from_secs(180),
                    whole: Duration::from_secs(options.timeout_minutes.saturating_mul(60)),
                };
                run_guest(&kernel, variant, &jobs, &scratch, &folder, &limits, &interrupted)
            });
            if interrupted.load(std::sync::atomic::Ordering::Relaxed) {
                bail!("interrupted; the guest was ended and its files removed");
            }
        }
    }
    println!("\n{summary}");
    match summary.failures() {
        0 => Ok(()),
        failures => bail!("vm: {failures} of {} guests failed", summary.len()),
    }
}

/// A flag that Ctrl-C sets. A second Ctrl-C ends us at once; QEMU then follows its parent.
fn interrupt_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .context("cannot watch for Ctrl-C")?;
    }
    Ok(flag)
}

fn run_guest(
    kernel: &Kernel,
    variant: Variant,
    jobs: &[Job],
    scratch: &ScratchFolder,
    folder: &std::path::Path,
    limits: &Limits,
    interrupted: &AtomicBool,
) -> Result<String> {
    let initramfs = scratch.path().join("initramfs.cpio");
    image::write(&initramfs, kernel, jobs)?;
    let disk = scratch.sparse_file("disk", 4 << 30)?;
    let log = folder.join(format!("{} {variant}.kernel.log", kernel.release()).replace(' ', "_"));
    let mut guest = Guest::boot(kernel.image(), &initramfs, &disk, &log, &variant.boot_arguments())?;
    let report = guest
        .run(limits, interrupted)
        .with_context(|| format!("the guest's kernel log is in {}", log.display()))?;
    report.verdict(jobs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(swap: SwapChoice, mglru: MglruChoice, every: bool) -> Options {
        Options { kernel: KernelChoice::All, swap, mglru, every, filter: None, timeout_minutes: 1 }
    }

    fn names(every: bool, series: Series) -> Vec<String> {
        let variants = options(SwapChoice::All, MglruChoice::All, every).variants(series);
        variants.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_matrix_may_hold_every_combination() {
        let all = ["no-swap mglru", "no-swap no-mglru", "zram mglru", "zram no-mglru"];
        assert_eq!(names(true, Series::V6_1), all);
        assert_eq!(names(true, Series::V6_12), all);
    }

    #[test]
    fn half_of_it_holds_every_pair() {
        assert_eq!(names(false, Series::V6_1), ["no-swap mglru", "zram no-mglru"]);
        assert_eq!(names(false, Series::V6_12), ["no-swap no-mglru", "zram mglru"]);
    }

    #[test]
    fn a_choice_narrows_the_matrix() {
        let variants = options(SwapChoice::Zram, MglruChoice::Off, false).variants(Series::V6_12);
        assert_eq!(variants.len(), 1);
        assert_eq!(variants[0].boot_arguments(), "ZRAM=128M MGLRU=n");
    }
}
