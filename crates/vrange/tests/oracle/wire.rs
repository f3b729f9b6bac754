//! What the processes of a program are told, and what they tell. All know the program, so an operation is a number.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use vrange_model::Errno;

/// What an operation showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing that could be wrong.
    Done,
    /// A page's contents.
    Value(u64),
    /// The answer to a mark.
    Answer(Result<(), Errno>),
    /// Of each unmarked page, whether it was lost.
    Lost(Vec<bool>),
}

/// One side of a connection between the test and one of the program's processes.
pub(crate) struct Line(UnixStream);

impl Line {
    pub(crate) fn pair() -> (Self, Self) {
        let (one, other) = UnixStream::pair().expect("a connection");
        (Self(one), Self(other))
    }

    /// Tells a process to play an operation.
    pub(crate) fn order(&self, at: usize) {
        self.send(&[at as u64]);
    }

    /// The next operation to be played; none when the test has gone.
    pub(crate) fn next_order(&self) -> Option<usize> {
        let mut word = [0; 8];
        (&self.0).read_exact(&mut word).ok()?;
        usize::try_from(u64::from_ne_bytes(word)).ok()
    }

    pub(crate) fn tell(&self, seen: &Seen) {
        let words = match seen {
            Seen::Done => vec![0],
            Seen::Value(value) => vec![1, *value],
            Seen::Answer(Ok(())) => vec![2, 0],
            Seen::Answer(Err(Errno::ENOMEM)) => vec![2, 1],
            Seen::Answer(Err(_)) => vec![2, 2],
            Seen::Lost(lost) => [3].into_iter().chain(lost.iter().map(|lost| u64::from(*lost))).collect(),
        };
        self.send(&[words.len() as u64]);
        self.send(&words);
    }

    pub(crate) fn hear(&self) -> Seen {
        let [length] = self.receive(1)[..] else { unreachable!("one word") };
        let words = self.receive(usize::try_from(length).expect("a small number"));
        match words[..] {
            [0] => Seen::Done,
            [1, value] => Seen::Value(value),
            [2, 0] => Seen::Answer(Ok(())),
            [2, 1] => Seen::Answer(Err(Errno::ENOMEM)),
            [2, _] => Seen::Answer(Err(Errno::EINVAL)),
            [3, ref lost @ ..] => Seen::Lost(lost.iter().map(|lost| *lost == 1).collect()),
            ref other => panic!("{other:?} is no answer"),
        }
    }

    fn send(&self, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        (&self.0).write_all(&bytes).expect("the other side is there");
    }

    fn receive(&self, words: usize) -> Vec<u64> {
        let mut bytes = vec![0; words * 8];
        (&self.0).read_exact(&mut bytes).expect("the process is there; look above for its panic");
        let (words, _) = bytes.as_chunks::<8>();
        words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
    }
}
