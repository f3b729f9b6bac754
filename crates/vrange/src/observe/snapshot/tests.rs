use zerocopy::IntoBytes as _;

use super::*;
use crate::observe::layout::{HEAPS_MAX, LEVELS_MAX};

/// A file with one copy of figures that were changed by `change`.
fn file(sequences: &[u64], change: impl Fn(&mut Figures)) -> Vec<u8> {
    let mut file = vec![0; FILE_BYTES];
    file[..size_of::<Header>()].copy_from_slice(Header::new(42).as_bytes());
    for sequence in sequences {
        let mut figures = Figures::new();
        change(&mut figures);
        figures.sequence = *sequence;
        figures.turns = *sequence;
        figures.checksum = figures.sum();
        let place = layout::place_of(*sequence);
        file[place..place + size_of::<Figures>()].copy_from_slice(figures.as_bytes());
    }
    file
}

#[test]
fn the_newer_of_two_copies_counts() {
    for sequences in [[1, 2], [2, 3], [8, 7]] {
        let snapshot = Snapshot::parse(&file(&sequences, |_| ())).expect("two whole copies");
        let newest = *sequences.iter().max().expect("two");
        assert_eq!((snapshot.process, snapshot.sequence, snapshot.turns), (42, newest, newest));
    }
}

#[test]
fn a_copy_that_is_being_written_does_not_count() {
    let before = file(&[6, 7], |_| ());
    let after = file(&[8, 7], |figures| figures.as_mut_bytes().fill(0xab));
    let place = layout::place_of(8);
    for reached in (0..size_of::<Figures>()).step_by(8) {
        let mut torn = before.clone();
        torn[place..place + reached].copy_from_slice(&after[place..place + reached]);
        assert_eq!(Snapshot::parse(&torn).expect("the other is whole").sequence, 7, "{reached}");
    }
    assert_eq!(Snapshot::parse(&after).expect("whole").sequence, 8);
}

#[test]
fn what_is_not_there_yet_is_told_from_nonsense() {
    assert_eq!(Snapshot::parse(&file(&[], |_| ())), Err(Unreadable::NotYet));
    assert_eq!(Snapshot::parse(&[]), Err(Unreadable::Malformed));
    assert_eq!(Snapshot::parse(&vec![0; FILE_BYTES]), Err(Unreadable::Malformed));
    assert_eq!(Snapshot::parse(&file(&[1], |_| ())[1..]), Err(Unreadable::Malformed));
    let mut other = file(&[1], |_| ());
    other[8] = 9;
    assert_eq!(Snapshot::parse(&other), Err(Unreadable::OtherVersion(9)));
    let mut no_process = file(&[1], |_| ());
    no_process[20] = 1;
    assert_eq!(Snapshot::parse(&no_process), Err(Unreadable::Malformed));
}

/// A hostile program can make the sum fit whatever it likes.
#[test]
fn no_number_and_no_text_is_trusted() {
    let file = file(&[u64::MAX], |figures| {
        figures.as_mut_bytes().fill(0xff);
        figures.heaps[0].name = *b"\x1b[2J\x1b]0;owned\x07\xff\xfe name\0hidden\n...";
    });
    let snapshot = Snapshot::parse(&file).expect("whole");
    assert_eq!((snapshot.levels.len(), snapshot.heaps.len()), (LEVELS_MAX, HEAPS_MAX));
    let name = &snapshot.heaps[0].name;
    assert!(!name.contains(char::is_control) && name.ends_with(" name"), "{name:?}");
    assert!(!snapshot.heaps[1].name.contains(char::is_control));
    let _ = format!("{snapshot:?} {}", snapshot.heaps[0].stats.lost.bytes());
}

/// From a seed, so that a failure can be repeated.
#[test]
fn random_bytes_never_panic() {
    let mut state = 1_u64;
    for round in 0..200 {
        let mut bytes = file(&[1, 2], |_| ());
        for _ in 0..round {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(state >> 33).expect("31 bits") % FILE_BYTES;
            bytes[at] = state.to_le_bytes()[3];
        }
        let _ = Snapshot::parse(&bytes);
    }
}
