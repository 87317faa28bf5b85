//! The pool's own pages, asked for as a web server asks, read by programs that know nothing of us: exact, escaped, and at
//! once even when every worker is stuck.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fpmd::fcgi::body::Connection;
use fpmd::ids::{Generation, Moment, Pid, SlotId, WorkerId};
use fpmd::os::clock;
use fpmd::wire::gateway::{Facts, Past, Settings, ToGateway};
use serde_json::{Value, json};

use crate::peer::{Reader, Visit, ask, echo, get, request};
use crate::stage::{Stage, settings};

fn with_pages() -> Settings {
    Settings {
        status_path: Some("/status".into()),
        ping_path: Some("/ping".into()),
        ping_response: "alive".into(),
        start_time: 1_795_162_535,
        ..settings()
    }
}

/// The page that this query asks for.
fn page(stage: &Stage, query: &str) -> String {
    let uri = format!("/status?{query}");
    let mut pairs = get("/status");
    pairs[2] = ("REQUEST_URI", &uri);
    pairs.push(("QUERY_STRING", query));
    let answer = ask(stage.connect(), &pairs, b"");
    assert_eq!((answer.status(), answer.end.unwrap().app_status), (200, 0));
    String::from_utf8(answer.body().to_vec()).unwrap()
}

/// What the program of strangers found in the page.
fn read(form: &str, text: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-python").join("bin/python3");
    assert!(python.exists(), "no {}: run tests/setup.sh once", python.display());
    let mut command = Command::new(python);
    command.arg(root.join("tests/fixtures/read_page.py")).arg(form);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "not readable:\n{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn pages_answer_when_every_worker_is_stuck() {
    let mut stage = Stage::new(&with_pages());
    let mut clients = Vec::new();
    for number in 0..2 {
        let slot = stage.slot();
        stage.start(slot, Command::new("sleep").arg("60"));
        let path = format!("/stuck/{number}");
        let mut pairs = get(&path);
        pairs.extend([("REMOTE_USER", "anna"), ("SCRIPT_FILENAME", "/srv/stuck.php")]);
        let mut stream = stage.connect();
        stream.write_all(&request(1, Connection::Close, &pairs, b"")).unwrap();
        clients.push(stream);
    }
    let mut waiting = stage.connect();
    stage.until("busy", |report| report.load.busy == 2);
    waiting.write_all(&request(1, Connection::Close, &get("/waits"), b"")).unwrap();
    stage.until("waiting", |report| report.load.queued == 1);
    stage.say(&ToGateway::Facts(Facts { max_children: 2, generation: 4, started: 7, ..Facts::default() }));

    assert_eq!(ask(stage.connect(), &get("/ping"), b"").body(), b"alive");
    let seen = read("json", &page(&stage, "json&full"));
    for (field, wanted) in [
        ("pool", json!("www")),
        ("process manager", json!("static")),
        ("start time", json!(1_795_162_535)),
        ("accepted conn", json!(5)),
        ("listen queue", json!(1)),
        ("max listen queue", json!(1)),
        ("idle processes", json!(0)),
        ("active processes", json!(2)),
        ("total processes", json!(2)),
        ("max active processes", json!(2)),
        ("queued requests", json!(1)),
        ("accept queue", json!(0)),
        ("connections", json!(4)),
        ("refused client", json!(0)),
        ("generation", json!(4)),
        ("max children", json!(2)),
        ("started", json!(7)),
    ] {
        assert_eq!(seen[field], wanted, "{field}: {seen:#}");
    }
    assert!(seen["accept queue len"].as_u64().unwrap() > 0, "{seen:#}");
    assert!(seen["memory"].as_u64().unwrap() > 100_000, "{seen:#}");
    assert!(seen["memory peak"].as_u64().unwrap() >= seen["memory"].as_u64().unwrap() / 2, "{seen:#}");
    let processes = seen["processes"].as_array().unwrap();
    let pids = [stage.child(0).id(), stage.child(1).id()].map(|pid| json!(pid));
    assert_eq!([&processes[0]["pid"], &processes[1]["pid"]], [&pids[0], &pids[1]]);
    let is_first = |process: &&Value| process["request uri"] == json!("/stuck/0");
    let process = processes.iter().find(is_first).unwrap();
    for (field, wanted) in
        [("state", "Running"), ("request method", "GET"), ("user", "anna"), ("script", "/srv/stuck.php")]
    {
        assert_eq!(process[field], json!(wanted), "{process:#}");
    }
    assert!(process["request duration"].as_u64().unwrap() > 0 && process["current requests"] == json!(1));
}

#[test]
fn numbers_are_exact_and_the_same_in_every_form() {
    let mut stage = Stage::new(&with_pages());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    for number in 0..25 {
        ask(stage.connect(), &get(&format!("/{number}")), b"");
    }
    let mut bad = stage.connect();
    bad.write_all(&[9; 64]).unwrap();
    stage.until("cut off", |report| report.refused_protocol == 1);

    let seen = read("json", &page(&stage, "json"));
    assert_eq!((&seen["accepted conn"], &seen["refused protocol"]), (&json!(26), &json!(1)), "{seen:#}");
    assert_eq!((&seen["duration"]["count"], &seen["queue wait"]["count"]), (&json!(25), &json!(25)));
    assert!(seen["processes"].is_null());

    let text = page(&stage, "");
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("no '{name}':\n{text}")).trim().to_owned()
    };
    assert_eq!((line("accepted conn"), line("idle processes")), ("27".into(), "1".into()));
    assert_eq!(line("duration count"), "25");
    let xml = read("xml", &page(&stage, "xml&full"));
    assert!(xml.to_string().contains("[\"accepted-conn\",{},\"28\",[]]"), "{xml}");
    let html = read("html", &page(&stage, "html&full"));
    assert!(html["rows"].to_string().contains("[\"accepted conn\",\"29\"]"), "{html}");
    let metrics = read("openmetrics", &page(&stage, "openmetrics&full"));
    let sample = |wanted: &str| -> Vec<f64> {
        let families = metrics.as_array().unwrap().iter();
        let samples = families.flat_map(|family| family["samples"].as_array().unwrap());
        samples.filter(|sample| sample[0] == wanted).map(|sample| sample[2].as_f64().unwrap()).collect()
    };
    assert_eq!(sample("fpmd_requests_total"), [30.0]);
    assert_eq!(sample("fpmd_request_duration_seconds_count"), [25.0]);
    assert_eq!(sample("fpmd_worker_requests_total"), [25.0]);
    assert_eq!(stage.report().accepted, 30, "and as the master is told");
}

#[test]
fn hostile_requests_break_no_page() {
    let hostile = [
        "/<script>alert(1)</script>&amp;'\"",
        "\",\"pid\":1,\"x\":\"\\",
        "]]></request-uri><![CDATA[",
        "a\nstate: Idle\r\n# EOF\n",
        "nul\0 esc\u{1b}[31m \u{202e}gpj.exe\u{2028}",
    ];
    let mut stage = Stage::new(&with_pages());
    for text in hostile {
        let (_, listener) = stage.seat();
        let pairs = [
            ("REQUEST_METHOD", text),
            ("REQUEST_URI", text),
            ("SCRIPT_NAME", "/x"),
            ("QUERY_STRING", text),
            ("REMOTE_USER", text),
            ("SCRIPT_FILENAME", text),
        ];
        let mut client = stage.connect();
        client.write_all(&request(1, Connection::Close, &pairs, b"")).unwrap();
        let mut visit = Visit::accept(&listener);
        visit.request().unwrap();
        visit.reply(b"\r\n");
        Reader::new(client).answer(1);
        drop(visit);
    }
    stage.until("idle", |report| report.load.busy == 0);
    let seen = read("json", &page(&stage, "json&full"));
    let processes = seen["processes"].as_array().unwrap();
    let users: std::collections::BTreeSet<&str> =
        processes.iter().filter_map(|process| process["user"].as_str()).collect();
    // Which worker got which request is the gateway's choice; "-" is one that got none.
    assert!(users.iter().all(|user| hostile.contains(user) || *user == "-") && users.len() > 1, "{users:?}");
    for form in ["xml", "html", "openmetrics"] {
        read(form, &page(&stage, &format!("{form}&full")));
    }
    let text = page(&stage, "full");
    assert_eq!(text.lines().filter(|line| line.starts_with("state:")).count(), processes.len(), "{text}");
}

#[test]
fn a_page_is_found_by_the_script_name_alone_and_head_has_no_body() {
    let mut stage = Stage::new(&with_pages());
    let slot = stage.slot();
    echo(stage.listener(slot));
    stage.claim(slot, 1);
    for path in ["/status/", "/statu", "/ping?", "/other/ping"] {
        assert_eq!(ask(stage.connect(), &get(path), b"").body(), format!("{path} ").as_bytes());
    }
    for path in ["/status", "/ping"] {
        let mut pairs = get(path);
        pairs[0] = ("REQUEST_METHOD", "HEAD");
        let answer = ask(stage.connect(), &pairs, b"");
        assert!(answer.text().contains("Content-Type: text/plain"), "{}", answer.text());
        assert_eq!((answer.status(), answer.body()), (200, &b""[..]));
    }
    assert_eq!(stage.report().workers[0].requests, 4, "no worker is asked for a page");
    let off = Settings { status_path: None, ping_path: None, ..with_pages() };
    let mut stage = Stage::new(&Settings { queue_timeout: Some(Duration::from_millis(1)), ..off });
    assert_eq!(
        ask(stage.connect(), &get("/status"), b"").status(),
        503,
        "a page that is switched off is a request"
    );
    assert_eq!(stage.report().refused_late, 1);
}

#[test]
fn a_worker_that_was_there_before_its_gateway_is_as_old_as_it_is() {
    let mut stage = Stage::new(&with_pages());
    let slot = stage.slot();
    let half = clock::monotonic().0 / 2;
    stage.say(&ToGateway::Worker {
        slot: SlotId(slot as u32),
        worker: WorkerId(1),
        pid: Pid::new(std::process::id() as i32).unwrap(),
        generation: Generation(1),
        started: Some(Moment(half)),
        past: Past::Unknown,
    });
    stage.until("a worker", |report| report.workers.len() == 1);
    let seen: Value = serde_json::from_str(&page(&stage, "json&full")).unwrap();
    let age = seen["processes"][0]["start since"].as_u64().unwrap();
    assert!((half.as_secs()..half.as_secs() + 60).contains(&age), "{age} of {half:?}");
}
