//! What the cache process keeps, and how it talks with the parent.

use std::io::{BufReader, StdinLock, StdoutLock, stdin, stdout};
use std::path::PathBuf;

use vrange::Buffer;

use super::wire::{FromCache, send};

/// A file's contents.
#[derive(Debug)]
pub(super) struct Cached {
    /// Where it came from.
    pub(super) path: PathBuf,
    /// The contents.
    pub(super) buffer: Buffer,
    /// What the contents were when they were read.
    pub(super) digest: blake3::Hash,
    /// When it was touched last: a count of touches.
    pub(super) age: u64,
}

/// The two ends towards the parent.
pub(super) struct Link {
    pub(super) from: BufReader<StdinLock<'static>>,
    pub(super) to: StdoutLock<'static>,
}

impl Link {
    /// Standard input and output, for as long as the process lives.
    pub(super) fn new() -> Self {
        Self { from: BufReader::new(stdin().lock()), to: stdout().lock() }
    }

    /// Sends one line.
    pub(super) fn answer(&mut self, answer: &FromCache) -> Result<(), String> {
        send(&mut self.to, answer).map_err(|error| format!("answering: {error}"))
    }
}
