//! As much of Redis's protocol as the tests speak: arrays of words there, one answer back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to a server.
pub(super) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects, if a server listens.
    pub(super) fn connect(socket: &Path) -> Option<Self> {
        let stream = BufReader::new(UnixStream::connect(socket).ok()?);
        Some(Self { stream })
    }

    /// Sends a command and returns its answer, none where the server has nothing of that name.
    ///
    /// # Panics
    /// The server answers with an error, with several answers, or not at all.
    #[track_caller]
    pub(super) fn ask(&mut self, words: &[&[u8]]) -> Option<Vec<u8>> {
        let mut message = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            message.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            message.extend_from_slice(word);
            message.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&message).expect("the server reads");
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server answers");
        let (kind, rest) = line.trim_end().split_at_checked(1).expect("the server answers");
        match kind {
            "+" | ":" => Some(rest.as_bytes().to_vec()),
            "$" if rest == "-1" => None,
            "$" => Some(self.bulk(rest.parse().expect("a length"))),
            _ => panic!("{}: {line}", String::from_utf8_lossy(words[0])),
        }
    }

    fn bulk(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len + 2];
        self.stream.read_exact(&mut bytes).expect("the whole answer");
        bytes.truncate(len);
        bytes
    }

    /// As [`ask`](Self::ask), for an answer in text.
    #[track_caller]
    pub(super) fn say(&mut self, words: &[&str]) -> String {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        String::from_utf8(self.ask(&words).unwrap_or_default()).expect("text")
    }

    /// One line of what the server says about itself.
    #[track_caller]
    pub(super) fn info(&mut self, name: &str) -> String {
        let all = self.say(&["INFO", "everything"]);
        let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in:\n{all}")).to_owned()
    }
}
