//! What programs are given to work on.

use std::path::{Path, PathBuf};

/// A file that a program reads, from the folder beside the tests.
pub(crate) fn input(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_programs/inputs").join(name)
}

/// `len` bytes that only `name` has: the same in every run, and nothing that can be compressed.
pub(crate) fn content(name: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
