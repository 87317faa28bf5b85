//! The rest of a request on its way to its worker, while the worker may be answering already: a chunk is made when the one
//! before it is written, so that no more than that waits in memory.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::client::Interest;
use super::core::{AT_A_TURN, Gateway, Token, watch};
use super::request::{Body, Passage, Request};
use super::slab::Key;
use super::upstream::{ID, Upload, Upstream};
use crate::fcgi::body::Role;
use crate::fcgi::encode;
use crate::fcgi::record::{RecordType, SAFE_CONTENT};

/// Bytes of a body that are sent at once: four whole records.
const CHUNK: usize = 4 * SAFE_CONTENT;

/// What came of an attempt to write.
enum Written {
    /// All of it went.
    All,
    /// There is no room for more.
    Blocked,
    /// The worker wants no more.
    Refused,
}

impl Gateway {
    /// Writes to a worker as long as it takes what there is, in its turn.
    pub(super) fn pump(&mut self, key: Key) {
        for _ in 0..AT_A_TURN {
            let Some(upstream) = self.upstreams.get_mut(key) else { return };
            match write_out(upstream) {
                Written::All => {}
                Written::Blocked => return self.watch_upstream(key, Interest::Both),
                Written::Refused => {
                    // It may have answered without reading on: whatever it said is still to be read.
                    upstream.upload = Upload::Refused;
                    upstream.out.clear();
                    upstream.out_at = 0;
                    self.again.push(Token::Upstream(key));
                    return;
                }
            }
            let Some(at) = upstream.request else { return };
            let Some(request) = self.requests.get_mut(at) else { return };
            self.chunk.resize(CHUNK, 0);
            let streams = request.passage == Passage::Streaming;
            if let Err(error) = refill(upstream, request, &mut self.chunk) {
                ::log::error!("[pool {}] cannot read a request's body back: {error}", self.settings.pool);
                return self.upstream_lost(key);
            }
            let done = upstream.out.is_empty();
            let client = request.client;
            if streams {
                self.resume_client(client);
            }
            if done {
                return;
            }
        }
        self.again.push(Token::Upstream(key));
    }

    /// Has the event loop watch a connection to a worker.
    pub(super) fn watch_upstream(&mut self, key: Key, interest: Interest) {
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        if upstream.interest == interest {
            return;
        }
        let fd = upstream.stream.as_fd();
        match watch(&self.registry, fd, Token::Upstream(key), upstream.interest, interest) {
            Ok(()) => upstream.interest = interest,
            Err(error) => {
                ::log::warn!("[pool {}] cannot watch a connection to a worker: {error}", self.settings.pool);
                self.upstream_lost(key);
            }
        }
    }
}

fn write_out(upstream: &mut Upstream) -> Written {
    while upstream.out_at < upstream.out.len() {
        match upstream.stream.write(&upstream.out[upstream.out_at..]) {
            Ok(count) => {
                upstream.out_at += count;
                upstream.written += count as u64;
            }
            Err(Errno::EAGAIN) => return Written::Blocked,
            Err(_) => return Written::Refused,
        }
    }
    Written::All
}

/// Makes the next records of the body; none where there is nothing more, or nothing yet.
fn refill(upstream: &mut Upstream, request: &mut Request, chunk: &mut [u8]) -> std::io::Result<()> {
    upstream.out.clear();
    upstream.out_at = 0;
    let passage = request.passage;
    if upstream.upload == Upload::Refused && passage == Passage::Streaming {
        // Nobody will ever want it, and its client goes on sending.
        request.stdin.spool.clear();
        request.data.spool.clear();
    }
    if let Upload::Stdin(at) = upstream.upload {
        let (at, ended) =
            next(&mut upstream.out, RecordType::Stdin, (&mut request.stdin, at, passage), chunk)?;
        upstream.upload = match (ended, request.role) {
            (false, _) => Upload::Stdin(at),
            (true, Role::Filter) => Upload::Data(0),
            (true, Role::Responder | Role::Authorizer | Role::Other(_)) => Upload::Done,
        };
    }
    if let Upload::Data(at) = upstream.upload {
        let (at, ended) = next(&mut upstream.out, RecordType::Data, (&mut request.data, at, passage), chunk)?;
        upstream.upload = if ended { Upload::Done } else { Upload::Data(at) };
    }
    Ok(())
}

/// The next records of one stream from `at`; how far they go, and whether they end it.
fn next(
    out: &mut Vec<u8>,
    kind: RecordType,
    (body, at, passage): (&mut Body, u64, Passage),
    chunk: &mut [u8],
) -> std::io::Result<(u64, bool)> {
    let count = body.spool.read_at(at, chunk)?;
    encode::stream(out, kind, ID, &chunk[..count]);
    let mut at = at + count as u64;
    let all = at == body.spool.len();
    if all && passage == Passage::Streaming {
        body.spool.clear();
        at = 0;
    }
    let ended = all && body.complete;
    if ended {
        encode::end_stream(out, kind, ID);
    }
    Ok((at, ended))
}
