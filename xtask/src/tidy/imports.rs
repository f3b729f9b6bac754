//! The paths a file names: in `use` trees, written out, and inline.

use std::path::Path;

use super::source::RustSource;

/// Every path in the file's `use` items, with braces expanded and without spaces, and the line its item begins on.
pub(super) fn used_paths(source: &RustSource) -> Vec<(String, usize)> {
    let mut paths = Vec::new();
    let mut item: Option<(String, usize)> = None;
    for (line, code) in source.numbered_code() {
        let (mut text, first_line) = match item.take() {
            Some(begun) => begun,
            None if begins_use(code) => (String::new(), line),
            None => continue,
        };
        text.push(' ');
        text.push_str(code);
        match text.split_once(';') {
            Some((whole, _)) => {
                let tree = whole.split_once("use ").map_or("", |(_, tree)| tree);
                expand("", tree, &mut |path| paths.push((path, first_line)));
            }
            None => item = Some((text, first_line)),
        }
    }
    paths
}

/// Every path the file names, inline ones included, made absolute within the crate (`crate::…`) where it can be.
pub(super) fn named_paths(source: &RustSource) -> Vec<(String, usize)> {
    let module = module_of(&source.path);
    let mut paths: Vec<(String, usize)> =
        used_paths(source).into_iter().map(|(path, line)| (absolute(&module, &path), line)).collect();
    for (line, code) in source.numbered_code() {
        let is_path_character = |character: char| character.is_alphanumeric() || "_:".contains(character);
        paths.extend(
            code.split(|character| !is_path_character(character))
                .filter(|word| word.contains("::"))
                .map(|word| (absolute(&module, word.trim_start_matches(':')), line)),
        );
    }
    paths.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    paths.dedup();
    paths
}

/// Whether `path` is `module` or something inside it.
pub(super) fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn begins_use(code: &str) -> bool {
    let code = code.trim_start();
    code.starts_with("use ") || (code.starts_with("pub") && code.contains(" use "))
}

/// Expands `a::{b, c::{d}}` into `a::b` and `a::c::d`; drops `as` names.
fn expand(prefix: &str, tree: &str, found: &mut impl FnMut(String)) {
    let tree = tree.trim();
    let Some((stem, branches)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        let path = format!("{prefix}{name}");
        let path = path.strip_suffix("::self").unwrap_or(&path).trim_start_matches("::");
        if !name.is_empty() {
            found(path.to_owned());
        }
        return;
    };
    let prefix = format!("{prefix}{}", stem.trim());
    let branches = branches.rsplit_once('}').map_or(branches, |(inside, _)| inside);
    let mut depth = 0_usize;
    let mut begin = 0;
    for (at, character) in branches.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                expand(&prefix, &branches[begin..at], found);
                begin = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &branches[begin..], found);
}

/// The module path a file stands for: `crates/x/src/range/slots.rs` is `crate::range::slots`.
fn module_of(path: &Path) -> Vec<String> {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let inside = parts.iter().position(|part| part == "src").map_or(parts.len(), |at| at + 1);
    let mut module = vec!["crate".to_owned()];
    module.extend(parts[inside..].iter().map(|part| part.trim_end_matches(".rs").to_owned()));
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// Resolves leading `super` and `self`. Modules inside a file are not counted, so one `super` too many stays at
/// the crate's root instead of failing.
fn absolute(module: &[String], path: &str) -> String {
    let mut parts = path.split("::").peekable();
    let mut resolved: Vec<&str> = match parts.peek() {
        Some(&"super" | &"self") => module.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    for part in parts {
        match part {
            "super" if resolved.len() > 1 => drop(resolved.pop()),
            "super" | "self" if !resolved.is_empty() => {}
            _ => resolved.push(part),
        }
    }
    resolved.join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> RustSource {
        RustSource::parse(Path::new(path), text)
    }

    #[test]
    fn use_trees_are_expanded() {
        let text = "pub(crate) use a::{self, b,\n    c::{d as e, f}};\nuse ::g;\n";
        let paths: Vec<_> =
            used_paths(&source("crates/x/src/lib.rs", text)).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a", "a::b", "a::c::d", "a::c::f", "g"]);
    }

    #[test]
    fn super_is_resolved_against_the_file() {
        let paths =
            named_paths(&source("crates/x/src/range/slots.rs", "use super::super::reclaim::Worker;\n"));
        assert!(paths.contains(&("crate::reclaim::Worker".to_owned(), 1)), "{paths:?}");
        let paths = named_paths(&source("crates/x/src/range/mod.rs", "use super::reclaim;\n"));
        assert!(paths.contains(&("crate::reclaim".to_owned(), 1)), "{paths:?}");
    }

    #[test]
    fn inline_paths_are_seen() {
        let paths = named_paths(&source("crates/x/src/a.rs", "fn f() { crate::reclaim::go(); }\n"));
        assert_eq!(paths, [("crate::reclaim::go".to_owned(), 1)]);
    }

    #[test]
    fn modules_are_compared_by_whole_names() {
        assert!(
            is_within("crate::reclaim::x", "crate::reclaim") && is_within("crate::reclaim", "crate::reclaim")
        );
        assert!(!is_within("crate::reclaimer", "crate::reclaim"));
    }
}
