//! Reads all levels, over and over, from files opened once.

use vrange_os::cgroup::locate::MEMBERSHIP;
use vrange_os::cgroup::quota::CpuQuota;
use vrange_os::cgroup::{self, Controller, Hierarchies, MemoryLevel};
use vrange_os::kernel_file::{BUFFER_BYTES, KernelFile, Missing, Root};
use vrange_os::meminfo::MemInfoFile;

use super::{Level, LevelKind, headroom};

/// The most levels that [`Readers::read`] returns: the machine and the cgroups.
pub(crate) const MAX_LEVELS: usize = cgroup::MAX_LEVELS + 1;

/// The open files that tell how short memory is.
///
/// They speak of the process that opened them, and of the cgroup it was in: after `fork`, and when [`moved`] says so,
/// open new ones.
///
/// [`moved`]: Readers::moved
#[derive(Debug)]
pub(crate) struct Readers {
    machine: Option<MemInfoFile>,
    groups: Vec<MemoryLevel>,
    quota: CpuQuota,
    membership: Option<Membership>,
    missing: Vec<Missing>,
    buffer: Box<[u8; BUFFER_BYTES]>,
    levels: [Level; MAX_LEVELS],
    /// How many of them were read the last time.
    count: usize,
}

/// `/proc/self/cgroup`, and what it said when the levels were found.
#[derive(Debug)]
struct Membership {
    file: KernelFile,
    at_open: Box<[u8]>,
}

/// Fills the places that no level was read into. Never seen.
const NO_LEVEL: Level = Level {
    kind: LevelKind::Machine,
    limit_bytes: 0,
    free_bytes: 0,
    headroom_bytes: 0,
    unreclaimable_bytes: 0,
    lazyfree_bytes: 0,
};

impl Readers {
    /// Opens whatever can be opened under `root`. Never fails: what is missing is left out of all readings, and kept in
    /// [`missing`](Self::missing).
    pub(crate) fn open(root: &Root) -> Self {
        let mut readers = Self {
            machine: None,
            groups: Vec::new(),
            quota: CpuQuota::default(),
            membership: None,
            missing: Vec::new(),
            buffer: Box::new([0; BUFFER_BYTES]),
            levels: [NO_LEVEL; MAX_LEVELS],
            count: 0,
        };
        // Before the groups are looked for: a move in between is then noticed by the next `moved`.
        match Membership::open(root, &mut *readers.buffer) {
            Ok(membership) => readers.membership = Some(membership),
            Err(missing) => readers.missing.push(missing),
        }
        let has_swap = readers.open_machine(root);
        match Hierarchies::read(root) {
            Ok(hierarchies) => readers.open_groups(&hierarchies, has_swap),
            Err(missing) => readers.missing.push(missing),
        }
        readers
    }

    /// Returns whether the machine has swap, or might have.
    fn open_machine(&mut self, root: &Root) -> bool {
        let opened = MemInfoFile::open(root);
        let read = opened.as_ref().ok().map(|file| file.read(&mut *self.buffer));
        match opened {
            Ok(file) => self.machine = Some(file),
            Err(missing) => self.missing.push(missing),
        }
        match read {
            Some(Ok(info)) => info.swap_total_bytes > 0,
            Some(Err(error)) => {
                self.missing.push(Missing { path: root.join("/proc/meminfo"), error });
                true
            }
            None => true,
        }
    }

    fn open_groups(&mut self, hierarchies: &Hierarchies, has_swap: bool) {
        match hierarchies.group_of(Controller::Memory) {
            Ok(group) => {
                let (levels, missing) = group.memory_levels(has_swap);
                self.groups = levels;
                self.missing.extend(missing);
                if group.levels_left_out() > 0 {
                    self.missing.push(Missing::malformed(group.mount_point(), "room to watch all ancestors"));
                }
            }
            Err(missing) => self.missing.push(missing),
        }
        // A group that has no processor controller has no quota: nothing is missing then.
        if let Ok(group) = hierarchies.group_of(Controller::Cpu) {
            let (quota, missing) = CpuQuota::open(&group);
            self.quota = quota;
            self.missing.extend(missing);
        }
    }

    /// Reads every level as it is now: the machine first, then the cgroups that have a limit, our own before its
    /// ancestors. A level that cannot be read this time is left out. Limits are read anew each time, since they may be
    /// lowered, set or lifted while we run.
    pub(crate) fn read(&mut self) -> &[Level] {
        let buffer = &mut *self.buffer;
        let machine = self.machine.iter().filter_map(|file| file.read(buffer).ok());
        let mut count = 0;
        for info in machine {
            self.levels[count] = headroom::of_machine(&info);
            count += 1;
        }
        for (height, group) in self.groups.iter().enumerate() {
            let Ok(Some(reading)) = group.read(buffer) else {
                continue;
            };
            if let (Some(level), Some(place)) =
                (headroom::of_cgroup(height, &reading), self.levels.get_mut(count))
            {
                *place = level;
                count += 1;
            }
        }
        self.count = count;
        self.last()
    }

    /// What [`read`](Self::read) returned the last time.
    pub(crate) fn last(&self) -> &[Level] {
        &self.levels[..self.count]
    }

    /// Whether the process has been put into another cgroup since the files were opened, so that they speak of limits
    /// that are not ours any more. One `pread(2)`. False where it cannot be told.
    pub(crate) fn moved(&mut self) -> bool {
        let Some(membership) = &self.membership else {
            return false;
        };
        membership.file.read(&mut *self.buffer).is_ok_and(|now| *now != *membership.at_open)
    }

    /// The processor time our cgroups may use, in processors, as it is now; `None` where there is no quota.
    pub(crate) fn cpu_quota(&self) -> Option<f64> {
        self.quota.read()
    }

    /// What could not be opened, and why: levels that will never be read.
    #[cfg(test)]
    pub(crate) fn missing(&self) -> &[Missing] {
        &self.missing
    }
}

impl Membership {
    fn open(root: &Root, buffer: &mut [u8]) -> Result<Self, Missing> {
        let path = root.join(MEMBERSHIP);
        let file = KernelFile::open(&path)?;
        let at_open = match file.read(buffer) {
            Ok(text) => text.into(),
            Err(error) => return Err(Missing { path, error }),
        };
        Ok(Self { file, at_open })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const MEMINFO: &str = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\nSwapTotal: 0 kB\n";
    const STAT: &str = "file 500000\nshmem 0\nfile_dirty 0\nfile_writeback 0\n\
        inactive_file 400000\nactive_file 100000\n";

    fn write(folder: &Path, file: &str, text: &str) {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("files lie in folders")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn group(folder: &Path, directory: &str, max: &str) {
        write(folder, &format!("cg/{directory}/memory.max"), max);
        write(folder, &format!("cg/{directory}/memory.high"), "max\n");
        write(folder, &format!("cg/{directory}/memory.current"), "900000\n");
        write(folder, &format!("cg/{directory}/memory.stat"), STAT);
    }

    fn system() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "proc/meminfo", MEMINFO);
        write(folder.path(), "proc/self/cgroup", "0::/a/b\n");
        write(folder.path(), "proc/self/mountinfo", "1 1 0:1 / /cg rw - cgroup2 cgroup2 rw\n");
        group(folder.path(), "a", "2000000\n");
        group(folder.path(), "a/b", "max\n");
        write(folder.path(), "cg/a/cpu.max", "20000 100000\n");
        folder
    }

    fn kinds(readers: &mut Readers) -> Vec<LevelKind> {
        readers.read().iter().map(|level| level.kind).collect()
    }

    #[test]
    fn every_level_with_a_limit_is_read() {
        let folder = system();
        let mut readers = Readers::open(&Root::at(folder.path()));
        assert_eq!(readers.missing(), []);
        assert_eq!(kinds(&mut readers), [LevelKind::Machine, LevelKind::Cgroup { height: 1 }]);
        let [machine, parent] = readers.read() else { panic!("two levels") };
        assert_eq!((machine.limit_bytes, machine.free_bytes), (1000 << 10, 100 << 10));
        assert_eq!((machine.headroom_bytes, machine.unreclaimable_bytes), (600 << 10, 400 << 10));
        assert_eq!((parent.limit_bytes, parent.free_bytes), (2_000_000, 1_100_000));
        assert!(parent.headroom_bytes > parent.free_bytes);
        assert_eq!(readers.cpu_quota(), Some(0.2));
    }

    #[test]
    fn limits_may_be_set_and_lifted_at_any_time() {
        let folder = system();
        let mut readers = Readers::open(&Root::at(folder.path()));
        write(folder.path(), "cg/a/b/memory.max", "950000\n");
        let kind = LevelKind::Cgroup { height: 0 };
        assert_eq!(kinds(&mut readers), [LevelKind::Machine, kind, LevelKind::Cgroup { height: 1 }]);
        write(folder.path(), "cg/a/memory.max", "max\n");
        assert_eq!(kinds(&mut readers), [LevelKind::Machine, kind]);
        write(folder.path(), "cg/a/cpu.max", "max 100000\n");
        assert_eq!(readers.cpu_quota(), None);
    }

    #[test]
    fn a_level_that_cannot_be_read_is_left_out_and_comes_back() {
        let folder = system();
        let mut readers = Readers::open(&Root::at(folder.path()));
        write(folder.path(), "cg/a/memory.stat", "file 5");
        assert_eq!(kinds(&mut readers), [LevelKind::Machine]);
        write(folder.path(), "proc/meminfo", "garbage");
        assert_eq!(kinds(&mut readers), []);
        write(folder.path(), "proc/meminfo", MEMINFO);
        write(folder.path(), "cg/a/memory.stat", STAT);
        assert_eq!(kinds(&mut readers).len(), 2);
    }

    #[test]
    fn more_levels_than_can_be_held_are_named() {
        let folder = system();
        let mut path = String::new();
        for _ in 0..50 {
            path.push_str("/d");
            group(folder.path(), &path[1..], "2000000\n");
        }
        write(folder.path(), "proc/self/cgroup", &format!("0::{path}\n"));
        let mut readers = Readers::open(&Root::at(folder.path()));
        assert_eq!(readers.missing().len(), 1, "{:?}", readers.missing());
        let levels = readers.read();
        assert_eq!(levels.len(), MAX_LEVELS);
        assert!(levels.iter().all(|level| level.kind.index() < MAX_LEVELS));
    }

    #[test]
    fn a_move_to_another_group_is_noticed() {
        let folder = system();
        let mut readers = Readers::open(&Root::at(folder.path()));
        assert!(!readers.moved());
        write(folder.path(), "proc/self/cgroup", "0::/a\n");
        assert!(readers.moved());
    }

    #[test]
    fn where_nothing_can_be_opened_nothing_is_read() {
        let mut readers = Readers::open(&Root::at("/proc/self/fdinfo"));
        assert!(readers.read().is_empty());
        assert!(!readers.moved());
        assert_eq!(readers.cpu_quota(), None);
        let missing: Vec<_> = readers.missing().iter().map(|missing| missing.path.clone()).collect();
        assert!(missing.iter().any(|path| path.ends_with("proc/meminfo")), "{missing:?}");
        assert!(missing.iter().any(|path| path.ends_with("proc/self/cgroup")), "{missing:?}");
    }

    #[test]
    fn the_real_system_has_at_least_a_machine() {
        let mut readers = Readers::open(&Root::real());
        assert!(!readers.moved());
        let levels = readers.read();
        assert_eq!(levels.first().map(|level| level.kind), Some(LevelKind::Machine));
        for level in levels {
            assert!(level.limit_bytes >= level.headroom_bytes.min(level.free_bytes), "{level:?}");
        }
    }
}
