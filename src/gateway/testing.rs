//! A gateway in a test's hands: no event loop and no master, each step is a call of the test, so that what one step does and
//! leaves undone can be counted instead of timed.

use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use mio::Poll;
use nix::sys::socket::{MsgFlags, recv};

use super::client::{Client, Interest};
use super::core::Gateway;
use super::finished::Peer;
use super::journal::Logs;
use super::pages::PoolPages;
use super::seam::Seams;
use super::slab::Key;
use crate::fcgi::body::{BeginRequest, Connection, Role};
use crate::fcgi::encode;
use crate::fcgi::record::RequestId;
use crate::ids::{Generation, Pid, PoolName, SlotId, WorkerId};
use crate::os::stream::Stream;
use crate::os::testing::TempDir;
use crate::wire::gateway::{Past, Settings, ToGateway, VERSION};

/// A gateway, and where its slots are.
pub(super) struct Rig {
    pub gateway: Gateway,
    directory: TempDir,
    slots: u32,
    /// Keeps what the gateway registers with.
    _poll: Poll,
}

/// Settings without limits.
pub(super) fn settings() -> Settings {
    Settings {
        spare: None,
        version: VERSION,
        pool: PoolName::new("www").unwrap(),
        process_manager: "static".into(),
        listeners: Vec::new(),
        company: Default::default(),
        concurrency: 1,
        queue_limit: 100,
        queue_timeout: None,
        request_buffer: 64 * 1024,
        response_buffer: 64 * 1024,
        buffer_directory: std::env::temp_dir(),
        request_terminate_timeout: None,
        request_finish_timeout: None,
        input_timeout: None,
        request_slowlog_timeout: None,
        max_requests: 0,
        max_requests_jitter: 0,
        max_memory: None,
        status_path: None,
        ping_path: None,
        ping_response: "pong".into(),
        access_format: "json".into(),
        has_access_log: false,
        has_slowlog: false,
        allowed_clients: Vec::new(),
        log_stderr: false,
        decorate_output: true,
        start_time: 1_000,
    }
}

impl Rig {
    pub fn new(settings: Settings) -> Rig {
        let poll = Poll::new().unwrap();
        let seams = Seams { journal: Box::new(Logs::default()), pages: Box::new(PoolPages::default()) };
        let gateway = Gateway::new(poll.registry().try_clone().unwrap(), settings, seams);
        Rig { gateway, directory: TempDir::new(), slots: 0, _poll: poll }
    }

    /// A slot with a worker; where that would accept, without waiting. Of two that are idle the later one is taken first.
    pub fn seat(&mut self) -> (UnixListener, Key) {
        let slot = SlotId(self.slots);
        self.slots += 1;
        let path = self.directory.join(&format!("{}.sock", slot.0));
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let path = path.to_str().unwrap().to_owned();
        self.gateway.obey(ToGateway::Slot { slot, path }, Vec::new());
        let order = ToGateway::Worker {
            slot,
            worker: WorkerId(u64::from(slot.0) + 1),
            pid: Pid::new(std::process::id() as i32).unwrap(),
            generation: Generation(1),
            started: None,
            past: Past::Released(0),
        };
        self.gateway.obey(order, Vec::new());
        (listener, self.gateway.places[&slot])
    }

    /// A client, and the gateway's end of its connection.
    pub fn client(&mut self) -> (UnixStream, Key) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.set_nonblocking(true).unwrap();
        let client = Client::new(Stream::from(OwnedFd::from(theirs)), Peer::Unix, self.gateway.now);
        let key = self.gateway.clients.insert(client);
        self.gateway.watch_client(key, Interest::Read);
        (ours, key)
    }

    /// A client that asks for this path, read from once.
    pub fn ask(&mut self, path: &str) -> (UnixStream, Key) {
        let (mut stream, key) = self.client();
        stream.write_all(&get(path)).unwrap();
        self.gateway.read_client(key, &mut vec![0; 64 * 1024], false);
        (stream, key)
    }
}

/// A whole GET.
pub(super) fn get(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let begin = BeginRequest { role: Role::Responder, connection: Connection::Keep };
    let pairs: [(&[u8], &[u8]); 2] = [(b"REQUEST_METHOD", b"GET"), (b"SCRIPT_NAME", path.as_bytes())];
    encode::request(&mut out, RequestId(1), &begin, pairs, b"").unwrap();
    out
}

/// Bytes that a connection has and nobody has read, up to 1 MiB.
pub(super) fn unread(connection: BorrowedFd<'_>) -> usize {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(connection.as_raw_fd(), &mut vec![0; 1024 * 1024], flags).unwrap_or(0)
}
