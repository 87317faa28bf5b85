//! The application's side of one connection, one request at a time: records in, steps and replies out (FastCGI 1.0,
//! sections 4 and 5). Answers management records, refuses what cannot be served, and leaves response and closing to
//! the caller, who says with `finish` when a request is answered.

use std::fmt;

use super::body::{BeginRequest, Connection, ProtocolStatus, Role};
use super::decode::Record;
use super::encode;
use super::pairs::{Gathered, PairError, Pairs};
use super::record::{RecordError, RecordType, RequestId};

/// What the application can do at the same time, as GET_VALUES tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// FCGI_MAX_CONNS.
    pub connections: u32,
    /// FCGI_MAX_REQS.
    pub requests: u32,
}

/// The state of a connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    capacity: Capacity,
    params_bound: usize,
}

#[derive(Debug)]
enum State {
    Idle,
    Params {
        request: Request,
    },
    Body {
        id: RequestId,
    },
    /// The body is read; the caller is at work.
    Working {
        id: RequestId,
    },
}

/// A request whose parameters are complete.
#[derive(Debug)]
pub struct Request {
    /// Its number on the connection.
    pub id: RequestId,
    /// Who closes the connection after it.
    pub connection: Connection,
    params: Gathered,
}

impl Request {
    /// The parameters in their order.
    pub fn params(&self) -> Pairs<'_> {
        self.params.pairs()
    }

    /// The value of the last parameter with this name, as a CGI environment would have it.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        let named = self.params().filter_map(Result::ok).filter(|(key, _)| *key == name.as_bytes());
        named.map(|(_, value)| value).last()
    }
}

/// What a record means for the caller.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing, but there may be replies to send.
    None,
    /// A request has come; its body follows.
    Request(Request),
    /// The next bytes of the body.
    Body(&'a [u8]),
    /// The body is complete: answer the request, then call `finish`.
    EndOfBody,
    /// The web server wants no answer. The END_REQUEST is among the replies; the session is ready for another request.
    Aborted,
    /// A request was refused, and the web server asked for the connection to be closed after it.
    Refused,
}

/// A web server that does not keep to the protocol. The connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionError {
    /// A record is malformed.
    Record(RecordError),
    /// The parameters are malformed or too long.
    Params(PairError),
    /// A record of this type is out of order.
    Unexpected(RecordType),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Record(error) => error.fmt(f),
            SessionError::Params(error) => error.fmt(f),
            SessionError::Unexpected(kind) => {
                write!(f, "cannot go on with a FastCGI connection: {kind} is out of order")
            }
        }
    }
}

impl std::error::Error for SessionError {}

impl From<RecordError> for SessionError {
    fn from(error: RecordError) -> SessionError {
        SessionError::Record(error)
    }
}

impl From<PairError> for SessionError {
    fn from(error: PairError) -> SessionError {
        SessionError::Params(error)
    }
}

impl Session {
    /// A new connection. All parameters of a request together may have `params_bound` bytes.
    pub fn new(capacity: Capacity, params_bound: usize) -> Session {
        Session { state: State::Idle, capacity, params_bound }
    }

    /// Whether no request is under way: the connection may be closed without harm.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Takes the next record; appends to `replies` what must go out at once.
    ///
    /// # Errors
    /// The peer broke the protocol; close the connection.
    pub fn take<'a>(&mut self, record: Record<'a>, replies: &mut Vec<u8>) -> Result<Step<'a>, SessionError> {
        let (kind, id) = (record.header.kind, record.header.request);
        if id == RequestId::MANAGEMENT {
            return self.manage(kind, record.content, replies);
        }
        match kind {
            RecordType::BeginRequest => self.begin(id, BeginRequest::decode(record.content)?, replies),
            RecordType::AbortRequest => Ok(self.abort(id, replies)),
            RecordType::Params => self.params(id, record.content),
            RecordType::Stdin => self.stdin(id, record.content),
            // DATA belongs to a Filter, which is refused: what its server sends meanwhile is not for an active request.
            RecordType::Data => Ok(Step::None),
            RecordType::EndRequest
            | RecordType::Stdout
            | RecordType::Stderr
            | RecordType::GetValues
            | RecordType::GetValuesResult
            | RecordType::UnknownType
            | RecordType::Other(_) => Err(SessionError::Unexpected(kind)),
        }
    }

    /// The request under way is answered.
    pub fn finish(&mut self) {
        self.state = State::Idle;
    }

    fn active(&self) -> Option<RequestId> {
        match &self.state {
            State::Idle => None,
            State::Params { request } => Some(request.id),
            State::Body { id } | State::Working { id } => Some(*id),
        }
    }

    fn begin<'a>(
        &mut self,
        id: RequestId,
        begin: BeginRequest,
        replies: &mut Vec<u8>,
    ) -> Result<Step<'a>, SessionError> {
        let refusal = match (self.active(), begin.role) {
            (Some(active), _) if active == id => {
                return Err(SessionError::Unexpected(RecordType::BeginRequest));
            }
            (Some(_), _) => Some(ProtocolStatus::CantMultiplex),
            (None, Role::Responder) => None,
            (None, Role::Authorizer | Role::Filter | Role::Other(_)) => Some(ProtocolStatus::UnknownRole),
        };
        if let Some(status) = refusal {
            encode::end_request(replies, id, 0, status);
            let closes = self.is_idle() && begin.connection == Connection::Close;
            return Ok(if closes { Step::Refused } else { Step::None });
        }
        let params = Gathered::new(self.params_bound);
        self.state = State::Params { request: Request { id, connection: begin.connection, params } };
        Ok(Step::None)
    }

    fn abort<'a>(&mut self, id: RequestId, replies: &mut Vec<u8>) -> Step<'a> {
        if self.active() != Some(id) {
            return Step::None;
        }
        self.state = State::Idle;
        encode::end_request(replies, id, 0, ProtocolStatus::RequestComplete);
        Step::Aborted
    }

    fn params<'a>(&mut self, id: RequestId, content: &[u8]) -> Result<Step<'a>, SessionError> {
        if self.active() != Some(id) {
            return Ok(Step::None); // of a request that was refused
        }
        let State::Params { request } = &mut self.state else {
            return Err(SessionError::Unexpected(RecordType::Params));
        };
        if !content.is_empty() {
            request.params.push(content)?;
            return Ok(Step::None);
        }
        request.params().find_map(Result::err).map_or(Ok(()), Err)?;
        match std::mem::replace(&mut self.state, State::Body { id }) {
            State::Params { request } => Ok(Step::Request(request)),
            State::Idle | State::Body { .. } | State::Working { .. } => Ok(Step::None), // ruled out above
        }
    }

    fn stdin<'a>(&mut self, id: RequestId, content: &'a [u8]) -> Result<Step<'a>, SessionError> {
        match &self.state {
            State::Body { id: active } if *active == id && content.is_empty() => {
                self.state = State::Working { id };
                Ok(Step::EndOfBody)
            }
            State::Body { id: active } if *active == id => Ok(Step::Body(content)),
            State::Params { request } if request.id == id => Err(SessionError::Unexpected(RecordType::Stdin)),
            State::Working { id: active } if *active == id => {
                Err(SessionError::Unexpected(RecordType::Stdin))
            }
            State::Idle | State::Params { .. } | State::Body { .. } | State::Working { .. } => Ok(Step::None),
        }
    }

    fn manage<'a>(
        &self,
        kind: RecordType,
        content: &[u8],
        replies: &mut Vec<u8>,
    ) -> Result<Step<'a>, SessionError> {
        if kind != RecordType::GetValues {
            encode::unknown_type(replies, kind);
            return Ok(Step::None);
        }
        let known = [
            ("FCGI_MAX_CONNS", self.capacity.connections.to_string()),
            ("FCGI_MAX_REQS", self.capacity.requests.to_string()),
            ("FCGI_MPXS_CONNS", "0".to_owned()),
        ];
        let mut asked = [false; 3];
        for pair in Pairs::new(content) {
            let (name, _) = pair?;
            for (asked, _) in asked.iter_mut().zip(&known).filter(|(_, known)| known.0.as_bytes() == name) {
                *asked = true;
            }
        }
        let answers = asked.iter().zip(&known).filter(|(asked, _)| **asked);
        let pairs = answers.map(|(_, (name, value))| (name.as_bytes(), value.as_bytes()));
        encode::values(replies, RecordType::GetValuesResult, pairs)?;
        Ok(Step::None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::fcgi::body::EndRequest;
    use crate::fcgi::record::Header;

    fn session() -> Session {
        Session::new(Capacity { connections: 4, requests: 4 }, 1000)
    }

    /// Runs every record in `bytes`; the steps as words, and the replies.
    fn run(session: &mut Session, mut bytes: &[u8]) -> (Vec<String>, Vec<u8>) {
        let (mut steps, mut replies) = (Vec::new(), Vec::new());
        while let Some((record, length)) = Record::first(bytes).unwrap() {
            match session.take(record, &mut replies) {
                Ok(Step::None) => {}
                Ok(Step::Request(request)) => {
                    let value = String::from_utf8_lossy(request.param("A").unwrap_or_default()).into_owned();
                    steps.push(format!("request {} A={value} {:?}", request.id, request.connection));
                }
                Ok(Step::Body(bytes)) => steps.push(format!("body {}", bytes.len())),
                Ok(Step::EndOfBody) => steps.push("end of body".into()),
                Ok(Step::Aborted) => steps.push("aborted".into()),
                Ok(Step::Refused) => steps.push("refused".into()),
                Err(error) => steps.push(error.to_string()),
            }
            bytes = &bytes[length..];
        }
        assert!(bytes.is_empty());
        (steps, replies)
    }

    fn begin(role: Role, connection: Connection) -> BeginRequest {
        BeginRequest { role, connection }
    }

    fn request(id: u16, role: Role, connection: Connection) -> Vec<u8> {
        let mut out = Vec::new();
        let pairs = [(&b"A"[..], &b"first"[..]), (b"A", b"last")];
        encode::request(&mut out, RequestId(id), &begin(role, connection), pairs, b"xyz").unwrap();
        out
    }

    fn end_of(replies: &[u8]) -> (u16, ProtocolStatus) {
        let (record, length) = Record::first(replies).unwrap().unwrap();
        assert_eq!((record.header.kind, length), (RecordType::EndRequest, replies.len()));
        (record.header.request.0, EndRequest::decode(record.content).unwrap().protocol_status)
    }

    #[test]
    fn requests_follow_each_other_on_a_kept_connection() {
        let mut session = session();
        for id in [1, 7] {
            let (steps, replies) = run(&mut session, &request(id, Role::Responder, Connection::Keep));
            assert_eq!(steps, [&format!("request {id} A=last Keep"), "body 3", "end of body"]);
            assert!(replies.is_empty());
            assert!(!session.is_idle());
            session.finish();
        }
    }

    #[test]
    fn other_roles_are_refused_and_their_streams_ignored() {
        for role in [Role::Authorizer, Role::Filter, Role::Other(9)] {
            let mut session = session();
            let (steps, replies) = run(&mut session, &request(1, role, Connection::Keep));
            assert!(steps.is_empty());
            assert_eq!(end_of(&replies), (1, ProtocolStatus::UnknownRole));
            let (steps, _) = run(&mut session, &request(1, role, Connection::Close));
            assert_eq!(steps, ["refused"]);
            assert!(session.is_idle());
        }
    }

    #[test]
    fn a_second_request_at_the_same_time_is_refused() {
        let mut session = session();
        run(&mut session, &request(1, Role::Responder, Connection::Keep));
        let (steps, replies) = run(&mut session, &request(2, Role::Responder, Connection::Close));
        assert!(steps.is_empty(), "{steps:?}");
        assert_eq!(end_of(&replies), (2, ProtocolStatus::CantMultiplex));
        let (steps, _) = run(&mut session, &request(1, Role::Responder, Connection::Keep));
        assert!(steps[0].contains("BEGIN_REQUEST is out of order"), "{steps:?}");
    }

    #[test]
    fn an_aborted_request_ends_at_once() {
        let mut session = session();
        let mut bytes = Vec::new();
        encode::begin_request(&mut bytes, RequestId(3), &begin(Role::Responder, Connection::Keep));
        encode::end_stream(&mut bytes, RecordType::AbortRequest, RequestId(4));
        encode::end_stream(&mut bytes, RecordType::AbortRequest, RequestId(3));
        let (steps, replies) = run(&mut session, &bytes);
        assert_eq!(steps, ["aborted"]);
        assert_eq!(end_of(&replies), (3, ProtocolStatus::RequestComplete));
        assert!(session.is_idle());
    }

    #[test]
    fn values_are_answered_so_far_as_they_are_known() {
        let mut bytes = Vec::new();
        let names: [(&[u8], &[u8]); 2] = [(b"FCGI_MPXS_CONNS", b""), (b"FCGI_OTHER", b"")];
        encode::values(&mut bytes, RecordType::GetValues, names).unwrap();
        let (_, replies) = run(&mut session(), &bytes);
        let (record, _) = Record::first(&replies).unwrap().unwrap();
        assert_eq!(record.header.kind, RecordType::GetValuesResult);
        let pairs: Vec<_> = Pairs::new(record.content).collect();
        assert_eq!(pairs, [Ok((&b"FCGI_MPXS_CONNS"[..], &b"0"[..]))]);
    }

    #[test]
    fn unknown_management_records_are_answered() {
        let mut bytes = Vec::new();
        encode::end_stream(&mut bytes, RecordType::Other(100), RequestId::MANAGEMENT);
        let (_, replies) = run(&mut session(), &bytes);
        assert_eq!(Record::first(&replies).unwrap().unwrap().0.header.kind, RecordType::UnknownType);
        assert_eq!(replies[8], 100);
    }

    #[test]
    fn disorder_and_excess_are_errors() {
        let id = RequestId(1);
        let mut started = Vec::new();
        encode::begin_request(&mut started, id, &begin(Role::Responder, Connection::Keep));
        let with = |kind, content: &[u8]| {
            let mut bytes = started.clone();
            encode::stream(&mut bytes, kind, id, content);
            run(&mut session(), &bytes).0.join(" ")
        };
        assert!(with(RecordType::Stdin, b"x").contains("STDIN is out of order"));
        assert!(with(RecordType::Stdout, b"x").contains("STDOUT is out of order"));
        assert!(with(RecordType::Params, &[0; 1001]).contains("longer than 1000 bytes"));

        let mut bytes = started.clone();
        encode::stream(&mut bytes, RecordType::Params, id, &[200]);
        encode::end_stream(&mut bytes, RecordType::Params, id);
        assert!(run(&mut session(), &bytes).0[0].contains("longer than its record"));
    }

    proptest! {
        #[test]
        fn any_records_in_any_order_never_panic(records in vec((0u8..13, 0u16..3, vec(0u8..4, 0..10)), 0..30)) {
            let mut session = session();
            let mut replies = Vec::new();
            for (kind, request, content) in &records {
                let header = Header {
                    kind: RecordType::from_wire(*kind),
                    request: RequestId(*request),
                    content: u16::try_from(content.len()).unwrap(),
                    padding: 0,
                };
                if session.take(Record { header, content }, &mut replies).is_err() {
                    break;
                }
            }
        }
    }
}
