//! Records appended to a buffer: streams cut at 65,528 bytes and padded to 8, PARAMS with whole pairs in each record
//! (php-cgi and flup break on a pair that straddles two), and a whole request ready for one write.

use super::body::{BeginRequest, EndRequest, ProtocolStatus, UnknownType};
use super::pairs::{self, PairError};
use super::record::{HEADER_LENGTH, Header, RecordType, RequestId, SAFE_CONTENT};

/// Contents are padded to a multiple of this, as the specification recommends.
const ALIGNMENT: usize = 8;

/// Appends BEGIN_REQUEST.
pub fn begin_request(out: &mut Vec<u8>, id: RequestId, begin: &BeginRequest) {
    record(out, RecordType::BeginRequest, id, &begin.encode());
}

/// Appends the whole PARAMS stream with its end.
///
/// # Errors
/// A pair does not fit into one record; `out` is as it was then.
pub fn params<'a>(
    out: &mut Vec<u8>,
    id: RequestId,
    pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), PairError> {
    let before = out.len();
    let mut start = open(out);
    for (name, value) in pairs {
        let length = pairs::encoded_length(name, value);
        if length > SAFE_CONTENT {
            out.truncate(before);
            return Err(PairError::TooLong(length));
        }
        if out.len() - start - HEADER_LENGTH + length > SAFE_CONTENT {
            close(out, start, RecordType::Params, id);
            start = open(out);
        }
        pairs::encode(out, name, value)?; // cannot fail: its length is checked above
    }
    if out.len() > start + HEADER_LENGTH {
        close(out, start, RecordType::Params, id);
    } else {
        out.truncate(start);
    }
    end_stream(out, RecordType::Params, id);
    Ok(())
}

/// Appends `content` of a stream in as many records as it takes: none if it is empty, since that would end the stream.
pub fn stream(out: &mut Vec<u8>, kind: RecordType, id: RequestId, content: &[u8]) {
    for part in content.chunks(SAFE_CONTENT) {
        record(out, kind, id, part);
    }
}

/// Appends the empty record that ends a stream.
pub fn end_stream(out: &mut Vec<u8>, kind: RecordType, id: RequestId) {
    record(out, kind, id, &[]);
}

/// Appends a whole Responder's request: BEGIN_REQUEST, PARAMS, STDIN.
///
/// # Errors
/// A parameter does not fit into one record; `out` is as it was then.
pub fn request<'a>(
    out: &mut Vec<u8>,
    id: RequestId,
    begin: &BeginRequest,
    pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    body: &[u8],
) -> Result<(), PairError> {
    let before = out.len();
    begin_request(out, id, begin);
    params(out, id, pairs).inspect_err(|_| out.truncate(before))?;
    stream(out, RecordType::Stdin, id, body);
    end_stream(out, RecordType::Stdin, id);
    Ok(())
}

/// Appends END_REQUEST.
pub fn end_request(out: &mut Vec<u8>, id: RequestId, app_status: u32, protocol_status: ProtocolStatus) {
    let body = EndRequest { app_status, protocol_status }.encode();
    record(out, RecordType::EndRequest, id, &body);
}

/// Appends a management record of pairs: GET_VALUES or its result.
///
/// # Errors
/// The pairs do not fit into one record, which management records must; `out` is as it was then.
pub fn values<'a>(
    out: &mut Vec<u8>,
    kind: RecordType,
    pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), PairError> {
    let mut content = Vec::new();
    for (name, value) in pairs {
        pairs::encode(&mut content, name, value)?;
    }
    if content.len() > SAFE_CONTENT {
        return Err(PairError::TooLong(content.len()));
    }
    record(out, kind, RequestId::MANAGEMENT, &content);
    Ok(())
}

/// Appends UNKNOWN_TYPE, the answer to a management record of a type that is not known.
pub fn unknown_type(out: &mut Vec<u8>, kind: RecordType) {
    record(out, RecordType::UnknownType, RequestId::MANAGEMENT, &UnknownType { kind }.encode());
}

/// The header of a record of at most `SAFE_CONTENT` bytes, and the padding that follows: for callers that write content
/// from where it is (writev).
pub fn header(kind: RecordType, id: RequestId, content: u16) -> Header {
    let over = usize::from(content) % ALIGNMENT;
    // Below 8.
    let padding = u8::try_from((ALIGNMENT - over) % ALIGNMENT).unwrap_or(0);
    Header { kind, request: id, content, padding }
}

fn record(out: &mut Vec<u8>, kind: RecordType, id: RequestId, content: &[u8]) {
    let start = open(out);
    out.extend_from_slice(content);
    close(out, start, kind, id);
}

/// Leaves room for a header and says where.
fn open(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LENGTH]);
    start
}

/// Fills in the header of the record that began at `start`, and pads. The content is at most `SAFE_CONTENT` bytes.
fn close(out: &mut Vec<u8>, start: usize, kind: RecordType, id: RequestId) {
    let content = out.len() - start - HEADER_LENGTH;
    debug_assert!(content <= SAFE_CONTENT);
    let header = header(kind, id, u16::try_from(content).unwrap_or(u16::MAX));
    out[start..start + HEADER_LENGTH].copy_from_slice(&header.encode());
    out.resize(out.len() + usize::from(header.padding), 0);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::fcgi::body::{Connection, Role};
    use crate::fcgi::decode::Record;
    use crate::fcgi::pairs::Pairs;

    const ID: RequestId = RequestId(1);

    fn records(mut bytes: &[u8]) -> Vec<Record<'_>> {
        let mut records = Vec::new();
        while let Some((record, length)) = Record::first(bytes).unwrap() {
            assert_eq!(length % ALIGNMENT, 0);
            assert!(record.content.len() <= SAFE_CONTENT);
            records.push(record);
            bytes = &bytes[length..];
        }
        assert!(bytes.is_empty());
        records
    }

    #[test]
    fn a_small_request_is_what_the_specification_shows() {
        let mut out = Vec::new();
        let begin = BeginRequest { role: Role::Responder, connection: Connection::Close };
        request(&mut out, ID, &begin, [(&b"A"[..], &b"b"[..])], b"xyz").unwrap();
        let expected: &[&[u8]] = &[
            &[1, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
            &[1, 4, 0, 1, 0, 4, 4, 0, 1, 1, b'A', b'b', 0, 0, 0, 0],
            &[1, 4, 0, 1, 0, 0, 0, 0],
            &[1, 5, 0, 1, 0, 3, 5, 0, b'x', b'y', b'z', 0, 0, 0, 0, 0],
            &[1, 5, 0, 1, 0, 0, 0, 0],
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn nothing_to_say_is_only_the_end_of_the_stream() {
        let mut out = Vec::new();
        params(&mut out, ID, []).unwrap();
        stream(&mut out, RecordType::Stdin, ID, b"");
        assert_eq!(out, [1, 4, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_pair_that_fits_into_no_record_changes_nothing() {
        let mut out = b"before".to_vec();
        let begin = BeginRequest { role: Role::Responder, connection: Connection::Close };
        let value = vec![b'x'; SAFE_CONTENT - 6];
        let fits = [(&b"A"[..], &value[..])];
        assert_eq!(pairs::encoded_length(b"A", &value), SAFE_CONTENT);
        assert!(params(&mut Vec::new(), ID, fits).is_ok());
        let error = request(&mut out, ID, &begin, [(&b"AB"[..], &value[..])], b"").unwrap_err();
        assert_eq!(error, PairError::TooLong(SAFE_CONTENT + 1));
        assert_eq!(out, b"before");
    }

    #[test]
    fn a_long_stream_is_cut_where_php_cgi_takes_it() {
        let mut out = Vec::new();
        stream(&mut out, RecordType::Stdout, ID, &[b'x'; 2 * SAFE_CONTENT + 1]);
        let lengths: Vec<usize> = records(&out).iter().map(|record| record.content.len()).collect();
        assert_eq!(lengths, [SAFE_CONTENT, SAFE_CONTENT, 1]);
    }

    #[test]
    fn management_records_have_id_0() {
        let mut out = Vec::new();
        values(&mut out, RecordType::GetValues, [(&b"FCGI_MAX_CONNS"[..], &b""[..])]).unwrap();
        unknown_type(&mut out, RecordType::Other(77));
        let records = records(&out);
        assert!(records.iter().all(|record| record.header.request == RequestId::MANAGEMENT));
        assert_eq!(UnknownType::decode(records[1].content).unwrap().kind, RecordType::Other(77));
        let long = vec![0; SAFE_CONTENT];
        assert!(values(&mut out, RecordType::GetValues, [(&long[..], &b""[..])]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn params_come_back_and_no_pair_straddles(pairs in vec((vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..20_000)), 0..20)) {
            let mut out = Vec::new();
            let borrowed = pairs.iter().map(|(name, value)| (&name[..], &value[..]));
            params(&mut out, ID, borrowed).unwrap();
            let records = records(&out);
            let mut back = Vec::new();
            for record in &records {
                for pair in Pairs::new(record.content) {
                    let (name, value) = pair.unwrap();
                    back.push((name.to_vec(), value.to_vec()));
                }
            }
            prop_assert_eq!(back, pairs);
            prop_assert!(records.last().unwrap().content.is_empty());
            let ends = records.iter().filter(|record| record.content.is_empty()).count();
            prop_assert_eq!(ends, 1);
        }
    }
}
