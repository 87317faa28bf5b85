//! Name-value pairs: the content of PARAMS, GET_VALUES and GET_VALUES_RESULT (FastCGI 1.0, section 3.4). A pair may
//! straddle records, so `Gathered` puts the content together first, up to a bound.

use std::fmt;

/// Lengths below this take one byte, others four with the highest bit set.
const LONG: usize = 128;

/// The longest name or value that can be expressed, bytes.
pub const MAX_LENGTH: usize = 0x7fff_ffff;

/// Why pairs cannot be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairError {
    /// A pair says that it is longer than the content that holds it.
    Truncated,
    /// All pairs together are longer than this bound, bytes.
    TooMany(usize),
    /// A pair of this encoded length fits into no record that every application takes.
    TooLong(usize),
}

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PairError::Truncated => {
                f.write_str("cannot read a FastCGI name-value pair: it is longer than its record")
            }
            PairError::TooMany(bound) => {
                write!(f, "cannot read FastCGI parameters: they are longer than {bound} bytes")
            }
            PairError::TooLong(length) => {
                let most = super::record::SAFE_CONTENT;
                write!(f, "cannot write a FastCGI parameter: it takes {length} bytes of {most} at most")
            }
        }
    }
}

impl std::error::Error for PairError {}

/// The pairs in a stream's whole content, in their order. Ends after an error.
#[derive(Debug, Clone)]
pub struct Pairs<'a>(&'a [u8]);

impl<'a> Pairs<'a> {
    /// Reads `content`, which must begin with a pair.
    pub fn new(content: &'a [u8]) -> Pairs<'a> {
        Pairs(content)
    }

    /// Bytes that have not been read yet.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn pair(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let name = length(&mut self.0)?;
        let value = length(&mut self.0)?;
        let name = split(&mut self.0, name)?;
        Some((name, split(&mut self.0, value)?))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), PairError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let pair = self.pair().ok_or(PairError::Truncated);
        if pair.is_err() {
            self.0 = &[];
        }
        Some(pair)
    }
}

/// Bytes that a pair takes on the wire.
pub fn encoded_length(name: &[u8], value: &[u8]) -> usize {
    let prefix = |length: usize| if length < LONG { 1 } else { 4 };
    prefix(name.len()) + prefix(value.len()) + name.len() + value.len()
}

/// Appends a pair to `out`.
///
/// # Errors
/// The name or the value is longer than `MAX_LENGTH`; nothing is appended then.
pub fn encode(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), PairError> {
    if name.len().max(value.len()) > MAX_LENGTH {
        return Err(PairError::TooLong(encoded_length(name, value)));
    }
    for part in [name, value] {
        match u8::try_from(part.len()) {
            Ok(short) if part.len() < LONG => out.push(short),
            // Checked above: the length has 31 bits.
            _ => out.extend((u32::try_from(part.len()).unwrap_or(0) | 1 << 31).to_be_bytes()),
        }
    }
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    Ok(())
}

/// A stream of pairs put together from its records, up to a bound.
#[derive(Debug)]
pub struct Gathered {
    bytes: Vec<u8>,
    bound: usize,
}

impl Gathered {
    /// Nothing yet, and never more than `bound` bytes.
    pub fn new(bound: usize) -> Gathered {
        Gathered { bytes: Vec::new(), bound }
    }

    /// Adds the content of the next record.
    ///
    /// # Errors
    /// The bound would be exceeded; nothing is added then.
    pub fn push(&mut self, content: &[u8]) -> Result<(), PairError> {
        if content.len() > self.bound - self.bytes.len() {
            return Err(PairError::TooMany(self.bound));
        }
        self.bytes.extend_from_slice(content);
        Ok(())
    }

    /// The pairs so far; the last may be cut while the stream goes on.
    pub fn pairs(&self) -> Pairs<'_> {
        Pairs::new(&self.bytes)
    }
}

fn length(bytes: &mut &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    if usize::from(first) < LONG {
        *bytes = &bytes[1..];
        return Some(usize::from(first));
    }
    let (long, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    usize::try_from(u32::from_be_bytes(*long) & !(1 << 31)).ok()
}

fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_take_one_byte_or_four() {
        let mut out = Vec::new();
        encode(&mut out, b"AB", &[b'x'; 127]).unwrap();
        assert_eq!(&out[..4], [2, 127, b'A', b'B']);
        out.clear();
        encode(&mut out, b"AB", &[b'x'; 128]).unwrap();
        assert_eq!(&out[..7], [2, 0x80, 0, 0, 128, b'A', b'B']);
        assert_eq!(out.len(), encoded_length(b"AB", &[b'x'; 128]));
    }

    #[test]
    fn hostile_lengths_are_errors() {
        for bytes in [&[1][..], &[1, 1, b'a'], &[0x80, 0, 0], &[0xff; 8], &[0xff, 0xff, 0xff, 0xff, 0, b'x']]
        {
            let all: Vec<_> = Pairs::new(bytes).collect();
            assert_eq!(all, [Err(PairError::Truncated)], "{bytes:?}");
        }
    }

    #[test]
    fn what_is_gathered_is_bounded() {
        let mut gathered = Gathered::new(10);
        gathered.push(&[1, 1, b'a']).unwrap();
        gathered.push(b"b").unwrap();
        assert_eq!(gathered.push(&[0; 7]), Err(PairError::TooMany(10)));
        let all: Vec<_> = gathered.pairs().collect();
        assert_eq!(all, [Ok((&b"a"[..], &b"b"[..]))]);
    }

    proptest! {
        #[test]
        fn pairs_survive_the_wire(pairs in vec((vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..300)), 0..10)) {
            let mut out = Vec::new();
            for (name, value) in &pairs {
                encode(&mut out, name, value).unwrap();
            }
            let back: Vec<_> = Pairs::new(&out).map(|pair| pair.unwrap()).collect();
            prop_assert_eq!(back.len(), pairs.len());
            for (pair, (name, value)) in back.iter().zip(&pairs) {
                prop_assert_eq!(*pair, (&name[..], &value[..]));
            }
        }

        #[test]
        fn garbage_never_panics(bytes in vec(any::<u8>(), 0..100)) {
            prop_assert!(Pairs::new(&bytes).count() <= bytes.len());
        }
    }
}
