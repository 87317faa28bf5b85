//! The access log, the slow log and FCGI_STDERR: each request is written down once however it ended, no request forges a
//! line, and no log holds anybody up.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fpmd::fcgi::body::{Connection, ProtocolStatus};
use fpmd::fcgi::encode;
use fpmd::fcgi::record::{RecordType, RequestId};
use fpmd::ids::{Pid, SlotId, WorkerId};
use fpmd::os::inspect;
use fpmd::wire::gateway::{FromGateway, Settings, Sight, ToGateway};
use serde_json::Value;

use crate::peer::{Reader, Visit, ask, echo, get, post, request, stderr};
use crate::stage::{PATIENCE, Stage, settings};

/// A log file that goes with its test.
pub struct Log(PathBuf);

impl Log {
    pub fn new() -> Log {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fpmd-log-{}-{number}", std::process::id()));
        let _ = fs::remove_file(&path);
        Log(path)
    }

    /// As the master opens it.
    pub fn open(&self) -> File {
        File::options().append(true).create(true).open(&self.0).unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }

    /// Waits for so many lines.
    pub fn lines(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines: Vec<String> = self.text().lines().map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(Instant::now() < deadline, "{lines:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn logged(format: &str) -> Settings {
    Settings { has_access_log: true, access_format: format.into(), ..settings() }
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn send(stage: &Stage, pairs: &[(&str, &str)]) -> Reader<std::os::unix::net::UnixStream> {
    let mut stream = stage.connect();
    stream.write_all(&request(1, Connection::Close, pairs, b"")).unwrap();
    Reader::new(stream)
}

#[test]
fn every_request_is_one_line_however_it_ended() {
    let log = Log::new();
    let settings = Settings {
        queue_limit: 1,
        queue_timeout: Some(Duration::from_millis(200)),
        request_terminate_timeout: Some(Duration::from_millis(700)),
        ping_path: Some("/ping".into()),
        ..logged("json")
    };
    let mut stage = Stage::with_logs(&settings, &[log.open().as_fd()]);
    end_in_every_way(&mut stage);
    let report = stage.report();
    assert_eq!((report.accepted, report.server_errors), (7, 4));
    assert_eq!((report.queue_wait.count(), report.duration.count()), (4, 4), "those that a worker had");

    let lines: Vec<Value> = log.lines(7).iter().map(|line| json(line)).collect();
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let told = |line: &Value| (text(line, "uri"), line["status"].as_u64().unwrap(), text(line, "outcome"));
    let seen: Vec<_> = lines.iter().map(told).collect();
    let wanted = [
        ("/full", 503, "refused-full"),
        ("/late", 503, "refused-late"),
        ("/answered", 201, "answered"),
        ("/broken", 502, "broken"),
        ("/aborted", 0, "aborted"),
        ("/ping", 200, "page"),
        ("/timed-out", 504, "timed-out"),
    ];
    assert_eq!(seen, wanted.map(|(uri, status, outcome)| (uri.to_owned(), status, outcome.to_owned())));

    let answered = &lines[2];
    let pid = u64::from(std::process::id());
    assert_eq!((answered["pid"].as_u64(), answered["slot"].as_u64()), (Some(pid), Some(0)));
    assert_eq!((answered["generation"].as_u64(), answered["bytes_out"].as_u64()), (Some(3), Some(4)));
    assert!(lines[1]["queue_wait"].as_f64().unwrap() >= 0.2 && lines[1]["pid"].is_null());
    assert!(lines[6]["duration"].as_f64().unwrap() >= 0.7);
}

/// Requests of all fates.
fn end_in_every_way(stage: &mut Stage) {
    let slot = stage.slot();
    let mut late = send(stage, &get("/late"));
    stage.until("waiting", |report| report.load.queued == 1);
    assert_eq!(ask(stage.connect(), &get("/full"), b"").status(), 503);
    assert_eq!(late.answer(1).status(), 503);

    let listener = stage.listener(slot);
    stage.claim(slot, 3);
    let mut client = send(stage, &get("/answered?a=b"));
    let mut visit = Visit::accept(&listener);
    visit.request().unwrap();
    visit.reply(b"Status: 201 Created\r\n\r\nbody");
    assert_eq!(client.answer(1).status(), 201);

    let mut client = send(stage, &post("/broken", "0"));
    if visit.request().is_none() {
        visit = Visit::accept(&listener);
        visit.request().unwrap();
    }
    drop(visit);
    assert_eq!(client.answer(1).status(), 502);

    // A client that keeps its connection is listened to all the time.
    let mut client = stage.connect();
    client.write_all(&request(1, Connection::Keep, &get("/aborted"), b"")).unwrap();
    let mut visit = Visit::accept(&listener);
    visit.request().unwrap();
    drop(client);
    stage.until("aborted", |report| report.aborted == 1);
    drop(visit);
    stage.until("idle", |report| report.load.idle == 1);

    assert_eq!(ask(stage.connect(), &get("/ping"), b"").body(), b"pong");
    let mut client = send(stage, &get("/timed-out"));
    let _held = Visit::accept(&listener);
    assert_eq!(client.answer(1).status(), 504);
}

#[test]
fn no_request_forges_a_line_or_a_field() {
    let log = Log::new();
    let format = "%R - %u %t \"%m %r%Q%q\" %s %{EVIL}e %{X-Evil}o";
    let mut stage = Stage::with_logs(&logged(format), &[log.open().as_fd()]);
    let (_, listener) = stage.seat();
    let evil = "x\" 200 -\n127.0.0.1 - root [x] \"GET /admin\" 200 \\\u{202e}\r\0";
    let pairs = [
        ("REQUEST_METHOD", evil),
        ("REQUEST_URI", evil),
        ("SCRIPT_NAME", "/"),
        ("QUERY_STRING", evil),
        ("REMOTE_USER", evil),
        ("EVIL", evil),
    ];
    let mut client = send(&stage, &pairs);
    let mut visit = Visit::accept(&listener);
    visit.request().unwrap();
    visit.reply(b"X-Evil: a b\"\x1b[2J\r\nStatus: 200 OK\r\n\r\n");
    client.answer(1);
    stage.report();
    let text = log.text();
    assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text}");
    assert!(text.trim_end().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{text}");
    let fields: Vec<&str> = text.trim_end().split('"').collect();
    assert_eq!(fields.len(), 3, "{text}");
    assert!(fields[0].starts_with("- - x\\x22\\x20200") && fields[0].split(' ').count() == 6, "{text}");
    assert!(fields[2].starts_with(" 200 x\\x22") && fields[2].ends_with(" a\\x20b\\x22\\x1B[2J"), "{text}");
}

#[test]
fn what_a_request_costs_is_measured_where_the_format_asks() {
    let log = Log::new();
    let mut stage = Stage::with_logs(&logged("%{user}C %{system}C %C %M %{mega}M %P"), &[log.open().as_fd()]);
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    ask(stage.connect(), &get("/"), b"");
    let line = log.lines(1).remove(0);
    let fields: Vec<f64> = line.split(' ').map(|field| field.parse().unwrap()).collect();
    assert!(fields[0] + fields[1] >= fields[2] - 0.02 && fields[2] >= 0.0, "{line}");
    assert!(fields[3] > 1_000_000.0 && (fields[4] - (fields[3] / 1_048_576.0).floor()).abs() < 0.5, "{line}");
    assert_eq!(fields[5], f64::from(std::process::id()), "{line}");
}

#[test]
fn a_rotation_loses_no_line() {
    let (first, second) = (Log::new(), Log::new());
    let mut stage = Stage::with_logs(&logged("%r"), &[first.open().as_fd()]);
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    for number in 0..20 {
        if number == 10 {
            let logs = ToGateway::Logs { has_access_log: true, has_slowlog: false };
            stage.hand(&logs, &[second.open().as_fd()]);
            stage.report();
        }
        ask(stage.connect(), &get(&format!("/{number}")), b"");
    }
    stage.report();
    let wanted = |range: std::ops::Range<u32>| range.map(|number| format!("/{number}\n")).collect::<String>();
    assert_eq!((first.text(), second.text()), (wanted(0..10), wanted(10..20)));
    stage.say(&ToGateway::Logs { has_access_log: false, has_slowlog: false });
    ask(stage.connect(), &get("/unlogged"), b"");
    stage.report();
    assert_eq!(second.text(), wanted(10..20));
}

#[test]
fn a_pipe_that_nobody_reads_holds_nobody_up() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut stage = Stage::with_logs(&logged(&format!("%r {}", "x".repeat(1000))), &[writer.as_fd()]);
    drop(writer);
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    let mut stream = stage.connect();
    let mut answers = Reader::new(stream.try_clone().unwrap());
    for number in 0..200 {
        let path = format!("/{number}");
        stream.write_all(&request(1, Connection::Keep, &get(&path), b"")).unwrap();
        assert_eq!(answers.answer(1).body(), format!("{path} ").as_bytes());
    }
    stage.logged("lines are lost so far");
    let said = stage.log().matches("cannot write the access log").count();
    assert!((1..=3).contains(&said), "{}", stage.log());
    drop(stage);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(
        text.lines().count() > 10 && text.lines().all(|line| line.ends_with("xxx") && line.starts_with('/'))
    );
}

#[test]
fn a_slow_request_is_told_of_once_with_what_its_worker_waits_for() {
    let log = Log::new();
    let settings = Settings {
        has_slowlog: true,
        request_slowlog_timeout: Some(Duration::from_millis(50)),
        request_terminate_timeout: Some(Duration::from_millis(600)),
        ..settings()
    };
    let mut stage = Stage::with_logs(&settings, &[log.open().as_fd()]);
    let slot = stage.slot();
    // It never accepts, but a request for it is a request that it has.
    stage.start(slot, Command::new("sleep").arg("60"));
    let pid = stage.child(slot).id();
    let mut pairs = get("/slow.php");
    pairs.extend([("QUERY_STRING", "a=1\n[x]"), ("SCRIPT_FILENAME", "/srv/slow.php")]);
    let mut client = send(&stage, &pairs);
    stage.until("slow", |report| report.slow == 1);
    let asked = stage.expect("a question", |message| matches!(message, FromGateway::Slow { .. }));
    let FromGateway::Slow { number, slot: SlotId(0), worker: WorkerId(1) } = asked else {
        panic!("{asked:?}")
    };
    let seen = inspect::look(Pid::new(pid as i32).unwrap());
    let sight = Sight {
        state: seen.state.map(str::to_owned),
        system_call: seen.system_call,
        waits_on: Some("socket 10.0.0.5:3306\n[forged]".into()),
        memory: seen.memory,
        trace: vec!["[0x1] usleep()".into()],
        ..Sight::default()
    };
    stage.say(&ToGateway::Seen { number, sight: sight.clone() });
    stage.say(&ToGateway::Seen { number, sight });
    assert_eq!(client.answer(1).status(), 504, "it goes on until its limit");
    assert_eq!(stage.report().slow, 1);

    let text = log.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].is_empty() && lines[1].ends_with(&format!("]  [pool www] pid {pid}")), "{text}");
    assert_eq!(lines[2], "script_filename = /srv/slow.php");
    assert_eq!(lines[3], "request = \"GET /slow.php?a=1\\x0A[x]\"");
    let age = lines[4].strip_prefix("age = ").and_then(|age| age.strip_suffix(" sec")).unwrap();
    assert!((0.05..0.6).contains(&age.parse::<f64>().unwrap()), "{text}");
    assert!(lines.contains(&"state = S (sleeping)"), "{text}");
    assert!(
        lines.iter().any(|line| line.starts_with("system_call = ") && line.ends_with("nanosleep()")),
        "{text}"
    );
    assert!(lines.contains(&"waits_on = socket 10.0.0.5:3306\\x0A[forged]"), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("memory = ")), "{text}");
    assert_eq!(lines.last(), Some(&"[0x1] usleep()"), "{text}");
    assert_eq!(text.matches("[pool www] pid").count(), 1, "{text}");
    stage.logged(&format!(
        "[pool www] child {pid}, script '/srv/slow.php' (request: \"GET /slow.php?a=1\\n[x]\") executing too slow (0."
    ));
    stage.logged(" sec), logging");
}

#[test]
fn a_block_without_the_master_s_answer_is_written_at_the_end() {
    let log = Log::new();
    let slow = Some(Duration::from_millis(50));
    let settings = Settings { has_slowlog: true, request_slowlog_timeout: slow, ..settings() };
    let mut stage = Stage::with_logs(&settings, &[log.open().as_fd()]);
    let slot = stage.slot();
    stage.start(slot, Command::new("sleep").arg("60"));
    let mut client = send(&stage, &post("/slow.php", "0"));
    stage.until("slow", |report| report.slow == 1);
    assert_eq!(log.text(), "");
    stage.say(&ToGateway::SlotGone { slot: SlotId(0) });
    assert_eq!(client.answer(1).status(), 502);
    stage.say(&ToGateway::Stop { within: Duration::ZERO });
    stage.say(&ToGateway::Shut);
    assert!(stage.ended().success());
    let text = log.text();
    assert!(text.contains("request = \"POST /slow.php\"\n") && text.ends_with("bytes_out = 0\n"), "{text}");
}

#[test]
fn what_a_worker_says_into_its_error_stream_is_logged_by_lines_if_asked() {
    for log_stderr in [true, false] {
        let mut stage = Stage::new(&Settings { log_stderr, ..settings() });
        let (_, listener) = stage.seat();
        let mut client = send(&stage, &get("/"));
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        let mut out = Vec::new();
        for part in [&b"PHP message: on"[..], b"e\ntwo\x1b[2J\nunfin", b"ished"] {
            encode::stream(&mut out, RecordType::Stderr, RequestId(1), part);
            visit.send(&std::mem::take(&mut out));
            encode::stream(&mut out, RecordType::Stdout, RequestId(1), b"");
        }
        visit.reply(b"Status: 200 OK\r\n\r\n");
        let answer = client.answer(1);
        assert_eq!(answer.stderr, b"PHP message: one\ntwo\x1b[2J\nunfinished", "the web server gets it all");
        assert_eq!(answer.end.unwrap().protocol_status, ProtocolStatus::RequestComplete);
        stage.report();
        let said = |text: &str| {
            format!("<4>[pool www] child {} said into FCGI_STDERR: \"{text}\"\n", std::process::id())
        };
        let whole = ["PHP message: one", "two\\u{1b}[2J", "unfinished"].map(said).concat();
        if log_stderr {
            stage.logged("unfinished");
            assert!(stage.log().contains(&whole), "{}", stage.log());
        } else {
            assert!(!stage.log().contains("FCGI_STDERR"), "{}", stage.log());
        }
    }
}

#[test]
fn undecorated_lines_are_marked_for_the_master() {
    let mut stage = Stage::new(&Settings { log_stderr: true, decorate_output: false, ..settings() });
    let (_, listener) = stage.seat();
    let mut client = send(&stage, &get("/"));
    let mut visit = Visit::accept(&listener);
    visit.request().unwrap();
    visit.send(&stderr(b"{\"level\":1}\n<0>x\nrest"));
    visit.reply(b"\r\n");
    client.answer(1);
    stage.logged("<4><->{\"level\":1}\n<4><-><0>x\n<4><->rest\n");
}

#[test]
fn a_log_that_cannot_be_written_costs_nothing_else() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let writer = OwnedFd::from(writer);
    for format in ["%r", "%Z"] {
        let mut stage = Stage::with_logs(&logged(format), &[writer.as_fd()]);
        let slot = stage.slot();
        echo(stage.listener(slot));
        stage.claim(slot, 1);
        assert_eq!(ask(stage.connect(), &get("/a"), b"").body(), b"/a ");
        stage.logged("[pool www] cannot write the access log: ");
    }
}
