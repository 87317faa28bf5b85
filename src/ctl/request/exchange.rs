//! The traffic of one request: sends and receives at the same time, since an application may answer before it has read
//! the whole body, and would wait for ever for a client that only sends. FastCGI 1.0, section 6.2.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::body::Body;
use super::{Cause, ID, Response, Stage};
use crate::fcgi::body::{EndRequest, ProtocolStatus};
use crate::fcgi::decode::{Decoder, Fragment, Place};
use crate::fcgi::encode;
use crate::fcgi::record::{RecordType, SAFE_CONTENT};
use crate::fcgi::response::Head;
use crate::ids::Moment;
use crate::os::clock;

/// The longest response head, bytes.
const HEAD_BOUND: usize = 256 * 1024;

/// Whether the answer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    More,
    End,
}

/// Sends and receives until the answer is complete.
pub fn exchange(
    mut socket: &File,
    outgoing: &mut Outgoing,
    answer: &mut Answer<'_>,
    deadline: Moment,
) -> Result<(), Cause> {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let ready = wait(socket, outgoing.interest(), deadline)?;
        if ready.contains(PollFlags::POLLOUT) {
            outgoing.push(socket)?;
        }
        // An error or the end is found out by reading, after what came before it.
        if !ready.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            continue;
        }
        match socket.read(&mut buffer) {
            Ok(0) => return Err(Cause::ClosedEarly(answer.stage())),
            Ok(length) => {
                if answer.take(&mut decoder, &buffer[..length])? == Flow::End {
                    return Ok(());
                }
            }
            Err(error) if is_transient(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(Cause::ClosedEarly(answer.stage()));
            }
            Err(error) => return Err(Cause::Receive(error)),
        }
    }
}

fn wait(socket: &File, interest: PollFlags, deadline: Moment) -> Result<PollFlags, Cause> {
    loop {
        let left = deadline.since(clock::monotonic());
        if left.is_zero() {
            return Err(Cause::TimedOut(Duration::ZERO)); // the caller knows the limit
        }
        // One more, as poll rounds down and would be called again and again in the last millisecond.
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(socket.as_fd(), interest)];
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(fds[0].revents().unwrap_or(PollFlags::empty())),
            Err(error) => return Err(Cause::Receive(error.into())),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What is still to be sent.
pub struct Outgoing {
    records: Vec<u8>,
    sent: usize,
    body: Body,
    rest: Rest,
}

#[derive(PartialEq, Eq)]
enum Rest {
    /// `body` has more, or its end has to be told.
    Body,
    /// What is in `records` is all.
    Nothing,
}

impl Outgoing {
    /// `head` first, then STDIN.
    pub fn new(head: Vec<u8>, body: Body) -> Outgoing {
        Outgoing { records: head, sent: 0, body, rest: Rest::Body }
    }

    fn interest(&self) -> PollFlags {
        if self.rest == Rest::Nothing && self.sent == self.records.len() {
            return PollFlags::POLLIN;
        }
        PollFlags::POLLIN | PollFlags::POLLOUT
    }

    /// Sends once what fits; the rest waits for the next turn, so that receiving gets its own.
    fn push(&mut self, mut socket: &File) -> Result<(), Cause> {
        self.refill()?;
        match socket.write(&self.records[self.sent..]) {
            Ok(length) => {
                self.sent += length;
                Ok(())
            }
            Err(error) if is_transient(&error) => Ok(()),
            // It wants no more of the body. It may have answered all the same.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                self.rest = Rest::Nothing;
                self.sent = self.records.len();
                Ok(())
            }
            Err(error) => Err(Cause::Send(error)),
        }
    }

    /// Puts the next piece of the body behind what there is, if that is little: the head and a small body are one write.
    fn refill(&mut self) -> Result<(), Cause> {
        if self.rest == Rest::Nothing || self.records.len() - self.sent >= SAFE_CONTENT {
            return Ok(());
        }
        self.records.drain(..self.sent);
        self.sent = 0;
        let mut piece = vec![0; SAFE_CONTENT];
        let length = self.body.read(&mut piece)?;
        encode::stream(&mut self.records, RecordType::Stdin, ID, &piece[..length]);
        if self.body.is_at_end() {
            encode::end_stream(&mut self.records, RecordType::Stdin, ID);
            self.rest = Rest::Nothing;
        }
        Ok(())
    }
}

/// Where the answer goes, and how far it has come.
pub struct Answer<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    include: bool,
    head: Vec<u8>,
    response: Option<Response>,
    end: Vec<u8>,
    ended: Option<EndRequest>,
    silent: bool,
}

impl<'a> Answer<'a> {
    /// Nothing has come yet.
    pub fn new(out: &'a mut dyn Write, err: &'a mut dyn Write, include: bool) -> Answer<'a> {
        let (head, end) = (Vec::new(), Vec::new());
        Answer { out, err, include, head, response: None, end, ended: None, silent: true }
    }

    /// The response, after the exchange.
    pub fn finish(self) -> Result<Response, Cause> {
        let end = self
            .ended
            .unwrap_or(EndRequest { app_status: 0, protocol_status: ProtocolStatus::RequestComplete });
        if end.protocol_status != ProtocolStatus::RequestComplete {
            return Err(Cause::Refused(end.protocol_status));
        }
        forgiving(self.out.flush()).map_err(Cause::Output)?;
        let response = self.response.ok_or(Cause::NoHead { app_status: end.app_status })?;
        Ok(Response { app_status: end.app_status, ..response })
    }

    fn stage(&self) -> Stage {
        match (&self.response, self.silent) {
            (Some(_), _) => Stage::Body,
            (None, false) => Stage::Head,
            (None, true) => Stage::Nothing,
        }
    }

    fn take(&mut self, decoder: &mut Decoder, mut bytes: &[u8]) -> Result<Flow, Cause> {
        self.silent = false;
        while let Some(fragment) = decoder.next(&mut bytes).map_err(Cause::Record)? {
            if fragment.header.request == ID && self.fragment(&fragment)? == Flow::End {
                return Ok(Flow::End);
            }
        }
        Ok(Flow::More)
    }

    fn fragment(&mut self, fragment: &Fragment<'_>) -> Result<Flow, Cause> {
        match fragment.header.kind {
            RecordType::Stdout => self.stdout(fragment.content),
            RecordType::Stderr => {
                // Nobody to listen to it is no reason to do without the answer.
                let _ = self.err.write_all(fragment.content).and_then(|()| self.err.flush());
                Ok(Flow::More)
            }
            RecordType::EndRequest => {
                self.end.extend_from_slice(fragment.content);
                if fragment.place == Place::Inside {
                    return Ok(Flow::More);
                }
                self.ended = Some(EndRequest::decode(&self.end).map_err(Cause::Record)?);
                Ok(Flow::End)
            }
            // An application sends none of these in a request; a web server would ignore them.
            RecordType::BeginRequest
            | RecordType::AbortRequest
            | RecordType::Params
            | RecordType::Stdin
            | RecordType::Data
            | RecordType::GetValues
            | RecordType::GetValuesResult
            | RecordType::UnknownType
            | RecordType::Other(_) => Ok(Flow::More),
        }
    }

    fn stdout(&mut self, content: &[u8]) -> Result<Flow, Cause> {
        if self.response.is_some() {
            return self.body(content);
        }
        self.head.extend_from_slice(content);
        let bytes = std::mem::take(&mut self.head);
        let Some(head) = Head::parse(&bytes, HEAD_BOUND).map_err(Cause::Head)? else {
            self.head = bytes;
            return Ok(Flow::More);
        };
        let response = response(&head);
        if self.include {
            let shown = shown(&response);
            if self.write(shown.as_bytes())? == Flow::End {
                self.response = Some(response);
                return Ok(Flow::End);
            }
        }
        self.response = Some(response);
        self.body(&bytes[head.length..])
    }

    fn body(&mut self, content: &[u8]) -> Result<Flow, Cause> {
        if let Some(response) = &mut self.response {
            response.body += content.len() as u64;
        }
        self.write(content)
    }

    /// A reader that has seen enough ends the exchange, not in failure.
    fn write(&mut self, bytes: &[u8]) -> Result<Flow, Cause> {
        match self.out.write_all(bytes) {
            Ok(()) => Ok(Flow::More),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Flow::End),
            Err(error) => Err(Cause::Output(error)),
        }
    }
}

fn forgiving(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn response(head: &Head<'_>) -> Response {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = head.fields.iter().filter(|field| !field.name.eq_ignore_ascii_case("Status"));
    Response {
        status: head.status,
        reason: text(head.reason),
        fields: fields.map(|field| (field.name.to_owned(), text(field.value))).collect(),
        body: 0,
        app_status: 0,
    }
}

/// Status and headers as `--include` prints them.
fn shown(response: &Response) -> String {
    let mut out = format!("Status: {} {}", response.status, response.reason).trim_end().to_owned();
    for (name, value) in &response.fields {
        out.push_str(&format!("\n{name}: {value}"));
    }
    out.push_str("\n\n");
    out
}
