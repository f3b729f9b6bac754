//! Folders that look like systems, and one look at the real one.

use std::fs;
use std::path::PathBuf;

use vrange_testing::skipped;

use super::quota::CpuQuota;
use super::v1::{PressureEvents, PressureLevel};
use super::v2::{Change, EventsFile};
use super::*;
use crate::kernel_file::{BUFFER_BYTES, Root};

/// A system made of files.
struct System {
    folder: tempfile::TempDir,
}

impl System {
    fn new(membership: &str, mountinfo: &str) -> Self {
        let system = Self { folder: tempfile::tempdir().expect("a folder") };
        system.write("proc/self/cgroup", membership);
        system.write("proc/self/mountinfo", mountinfo);
        system
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("files lie in folders")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn v1_group(&self, directory: &str, limit: u64, usage: u64) {
        self.write(&format!("{directory}/memory.limit_in_bytes"), format!("{limit}\n"));
        self.write(&format!("{directory}/memory.usage_in_bytes"), format!("{usage}\n"));
        self.write(&format!("{directory}/memory.stat"), V1_STAT);
    }

    fn v2_group(&self, directory: &str, max: &str, high: &str, current: u64) {
        self.write(&format!("{directory}/memory.max"), format!("{max}\n"));
        self.write(&format!("{directory}/memory.high"), format!("{high}\n"));
        self.write(&format!("{directory}/memory.current"), format!("{current}\n"));
        self.write(&format!("{directory}/memory.stat"), V2_STAT);
        self.write(&format!("{directory}/cgroup.events"), "populated 1\n");
    }

    fn hierarchies(&self) -> Hierarchies {
        Hierarchies::read(&Root::at(self.folder.path())).expect("both files are there")
    }

    fn memory(&self) -> Group {
        self.hierarchies().group_of(Controller::Memory).expect("a group")
    }
}

const UNLIMITED: u64 = 9_223_372_036_854_771_712;
const V1_STAT: &str = "cache 1\ninactive_file 2\nactive_file 3\nhierarchical_memory_limit 1000\ntotal_cache 900\n\
    total_shmem 100\ntotal_dirty 11\ntotal_writeback 12\ntotal_inactive_file 600\ntotal_active_file 500\n";
const V2_STAT: &str = "anon 5\nfile 900\nshmem 100\nfile_dirty 11\nfile_writeback 12\nswapcached 50\n\
    inactive_anon 1\nactive_anon 2\ninactive_file 600\nactive_file 500\nunevictable 0\n";
const V1_MOUNT: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";
const V2_MOUNT: &str = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

/// The last part of each level's directory.
fn names(group: &Group) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    group.directories().iter().filter_map(name).collect()
}

fn read(level: &MemoryLevel) -> Result<Option<Reading>, ReadError> {
    level.read(&mut [0; BUFFER_BYTES])
}

#[test]
fn v1_every_ancestor_is_a_level() {
    let system = System::new("4:memory:/outer/inner\n0::/\n", V1_MOUNT);
    system.v1_group("sys/fs/cgroup/memory", UNLIMITED, 7000);
    system.v1_group("sys/fs/cgroup/memory/outer", 4096, 2000);
    system.v1_group("sys/fs/cgroup/memory/outer/inner", UNLIMITED, 1000);
    system.write("sys/fs/cgroup/memory/release_agent", "\n");
    let group = system.memory();
    assert_eq!((group.version(), group.path()), (Version::V1, "/outer/inner"));
    assert_eq!(names(&group), ["inner", "outer", "memory"]);
    assert!(!group.ancestors_hidden());
    let (levels, missing) = group.memory_levels(true);
    assert_eq!((levels.len(), missing), (3, vec![]));
    assert_eq!(read(&levels[0]), Ok(None));
    let reading = read(&levels[1]).expect("readable").expect("limited");
    assert_eq!(reading.limits.of_memory_bytes(), Some(4096));
    assert_eq!(reading.usage_bytes, 2000);
    let file =
        FileMemory { lists_bytes: 1100, dirty_bytes: 11, writeback_bytes: 12, page_cache_bytes: Some(800) };
    assert_eq!(reading.file, file);
    assert_eq!(levels[1].hierarchical_limit_bytes(&mut [0; BUFFER_BYTES]), Ok(Some(1000)));
}

#[test]
fn v1_limit_of_memory_and_swap_counts_where_there_is_swap() {
    let system = System::new("4:memory:/\n", V1_MOUNT);
    system.v1_group("sys/fs/cgroup/memory", UNLIMITED, 7000);
    system.write("sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "9000\n");
    system.write("sys/fs/cgroup/memory/memory.memsw.usage_in_bytes", "8000\n");
    let (levels, _) = system.memory().memory_levels(true);
    let reading = read(&levels[0]).expect("readable").expect("limited");
    assert_eq!(
        (reading.limits.memory_and_swap_bytes, reading.memory_and_swap_usage_bytes),
        (Some(9000), 8000)
    );
    let (levels, _) = system.memory().memory_levels(false);
    assert_eq!(read(&levels[0]), Ok(None));
}

#[test]
fn v1_without_hierarchy_ignores_the_groups_above() {
    let system = System::new("4:memory:/a/b\n", V1_MOUNT);
    system.v1_group("sys/fs/cgroup/memory", UNLIMITED, 1);
    system.v1_group("sys/fs/cgroup/memory/a", 10, 1);
    system.v1_group("sys/fs/cgroup/memory/a/b", 100, 1);
    assert_eq!(system.memory().memory_levels(false).0.len(), 3);
    system.write("sys/fs/cgroup/memory/a/memory.use_hierarchy", "0\n");
    let (levels, missing) = system.memory().memory_levels(false);
    assert_eq!((levels.len(), missing), (2, vec![]));
}

#[test]
fn v2_max_and_high_are_limits_and_the_root_has_none() {
    let system = System::new("0::/slice/unit\n", V2_MOUNT);
    system.v2_group("sys/fs/cgroup/slice", "max", "5000", 3000);
    system.v2_group("sys/fs/cgroup/slice/unit", "4096", "max", 2000);
    let group = system.memory();
    assert_eq!(group.version(), Version::V2);
    assert!(!group.ancestors_hidden());
    let (levels, missing) = group.memory_levels(true);
    assert_eq!((levels.len(), missing), (2, vec![]));
    let unit = read(&levels[0]).expect("readable").expect("limited");
    assert_eq!((unit.limits.of_memory_bytes(), unit.usage_bytes), (Some(4096), 2000));
    assert_eq!(unit.file.page_cache_bytes, Some(750));
    assert_eq!(unit.file.lists_bytes, 1100);
    let slice = read(&levels[1]).expect("readable").expect("limited");
    assert_eq!(slice.limits.of_memory_bytes(), Some(5000));
    // Lowered, and then taken away, while the files are open.
    system.write("sys/fs/cgroup/slice/memory.high", "100\n");
    assert_eq!(levels[1].limits().expect("readable").of_memory_bytes(), Some(100));
    system.write("sys/fs/cgroup/slice/memory.high", "max\n");
    assert_eq!(read(&levels[1]), Ok(None));
}

#[test]
fn hybrid_memory_is_where_v1_lists_it() {
    let mounts = format!("{V1_MOUNT}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    let system = System::new("4:memory:/a\n1:name=systemd:/b\n0::/c\n", &mounts);
    system.v1_group("sys/fs/cgroup/memory/a", 10, 1);
    system.write("sys/fs/cgroup/unified/c/memory.pressure", "");
    assert_eq!(system.memory().version(), Version::V1);
    let unified = system.hierarchies().unified_group().expect("mounted as well");
    assert_eq!(unified.version(), Version::V2);
    assert_eq!(names(&unified), ["c", "unified"]);
    // The controller for processor time is on neither v1 hierarchy, so it belongs to v2.
    let cpu = system.hierarchies().group_of(Controller::Cpu).expect("a group");
    assert_eq!(cpu.version(), Version::V2);
}

#[test]
fn a_container_that_sees_a_part_as_the_whole() {
    let mount = "35 31 0:32 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    let system = System::new("4:memory:/docker/x/y\n", mount);
    system.v1_group("sys/fs/cgroup/memory", 100, 1);
    system.v1_group("sys/fs/cgroup/memory/y", 10, 1);
    let group = system.memory();
    assert_eq!(names(&group), ["y", "memory"]);
    assert!(group.ancestors_hidden());
}

#[test]
fn the_mount_that_shows_most_ancestors_wins() {
    let mounts = "50 1 0:38 /a/b /container rw - cgroup2 cgroup2 rw\n\
        51 1 0:38 / /host\\040cgroup rw - cgroup2 cgroup2 rw\n\
        52 1 0:38 /a /part rw - cgroup2 cgroup2 rw\n";
    let system = System::new("0::/a/b\n", mounts);
    system.v2_group("container", "1", "max", 1);
    system.v2_group("part/b", "1", "max", 1);
    system.v2_group("host cgroup/a/b", "1", "max", 1);
    assert_eq!(names(&system.memory()), ["b", "a", "host cgroup"]);
    // A mount that is listed and covered by another file system shows nothing.
    fs::remove_dir_all(system.path("host cgroup")).expect("removable");
    assert_eq!(names(&system.memory()), ["b", "part"]);
}

#[test]
fn a_namespace_that_hides_names_is_searched() {
    let mount = "35 31 0:32 /../.. /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let system = System::new("4:memory:/own\n", mount);
    system.v1_group("sys/fs/cgroup/memory/a/b/own", 10, 1);
    system.v1_group("sys/fs/cgroup/memory/a/other/own", 20, 1);
    system.write("sys/fs/cgroup/memory/a/other/own/cgroup.procs", "1\nx\n");
    assert!(system.hierarchies().group_of(Controller::Memory).is_err(), "nobody says that it is ours");
    system.write("sys/fs/cgroup/memory/a/b/own/cgroup.procs", format!("1\n{}\n", std::process::id()));
    assert_eq!(names(&system.memory()), ["own", "b", "a", "memory"]);
    // The same, without a group of our own inside the namespace.
    let system = System::new("4:memory:/\n", mount);
    system.write("sys/fs/cgroup/memory/a/b/cgroup.procs", format!("{}\n", std::process::id()));
    assert_eq!(names(&system.memory()), ["b", "a", "memory"]);
}

#[test]
fn a_group_outside_the_namespace_is_not_mistaken_for_its_root() {
    let system = System::new("0::/../elsewhere\n", V2_MOUNT);
    system.v2_group("sys/fs/cgroup", "1", "max", 1);
    let error = system.hierarchies().group_of(Controller::Memory).expect_err("not visible");
    assert!(error.to_string().ends_with("no mount that shows our cgroup in it"), "{error}");
    system.write("sys/fs/cgroup/cgroup.procs", format!("{}\n", std::process::id()));
    assert_eq!(names(&system.memory()), ["cgroup"]);
}

#[test]
fn more_levels_than_are_watched() {
    let path: String = (0..40).map(|level| format!("/{level}")).collect();
    let system = System::new(&format!("0::{path}\n"), V2_MOUNT);
    for depth in 1..=40 {
        let below: String = (0..depth).map(|level| format!("/{level}")).collect();
        system.v2_group(&format!("sys/fs/cgroup{below}"), "1", "max", 1);
    }
    let group = system.memory();
    assert_eq!(group.directories().len(), MAX_LEVELS);
    assert_eq!(group.levels_left_out(), 41 - MAX_LEVELS);
    assert!(group.directories()[0].ends_with("38/39"));
    assert_eq!(group.memory_levels(true).0.len(), MAX_LEVELS);
}

#[test]
fn files_that_are_missing_are_named() {
    let nowhere = Hierarchies::read(&Root::at("/proc/self/fdinfo")).expect_err("there is nothing");
    assert!(nowhere.error.is_absent() && nowhere.path.ends_with("proc/self/cgroup"), "{nowhere}");
    let garbage = System::new("\u{0}\u{1}\n\n", V1_MOUNT);
    let error = Hierarchies::read(&Root::at(garbage.folder.path())).expect_err("no line makes sense");
    assert_eq!(error.error.errno(), None);
    let system = System::new("4:memory:/a\n", V1_MOUNT);
    system.v1_group("sys/fs/cgroup/memory/a", 10, 1);
    fs::remove_file(system.path("sys/fs/cgroup/memory/a/memory.stat")).expect("it was there");
    let (levels, missing) = system.memory().memory_levels(true);
    assert!(levels.is_empty());
    assert!(missing[0].path.ends_with("a/memory.stat"), "{missing:?}");
    assert!(missing[1].path.ends_with("memory/memory.limit_in_bytes"), "{missing:?}");
}

#[test]
fn files_cut_anywhere_give_an_error_or_the_right_numbers() {
    let system = System::new("0::/a\n", V2_MOUNT);
    system.v2_group("sys/fs/cgroup/a", "4096", "max", 2000);
    let (levels, _) = system.memory().memory_levels(true);
    let whole = read(&levels[0]).expect("readable").expect("limited");
    for end in 0..V2_STAT.len() {
        system.write("sys/fs/cgroup/a/memory.stat", &V2_STAT[..end]);
        match read(&levels[0]) {
            Ok(reading) => assert_eq!(reading.expect("limited"), whole),
            Err(error) => assert!(matches!(error, ReadError::Malformed(_))),
        }
    }
    system.write("sys/fs/cgroup/a/memory.stat", [0xff; 9000]);
    assert!(read(&levels[0]).is_err());
    system.write("sys/fs/cgroup/a/memory.stat", V2_STAT);
    for garbage in ["", "40", "4096", "-1\n", "99999999999999999999\n", "a lot\n"] {
        system.write("sys/fs/cgroup/a/memory.max", garbage);
        assert_eq!(read(&levels[0]), Err(ReadError::Malformed("number")), "{garbage:?}");
    }
}

#[test]
fn the_smallest_quota_of_all_ancestors_counts() {
    let system = System::new("0::/a/b\n", V2_MOUNT);
    system.write("sys/fs/cgroup/a/cpu.max", "20000 100000\n");
    system.write("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
    let cpu = system.hierarchies().group_of(Controller::Cpu).expect("a group");
    let (quota, missing) = CpuQuota::open(&cpu);
    assert_eq!((quota.read(), missing), (Some(0.2), vec![]));
    system.write("sys/fs/cgroup/a/cpu.max", "max 100000\n");
    assert_eq!(quota.read(), Some(1.5));
    system.write("sys/fs/cgroup/a/b/cpu.max", "150000 0\n");
    assert_eq!(quota.read(), None);
    let mount = "1 1 0:1 / /cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
    let system = System::new("1:cpu,cpuacct:/a\n", mount);
    system.write("cpu/a/cpu.cfs_quota_us", "5000\n");
    system.write("cpu/a/cpu.cfs_period_us", "10000\n");
    system.write("cpu/cpu.cfs_quota_us", "-1\n");
    system.write("cpu/cpu.cfs_period_us", "10000\n");
    let cpu = system.hierarchies().group_of(Controller::Cpu).expect("a group");
    assert_eq!(CpuQuota::open(&cpu).0.read(), Some(0.5));
}

#[test]
fn events_are_compared_with_the_last_look() {
    let system = System::new("0::/a\n", V2_MOUNT);
    let file = "sys/fs/cgroup/a/memory.events";
    system.write(file, "low 0\nhigh 3\nmax 4\noom 0\noom_kill 0\n");
    let mut events = EventsFile::open(&system.path("sys/fs/cgroup/a")).expect("readable");
    assert_eq!(events.counts().max, 4);
    assert_eq!(events.look(), Ok(Change::None));
    system.write(file, "low 0\nhigh 4\nmax 4\noom 0\noom_kill 0\n");
    assert_eq!(events.look(), Ok(Change::Limit));
    system.write(file, "low 0\nhigh 4\nmax 5\noom 1\noom_kill 0\n");
    assert_eq!(events.look(), Ok(Change::OutOfMemory));
    system.write(file, "low 0\nhi");
    assert_eq!(events.look(), Ok(Change::None));
}

#[test]
fn the_registration_of_a_listener() {
    let system = System::new("4:memory:/\n", V1_MOUNT);
    system.write("group/cgroup.event_control", "");
    system.write("group/memory.pressure_level", "");
    let events = PressureEvents::new().expect("an eventfd");
    events.listen(&system.path("group"), PressureLevel::Critical).expect("plain files take it");
    let request = fs::read_to_string(system.path("group/cgroup.event_control")).expect("written");
    let fields: Vec<&str> = request.split(' ').collect();
    assert!(matches!(fields[..], [event, file, "critical"] if event != file), "{request}");
    assert!(!events.take());
    let missing = events.listen(&system.path("none"), PressureLevel::Low).expect_err("not there");
    assert!(missing.path.ends_with("none/memory.pressure_level"));
}

#[test]
fn the_real_system_is_sound() {
    let hierarchies = match Hierarchies::read(&Root::real()) {
        Ok(hierarchies) => hierarchies,
        Err(missing) => {
            return skipped(&format!("no cgroups here ({missing})"));
        }
    };
    let Ok(group) = hierarchies.group_of(Controller::Memory) else {
        return skipped("the memory controller is not visible here");
    };
    assert!(group.directories()[0].is_dir());
    let (levels, missing) = group.memory_levels(true);
    assert_eq!(missing, []);
    for level in &levels {
        level.read(&mut [0; BUFFER_BYTES]).expect("readable");
        let limit = level.hierarchical_limit_bytes(&mut [0; BUFFER_BYTES]).expect("readable");
        assert!(limit.is_none_or(|limit| {
            level.limits().expect("readable").max_bytes.is_none_or(|max| limit <= max)
        }));
    }
    if let Ok(cpu) = hierarchies.group_of(Controller::Cpu) {
        let quota = CpuQuota::open(&cpu).0.read();
        assert!(quota.is_none_or(|cpus| cpus > 0.0));
    }
}

/// A directory of the real memory controller of v1, removed at the end.
struct RealGroup(PathBuf);

impl RealGroup {
    fn make(name: &str) -> Option<Self> {
        let group = Hierarchies::read(&Root::real()).ok()?.group_of(Controller::Memory).ok()?;
        let path = group.mount_point().join(format!("vrange-test-{name}-{}", std::process::id()));
        let made = group.version() == Version::V1 && fs::create_dir(&path).is_ok();
        made.then_some(Self(path))
    }

    fn run(&self, script: &str) {
        let enter = format!("echo $$ > {}/cgroup.procs && {script}", self.0.display());
        let status = std::process::Command::new("sh").args(["-c", &enter]).status().expect("a shell");
        assert!(status.success(), "{script}");
    }
}

impl Drop for RealGroup {
    fn drop(&mut self) {
        // The last process may still be on its way out.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn the_real_kernel_signals_reclaim_in_a_v1_group() {
    let Some(group) = RealGroup::make("events") else {
        return skipped("needs the right to make a cgroup of the v1 memory controller");
    };
    fs::write(group.0.join("memory.limit_in_bytes"), "8388608\n").expect("a limit");
    let level = MemoryLevel::open(Version::V1, &group.0, true).expect("readable").expect("v1 always has it");
    let events = PressureEvents::new().expect("an eventfd");
    events.listen(&group.0, PressureLevel::Low).expect("root may listen");
    assert!(!events.take());
    let scratch = tempfile::NamedTempFile::new().expect("a file");
    group.run(&format!(
        "dd if=/dev/zero of={} bs=1M count=48 conv=fsync 2>/dev/null",
        scratch.path().display()
    ));
    // The kernel tells from a work queue.
    let mut heard = false;
    for _ in 0..200 {
        heard = events.take();
        if heard {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(heard, "writing six times the limit makes the kernel reclaim");
    let reading = read(&level).expect("readable").expect("limited");
    assert_eq!(reading.limits.max_bytes, Some(8 << 20));
    assert!(reading.file.lists_bytes <= reading.usage_bytes + (1 << 20));
    assert!(reading.file.page_cache_bytes.is_some());
    let directory = group.0.clone();
    drop(group);
    assert!(!directory.exists(), "the group was left behind");
    assert!(level.limits().expect_err("gone").errno().is_some());
}
