//! What clients send: records become requests, abort them, ask for values. Every rule of the protocol that a client can
//! break is here (FastCGI 1.0, sections 3 to 5); a broken one closes its connection with one log line.

use nix::errno::Errno;

use super::answer::Answer;
use super::client::{Client, Ending, Interest, MOST_REQUESTS, PARAMS_BOUND, Reading, Violation};
use super::core::{AT_A_TURN, Gateway, Token};
use super::finished::Outcome;
use super::output::{MOST_FILED, NO_FILE};
use super::request::{Passage, Stage};
use super::rules::Repeatable;
use super::slab::Key;
use super::spool::Bounds;
use crate::fcgi::body::{BeginRequest, Connection, ProtocolStatus, Role};
use crate::fcgi::decode::{Fragment, Place};
use crate::fcgi::encode;
use crate::fcgi::pairs::{self, Pairs};
use crate::fcgi::record::{RecordType, RequestId, SAFE_CONTENT};
use crate::os::stream::Presence;

/// Bytes of a streaming body that wait for their worker before the client has to wait.
pub const STREAM_WINDOW: u64 = 256 * 1024;

/// What is said of a client that may well have come to the right pool.
const ANOTHER_PROTOCOL: &str =
    "; a pool that speaks another protocol, such as HTTP, needs dispatch = \"direct\"";

impl Gateway {
    /// An event about a client. `ended`: it has stopped sending, so what is there is read to its end.
    pub(super) fn client_ready(&mut self, key: Key, event: &mio::event::Event, buffer: &mut [u8]) {
        if event.is_writable() {
            self.flush_client(key);
        }
        let ended = event.is_read_closed() || event.is_error();
        if ended && self.has_hung_up(key) {
            self.lose_client(key);
        } else if event.is_readable() || ended {
            self.read_client(key, buffer, ended);
        }
    }

    /// Whether a client has gone that is not read from, and whose end no read would tell.
    fn has_hung_up(&self, key: Key) -> bool {
        let client = self.clients.get(key).filter(|client| client.reading != Reading::Open);
        client.is_some_and(|client| client.stream.presence() == Presence::Gone)
    }

    /// Reads what a client has sent: until a read comes short, or, with `to_the_end`, until there is nothing more; but not
    /// for longer than its turn.
    pub(super) fn read_client(&mut self, key: Key, buffer: &mut [u8], to_the_end: bool) {
        for _ in 0..AT_A_TURN {
            let client = self.clients.get_mut(key).filter(|client| client.reading == Reading::Open);
            let Some(client) = client else { return };
            match client.stream.read(buffer) {
                Ok(0) => return self.client_ended(key),
                Ok(count) => {
                    client.heard = self.now;
                    if let Err(violation) = self.intake(key, &buffer[..count]) {
                        return self.expel(key, &violation);
                    }
                    if count < buffer.len() && !to_the_end {
                        return self.mind(key);
                    }
                }
                Err(Errno::EAGAIN) => return self.mind(key),
                Err(_) => return self.lose_client(key),
            }
        }
        self.again.push(Token::Client(key));
    }

    /// A client has said its last: it may still listen.
    fn client_ended(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.reading = Reading::Ended;
        client.ending = Ending::Ours;
        let gone = client.stream.presence() == Presence::Gone;
        let waiting = |(_, at)| self.requests.get(at).is_some_and(|request| request.is_complete());
        // A request that will never be complete has nobody to answer it for.
        if gone || !client.active.iter().all(waiting) {
            return self.lose_client(key);
        }
        self.settle(key);
    }

    pub(super) fn expel(&mut self, key: Key, violation: &Violation) {
        self.counters.refused_protocol += 1;
        let peer = self.peer_of(key);
        let hint = if violation.is_another_protocol() { ANOTHER_PROTOCOL } else { "" };
        ::log::warn!("[pool {}] closed the connection from {peer}: {violation}{hint}", self.settings.pool);
        self.lose_client(key);
    }

    fn intake(&mut self, key: Key, mut bytes: &[u8]) -> Result<(), Violation> {
        let Some(client) = self.clients.get_mut(key) else { return Ok(()) };
        let mut decoder = std::mem::take(&mut client.decoder);
        while let Some(fragment) = decoder.next(&mut bytes)? {
            self.fragment(key, &fragment)?;
            if self.clients.get(key).is_none() {
                return Ok(());
            }
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.decoder = decoder;
        }
        Ok(())
    }

    fn fragment(&mut self, key: Key, fragment: &Fragment<'_>) -> Result<(), Violation> {
        let (kind, id) = (fragment.header.kind, fragment.header.request);
        if id == RequestId::MANAGEMENT {
            return self.manage(key, fragment);
        }
        match kind {
            RecordType::BeginRequest => self.begin(key, fragment),
            RecordType::AbortRequest => {
                if fragment.place == Place::Last {
                    self.abort(key, id);
                }
                Ok(())
            }
            RecordType::Params => self.params(key, fragment),
            RecordType::Stdin | RecordType::Data => self.body(key, fragment),
            RecordType::EndRequest
            | RecordType::Stdout
            | RecordType::Stderr
            | RecordType::GetValues
            | RecordType::GetValuesResult
            | RecordType::UnknownType
            | RecordType::Other(_) => Err(Violation::Unexpected(kind, id)),
        }
    }

    /// Puts a short record together; the whole content once it is there. Only what is bounded by its record comes here.
    fn gather(client: &mut Client, fragment: &Fragment<'_>) -> Option<Vec<u8>> {
        client.part.extend_from_slice(fragment.content);
        (fragment.place == Place::Last).then(|| std::mem::take(&mut client.part))
    }

    fn begin(&mut self, key: Key, fragment: &Fragment<'_>) -> Result<(), Violation> {
        let id = fragment.header.request;
        let Some(client) = self.clients.get_mut(key) else { return Ok(()) };
        let begin = if fragment.place == Place::Last && client.part.is_empty() {
            BeginRequest::decode(fragment.content)?
        } else {
            match Gateway::gather(client, fragment) {
                Some(content) => BeginRequest::decode(&content)?,
                None => return Ok(()),
            }
        };
        if client.request(id).is_some() {
            return Err(Violation::Duplicate(id));
        }
        if begin.connection == Connection::Close {
            client.ending = Ending::Ours;
        }
        let refusal = match begin.role {
            Role::Other(_) => Some(ProtocolStatus::UnknownRole),
            Role::Responder | Role::Authorizer | Role::Filter if client.active.len() >= MOST_REQUESTS => {
                Some(ProtocolStatus::Overloaded)
            }
            Role::Responder | Role::Authorizer | Role::Filter => None,
        };
        if let Some(status) = refusal {
            self.reply(key, MOST_FILED, |out| encode::end_request(out, id, 0, status));
            self.settle(key);
            return Ok(());
        }
        let mut request = self.fresh_request();
        (request.client, request.id, request.role) = (key, id, begin.role);
        request.connection = begin.connection;
        (request.arrived, request.start) = (self.now, self.wall);
        let request = self.requests.insert(request);
        if let Some(client) = self.clients.get_mut(key) {
            client.since = None;
            client.active.push(id, request);
        }
        Ok(())
    }

    fn active(&self, key: Key, id: RequestId) -> Option<Key> {
        self.clients.get(key)?.request(id)
    }

    fn params(&mut self, key: Key, fragment: &Fragment<'_>) -> Result<(), Violation> {
        let id = fragment.header.request;
        // Of a request that was refused or is over: to be ignored, as the specification has it.
        let Some(client) = self.clients.get(key) else { return Ok(()) };
        let (Some(at), together) = (client.request(id), client.active.len()) else { return Ok(()) };
        let Some(request) = self.requests.get_mut(at) else { return Ok(()) };
        if request.stage != Stage::Params {
            return Err(Violation::Unexpected(RecordType::Params, id));
        }
        if fragment.header.content == 0 {
            return self.head_complete(at);
        }
        // So that all of a connection's requests together do not take what each of them may.
        let bound = (PARAMS_BOUND / together.max(1)).max(SAFE_CONTENT);
        if request.params.push(fragment.content, bound).is_err() {
            request.params.clear(0);
            self.counters.accepted += 1;
            self.log_oversized(key, id, bound);
            self.answer(at, Answer::HeadTooLarge, Outcome::Rejected);
        }
        Ok(())
    }

    fn head_complete(&mut self, at: Key) -> Result<(), Violation> {
        let Some(request) = self.requests.get_mut(at) else { return Ok(()) };
        let (key, id) = (request.client, request.id);
        request.params.check().map_err(|error| Violation::Params(error, id))?;
        request.stage = Stage::Body;
        request.repeatable = Repeatable::of(request.params.method());
        let large = request.params.as_bytes().len() > SAFE_CONTENT;
        let too_long = |pair: Result<(&[u8], &[u8]), _>| {
            pair.is_ok_and(|(name, value)| pairs::encoded_length(name, value) > SAFE_CONTENT)
        };
        let unfit = large && request.params.pairs().any(too_long);
        self.counters.accepted += 1;
        if unfit {
            self.log_oversized(key, id, SAFE_CONTENT);
            self.answer(at, Answer::HeadTooLarge, Outcome::Rejected);
            return Ok(());
        }
        self.proceed(at);
        Ok(())
    }

    fn log_oversized(&self, key: Key, id: RequestId, bound: usize) {
        let (pool, peer) = (&self.settings.pool, self.peer_of(key));
        ::log::warn!("[pool {pool}] refused request {id} from {peer}: its parameters exceed {bound} bytes");
    }

    fn body(&mut self, key: Key, fragment: &Fragment<'_>) -> Result<(), Violation> {
        let (kind, id) = (fragment.header.kind, fragment.header.request);
        let Some(at) = self.active(key, id) else { return Ok(()) };
        let Some(request) = self.requests.get_mut(at) else { return Ok(()) };
        if request.stage == Stage::Params {
            return Err(Violation::Unexpected(kind, id));
        }
        // DATA is for a Filter, and an Authorizer has no body: what comes all the same is nobody's.
        let wanted = match request.role {
            Role::Filter => true,
            Role::Authorizer => false,
            Role::Responder | Role::Other(_) => kind == RecordType::Stdin,
        };
        if !wanted {
            return Ok(());
        }
        if request.body(kind).complete {
            return Err(Violation::Unexpected(kind, id));
        }
        if fragment.header.content == 0 {
            request.body(kind).complete = true;
        } else {
            self.keep_body(at, kind, fragment.content);
        }
        self.proceed(at);
        Ok(())
    }

    /// Puts a piece of a body where it waits for its worker.
    fn keep_body(&mut self, at: Key, kind: RecordType, content: &[u8]) {
        let streams = self.settings.request_buffer == 0;
        let whole = Bounds {
            directory: &self.settings.buffer_directory,
            memory: self.settings.request_buffer,
            file: u64::MAX,
        };
        let Some(request) = self.requests.get_mut(at) else { return };
        if streams {
            request.passage = Passage::Streaming;
        }
        let passage = request.passage;
        let body = request.body(kind);
        body.total += content.len() as u64;
        let bounds = match passage {
            Passage::Whole => whole,
            Passage::Streaming => Bounds { memory: STREAM_WINDOW, file: 0, ..whole },
        };
        let Err(refusal) = body.spool.push(content, &bounds) else { return };
        body.spool.force(content);
        if passage == Passage::Whole && kind == RecordType::Stdin && request.needs_length() {
            self.tell_no_room("a request's body", &refusal, "the request is refused");
            return self.answer(at, Answer::NoRoom, Outcome::Rejected);
        }
        let client = request.client;
        if passage == Passage::Whole {
            // Without a place for the rest the worker gets what there is, and the client waits until it has taken it.
            request.passage = Passage::Streaming;
            self.tell_no_room("a request's body", &refusal, "it is streamed");
        }
        if let Some(client) = self.clients.get_mut(client) {
            client.reading = Reading::Paused;
        }
    }

    /// Takes a request a step further, if it can go one.
    fn proceed(&mut self, at: Key) {
        let Some(request) = self.requests.get(at) else { return };
        let streams = request.passage == Passage::Streaming || self.settings.request_buffer == 0;
        match request.stage {
            Stage::Body if streams || request.is_complete() => self.submit(at),
            // Whatever settings are now: it was given to its worker before it was complete.
            Stage::Running(upstream) => self.pump(upstream),
            Stage::Params | Stage::Body | Stage::Paged | Stage::Queued | Stage::Answered => {}
        }
    }

    fn abort(&mut self, key: Key, id: RequestId) {
        let Some(at) = self.active(key, id) else { return };
        self.cancel(at);
        self.reply(key, MOST_FILED, |out| {
            encode::end_request(out, id, 0, ProtocolStatus::RequestComplete);
        });
        self.settle(key);
    }

    fn manage(&mut self, key: Key, fragment: &Fragment<'_>) -> Result<(), Violation> {
        let kind = fragment.header.kind;
        let Some(client) = self.clients.get_mut(key) else { return Ok(()) };
        if kind != RecordType::GetValues {
            if fragment.place == Place::Last {
                self.reply(key, NO_FILE, |out| encode::unknown_type(out, kind));
            }
            return Ok(());
        }
        let Some(content) = Gateway::gather(client, fragment) else { return Ok(()) };
        let room = self.settings.queue_limit.saturating_add(self.settings.concurrency);
        let room = room.saturating_add(self.facts.max_children).to_string();
        let known = [("FCGI_MAX_CONNS", room.as_str()), ("FCGI_MAX_REQS", &room), ("FCGI_MPXS_CONNS", "1")];
        let mut asked = [false; 3];
        for pair in Pairs::new(&content) {
            let (name, _) = pair.map_err(|error| Violation::Params(error, RequestId::MANAGEMENT))?;
            for (asked, (known, _)) in asked.iter_mut().zip(&known) {
                *asked |= known.as_bytes() == name;
            }
        }
        let answers = asked.iter().zip(&known).filter(|(asked, _)| **asked);
        let pairs = answers.map(|(_, (name, value))| (name.as_bytes(), value.as_bytes()));
        self.reply(key, NO_FILE, |out| {
            let _ = encode::values(out, RecordType::GetValuesResult, pairs); // three short pairs fit
        });
        Ok(())
    }

    /// Sends a client something short of ours.
    fn reply(&mut self, key: Key, most_filed: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        write(&mut message);
        self.emit_within(key, &message, most_filed);
        self.message = message;
    }

    /// Reads on from a client that had to wait, unless it has to wait until it has read itself, or until a worker has taken the
    /// body of another of its requests: one by one, they would have it read for ever.
    pub(super) fn resume_client(&mut self, key: Key) {
        let requests = &self.requests;
        let is_overfull = |(_, at)| requests.get(at).is_some_and(|request| request.is_overfull());
        let waits = |client: &&mut Client| {
            let in_vain = || client.out.is_overfull() || client.active.iter().any(is_overfull);
            client.reading == Reading::Paused && !in_vain()
        };
        let Some(client) = self.clients.get_mut(key).filter(waits) else { return };
        client.reading = Reading::Open;
        client.heard = self.now;
        // Registering tells at once what is there, which an edge from before the pause would not.
        let before = client.interest;
        self.again.push(Token::Client(key));
        if before == Interest::None {
            self.watch_client(key, Interest::Read);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;
    use crate::gateway::testing::{Rig, get, settings, unread};

    const BUFFER: usize = 512;

    /// As one over TCP that sends quicker than we read: always readable, and nothing ever comes short.
    #[test]
    fn a_client_that_never_stops_sending_has_its_turn_and_no_more() {
        let mut rig = Rig::new(settings());
        let (mut quick, key) = rig.client();
        let upload = upload(3 * AT_A_TURN * BUFFER);
        quick.write_all(&upload).unwrap();
        let mut buffer = [0; BUFFER];
        let left = |rig: &Rig| unread(rig.gateway.clients.get(key).unwrap().stream.as_fd());
        let mut before = upload.len();
        for _ in 0..3 {
            rig.gateway.again.clear();
            rig.gateway.read_client(key, &mut buffer, false);
            assert_eq!(rig.gateway.again, [Token::Client(key)], "it comes again after the others");
            assert_eq!(before - left(&rig), AT_A_TURN * BUFFER);
            before = left(&rig);
            // Whoever comes between two of its turns is served.
            let (_other, other) = rig.ask("/other");
            assert_eq!(rig.gateway.clients.get(other).unwrap().active.len(), 1);
        }
        rig.gateway.again.clear();
        rig.gateway.read_client(key, &mut buffer, false);
        assert!(rig.gateway.again.is_empty() && left(&rig) == 0, "a short read ends it");
    }

    /// A request with so many bytes in records of its body, which does not end.
    fn upload(length: usize) -> Vec<u8> {
        const END_OF_BODY: usize = 8;
        let mut out = get("/upload");
        out.truncate(out.len() - END_OF_BODY);
        encode::stream(&mut out, RecordType::Stdin, RequestId(1), &vec![b'x'; length]);
        out
    }
}
