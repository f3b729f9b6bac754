//! Where our cgroups are: `/proc/self/cgroup` (`cgroups(7)`) says what they are called, `/proc/self/mountinfo`
//! (`proc_pid_mountinfo(5)`) where their hierarchies are mounted.
//!
//! The two do not always fit together at first sight. A container may see only a part of a hierarchy, mounted as if it
//! were the whole; a cgroup namespace writes paths as seen from its own root, with `..` for what lies above; both
//! versions may be mounted, with the controller on one of them. Allocates freely: this runs once, not under pressure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Controller, MAX_LEVELS, Version};
use crate::kernel_file::{Missing, Root, decimal, lines};

/// The cgroups of this process, as an absolute path.
pub const MEMBERSHIP: &str = "/proc/self/cgroup";
const MOUNTS: &str = "/proc/self/mountinfo";

/// How many directories are looked at in search of the one that holds this process, where a namespace hides its name.
const SEARCH_LIMIT: usize = 4096;

/// The hierarchies this process is a member of, and where they are mounted.
#[derive(Debug)]
pub struct Hierarchies {
    memberships: Vec<Membership>,
    mounts: Vec<Mount>,
    /// For messages.
    memberships_file: PathBuf,
    /// For messages.
    mounts_file: PathBuf,
}

/// A line of `/proc/self/cgroup`.
#[derive(Debug)]
struct Membership {
    /// Names with commas between them; empty for cgroup v2.
    controllers: Vec<u8>,
    path: Vec<u8>,
}

/// A line of `/proc/self/mountinfo` about a cgroup file system.
#[derive(Debug)]
struct Mount {
    version: Version,
    /// The directory of the hierarchy that is seen at `point`.
    root: Vec<u8>,
    point: PathBuf,
    /// The file system's options: for v1, the names of its controllers are among them.
    options: Vec<u8>,
}

/// The cgroup that one controller has this process in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    version: Version,
    path: String,
    mount_point: PathBuf,
    directories: Vec<PathBuf>,
    levels_left_out: usize,
    ancestors_hidden: bool,
}

impl Group {
    /// The interface that manages the controller.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The group's name as `/proc/self/cgroup` writes it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the hierarchy is mounted.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Our own directory first, then its ancestors up to the mount point. Never empty, [`MAX_LEVELS`] at most.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Ancestors beyond [`MAX_LEVELS`] that nobody watches. 0 on any sane system.
    pub fn levels_left_out(&self) -> usize {
        self.levels_left_out
    }

    /// There are ancestors above the mount point: limits may be in force that cannot be seen from here.
    pub fn ancestors_hidden(&self) -> bool {
        self.ancestors_hidden
    }
}

impl Hierarchies {
    /// Reads both files.
    ///
    /// # Errors
    /// The file that cannot be read, or that holds nothing usable. Lines that make no sense are skipped.
    pub fn read(root: &Root) -> Result<Self, Missing> {
        let memberships = read_lines(root.join(MEMBERSHIP), "line like 0::/group", parse_membership)?;
        let mounts =
            read_lines(root.join(MOUNTS), "mounted cgroup file system", |line| parse_mount(line, root))?;
        Ok(Self {
            memberships,
            mounts,
            memberships_file: root.join(MEMBERSHIP),
            mounts_file: root.join(MOUNTS),
        })
    }

    /// Our group in the hierarchy that manages `controller`. A controller that a hierarchy of version 1 lists is
    /// managed there, whatever else is mounted; all others belong to version 2.
    ///
    /// # Errors
    /// We are in no such hierarchy, or it is not mounted where we can see it.
    pub fn group_of(&self, controller: Controller) -> Result<Group, Missing> {
        let name = controller.name().as_bytes();
        let listed = self.memberships.iter().find(|membership| has_word(&membership.controllers, name));
        match listed {
            Some(membership) => self.group(membership, Version::V1, name),
            None => self.unified_group(),
        }
    }

    /// Our group in the hierarchy of version 2. It has files about pressure even where version 1 manages memory.
    ///
    /// # Errors
    /// As [`group_of`](Self::group_of).
    pub fn unified_group(&self) -> Result<Group, Missing> {
        match self.memberships.iter().find(|membership| membership.controllers.is_empty()) {
            Some(membership) => self.group(membership, Version::V2, b""),
            None => Err(Missing::malformed(&self.memberships_file, "line of the controller or of cgroup v2")),
        }
    }

    /// Several mounts may show our group, some with fewer ancestors than others: the one that shows most is the one to
    /// watch. Of equals the last counts, which covers those before it.
    fn group(&self, membership: &Membership, version: Version, controller: &[u8]) -> Result<Group, Missing> {
        let fits = |mount: &&Mount| {
            mount.version == version && (version == Version::V2 || has_word(&mount.options, controller))
        };
        let found = self.mounts.iter().filter(fits).filter_map(|mount| {
            let own = own_directory(mount, &membership.path)?;
            Some((own.strip_prefix(&mount.point).ok()?.components().count(), own, mount))
        });
        let Some((depth, own, mount)) = found.max_by_key(|(depth, ..)| *depth) else {
            return Err(Missing::malformed(&self.mounts_file, "mount that shows our cgroup"));
        };
        let directories: Vec<_> = own.ancestors().take(depth + 1).map(Path::to_owned).collect();
        Ok(Group {
            version,
            path: String::from_utf8_lossy(&membership.path).into_owned(),
            mount_point: mount.point.clone(),
            levels_left_out: directories.len().saturating_sub(MAX_LEVELS),
            directories: directories.into_iter().take(MAX_LEVELS).collect(),
            ancestors_hidden: !is_top_of_hierarchy(&mount.point, version),
        })
    }
}

fn read_lines<T>(
    path: PathBuf,
    expected: &'static str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Missing> {
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) => {
            return Err(Missing::os(path, "read", Errno::from_io_error(&error).unwrap_or(Errno::IO)));
        }
    };
    let parsed: Vec<T> = lines(&text).filter_map(parse).collect();
    if parsed.is_empty() { Err(Missing::malformed(path, expected)) } else { Ok(parsed) }
}

/// `4:memory:/path`, `0::/path`. A path may hold colons.
fn parse_membership(line: &[u8]) -> Option<Membership> {
    let mut fields = line.splitn(3, |&byte| byte == b':');
    decimal(fields.next()?)?;
    let controllers = fields.next()?.to_vec();
    let path = fields.next()?.to_vec();
    path.starts_with(b"/").then_some(Membership { controllers, path })
}

/// `35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory`: identity, parent, device, root,
/// point, mount options, any number of tags, a dash, type, source, file system options.
fn parse_mount(line: &[u8], root: &Root) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let hierarchy_root = unescape(fields.nth(3)?);
    let point = unescape(fields.next()?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let version = match fields.next()? {
        b"cgroup" => Version::V1,
        b"cgroup2" => Version::V2,
        _ => return None,
    };
    let options = fields.nth(1)?.to_vec();
    Some(Mount { version, root: hierarchy_root, point: root.join(OsString::from_vec(point)), options })
}

/// Undoes the kernel's writing of a space as `\040` and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain
}

fn has_word(list: &[u8], word: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|entry| entry == word)
}

/// Our directory under `mount`, if the mount shows it.
fn own_directory(mount: &Mount, path: &[u8]) -> Option<PathBuf> {
    match seen_from(&mount.root, path) {
        Seen::At(below) => Some(append(&mount.point, &below)).filter(|own| own.is_dir()),
        Seen::Behind { hidden_names, below } => find_self(&mount.point, hidden_names, &below),
        // Some container runtimes bind one group over another. The list of processes settles it.
        Seen::Elsewhere => Some(mount.point.clone()).filter(|own| holds_self(own)),
    }
}

/// `join` would put a slash behind `directory` where there is nothing to append.
fn append(directory: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { directory.to_owned() } else { directory.join(below) }
}

/// A group as seen from the root of a mount.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// At this path below it.
    At(PathBuf),
    /// Further down: first some directories whose names the namespace hides, then this path.
    Behind {
        /// How many directories.
        hidden_names: usize,
        /// The path below the last of them.
        below: PathBuf,
    },
    /// Not below it.
    Elsewhere,
}

/// Both paths are as the kernel writes them, from the root of our cgroup namespace: first as many `..` as it takes to
/// go up, then names down.
fn seen_from(mount_root: &[u8], path: &[u8]) -> Seen {
    let (root_up, root_names) = split_path(mount_root);
    let (path_up, path_names) = split_path(path);
    let below =
        |names: &[&[u8]]| names.iter().map(|name| OsString::from_vec(name.to_vec())).collect::<PathBuf>();
    if root_up == path_up {
        return match path_names.strip_prefix(root_names.as_slice()) {
            Some(rest) => Seen::At(below(rest)),
            None => Seen::Elsewhere,
        };
    }
    if root_up > path_up && root_names.is_empty() {
        return Seen::Behind { hidden_names: root_up - path_up, below: below(&path_names) };
    }
    Seen::Elsewhere
}

fn split_path(path: &[u8]) -> (usize, Vec<&[u8]>) {
    let mut names: Vec<_> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
    let up = names.iter().take_while(|name| **name == b"..").count();
    names.drain(..up);
    (up, names)
}

/// Looks for our group by the processes in it, `hidden_names` directories below `top` and then `below`. Gives up after
/// [`SEARCH_LIMIT`] directories.
fn find_self(top: &Path, hidden_names: usize, below: &Path) -> Option<PathBuf> {
    let mut to_visit = vec![(top.to_owned(), 0)];
    let mut visited = 0;
    while let Some((directory, depth)) = to_visit.pop() {
        visited += 1;
        if visited > SEARCH_LIMIT {
            return None;
        }
        if depth == hidden_names {
            let own = append(&directory, below);
            if holds_self(&own) {
                return Some(own);
            }
            continue;
        }
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        to_visit.extend(folders.map(|entry| (entry.path(), depth + 1)));
    }
    None
}

/// Whether this process is listed in the group. False where the list cannot be read, as in a threaded group.
fn holds_self(directory: &Path) -> bool {
    let own = u64::from(std::process::id());
    let Ok(processes) = std::fs::read(directory.join("cgroup.procs")) else {
        return false;
    };
    lines(&processes).any(|line| decimal(line) == Some(own))
}

/// The root of a whole hierarchy has or lacks a file that no other group lacks or has.
fn is_top_of_hierarchy(directory: &Path, version: Version) -> bool {
    match version {
        Version::V1 => directory.join("release_agent").exists(),
        Version::V2 => !directory.join("cgroup.events").exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_are_undone() {
        assert_eq!(unescape(br"/a\040b\134c\011"), b"/a b\\c\t");
        assert_eq!(unescape(br"\04"), br"\04");
        assert_eq!(unescape(br"\999\"), br"\999\");
        assert_eq!(unescape(br"\777"), br"\777");
    }

    #[test]
    fn paths_are_seen_from_the_mount() {
        let at = |path: &str| Seen::At(path.into());
        assert_eq!(seen_from(b"/", b"/a/b"), at("a/b"));
        assert_eq!(seen_from(b"/", b"/"), at(""));
        assert_eq!(seen_from(b"/docker/x", b"/docker/x/y"), at("y"));
        assert_eq!(seen_from(b"/docker/x", b"/docker/xy"), Seen::Elsewhere);
        assert_eq!(seen_from(b"/..", b"/../sibling"), at("sibling"));
        assert_eq!(seen_from(b"/", b"/../sibling"), Seen::Elsewhere);
        assert_eq!(seen_from(b"/../other", b"/own"), Seen::Elsewhere);
        assert_eq!(seen_from(b"/../..", b"/own"), Seen::Behind { hidden_names: 2, below: "own".into() });
    }

    #[test]
    fn lines_that_make_no_sense_are_skipped() {
        assert!(parse_membership(b"4:memory:/a:b").is_some_and(|membership| membership.path == b"/a:b"));
        for bad in [&b""[..], b"4", b"4:memory", b"x:memory:/", b"4:memory:relative", b"\xff\xfe"] {
            assert!(parse_membership(bad).is_none(), "{bad:?}");
        }
        let root = Root::real();
        let line = b"35 31 0:32 /x /sys/fs/cg\\040roup rw shared:9 master:2 - cgroup cgroup rw,cpu,memory";
        let mount = parse_mount(line, &root).expect("well formed");
        assert_eq!((mount.version, mount.point.as_path()), (Version::V1, Path::new("/sys/fs/cg roup")));
        assert!(has_word(&mount.options, b"memory") && !has_word(&mount.options, b"mem"));
        for end in 0..line.len() {
            // Cut anywhere, it must not panic; what is left of the options may still name a controller.
            let _ = parse_mount(&line[..end], &root);
        }
    }
}
