//! One request on its way: from the first record that names it to the moment when it is over. Holds everything that is
//! needed to send it again.

use super::finished::WorkerName;
use super::head::{self, Summary};
use super::params::Params;
use super::rules::Repeatable;
use super::slab::Key;
use super::spool::Spool;
use crate::fcgi::body::{Connection, Role};
use crate::fcgi::decode::Record;
use crate::fcgi::record::{RecordType, RequestId};
use crate::ids::Moment;
use crate::os::clock::WallTime;
use crate::os::procfs::CpuTimes;

/// Memory for parameters that a request which is over leaves to the next one, bytes.
const KEPT_PARAMS: usize = 16 * 1024;

/// A request.
#[derive(Debug)]
pub struct Request {
    /// Whose it is, and under which number.
    pub client: Key,
    /// Its number on the client's connection.
    pub id: RequestId,
    /// What the client wants to happen to its connection afterwards.
    pub connection: Connection,
    /// What the worker is to be.
    pub role: Role,
    /// How far it is.
    pub stage: Stage,
    /// Its parameters.
    pub params: Params,
    /// Whether it may be sent twice.
    pub repeatable: Repeatable,
    /// STDIN.
    pub stdin: Body,
    /// DATA, of a Filter.
    pub data: Body,
    /// How its body goes to the worker.
    pub passage: Passage,
    /// When it began to arrive.
    pub arrived: Moment,
    /// The same on the wall clock.
    pub start: WallTime,
    /// When it began to wait for a worker.
    pub ready: Option<Moment>,
    /// When its (last) worker got it.
    pub dispatched: Option<Moment>,
    /// Its (last) worker.
    pub worker: Option<WorkerName>,
    /// Workers that it was given to.
    pub attempts: u32,
    /// Times that it was sent again.
    pub retries: u32,
    /// CPU time of its worker before, where somebody wants to know.
    pub cpu_before: Option<CpuTimes>,
    /// Whether it was reported as slow.
    pub slow: Told,
    /// What came of the answer.
    pub answer: Progress,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its parameters are coming in.
    Params,
    /// Its body is coming in.
    Body,
    /// It is for a page of ours, and waits for its turn.
    Paged,
    /// It waits for a worker.
    Queued,
    /// A worker has it, by this connection.
    Running(Key),
    /// No worker has it any more; its client is being told.
    Answered,
}

/// How a body goes to the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// In one go, once it is complete; it can be sent again.
    Whole,
    /// As it comes, since it may not or cannot be kept.
    Streaming,
}

/// Whether something was told already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Not yet.
    No,
    /// Once is enough.
    Yes,
}

/// A stream that the client sends.
#[derive(Debug, Default)]
pub struct Body {
    /// What came.
    pub spool: Spool,
    /// Whether that is all.
    pub complete: bool,
    /// Bytes that came in all; more than there are in the spool when they stream.
    pub total: u64,
}

/// What came of an answer so far.
#[derive(Debug, Default)]
pub struct Progress {
    /// The head, and what belongs to it of the body's first bytes; at most `head::BOUND`.
    head: Vec<u8>,
    summary: Option<Summary>,
    /// Bytes of STDOUT.
    stdout: u64,
    /// Bytes of anything.
    any: u64,
    /// Records that are held back while the head is not complete.
    pub held: Vec<u8>,
    /// Whether the client has been sent anything.
    pub begun: bool,
}

impl Request {
    /// A request whose first record has come.
    pub fn new() -> Request {
        Request {
            client: Key::unpack(0),
            id: RequestId::MANAGEMENT,
            connection: Connection::Close,
            role: Role::Responder,
            stage: Stage::Params,
            params: Params::default(),
            repeatable: Repeatable::No,
            stdin: Body::default(),
            data: Body::default(),
            passage: Passage::Whole,
            arrived: Moment(std::time::Duration::ZERO),
            start: WallTime { seconds: 0, micros: 0 },
            ready: None,
            dispatched: None,
            worker: None,
            attempts: 0,
            retries: 0,
            cpu_before: None,
            slow: Told::No,
            answer: Progress::default(),
        }
    }

    /// Makes it new, and keeps its memory within bounds.
    pub fn recycle(&mut self) {
        self.stage = Stage::Params;
        self.params.clear(KEPT_PARAMS);
        self.stdin.clear();
        self.data.clear();
        self.passage = Passage::Whole;
        self.ready = None;
        self.dispatched = None;
        self.worker = None;
        self.attempts = 0;
        self.retries = 0;
        self.cpu_before = None;
        self.slow = Told::No;
        self.answer.clear();
        self.answer.held.shrink_to(KEPT_PARAMS);
    }

    /// Whether all that its role needs is there.
    pub fn is_complete(&self) -> bool {
        match (self.stage, self.role) {
            (Stage::Params, _) => false,
            (_, Role::Authorizer) => true,
            (_, Role::Filter) => self.stdin.complete && self.data.complete,
            (_, Role::Responder | Role::Other(_)) => self.stdin.complete,
        }
    }

    /// Whether its worker has to be told the length of its body, which its client has not (`Transfer-Encoding: chunked`).
    /// Workers read no more than CONTENT_LENGTH says, so that php-cgi and its like would take it for empty (RFC 3875, 4.1.2).
    pub fn needs_length(&self) -> bool {
        self.role == Role::Responder && self.params.content_length().is_none()
    }

    /// The stream of this type.
    pub fn body(&mut self, kind: RecordType) -> &mut Body {
        if kind == RecordType::Data { &mut self.data } else { &mut self.stdin }
    }

    /// Whether there is more of its body than there may be.
    pub fn is_overfull(&self) -> bool {
        self.stdin.spool.is_overfull() || self.data.spool.is_overfull()
    }

    /// Bytes of the body that came.
    pub fn bytes_in(&self) -> u64 {
        self.stdin.total + self.data.total
    }
}

impl Default for Request {
    fn default() -> Request {
        Request::new()
    }
}

impl Body {
    fn clear(&mut self) {
        self.spool.clear();
        self.complete = false;
        self.total = 0;
    }
}

impl Progress {
    /// Content of the worker's STDOUT or STDERR.
    pub fn see(&mut self, kind: RecordType, content: &[u8]) {
        self.any += content.len() as u64;
        if kind != RecordType::Stdout {
            return;
        }
        self.stdout += content.len() as u64;
        if self.is_past_head() {
            return;
        }
        let room = head::BOUND - self.head.len();
        self.head.extend_from_slice(&content[..content.len().min(room)]);
        self.summary = head::summary(&self.head);
        if let Some(summary) = self.summary {
            self.head.truncate(summary.length);
        }
    }

    /// Whether the head is complete, or so long that nobody waits for its end.
    pub fn is_past_head(&self) -> bool {
        self.summary.is_some() || self.head.len() >= head::BOUND
    }

    /// Bytes of anything that came from the worker.
    pub fn any(&self) -> u64 {
        self.any
    }

    /// Its status; 0 where there was no head.
    pub fn status(&self) -> u16 {
        self.summary.map_or(0, |summary| summary.status)
    }

    /// The head; empty where there was none.
    pub fn head(&self) -> &[u8] {
        if self.summary.is_some() { &self.head } else { &[] }
    }

    /// Bytes of the body.
    pub fn body(&self) -> u64 {
        self.stdout.saturating_sub(self.summary.map_or(0, |summary| summary.length as u64))
    }

    /// Moves what the worker has said into STDERR and is held back to `out`: it is told whatever becomes of the answer.
    pub fn tell_errors(&mut self, out: &mut Vec<u8>) {
        let mut rest = &self.held[..];
        // Only whole records are held back.
        while let Ok(Some((record, length))) = Record::first(rest) {
            if record.header.kind == RecordType::Stderr {
                out.extend_from_slice(&rest[..length]);
            }
            rest = &rest[length..];
        }
        self.held.clear();
    }

    /// Forgets everything but memory.
    pub fn clear(&mut self) {
        self.head.clear();
        self.held.clear();
        self.summary = None;
        (self.stdout, self.any, self.begun) = (0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_found_however_it_comes() {
        for step in 1..40 {
            let mut progress = Progress::default();
            for part in b"Status: 404 x\r\nA: b\r\n\r\nbody".chunks(step) {
                progress.see(RecordType::Stderr, b"!");
                progress.see(RecordType::Stdout, part);
            }
            assert_eq!((progress.status(), progress.body()), (404, 4));
            assert_eq!(progress.head(), b"Status: 404 x\r\nA: b\r\n\r\n");
        }
    }

    #[test]
    fn an_endless_head_is_waited_for_no_longer() {
        let mut progress = Progress::default();
        for _ in 0..17 {
            assert!(!progress.is_past_head() || progress.stdout >= head::BOUND as u64);
            progress.see(RecordType::Stdout, &[b'x'; 1024]);
        }
        assert!(progress.is_past_head() && progress.head().is_empty());
        assert_eq!((progress.status(), progress.body()), (0, 17 * 1024));
    }

    #[test]
    fn each_role_is_complete_in_its_own_time() {
        let mut request = Request { stage: Stage::Body, ..Request::new() };
        assert!(!request.is_complete());
        request.role = Role::Authorizer;
        assert!(request.is_complete());
        request.role = Role::Filter;
        request.body(RecordType::Stdin).complete = true;
        assert!(!request.is_complete());
        request.body(RecordType::Data).complete = true;
        assert!(request.is_complete());
        request.recycle();
        assert!(!request.is_complete());
    }
}
