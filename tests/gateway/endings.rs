//! How requests end that do not end as they should: clients that hang up while nobody listens to them, workers that refuse,
//! break off or say strange things. Nobody is served in vain, and nobody gets another's answer.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use fpmd::fcgi::body::{Connection, ProtocolStatus};
use fpmd::fcgi::encode;
use fpmd::fcgi::record::{RecordType, RequestId};
use fpmd::ids::{SlotId, WorkerId};
use fpmd::wire::gateway::{Settings, TakenBack, ToGateway};

use crate::peer::{Reader, Visit, ask, echo, get, post, request, stderr, stdout};
use crate::stage::{Stage, settings};

const ID: RequestId = RequestId(1);

#[test]
fn who_has_stopped_sending_and_hangs_up_leaves_the_queue() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    let mut client = stage.connect();
    client.write_all(&request(1, Connection::Keep, &get("/gone"), b"")).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    stage.until("queued", |report| report.load.queued == 1);
    drop(client);
    stage.until("gone", |report| report.load.queued == 0 && report.connections == 0);
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    assert_eq!(ask(stage.connect(), &get("/next"), b"").body(), b"/next ");
    let report = stage.report();
    assert_eq!((report.aborted, report.workers[0].requests), (1, 1));
}

#[test]
fn who_has_to_wait_with_its_body_and_hangs_up_is_noticed() {
    let mut stage = Stage::new(&Settings { request_buffer: 0, ..settings() });
    let (_, listener) = stage.seat();
    let mut client = stage.connect();
    let bytes = request(1, Connection::Close, &post("/x", "9000000"), &vec![b'x'; 9_000_000]);
    client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut visit = None;
    let mut sent = 0;
    // The worker takes nothing but the head: at some point nobody takes any more.
    while let Ok(count) = client.write(&bytes[sent..]) {
        sent += count;
        visit.get_or_insert_with(|| Visit::accept(&listener));
    }
    assert!(sent < bytes.len());
    drop(client);
    let report = stage.until("aborted", |report| report.aborted == 1);
    assert_eq!(report.connections, 0);
    let mut visit = visit.unwrap();
    assert!(visit.head().is_some());
    assert!(visit.stream_into(RecordType::Stdin, &mut Vec::new()).is_none(), "its connection has ended");
}

/// What it has begun to answer cannot have been taken from it.
#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let mut client = stage.connect();
    client.write_all(&request(1, Connection::Close, &get("/x"), b"")).unwrap();
    let mut visit = Visit::accept(&listener);
    visit.request().unwrap();
    visit.send(&stdout(b"\r\nonce "));
    let mut first = vec![0; stdout(b"\r\nonce ").len()];
    client.read_exact(&mut first).unwrap();
    stage.say(&ToGateway::TakenBack { slot: SlotId(0), worker: WorkerId(1), outcome: TakenBack::Taken });
    assert_eq!(stage.report().taken_back, 0);
    visit.reply(b"and for all");
    assert_eq!(Reader::new(client).answer(1).stdout, b"and for all");
}

fn end(status: ProtocolStatus) -> Vec<u8> {
    let mut out = Vec::new();
    encode::end_request(&mut out, ID, 0, status);
    out
}

/// As flup does while its threads are all at work. A POST too: nothing was done with it.
#[test]
fn what_a_worker_refuses_goes_to_another_and_then_is_a_503() {
    for status in [ProtocolStatus::Overloaded, ProtocolStatus::CantMultiplex] {
        let mut stage = Stage::new(&settings());
        let first = stage.slot();
        echo(stage.listener(first));
        stage.claim(first, 1);
        let (_, full) = stage.seat();
        std::thread::spawn(move || {
            loop {
                let mut visit = Visit::accept(&full);
                visit.request().unwrap();
                visit.send(&end(status));
            }
        });
        assert_eq!(ask(stage.connect(), &post("/other", "4"), b"body").body(), b"/other body");
        assert_eq!(stage.report().retried, 1);
        // Nobody else: it is asked twice.
        stage.bury(first);
        stage.until("one left", |report| report.load.idle == 1);
        let refused = ask(stage.connect(), &post("/", "1"), b"x");
        assert_eq!(
            (refused.status(), refused.end.unwrap().protocol_status),
            (503, ProtocolStatus::RequestComplete)
        );
        assert!(refused.text().contains("Retry-After: 1\r\n"));
        let report = stage.report();
        assert_eq!((report.retried, report.broken, report.answered), (2, 1, 1));
    }
}

#[test]
fn whatever_else_a_worker_ends_with_is_told_as_it_is() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        for status in [ProtocolStatus::UnknownRole, ProtocolStatus::Other(99), ProtocolStatus::Overloaded] {
            let mut visit = Visit::accept(&listener);
            visit.request().unwrap();
            let said =
                if status == ProtocolStatus::Overloaded { stdout(b"\r\nall the same") } else { Vec::new() };
            visit.send(&[said, end(status)].concat());
        }
    });
    for (status, body) in [
        (ProtocolStatus::UnknownRole, &b""[..]),
        (ProtocolStatus::Other(99), b""),
        (ProtocolStatus::Overloaded, b"\r\nall the same"),
    ] {
        let answer = ask(stage.connect(), &post("/", "1"), b"x");
        assert_eq!((answer.end.unwrap().protocol_status, &answer.stdout[..]), (status, body));
    }
    worker.join().unwrap();
    assert_eq!(stage.report().answered, 3);
}

#[test]
fn what_a_worker_said_before_it_failed_reaches_the_web_server() {
    let settings = Settings { request_terminate_timeout: Some(Duration::from_millis(300)), ..settings() };
    let mut stage = Stage::new(&settings);
    let (slot, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        let said = [stderr(b"out of "), stdout(b"Content-Type: a\r\n"), stderr(b"memory")].concat();
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.send(&said);
        drop(visit);
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.send(&said);
        assert!(visit.request().is_none(), "it is over");
    });
    for status in [502, 504] {
        let answer = ask(stage.connect(), &post("/", "1"), b"x");
        assert_eq!((answer.status(), &answer.stderr[..]), (status, &b"out of memory"[..]));
        assert!(!answer.text().contains("Content-Type: a\r"));
    }
    worker.join().unwrap();
    stage.bury(slot);
}

#[test]
fn errors_within_a_head_and_heads_of_any_length_and_form_come_through() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let long = format!("X-Long: {}\r\n\r\nbody", "x".repeat(40_000));
    let heads = [
        "Status: 404 No\r\nX: y\r\n\r\nbody",
        "Status: nonsense\r\n\r\nbody",
        "Status: 99\r\n\r\nbody",
        "no head at all",
        "",
        &long,
    ];
    let said: Vec<String> = heads.map(str::to_owned).to_vec();
    std::thread::spawn(move || {
        let mut visit = Visit::accept(&listener);
        for said in said {
            if visit.request().is_none() {
                visit = Visit::accept(&listener);
                visit.request().unwrap();
            }
            let (first, rest) = said.as_bytes().split_at(said.len().min(9));
            visit.send(
                &[stdout(first), stderr(b"warning"), stdout(rest), end(ProtocolStatus::RequestComplete)]
                    .concat(),
            );
        }
    });
    for said in heads {
        let answer = ask(stage.connect(), &get("/"), b"");
        assert_eq!((answer.text().as_str(), &answer.stderr[..]), (said, &b"warning"[..]));
        assert!(answer.end.is_some());
    }
    let report = stage.report();
    assert_eq!((report.answered, report.server_errors, report.retried, report.broken), (6, 0, 0, 0));
}

/// Everything that a request can be in the middle of, when settings change.
#[test]
fn a_reload_leaves_requests_as_they_are_whatever_they_are_at() {
    let before = settings();
    let mut stage = Stage::new(&before);
    let (_, first) = stage.seat();
    let (_, second) = stage.seat();
    let send = |path: &str| {
        let mut client = stage.connect();
        client.write_all(&request(1, Connection::Keep, &get(path), b"")).unwrap();
        client
    };
    // The worker that came last is taken first.
    let streaming = send("/streaming");
    let mut streams = Visit::accept(&second);
    streams.request().unwrap();
    streams.send(&stdout(b"\r\nfirst "));
    let finishing = send("/finishing");
    let mut finishes = Visit::accept(&first);
    finishes.request().unwrap();
    drop(finishing);
    // Its worker has not let go of it.
    let queued = send("/queued");
    let upload = request(1, Connection::Close, &post("/upload", "100000"), &[b'u'; 100_000]);
    let mut uploading = stage.connect();
    uploading.write_all(&upload[..70_000]).unwrap();
    // Asked over its own connection, so that it has been read by then.
    let report =
        stage.until("all there", |report| (report.accepted, report.load.queued, report.aborted) == (4, 1, 1));
    assert_eq!(report.load.busy, 2);

    let door = stage.directory.join("other.sock");
    let listener = UnixListener::bind(&door).unwrap();
    let slow = Some(Duration::from_secs(3600));
    let after =
        Settings { request_buffer: 1000, response_buffer: 1000, request_slowlog_timeout: slow, ..before };
    stage.configure(&after, &[listener.as_fd()]);
    uploading.write_all(&upload[70_000..]).unwrap();
    stage.until("it waits too", |report| report.load.queued == 2);
    drop(finishes);
    let mut next = Visit::accept(&first);
    assert_eq!(next.request().unwrap().param("SCRIPT_NAME"), "/queued");
    next.reply(b"\r\nwaited");
    assert_eq!(Reader::new(queued).answer(1).body(), b"waited");
    let mut last = Visit::accept(&first);
    assert_eq!(last.request().unwrap().stdin, [b'u'; 100_000]);
    last.reply(b"\r\nuploaded");
    assert_eq!(Reader::new(uploading).answer(1).body(), b"uploaded");
    streams.reply(b"and second");
    assert_eq!(Reader::new(streaming).answer(1).stdout, b"\r\nfirst and second");
    let report = stage.until("rest", |report| report.load.busy == 0);
    assert_eq!((report.answered, report.aborted, report.broken, report.retried), (3, 1, 0, 0));
}
