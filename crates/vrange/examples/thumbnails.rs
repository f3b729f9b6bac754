//! A cache of pictures that can be made again: it has no size to choose, and is never the cause of an OOM kill.
//!
//! ```text
//! cargo run --release -p vrange --example thumbnails
//! ```
//!
//! Each picture lives in a volatile buffer. When memory is short the kernel discards the ones that were not looked at for the
//! longest time; whoever looks at such a picture draws again what was lost, and nothing else.

use std::ops::Range;

use vrange::{Buffer, Error, Heap, Pinned, WriteGuard};

const PICTURES: u32 = 64;
const PIXELS: usize = 256 * 256;
const PIXEL_BYTES: usize = size_of::<u32>();

fn pixel(picture: u32, at: usize) -> u32 {
    let at = u32::try_from(at).unwrap_or(u32::MAX);
    (picture + 1).wrapping_mul(2_654_435_761).wrapping_add(at)
}

/// Stands for the real work: decoding a file.
fn draw(picture: u32, bytes: &mut [u8], part: Range<usize>) {
    let first = part.start / PIXEL_BYTES;
    for (at, bytes) in bytes[part].as_chunks_mut().0.iter_mut().enumerate() {
        *bytes = pixel(picture, first + at).to_ne_bytes();
    }
}

/// A picture to be used, and how many bytes of it had to be drawn again.
fn look_at(picture: u32, buffer: &mut Buffer) -> (WriteGuard<'_>, usize) {
    match buffer.pin_mut() {
        Pinned::Intact(bytes) => (bytes, 0),
        Pinned::Purged(purged) => {
            let lost_bytes = purged.lost_bytes();
            let bytes = purged.refill(|bytes, lost| lost.for_each(|part| draw(picture, bytes, part)));
            (bytes, lost_bytes)
        }
    }
}

/// Looks at all pictures, and returns how many bytes had to be drawn again.
fn look_at_all(pictures: &mut [Buffer]) -> usize {
    let mut drawn_bytes = 0;
    for (picture, buffer) in (0..).zip(pictures) {
        let (bytes, lost_bytes) = look_at(picture, buffer);
        drawn_bytes += lost_bytes;
        let is_right =
            bytes.as_slice_of::<u32>().iter().enumerate().all(|(at, found)| *found == pixel(picture, at));
        assert!(is_right, "picture {picture} is wrong");
    }
    drawn_bytes
}

fn main() -> Result<(), Error> {
    let heap = Heap::builder().name("thumbnails").build()?;
    let mut pictures = Vec::new();
    for picture in 0..PICTURES {
        let mut buffer = heap.buffer(PIXELS * PIXEL_BYTES)?;
        if let Pinned::Intact(mut bytes) = buffer.pin_mut() {
            draw(picture, &mut bytes, 0..PIXELS * PIXEL_BYTES);
        }
        pictures.push(buffer);
    }
    println!(
        "{PICTURES} pictures; {} bytes drawn again while memory was plentiful",
        look_at_all(&mut pictures)
    );

    // As if memory had been short: half of it goes, the coldest pictures first.
    let dropped_bytes = heap.reclaim(heap.stats().marked.pages.bytes() / 2);
    let drawn_bytes = look_at_all(&mut pictures);
    println!("{dropped_bytes} bytes dropped, {drawn_bytes} bytes drawn again, every pixel right");
    println!("{:#?}", heap.stats());
    Ok(())
}
