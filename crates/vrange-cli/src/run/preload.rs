//! The list of libraries that the dynamic linker loads before everything else.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::library::Library;

/// What the user preloads himself.
#[derive(Debug)]
pub(super) struct Preload(Vec<OsString>);

impl Preload {
    /// Reads the variable. Libraries of ours are left out: the command may have been started by a program that runs with one, and
    /// two of them in a process would both see its calls.
    pub(super) fn read(variable: &OsStr) -> Self {
        let entries = variable.as_bytes().split(|byte| matches!(byte, b':' | b' '));
        let entries = entries.filter(|entry| !entry.is_empty()).map(OsStr::from_bytes);
        Self(entries.filter(|entry| !is_ours(entry)).map(OsStr::to_owned).collect())
    }

    /// The variable again.
    pub(super) fn list(&self) -> OsString {
        self.after([])
    }

    /// The variable with other libraries first.
    pub(super) fn after<const N: usize>(&self, first: [OsString; N]) -> OsString {
        let all: Vec<&OsStr> = first.iter().chain(&self.0).map(OsString::as_os_str).collect();
        all.join(OsStr::new(":"))
    }
}

fn is_ours(entry: &OsStr) -> bool {
    let name = Path::new(entry).file_name();
    Library::ALL.iter().any(|library| name == Some(OsStr::new(library.file_name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variable: &str) -> Preload {
        Preload::read(OsStr::new(variable))
    }

    #[test]
    fn what_the_user_preloads_comes_last() {
        assert_eq!(read("").list(), "");
        assert_eq!(read("").after(["/a.so".into()]), "/a.so");
        assert_eq!(read("c.so").after(["/a.so".into(), "b.so".into()]), "/a.so:b.so:c.so");
    }

    #[test]
    fn colons_and_spaces_divide_the_list() {
        assert_eq!(read(" a.so::b.so c.so ").list(), "a.so:b.so:c.so");
    }

    #[test]
    fn libraries_of_ours_are_not_the_users() {
        let inherited =
            "/usr/lib/libvrange_mimalloc.so:a.so:/old/libvrange_preload.so:/my_libvrange_preload.so";
        assert_eq!(read(inherited).list(), "a.so:/my_libvrange_preload.so");
    }
}
