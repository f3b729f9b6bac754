//! Every dependency says why it is there.

use std::path::Path;

use super::Finding;

const RULE: &str = "dependency-reason";

/// Finds dependencies that have no comment on the line directly above.
///
/// `[workspace.dependencies]` only fixes versions; the reason stands where the dependency is used.
pub(super) fn check(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    let mut open_brackets = 0_usize;
    let mut above = "";
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        let is_explained = above.starts_with('#');
        above = trimmed;
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let continues = open_brackets > 0;
        if let (Some(header), false) = (table_header(trimmed), continues) {
            in_dependencies = ends_in_dependencies(header);
            let (table, name) = header.rsplit_once('.').unwrap_or(("", header));
            if ends_in_dependencies(table) && !is_explained {
                findings.push(finding(path, index + 1, name));
            }
            continue;
        }
        // Keys and versions hold no brackets, so counting them tells where a value of several lines ends.
        open_brackets += trimmed.matches(['[', '{']).count();
        open_brackets = open_brackets.saturating_sub(trimmed.matches([']', '}']).count());
        if in_dependencies && !continues && !is_explained {
            let name = trimmed.split(['=', '.', ' ']).next().unwrap_or(trimmed);
            findings.push(finding(path, index + 1, name));
        }
    }
    findings
}

fn finding(path: &Path, line: usize, name: &str) -> Finding {
    let message = format!("`{name}` has no comment directly above: say what it is needed for");
    Finding::new(path, line, RULE, message)
}

fn table_header(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.split(']').next().map(str::trim)
}

/// `dependencies`, `dev-dependencies`, `build-dependencies`, of all targets or of one, but not the workspace's.
fn ends_in_dependencies(table: &str) -> bool {
    let last = table.rsplit('.').next().unwrap_or(table);
    ["dependencies", "dev-dependencies", "build-dependencies"].contains(&last)
        && !table.starts_with("workspace.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(text: &str) -> Vec<usize> {
        check(Path::new("Cargo.toml"), text).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        assert_eq!(lines("[dependencies]\n# A reason.\na = \"1\"\nb.workspace = true\n"), [4]);
        assert_eq!(lines("[dev-dependencies]\na = \"1\"\n"), [2]);
        assert_eq!(lines("[target.x86_64.build-dependencies]\n# Why.\n\na = \"1\"\n"), [4]);
    }

    #[test]
    fn a_dependency_with_a_table_of_its_own_is_one_too() {
        assert_eq!(
            lines("[dependencies.a]\nversion = \"1\"\n# Why.\n[dependencies.b]\nversion = \"1\"\n"),
            [1]
        );
    }

    #[test]
    fn a_value_of_several_lines_is_one_dependency() {
        assert_eq!(
            lines("[dependencies]\n# Why.\na = { version = \"1\", features = [\n  \"b\",\n  \"c\",\n] }\n"),
            NONE
        );
    }

    #[test]
    fn other_tables_are_free() {
        assert_eq!(
            lines("[package]\nname = \"a\"\n[workspace.dependencies]\na = \"1\"\n[lints]\nb = true\n"),
            NONE
        );
    }
}
