//! The files a reader looks for first.

use std::path::{Path, PathBuf};

use super::Finding;

const RULE: &str = "required-file";

const REQUIRED: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Cargo.lock",
];

/// Finds files that should exist and do not.
pub(super) fn check(files: &[PathBuf]) -> Vec<Finding> {
    REQUIRED
        .iter()
        .map(Path::new)
        .filter(|required| !files.iter().any(|file| file == required))
        .map(|required| Finding::new(required, 0, RULE, "the file is missing: write it and add it to git"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_found() {
        let mut files: Vec<PathBuf> = REQUIRED.iter().map(PathBuf::from).collect();
        assert_eq!(check(&files), []);
        files.retain(|file| file != Path::new("CHANGELOG.md"));
        let missing = check(&files);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].path, Path::new("CHANGELOG.md"));
    }

    #[test]
    fn a_file_of_that_name_elsewhere_does_not_count() {
        assert_eq!(check(&[PathBuf::from("crates/a/README.md")]).len(), REQUIRED.len());
    }
}
