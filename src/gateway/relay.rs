//! A worker's records on their way to the client, changed in place: the client's request number, and where a read ends
//! inside a record, a header that ends there too. So whatever comes in with one read goes out with one write, without a
//! copy, and is whole records, between which those of another request may stand. FastCGI 1.0, sections 3.3 and 5.

use std::ops::Range;

use crate::fcgi::body::EndRequest;
use crate::fcgi::record::{HEADER_LENGTH, Header, RecordError, RecordType, RequestId};

/// Room that must be free in front of what is read: for the header of a record that goes on, and for a head that was held
/// back until its body came.
pub const HEADROOM: usize = 1024;

/// An END_REQUEST, header and body.
const END_LENGTH: usize = 16;

/// Where in a worker's stream of records we are. One for each connection, from its beginning.
#[derive(Debug, Default)]
pub struct Relay {
    /// The record that goes on, while `content` is above 0.
    kind: Option<RecordType>,
    /// Bytes of its content to come.
    content: u16,
    /// Bytes of padding to come, after the content.
    padding: u8,
    /// The beginning of a header, or of an END_REQUEST.
    held: [u8; END_LENGTH],
    held_length: usize,
}

/// What came with one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where in the buffer the records for the client are.
    pub run: Range<usize>,
    /// The END_REQUEST, which is the last record of the run.
    pub end: Option<EndRequest>,
    /// Bytes behind the END_REQUEST, which nobody asked for.
    pub excess: usize,
}

impl Relay {
    /// Puts into `buffer` what was held back, and says from where on to read.
    pub fn prepare(&self, buffer: &mut [u8]) -> usize {
        let end = HEADROOM + self.held_length;
        buffer[HEADROOM..end].copy_from_slice(&self.held[..self.held_length]);
        end
    }

    /// Takes what is in `buffer` from HEADROOM up to `end`, after a `prepare` and a read. `ours` is the request's number at
    /// the worker, `theirs` at the client. `see` is shown the content of STDOUT and STDERR.
    ///
    /// # Errors
    /// The worker does not speak FastCGI.
    pub fn take(
        &mut self,
        buffer: &mut [u8],
        end: usize,
        (ours, theirs): (RequestId, RequestId),
        mut see: impl FnMut(RecordType, &[u8]),
    ) -> Result<Taken, RecordError> {
        self.held_length = 0;
        let mut walk = Walk { at: HEADROOM, run: HEADROOM..HEADROOM };
        if self.content > 0 {
            self.go_on(buffer, end, theirs, &mut walk, &mut see);
        }
        loop {
            self.skip_padding(end, &mut walk);
            let left = end - walk.at;
            let Some(head) = buffer[walk.at..end].first_chunk::<HEADER_LENGTH>() else {
                self.hold(&buffer[walk.at..end]);
                return Ok(Taken { run: walk.run, end: None, excess: 0 });
            };
            let header = Header::decode(*head)?;
            let for_us = header.request == ours;
            match header.kind {
                RecordType::EndRequest if for_us => {
                    if left < END_LENGTH {
                        // A body of another length is told by its header alone.
                        EndRequest::decode(&[0; 16][..usize::from(header.content).min(16)])?;
                        self.hold(&buffer[walk.at..end]);
                        return Ok(Taken { run: walk.run, end: None, excess: 0 });
                    }
                    return self.end(buffer, end, header, theirs, walk);
                }
                RecordType::Stdout | RecordType::Stderr if for_us => {
                    self.kind = Some(header.kind);
                    self.begin(buffer, end, header, theirs, &mut walk, &mut see);
                }
                // Of another request, for management, or unheard of: not for the client.
                RecordType::EndRequest
                | RecordType::Stdout
                | RecordType::Stderr
                | RecordType::BeginRequest
                | RecordType::AbortRequest
                | RecordType::Params
                | RecordType::Stdin
                | RecordType::Data
                | RecordType::GetValues
                | RecordType::GetValuesResult
                | RecordType::UnknownType
                | RecordType::Other(_) => {
                    self.kind = None;
                    let inside = usize::from(header.content).min(left - HEADER_LENGTH);
                    walk.at += HEADER_LENGTH + inside;
                    self.content = header.content - inside as u16; // `inside` is at most `header.content`
                    self.padding = header.padding;
                }
            }
            if self.content > 0 {
                return Ok(Taken { run: walk.run, end: None, excess: 0 });
            }
        }
    }

    /// The record at `walk.at`, of which at least the header is here.
    fn begin(
        &mut self,
        buffer: &mut [u8],
        end: usize,
        header: Header,
        theirs: RequestId,
        walk: &mut Walk,
        see: &mut impl FnMut(RecordType, &[u8]),
    ) {
        let from = walk.at;
        let inside = usize::from(header.content).min(end - from - HEADER_LENGTH);
        let content = from + HEADER_LENGTH..from + HEADER_LENGTH + inside;
        self.content = header.content - inside as u16; // `inside` is at most `header.content`
        self.padding = header.padding;
        walk.at = content.end;
        if inside == 0 && header.content > 0 {
            return; // an empty record would end the stream
        }
        see(header.kind, &buffer[content]);
        let padding = if self.content == 0 { usize::from(self.padding).min(end - walk.at) } else { 0 };
        self.padding -= padding as u8; // at most `self.padding`
        walk.at += padding;
        let sent = Header { request: theirs, content: inside as u16, padding: padding as u8, ..header };
        buffer[from..from + HEADER_LENGTH].copy_from_slice(&sent.encode());
        walk.forward(buffer, from);
    }

    /// The rest of a record whose beginning went out before: it gets a header of its own, in the headroom.
    fn go_on(
        &mut self,
        buffer: &mut [u8],
        end: usize,
        theirs: RequestId,
        walk: &mut Walk,
        see: &mut impl FnMut(RecordType, &[u8]),
    ) {
        let Some(kind) = self.kind else {
            let inside = usize::from(self.content).min(end - walk.at);
            self.content -= inside as u16; // at most `self.content`
            walk.at += inside;
            return;
        };
        let from = HEADROOM - HEADER_LENGTH;
        let header = Header { kind, request: theirs, content: self.content, padding: self.padding };
        *walk = Walk { at: from, run: from..from };
        self.begin(buffer, end, header, theirs, walk, see);
    }

    fn end(
        &mut self,
        buffer: &mut [u8],
        end: usize,
        header: Header,
        theirs: RequestId,
        mut walk: Walk,
    ) -> Result<Taken, RecordError> {
        let from = walk.at;
        if usize::from(header.content) != END_LENGTH - HEADER_LENGTH {
            return Err(RecordError::BodyLength(RecordType::EndRequest, usize::from(header.content)));
        }
        let body = EndRequest::decode(&buffer[from + HEADER_LENGTH..from + END_LENGTH])?;
        let sent = Header { request: theirs, padding: 0, ..header };
        buffer[from..from + HEADER_LENGTH].copy_from_slice(&sent.encode());
        walk.at += END_LENGTH;
        walk.forward(buffer, from);
        self.padding = header.padding;
        self.content = 0;
        self.skip_padding(end, &mut Walk { at: walk.at, run: 0..1 });
        let excess = (end - walk.at).saturating_sub(usize::from(header.padding));
        Ok(Taken { run: walk.run, end: Some(body), excess })
    }

    fn skip_padding(&mut self, end: usize, walk: &mut Walk) {
        let skipped = usize::from(self.padding).min(end - walk.at);
        self.padding -= skipped as u8; // at most `self.padding`
        walk.at += skipped;
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.held[..bytes.len()].copy_from_slice(bytes);
        self.held_length = bytes.len();
    }
}

/// How far a buffer has been read, and what of it goes out.
struct Walk {
    at: usize,
    run: Range<usize>,
}

impl Walk {
    /// Adds `from..self.at` to the run; moves it up where something before it does not go out.
    fn forward(&mut self, buffer: &mut [u8], from: usize) {
        if self.run.is_empty() {
            self.run = from..self.at;
            return;
        }
        let length = self.at - from;
        if from != self.run.end {
            buffer.copy_within(from..self.at, self.run.end);
        }
        self.run.end += length;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::fcgi::body::ProtocolStatus;
    use crate::fcgi::decode::Record;

    const OURS: RequestId = RequestId(1);
    const THEIRS: RequestId = RequestId(0x1234);

    fn record(kind: RecordType, request: RequestId, content: &[u8], padding: u8) -> Vec<u8> {
        let header = Header { kind, request, content: content.len() as u16, padding };
        [&header.encode()[..], content, &vec![0xaa; usize::from(padding)]].concat()
    }

    fn end(padding: u8) -> Vec<u8> {
        let body = EndRequest { app_status: 7, protocol_status: ProtocolStatus::RequestComplete };
        record(RecordType::EndRequest, OURS, &body.encode(), padding)
    }

    /// Feeds `bytes` cut at every length of `cuts` in turn; what went out, what was shown, and the end.
    fn relay(mut bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<u8>, Option<EndRequest>, usize) {
        let (mut out, mut seen, mut relay) = (Vec::new(), Vec::new(), Relay::default());
        let mut buffer = vec![0; 400_000];
        let mut cuts = cuts.iter().cycle();
        while !bytes.is_empty() {
            let count = (*cuts.next().unwrap()).clamp(1, bytes.len());
            let at = relay.prepare(&mut buffer);
            buffer[at..at + count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            let mut see = |kind, content: &[u8]| {
                if kind == RecordType::Stdout {
                    seen.extend_from_slice(content);
                }
            };
            let taken = relay.take(&mut buffer, at + count, (OURS, THEIRS), &mut see).unwrap();
            let run = &buffer[taken.run.clone()];
            whole(run);
            out.extend_from_slice(run);
            if taken.end.is_some() {
                return (out, seen, taken.end, taken.excess + bytes.len());
            }
        }
        (out, seen, None, 0)
    }

    /// Every run is whole records.
    fn whole(mut run: &[u8]) {
        while !run.is_empty() {
            let (_, length) = Record::first(run).unwrap().expect("a run is whole records");
            run = &run[length..];
        }
    }

    /// The content of one stream, its number of empty records, and all request numbers.
    fn stream(mut bytes: &[u8], wanted: RecordType) -> (Vec<u8>, usize) {
        let (mut content, mut empty) = (Vec::new(), 0);
        while let Some((record, length)) = Record::first(bytes).unwrap() {
            assert_eq!(record.header.request, THEIRS);
            if record.header.kind == wanted {
                content.extend_from_slice(record.content);
                empty += usize::from(record.content.is_empty());
            }
            bytes = &bytes[length..];
        }
        (content, empty)
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_streams(
            parts in vec((0u8..5, vec(any::<u8>(), 0..60), 0u8..9), 0..12),
            cuts in vec(1usize..70, 1..20),
            last in 0u8..20,
        ) {
            let (mut bytes, mut stdout, mut stderr, mut ends) = (Vec::new(), Vec::new(), Vec::new(), [0, 0]);
            for (kind, content, padding) in &parts {
                let (kind, id) = match kind {
                    0 | 1 => { stdout.extend_from_slice(content); (RecordType::Stdout, OURS) }
                    2 => { stderr.extend_from_slice(content); (RecordType::Stderr, OURS) }
                    3 => (RecordType::Stdout, RequestId(9)),
                    _ => (RecordType::GetValuesResult, RequestId(0)),
                };
                if id == OURS && content.is_empty() {
                    ends[usize::from(kind == RecordType::Stderr)] += 1;
                }
                bytes.extend(record(kind, id, content, *padding));
            }
            bytes.extend(end(last));
            let (out, seen, ended, excess) = relay(&bytes, &cuts);
            prop_assert_eq!(stream(&out, RecordType::Stdout), (stdout.clone(), ends[0]));
            prop_assert_eq!(stream(&out, RecordType::Stderr), (stderr, ends[1]));
            prop_assert_eq!(seen, stdout);
            prop_assert_eq!(ended.map(|end| end.app_status), Some(7));
            prop_assert!(excess <= usize::from(last));
            prop_assert_eq!(stream(&out, RecordType::EndRequest).0.len(), 8);
        }

        #[test]
        fn hostile_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300), cuts in vec(1usize..70, 1..5)) {
            let mut relay = Relay::default();
            let mut buffer = vec![0; 4096];
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let count = (*cuts.next().unwrap()).min(rest.len());
                let at = relay.prepare(&mut buffer);
                buffer[at..at + count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                match relay.take(&mut buffer, at + count, (OURS, THEIRS), |_, _| {}) {
                    Ok(taken) => prop_assert!(taken.run.end <= at + count),
                    Err(_) => break,
                }
            }
        }
    }

    #[test]
    fn the_next_answer_begins_behind_the_padding_of_the_last_end() {
        let mut bytes = end(5);
        let mut relay = Relay::default();
        let mut buffer = vec![0; 4096];
        bytes.truncate(18);
        buffer[HEADROOM..HEADROOM + 18].copy_from_slice(&bytes);
        let taken = relay.take(&mut buffer, HEADROOM + 18, (OURS, THEIRS), |_, _| {}).unwrap();
        assert!(taken.end.is_some() && taken.excess == 0);
        let next = [&[0; 3][..], &record(RecordType::Stdout, OURS, b"next", 0)].concat();
        let at = relay.prepare(&mut buffer);
        buffer[at..at + next.len()].copy_from_slice(&next);
        let taken = relay.take(&mut buffer, at + next.len(), (OURS, THEIRS), |_, _| {}).unwrap();
        assert_eq!(stream(&buffer[taken.run], RecordType::Stdout).0, b"next");
    }

    #[test]
    fn an_end_of_another_length_is_an_error() {
        let bytes = record(RecordType::EndRequest, OURS, &[0; 9], 0);
        for count in [8, 17] {
            let mut buffer = vec![0; 4096];
            buffer[HEADROOM..HEADROOM + count].copy_from_slice(&bytes[..count]);
            assert!(Relay::default().take(&mut buffer, HEADROOM + count, (OURS, THEIRS), |_, _| {}).is_err());
        }
    }
}
