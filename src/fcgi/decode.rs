//! Bytes into records, without a copy (FastCGI 1.0, section 3.3). `Record::first` takes whole records out of a buffer;
//! `Decoder` needs no buffer: it hands out content as it comes, in pieces of whatever size the reads have.

use super::record::{HEADER_LENGTH, Header, RecordError};

/// A whole record in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its header.
    pub header: Header,
    /// Its content, `header.content` bytes.
    pub content: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record in `bytes` and its length there, padding included; `None` if it is not whole yet. A buffer
    /// of 65,798 bytes holds any record.
    ///
    /// # Errors
    /// The bytes are not FastCGI.
    pub fn first(bytes: &'a [u8]) -> Result<Option<(Record<'a>, usize)>, RecordError> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEADER_LENGTH>() else { return Ok(None) };
        let header = Header::decode(*head)?;
        let content = usize::from(header.content);
        let body = content + usize::from(header.padding);
        if rest.len() < body {
            return Ok(None);
        }
        Ok(Some((Record { header, content: &rest[..content] }, HEADER_LENGTH + body)))
    }
}

/// A piece of a record's content. Each record gives one or more; only a record without content gives an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// The header of the record.
    pub header: Header,
    /// The next bytes of its content.
    pub content: &'a [u8],
    /// Whether more of this record's content follows.
    pub place: Place,
}

/// Where a fragment stands in its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// More content follows.
    Inside,
    /// This is the rest.
    Last,
}

/// Takes a connection's bytes as they come.
#[derive(Debug)]
pub struct Decoder(State);

#[derive(Debug)]
enum State {
    /// So many bytes of the next header are here.
    Header { bytes: [u8; HEADER_LENGTH], have: usize },
    /// So many bytes of content are to come, at least one.
    Content { header: Header, left: u16 },
    /// So many bytes of padding are to come.
    Padding { left: u8 },
}

const START: State = State::Header { bytes: [0; HEADER_LENGTH], have: 0 };

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// At the beginning of a connection.
    pub fn new() -> Decoder {
        Decoder(START)
    }

    /// Takes the next fragment off the front of `input`; `None` if more bytes are needed, `input` is empty then.
    ///
    /// # Errors
    /// The bytes are not FastCGI. Every further call gives the same error.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Fragment<'a>>, RecordError> {
        loop {
            match &mut self.0 {
                State::Header { bytes, have } => {
                    let taken = take(input, HEADER_LENGTH - *have);
                    bytes[*have..*have + taken.len()].copy_from_slice(taken);
                    *have += taken.len();
                    if *have < HEADER_LENGTH {
                        return Ok(None);
                    }
                    let header = Header::decode(*bytes)?;
                    if header.content == 0 {
                        self.0 = State::Padding { left: header.padding };
                        return Ok(Some(Fragment { header, content: &[], place: Place::Last }));
                    }
                    self.0 = State::Content { header, left: header.content };
                }
                State::Content { header, left } => {
                    let content = take(input, usize::from(*left));
                    if content.is_empty() {
                        return Ok(None);
                    }
                    let header = *header;
                    // `take` gives at most `left` bytes, so this is exact.
                    *left -= u16::try_from(content.len()).unwrap_or(*left);
                    let place = if *left == 0 { Place::Last } else { Place::Inside };
                    if place == Place::Last {
                        self.0 = State::Padding { left: header.padding };
                    }
                    return Ok(Some(Fragment { header, content, place }));
                }
                State::Padding { left } => {
                    let skipped = take(input, usize::from(*left));
                    *left -= u8::try_from(skipped.len()).unwrap_or(*left); // exact, as above
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.0 = START;
                }
            }
        }
    }

    /// Whether the connection may end here without cutting a record.
    pub fn is_between_records(&self) -> bool {
        matches!(self.0, State::Header { have: 0, .. } | State::Padding { left: 0 })
    }
}

/// Splits up to `most` bytes off the front of `input`.
fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::fcgi::record::{RecordType, RequestId};

    fn encoded(records: &[(u8, u16, Vec<u8>, u8)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, request, content, padding) in records {
            let header = Header {
                kind: RecordType::from_wire(*kind),
                request: RequestId(*request),
                content: u16::try_from(content.len()).unwrap(),
                padding: *padding,
            };
            out.extend(header.encode());
            out.extend(content);
            out.extend(std::iter::repeat_n(0xee, usize::from(*padding)));
        }
        out
    }

    /// What a decoder makes of `chunks`: whole records again.
    fn decoded(chunks: &[&[u8]]) -> (Vec<(Header, Vec<u8>)>, bool) {
        let mut decoder = Decoder::new();
        let (mut records, mut partial) = (Vec::new(), Vec::new());
        for mut chunk in chunks.iter().copied() {
            while let Some(fragment) = decoder.next(&mut chunk).unwrap() {
                partial.extend_from_slice(fragment.content);
                if fragment.place == Place::Last {
                    records.push((fragment.header, std::mem::take(&mut partial)));
                }
            }
            assert!(chunk.is_empty());
        }
        (records, decoder.is_between_records())
    }

    #[test]
    fn an_error_stays() {
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut &[2u8; 8][..]), Err(RecordError::Version(2)));
        assert_eq!(decoder.next(&mut &[1u8; 8][..]), Err(RecordError::Version(2)));
        assert_eq!(Record::first(&[2; 8]), Err(RecordError::Version(2)));
    }

    #[test]
    fn a_record_is_there_before_its_padding() {
        let bytes = encoded(&[(5, 1, b"abc".to_vec(), 5)]);
        let mut decoder = Decoder::new();
        let fragment = decoder.next(&mut &bytes[..11]).unwrap().unwrap();
        assert_eq!((fragment.content, fragment.place), (&b"abc"[..], Place::Last));
        assert!(!decoder.is_between_records());
        assert_eq!(decoder.next(&mut &bytes[11..]), Ok(None));
        assert!(decoder.is_between_records());
    }

    proptest! {
        #[test]
        fn any_split_decodes_alike(
            records in vec((any::<u8>(), any::<u16>(), vec(any::<u8>(), 0..40), any::<u8>()), 0..6),
            cuts in vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let bytes = encoded(&records);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let (decoded, complete) = decoded(&chunks);
            prop_assert!(complete);
            prop_assert_eq!(decoded.len(), records.len());

            let mut rest = &bytes[..];
            for ((header, content), (kind, request, original, padding)) in decoded.iter().zip(&records) {
                prop_assert_eq!(header.kind.to_wire(), *kind);
                prop_assert_eq!((header.request.0, header.padding), (*request, *padding));
                prop_assert_eq!(content, original);
                let (record, length) = Record::first(rest).unwrap().unwrap();
                prop_assert_eq!((record.header, record.content), (*header, &content[..]));
                rest = &rest[length..];
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn a_cut_record_is_not_there_yet(content in vec(any::<u8>(), 0..40), padding: u8, cut in any::<prop::sample::Index>()) {
            let bytes = encoded(&[(6, 1, content, padding)]);
            let part = &bytes[..cut.index(bytes.len())];
            prop_assert_eq!(Record::first(part), Ok(None));
        }

        #[test]
        fn garbage_never_panics(bytes in vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::new();
            let mut input = &bytes[..];
            while let Ok(Some(_)) = decoder.next(&mut input) {}
            let _ = Record::first(&bytes);
        }
    }
}
