//! One client's connection: what it is waiting for, what it still has to be sent. Which requests there are is `intake`'s.

use std::fmt;
use std::time::Duration;

use super::active::Active;
use super::finished::Peer;
use super::slab::Key;
use super::spool::Spool;
use crate::fcgi::decode::Decoder;
use crate::fcgi::pairs::PairError;
use crate::fcgi::record::{RecordError, RecordType, RequestId};
use crate::ids::Moment;
use crate::os::stream::Stream;

/// Requests that a client may have at once on one connection.
pub const MOST_REQUESTS: usize = 256;

/// Bytes of parameters that a request may have.
pub const PARAMS_BOUND: usize = 1024 * 1024;

/// A client that has connected is given so much time to say what it wants, even where nobody is served any more.
pub const NEW: Duration = Duration::from_millis(300);

/// A connection to a client.
#[derive(Debug)]
pub struct Client {
    /// The connection.
    pub stream: Stream,
    /// Who it is.
    pub peer: Peer,
    /// Where in its records we are.
    pub decoder: Decoder,
    /// The record of fixed form, or of management, that is coming in.
    pub part: Vec<u8>,
    /// When it connected, until it has made a request.
    pub since: Option<Moment>,
    /// Its requests.
    pub active: Active,
    /// What it has still to be sent.
    pub out: Spool,
    /// How far that is sent.
    pub out_at: u64,
    /// What the event loop watches for.
    pub interest: Interest,
    /// Whether it is read from.
    pub reading: Reading,
    /// Whether it stays when its requests are answered.
    pub ending: Ending,
    /// When it last said something, or was last let.
    pub heard: Moment,
    /// Whether its send buffer has been raised.
    pub widened: bool,
}

/// What the event loop watches a connection for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Nothing: the connection is not registered.
    None,
    /// Something to read.
    Read,
    /// That, and room to write.
    Both,
}

/// Whether a connection is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Whenever there is something.
    Open,
    /// Not until what came has been passed on.
    Paused,
    /// It has said its last.
    Ended,
}

/// When a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// When the client closes it.
    Theirs,
    /// When its requests are answered.
    Ours,
    /// When its requests are answered and it has stopped sending.
    AfterInput,
}

impl Client {
    /// A connection that has just been accepted.
    pub fn new(stream: Stream, peer: Peer, now: Moment) -> Client {
        Client {
            stream,
            peer,
            decoder: Decoder::new(),
            part: Vec::new(),
            since: Some(now),
            active: Active::default(),
            out: Spool::default(),
            out_at: 0,
            interest: Interest::None,
            reading: Reading::Open,
            ending: Ending::Theirs,
            heard: now,
            widened: false,
        }
    }

    /// The request with this number.
    pub fn request(&self, id: RequestId) -> Option<Key> {
        self.active.iter().find(|(known, _)| *known == id).map(|(_, key)| key)
    }

    /// Whether it asks for nothing, is owed nothing and may ask again.
    pub fn is_at_rest(&self) -> bool {
        let is_quiet = self.part.is_empty() && self.decoder.is_between_records();
        let stays = self.ending == Ending::Theirs && self.reading == Reading::Open;
        self.active.is_empty() && self.is_flushed() && is_quiet && stays
    }

    /// Whether it may yet say what it wants.
    pub fn is_new(&self, now: Moment) -> bool {
        self.reading != Reading::Ended && self.since.is_some_and(|since| now.since(since) < NEW)
    }

    /// Whether everything that it was to be sent has been.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }
}

/// A client that does not keep to the protocol; its connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A record is malformed.
    Record(RecordError),
    /// A record of this type is out of order for its request, or not for a client to send.
    Unexpected(RecordType, RequestId),
    /// A request begins under the number of one that has not ended.
    Duplicate(RequestId),
    /// Parameters are cut.
    Params(PairError, RequestId),
    /// Parameters have not come as a whole in this time.
    Slow(Duration),
    /// Nothing has come for this time, in the middle of a request.
    Silent(Duration),
}

impl Violation {
    /// Whether the client has most likely begun with a word of another protocol, as HTTP does.
    pub fn is_another_protocol(&self) -> bool {
        match self {
            Violation::Record(RecordError::Version(version)) => version.is_ascii_alphabetic(),
            Violation::Record(RecordError::BodyLength(..))
            | Violation::Unexpected(..)
            | Violation::Duplicate(_)
            | Violation::Params(..)
            | Violation::Slow(_)
            | Violation::Silent(_) => false,
        }
    }
}

impl From<RecordError> for Violation {
    fn from(error: RecordError) -> Violation {
        Violation::Record(error)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Record(error) => error.fmt(f),
            Violation::Unexpected(kind, id) => {
                write!(f, "cannot go on with request {id}: a {kind} record is out of order")
            }
            Violation::Duplicate(id) => {
                write!(f, "cannot begin request {id}: one with this number has not ended yet")
            }
            Violation::Params(error, id) => write!(f, "cannot begin request {id}: {error}"),
            Violation::Slow(limit) => write!(f, "its parameters have not come within {limit:?}"),
            Violation::Silent(limit) => {
                write!(f, "it has said nothing for {limit:?}, and its request is not complete")
            }
        }
    }
}
