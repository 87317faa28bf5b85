//! Answers of every kind, prepared in a socket pair before the exchange reads them. Real applications are in `tests/`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::cli::request::{Data, Target};
use crate::fcgi::decode::Record;
use crate::fcgi::record::RecordType;
use crate::os::testing::TempDir;

/// What came of an exchange.
struct Outcome {
    result: Result<Response, Cause>,
    out: String,
    err: String,
    /// Everything that was sent.
    sent: Vec<u8>,
}

/// Exchanges with an application that has said `answer` already and says nothing more; it closes if `closed`.
fn exchanged(answer: &[u8], closed: bool, include: bool) -> Outcome {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.write_all(answer).unwrap();
    if closed {
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut answer = Answer::new(&mut out, &mut err, include);
    let body = Body::open(Some(&Data::Text("body".into()))).unwrap();
    let mut outgoing = Outgoing::new(b"head".to_vec(), body);
    let socket = File::from(OwnedFd::from(ours));
    let deadline = clock::monotonic().after(Duration::from_millis(200));
    let result = exchange(&socket, &mut outgoing, &mut answer, deadline).and_then(|()| answer.finish());
    drop(socket);
    let mut sent = Vec::new();
    theirs.read_to_end(&mut sent).unwrap();
    Outcome { result, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap(), sent }
}

fn answer(stdout: &[&str], status: ProtocolStatus) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in stdout {
        encode::stream(&mut bytes, RecordType::Stdout, ID, part.as_bytes());
    }
    encode::end_stream(&mut bytes, RecordType::Stdout, ID);
    encode::end_request(&mut bytes, ID, 9, status);
    bytes
}

fn message(cause: Cause) -> String {
    RequestError { endpoint: Endpoint::Abstract("x".into()), cause }.to_string()
}

#[track_caller]
fn check_failure(answer: &[u8], closed: bool, expected: &str) {
    let text = message(exchanged(answer, closed, false).result.unwrap_err());
    assert_eq!(text, expected);
}

#[test]
fn head_and_body_are_told_apart_wherever_records_end() {
    let parts = ["Sta", "tus: 404 Not Found\r\nX-A: b\r", "\n\r", "\nHel", "lo"];
    let outcome = exchanged(&answer(&parts, ProtocolStatus::RequestComplete), false, false);
    let response = outcome.result.unwrap();
    assert_eq!((response.status, response.reason.as_str(), response.body), (404, "Not Found", 5));
    assert_eq!(response.fields, [("X-A".to_owned(), "b".to_owned())]);
    assert_eq!(response.app_status, 9);
    assert_eq!(outcome.out, "Hello");
}

#[test]
fn the_head_is_shown_where_it_is_wanted() {
    let answer = answer(&["Content-Type: a/b\n\nx"], ProtocolStatus::RequestComplete);
    assert_eq!(exchanged(&answer, false, true).out, "Status: 200 OK\nContent-Type: a/b\n\nx");
}

#[test]
fn the_error_stream_goes_its_own_way_and_other_requests_are_not_ours() {
    let mut bytes = Vec::new();
    encode::stream(&mut bytes, RecordType::Stderr, ID, b"warning\n");
    encode::stream(&mut bytes, RecordType::Stdout, RequestId(2), b"not ours");
    encode::end_request(&mut bytes, RequestId(2), 0, ProtocolStatus::Overloaded);
    bytes.extend(answer(&["\nx"], ProtocolStatus::RequestComplete));
    let outcome = exchanged(&bytes, false, false);
    assert!(outcome.result.is_ok());
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("x", "warning\n"));
}

#[test]
fn the_body_follows_the_head_in_one_write() {
    let outcome = exchanged(&answer(&["\n"], ProtocolStatus::RequestComplete), false, false);
    let records = outcome.sent.strip_prefix(b"head").unwrap();
    let (first, length) = Record::first(records).unwrap().unwrap();
    assert_eq!((first.header.kind, first.content), (RecordType::Stdin, &b"body"[..]));
    let (last, rest) = Record::first(&records[length..]).unwrap().unwrap();
    assert_eq!((last.header.kind, last.content.len(), length + rest), (RecordType::Stdin, 0, records.len()));
}

#[test]
fn what_is_no_answer_is_named() {
    let complete = ProtocolStatus::RequestComplete;
    check_failure(
        b"",
        true,
        "cannot receive the answer from '@x': the connection was closed before it said anything",
    );
    let cut = |text: &str, less: usize| {
        let bytes = answer(&[text], complete);
        bytes[..bytes.len() - less].to_vec()
    };
    check_failure(
        &cut("A: b\n", 24),
        true,
        "cannot receive the answer from '@x': the connection was closed within the head of its answer",
    );
    check_failure(
        &cut("\nbody", 4),
        true,
        "cannot receive the answer from '@x': the connection was closed within the body of its answer",
    );
    check_failure(
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        true,
        "cannot understand '@x': cannot read a FastCGI record: its version is 72 instead of 1",
    );
    check_failure(
        &answer(&[], complete),
        false,
        "cannot understand '@x': the answer has no complete head (status 9)",
    );
    check_failure(
        &answer(&["no head\n\n"], complete),
        false,
        "cannot understand '@x': cannot read the response's head: line 1 is not 'Name: value'",
    );
    check_failure(
        &answer(&[], ProtocolStatus::Overloaded),
        false,
        "cannot get an answer from '@x': it is overloaded",
    );
    let mut long = Vec::new();
    encode::stream(&mut long, RecordType::EndRequest, ID, &[0; 9]);
    check_failure(
        &long,
        false,
        "cannot understand '@x': cannot read a FastCGI END_REQUEST record: its body has 9 bytes instead of 8",
    );
}

#[test]
fn silence_ends_with_the_time_limit() {
    assert!(matches!(exchanged(b"", false, false).result, Err(Cause::TimedOut(_))));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&answer(&["\nx"], ProtocolStatus::RequestComplete)).unwrap();
    let (mut out, mut err) = (Closed, Vec::new());
    let mut answer = Answer::new(&mut out, &mut err, false);
    let mut outgoing = Outgoing::new(Vec::new(), Body::open(None).unwrap());
    let deadline = clock::monotonic().after(Duration::from_secs(5));
    exchange(&File::from(OwnedFd::from(ours)), &mut outgoing, &mut answer, deadline).unwrap();
    assert_eq!(answer.finish().unwrap().status, 200);
}

fn request(data: Option<Data>) -> Request {
    Request {
        target: Target::Endpoint(Endpoint::Abstract("unused".into())),
        path: "/".into(),
        method: None,
        data,
        headers: Vec::new(),
        params: Vec::new(),
        root: None,
        include: false,
        timeout: Duration::from_millis(200),
    }
}

#[test]
fn what_cannot_be_reached_or_read_is_named() {
    let directory = TempDir::new();
    let text = |endpoint: Endpoint, data| {
        run(&request(data), &endpoint, &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string()
    };
    let path = directory.join("none");
    let missing = text(Endpoint::Unix(path.clone()), None);
    assert!(
        missing.starts_with(&format!("cannot connect to '{}': No such file", path.display())),
        "{missing}"
    );
    let nobody = text(Endpoint::Abstract("fpmd-nobody-listens".into()), None);
    assert_eq!(nobody, "cannot connect to '@fpmd-nobody-listens': Connection refused");
    let unread = text(Endpoint::Unix(path.clone()), Some(Data::File(path.clone())));
    assert_eq!(unread, format!("cannot read '{}': No such file or directory", path.display()));
}

#[test]
fn a_full_queue_ends_with_the_time_limit() {
    let directory = TempDir::new();
    let path = directory.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let fill: Vec<_> = std::iter::from_fn(|| {
        let socket = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Unix,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::SOCK_NONBLOCK,
            None,
        )
        .unwrap();
        let address = nix::sys::socket::UnixAddr::new(&path).unwrap();
        let connected = nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &address);
        connected.is_ok().then_some(socket)
    })
    .collect();
    assert!(!fill.is_empty());
    let error =
        run(&request(None), &Endpoint::Unix(path), &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.ends_with("not complete within 0.2 s"), "{error}");
}
