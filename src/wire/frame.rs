//! From messages to bytes and back: one line of JSON each (RFC 8259), ended by a newline. Takes bytes as they come, in any
//! pieces, and gives messages or one typed fault. Reads no descriptor and knows nothing of who may send what.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::control::{MAX_REPLY, MAX_REQUEST, Reply, Request, VERSION};

/// A message that travels as one line.
pub trait Message: Serialize + Sized {
    /// The longest line, bytes, its newline included.
    const LIMIT: usize;

    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// `Fault::NotJson`, `Fault::Version` or `Fault::Unknown`.
    fn from_line(line: &str) -> Result<Self, Fault>;
}

/// Why a peer's bytes are not a message. After one the connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The line exceeds this many bytes.
    TooLong(usize),
    /// The line is not text.
    NotUtf8,
    /// The line is not JSON; where and why.
    NotJson(String),
    /// The peer speaks this version, not `VERSION`.
    Version(u32),
    /// JSON, of the right version if it says one, but not a message that we know; where and why.
    Unknown(String),
    /// The stream ended inside a line.
    Cut,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::TooLong(limit) => write!(f, "it is longer than {limit} bytes"),
            Fault::NotUtf8 => f.write_str("it is not UTF-8"),
            Fault::NotJson(cause) => write!(f, "it is not JSON: {cause}"),
            Fault::Version(theirs) => {
                let (order, advice) = match theirs.cmp(&VERSION) {
                    std::cmp::Ordering::Greater => {
                        ("newer", "restart fpmd, so that it is the installed version")
                    }
                    _ => ("older", "use the fpmctl that came with this fpmd"),
                };
                write!(
                    f,
                    "fpmctl is {order} than fpmd (it speaks version {theirs}, fpmd speaks {VERSION}); {advice}"
                )
            }
            Fault::Unknown(cause) => write!(f, "it is not a known message: {cause}"),
            Fault::Cut => f.write_str("it ended before its newline"),
        }
    }
}

impl std::error::Error for Fault {}

impl Message for Request {
    const LIMIT: usize = MAX_REQUEST;

    fn from_line(line: &str) -> Result<Request, Fault> {
        // The version alone first: a command that only a newer fpmctl has is then named for what it is.
        #[derive(Deserialize)]
        struct Envelope {
            version: u32,
        }
        let Envelope { version } = read(line)?;
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        read(line)
    }
}

impl Message for Reply {
    const LIMIT: usize = MAX_REPLY;

    fn from_line(line: &str) -> Result<Reply, Fault> {
        read(line)
    }
}

fn read<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, Fault> {
    use serde_json::error::Category;
    serde_json::from_slice(line.as_bytes()).map_err(|error| match error.classify() {
        Category::Data => Fault::Unknown(error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => Fault::NotJson(error.to_string()),
    })
}

/// The message as it goes over the socket, with its newline.
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    // serde_json fails only on a map whose keys are not strings and on a type's own refusal; no message has either.
    #[allow(clippy::expect_used)]
    let mut line = serde_json::to_vec(message).expect("control messages are plain data");
    line.push(b'\n');
    line
}

/// Collects the bytes of one connection into messages. Holds at most one line and one `push` of bytes.
#[derive(Debug)]
pub struct Decoder<M> {
    bytes: Vec<u8>,
    /// So many bytes at the front are known to hold no newline.
    scanned: usize,
    fault: Option<Fault>,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> Default for Decoder<M> {
    fn default() -> Self {
        Decoder { bytes: Vec::new(), scanned: 0, fault: None, message: PhantomData }
    }
}

impl<M: Message> Decoder<M> {
    /// Takes what was read, in any pieces. After a fault it is dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.fault.is_none() {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// What was taken and is not a whole message yet.
    pub fn unread(&self) -> &[u8] {
        &self.bytes
    }

    /// The next whole message; `None` where more bytes are needed.
    ///
    /// # Errors
    /// The first fault of the stream, and the same one ever after: what follows a broken line is not looked at.
    pub fn message(&mut self) -> Result<Option<M>, Fault> {
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => self.take_line().inspect_err(|fault| self.fail(fault)),
        }
    }

    /// To be asked once at the end of the stream, after `message` has given all it has.
    ///
    /// # Errors
    /// `Fault::Cut` where the stream ended inside a line, or the fault that `message` gave.
    pub fn end(self) -> Result<(), Fault> {
        match self.fault {
            Some(fault) => Err(fault),
            None if self.bytes.is_empty() => Ok(()),
            None => Err(Fault::Cut),
        }
    }

    fn take_line(&mut self) -> Result<Option<M>, Fault> {
        let newline = self.bytes[self.scanned..].iter().position(|&byte| byte == b'\n');
        let length = newline.map_or(self.bytes.len(), |at| self.scanned + at + 1);
        // An unended line of LIMIT bytes has no room left for its newline.
        if length > M::LIMIT || (newline.is_none() && length == M::LIMIT) {
            return Err(Fault::TooLong(M::LIMIT));
        }
        if newline.is_none() {
            self.scanned = length;
            return Ok(None);
        }
        let mut line: Vec<u8> = self.bytes.drain(..length).collect();
        self.scanned = 0;
        line.pop();
        let text = String::from_utf8(line).map_err(|_| Fault::NotUtf8)?;
        M::from_line(&text).map(Some)
    }

    fn fail(&mut self, fault: &Fault) {
        self.fault = Some(fault.clone());
        self.bytes = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{Generation, Pid, PoolName, WorkerId};
    use crate::status::snapshot::{Activity, ListenerSnapshot, PoolSnapshot, Snapshot, WorkerSnapshot};
    use crate::wire::control::{Command, Extent};

    fn decode<M: Message>(bytes: &[u8]) -> Result<Vec<M>, Fault> {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        let mut messages = Vec::new();
        while let Some(message) = decoder.message()? {
            messages.push(message);
        }
        decoder.end().map(|()| messages)
    }

    fn sentence(line: &str) -> String {
        decode::<Request>(format!("{line}\n").as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_request_reads_as_documented() {
        let request = Request { version: VERSION, command: Command::Reopen };
        assert_eq!(encode(&request), b"{\"version\":1,\"command\":\"reopen\"}\n");
        let line = b"{\"command\": {\"scale\": {\"pool\":\"www\",\"workers\":3}}, \"version\":1}\r\n";
        let scale = Command::Scale { pool: PoolName::new("www").unwrap(), workers: 3 };
        assert_eq!(decode(line), Ok(vec![Request { version: 1, command: scale }]));
    }

    #[test]
    fn another_version_is_named_even_if_its_command_is_unknown() {
        let newer = sentence(r#"{"version":2,"command":{"teleport":{"pool":"www"}}}"#);
        assert!(newer.contains("fpmctl is newer than fpmd (it speaks version 2"), "{newer}");
        let older = sentence(r#"{"version":0,"command":[]}"#);
        assert!(older.contains("fpmctl is older than fpmd"), "{older}");
    }

    #[test]
    fn hostile_lines_are_named_for_what_they_are() {
        let unknown = |line: &str| decode::<Request>(format!("{line}\n").as_bytes());
        for line in [
            "{}",
            "[]",
            "1",
            "null",
            "\"reopen\"",
            r#"{"version":"1","command":"reopen"}"#,
            r#"{"version":-1,"command":"reopen"}"#,
            r#"{"version":1}"#,
            r#"{"version":1,"command":"teleport"}"#,
            r#"{"version":1,"command":{"kill":{"pid":0}}}"#,
            r#"{"version":1,"command":{"start":{"pool":"../x"}}}"#,
            r#"{"version":1,"command":{"start":{"pool":"www","force":true}}}"#,
            r#"{"version":1,"command":{"scale":{"pool":"www","workers":4294967296}}}"#,
        ] {
            assert!(matches!(unknown(line), Err(Fault::Unknown(_))), "{line}: {:?}", unknown(line));
        }
        for line in ["", "GET / HTTP/1.1", "{", "{\"version\":1", "\0", "{} {}", &"[".repeat(10_000)] {
            let fault = unknown(line);
            assert!(matches!(fault, Err(Fault::NotJson(_) | Fault::Unknown(_))), "{line}: {fault:?}");
        }
        assert_eq!(decode::<Request>(b"\xff\xfe\n"), Err(Fault::NotUtf8));
        assert_eq!(decode::<Request>(b"{\"version\":1"), Err(Fault::Cut));
        assert_eq!(decode::<Request>(b""), Ok(vec![]));
    }

    #[test]
    fn a_pid_that_kill_would_take_for_a_group_is_no_pid() {
        for pid in ["0", "-1", "-7"] {
            let line = format!("{{\"version\":1,\"command\":{{\"kill\":{{\"pid\":{pid}}}}}}}\n");
            assert!(decode::<Request>(line.as_bytes()).is_err(), "{pid}");
        }
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_does_not() {
        let mut line = encode(&Request { version: 1, command: Command::Reopen });
        line.pop();
        line.resize(MAX_REQUEST - 1, b' ');
        let fits: Vec<u8> = line.iter().copied().chain([b'\n']).collect();
        assert_eq!(decode::<Request>(&fits).map(|all| all.len()), Ok(1));
        let exceeds: Vec<u8> = line.iter().copied().chain(*b" \n").collect();
        assert_eq!(decode::<Request>(&exceeds), Err(Fault::TooLong(MAX_REQUEST)));
    }

    #[test]
    fn a_flood_without_newline_is_given_up_at_the_limit_and_not_kept() {
        let mut decoder = Decoder::<Request>::default();
        let mut pushed = 0;
        while decoder.message() == Ok(None) {
            decoder.push(&[b'x'; 1000]);
            pushed += 1000;
        }
        assert!(pushed <= MAX_REQUEST + 1000);
        decoder.push(&[b'\n'; 1000]);
        assert_eq!(decoder.bytes.capacity(), 0);
        assert_eq!(decoder.message(), Err(Fault::TooLong(MAX_REQUEST)));
        assert_eq!(decoder.end(), Err(Fault::TooLong(MAX_REQUEST)));
    }

    fn pool_name() -> impl Strategy<Value = PoolName> {
        proptest::collection::vec(proptest::sample::select(b"abzAZ019_".to_vec()), 1..=64)
            .prop_map(|name| PoolName::new(&String::from_utf8(name).unwrap()).unwrap())
    }

    fn pid() -> impl Strategy<Value = Pid> {
        (1..=i32::MAX).prop_map(|raw| Pid::new(raw).unwrap())
    }

    fn command() -> impl Strategy<Value = Command> {
        let one = prop_oneof![Just(None), pool_name().prop_map(Some)].boxed();
        prop_oneof![
            one.clone().prop_map(|pool| Command::Status { pool }),
            one.clone().prop_map(|pool| Command::Health { pool }),
            Just(Command::Dump),
            (proptest::collection::vec(pool_name(), 0..5), any::<bool>()).prop_map(|(pools, changed)| {
                let extent = if changed { Extent::Changed } else { Extent::Every };
                Command::Reload { pools, extent }
            }),
            pool_name().prop_map(|pool| Command::Start { pool }),
            one.prop_map(|pool| Command::Stop { pool }),
            pool_name().prop_map(|pool| Command::Restart { pool }),
            (pool_name(), any::<u32>()).prop_map(|(pool, workers)| Command::Scale { pool, workers }),
            pid().prop_map(|pid| Command::Drain { pid }),
            pid().prop_map(|pid| Command::Kill { pid }),
            Just(Command::Reopen),
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter)
    }

    fn option<T: Clone + std::fmt::Debug + 'static>(
        some: impl Strategy<Value = T> + 'static,
    ) -> impl Strategy<Value = Option<T>> {
        prop_oneof![Just(None), some.prop_map(Some)]
    }

    /// Quarters, which every reader of decimal fractions finds again exactly.
    fn seconds() -> impl Strategy<Value = f64> {
        any::<u32>().prop_map(|quarters| f64::from(quarters) / 4.0)
    }

    fn worker() -> impl Strategy<Value = WorkerSnapshot> {
        let activity = proptest::sample::select(vec![
            Activity::Idle,
            Activity::Waiting,
            Activity::Busy,
            Activity::Unknown,
        ]);
        let seen = (option(any::<u32>()), option(any::<u64>()), option(seconds()), any::<[u64; 2]>());
        (any::<u64>(), pid(), any::<u32>(), text(), activity, seen).prop_map(
            |(id, pid, generation, state, activity, (connections, rss, cpu, start))| WorkerSnapshot {
                id: WorkerId(id),
                pid,
                generation: Generation(generation),
                state,
                activity,
                start_time: start[0],
                start_since: start[1],
                connections,
                rss,
                cpu,
                requests: None,
            },
        )
    }

    fn listener() -> impl Strategy<Value = ListenerSnapshot> {
        (text(), option(any::<u32>()), option(any::<u32>()), option(text())).prop_map(
            |(address, queue, queue_limit, queue_method)| ListenerSnapshot {
                address,
                queue,
                queue_limit,
                queue_method,
            },
        )
    }

    fn pool() -> impl Strategy<Value = PoolSnapshot> {
        let lists = (proptest::collection::vec(listener(), 0..3), proptest::collection::vec(worker(), 0..4));
        let reason = (option(text()), option(seconds()));
        (pool_name(), text(), reason, any::<[u32; 5]>(), any::<[u64; 8]>(), lists).prop_map(
            |(name, state, (reason, retry_in), small, large, (listeners, workers))| PoolSnapshot {
                name,
                activity_method: state.clone(),
                gateway: None,
                cgroup: None,
                process_manager: state.clone(),
                dispatch: state.clone(),
                state,
                reason,
                retry_in,
                generation: Generation(small[0]),
                start_time: large[0],
                start_since: large[1],
                listeners,
                max_children: small[1],
                idle_processes: small[2],
                active_processes: small[3],
                total_processes: small[4],
                started: large[2],
                recycled: large[3],
                recycled_requests: large[0],
                recycled_lifetime: large[1],
                recycled_memory: large[2],
                recycled_idle: large[3],
                crashed: large[4],
                killed: large[5],
                start_failures: large[6],
                max_children_reached: large[7],
                workers,
            },
        )
    }

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        let pools = proptest::collection::vec(pool(), 0..3);
        (text(), pid(), any::<[u64; 2]>(), option(text()), text(), pools).prop_map(
            |(version, pid, start, config, state, pools)| Snapshot {
                version,
                pid,
                start_time: start[0],
                start_since: start[1],
                config,
                state,
                pools,
            },
        )
    }

    fn reply() -> impl Strategy<Value = Reply> {
        prop_oneof![
            text().prop_map(Reply::Progress),
            text().prop_map(Reply::Done),
            text().prop_map(Reply::Refused),
            snapshot().prop_map(|snapshot| Reply::Status(Box::new(snapshot))),
        ]
    }

    /// Feeds the stream in pieces of the given sizes, over and over.
    fn in_pieces<M: Message>(stream: &[u8], sizes: &[usize]) -> Result<Vec<M>, Fault> {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        let mut rest = stream;
        for size in sizes.iter().cycle() {
            let (piece, left) = rest.split_at((*size).min(rest.len()));
            decoder.push(piece);
            while let Some(message) = decoder.message()? {
                messages.push(message);
            }
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        decoder.end().map(|()| messages)
    }

    proptest! {
        #[test]
        fn every_request_survives_the_way(command in command(), sizes in proptest::collection::vec(1usize..50, 1..5)) {
            let request = Request { version: VERSION, command };
            prop_assert_eq!(in_pieces(&encode(&request), &sizes), Ok(vec![request]));
        }

        #[test]
        fn every_reply_survives_the_way(
            replies in proptest::collection::vec(reply(), 1..4),
            sizes in proptest::collection::vec(1usize..200, 1..5),
        ) {
            let stream: Vec<u8> = replies.iter().flat_map(encode).collect();
            prop_assert_eq!(in_pieces(&stream, &sizes), Ok(replies));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let whole = decode::<Request>(&bytes);
            let split = in_pieces::<Request>(&bytes, &[1]);
            prop_assert_eq!(whole, split);
        }
    }
}
