//! A request on its way to a worker: the connection, a kept one where that is safe, and the message: head and body in one
//! write as far as possible. What does not fit at once follows in `upload`.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;

use super::client::Interest;
use super::core::{Gateway, Token, watch};
use super::request::{Passage, Request, Stage, Told};
use super::rules::{Keeping, READ_AT_ONCE, RESTED, Repeatable};
use super::slab::Key;
use super::slot::State;
use super::upstream::{Heard, ID, Upload, Upstream};
use crate::fcgi::body::{BeginRequest, Connection, Role};
use crate::fcgi::encode;
use crate::fcgi::record::{RecordType, SAFE_CONTENT};
use crate::os::procfs;
use crate::os::stream::Stream;

/// How long a slot is left alone whose queue is full, or whose worker takes no more.
pub(super) const FULL: Duration = Duration::from_millis(10);

/// How long a slot that refuses connections is left alone.
const REFUSED: Duration = Duration::from_millis(100);

/// Bytes of a body for which a connection has room: less than net.core.wmem_default.
const FITTING: u64 = 64 * 1024;

/// Bytes of a body that go into the first message.
const FIRST_PART: u64 = 256 * 1024;

impl Gateway {
    /// Gives a request to the worker on a slot; puts it back into the queue if the worker cannot be reached.
    pub(super) fn dispatch(&mut self, at: Key, slot: Key) {
        let Some(request) = self.requests.get(at) else { return };
        // What does not fit into a connection as a whole can be taken back as long as that is not accepted.
        let fresh = request.retries > 0 || request.stdin.spool.len() > FITTING;
        let upstream = match self.connection(slot, request.repeatable, fresh) {
            Ok(upstream) => upstream,
            Err(errno) => return self.unreachable(at, slot, errno),
        };
        self.begin_serving(at, slot, upstream);
        self.compose(at, upstream);
        self.send_message(upstream);
    }

    /// A kept connection to the slot's worker, or a new one.
    fn connection(&mut self, slot_key: Key, repeatable: Repeatable, fresh: bool) -> Result<Key, Errno> {
        let slot = self.slots.get_mut(slot_key).ok_or(Errno::ENOENT)?;
        while let Some(kept) = slot.kept.pop() {
            let Some(upstream) = self.upstreams.get(kept) else { continue };
            let rested = self.now.since(upstream.idle_since) >= RESTED;
            if !fresh && (repeatable == Repeatable::Yes || rested) {
                return Ok(kept);
            }
            // A worker with one connection at a time comes to the new one only when it has lost the old one.
            self.upstreams.remove(kept);
        }
        let stream = match Stream::connect(&slot.path) {
            Err(Errno::EMFILE | Errno::ENFILE) if self.reserve.release() => Stream::connect(&slot.path)?,
            other => other?,
        };
        let key = self.upstreams.insert(Upstream::new(stream, slot_key, self.now));
        let Some(upstream) = self.upstreams.get_mut(key) else { return Err(Errno::ENOENT) };
        let fd = upstream.stream.as_fd();
        match watch(&self.registry, fd, Token::Upstream(key), Interest::None, Interest::Read) {
            Ok(()) => {
                upstream.interest = Interest::Read;
                Ok(key)
            }
            Err(error) => {
                self.upstreams.remove(key);
                Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
            }
        }
    }

    fn unreachable(&mut self, at: Key, slot: Key, errno: Errno) {
        let pause = if errno == Errno::EAGAIN { FULL } else { REFUSED };
        if let Errno::EMFILE | Errno::ENFILE = errno {
            self.tell_shortage("connect to workers", errno);
        } else if errno != Errno::EAGAIN {
            let path = self.slots.get(slot).map(|slot| slot.path.display().to_string()).unwrap_or_default();
            let cause = crate::os::errno::Cause(errno);
            ::log::warn!("[pool {}] cannot connect to a worker at {path}: {cause}", self.settings.pool);
        }
        self.close_slot(slot, pause);
        self.put_back(at);
    }

    /// Notes that a worker has the request.
    fn begin_serving(&mut self, at: Key, slot_key: Key, upstream: Key) {
        let wants = self.seams.journal.wants();
        let Some(slot) = self.slots.get_mut(slot_key) else { return };
        slot.active += 1;
        let worker = slot.worker.as_mut();
        let name = worker.as_ref().map(|worker| worker.name);
        if let Some(worker) = worker {
            worker.served += 1;
            if worker.wear > 0 && worker.served >= worker.wear && worker.state == State::Serving {
                worker.state = State::Worn(Told::No);
            }
        }
        self.recount(slot_key);
        let pid = name.map(|name| name.pid).filter(|_| wants.usage);
        if let Some(request) = self.requests.get_mut(at) {
            request.stage = Stage::Running(upstream);
            request.dispatched = Some(self.now);
            request.worker = name;
            request.attempts += 1;
            request.cpu_before = pid.and_then(|pid| procfs::stat(pid).ok()).map(|stat| stat.times());
        }
        if let Some(connection) = self.upstreams.get_mut(upstream) {
            connection.request = Some(at);
            connection.heard = Heard::Unknown;
            connection.doubts = 0;
        }
        self.watch_running();
        self.watch_receptions();
    }

    /// Writes head and beginning of the body into `message`.
    fn compose(&mut self, at: Key, upstream: Key) {
        let (Some(request), Some(connection)) = (self.requests.get(at), self.upstreams.get_mut(upstream))
        else {
            return;
        };
        let message = &mut self.message;
        message.clear();
        let size = request.params.as_bytes().len() as u64 + request.bytes_in();
        let known = request.passage == Passage::Whole && size <= READ_AT_ONCE;
        let keep = known && self.keeping != Keeping::No;
        let wish = if keep { Connection::Keep } else { Connection::Close };
        encode::begin_request(message, ID, &BeginRequest { role: request.role, connection: wish });
        compose_params(message, request);
        connection.asked_to_keep = keep;
        connection.written = 0;
        connection.upload = Upload::Stdin(0);
        if request.role == Role::Authorizer {
            connection.upload = Upload::Done;
        } else {
            compose_body(message, request, connection);
        }
    }

    /// Sends `message` as far as it goes; on a kept connection whose worker has gone, on a new one instead.
    fn send_message(&mut self, upstream: Key) {
        let message = std::mem::take(&mut self.message);
        let Some(connection) = self.upstreams.get_mut(upstream) else { return };
        match connection.stream.write(&message) {
            Ok(count) => connection.written += count as u64,
            Err(Errno::EAGAIN) => {}
            Err(_) => {
                self.message = message;
                return self.upstream_lost(upstream);
            }
        }
        let sent = connection.written as usize;
        let rest = &message[sent..];
        connection.out.clear();
        connection.out_at = 0;
        connection.out.extend_from_slice(rest);
        let more = !connection.is_sent();
        self.message = message;
        if more {
            self.pump(upstream);
        }
    }
}

/// The whole PARAMS stream; what fits into one record needs no second look at its pairs.
fn compose_params(message: &mut Vec<u8>, request: &Request) {
    if let Some(length) = unsaid_length(request) {
        return compose_params_with(message, request, length);
    }
    let bytes = request.params.as_bytes();
    if bytes.len() <= SAFE_CONTENT {
        encode::stream(message, RecordType::Params, ID, bytes);
        encode::end_stream(message, RecordType::Params, ID);
        return;
    }
    let pairs = request.params.pairs().map_while(Result::ok);
    let _ = encode::params(message, ID, pairs); // whole pairs that fit into records: checked when the head was complete
}

/// The length of a body whose client did not know it, and which is here as a whole.
fn unsaid_length(request: &Request) -> Option<u64> {
    let length = request.stdin.spool.len();
    let is_whole = request.passage == Passage::Whole && request.stdin.complete;
    (is_whole && length > 0 && request.needs_length()).then_some(length)
}

/// The PARAMS stream with this CONTENT_LENGTH in place of an empty one or none.
fn compose_params_with(message: &mut Vec<u8>, request: &Request, length: u64) {
    const NAME: &[u8] = b"CONTENT_LENGTH";
    let length = length.to_string();
    let others = request.params.pairs().map_while(Result::ok).filter(|(name, _)| *name != NAME);
    // As above; and a number is short.
    let _ = encode::params(message, ID, others.chain([(NAME, length.as_bytes())]));
}

/// As much of a body as belongs into the first message.
fn compose_body(message: &mut Vec<u8>, request: &Request, connection: &mut Upstream) {
    let stdin = request.stdin.spool.memory_from(0);
    let first = &stdin[..stdin.len().min(FIRST_PART as usize)];
    encode::stream(message, RecordType::Stdin, ID, first);
    let sent = first.len() as u64;
    connection.upload = Upload::Stdin(sent);
    if request.stdin.complete && sent == request.stdin.spool.len() {
        encode::end_stream(message, RecordType::Stdin, ID);
        let filter = request.role == Role::Filter;
        connection.upload = if filter { Upload::Data(0) } else { Upload::Done };
    }
}
