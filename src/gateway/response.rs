//! What workers answer: read as it comes, passed on as it comes, and what follows from its end: the worker gets its next
//! request before its last client gets the end of its answer, so that it never waits for us.

use std::ops::Range;
use std::time::Duration;

use nix::errno::Errno;

use super::answer::Answer;
use super::core::{AT_A_TURN, Gateway, Timer, Token};
use super::dispatch::FULL;
use super::finished::Outcome;
use super::output::Emitted;
use super::relay::Taken;
use super::request::{Passage, Stage};
use super::rules::{self, Failure, Keeping, Verdict};
use super::slab::Key;
use super::slot::State;
use super::upstream::{ID, Upload, Upstream};
use crate::fcgi::body::{EndRequest, ProtocolStatus};
use crate::fcgi::record::{RecordError, RecordType};

/// A worker that closes within this time after its first answer does not keep connections.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How long a slot is left alone whose worker has closed a connection of its own accord: most likely it has ended, and the
/// master will say so.
const ENDING: Duration = Duration::from_millis(20);

/// Bytes that are held back while a head is not complete. STDERR counts too.
const MOST_HELD: usize = 128 * 1024;

/// How long a head waits for the first of its body.
const HEAD_ALONE: Duration = Duration::from_millis(1);

/// Retries of a request whose worker speaks something else: the next one would not do better.
const NONSENSE: u32 = u32::MAX;

/// What to do about a worker that speaks something else, HTTP for one.
const DIRECT: &str = "a worker that does not speak FastCGI needs dispatch = \"direct\"";

impl Gateway {
    /// An event about a connection to a worker.
    pub(super) fn upstream_ready(&mut self, key: Key, event: &mio::event::Event, buffer: &mut [u8]) {
        if event.is_writable() {
            self.pump(key);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read_upstream(key, buffer, event.is_read_closed() || event.is_error());
        }
    }

    /// Reads what a worker has sent: until a read comes short, or, with `to_the_end`, until there is nothing more; but not
    /// for longer than its turn.
    pub(super) fn read_upstream(&mut self, key: Key, buffer: &mut [u8], to_the_end: bool) {
        for _ in 0..AT_A_TURN {
            let upstream = self.upstreams.get_mut(key).filter(|upstream| upstream.is_read());
            let Some(upstream) = upstream else { return };
            let at = upstream.relay.prepare(buffer);
            match upstream.stream.read(&mut buffer[at..]) {
                Ok(0) => return self.upstream_lost(key),
                Ok(count) => {
                    self.relay(key, buffer, at + count);
                    if at + count < buffer.len() && !to_the_end {
                        return;
                    }
                }
                Err(Errno::EAGAIN) => return,
                Err(_) => return self.upstream_lost(key),
            }
        }
        self.again.push(Token::Upstream(key));
    }

    /// Passes on what is in `buffer` up to `end`.
    fn relay(&mut self, key: Key, buffer: &mut [u8], end: usize) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let Some(at) = upstream.request else { return self.unasked(key) };
        let Some(request) = self.requests.get_mut(at) else { return };
        let mut errors = Vec::new();
        let logs = self.settings.log_stderr;
        let see = |kind, content: &[u8]| {
            if logs && kind == RecordType::Stderr {
                errors.extend_from_slice(content);
            }
            request.answer.see(kind, content);
        };
        let taken = upstream.relay.take(buffer, end, (ID, request.id), see);
        if !errors.is_empty() {
            self.log_errors(at, &errors);
        }
        match taken {
            Err(error) => self.nonsense(key, &error),
            Ok(taken) if taken.end.is_some() => self.complete(key, at, buffer, taken),
            Ok(taken) => self.pass(key, at, buffer, taken.run),
        }
    }

    /// Sends a client a part of its answer, which is in `buffer`. Nothing goes out before the head is complete, as it may
    /// become another answer. A head alone waits for a moment, since most workers write it in a call of its own, and what
    /// goes out with its body wakes the client once.
    fn pass(&mut self, upstream: Key, at: Key, buffer: &mut [u8], run: Range<usize>) {
        let Some(request) = self.requests.get_mut(at) else { return };
        let answer = &mut request.answer;
        let waits = !answer.is_past_head() || answer.body() == 0;
        if !answer.begun && waits && answer.held.len() < MOST_HELD {
            let alone = answer.is_past_head();
            answer.held.extend_from_slice(&buffer[run]);
            if alone {
                self.hold_head(at);
            }
            return;
        }
        let full = self.release(at, buffer, run) == Emitted::Full;
        if let Some(upstream) = self.upstreams.get_mut(upstream).filter(|_| full) {
            upstream.paused = true;
        }
    }

    fn hold_head(&mut self, at: Key) {
        if self.heads.is_empty() {
            self.timers.set(Timer::Heads, Some(self.now.after(HEAD_ALONE)));
        }
        self.heads.push(at);
    }

    /// Sends the heads that have waited for a body.
    pub(super) fn let_heads_go(&mut self) {
        for at in std::mem::take(&mut self.heads) {
            let request = self.requests.get(at).filter(|request| matches!(request.stage, Stage::Running(_)));
            if request.is_some_and(|request| !request.answer.begun && request.answer.is_past_head()) {
                self.release(at, &mut [], 0..0);
            }
        }
    }

    /// Sends what was held back, and `run` of `buffer`.
    fn release(&mut self, at: Key, buffer: &mut [u8], run: Range<usize>) -> Emitted {
        let Some(request) = self.requests.get_mut(at) else { return Emitted::Gone };
        let held = &mut request.answer.held;
        if run.is_empty() && held.is_empty() {
            return Emitted::Taken;
        }
        request.answer.begun = true;
        let client = request.client;
        if held.len() <= run.start {
            let from = run.start - held.len();
            buffer[from..run.start].copy_from_slice(held);
            held.clear();
            return self.emit(client, &buffer[from..run.end]);
        }
        let mut held = std::mem::take(held);
        held.extend_from_slice(&buffer[run]);
        self.emit(client, &held)
    }

    /// A worker has answered to the end, which is in `buffer`.
    fn complete(&mut self, key: Key, at: Key, buffer: &mut [u8], taken: Taken) {
        let Some(request) = self.requests.get_mut(at) else { return };
        if taken.end.is_some_and(is_refusal) && request.answer.any() == 0 {
            return self.refused(key, at);
        }
        request.stage = Stage::Answered;
        let (client, status) = (request.client, request.answer.status());
        self.release_worker(key, taken.excess);
        self.feed();
        self.release(at, buffer, taken.run);
        self.let_finish(at);
        self.end_request(at, Outcome::Answered, status);
        self.settle(client);
    }

    /// A worker would not take the request, of which it has done nothing (flup's threaded server does so when its threads are all
    /// at work): another may. A web server would make a 502 of what it said.
    fn refused(&mut self, key: Key, at: Key) {
        let Some(upstream) = self.upstreams.remove(key) else { return };
        if let Some(slot) = self.slots.get_mut(upstream.slot) {
            slot.active -= 1;
        }
        self.close_slot(upstream.slot, FULL);
        match self.judge(at, 0) {
            Verdict::Retry => self.send_again(at),
            Verdict::GiveUp => self.answer(at, Answer::Busy, Outcome::Broken),
        }
        self.feed();
    }

    /// A worker is done with its request: its connection waits for the next one, or is closed.
    fn release_worker(&mut self, key: Key, excess: usize) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let slot_key = upstream.slot;
        upstream.request = None;
        upstream.served += 1;
        upstream.idle_since = self.now;
        if upstream.served > 1 {
            self.keeping = self.keeping.kept();
        }
        // One whose body came after its head may be longer than it seemed when the worker was asked to keep the connection.
        let is_read = upstream.is_sent() && upstream.written <= rules::READ_AT_ONCE;
        let clean = upstream.asked_to_keep && is_read && excess == 0;
        self.stamp += 1;
        let Some(slot) = self.slots.get_mut(slot_key) else { return drop(self.upstreams.remove(key)) };
        slot.active -= 1;
        let mut serving = false;
        if let Some(worker) = &mut slot.worker {
            worker.freed = self.stamp;
            worker.answered = self.now;
            serving = worker.state == State::Serving;
        }
        if clean && serving && self.keeping != Keeping::No && self.tails.may_keep() {
            slot.kept.push(key);
        } else {
            self.upstreams.remove(key);
        }
        self.weigh(slot_key);
        self.begin_tail(slot_key);
        self.recount(slot_key);
    }

    /// A connection to a worker has ended, or cannot be used any more.
    pub(super) fn upstream_lost(&mut self, key: Key) {
        let Some(upstream) = self.upstreams.remove(key) else { return };
        let slot = upstream.slot;
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.kept.retain(|kept| *kept != key);
            slot.active -= u32::from(upstream.request.is_some());
        }
        let answered =
            upstream.request.and_then(|at| self.requests.get(at)).map(|request| request.answer.any());
        let early = upstream.served == 1 && self.now.since(upstream.idle_since) < AT_ONCE;
        if early && answered.unwrap_or(0) == 0 {
            self.keeping = self.keeping.closed();
        }
        let stale = upstream.served > 0 && self.keeping != Keeping::Yes;
        if stale {
            self.recount(slot);
        } else {
            self.close_slot(slot, ENDING);
        }
        if let Some(at) = upstream.request {
            self.worker_failed(at, &upstream);
        }
        self.feed();
    }

    /// The connection with this request on it has ended.
    fn worker_failed(&mut self, at: Key, upstream: &Upstream) {
        match self.judge(at, upstream.written) {
            Verdict::Retry => self.send_again(at),
            Verdict::GiveUp => {
                let Some(request) = self.requests.get_mut(at) else { return };
                request.stage = Stage::Answered;
                if request.retries != NONSENSE {
                    let pid = request.worker.map(|worker| worker.pid.to_string()).unwrap_or_default();
                    let pool = &self.settings.pool;
                    ::log::warn!(
                        "[pool {pool}] child {pid} closed its connection before its answer was complete"
                    );
                }
                self.give_up(at, Answer::Broken, Outcome::Broken);
            }
        }
    }

    /// What to do about a request of which its worker may have seen so many bytes.
    fn judge(&self, at: Key, written: u64) -> Verdict {
        let Some(request) = self.requests.get(at) else { return Verdict::GiveUp };
        rules::judge(&Failure {
            repeatable: request.repeatable,
            written,
            answered: request.answer.any(),
            retries: request.retries,
            held: request.passage == Passage::Whole,
        })
    }

    fn send_again(&mut self, at: Key) {
        let Some(request) = self.requests.get_mut(at) else { return };
        self.counters.retried += 1;
        request.retries += 1;
        request.answer.clear();
        self.put_back(at);
    }

    /// A worker speaks on a connection without a request.
    fn unasked(&mut self, key: Key) {
        let Some(upstream) = self.upstreams.remove(key) else { return };
        if let Some(slot) = self.slots.get_mut(upstream.slot) {
            slot.kept.retain(|kept| *kept != key);
        }
        ::log::debug!("[pool {}] a worker sent records without a request", self.settings.pool);
        self.recount(upstream.slot);
    }

    /// A worker does not speak FastCGI.
    fn nonsense(&mut self, key: Key, error: &RecordError) {
        let request = self.upstreams.get(key).and_then(|upstream| upstream.request);
        let worker = request.and_then(|at| self.requests.get(at)?.worker);
        let pid = worker.map(|worker| worker.pid.to_string()).unwrap_or_default();
        ::log::warn!("[pool {}] child {pid}: {error}; {DIRECT}", self.settings.pool);
        if let Some(upstream) = self.upstreams.get_mut(key) {
            upstream.upload = Upload::Refused;
        }
        if let Some(request) = request.and_then(|at| self.requests.get_mut(at)) {
            request.retries = NONSENSE;
        }
        self.upstream_lost(key);
    }

    fn log_errors(&mut self, at: Key, errors: &[u8]) {
        if let Some(worker) = self.requests.get(at).and_then(|request| request.worker) {
            self.seams.journal.stderr(worker, errors, self.now);
        }
    }
}

/// Whether a worker has done nothing with the request and somebody else could. Who does not know the role is not asked to.
fn is_refusal(end: EndRequest) -> bool {
    match end.protocol_status {
        ProtocolStatus::CantMultiplex | ProtocolStatus::Overloaded => true,
        ProtocolStatus::RequestComplete | ProtocolStatus::UnknownRole | ProtocolStatus::Other(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;
    use crate::fcgi::encode;
    use crate::gateway::relay::HEADROOM;
    use crate::gateway::testing::{Rig, settings, unread};

    const ROOM: usize = 512;

    #[test]
    fn a_worker_that_never_stops_answering_has_its_turn_and_no_more() {
        let mut rig = Rig::new(settings());
        let (listener, _) = rig.seat();
        let (mut client, _) = rig.ask("/endless");
        let (mut worker, _) = listener.accept().unwrap();
        let mut answer = Vec::new();
        encode::stream(&mut answer, RecordType::Stdout, ID, &[&b"\r\n"[..], &[b'x'; 60_000]].concat());
        worker.write_all(&answer).unwrap();
        let key = rig.gateway.upstreams.keys(|_| true)[0];
        rig.gateway.again.clear();
        rig.gateway.read_upstream(key, &mut [0; HEADROOM + ROOM], true);
        assert_eq!(rig.gateway.again, [Token::Upstream(key)], "it comes again after the others");
        let left = unread(rig.gateway.upstreams.get(key).unwrap().stream.as_fd());
        assert_eq!(answer.len() - left, AT_A_TURN * ROOM);
        assert!(client.read(&mut [0; 4096]).unwrap() > 0, "and what came is on its way");
    }
}
