//! Pages: files as people look at them.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

const HEX: &[u8; 16] = b"0123456789abcdef";
/// Bytes in a line of a file that is no text.
const HEX_LINE_BYTES: usize = 16;

/// A file as HTML: its lines with numbers, or its bytes in hexadecimal if it is no text.
pub(crate) fn render(name: &str, file: &[u8]) -> Vec<u8> {
    let mut page = Vec::with_capacity(file.len() * 5 + 200);
    page.extend_from_slice(b"<!DOCTYPE html><meta charset=utf-8><title>");
    escape(&mut page, name);
    page.extend_from_slice(b"</title><pre>\n");
    match std::str::from_utf8(file) {
        Ok(text) => render_lines(&mut page, text),
        Err(_) => render_bytes(&mut page, file),
    }
    page.extend_from_slice(b"</pre>\n");
    page
}

fn render_lines(page: &mut Vec<u8>, text: &str) {
    for (number, line) in (1..).zip(text.lines()) {
        let number: u32 = number;
        page.extend_from_slice(format!("<a id=L{number}>{number:6}</a> ").as_bytes());
        escape(page, line);
        page.push(b'\n');
    }
}

fn render_bytes(page: &mut Vec<u8>, file: &[u8]) {
    for (number, line) in file.chunks(HEX_LINE_BYTES).enumerate() {
        page.extend_from_slice(format!("{:08x} ", number * HEX_LINE_BYTES).as_bytes());
        for byte in line {
            page.extend_from_slice(&[b' ', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        page.push(b'\n');
    }
}

fn escape(page: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'&' => page.extend_from_slice(b"&amp;"),
            b'<' => page.extend_from_slice(b"&lt;"),
            b'>' => page.extend_from_slice(b"&gt;"),
            other => page.push(other),
        }
    }
}

/// As small as gzip can make it, which is worth its time if the result is kept.
pub(crate) fn compress(page: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(page).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}
