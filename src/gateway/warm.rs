//! Warm-up requests: a new worker gets one before the master lets it have any other, over a connection of its own that no
//! client waits for. An answer below 500 makes it ready. Nothing of this counts as a request: not in the load, not in the
//! report, not in a log.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::client::Interest;
use super::core::{AT_A_TURN, Gateway, Token, watch};
use super::slab::Key;
use super::upstream::ID;
use crate::fcgi::body::{BeginRequest, Connection, Role};
use crate::fcgi::decode::{Decoder, Place};
use crate::fcgi::encode;
use crate::fcgi::record::RecordType;
use crate::fcgi::response::Head;
use crate::ids::{SlotId, WorkerId};
use crate::os::errno::Cause;
use crate::os::stream::Stream;
use crate::wire::gateway::FromGateway;

/// Bytes of a head that are read.
const LONGEST_HEAD: usize = 16 * 1024;

/// Bytes of what the worker wrote to FCGI_STDERR that the reason of a failure has.
const LONGEST_COMPLAINT: usize = 200;

/// Who asks.
const SOFTWARE: &str = concat!("fpmd/", env!("CARGO_PKG_VERSION"), " (warm-up)");

/// A warm-up request that is not answered yet.
#[derive(Debug)]
pub struct Warming {
    slot: SlotId,
    worker: WorkerId,
    stream: Stream,
    answer: Answer,
}

/// What has come of its answer.
#[derive(Debug, Default)]
struct Answer {
    decoder: Decoder,
    /// The first bytes of STDOUT.
    head: Vec<u8>,
    /// The last of STDERR.
    complaint: Vec<u8>,
}

/// How far an answer is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    More,
    /// It has ended, well or not.
    Over(Result<(), String>),
}

impl Gateway {
    /// Sends a new worker its warm-up request.
    pub(super) fn warm(&mut self, slot: SlotId, worker: WorkerId, path: &str, root: &str) {
        self.forget_warming(worker);
        let Some(place) = self.places.get(&slot).and_then(|key| self.slots.get(*key)) else { return };
        let sent = Stream::connect(&place.path).and_then(|stream| {
            let message = message(path, root);
            // It is far smaller than what an empty connection takes.
            let written = stream.write(&message)?;
            if written == message.len() { Ok(stream) } else { Err(Errno::EAGAIN) }
        });
        match sent {
            Ok(stream) => {
                let key = self.warming.insert(Warming { slot, worker, stream, answer: Answer::default() });
                let Some(warming) = self.warming.get(key) else { return };
                let fd = warming.stream.as_fd();
                if let Err(error) =
                    watch(&self.registry, fd, Token::Warming(key), Interest::None, Interest::Read)
                {
                    self.conclude_warming(key, Err(format!("cannot watch its warm-up request: {error}")));
                }
            }
            Err(errno) => {
                let result = Err(format!("cannot send its warm-up request: {}", Cause(errno)));
                self.outbox.push_back(FromGateway::Warmed { slot, worker, result });
            }
        }
    }

    /// The worker has said something. It is read to its end, but not for longer than its turn: nobody knows how long an answer
    /// that path has.
    pub(super) fn warming_ready(&mut self, key: Key, buffer: &mut [u8]) {
        for _ in 0..AT_A_TURN {
            let Some(warming) = self.warming.get_mut(key) else { return };
            let progress = match warming.stream.read(buffer) {
                Ok(0) => Progress::Over(Err(warming.answer.failure("closed the connection"))),
                Ok(length) => warming.answer.take(&buffer[..length]),
                Err(Errno::EAGAIN) => return,
                Err(errno) => {
                    let how = format!("broke the connection ({})", Cause(errno));
                    Progress::Over(Err(warming.answer.failure(&how)))
                }
            };
            if let Progress::Over(result) = progress {
                return self.conclude_warming(key, result);
            }
        }
        self.again.push(Token::Warming(key));
    }

    /// The worker has ended, or gets another warm-up request: nobody wants to hear of this one.
    pub(super) fn forget_warming(&mut self, worker: WorkerId) {
        for key in self.warming.keys(|warming| warming.worker == worker) {
            self.warming.remove(key);
        }
    }

    fn conclude_warming(&mut self, key: Key, result: Result<(), String>) {
        let Some(Warming { slot, worker, .. }) = self.warming.remove(key) else { return };
        self.outbox.push_back(FromGateway::Warmed { slot, worker, result });
    }
}

impl Answer {
    fn take(&mut self, mut bytes: &[u8]) -> Progress {
        loop {
            let fragment = match self.decoder.next(&mut bytes) {
                Ok(Some(fragment)) => fragment,
                Ok(None) => return Progress::More,
                Err(error) => {
                    return Progress::Over(Err(self.failure(&format!("broke the protocol: {error}"))));
                }
            };
            match fragment.header.kind {
                RecordType::Stdout => {
                    let room = LONGEST_HEAD.saturating_sub(self.head.len());
                    self.head.extend_from_slice(&fragment.content[..fragment.content.len().min(room)]);
                }
                RecordType::Stderr => self.complaint.extend_from_slice(fragment.content),
                RecordType::EndRequest if fragment.place == Place::Last => {
                    return Progress::Over(self.verdict());
                }
                _ => {}
            }
            let surplus = self.complaint.len().saturating_sub(LONGEST_COMPLAINT);
            self.complaint.drain(..surplus);
        }
    }

    fn verdict(&self) -> Result<(), String> {
        match Head::parse(&self.head, LONGEST_HEAD) {
            Ok(Some(head)) if head.status < 500 => Ok(()),
            Ok(Some(head)) => Err(self.failure(&format!("answered {}", head.status))),
            Ok(None) => Err(self.failure("answered nothing")),
            Err(error) => Err(self.failure(&format!("answered nonsense ({error})"))),
        }
    }

    fn failure(&self, how: &str) -> String {
        let complaint = String::from_utf8_lossy(self.complaint.trim_ascii()).replace(char::is_control, " ");
        let said = if complaint.is_empty() { String::new() } else { format!("; it said: {complaint}") };
        format!("it {how} when it was asked to warm up{said}")
    }
}

fn message(path: &str, root: &str) -> Vec<u8> {
    let mut message = Vec::new();
    encode::begin_request(
        &mut message,
        ID,
        &BeginRequest { role: Role::Responder, connection: Connection::Close },
    );
    let (script, query) = path.split_once('?').unwrap_or((path, ""));
    let root = root.trim_end_matches('/');
    let file = format!("{root}{script}");
    let pairs = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", SOFTWARE),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_ADDR", "127.0.0.1"),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REQUEST_SCHEME", "http"),
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", path),
        ("DOCUMENT_URI", script),
        ("SCRIPT_NAME", script),
        ("SCRIPT_FILENAME", &file),
        ("DOCUMENT_ROOT", if root.is_empty() { "/" } else { root }),
        ("QUERY_STRING", query),
        ("CONTENT_LENGTH", ""),
        // php-cgi serves nothing without it.
        ("REDIRECT_STATUS", "200"),
        ("HTTP_HOST", "localhost"),
        ("HTTP_USER_AGENT", SOFTWARE),
    ];
    // The configuration has bounded the path and the directory: every pair fits into a record.
    let _ = encode::params(&mut message, ID, pairs.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    encode::end_stream(&mut message, RecordType::Stdin, ID);
    message
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::fcgi::body::ProtocolStatus;
    use crate::gateway::testing::{Rig, settings, unread};

    fn answered(stdout: &[u8], stderr: &[u8]) -> Progress {
        let mut bytes = Vec::new();
        encode::stream(&mut bytes, RecordType::Stderr, ID, stderr);
        encode::stream(&mut bytes, RecordType::Stdout, ID, stdout);
        encode::end_request(&mut bytes, ID, 0, ProtocolStatus::RequestComplete);
        let mut answer = Answer::default();
        // However it is cut.
        let (last, first) = bytes.split_last().expect("an answer");
        for byte in first {
            assert_eq!(answer.take(&[*byte]), Progress::More);
        }
        answer.take(&[*last])
    }

    #[test]
    fn an_answer_below_500_is_a_good_one() {
        assert_eq!(answered(b"Status: 404 Not Found\r\n\r\n", b""), Progress::Over(Ok(())));
        assert_eq!(answered(b"Content-Type: text/plain\n\nhello", b"warning"), Progress::Over(Ok(())));
    }

    #[test]
    fn any_other_is_told_with_the_worker_s_words() {
        let said = |stdout: &[u8], stderr: &[u8]| match answered(stdout, stderr) {
            Progress::Over(Err(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let reason = said(b"Status: 500 Oh\r\n\r\n", b"no\ndatabase\n");
        assert_eq!(reason, "it answered 500 when it was asked to warm up; it said: no database");
        assert!(said(b"", b"").starts_with("it answered nothing"));
        assert!(said(b"x\r\n\r\n", b"").starts_with("it answered nonsense"));
        let mut answer = Answer::default();
        assert!(matches!(answer.take(b"HTTP/1.1 200 OK"), Progress::Over(Err(_))));
    }

    #[test]
    fn the_script_is_looked_for_in_the_root() {
        let text = String::from_utf8_lossy(&message("/warm.php?x=1", "/srv/www/")).into_owned();
        for piece in ["SCRIPT_FILENAME/srv/www/warm.php", "QUERY_STRINGx=1", "REQUEST_URI/warm.php?x=1"] {
            assert!(text.contains(piece), "{piece}: {text:?}");
        }
    }

    #[test]
    fn an_endless_answer_has_its_turn_and_no_more() {
        const ROOM: usize = 512;
        let mut rig = Rig::new(settings());
        let (listener, _) = rig.seat();
        rig.gateway.warm(SlotId(0), WorkerId(1), "/image.iso", "");
        let (mut worker, _) = listener.accept().unwrap();
        let mut answer = Vec::new();
        encode::stream(&mut answer, RecordType::Stdout, ID, &[b'x'; 60_000]);
        worker.write_all(&answer).unwrap();
        let key = rig.gateway.warming.keys(|_| true)[0];
        rig.gateway.warming_ready(key, &mut [0; ROOM]);
        assert_eq!(rig.gateway.again, [Token::Warming(key)], "it comes again after the others");
        let left = unread(rig.gateway.warming.get(key).unwrap().stream.as_fd());
        assert_eq!(answer.len() - left, AT_A_TURN * ROOM);
    }
}
