//! Which processes somebody wants to see.

use super::{Found, Identity};

/// The kernel cuts names of processes to this many bytes.
const NAME_BYTES_MAX: usize = 15;

/// All, or some by number or name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// None: all.
    which: Vec<Which>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    Number(u32),
    Name(String),
}

impl Wanted {
    /// What the words of a command line ask for: all that is a number is a number of a process.
    pub(crate) fn of(words: &[String]) -> Self {
        let which = words.iter().map(|word| match word.parse() {
            Ok(number) => Which::Number(number),
            Err(_) => Which::Name(word.clone()),
        });
        Self { which: which.collect() }
    }

    /// Was any one asked for?
    pub(crate) fn is_some(&self) -> bool {
        !self.which.is_empty()
    }

    /// Is it one of them?
    pub(super) fn has(&self, process: &Identity) -> bool {
        self.which.is_empty() || self.which.iter().any(|which| which.is(process))
    }

    /// A sentence for each that nothing was found for.
    pub(crate) fn missing(&self, found: &Found) -> Vec<String> {
        let seen = |which: &Which| {
            let closed = found.closed.iter().map(|closed| &closed.identity);
            found.open.iter().map(|process| &process.identity).chain(closed).any(|process| which.is(process))
        };
        self.which.iter().filter(|which| !seen(which)).map(Which::is_missing).collect()
    }
}

impl Which {
    fn is(&self, process: &Identity) -> bool {
        match self {
            Self::Number(number) => *number == process.pid,
            Self::Name(name) => {
                let may_be_cut = process.name.len() == NAME_BYTES_MAX;
                *name == process.name
                    || *name == process.program
                    || may_be_cut && name.as_bytes().starts_with(process.name.as_bytes())
            }
        }
    }

    fn is_missing(&self) -> String {
        match self {
            Self::Number(number) => match name_of(*number) {
                Some(name) => {
                    format!("process {number} ({name}) has no volatile memory, or has not let go of any yet")
                }
                None => format!("there is no process {number}"),
            },
            Self::Name(name) => format!("no process named {name} has volatile memory"),
        }
    }
}

fn name_of(pid: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(super::harmless(name.trim_ascii_end()))
}
