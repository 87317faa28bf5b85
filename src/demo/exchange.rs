//! One connection of the demo worker: reads records, lets the session judge them, writes answers. FastCGI's rules are
//! `fcgi::session`'s, the pages are `page`'s.

use std::io::{self, Read, Write};
use std::time::Duration;

use super::page::{self, Answer, Identity, Page};
use crate::fcgi::body::{Connection as Wish, ProtocolStatus};
use crate::fcgi::decode::Record;
use crate::fcgi::encode;
use crate::fcgi::record::{RecordType, RequestId, SAFE_CONTENT};
use crate::fcgi::session::{Capacity, Request, Session, Step};
use crate::os::accept::{Connection, Next, pause};

/// How long a new connection may stay silent; php-cgi's patience.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// How long a client may stall within a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// Room for the parameters of a request, bytes; web servers send some kilobytes.
const PARAMS_BOUND: usize = 1024 * 1024;

/// The longest body that `/echo` gives back, bytes. It is kept until it is whole: behind nginx 1.22 (seen in both of its
/// buffering modes) an answer that begins before the body has ended leaves both sides waiting.
const ECHO_BOUND: u64 = 32 * 1024 * 1024;

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was served as far as there was anything to serve.
    Closed,
    /// `/crash` was asked for.
    Crash,
}

/// Serves a connection until it is over.
///
/// # Errors
/// The client went away, stalled, or does not speak FastCGI. Nothing is left to do but to close.
pub fn serve(connection: Connection, identity: &mut Identity) -> io::Result<End> {
    connection.limit(FIRST_PATIENCE, PATIENCE)?;
    let session = Session::new(Capacity { connections: 1, requests: 1 }, PARAMS_BOUND);
    Exchange { connection, session, inbox: Inbox::new(), out: Vec::new(), greeted: false }.run(identity)
}

struct Exchange {
    connection: Connection,
    session: Session,
    inbox: Inbox,
    /// What is to be written next.
    out: Vec<u8>,
    /// Whether the client has said anything yet.
    greeted: bool,
}

/// The request under way.
struct Current {
    request: Request,
    page: Page,
    /// Bytes of the body so far.
    body: u64,
    /// The body, for `/echo`.
    kept: Vec<u8>,
}

impl Exchange {
    fn run(&mut self, identity: &mut Identity) -> io::Result<End> {
        let mut current: Option<Current> = None;
        loop {
            let Some((record, length)) = Record::first(self.inbox.bytes()).map_err(invalid)? else {
                if !self.fill()? {
                    return Ok(End::Closed);
                }
                continue;
            };
            match self.session.take(record, &mut self.out).map_err(invalid)? {
                Step::None => {}
                Step::Request(request) => {
                    identity.served += 1;
                    let page = Page::of(&request);
                    current = Some(Current { request, page, body: 0, kept: Vec::new() });
                }
                Step::Body(bytes) => {
                    if let Some(current) = &mut current {
                        current.body += bytes.len() as u64;
                        if current.page == Page::Echo && current.body <= ECHO_BOUND {
                            current.kept.extend_from_slice(bytes);
                        }
                    }
                }
                Step::EndOfBody => {
                    if let Some(current) = current.take()
                        && let Some(end) = self.answer(&current, identity)?
                    {
                        return Ok(end);
                    }
                }
                Step::Aborted => {
                    if current.take().is_some_and(|current| current.request.connection == Wish::Close) {
                        return self.send().map(|()| End::Closed);
                    }
                }
                Step::Refused => return self.send().map(|()| End::Closed),
            }
            self.inbox.consume(length);
            self.send()?;
        }
    }

    /// Reads more; `false` where the connection ends or is to end, without harm to any request.
    fn fill(&mut self) -> io::Result<bool> {
        let between_requests = self.session.is_idle() && self.inbox.bytes().is_empty();
        if !self.greeted {
            // Whoever has just connected wants something, stop signal or not; but not for ever.
            match self.inbox.read(&mut self.connection) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
                Ok(0) => return Ok(false),
                Ok(_) => {}
            }
            self.greeted = true;
            return self.connection.limit(PATIENCE, PATIENCE).map(|()| true);
        }
        if between_requests && self.connection.next()? == Next::Stop {
            return Ok(false);
        }
        match self.inbox.read(&mut self.connection)? {
            0 if between_requests => Ok(false),
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(true),
        }
    }

    /// Answers a request whose body is read; says how the connection ends if it does.
    fn answer(&mut self, current: &Current, identity: &Identity) -> io::Result<Option<End>> {
        let Current { request, page, body, kept } = current;
        match *page {
            Page::Crash => return Ok(Some(End::Crash)),
            Page::Echo if *body > ECHO_BOUND => self.page(request, &page::too_long(ECHO_BOUND)),
            Page::Echo => self.echo(request, kept)?,
            Page::Welcome => self.page(request, &page::welcome(request, identity, *body)),
            Page::Slow(span) => {
                pause(span);
                self.page(request, &page::welcome(request, identity, *body));
            }
            Page::Bytes(count) => self.bytes(request, count)?,
            Page::Missing => self.page(request, &page::missing()),
            Page::Wrong => self.page(request, &page::wrong()),
        }
        encode::end_stream(&mut self.out, RecordType::Stdout, request.id);
        encode::end_request(&mut self.out, request.id, 0, ProtocolStatus::RequestComplete);
        self.session.finish();
        self.send()?;
        Ok((request.connection == Wish::Close).then_some(End::Closed))
    }

    fn page(&mut self, request: &Request, answer: &Answer) {
        head(&mut self.out, request.id, answer.status, answer.content_type);
        if request.param("REQUEST_METHOD") != Some(b"HEAD") {
            encode::stream(&mut self.out, RecordType::Stdout, request.id, answer.body.as_bytes());
        }
    }

    fn echo(&mut self, request: &Request, body: &[u8]) -> io::Result<()> {
        head(&mut self.out, request.id, "200 OK", "application/octet-stream");
        for part in body.chunks(SAFE_CONTENT) {
            encode::stream(&mut self.out, RecordType::Stdout, request.id, part);
            self.send()?;
        }
        Ok(())
    }

    fn bytes(&mut self, request: &Request, count: u64) -> io::Result<()> {
        head(&mut self.out, request.id, "200 OK", "application/octet-stream");
        let block = [b'x'; SAFE_CONTENT];
        let mut left = if request.param("REQUEST_METHOD") == Some(b"HEAD") { 0 } else { count };
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(SAFE_CONTENT).min(SAFE_CONTENT);
            encode::stream(&mut self.out, RecordType::Stdout, request.id, &block[..length]);
            self.send()?;
            left -= length as u64;
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        self.connection.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }
}

fn head(out: &mut Vec<u8>, id: RequestId, status: &str, content_type: &str) {
    let head = format!(
        "Status: {status}\r\nContent-Type: {content_type}\r\nX-Content-Type-Options: nosniff\r\n\r\n"
    );
    encode::stream(out, RecordType::Stdout, id, head.as_bytes());
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What has come and is not taken yet.
struct Inbox {
    buffer: Box<[u8]>,
    taken: usize,
    filled: usize,
}

impl Inbox {
    /// Holds any record, with its header and padding.
    const ROOM: usize = 72 * 1024;

    fn new() -> Inbox {
        Inbox { buffer: vec![0; Self::ROOM].into_boxed_slice(), taken: 0, filled: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.taken..self.filled]
    }

    fn consume(&mut self, length: usize) {
        self.taken += length;
    }

    /// 0 at the end of the connection. There is room: a buffer that is full holds a record to take first.
    fn read(&mut self, connection: &mut Connection) -> io::Result<usize> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        loop {
            match connection.read(&mut self.buffer[self.filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(length) => {
                    self.filled += length;
                    return Ok(length);
                }
            }
        }
    }
}
