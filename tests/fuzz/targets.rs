//! What must hold for any bytes that a peer or a file may bring: nothing panics, every cut of a stream reads alike, and
//! what was read and written again reads the same. Each function takes the input of one fuzz target.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use fpmd::config::host::{ReadError, Unusable};
use fpmd::config::model::{Group, User};
use fpmd::config::{Host, dump, load_text};
use fpmd::fcgi::body::{BeginRequest, Connection, Role};
use fpmd::fcgi::decode::{Decoder, Place, Record};
use fpmd::fcgi::encode;
use fpmd::fcgi::pairs::{self, Pairs};
use fpmd::fcgi::record::{Header, MAX_CONTENT, RequestId};
use fpmd::fcgi::response::Head;
use fpmd::fcgi::session::{Capacity, Session, Step};
use fpmd::gateway;
use fpmd::gateway::journal::Logs;
use fpmd::gateway::pages::PoolPages;
use fpmd::gateway::params::Params;
use fpmd::gateway::relay::{HEADROOM, Relay};
use fpmd::gateway::seam::Seams;
use fpmd::ids::Uid;
use fpmd::os::fdpass;
use fpmd::wire::control::{Reply, Request};
use fpmd::wire::frame::{self, Message};
use fpmd::wire::gateway::{FromGateway, ToGateway};

/// A bound small enough to be reached.
const BOUND: usize = 4096;

/// The rest of the input in pieces, whose lengths its first byte rules.
fn pieces(data: &[u8]) -> (&[u8], impl Iterator<Item = &[u8]>) {
    let (rule, bytes) = data.split_first().map_or((1, data), |(first, rest)| (usize::from(*first) + 1, rest));
    (bytes, bytes.chunks(rule))
}

/// Records whole and in pieces: the same headers and contents, or the same error at the same place.
pub fn records(data: &[u8]) {
    let (bytes, pieces) = pieces(data);
    let (mut whole, mut rest) = (Vec::new(), bytes);
    while let Ok(Some((record, length))) = Record::first(rest) {
        assert!(length > 0 && length <= rest.len() && record.content.len() <= MAX_CONTENT);
        assert_eq!(usize::from(record.header.content), record.content.len());
        assert_eq!(Header::decode(record.header.encode()), Ok(record.header));
        whole.push((record.header, record.content.to_vec()));
        rest = &rest[length..];
    }
    let fails = Record::first(rest).is_err();
    let (mut decoder, mut cut, mut open, mut failed) = (Decoder::new(), Vec::new(), None, false);
    for mut piece in pieces {
        loop {
            let fragment = match decoder.next(&mut piece) {
                Ok(Some(fragment)) => fragment,
                Ok(None) => break assert!(piece.is_empty()),
                Err(_) => break failed = true,
            };
            let (_, content): &mut (Header, Vec<u8>) = open.get_or_insert((fragment.header, Vec::new()));
            content.extend_from_slice(fragment.content);
            match fragment.place {
                Place::Last => cut.extend(open.take()),
                Place::Inside => {}
            }
        }
    }
    // The decoder gives a record when its content is there, `first` when its padding is there, too.
    assert!(cut.len() <= whole.len() + 1 && cut[..whole.len()] == whole[..]);
    assert_eq!(fails, failed);
}

/// Pairs read, written and read again.
pub fn pairs(data: &[u8]) {
    let read: Vec<_> = Pairs::new(data).collect();
    assert!(read.iter().rev().skip(1).all(Result::is_ok), "pairs after an error");
    let good: Vec<_> = read.into_iter().map_while(Result::ok).collect();
    let mut written = Vec::new();
    for (name, value) in &good {
        let before = written.len();
        assert_eq!(pairs::encode(&mut written, name, value), Ok(()));
        assert_eq!(written.len() - before, pairs::encoded_length(name, value));
    }
    assert!(written.len() <= data.len(), "the shortest form is longer");
    assert_eq!(Pairs::new(&written).map(Result::unwrap).collect::<Vec<_>>(), good);
    let mut params = Params::default();
    if data.chunks(7).all(|piece| params.push(piece, BOUND).is_ok()) {
        assert_eq!(params.as_bytes(), data);
        assert_eq!(params.check().is_ok(), Pairs::new(data).all(|pair| pair.is_ok()));
        let _ = (params.method(), params.uri(), params.script(), params.user(), params.content_length());
    } else {
        assert!(data.len() > BOUND);
    }
}

/// A response's head: once it is read, more bytes change nothing.
pub fn head(data: &[u8]) {
    let Ok(Some(head)) = Head::parse(data, BOUND) else { return };
    assert!(head.length <= data.len() && head.length <= BOUND && (100..=999).contains(&head.status));
    assert_eq!(Head::parse(&data[..head.length], BOUND), Ok(Some(head.clone())));
    assert!(!matches!(Head::parse(&data[..head.length - 1], BOUND), Ok(Some(_))), "it ended before its end");
    for field in &head.fields {
        assert!(!field.name.is_empty() && !field.value.contains(&b'\n'));
    }
}

/// A client's whole connection to the worker's side of the protocol; what goes out are whole records.
pub fn session(data: &[u8]) {
    let mut session = Session::new(Capacity { connections: 4, requests: 4 }, BOUND);
    let (mut rest, mut replies) = (data, Vec::new());
    while let Ok(Some((record, length))) = Record::first(rest) {
        match session.take(record, &mut replies) {
            Ok(Step::EndOfBody) => session.finish(),
            Ok(Step::Request(request)) => drop(request.params().map(Result::unwrap).count()),
            Ok(Step::None | Step::Body(_) | Step::Aborted) => {}
            Ok(Step::Refused) | Err(_) => break,
        }
        rest = &rest[length..];
    }
    let mut out = &replies[..];
    while let Some((_, length)) = Record::first(out).expect("we speak FastCGI") {
        out = &out[length..];
    }
    assert!(out.is_empty(), "a reply is cut");
}

/// A client's whole connection to a real gateway, which has no worker: whatever it says, it is answered in whole records, its
/// connection ends, and the next client is served.
pub fn gateway(data: &[u8]) {
    let address = running_gateway();
    let said = exchange(address, data);
    let mut out = &said[..];
    while let Some((_, length)) = Record::first(out).expect("it speaks FastCGI") {
        out = &out[length..];
    }
    assert!(out.is_empty(), "a record is cut");
    let mut ping = Vec::new();
    let begin = BeginRequest { role: Role::Responder, connection: Connection::Close };
    let pairs = [(&b"SCRIPT_NAME"[..], &b"/ping"[..])];
    encode::request(&mut ping, RequestId(1), &begin, pairs, b"").unwrap();
    let pong = exchange(address, &ping);
    assert!(pong.windows(4).any(|four| four == b"pong"), "it does not answer any more");
}

/// Says something, and hears the answer to its end.
fn exchange(address: &SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = UnixStream::connect_addr(address).expect("it accepts");
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    // Who breaks the protocol is not listened to.
    let _ = client.write_all(bytes).and_then(|()| client.shutdown(Shutdown::Write));
    let (mut heard, mut buffer) = (Vec::new(), [0; 65_536]);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return heard,
            Ok(count) => heard.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return heard,
            Err(error) => panic!("its connection does not end: {error}"),
        }
    }
}

/// Where the gateway of this process listens; it runs in a thread for as long as the process does.
fn running_gateway() -> &'static SocketAddr {
    static RUNNING: OnceLock<(SocketAddr, OwnedFd)> = OnceLock::new();
    let start = || {
        let name = format!("fpmd-fuzz-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let (master, theirs) = fdpass::pair().unwrap();
        fdpass::send(master.as_fd(), SETTINGS.as_bytes(), &[listener.as_fd()]).unwrap();
        std::thread::spawn(|| {
            let (journal, pages) = (Box::new(Logs::default()), Box::new(PoolPages::default()));
            gateway::run::run(theirs, Seams { journal, pages }).expect("it goes on");
        });
        (address, master)
    };
    &RUNNING.get_or_init(start).0
}

/// Nobody waits, since there is no worker; bodies are small, so that files are made as well.
const SETTINGS: &str = r#"{"settings": {"version": 1, "pool": "fuzz", "process_manager": "static", "listeners": ["fuzz"],
    "concurrency": 1, "queue_limit": 0, "queue_timeout": null, "request_buffer": 64, "response_buffer": 64,
    "request_terminate_timeout": null, "request_slowlog_timeout": null, "max_requests": 0, "max_requests_jitter": 0,
    "status_path": "/status", "ping_path": "/ping", "ping_response": "pong", "access_format": "json",
    "has_access_log": false, "has_slowlog": false, "allowed_clients": [], "log_stderr": false, "start_time": 0}}"#;

/// A worker's answer on its way through: the same streams however it is cut, in whole records of the client's request.
pub fn relay(data: &[u8]) {
    let (bytes, pieces) = pieces(data);
    let (one, other) = (relayed(std::iter::once(bytes)), relayed(pieces));
    // An error is found when its piece comes; what went out before it may differ.
    if let (Some(one), Some(other)) = (one, other) {
        assert_eq!(one, other);
    }
}

/// STDOUT, STDERR and whether the end came; `None` for a worker that does not speak FastCGI.
fn relayed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<(Vec<u8>, Vec<u8>, bool)> {
    const THEIRS: RequestId = RequestId(0x0203);
    let (mut relay, mut streams) = (Relay::default(), (Vec::new(), Vec::new(), false));
    for piece in pieces {
        let mut buffer = vec![0; piece.len() + 2 * HEADROOM];
        let at = relay.prepare(&mut buffer);
        let end = at + piece.len();
        buffer[at..end].copy_from_slice(piece);
        let taken = relay.take(&mut buffer, end, (RequestId(1), THEIRS), |_, _| {}).ok()?;
        let mut run = &buffer[taken.run];
        while !run.is_empty() {
            let (record, length) = Record::first(run).expect("FastCGI").expect("whole records");
            assert_eq!(record.header.request, THEIRS);
            match record.header.kind {
                fpmd::fcgi::record::RecordType::Stdout => streams.0.extend_from_slice(record.content),
                fpmd::fcgi::record::RecordType::Stderr => streams.1.extend_from_slice(record.content),
                _ => {}
            }
            run = &run[length..];
        }
        if taken.end.is_some() {
            streams.2 = true;
            break;
        }
    }
    Some(streams)
}

/// Control messages whole and in pieces, and those understood once more.
pub fn frames(data: &[u8]) {
    messages::<Request>(data);
    messages::<Reply>(data);
}

fn messages<M: Message + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let (bytes, pieces) = pieces(data);
    let whole = read_messages::<M>(std::iter::once(bytes));
    assert_eq!(whole, read_messages::<M>(pieces));
    for message in whole.0 {
        let line = frame::encode(&message);
        assert_eq!(read_messages::<M>(std::iter::once(&line[..])), (vec![message], None));
    }
}

fn read_messages<'a, M: Message>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<M>, Option<frame::Fault>) {
    let (mut decoder, mut found) = (frame::Decoder::<M>::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.message() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(fault) => return (found, Some(fault)),
            }
        }
    }
    (found, None)
}

/// Packets between master and gateway: those understood are written and read the same.
pub fn packets(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<ToGateway>(data) {
        let again = serde_json::to_vec(&message).unwrap();
        assert_eq!(serde_json::from_slice::<ToGateway>(&again).unwrap(), message);
    }
    if let Ok(message) = serde_json::from_slice::<FromGateway>(data) {
        let again = serde_json::to_vec(&message).unwrap();
        assert_eq!(serde_json::from_slice::<FromGateway>(&again).unwrap(), message);
    }
}

/// A configuration: every mistake has its text, and what is accepted means the same after it was printed.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match load_text("/etc/fpmd/fpmd.toml", text, &Nowhere) {
        Ok(config) => {
            let printed = dump(&config);
            let again = load_text("/etc/fpmd/fpmd.toml", &printed, &Nowhere);
            assert_eq!(again.map_err(|errors| format!("{errors}\n{printed}")), Ok(config));
        }
        Err(errors) => assert!(!errors.to_string().is_empty() && errors.iter().count() > 0),
    }
}

/// A machine with every program, user and directory, and no file.
struct Nowhere;

impl Host for Nowhere {
    fn read(&self, _: &Path) -> Result<String, ReadError> {
        Err(ReadError::NotFound)
    }

    fn entries(&self, _: &Path) -> Result<Vec<String>, ReadError> {
        Err(ReadError::NotFound)
    }

    fn user(&self, name: &str) -> Result<Option<User>, String> {
        Ok(Some(User { name: name.to_owned(), uid: Uid(1000), gid: None, home: None }))
    }

    fn group(&self, name: &str) -> Result<Option<Group>, String> {
        Ok(Some(Group { name: name.to_owned(), gid: fpmd::ids::Gid(1000) }))
    }

    fn executable(&self, _: Option<&Path>, _: &Path) -> Result<(), Unusable> {
        Ok(())
    }

    fn is_directory(&self, _: Option<&Path>, _: &Path) -> bool {
        true
    }

    fn uid(&self) -> Uid {
        Uid(0)
    }

    fn default_runtime_dir(&self) -> PathBuf {
        PathBuf::from("/run/fpmd")
    }
}
