//! The archive format of an initramfs: cpio, "newc".
//!
//! Each entry is a header of 110 ASCII characters (a magic number and 13 fields of eight hexadecimal digits), the
//! name with a terminating zero, and the contents, both padded to four bytes. Source: the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst.

use std::io::{self, Write};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// Writes entries one after the other; [`finish`](Self::finish) ends the archive.
pub(super) struct Archive<W> {
    to: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, entries: 0 }
    }

    /// Adds a folder; its parents have to be there already.
    pub(super) fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, FOLDER, &[])
    }

    /// Adds a file that may be executed.
    pub(super) fn program(&mut self, name: &str, contents: &[u8]) -> io::Result<()> {
        self.entry(name, PROGRAM, contents)
    }

    /// Adds a file.
    pub(super) fn file(&mut self, name: &str, contents: &[u8]) -> io::Result<()> {
        self.entry(name, FILE, contents)
    }

    /// Ends the archive and hands back what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        let too_long =
            || io::Error::new(io::ErrorKind::FileTooLarge, format!("{name} does not fit an archive"));
        let length = u32::try_from(contents.len()).map_err(|_| too_long())?;
        let name_length = u32::try_from(name.len() + 1).map_err(|_| too_long())?;
        self.entries += 1;
        let links = if mode == FOLDER { 2 } else { 1 };
        // inode, mode, owner, group, links, time, length, four device numbers, name length, checksum
        let fields = [self.entries, mode, 0, 0, links, 0, length, 0, 0, 0, 0, name_length, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.to.write_all(header.as_bytes())?;
        self.to.write_all(name.as_bytes())?;
        self.to.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.to.write_all(contents)?;
        self.pad(contents.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_padded_and_the_archive_is_ended() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("bin").unwrap();
        archive.program("bin/sh", b"12345").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        // The folder's entry is a header of 110, "bin\0" and two bytes of padding.
        let second = &bytes[116..];
        assert!(second.starts_with(b"070701"));
        assert_eq!(&second[14..22], b"000081ed", "mode");
        assert_eq!(&second[54..62], b"00000005", "length");
        assert_eq!(&second[110..117], b"bin/sh\0");
        assert_eq!(&second[120..125], b"12345");
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
