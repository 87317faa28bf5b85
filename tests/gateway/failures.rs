//! Workers that fail, stall or misbehave, clients that are slow: nothing is lost that can be saved, and nobody is held up.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use fpmd::fcgi::body::Connection;
use fpmd::fcgi::encode;
use fpmd::fcgi::record::{Header, RecordType, RequestId};
use fpmd::ids::{SlotId, WorkerId};
use fpmd::wire::gateway::{FromGateway, Settings, TakenBack, ToGateway};

use crate::peer::{Reader, Visit, ask, echo, get, open_request, post, request, stdin, stdout};
use crate::stage::{PATIENCE, Stage, settings};

/// A worker that closes its first connection after reading the request, and answers from then on.
fn fails_once(stage: &mut Stage) {
    let (_, listener) = stage.seat();
    std::thread::spawn(move || {
        Visit::accept(&listener).request();
        let _ = echo(listener).join();
    });
}

#[test]
fn a_get_is_tried_again_and_a_post_is_not() {
    let mut stage = Stage::new(&settings());
    fails_once(&mut stage);
    assert_eq!(ask(stage.connect(), &get("/again"), b"").body(), b"/again ");
    assert_eq!(stage.report().retried, 1);

    let mut stage = Stage::new(&settings());
    fails_once(&mut stage);
    let refused = ask(stage.connect(), &post("/once", "1"), b"x");
    assert_eq!((refused.status(), refused.end.unwrap().app_status), (502, 0));
    let report = stage.report();
    assert_eq!((report.retried, report.broken, report.server_errors), (0, 1, 1));
}

#[test]
fn a_request_that_kills_its_workers_kills_two_at_most() {
    let mut stage = Stage::new(&settings());
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (_, listener) = stage.seat();
        seen.push(std::thread::spawn(move || {
            listener.set_nonblocking(true).unwrap();
            let deadline = Instant::now() + Duration::from_secs(2);
            let mut visits = 0;
            while Instant::now() < deadline {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        let mut visit = Visit { reader: Reader::new(stream.try_clone().unwrap()), stream };
                        visits += usize::from(visit.request().is_some());
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
            visits
        }));
    }
    assert_eq!(ask(stage.connect(), &get("/poison"), b"").status(), 502);
    assert_eq!(seen.into_iter().map(|visits| visits.join().unwrap()).sum::<usize>(), 2);
}

#[test]
fn a_kept_connection_that_has_ended_costs_no_request() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    // php-cgi after its last request: it ends without a word.
    std::thread::spawn(move || {
        loop {
            let mut visit = Visit::accept(&listener);
            for _ in 0..3 {
                if visit.request().is_none() {
                    break;
                }
                visit.reply(b"\r\nok");
            }
        }
    });
    for number in 0..60 {
        let answer = match number % 3 {
            0 => ask(stage.connect(), &post("/", "1"), b"x"),
            _ => ask(stage.connect(), &get("/"), b""),
        };
        assert_eq!(answer.body(), b"ok", "request {number}: {}", answer.text());
    }
    assert_eq!(stage.report().broken, 0);
}

#[test]
fn workers_that_do_not_keep_connections_are_found_out() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..20 {
            let mut visit = Visit::accept(&listener);
            if let Some(got) = visit.request() {
                asked.push(got.begin.connection);
                visit.reply(b"\r\nok");
            }
        }
        asked
    });
    for _ in 0..20 {
        assert_eq!(ask(stage.connect(), &get("/"), b"").body(), b"ok");
    }
    let asked = worker.join().unwrap();
    assert_eq!(asked[0], Connection::Keep);
    assert_eq!(asked[19], Connection::Close);
    assert_eq!(stage.report().broken, 0);
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_complete() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        // Within the head: nothing has gone out, and the request is one that must not be repeated.
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.send(&stdout(b"Content-Type: a\r\n"));
        drop(visit);
        // Within the body, within a record.
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.send(&stdout(b"\r\n0123456789")[..14]);
    });
    let head = ask(stage.connect(), &post("/head", "1"), b"x");
    assert_eq!((head.status(), head.body()), (502, &b"The worker ended before it had answered.\n"[..]));
    let body = ask(stage.connect(), &get("/body"), b"");
    assert_eq!((body.end, body.body()), (None, &b"0123"[..]));
    worker.join().unwrap();
    assert_eq!(stage.report().broken, 2);
}

#[test]
fn a_worker_that_talks_nonsense_is_a_bad_gateway() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.send(b"HTTP/1.1 200 OK\r\n\r\n");
        visit.request();
    });
    assert_eq!(ask(stage.connect(), &get("/"), b"").status(), 502);
    worker.join().unwrap();
    stage.logged("its version is 72 instead of 1");
}

#[test]
fn a_request_that_takes_too_long_is_answered_with_504_and_its_worker_ended() {
    let mut settings = settings();
    settings.request_slowlog_timeout = Some(Duration::from_millis(50));
    settings.request_terminate_timeout = Some(Duration::from_millis(200));
    let mut stage = Stage::new(&settings);
    let slot = stage.slot();
    let listener = stage.listener(slot);
    let worker = stage.claim(slot, 1);
    let hung = std::thread::spawn(move || {
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.request().is_none()
    });
    let asked = Instant::now();
    let answer = ask(stage.connect(), &get("/slow?x"), b"");
    assert!(asked.elapsed() >= Duration::from_millis(200));
    assert_eq!(answer.status(), 504);
    let ended = stage.expect("Terminate", |message| matches!(message, FromGateway::Terminate { .. }));
    let FromGateway::Terminate { slot: place, worker: ended, reason } = ended else { unreachable!() };
    assert_eq!((place, ended), (SlotId(0), worker));
    assert!(reason.starts_with("request \"GET /slow?x\" (script '') timed out after 0.2"), "{reason}");
    assert!(hung.join().unwrap());
    let report = stage.report();
    assert_eq!((report.timed_out, report.slow, report.load.idle), (1, 1, 0));
    stage.bury(slot);
    stage.claim(slot, 1);
    echo(stage.listener(slot));
    assert_eq!(ask(stage.connect(), &get("/next"), b"").body(), b"/next ");
}

#[test]
fn a_worker_may_answer_without_reading_the_body() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        for _ in 0..2 {
            let mut visit = Visit::accept(&listener);
            visit.head().unwrap();
            visit.reply(&[b"\r\n".as_slice(), &vec![b'y'; 3_000_000]].concat());
        }
    });
    for _ in 0..2 {
        let answer = ask(stage.connect(), &post("/", "5000000"), &vec![b'x'; 5_000_000]);
        assert_eq!((answer.body().len(), answer.end.is_some()), (3_000_000, true));
    }
    worker.join().unwrap();
}

#[test]
fn a_slow_client_holds_no_worker() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.reply(&[b"\r\n".as_slice(), &vec![b'z'; 30_000_000]].concat());
        // The gateway may close a connection that has been idle for a moment.
        if visit.request().is_none() {
            visit = Visit::accept(&listener);
            visit.request().unwrap();
        }
        visit.reply(b"\r\nquick");
        visit.request().is_none()
    });
    let mut slow = stage.connect();
    slow.write_all(&request(1, Connection::Close, &get("/large"), b"")).unwrap();
    // Nothing is read of the large answer; the worker is free for the next one all the same.
    stage.until("idle", |report| report.load.idle == 1 && report.workers[0].requests == 1);
    assert_eq!(ask(stage.connect(), &get("/small"), b"").body(), b"quick");
    let answer = Reader::new(slow).answer(1);
    assert_eq!((answer.stdout.len(), answer.end.is_some()), (30_000_002, true));
    assert!(answer.stdout[2..].iter().all(|byte| *byte == b'z'));
    drop(stage);
    assert!(worker.join().unwrap());
}

#[test]
fn without_a_place_for_files_a_body_is_streamed() {
    let mut stage = Stage::without_files(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    let body: Vec<u8> = (0..3_000_000u32).map(|index| (index % 253) as u8).collect();
    let answer = ask(stage.connect(), &post("/", "3000000"), &body);
    assert!(answer.body()[2..] == body, "{} bytes of {}", answer.body().len(), body.len());
    stage.logged("cannot keep a request's body");
    assert_eq!(ask(stage.connect(), &get("/next"), b"").body(), b"/next ");
}

#[test]
fn without_a_place_for_files_a_worker_waits_for_a_slow_client() {
    let mut stage = Stage::without_files(&settings());
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.reply(&[b"\r\n".as_slice(), &vec![b'z'; 20_000_000]].concat());
    });
    let mut slow = stage.connect();
    slow.write_all(&request(1, Connection::Close, &get("/large"), b"")).unwrap();
    let mut reader = Reader::new(slow);
    assert!(reader.record().unwrap().is_some());
    let report = stage.report();
    assert_eq!((report.load.busy, worker.is_finished()), (1, false), "the worker waits");
    let answer = reader.answer(1);
    assert!(answer.end.is_some() && answer.stdout.len() > 19_000_000);
    worker.join().unwrap();
}

#[test]
fn an_answer_that_has_begun_is_cut_off_when_its_time_is_up() {
    let mut settings = settings();
    settings.request_terminate_timeout = Some(Duration::from_millis(100));
    let mut stage = Stage::new(&settings);
    let (_, listener) = stage.seat();
    let worker = std::thread::spawn(move || {
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.send(&stdout(b"\r\nso far"));
        visit.request().is_none()
    });
    let answer = ask(stage.connect(), &get("/"), b"");
    assert_eq!((answer.body(), answer.end), (&b"so far"[..], None));
    assert!(worker.join().unwrap());
    let ended = stage.expect("Terminate", |message| matches!(message, FromGateway::Terminate { .. }));
    assert!(matches!(ended, FromGateway::Terminate { reason, .. } if reason.ends_with("6 bytes answered")));
    assert_eq!(stage.report().timed_out, 1);
}

#[test]
fn a_request_left_alone_by_its_client_has_its_limit_too() {
    let mut settings = settings();
    settings.request_terminate_timeout = Some(Duration::from_millis(200));
    let mut stage = Stage::new(&settings);
    let (_, listener) = stage.seat();
    let mut client = stage.connect();
    client.write_all(&request(1, Connection::Keep, &get("/"), b"")).unwrap();
    let mut visit = Visit::accept(&listener);
    visit.request().unwrap();
    drop(client);
    stage.until("finishing", |report| report.workers[0].state == "Finishing");
    // The worker holds on to its connection.
    let ended = stage.expect("Terminate", |message| matches!(message, FromGateway::Terminate { .. }));
    assert!(
        matches!(ended, FromGateway::Terminate { reason, .. } if reason.contains("whose client has left"))
    );
    let report = stage.report();
    assert_eq!((report.aborted, report.timed_out, report.load.idle), (1, 0, 0));
    drop(visit);
}

#[test]
fn without_a_buffer_requests_are_streamed() {
    let mut settings = settings();
    settings.request_buffer = 0;
    let mut stage = Stage::new(&settings);
    let (_, listener) = stage.seat();
    let mut client = stage.connect();
    let bytes = request(1, Connection::Close, &post("/", "100000"), &[b'a'; 100_000]);
    client.write_all(&bytes[..500]).unwrap();
    let mut visit = Visit::accept(&listener);
    assert!(visit.head().is_some(), "the head goes on before the body is there");
    // The worker speaks first, as in a conversation.
    let hello = stdout(b"\r\nhello");
    visit.send(&hello);
    let mut first = vec![0; hello.len()];
    client.read_exact(&mut first).unwrap();
    assert_eq!(first, hello);
    client.write_all(&bytes[500..]).unwrap();
    let mut stdin = Vec::new();
    visit.stream_into(RecordType::Stdin, &mut stdin).unwrap();
    assert_eq!(stdin, [b'a'; 100_000]);
    visit.reply(b" and goodbye");
    assert_eq!(Reader::new(client).answer(1).stdout, b" and goodbye");
}

/// Its place may stay empty: the master, which knows, takes it back, and so even what must not be repeated goes elsewhere.
#[test]
fn what_a_worker_that_has_gone_had_not_accepted_is_given_to_another() {
    let mut stage = Stage::new(&settings());
    let (first, second) = (stage.slot(), stage.slot());
    let worker = stage.claim(first, 1);
    let mut client = stage.connect();
    client.write_all(&request(1, Connection::Close, &post("/", "4"), b"body")).unwrap();
    stage.until("it is sent", |report| report.load.busy == 1);
    stage.bury(first);
    let asked = stage.expect("TakeBack", |message| matches!(message, FromGateway::TakeBack { .. }));
    assert_eq!(asked, FromGateway::TakeBack { slot: SlotId(0), worker, kept: None, until: None });
    // As the master does.
    drop(stage.listener(first).accept().unwrap());
    stage.say(&ToGateway::TakenBack { slot: SlotId(0), worker, outcome: TakenBack::Taken });
    stage.until("it waits", |report| report.load.queued == 1 && report.load.busy == 0);
    stage.claim(second, 1);
    echo(stage.listener(second));
    assert_eq!(Reader::new(client).answer(1).body(), b"/ body");
    let report = stage.report();
    assert_eq!((report.taken_back, report.retried, report.broken), (1, 0, 0));
}

/// BEGIN and PARAMS of a POST, without its body.
fn head(connection: Connection, length: &str) -> Vec<u8> {
    open_request(1, connection, &post("/x", length), b"")
}

fn end_of_stdin() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::end_stream(&mut bytes, RecordType::Stdin, RequestId(1));
    bytes
}

#[test]
fn a_request_that_streams_goes_on_when_bodies_are_buffered_from_now_on() {
    let mut stage = Stage::new(&Settings { request_buffer: 0, ..settings() });
    let (_, listener) = stage.seat();
    let mut stream = stage.connect();
    stream.write_all(&head(Connection::Close, "5")).unwrap();
    let mut visit = Visit::accept(&listener);
    visit.head().unwrap();
    let other = UnixListener::bind(stage.directory.join("other.sock")).unwrap();
    stage.configure(&settings(), &[other.as_fd()]);
    stream.write_all(&stdin(b"hello")).unwrap();
    stream.write_all(&end_of_stdin()).unwrap();
    let mut body = Vec::new();
    visit.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    visit.stream_into(RecordType::Stdin, &mut body).expect("the body comes to its end");
    assert_eq!(body, b"hello");
}

#[test]
fn a_client_that_had_to_wait_is_heard_again_when_its_request_is_over() {
    const WINDOW: usize = 256 * 1024;
    let mut stage = Stage::new(&Settings { request_buffer: 0, ..settings() });
    let mut stream = stage.connect();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = head(Connection::Keep, "1000000");
    bytes.extend(stdin(&vec![b'x'; WINDOW]));
    stream.write_all(&bytes).unwrap();
    // It was heard before each of these questions was.
    stage.until("queued", |report| report.load.queued == 1);
    stage.report();
    // What is too much, and the end of it, in one piece.
    let abort = Header { kind: RecordType::AbortRequest, request: RequestId(1), content: 0, padding: 0 };
    stream.write_all(&[&stdin(b"too much")[..], &abort.encode()].concat()).unwrap();
    let mut reader = Reader::new(stream.try_clone().unwrap());
    assert!(reader.answer(1).end.is_some());
    let mut question = Vec::new();
    let names: [(&[u8], &[u8]); 1] = [(b"FCGI_MPXS_CONNS", b"")];
    encode::values(&mut question, RecordType::GetValues, names).unwrap();
    stream.write_all(&question).unwrap();
    assert_eq!(reader.record().unwrap().unwrap().kind, RecordType::GetValuesResult);
}

#[test]
fn a_body_that_its_worker_refuses_is_not_kept() {
    const MOST: u64 = 16 * 1024;
    let mut stage = Stage::without_files(&Settings { request_buffer: 0, ..settings() });
    let (_, listener) = stage.seat();
    let mut stream = stage.connect();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&head(Connection::Close, "60000000")).unwrap();
    let mut visit = Visit::accept(&listener);
    visit.head().unwrap();
    visit.stream.shutdown(Shutdown::Read).unwrap();
    let before = stage.resident();
    let piece = stdin(&[b'x'; 60_000]);
    for _ in 0..1000 {
        stream.write_all(&piece).unwrap();
    }
    let more = stage.resident().saturating_sub(before);
    assert!(more < MOST, "{more} kB for 60 MB that nobody wants");
    visit.reply(b"Status: 200\r\n\r\nwell");
    assert_eq!(Reader::new(stream).answer(1).body(), b"well");
}

/// It may have read no more than it wanted: what is left would be in the way of the next request.
#[test]
fn a_connection_over_which_a_long_body_came_late_is_not_used_again() {
    let mut stage = Stage::new(&Settings { request_buffer: 0, ..settings() });
    let (_, listener) = stage.seat();
    let mut stream = stage.connect();
    stream.write_all(&head(Connection::Close, "20000")).unwrap();
    let mut visit = Visit::accept(&listener);
    visit.head().unwrap();
    stream.write_all(&[stdin(&[b'x'; 20_000]), end_of_stdin()].concat()).unwrap();
    visit.stream_into(RecordType::Stdin, &mut Vec::new()).unwrap();
    let mut other = stage.connect();
    other.write_all(&request(1, Connection::Close, &get("/next"), b"")).unwrap();
    stage.until("queued", |report| report.load.queued == 1);
    visit.reply(b"\r\none");
    assert_eq!(Reader::new(stream).answer(1).body(), b"one");
    visit.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(visit.head().is_none(), "the connection ends");
    let mut next = Visit::accept(&listener);
    next.head().unwrap();
    next.reply(b"\r\ntwo");
    assert_eq!(Reader::new(other).answer(1).body(), b"two");
}

/// What is on its way to the worker only is not here any more.
#[test]
fn a_body_that_a_late_master_has_taken_is_not_sent_by_halves() {
    let mut stage = Stage::new(&Settings { request_buffer: 0, ..settings() });
    let (slot, listener) = stage.seat();
    let worker = WorkerId(1);
    let mut stream = stage.connect();
    stream.write_all(&[head(Connection::Close, "10"), stdin(b"first")].concat()).unwrap();
    let mut visit = Visit::accept(&listener);
    visit.head().unwrap();
    let slot = SlotId(slot as u32);
    // The first piece is on its way.
    visit.reader.record().unwrap();
    stage.say(&ToGateway::TakenBack { slot, worker, outcome: TakenBack::Taken });
    assert_eq!(stage.report().taken_back, 0);
    drop(visit);
    assert_eq!(Reader::new(stream).answer(1).status(), 502);
}
