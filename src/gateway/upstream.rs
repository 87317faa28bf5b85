//! One connection to a worker: the request on it, what of that is still to be sent, and where in its answer we are.

use super::client::Interest;
use super::relay::Relay;
use super::slab::Key;
use crate::fcgi::record::RequestId;
use crate::ids::Moment;
use crate::os::stream::Stream;

/// The number of every request at a worker: there is one at a time on a connection.
pub const ID: RequestId = RequestId(1);

/// A connection to a worker.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub stream: Stream,
    /// Whose it is.
    pub slot: Key,
    /// The request on it; `None` while it is kept for the next.
    pub request: Option<Key>,
    /// Where in the worker's records we are.
    pub relay: Relay,
    /// Records that are to be sent next.
    pub out: Vec<u8>,
    /// How far they are.
    pub out_at: usize,
    /// What comes after them.
    pub upload: Upload,
    /// Bytes of the current request that were sent.
    pub written: u64,
    /// Whether the worker was asked to keep the connection.
    pub asked_to_keep: bool,
    /// Requests that were answered on it.
    pub served: u32,
    /// When the last one was.
    pub idle_since: Moment,
    /// What the event loop watches for.
    pub interest: Interest,
    /// Whether the worker has begun with the request.
    pub heard: Heard,
    /// Times that this was looked into for the current request.
    pub doubts: u8,
    /// Whether it is read from; not while its client has no room for more.
    pub paused: bool,
}

/// Whether a worker has begun with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nobody has asked: it is too early.
    Unknown,
    /// It does not seem so: the master takes the request back if it can. Until it has said so, the connection is left alone.
    Doubtful,
    /// It has, or will in its own time.
    Yes,
}

/// How far a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// So much of STDIN is sent.
    Stdin(u64),
    /// STDIN is sent, and so much of DATA.
    Data(u64),
    /// All is sent.
    Done,
    /// The worker wants no more of it; it may answer all the same.
    Refused,
}

impl Upstream {
    /// A new connection.
    pub fn new(stream: Stream, slot: Key, now: Moment) -> Upstream {
        Upstream {
            stream,
            slot,
            request: None,
            relay: Relay::default(),
            out: Vec::new(),
            out_at: 0,
            upload: Upload::Done,
            written: 0,
            asked_to_keep: false,
            served: 0,
            idle_since: now,
            interest: Interest::None,
            heard: Heard::Unknown,
            doubts: 0,
            paused: false,
        }
    }

    /// Whether what the worker says is read.
    pub fn is_read(&self) -> bool {
        !self.paused && self.heard != Heard::Doubtful
    }

    /// Whether all of the request is sent.
    pub fn is_sent(&self) -> bool {
        self.upload == Upload::Done && self.out_at == self.out.len()
    }
}
