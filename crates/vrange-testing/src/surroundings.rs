//! What a program must not inherit from whoever runs the tests.

use std::process::Command;

/// What chooses libraries, or how an allocator behaves.
const ALLOCATOR_VARIABLES: [&str; 9] = [
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "MALLOC_CONF",
    "TCMALLOC_AGGRESSIVE_DECOMMIT",
    "VRANGE_DECAY",
    "VRANGE_LIMIT",
    "VRANGE_MALLOC",
    "VRANGE_MODE",
    "VRANGE_STATS",
];

/// Takes from the command what the user may have set that would change with which libraries and allocator its program runs.
pub fn without_allocator_settings(command: &mut Command) -> &mut Command {
    ALLOCATOR_VARIABLES.iter().fold(command, |command, name| command.env_remove(name))
}
