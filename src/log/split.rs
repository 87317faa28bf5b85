//! Bytes into lines: holds the unfinished one, wraps the over-long. Pure, and the same however the bytes arrive.

use serde::{Deserialize, Serialize};

/// No limit is smaller, so that a UTF-8 sequence always fits.
const SMALLEST_LIMIT: usize = 16;

/// Splits a stream of bytes at newlines.
#[derive(Debug, Serialize, Deserialize)]
pub struct Splitter {
    partial: Vec<u8>,
    limit: usize,
}

impl Splitter {
    /// Lines longer than `limit` bytes (16 at least) are wrapped there, not inside a UTF-8 sequence.
    pub fn new(limit: usize) -> Splitter {
        Splitter { partial: Vec::new(), limit: limit.max(SMALLEST_LIMIT) }
    }

    /// Takes in `bytes` and hands out each line that they complete, without its newline.
    pub fn feed(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(&[u8])) {
        while let Some(newline) = bytes.iter().position(|byte| *byte == b'\n') {
            let line = &bytes[..newline];
            if self.partial.is_empty() && line.len() <= self.limit {
                emit(line);
            } else {
                self.gather(line, emit);
                emit(&self.partial);
                self.partial.clear();
            }
            bytes = &bytes[newline + 1..];
        }
        self.gather(bytes, emit);
    }

    /// Takes out the unfinished line, if there is one.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        (!self.partial.is_empty()).then(|| std::mem::take(&mut self.partial))
    }

    fn gather(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(&[u8])) {
        loop {
            let room = self.limit - self.partial.len();
            if bytes.len() <= room {
                self.partial.extend_from_slice(bytes);
                return;
            }
            self.partial.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            let end = boundary(&self.partial, bytes[0]);
            emit(&self.partial[..end]);
            self.partial.drain(..end);
        }
    }
}

/// Where to wrap `line`, which `next` follows: at its end, or before a UTF-8 sequence that goes on in `next`.
fn boundary(line: &[u8], next: u8) -> usize {
    let continues = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    if !continues(next) {
        return line.len();
    }
    let back = line.iter().rev().take(3).position(|byte| !continues(*byte));
    match back {
        Some(back) if line[line.len() - 1 - back] >= 0b1100_0000 => line.len() - 1 - back,
        _ => line.len(), // not UTF-8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]], limit: usize) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
        let mut splitter = Splitter::new(limit);
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, &mut |line| lines.push(line.to_vec()));
        }
        (lines, splitter.finish())
    }

    #[test]
    fn lines_end_at_newlines() {
        let (lines, rest) = split(&[b"one\n\ntw", b"o\nthr"], 100);
        assert_eq!(lines, [&b"one"[..], b"", b"two"]);
        assert_eq!(rest.unwrap(), b"thr");
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_line() {
        let line = [b'x'; 16];
        assert_eq!(split(&[&line, b"\n"], 16).0, [line]);
        let (lines, rest) = split(&[&[b'x'; 33], b"\n"], 16);
        assert_eq!(lines, [&[b'x'; 16][..], &[b'x'; 16], b"x"]);
        assert_eq!(rest, None);
    }

    #[test]
    fn a_wrap_spares_utf8_and_does_not_stop_at_what_is_none() {
        let (lines, rest) = split(&["123456789012345€".as_bytes()], 16);
        assert_eq!(lines, [b"123456789012345"]);
        assert_eq!(rest.unwrap(), "€".as_bytes());
        let (lines, _) = split(&[&[0x80; 40]], 16);
        assert_eq!(lines, [[0x80; 16], [0x80; 16]]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_and_chunks_do_not_matter(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(0xe2), Just(0x82), Just(b'a')], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..5),
        ) {
            let whole = split(&[&bytes], 16);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&whole, &split(&chunks, 16));
            let kept: usize = whole.0.iter().map(Vec::len).sum::<usize>() + whole.1.map_or(0, |rest| rest.len());
            prop_assert_eq!(kept, bytes.iter().filter(|byte| **byte != b'\n').count());
        }
    }
}
