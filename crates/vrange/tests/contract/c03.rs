//! C3: `pin` tells exactly which pages were lost, and a loss stays reported until somebody has dealt with it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use vrange::{Buffer, Pinned};
use vrange_os::PAGE_BYTES;

use crate::support::{
    Random, SIZES_PAGES, fill, fill_through, filled, is_filled, is_zero, longer, lost_pages, memory,
    pages_of, quiet_heap,
};

/// What a page of a buffer holds when it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Full,
    /// Zeros but for the last byte.
    LastByte,
    /// Written, with zeros.
    Blank,
    /// Read, so that the kernel has mapped its page of zeros.
    OnlyRead,
    Untouched,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Full, Self::LastByte, Self::Blank, Self::OnlyRead, Self::Untouched];

    fn has_contents(self) -> bool {
        matches!(self, Self::Full | Self::LastByte)
    }

    fn write(self, bytes: &mut [u8], page: usize) {
        let start = page * PAGE_BYTES;
        let end = bytes.len().min(start + PAGE_BYTES);
        match self {
            Self::Full => bytes[start..end].fill(7),
            Self::LastByte => {
                bytes[start..end].fill(0);
                bytes[end - 1] = 9;
            }
            Self::Blank => bytes[start..end].fill(0),
            Self::OnlyRead => assert_eq!(std::hint::black_box(bytes)[start], 0),
            Self::Untouched => {}
        }
    }

    fn is_there(self, bytes: &[u8], page: usize) -> bool {
        let start = page * PAGE_BYTES;
        let end = bytes.len().min(start + PAGE_BYTES);
        match self {
            Self::Full => bytes[start..end] == [7; PAGE_BYTES][..end - start],
            Self::LastByte => {
                bytes[end - 1] == 9 && bytes[start..end - 1] == [0; PAGE_BYTES][..end - start - 1]
            }
            Self::Blank | Self::OnlyRead | Self::Untouched => is_zero(bytes, page),
        }
    }
}

/// Offers the buffer and has the kernel take a random half of its pages; returns those.
fn lose_at_random(buffer: &Buffer, pages: usize, random: &mut Random) -> BTreeSet<usize> {
    assert!(buffer.offer());
    let taken: BTreeSet<usize> = (0..pages).filter(|_| random.below(2) == 0).collect();
    for page in &taken {
        memory::take(buffer, *page..page + 1);
    }
    taken
}

#[test]
fn c03_exactly_the_taken_pages_with_contents_are_lost() {
    let mut random = Random::new();
    let heap = quiet_heap();
    for pages in SIZES_PAGES.repeat(longer() as usize) {
        // Not a whole number of pages, so that the last run ends inside one.
        let bytes = pages * PAGE_BYTES - random.below(PAGE_BYTES);
        let mut buffer = heap.buffer(bytes).expect("a buffer");
        let kinds: Vec<Kind> = (0..pages).map(|_| Kind::ALL[random.below(Kind::ALL.len())]).collect();
        {
            let mut guard = buffer.pin_mut().intact().expect("new");
            kinds.iter().enumerate().for_each(|(page, kind)| kind.write(&mut guard, page));
        }
        for round in 0..3 {
            let taken = lose_at_random(&buffer, pages, &mut random);
            let expected: BTreeSet<usize> =
                taken.into_iter().filter(|page| kinds[*page].has_contents()).collect();
            let mut guard = match buffer.pin_mut() {
                Pinned::Intact(guard) => {
                    assert!(expected.is_empty(), "round {round} of {pages} pages: {expected:?} not reported");
                    guard
                }
                Pinned::Purged(purged) => {
                    assert_eq!(pages_of(purged.lost(), bytes), expected, "round {round} of {pages} pages");
                    assert_eq!(purged.lost_pages(), expected.len());
                    purged.acknowledge()
                }
            };
            for (page, kind) in kinds.iter().enumerate() {
                let lost = expected.contains(&page);
                assert!(
                    if lost { is_zero(&guard, page) } else { kind.is_there(&guard, page) },
                    "page {page}: {kind:?}"
                );
                kind.write(&mut guard, page);
            }
        }
    }
}

#[test]
fn c03_nothing_is_lost_that_was_not_taken() {
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let buffer = filled(&heap, pages, 1);
        for _ in 0..20 {
            assert!(buffer.offer());
            assert!(lost_pages(&buffer).is_empty());
        }
    }
}

#[test]
fn c03_a_loss_is_seen_by_every_pinner_until_it_is_acknowledged() {
    let heap = quiet_heap();
    let mut buffer = filled(&heap, 10, 1);
    assert!(buffer.offer());
    memory::take(&buffer, 2..5);
    let expected = BTreeSet::from([2, 3, 4]);
    {
        let (first, second) = (buffer.pin(), buffer.try_pin().expect("pinned already"));
        for pinned in [first, second] {
            let Pinned::Purged(purged) = pinned else { panic!("pages were taken") };
            assert_eq!(pages_of(purged.lost(), buffer.len()), expected);
            assert_eq!(purged.lost_bytes(), 3 * PAGE_BYTES);
            // Taking the bytes all the same acknowledges nothing.
            assert!(is_zero(&purged.into_guard(), 3));
        }
    }
    assert_eq!(lost_pages(&buffer), expected);
    // Offered again, more is taken, and the two losses add up.
    assert!(buffer.offer());
    memory::take(&buffer, 8..9);
    assert_eq!(lost_pages(&buffer), BTreeSet::from([2, 3, 4, 8]));
    // An exclusive pin alone changes nothing either.
    drop(buffer.pin_mut());
    assert_eq!(lost_pages(&buffer).len(), 4);
    let Pinned::Purged(purged) = buffer.pin_mut() else { panic!("not acknowledged yet") };
    drop(purged.acknowledge());
    assert!(lost_pages(&buffer).is_empty());
}

#[test]
fn c03_pages_lost_and_read_are_not_lost_twice_nor_forgotten() {
    let heap = quiet_heap();
    for pages in [10, 1100] {
        let mut buffer = filled(&heap, pages, 1);
        assert!(buffer.offer());
        memory::take(&buffer, 1..4);
        // Written to by an exclusive pinner who does not say that this was a refill: still reported.
        let Pinned::Purged(purged) = buffer.pin_mut() else { panic!("pages were taken") };
        assert_eq!(purged.lost_pages(), 3);
        drop(purged);
        for _ in 0..3 {
            assert!(buffer.offer());
            assert_eq!(lost_pages(&buffer), BTreeSet::from([1, 2, 3]));
        }
        fill_through(&mut buffer, 2);
        assert!(buffer.offer());
        memory::take(&buffer, 2..3);
        assert_eq!(lost_pages(&buffer), BTreeSet::from([2]), "after the refill a loss is a new one");
    }
}

#[test]
fn c03_a_refill_ends_the_loss_and_one_that_fails_does_not() {
    let heap = quiet_heap();
    let mut buffer = filled(&heap, 40, 1);
    assert!(buffer.offer());
    memory::take(&buffer, 30..40);
    let expected: BTreeSet<usize> = (30..40).collect();

    let Pinned::Purged(purged) = buffer.pin_mut() else { panic!("pages were taken") };
    let panicked =
        catch_unwind(AssertUnwindSafe(|| drop(purged.refill(|_, _| panic!("the source is gone")))));
    assert!(panicked.is_err());
    assert_eq!(lost_pages(&buffer), expected);

    let Pinned::Purged(purged) = buffer.pin_mut() else { panic!("still reported") };
    assert_eq!(purged.try_refill(|_, _| Err("the source is gone")).err(), Some("the source is gone"));
    assert_eq!(lost_pages(&buffer), expected);

    let Pinned::Purged(purged) = buffer.pin_mut() else { panic!("still reported") };
    let guard = purged.refill(|bytes, lost| {
        let bytes_len = bytes.len();
        assert_eq!(pages_of(lost, bytes_len), expected);
        fill(bytes, 1);
    });
    assert!((0..40).all(|page| is_filled(&guard, page, 1)));
    drop(guard);
    assert!(lost_pages(&buffer).is_empty());
}

#[test]
fn c03_what_was_released_is_lost_where_it_had_contents() {
    let heap = quiet_heap();
    for pages in [10, 300, 1100] {
        for offered in [false, true] {
            let mut buffer = heap.buffer(pages * PAGE_BYTES).expect("a buffer");
            {
                let mut guard = buffer.pin_mut().intact().expect("new");
                Kind::Full.write(&mut guard, 1);
                Kind::LastByte.write(&mut guard, 4);
                Kind::Blank.write(&mut guard, 5);
            }
            assert!(!offered || buffer.offer());
            assert!(buffer.release());
            assert_eq!(memory::own_pages(memory::span(&buffer)), 0, "the pages are gone at once");
            assert_eq!(lost_pages(&buffer), BTreeSet::from([1, 4]));
        }
    }
}
