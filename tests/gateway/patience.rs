//! Clients that begin something and do not go on, bodies that find no place, and answers that come in pieces.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fpmd::fcgi::body::{BeginRequest, Connection, ProtocolStatus, Role};
use fpmd::fcgi::encode;
use fpmd::fcgi::record::{RecordType, RequestId};
use fpmd::wire::gateway::Settings;

use crate::peer::{Reader, Visit, ask, echo, get, open_request, post, request, stdin, stdout};
use crate::stage::{Stage, settings};

/// Short enough for a test, long enough for a busy machine to send what it has to.
const SHORT: Duration = Duration::from_millis(400);

fn impatient() -> Stage {
    Stage::new(&Settings { input_timeout: Some(SHORT), ..settings() })
}

fn is_closed(mut stream: UnixStream) -> bool {
    matches!(stream.read(&mut [0; 1024]), Ok(0) | Err(_))
}

/// BEGIN_REQUEST, and a part of the parameters.
fn half_a_head() -> Vec<u8> {
    let mut out = Vec::new();
    let begin = BeginRequest { role: Role::Responder, connection: Connection::Close };
    encode::begin_request(&mut out, RequestId(1), &begin);
    encode::stream(&mut out, RecordType::Params, RequestId(1), b"\x01\x01AB");
    out
}

#[test]
fn half_a_head_is_waited_for_so_long() {
    let mut stage = impatient();
    for bytes in [&half_a_head()[..], &half_a_head()[..4]] {
        let mut client = stage.connect();
        client.write_all(bytes).unwrap();
        assert!(is_closed(client));
    }
    stage.logged("its parameters have not come within 400ms");
    stage.logged("it has said nothing for 400ms, and its request is not complete");
    let report = stage.until("two refused", |report| report.refused_protocol == 2);
    assert_eq!((report.accepted, report.aborted, report.connections), (0, 0, 0));
}

#[test]
fn a_head_by_drops_is_no_way_around() {
    let mut stage = impatient();
    let mut client = stage.connect();
    client.write_all(&half_a_head()).unwrap();
    let drop = {
        let mut out = Vec::new();
        encode::stream(&mut out, RecordType::Params, RequestId(1), b"\x01\x01AB");
        out
    };
    while client.write_all(&drop).is_ok() {
        std::thread::sleep(SHORT / 20);
    }
    stage.logged("its parameters have not come within 400ms");
    stage.until("nobody", |report| report.connections == 0);
}

#[test]
fn a_body_that_stops_is_waited_for_so_long() {
    let mut stage = impatient();
    let mut client = stage.connect();
    let whole = request(1, Connection::Close, &post("/", "5"), b"hello");
    client.write_all(&whole[..whole.len() - 8]).unwrap();
    assert!(is_closed(client));
    let report = stage.until("one aborted", |report| report.aborted == 1);
    assert_eq!((report.refused_protocol, report.connections), (1, 0));
}

#[test]
fn who_owes_nothing_may_be_silent() {
    let mut stage = impatient();
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    let mut writer = stage.connect();
    let mut kept = Reader::new(writer.try_clone().unwrap());
    writer.write_all(&request(1, Connection::Keep, &get("/first"), b"")).unwrap();
    assert_eq!(kept.answer(1).body(), b"/first ");
    // Somebody else is thrown out meanwhile.
    let mut other = stage.connect();
    other.write_all(&half_a_head()).unwrap();
    assert!(is_closed(other));
    writer.write_all(&request(2, Connection::Keep, &get("/second"), b"")).unwrap();
    assert_eq!(kept.answer(2).body(), b"/second ");
}

#[test]
fn who_goes_on_sending_after_an_early_answer_has_so_long_too() {
    let mut stage = impatient();
    let mut client = stage.connect();
    let mut bytes = half_a_head();
    let large = vec![b'x'; 2 << 20];
    encode::stream(&mut bytes, RecordType::Params, RequestId(1), &large);
    // The end of its body never comes.
    client.write_all(&bytes).unwrap();
    let mut reader = Reader::new(client);
    assert_eq!(reader.answer(1).status(), 431);
    stage.until("nobody", |report| report.connections == 0);
    assert_eq!(stage.report().refused_protocol, 0, "it was no violation");
}

#[test]
fn a_body_of_unknown_length_without_a_place_is_refused() {
    let mut stage = Stage::without_files(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    let answer = ask(stage.connect(), &post("/", ""), &vec![b'x'; 1_000_000]);
    assert_eq!(answer.status(), 503);
    stage.logged("the request is refused");
    assert_eq!(ask(stage.connect(), &get("/next"), b"").body(), b"/next ");
}

#[test]
fn a_head_alone_comes_soon() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let mut client = stage.connect();
    client.write_all(&request(1, Connection::Close, &get("/events"), b"")).unwrap();
    let mut visit = Visit::accept(&listener);
    visit.request().unwrap();
    visit.send(&stdout(b"Content-Type: text/event-stream\r\n\r\n"));
    // The worker says nothing more until the head is there.
    let mut reader = Reader::new(client);
    let head = reader.record().unwrap().unwrap();
    assert!(head.content.ends_with(b"\r\n\r\n"));
    visit.send(&stdout(b"data: 1\n\n"));
    assert_eq!(reader.record().unwrap().unwrap().content, b"data: 1\n\n");
    let mut out = Vec::new();
    encode::end_request(&mut out, RequestId(1), 0, ProtocolStatus::RequestComplete);
    visit.send(&out);
    assert!(reader.answer(1).end.is_some());
}

#[test]
fn a_worker_that_closes_a_kept_connection_is_a_retry() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.reply(b"\r\none");
        // It ends without an answer, as php-cgi does after its last request; unless the gateway was quicker.
        let is_retry = visit.request().is_some();
        drop(visit);
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.reply(b"\r\ntwo");
        is_retry
    });
    assert_eq!(ask(stage.connect(), &get("/"), b"").body(), b"one");
    assert_eq!(ask(stage.connect(), &get("/"), b"").body(), b"two");
    assert_eq!(stage.report().retried, u64::from(worker.join().unwrap()));
}

/// However long it is, and however quick its client: what the worker has taken is not kept.
#[test]
fn a_long_upload_that_streams_takes_no_memory() {
    const MOST: u64 = 8 * 1024;
    const LENGTH: usize = 48 * 1024 * 1024;
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stage = Stage::with_listener(&Settings { request_buffer: 0, ..settings() }, door.as_fd());
    let (_, listener) = stage.seat();
    // TCP, since a Unix socket holds less than is read at once.
    let mut client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
    let mut writer = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let whole = request(1, Connection::Close, &post("/", &LENGTH.to_string()), &vec![b'x'; LENGTH]);
        writer.write_all(&whole).unwrap();
    });
    let mut visit = Visit::accept(&listener);
    visit.head().unwrap();
    let before = stage.resident();
    let (mut taken, mut more) = (0, 0);
    while let Some(record) = visit.reader.record().unwrap().filter(|record| !record.content.is_empty()) {
        taken += record.content.len();
        // The gateway has its turn meanwhile, so that it is always ahead of the worker.
        stage.report();
        more = more.max(stage.resident().saturating_sub(before));
    }
    assert_eq!(taken, LENGTH);
    assert!(more < MOST, "{more} kB more for a body of {LENGTH} bytes");
    visit.reply(b"\r\ndone");
    sending.join().unwrap();
    assert_eq!(Reader::new(&mut client).answer(1).body(), b"done");
}

/// Neither a small request beside the long one nor its answer is a reason to read on.
#[test]
fn a_body_that_nobody_takes_is_not_read_for_the_sake_of_other_requests() {
    const MOST: usize = 16 * 1024 * 1024;
    let settings = Settings { request_buffer: 0, ping_path: Some("/ping".into()), ..settings() };
    let mut stage = Stage::new(&settings);
    let (_, _listener) = stage.seat();
    let mut client = stage.connect();
    client.write_all(&open_request(1, Connection::Keep, &post("/", "999999999"), b"")).unwrap();
    client.set_nonblocking(true).unwrap();
    let (mut sent, mut idle) = (0, 0);
    'rounds: for id in 2.. {
        let mut round = stdin(&[b'x'; 100_000]);
        round.extend(request(id, Connection::Keep, &get("/ping"), b""));
        let mut rest = &round[..];
        while !rest.is_empty() {
            let _ = client.read(&mut [0; 65536]);
            match client.write(rest) {
                Ok(count) => (rest, sent, idle) = (&rest[count..], sent + count, 0),
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    idle += 1;
                    // The gateway has taken nothing for so many of its rounds.
                    if idle == 20 {
                        break 'rounds;
                    }
                    stage.report();
                }
            }
            assert!(sent < MOST, "all of it is read");
        }
    }
}
