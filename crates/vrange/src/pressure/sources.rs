//! Descriptors that say "look now".
//!
//! None of them is a guarantee: some are late, some may not be used by an ordinary user, a container may hide them all.
//! The floor under them is the timeout of [`Sources::wait`].

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use vrange_os::cgroup::v1::{PressureEvents, PressureLevel};
use vrange_os::cgroup::v2::{Change, EventsFile};
use vrange_os::cgroup::{Controller, Group, Hierarchies, Version};
use vrange_os::kernel_file::{Missing, ReadError, Root};
use vrange_os::poll::{PollFd, PollFlags, Polled, poll, sleep};
use vrange_os::psi::{self, Trigger};

use super::MAX_LEVELS;
use crate::observe::{Source as SourceKind, Sources as SourceKinds};

/// PSI of the machine and of our group, two eventfds of cgroup v1, a file for each level of cgroup v2.
const MAX_SOURCES: usize = 4 + MAX_LEVELS;

/// When waiting itself fails, look this often.
const BLIND_POLL: Duration = Duration::from_millis(10);

/// How bad it is, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Memory is being reclaimed, or tasks have waited for it. Page cache alone can do this.
    Reclaiming,
    /// Reclaim finds next to nothing: an OOM kill is near, or has happened. On cgroup v1, dirty page cache at a limit
    /// looks the same to the kernel (measured: writing a file three times the limit), and so does the removal of a
    /// group. A reason to look at once, therefore, and none to give anything up.
    Critical,
}

/// Why [`Sources::wait`] came back. All unset: a signal was handled, or a source went away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    /// The worst that a source reported.
    pub(crate) by_pressure: Option<Severity>,
    /// The time is over and nothing happened.
    pub(crate) timed_out: bool,
}

/// The open pressure sources.
#[derive(Debug)]
pub(crate) struct Sources {
    sources: Vec<Source>,
    missing: Vec<Missing>,
}

#[derive(Debug)]
enum Source {
    /// Pressure stall information, of the machine or of a group.
    Stall(Trigger),
    /// cgroup v1, all levels at once.
    Reclaim(PressureEvents, Severity),
    /// cgroup v2, one level.
    Limit(EventsFile),
}

impl Sources {
    /// Opens whatever can be opened under `root`. Never fails: what is missing will not wake anybody, and is kept in
    /// [`missing`](Self::missing).
    pub(crate) fn open(root: &Root) -> Self {
        let mut opened = Self { sources: Vec::new(), missing: Vec::new() };
        let machine = Trigger::open(root.join(psi::MACHINE));
        opened.add(machine.map(Source::Stall));
        match Hierarchies::read(root) {
            Ok(hierarchies) => opened.open_groups(&hierarchies),
            Err(missing) => opened.missing.push(missing),
        }
        opened
    }

    fn open_groups(&mut self, hierarchies: &Hierarchies) {
        // Where version 2 is mounted for its own sake only, it tells about stalls all the same.
        if let Ok(unified) = hierarchies.unified_group()
            && let Some(own) = unified.directories().first()
        {
            match Trigger::open(own.join(psi::OF_GROUP)) {
                // The root group may lack the file; it would tell what the machine's does.
                Err(missing) if missing.error.is_absent() => {}
                trigger => self.add(trigger.map(Source::Stall)),
            }
        }
        match hierarchies.group_of(Controller::Memory) {
            Ok(group) if group.version() == Version::V1 => {
                self.open_reclaim(&group, PressureLevel::Low, Severity::Reclaiming);
                self.open_reclaim(&group, PressureLevel::Critical, Severity::Critical);
            }
            Ok(group) => {
                for directory in group.directories() {
                    match EventsFile::open(directory) {
                        // The root has none, nor has a group without the memory controller.
                        Err(missing) if missing.error.is_absent() => {}
                        events => self.add(events.map(Source::Limit)),
                    }
                }
            }
            Err(missing) => self.missing.push(missing),
        }
    }

    /// Every ancestor: reclaim for its limit is reported there and not in our own group.
    fn open_reclaim(&mut self, group: &Group, level: PressureLevel, severity: Severity) {
        let events = match PressureEvents::new() {
            Ok(events) => events,
            Err(error) => {
                self.missing.push(Missing { path: "eventfd".into(), error: ReadError::Os(error) });
                return;
            }
        };
        let mut listens = false;
        for directory in group.directories() {
            match events.listen(directory, level) {
                Ok(()) => listens = true,
                Err(missing) => self.missing.push(missing),
            }
        }
        if listens {
            self.add(Ok(Source::Reclaim(events, severity)));
        }
    }

    fn add(&mut self, source: Result<Source, Missing>) {
        match source {
            Ok(source) => self.sources.push(source),
            Err(missing) => self.missing.push(missing),
        }
    }

    /// What can still wake us.
    pub(crate) fn kinds(&self) -> SourceKinds {
        let mut kinds = SourceKinds::default();
        self.sources.iter().for_each(|source| {
            kinds.add(match source {
                Source::Stall(_) => SourceKind::Stall,
                Source::Reclaim(..) => SourceKind::PressureLevel,
                Source::Limit(_) => SourceKind::Events,
            });
        });
        kinds
    }

    /// How many sources can still wake us. With 0, only the timeout does.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.sources.len()
    }

    /// What could not be opened, and why.
    #[cfg(test)]
    pub(crate) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Waits until a source reports or `timeout` is over. Allocates nothing.
    ///
    /// Events are taken back, so that the next call waits for new ones; a source that is gone for good is dropped and
    /// cannot wake anybody again.
    ///
    /// Where waiting itself fails (`RLIMIT_NOFILE` below the number of sources) it sleeps for 10 ms at most and tells
    /// `timed_out`, so that the caller looks at everything.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Woken {
        let mut reported = [PollFlags::empty(); MAX_SOURCES];
        let mut woken = Woken::default();
        match self.poll(timeout, &mut reported) {
            Polled::Ready => {}
            Polled::TimedOut => return Woken { timed_out: true, ..woken },
            Polled::Interrupted => return woken,
        }
        let mut place = 0;
        self.sources.retain_mut(|source| {
            let flags = reported.get(place).copied().unwrap_or(PollFlags::empty());
            place += 1;
            let heard = if flags.is_empty() { Heard::Nothing } else { source.hear(flags) };
            if let Heard::Pressure(severity) = heard {
                woken.by_pressure = woken.by_pressure.max(Some(severity));
            }
            heard != Heard::Gone
        });
        woken
    }

    /// The system call, with what it reported about each source.
    fn poll(&self, timeout: Duration, reported: &mut [PollFlags; MAX_SOURCES]) -> Polled {
        // The array needs some descriptor in each place; those behind `used` are never shown to the kernel.
        let Some(any) = self.sources.first().map(Source::descriptor) else {
            sleep(timeout);
            return Polled::TimedOut;
        };
        let mut entries: [PollFd<'_>; MAX_SOURCES] =
            std::array::from_fn(|place| match self.sources.get(place) {
                Some(source) => PollFd::from_borrowed_fd(source.descriptor(), source.interest()),
                None => PollFd::from_borrowed_fd(any, PollFlags::IN),
            });
        let used = self.sources.len().min(MAX_SOURCES);
        let Ok(polled) = poll(&mut entries[..used], Some(timeout)) else {
            sleep(timeout.min(BLIND_POLL));
            return Polled::TimedOut;
        };
        for (flags, entry) in reported.iter_mut().zip(&entries[..used]) {
            *flags = entry.revents();
        }
        polled
    }
}

/// What a source said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Pressure(Severity),
    /// It reports an error, and will for ever.
    Gone,
}

impl Source {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stall(trigger) => trigger.as_fd(),
            Self::Reclaim(events, _) => events.as_fd(),
            Self::Limit(events) => events.as_fd(),
        }
    }

    fn interest(&self) -> PollFlags {
        match self {
            Self::Stall(_) | Self::Limit(_) => PollFlags::PRI,
            Self::Reclaim(..) => PollFlags::IN,
        }
    }

    fn hear(&mut self, flags: PollFlags) -> Heard {
        let broken = flags.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        match self {
            Self::Stall(_) if broken => Heard::Gone,
            Self::Stall(_) => Heard::Pressure(Severity::Reclaiming),
            Self::Reclaim(events, severity) if events.take() => Heard::Pressure(*severity),
            Self::Reclaim(..) if broken => Heard::Gone,
            // A child that inherited the eventfd was faster.
            Self::Reclaim(..) => Heard::Nothing,
            // POLLERR is how cgroup files report every change; only reading tells whether the group is still there. A
            // file that could not be read for another reason would report for ever as well, so it goes too.
            Self::Limit(events) => match events.look() {
                Ok(Change::None) => Heard::Nothing,
                Ok(Change::Limit) => Heard::Pressure(Severity::Reclaiming),
                Ok(Change::OutOfMemory) => Heard::Pressure(Severity::Critical),
                Err(_) => Heard::Gone,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use vrange_testing::skipped;

    use super::*;

    fn nothing() -> Sources {
        Sources::open(&Root::at("/proc/self/fdinfo"))
    }

    #[test]
    fn without_any_source_time_passes() {
        let mut sources = nothing();
        assert_eq!(sources.count(), 0);
        assert_eq!(sources.missing().len(), 2, "{:?}", sources.missing());
        let timed_out = Woken { timed_out: true, ..Woken::default() };
        assert_eq!(sources.wait(Duration::from_micros(100)), timed_out);
    }

    #[test]
    fn a_report_is_heard_once() {
        let mut sources = nothing();
        let events = PressureEvents::new().expect("an eventfd");
        signal(&events);
        sources.add(Ok(Source::Reclaim(events, Severity::Critical)));
        let woken = sources.wait(Duration::ZERO);
        assert_eq!(woken, Woken { by_pressure: Some(Severity::Critical), ..Woken::default() });
        assert!(sources.wait(Duration::ZERO).timed_out);
        assert_eq!(sources.count(), 1);
    }

    /// Signals an eventfd as the kernel would.
    fn signal(events: &PressureEvents) {
        let copy = events.as_fd().try_clone_to_owned().expect("a descriptor");
        File::from(copy).write_all(&1_u64.to_ne_bytes()).expect("an eventfd takes 8 bytes");
    }

    #[test]
    fn the_worst_report_counts() {
        let mut sources = nothing();
        for severity in [Severity::Critical, Severity::Reclaiming] {
            let events = PressureEvents::new().expect("an eventfd");
            signal(&events);
            sources.add(Ok(Source::Reclaim(events, severity)));
        }
        let woken = sources.wait(Duration::from_secs(5));
        assert_eq!(woken, Woken { by_pressure: Some(Severity::Critical), timed_out: false });
    }

    #[test]
    fn a_source_that_is_gone_does_not_keep_us_busy() {
        let parents = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(std::path::Path::new);
        let Some(parent) = parents.into_iter().find(|parent| parent.join("cgroup.controllers").exists())
        else {
            return skipped("no cgroup v2 here");
        };
        let group = parent.join(format!("vrange-test-sources-{}", std::process::id()));
        if std::fs::create_dir(&group).is_err() {
            return skipped("needs the right to make a cgroup");
        }
        let trigger = Trigger::open(group.join(psi::OF_GROUP));
        let events = EventsFile::open(&group);
        std::fs::remove_dir(&group).expect("an empty group can be removed");
        let mut sources = nothing();
        sources.add(trigger.map(Source::Stall));
        sources.add(events.map(Source::Limit));
        while sources.count() > 0 {
            let woken = sources.wait(Duration::from_secs(5));
            assert_eq!(woken, Woken::default(), "a source that is gone tells of no pressure");
        }
    }

    #[test]
    fn the_real_system_opens_what_it_can_and_names_the_rest() {
        let mut sources = Sources::open(&Root::real());
        assert!(sources.count() + sources.missing().len() > 0);
        assert!(sources.count() <= MAX_SOURCES);
        let _ = sources.wait(Duration::from_millis(1));
    }
}
