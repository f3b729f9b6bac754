//! The demo: real files in volatile memory, and a memory hog beside them.
//!
//! Three processes. The *parent* stays outside of the memory limit, so that it can report whatever happens. The *cache*
//! reads files into volatile buffers; the *hog* faults in memory at full speed; both are inside one memory cgroup. They
//! are this same program started again, and they talk to the parent in lines of JSON ([`wire`]).
//!
//! A round is: the hog alone in an empty group; then, in another empty group of the same size, a cache that fills most
//! of it, the hog again, and the reckoning ([`verify`]). Rounds repeat, and medians count, since one run of a hog on a
//! busy machine says little. Where no cgroup can be made, the cache gives memory up by advice instead
//! ([`ToCache::PullLever`]); that shows what is kept and lost, and in which order, but not how fast.

mod cache;
mod cached;
mod chart;
pub(crate) mod child;
mod files;
pub(crate) mod group;
pub(crate) mod hog;
mod picture;
mod progress;
mod rank;
pub(crate) mod room;
mod summary;
mod verify;
mod watch;
pub(crate) mod wire;

use std::time::Duration;

use vrange_os::cgroup::Version;

use crate::command_line::{DEMO_ROUNDS, DemoOptions, DemoRole, PressureChoice};
use crate::failure::Failure;
use crate::form::Found;
use crate::interrupt::Interrupt;
use crate::output;
use child::{Child, NoAnswer};
use files::Choice;
use group::{Home, MemoryGroup};
use picture::Canvas;
use progress::Progress;
use summary::{Outcome, Pressure, Round};
use wire::{CacheReport, FromCache, FromHog, ToCache, ToHog};

/// How much of the limit the cache fills, and how much of it the hog wants, in per cent. Together they cannot fit.
const CACHE_PERCENT: u64 = 90;
const HOG_PERCENT: u64 = 60;
/// How long the hog keeps what it has: whatever the cache does a little late is seen, too.
const HOLD_MS: u64 = 300;

/// Runs one of the two processes that the demo consists of besides the parent.
pub(crate) fn run_process(role: DemoRole) -> Result<(), Failure> {
    match role {
        DemoRole::Cache(options) => child::settle(&options).and_then(|()| cache::run()),
        DemoRole::Hog(options) => child::settle(&options).and_then(|()| hog::run()),
    }
}

/// Runs the demo and prints what it found.
pub(crate) fn run(options: &DemoOptions) -> Result<(), Failure> {
    options.form.check()?;
    let is_quiet = options.form.is_for_a_program(options.json);
    let interrupt = Interrupt::listen()?;
    let place = Place::find(options)?;
    room::check(options.memory_bytes)?;
    let files = files::choose(&options.directory, options.memory_bytes, &interrupt)?;
    let demo = Demo {
        place,
        files,
        memory_bytes: options.memory_bytes,
        hog_bytes: options.memory_bytes / 100 * HOG_PERCENT,
        interrupt,
        progress: Progress::new(is_quiet),
    };
    if !is_quiet {
        demo.introduce(options)?;
    }
    if let (true, Place::Lever { reason }) = (options.form.bundle, &demo.place) {
        // A remark for the page.
        eprintln!("there is no hog, since no memory cgroup can be made here: {reason}");
    }
    let outcome = demo.run(options.rounds)?;
    demo.progress.clear();
    // A signal that came at the very end still counts.
    demo.interrupt.check()?;
    let picture = options.form.picture(|| chart::draw(&outcome, &command(options)))?;
    let found = Found { results: &outcome.summary(), goals: outcome.goals(), picture };
    options.form.show(options.json, found, || outcome.text(Canvas::of_stdout()))?;
    outcome.verdict()
}

/// What has to be typed for the same.
fn command(options: &DemoOptions) -> String {
    let mut command =
        format!("vrange demo {} --memory {}M", options.directory.display(), options.memory_bytes >> 20);
    if options.rounds != DEMO_ROUNDS {
        command += &format!(" --rounds {}", options.rounds);
    }
    command
}

/// Where the processes run.
#[derive(Debug)]
enum Place {
    /// In memory cgroups that are made here.
    Cgroups(Home),
    /// Without a limit; with the reason.
    Lever { reason: String },
}

impl Place {
    fn find(options: &DemoOptions) -> Result<Self, Failure> {
        if options.pressure == PressureChoice::Madvise {
            return Ok(Self::Lever { reason: "as asked".to_owned() });
        }
        let found = if options.in_scope {
            group::reenter_in_scope(true).and_then(|()| Home::find())
        } else {
            Home::find().or_else(|own| match group::reenter_in_scope(false) {
                Ok(()) => Home::find(),
                Err(scope) => Err(format!("{own}; {scope}")),
            })
        };
        match found {
            Ok(home) => Ok(Self::Cgroups(home)),
            Err(reason) if options.pressure == PressureChoice::Cgroup => {
                Err(Failure::run(format!("no memory cgroup can be made: {reason}")))
            }
            Err(reason) => Ok(Self::Lever { reason }),
        }
    }

    fn pressure(&self) -> Pressure {
        match self {
            Self::Cgroups(home) if home.version() == Version::V1 => Pressure::CgroupV1,
            Self::Cgroups(_) => Pressure::CgroupV2,
            Self::Lever { .. } => Pressure::Madvise,
        }
    }
}

struct Demo {
    place: Place,
    files: Choice,
    memory_bytes: u64,
    hog_bytes: u64,
    interrupt: Interrupt,
    progress: Progress,
}

impl Demo {
    fn introduce(&self, options: &DemoOptions) -> Result<(), Failure> {
        let memory = crate::size::human(self.memory_bytes);
        let mut text = format!(
            "Files below {}, as many as fit, in volatile memory of {memory}.\n",
            options.directory.display()
        );
        match &self.place {
            Place::Cgroups(_) => {
                text += &format!(
                    "A memory hog shares that limit: it takes {HOG_PERCENT} % of it, as fast as it can.\n"
                );
            }
            Place::Lever { reason } => {
                text += &format!(
                    "No memory cgroup can be made here ({reason}).\nSo there is no hog: the cache gives up the same \
                     amount by advice (MADV_FREE, then MADV_PAGEOUT).\n"
                );
            }
        }
        if self.files.total_bytes < self.cache_bytes() {
            text += &format!(
                "There are only {} to read: the memory will not be full. Name a larger directory to see more.\n",
                crate::size::human(self.files.total_bytes)
            );
        }
        output::text(&text)
    }

    fn cache_bytes(&self) -> u64 {
        self.memory_bytes / 100 * CACHE_PERCENT
    }

    fn run(&self, rounds: u32) -> Result<Outcome, Failure> {
        let mut outcome = Outcome {
            pressure: self.place.pressure(),
            memory_bytes: self.memory_bytes,
            hog_bytes: self.hog_bytes,
            rounds: Vec::new(),
        };
        match &self.place {
            Place::Cgroups(home) => {
                // Not counted: the first to touch memory that a virtual machine was never given waits for its host.
                self.hog_alone(home)?;
                for number in 1..=rounds {
                    self.progress.round(number, rounds);
                    outcome.rounds.push(self.round_in_cgroup(home)?);
                }
            }
            Place::Lever { .. } => {
                self.progress.round(1, 1);
                outcome.rounds.push(self.round_with_lever()?);
            }
        }
        Ok(outcome)
    }

    /// The hog in an empty group: how long it takes where nothing is in its way.
    fn hog_alone(&self, home: &Home) -> Result<Option<u64>, Failure> {
        let group = home.make("alone", self.memory_bytes)?;
        let mut hog = self.start_hog(&group)?;
        let times = run_hog(&mut hog, self.hog_bytes)?;
        end_hog(hog)?;
        Ok(times.map(|(started_ns, ended_ns)| ended_ns.saturating_sub(started_ns)))
    }

    fn round_in_cgroup(&self, home: &Home) -> Result<Round, Failure> {
        self.progress.phase("hog alone", 0);
        let mut round = Round {
            report: None,
            hog_ns: None,
            alone_ns: self.hog_alone(home)?,
            needed_bytes: 0,
            oom_kills: 0,
        };
        let group = home.make("both", self.memory_bytes)?;
        let cache = Child::start("cache", Some(&group.entry()), &self.interrupt)?;
        match self.press(cache, &group, &mut round) {
            Ok(report) => round.report = Some(report),
            Err(NoAnswer::Killed) => {}
            Err(NoAnswer::Failed(failure)) => return Err(failure),
        }
        round.oom_kills = group.oom_kills()?;
        Ok(round)
    }

    /// Fills the cache, lets the hog loose, and has the cache checked. Fills in what is known of the round on the way.
    fn press(
        &self,
        mut cache: Child<'_>,
        group: &MemoryGroup,
        round: &mut Round,
    ) -> Result<CacheReport, NoAnswer> {
        self.fill(&mut cache)?;
        let mut hog = self.start_hog(group)?;
        self.progress.phase("hog beside the cache", 0);
        cache.send(&ToCache::Watch)?;
        let FromCache::Watching { .. } = answer(&mut cache, &self.progress)? else {
            return Err(out_of_turn());
        };
        let free_bytes = group.free_bytes().map_err(NoAnswer::Failed)?;
        round.needed_bytes = self.hog_bytes.saturating_sub(free_bytes);
        round.hog_ns = run_hog(&mut hog, self.hog_bytes)?;
        std::thread::sleep(Duration::from_millis(HOLD_MS));
        end_hog(hog)?;
        self.verify(cache)
    }

    fn round_with_lever(&self) -> Result<Round, Failure> {
        let mut cache = Child::start("cache", None, &self.interrupt)?;
        let cached_bytes = self.fill(&mut cache)?;
        // What a hog would need beyond what the cache left free.
        let needed_bytes = self.hog_bytes.saturating_sub(self.memory_bytes.saturating_sub(cached_bytes));
        self.progress.phase("giving memory up", 0);
        cache.send(&ToCache::PullLever { bytes: needed_bytes })?;
        let FromCache::LeverPulled = answer(&mut cache, &self.progress)? else {
            return Err(out_of_turn().into());
        };
        let report = self.verify(cache)?;
        Ok(Round { report: Some(report), hog_ns: None, alone_ns: None, needed_bytes, oom_kills: 0 })
    }

    fn fill(&self, cache: &mut Child<'_>) -> Result<u64, NoAnswer> {
        self.progress.phase("reading files", self.cache_bytes().min(self.files.total_bytes));
        cache.send(&ToCache::Fill { target_bytes: self.cache_bytes(), files: self.files.paths.clone() })?;
        match answer(cache, &self.progress)? {
            FromCache::Filled { cached_bytes: 0 } => Err(NoAnswer::Failed(
                Failure::run("no file could be read").hint("give a directory with files that you may read"),
            )),
            FromCache::Filled { cached_bytes } => Ok(cached_bytes),
            _ => Err(out_of_turn()),
        }
    }

    fn verify(&self, mut cache: Child<'_>) -> Result<CacheReport, NoAnswer> {
        self.progress.phase("checking every byte", self.cache_bytes().min(self.files.total_bytes));
        cache.send(&ToCache::Verify { memory_bytes: self.memory_bytes })?;
        let FromCache::Verified(report) = answer(&mut cache, &self.progress)? else {
            return Err(out_of_turn());
        };
        cache.finish()?;
        Ok(*report)
    }

    fn start_hog(&self, group: &MemoryGroup) -> Result<Child<'_>, Failure> {
        let mut hog = Child::start("hog", Some(&group.entry()), &self.interrupt)?;
        match hog.receive()? {
            FromHog::Ready => Ok(hog),
            _ => Err(out_of_turn().into()),
        }
    }
}

/// Waits for the cache's answer, and shows its progress meanwhile.
fn answer(cache: &mut Child<'_>, progress: &Progress) -> Result<FromCache, NoAnswer> {
    loop {
        match cache.receive()? {
            FromCache::Progress { done_bytes } => progress.done(done_bytes),
            FromCache::Failed { message } => {
                return Err(NoAnswer::Failed(Failure::run(format!("the cache: {message}"))));
            }
            answer => return Ok(answer),
        }
    }
}

/// Lets the hog loose. Its times; none if it was killed.
fn run_hog(hog: &mut Child<'_>, bytes: u64) -> Result<Option<(u64, u64)>, Failure> {
    let answer = hog.send(&ToHog::Run { bytes }).and_then(|()| hog.receive());
    match answer {
        Ok(FromHog::Done { started_ns, ended_ns }) => Ok(Some((started_ns, ended_ns))),
        Ok(FromHog::Failed) => Err(Failure::run("the hog got no address space").hint("look at `ulimit -v`")),
        Ok(FromHog::Ready) => Err(out_of_turn().into()),
        Err(NoAnswer::Killed) => Ok(None),
        Err(NoAnswer::Failed(failure)) => Err(failure),
    }
}

/// Has the hog give its memory back. One that was killed has done so.
fn end_hog(mut hog: Child<'_>) -> Result<(), Failure> {
    match hog.send(&ToHog::End).and_then(|()| hog.finish()) {
        Ok(()) | Err(NoAnswer::Killed) => Ok(()),
        Err(NoAnswer::Failed(failure)) => Err(failure),
    }
}

/// The two sides of a conversation are one program; they agree, unless it was replaced in the middle of a run.
fn out_of_turn() -> NoAnswer {
    NoAnswer::Failed(Failure::run("a process of the demo answered out of turn"))
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
