//! What clients are sent: at once as far as they take it, the rest from memory or a file as they come to it, so that a slow
//! client holds nobody up. And when a client's connection is closed.

use nix::errno::Errno;

use super::client::{Client, Ending, Interest, Reading};
use super::core::{AT_A_TURN, Gateway, Phase, Token};
use super::request::Stage;
use super::slab::Key;
use super::spool::{Bounds, Refusal};

/// What the kernel may hold for a client that has once been too slow, bytes.
const WIDE: usize = 2 * 1024 * 1024;

/// Bytes of answers that wait in a file for one client; a worker waits beyond that.
pub(super) const MOST_FILED: u64 = 1024 * 1024 * 1024;

/// Nothing waits in a file: for what is answered without a worker, and so as quickly as it is asked. Who asks and does not
/// read is not heard until it does.
pub(super) const NO_FILE: u64 = 0;

/// Bytes that are read from a file at once.
const CHUNK: usize = 256 * 1024;

/// What became of bytes for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emitted {
    /// They are sent, or wait for the client.
    Taken,
    /// They wait, and there is no room for more.
    Full,
    /// The client has gone.
    Gone,
}

/// How a write to a client ended.
enum Sent {
    All,
    Part(usize),
    Failed,
}

impl Gateway {
    /// Sends a client these records of an answer.
    pub(super) fn emit(&mut self, key: Key, records: &[u8]) -> Emitted {
        self.emit_within(key, records, MOST_FILED)
    }

    /// Sends a client these records, of which so many bytes may wait in a file.
    pub(super) fn emit_within(&mut self, key: Key, records: &[u8], most_filed: u64) -> Emitted {
        let Some(client) = self.clients.get_mut(key) else { return Emitted::Gone };
        let mut rest = records;
        if client.is_flushed() {
            match send(client, records) {
                Sent::All => return Emitted::Taken,
                Sent::Part(count) => rest = &records[count..],
                Sent::Failed => {
                    self.lose_client(key);
                    return Emitted::Gone;
                }
            }
        }
        let memory = self.settings.response_buffer;
        let bounds = Bounds { directory: &self.settings.buffer_directory, memory, file: most_filed };
        let kept = client.out.push(rest, &bounds);
        if kept.is_err() {
            client.out.force(rest);
            // What it asks for before it has read would need ever more memory.
            if client.reading == Reading::Open {
                client.reading = Reading::Paused;
            }
        }
        self.watch_client(key, Interest::Both);
        match kept {
            Ok(()) => return Emitted::Taken,
            Err(Refusal::Full) => {}
            Err(refusal @ (Refusal::Scarce | Refusal::File(_))) => {
                self.tell_no_room("an answer", &refusal, "its worker waits for its client");
            }
        }
        Emitted::Full
    }

    /// Says that something has no place in a file, at most once a second.
    pub(super) fn tell_no_room(&mut self, what: &str, refusal: &Refusal, hence: &str) {
        if self.no_room_told.is_due(self.now) {
            ::log::warn!("[pool {}] cannot keep {what}: {refusal}; {hence}", self.settings.pool);
        }
    }

    /// Sends a client what waits for it, as far as it takes it in its turn.
    pub(super) fn flush_client(&mut self, key: Key) {
        for _ in 0..AT_A_TURN {
            let Some(client) = self.clients.get_mut(key) else { return };
            if client.is_flushed() {
                return;
            }
            if client.out_at == client.out.len() {
                client.out.clear();
                client.out_at = 0;
                self.watch_client(key, Interest::Read);
                self.unpause(key);
                self.resume_client(key);
                return self.settle(key);
            }
            match send_waiting(client, &mut self.chunk) {
                Ok(Sent::All) => {}
                Ok(Sent::Part(_)) => return,
                Ok(Sent::Failed) => return self.lose_client(key),
                Err(error) => {
                    ::log::error!("[pool {}] cannot read an answer back: {error}", self.settings.pool);
                    return self.lose_client(key);
                }
            }
        }
        self.again.push(Token::Client(key));
    }

    /// Has the workers of a client's requests read again that had to wait for it.
    fn unpause(&mut self, key: Key) {
        let Some(client) = self.clients.get(key) else { return };
        for (_, at) in client.active.iter() {
            let stage = self.requests.get(at).map(|request| request.stage);
            let Some(Stage::Running(key)) = stage else { continue };
            if let Some(upstream) = self.upstreams.get_mut(key).filter(|upstream| upstream.paused) {
                upstream.paused = false;
                self.again.push(Token::Upstream(key));
            }
        }
    }

    /// Closes a client's connection if nothing is left to do on it.
    pub(super) fn settle(&mut self, key: Key) {
        let Some(client) = self.clients.get(key) else { return };
        if !client.active.is_empty() || !client.is_flushed() {
            return;
        }
        let over = match self.phase {
            Phase::Serving | Phase::Leaving => client.reading == Reading::Ended,
            Phase::Stopping | Phase::Stopped => !client.is_new(self.now),
        };
        match client.ending {
            Ending::Ours => drop(self.clients.remove(key)),
            Ending::Theirs | Ending::AfterInput if over => drop(self.clients.remove(key)),
            Ending::Theirs => {}
            Ending::AfterInput => {
                client.stream.end_writing();
                self.watch_client(key, Interest::Read);
            }
        }
    }

    /// A client has gone: whatever it wanted is wanted no more.
    pub(super) fn lose_client(&mut self, key: Key) {
        let Some(client) = self.clients.remove(key) else { return };
        for (_, at) in client.active.iter() {
            self.lost_peer = client.peer;
            self.cancel(at);
        }
    }

    /// A client that is still sending a request which is answered already must not be cut off: what it has not read of
    /// the answer would be lost with the connection.
    pub(super) fn let_finish(&mut self, at: Key) {
        let Some(request) = self.requests.get(at).filter(|request| !request.is_complete()) else {
            return;
        };
        let key = request.client;
        let Some(client) = self.clients.get_mut(key).filter(|client| client.reading != Reading::Ended) else {
            return;
        };
        client.reading = Reading::Open;
        if client.ending == Ending::Ours {
            client.ending = Ending::AfterInput;
        }
        self.again.push(Token::Client(key));
    }
}

/// Writes as much as a client takes. One that does not take all gets a larger buffer, once.
fn send(client: &mut Client, bytes: &[u8]) -> Sent {
    let mut at = 0;
    while at < bytes.len() {
        match client.stream.write(&bytes[at..]) {
            Ok(count) => at += count,
            Err(Errno::EAGAIN) if client.widened => return Sent::Part(at),
            Err(Errno::EAGAIN) => {}
            Err(_) => return Sent::Failed,
        }
        if at < bytes.len() && !client.widened {
            client.widened = true;
            client.stream.raise_send_buffer(WIDE);
        }
    }
    Sent::All
}

/// Writes what waits, from memory or from the file. `All` is a chunk, not everything.
fn send_waiting(client: &mut Client, chunk: &mut Vec<u8>) -> std::io::Result<Sent> {
    let memory = client.out.memory_from(client.out_at);
    chunk.clear();
    if memory.is_empty() {
        chunk.resize(CHUNK, 0);
        let count = client.out.read_at(client.out_at, chunk)?;
        chunk.truncate(count);
    } else {
        chunk.extend_from_slice(memory);
    }
    let sent = send(client, chunk);
    client.out_at += match sent {
        Sent::All => chunk.len() as u64,
        Sent::Part(count) => count as u64,
        Sent::Failed => 0,
    };
    Ok(sent)
}
