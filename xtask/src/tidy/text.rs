//! What holds for every text file: no trailing blanks, and no path of one person's machine.

use std::path::Path;

use super::Finding;

/// Folders that exist on one machine. Split, so that this file does not name them itself.
const PRIVATE_FOLDERS: &[&str] = &[concat!("/ro", "ot/"), concat!("/wo", "rk/")];

/// Finds trailing blanks and absolute paths of one machine.
pub(super) fn check(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_end() != line {
            findings.push(Finding::new(
                path,
                index + 1,
                "trailing-blank",
                "remove the blanks at the line's end",
            ));
        }
        if let Some(folder) = PRIVATE_FOLDERS.iter().find(|folder| names_folder(line, folder)) {
            let message = format!(
                "`{folder}` is a path of one machine: use a relative path or an environment variable"
            );
            findings.push(Finding::new(path, index + 1, "machine-path", message));
        }
    }
    findings
}

/// Whether `folder` begins a path in `line`; behind a name or a dot it is part of a longer, relative one.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-})*~".contains(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [&str; 0] = [];

    fn rules(text: &str) -> Vec<&'static str> {
        check(Path::new("a.md"), text).iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn trailing_blanks_are_found() {
        assert_eq!(rules("a \nb\nc\t\n"), ["trailing-blank", "trailing-blank"]);
        assert_eq!(rules("a\r\n\nb"), NONE);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for folder in PRIVATE_FOLDERS {
            assert_eq!(rules(&format!("see {folder}notes")), ["machine-path"], "{folder}");
            assert_eq!(rules(&format!("see crates{folder}notes")), NONE, "{folder}");
        }
        assert_eq!(rules("/proc/self/root/x /sys/fs/cgroup"), NONE);
    }
}
