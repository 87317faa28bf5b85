//! Peers that send anything at all: the gateway neither ends nor stops serving the others.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use fpmd::fcgi::body::{BeginRequest, Connection, Role};
use fpmd::fcgi::encode;
use fpmd::fcgi::record::{Header, RecordType, RequestId};
use fpmd::wire::gateway::{Settings, ToGateway};

use crate::logs::Log;
use crate::peer::{Reader, Visit, ask, echo, get, post, request};
use crate::stage::{Stage, settings};

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// Valid bytes with some of them changed, cut or repeated.
fn spoil(dice: &mut Dice, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..dice.next(6) {
        let at = dice.next(bytes.len());
        match dice.next(3) {
            0 => bytes[at] = dice.next(256) as u8,
            1 => bytes.truncate(at + 1),
            _ => {
                let part = bytes[at..bytes.len().min(at + 30)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

#[test]
fn clients_that_send_anything_disturb_nobody() {
    let mut settings = settings();
    // Longer than a worker that gets no processor seems not to have begun, which no master tells otherwise here.
    settings.request_terminate_timeout = Some(Duration::from_secs(5));
    (settings.has_access_log, settings.access_format) = (true, "%x".into());
    let log = Log::new();
    let mut stage = Stage::with_logs(&settings, &[log.open().as_fd()]);
    for _ in 0..2 {
        let slot = stage.slot();
        echo(stage.listener(slot));
        stage.claim(slot, 1);
    }
    let mut dice = Dice(88_172_645_463_325_252);
    for round in 0..600 {
        let mut bytes = Vec::new();
        for id in 1..=1 + dice.next(3) {
            let connection = if dice.next(2) == 0 { Connection::Keep } else { Connection::Close };
            bytes.extend(request(id as u16, connection, &post("/h", "90"), &[b'x'; 90]));
        }
        let bytes = spoil(&mut dice, bytes);
        let mut stream = stage.connect();
        for part in bytes.chunks(1 + dice.next(400)) {
            if stream.write_all(part).is_err() {
                break;
            }
        }
        if dice.next(3) == 0 {
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let _ = stream.read(&mut [0; 4096]);
        }
        drop(stream);
        if round % 50 == 0 {
            assert_eq!(ask(stage.connect(), &get("/well"), b"").body(), b"/well ");
        }
    }
    let report = stage.until("quiet", |report| report.connections == 0 && report.load.idle == 2);
    assert_eq!((report.load.queued, report.load.busy), (0, 0), "{report:?}");
    // Whatever they sent: each request was counted once and written down once, and with the same outcome.
    let lines = log.lines(report.accepted as usize);
    let so_many = |outcome: &str| lines.iter().filter(|line| *line == outcome).count() as u64;
    assert_eq!(lines.len() as u64, report.accepted);
    for (outcome, counted) in [
        ("answered", report.answered),
        ("aborted", report.aborted),
        ("broken", report.broken),
        ("timed-out", report.timed_out),
        ("refused-full", report.refused_full),
        ("refused-late", report.refused_late),
    ] {
        assert_eq!(so_many(outcome), counted, "{outcome}: {report:?}");
    }
}

#[test]
fn workers_that_send_anything_cost_only_their_own_requests() {
    let mut stage = Stage::new(&settings());
    let (_, listener) = stage.seat();
    std::thread::spawn(move || {
        let mut dice = Dice(1_234_567_891);
        while let Ok((stream, _)) = listener.accept() {
            let mut visit = Visit { reader: Reader::new(stream.try_clone().unwrap()), stream };
            while visit.request().is_some() {
                let (mine, theirs) = UnixStream::pair().unwrap();
                let mut copy = Visit { reader: Reader::new(theirs.try_clone().unwrap()), stream: theirs };
                copy.reply(b"Status: 200\r\n\r\nan answer as it should be");
                drop(copy);
                let mut answer = Vec::new();
                let mut mine = mine;
                mine.read_to_end(&mut answer).unwrap();
                let spoilt = dice.next(2) == 0;
                let answer = if spoilt { spoil(&mut dice, answer) } else { answer };
                if visit.stream.write_all(&answer).is_err() || spoilt {
                    break;
                }
            }
        }
    });
    let mut well = 0;
    for _ in 0..150 {
        let answer = ask(stage.connect(), &post("/w", "1"), b"x");
        well += u32::from(answer.body() == b"an answer as it should be" && answer.end.is_some());
    }
    assert!(well >= 50, "{well} answers of 150 came through");
    let report = stage.until("quiet", |report| report.connections == 0 && report.load.idle == 1);
    assert_eq!(report.accepted, 150);
}

#[test]
fn a_crowd_of_idle_connections_costs_nothing_and_a_shortage_of_descriptors_passes() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    assert_eq!(ask(stage.connect(), &get("/before"), b"").body(), b"/before ");
    let before = stage.resident();
    let crowd: Vec<UnixStream> = (0..400).map(|_| stage.connect()).collect();
    assert_eq!(ask(stage.connect(), &get("/among"), b"").body(), b"/among ");
    assert!(stage.resident() - before < 1024, "kB for 400 idle connections");

    // No more descriptors than there are: who comes now waits.
    if !limit_descriptors(&stage, 412) {
        return;
    }
    let more: Vec<UnixStream> = (0..20).map(|_| stage.connect()).collect();
    stage.logged("cannot accept connections for a moment");
    drop(more);
    drop(crowd);
    assert_eq!(ask(stage.connect(), &get("/after"), b"").body(), b"/after ");
}

/// Allows the gateway so many descriptors; false where that cannot be done.
fn limit_descriptors(stage: &Stage, most: u32) -> bool {
    let limit = std::process::Command::new("prlimit")
        .args([format!("--pid={}", stage.pid()), format!("--nofile={most}:{most}")])
        .status();
    let is_done = limit.is_ok_and(|status| status.success());
    if !is_done {
        eprintln!("prlimit is not installed or may not be used: left out");
    }
    is_done
}

#[test]
fn all_requests_of_a_connection_together_do_not_take_what_each_of_them_may() {
    const REQUESTS: u16 = 200;
    const MOST: u64 = 48 * 1024;
    let mut stage = Stage::new(&settings());
    stage.report();
    let before = stage.resident();
    let mut stream = stage.connect();
    for id in 1..=REQUESTS {
        let mut head = Vec::new();
        let begin = BeginRequest { role: Role::Responder, connection: Connection::Keep };
        encode::begin_request(&mut head, RequestId(id), &begin);
        encode::stream(&mut head, RecordType::Params, RequestId(id), &[b'x'; 500_000]);
        stream.write_all(&head).unwrap();
    }
    stage.until("most of them refused", |report| report.accepted > u64::from(REQUESTS) - 20);
    let more = stage.resident().saturating_sub(before);
    assert!(more < MOST, "{more} kB for what was announced as 100 MB");
    // One alone may have far more than that share.
    let long = "x".repeat(60_000);
    let mut pairs = get("/alone");
    pairs.extend([("A", long.as_str()), ("B", &long), ("C", &long)]);
    let (slot, listener) = stage.seat();
    echo(listener);
    assert_eq!(ask(stage.connect(), &pairs, b"").body(), b"/alone ");
    assert_eq!(stage.report().workers[slot].requests, 1);
}

#[test]
fn what_the_master_hands_over_finds_room_while_clients_have_all_descriptors() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    let crowd: Vec<UnixStream> = (0..100).map(|_| stage.connect()).collect();
    stage.until("full", |report| report.connections == 100);
    if !limit_descriptors(&stage, 125) {
        return;
    }
    let more: Vec<UnixStream> = (0..40).map(|_| stage.connect()).collect();
    stage.logged("cannot accept connections for a moment");

    let files = ["access.log", "slow.log"].map(|name| File::create(stage.directory.join(name)).unwrap());
    let logs = [files[0].as_fd(), files[1].as_fd()];
    stage.hand(&ToGateway::Logs { has_access_log: true, has_slowlog: true }, &logs);
    let address = stage.directory.join("new.sock");
    let listener = UnixListener::bind(&address).unwrap();
    let with_logs = Settings { has_access_log: true, has_slowlog: true, ..settings() };
    stage.configure(&with_logs, &[&[listener.as_fd()], &logs[..]].concat());
    drop(more);
    drop(crowd);
    let stream = UnixStream::connect(&address).unwrap();
    assert_eq!(ask(stream, &get("/after"), b"").body(), b"/after ");
    stage.until("written", |report| report.answered == 1);
    assert!(!std::fs::read(stage.directory.join("access.log")).unwrap().is_empty());
}

#[test]
fn of_clients_of_another_gateway_as_many_are_taken_as_there_is_room_for() {
    let mut stage = Stage::new(&settings());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    if !limit_descriptors(&stage, 40) {
        return;
    }
    let (ours, theirs): (Vec<UnixStream>, Vec<UnixStream>) =
        (0..60).map(|_| UnixStream::pair().unwrap()).unzip();
    theirs.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    let descriptors: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
    stage.hand(&ToGateway::Clients, &descriptors);
    let report = stage.report();
    assert!((5..60).contains(&report.connections), "{report:?}");
    // The worker can be reached.
    let first = ours[0].try_clone().unwrap();
    assert_eq!(ask(first, &get("/first"), b"").body(), b"/first ");
}

#[test]
fn a_client_that_asks_and_does_not_read_is_not_heard_until_it_does() {
    const MOST: usize = 16 * 1024 * 1024;
    let stage = Stage::without_files(&settings());
    let mut stream = stage.connect();
    // Of an unknown type, each answered by as much and a body.
    let question = Header { kind: RecordType::Other(77), request: RequestId(0), content: 0, padding: 0 };
    let questions = question.encode().repeat(32 * 1024);
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut sent = 0;
    while let Ok(count) = stream.write(&questions[sent % questions.len()..]) {
        sent += count;
        assert!(sent < MOST, "all of them were heard");
    }
    // The rest of one that was cut.
    let rest = sent.next_multiple_of(question.encode().len()) - sent;
    let mut writer = stream.try_clone().unwrap();
    let last = questions[sent % questions.len()..][..rest].to_vec();
    writer.set_write_timeout(None).unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&last));
    let mut reader = Reader::new(stream);
    for _ in 0..(sent + rest) / question.encode().len() {
        assert_eq!(reader.record().unwrap().unwrap().kind, RecordType::UnknownType);
    }
    writing.join().unwrap().unwrap();
}
