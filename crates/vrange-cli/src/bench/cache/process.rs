//! The processes that are measured: this program again, one cache in each.

use std::io::{BufReader, StdinLock, StdoutLock, stdin, stdout};
use std::path::Path;

use clap::Subcommand;
use serde::{Serialize, de::DeserializeOwned};

use super::{handback, hits, serve, tenant};
use crate::command_line::ProcessOptions;
use crate::demo::child::{self, Child};
use crate::demo::wire;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// What a process is for.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    /// Reads a trace through a cache and counts.
    Hits(ProcessOptions),
    /// Serves reads through a cache until it is told to stop.
    Serve(ProcessOptions),
    /// Grows and shrinks.
    Tenant(ProcessOptions),
    /// Fills a cache, and hands it back.
    Handback(ProcessOptions),
}

/// Does what the role says, and answers the parent in lines of JSON. A failure is told on standard error.
pub(crate) fn run(role: &Role) -> Result<(), Failure> {
    let (Role::Hits(options) | Role::Serve(options) | Role::Tenant(options) | Role::Handback(options)) = role;
    child::settle(options)?;
    let mut link = Link::new();
    match role {
        Role::Hits(_) => hits::work(&mut link),
        Role::Serve(_) => serve::work(&mut link),
        Role::Tenant(_) => tenant::work(&mut link),
        Role::Handback(_) => handback::work(&mut link),
    }
}

/// Starts a process. With `join`, it enters that cgroup before anything else.
pub(super) fn start<'i>(
    role: &'static str,
    join: Option<&Path>,
    interrupt: &'i Interrupt,
) -> Result<Child<'i>, Failure> {
    Child::start_as(&["cache-process", role], role, join, interrupt)
}

/// The two ends towards the parent.
pub(super) struct Link {
    from: BufReader<StdinLock<'static>>,
    to: StdoutLock<'static>,
}

impl Link {
    fn new() -> Self {
        Self { from: BufReader::new(stdin().lock()), to: stdout().lock() }
    }

    /// Waits for one line. None: the parent has nothing more to say.
    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        wire::receive(&mut self.from).map_err(|error| Failure::io("reading", "a request", &error))
    }

    /// Waits for one line that has to come.
    pub(super) fn request<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        self.receive()?.ok_or_else(|| Failure::run("the parent went away"))
    }

    /// Sends one line.
    pub(super) fn answer(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        wire::send(&mut self.to, value).map_err(|error| Failure::io("sending", "an answer", &error))
    }
}
