//! What the library and the allocators read from the environment when they are loaded.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::setup::{Hooked, Setup};
use crate::command_line::RunOptions;

pub(super) const MALLOC_CONF: &str = "MALLOC_CONF";

/// jemalloc gives back at once what is free: to us, who mark it. Large allocations come from arenas that have our hooks.
pub(crate) const JEMALLOC_SETTINGS: &str = "dirty_decay_ms:0,muzzy_decay_ms:0,oversize_threshold:0";

/// The variables to set. `malloc_conf` is what is set for jemalloc already.
pub(super) fn variables(
    options: &RunOptions,
    setup: &Setup,
    malloc_conf: &OsStr,
) -> Vec<(&'static str, OsString)> {
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("VRANGE_MODE", if options.paired { "paired" } else { "implicit" }.into()),
        // Also where nothing is hooked: another value may have been inherited.
        ("VRANGE_MALLOC", if setup.hooked.is_some() { "on" } else { "off" }.into()),
        ("VRANGE_DECAY", options.decay.to_string().into()),
    ];
    variables.extend(options.limit.map(|bytes| ("VRANGE_LIMIT", bytes.to_string().into())));
    variables.extend(options.stats.then(|| ("VRANGE_STATS", "1".into())));
    match setup.hooked {
        // It then gives back what is free: as above.
        Some(Hooked::Tcmalloc) => variables.push(("TCMALLOC_AGGRESSIVE_DECOMMIT", "1".into())),
        Some(Hooked::Jemalloc) => variables.push((MALLOC_CONF, settings_for_jemalloc(malloc_conf))),
        Some(Hooked::Mimalloc) | None => {}
    }
    variables
}

/// Ours first: of two settings of the same name the later counts, so the user's do. What another run passed on has ours.
fn settings_for_jemalloc(others: &OsStr) -> OsString {
    let ours = OsString::from(JEMALLOC_SETTINGS);
    if others.is_empty() {
        return ours;
    }
    if others.as_bytes().starts_with(JEMALLOC_SETTINGS.as_bytes()) {
        return others.to_owned();
    }
    [ours.as_os_str(), others].join(OsStr::new(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::MallocChoice;
    use crate::run::library::Library;

    fn options() -> RunOptions {
        RunOptions {
            malloc: MallocChoice::Auto,
            decay: 10.0,
            limit: None,
            stats: false,
            paired: false,
            command: vec!["a".into()],
        }
    }

    fn text(options: &RunOptions, hooked: Option<Hooked>, malloc_conf: &str) -> String {
        let setup = Setup { library: Library::Preload, hooked, brought: None, warning: None };
        let variables = variables(options, &setup, OsStr::new(malloc_conf));
        let lines = variables.iter().map(|(name, value)| format!("{name}={}", value.display()));
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_option_has_its_variable() {
        assert_eq!(text(&options(), None, "a:b"), "VRANGE_MODE=implicit VRANGE_MALLOC=off VRANGE_DECAY=10");
        let all = RunOptions { decay: 0.25, limit: Some(4096), stats: true, paired: true, ..options() };
        assert_eq!(
            text(&all, Some(Hooked::Mimalloc), "a:b"),
            "VRANGE_MODE=paired VRANGE_MALLOC=on VRANGE_DECAY=0.25 VRANGE_LIMIT=4096 VRANGE_STATS=1"
        );
    }

    #[test]
    fn allocators_are_told_to_give_back_at_once() {
        let common = "VRANGE_MODE=implicit VRANGE_MALLOC=on VRANGE_DECAY=10";
        assert_eq!(
            text(&options(), Some(Hooked::Tcmalloc), ""),
            format!("{common} TCMALLOC_AGGRESSIVE_DECOMMIT=1")
        );
        let ours = "dirty_decay_ms:0,muzzy_decay_ms:0,oversize_threshold:0";
        for (inherited, set) in [
            ("", ours.to_owned()),
            ("narenas:2", format!("{ours},narenas:2")),
            (&format!("{ours},narenas:2"), format!("{ours},narenas:2")),
        ] {
            assert_eq!(
                text(&options(), Some(Hooked::Jemalloc), inherited),
                format!("{common} MALLOC_CONF={set}")
            );
        }
    }
}
