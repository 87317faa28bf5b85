//! A pool's status page against the texts in tests/golden/page, and read by programs that know nothing of us: Python's json,
//! xml and html parsers, and Prometheus' own parser of OpenMetrics (`tests/setup.sh` installs it), with hostile values too.
//! `BLESS=1 cargo test --test pages` writes the golden texts anew; then read the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fpmd::ids::{Generation, Pid, SlotId};
use fpmd::status::access::Format;
use fpmd::status::answer;
use fpmd::status::histogram::Histogram;
use fpmd::status::page::{
    AcceptQueue, Asked, Detail, Form, PoolPage, ProcessRow, ProcessState, Recycled, Refused, render,
};
use fpmd::status::stamp::{COMMON, Stamp, TimeFormat};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

const FORMS: [(Form, &str); 5] = [
    (Form::Text, "text"),
    (Form::Html, "html"),
    (Form::Json, "json"),
    (Form::Xml, "xml"),
    (Form::Openmetrics, "openmetrics"),
];

/// php-fpm 8.4's names, in its order.
const PHP_FPM: [&str; 15] = [
    "pool",
    "process manager",
    "start time",
    "start since",
    "accepted conn",
    "listen queue",
    "max listen queue",
    "listen queue len",
    "idle processes",
    "active processes",
    "total processes",
    "max active processes",
    "max children reached",
    "slow requests",
    "memory peak",
];
const PHP_FPM_PROCESS: [&str; 13] = [
    "pid",
    "state",
    "start time",
    "start since",
    "requests",
    "request duration",
    "request method",
    "request uri",
    "content length",
    "user",
    "script",
    "last request cpu",
    "last request memory",
];

fn stamp(seconds: i64) -> Stamp {
    Stamp { seconds, micros: 0, offset: 0 }
}

fn spans(micros: &[u64]) -> Histogram {
    let mut spans = Histogram::default();
    micros.iter().for_each(|micros| spans.observe(Duration::from_micros(*micros)));
    spans
}

fn row(slot: u32, state: ProcessState) -> ProcessRow<'static> {
    ProcessRow {
        pid: Pid::new(31_079 + i32::try_from(slot).unwrap()).unwrap(),
        state,
        start_time: stamp(1_795_173_708),
        start_since: 59,
        requests: 1042,
        request_duration: Duration::from_micros(20_282),
        method: b"GET",
        uri: b"/blog/index.php",
        query: b"page=2&q=a+b",
        content_length: 0,
        user: b"",
        script: b"/srv/blog/index.php",
        last_request_cpu: if state == ProcessState::Idle { 49.305 } else { 0.0 },
        last_request_memory: if state == ProcessState::Idle { 2_097_152 } else { 0 },
        slot: SlotId(slot),
        generation: Generation(2),
        current: u32::from(state != ProcessState::Idle),
        queue_wait: Duration::from_micros(137),
        rss: Some(24_117_248),
    }
}

fn page<'a>(wait: &'a Histogram, duration: &'a Histogram, processes: Vec<ProcessRow<'a>>) -> PoolPage<'a> {
    PoolPage {
        pool: "www",
        process_manager: "dynamic",
        start_time: stamp(1_795_173_707),
        start_since: 60,
        accepted: 5190,
        listen_queue: 3,
        max_listen_queue: 17,
        listen_queue_len: 5096,
        idle: 1,
        active: 2,
        total: 3,
        max_active: 3,
        max_children_reached: 1,
        slow_requests: 4,
        memory_peak: 73_400_320,
        generation: Generation(2),
        max_children: 3,
        queued: 2,
        queue_limit: 1000,
        accept_queues: vec![
            AcceptQueue { listen: "/run/fpmd/www.sock", queue: Some(1), limit: Some(511) },
            AcceptQueue { listen: "127.0.0.1:9000", queue: Some(0), limit: Some(4096) },
        ],
        connections: 40,
        server_errors: 7,
        retried: 2,
        timed_out: 1,
        broken: 3,
        aborted: 5,
        refused: Refused { queue_full: 8, queue_timeout: 9, client: Some(0), protocol: None },
        started: 12,
        recycled: Recycled { total: 6, max_requests: Some(4), exited: Some(2), ..Recycled::default() },
        crashed: 1,
        killed: 1,
        start_failures: 0,
        oom_kills: Some(2),
        memory: Some(48_234_496),
        queue_wait: wait,
        request_duration: duration,
        processes,
    }
}

/// Values of strangers: markup, quotes, line breaks, what no encoding has, what turns writing around.
const HOSTILE: [&[u8]; 12] = [
    b"",
    b"<script>alert(1)</script>",
    b"\"'`><img src=x onerror=alert(1)>",
    b"a\nstate: Idle\r\n\r\n************************\npid: 1",
    b"\",\"pid\":1,\"x\":\"\\",
    b"]]></td></tr></table>&amp;&#60;&nosuch;<!-- <![CDATA[",
    b"nul\0 esc\x1b[31m del\x7f",
    b"\xff\xfe\x80\xc3( \xed\xa0\x80 \xf5",
    "\u{202e}gpj.exe\u{2066}\u{200f}\u{feff}\u{2028}\u{85}\u{ffff}\u{fffe}".as_bytes(),
    "größe \u{1f980} 中文".as_bytes(),
    b"# EOF\nphpfpm_up 0 \\n {} \\",
    b"%s%n$(id)`id`;--",
];

fn hostile_rows() -> Vec<ProcessRow<'static>> {
    let rotated = |index: usize| HOSTILE[index % HOSTILE.len()];
    let hostile = |index: usize| ProcessRow {
        method: rotated(index),
        uri: rotated(index + 1),
        query: rotated(index + 2),
        user: rotated(index + 3),
        script: rotated(index + 4),
        last_request_cpu: if index == 0 { f64::NAN } else { f64::INFINITY },
        ..row(u32::try_from(index).unwrap(), ProcessState::ALL[index % ProcessState::ALL.len()])
    };
    (0..HOSTILE.len()).map(hostile).collect()
}

/// What a page shows of foreign bytes: in JSON the text itself, elsewhere with what cannot be seen made visible.
fn shown_in_json(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".into() } else { String::from_utf8_lossy(bytes).into_owned() }
}

fn show(form: Form, detail: Detail, page: &PoolPage<'_>) -> String {
    render(page, Asked { form, detail })
}

/// What the program of strangers found in the page.
fn read(form: &str, text: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-python").join("bin/python3");
    assert!(python.exists(), "no {}: run tests/setup.sh once", python.display());
    run(Command::new(python).arg(root.join("tests/fixtures/read_page.py")).arg(form), text)
}

fn run(command: &mut Command, input: &str) -> Value {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "not readable:\n{input}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn pages_are_as_they_were() {
    let (wait, duration) =
        (spans(&[80, 137, 90_000]), spans(&[700, 20_282, 20_300, 31_000_000, 400_000_000]));
    let rows = vec![
        row(0, ProcessState::Idle),
        ProcessRow { user: b"anna", method: b"POST", content_length: 512, ..row(1, ProcessState::Running) },
        ProcessRow { rss: None, query: b"", ..row(4, ProcessState::Finishing) },
    ];
    let page = page(&wait, &duration, rows);
    for (form, name) in FORMS {
        for (detail, suffix) in [(Detail::Pool, ""), (Detail::Full, "-full")] {
            matches(&format!("{name}{suffix}"), &show(form, detail, &page));
        }
    }
}

fn matches(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/page").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, made).expect("the golden text is writable");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == made, "{name} differs\n--- golden\n{golden}\n--- made\n{made}");
}

/// The lines that php-fpm 8.2.35 answered, with its numbers.
#[test]
fn text_begins_as_php_fpms_does() {
    let none = Histogram::default();
    let first = ProcessRow {
        start_time: stamp(1_795_173_707),
        start_since: 0,
        requests: 1,
        request_duration: Duration::from_micros(282),
        uri: b"/status?full",
        query: b"full",
        script: b"",
        last_request_cpu: 0.0,
        ..row(0, ProcessState::Idle)
    };
    let page = PoolPage {
        process_manager: "static",
        start_since: 0,
        accepted: 2,
        listen_queue: 0,
        max_listen_queue: 0,
        listen_queue_len: 4096,
        active: 1,
        total: 2,
        max_active: 1,
        max_children_reached: 0,
        slow_requests: 0,
        ..page(&none, &none, vec![first])
    };
    let text = show(Form::Text, Detail::Full, &page);
    let pool = "pool:                 www\nprocess manager:      static\nstart time:           20/Nov/2026:11:21:47 +0000\n\
        start since:          0\naccepted conn:        2\nlisten queue:         0\nmax listen queue:     0\n\
        listen queue len:     4096\nidle processes:       1\nactive processes:     1\ntotal processes:      2\n\
        max active processes: 1\nmax children reached: 0\nslow requests:        0\nmemory peak:          73400320\n";
    let process = "\n\n************************\npid:                  31079\nstate:                Idle\n\
        start time:           20/Nov/2026:11:21:47 +0000\nstart since:          0\nrequests:             1\n\
        request duration:     282\nrequest method:       GET\nrequest URI:          /status?full\n\
        content length:       0\nuser:                 -\nscript:               -\nlast request cpu:     0.00\n\
        last request memory:  2097152\n";
    assert!(text.starts_with(pool) && text.contains(process), "{text}");
    let column = |line: &&str| line.len() < 23 || line.as_bytes()[21] != b' ' || line.as_bytes()[22] == b' ';
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('*'));
    assert_eq!(lines.filter(column).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn keys_are_found_as_php_fpm_finds_them() {
    for (query, form, detail) in [
        ("", Form::Text, Detail::Pool),
        ("full", Form::Text, Detail::Full),
        ("json", Form::Json, Detail::Pool),
        ("json=", Form::Json, Detail::Pool),
        ("json=0&x", Form::Json, Detail::Pool),
        ("a=1&json&full=no", Form::Json, Detail::Full),
        ("js%6Fn", Form::Json, Detail::Pool),
        ("xml&html", Form::Html, Detail::Pool),
        ("openmetrics&json", Form::Json, Detail::Pool),
        ("openmetrics&full", Form::Openmetrics, Detail::Full),
        ("jsonx&fully", Form::Text, Detail::Pool),
        ("JSON", Form::Text, Detail::Pool),
        ("a=1;json", Form::Text, Detail::Pool),
        ("x=json", Form::Text, Detail::Pool),
        ("%", Form::Text, Detail::Pool),
        ("json%", Form::Text, Detail::Pool),
        ("xml%0", Form::Text, Detail::Pool),
    ] {
        assert_eq!(Asked::parse(query.as_bytes()), Asked { form, detail }, "{query}");
    }
}

#[test]
fn the_answer_has_php_fpms_headers_and_no_body_for_head() {
    let none = Histogram::default();
    let page = page(&none, &none, Vec::new());
    for (query, wanted) in [
        ("", "text/plain;charset=UTF-8"),
        ("html", "text/html;charset=UTF-8"),
        ("json", "application/json"),
        ("xml", "text/xml;charset=UTF-8"),
        ("openmetrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ] {
        let head = format!(
            "Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Cache-Control: no-cache, no-store, must-revalidate, max-age=0\r\nContent-Type: {wanted}\r\n\r\n"
        );
        let body = render(&page, Asked::parse(query.as_bytes()));
        for (method, wanted) in [(b"GET".as_slice(), format!("{head}{body}")), (b"HEAD", head.clone())] {
            let mut out = Vec::new();
            answer::status(&page, query.as_bytes(), method, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }
}

#[test]
fn json_holds_for_any_value() {
    let (wait, duration) = (spans(&[80]), spans(&[700, 400_000_000]));
    let page = page(&wait, &duration, hostile_rows());
    let text = show(Form::Json, Detail::Full, &page);
    let found = read("json", &text);
    let names: Vec<_> = PHP_FPM.iter().map(|name| text.find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(names.is_sorted() && !text.contains(|c: char| c.is_control() || c == '\u{202e}'));
    assert_eq!((&found["start time"], &found["accepted conn"]), (&json!(1_795_173_707), &json!(5190)));
    assert_eq!((&found["refused protocol"], &found["recycled idle"]), (&Value::Null, &Value::Null));
    assert_eq!((&found["accept queue"], &found["accept queue len"]), (&json!(1), &json!(4607)));
    assert_eq!(
        found["duration"]["buckets"].as_array().unwrap().last().unwrap(),
        &json!({"le": 300_000_000, "count": 1})
    );
    let rows = found["processes"].as_array().unwrap();
    assert_eq!(rows.len(), page.processes.len());
    for (found, row) in rows.iter().zip(&page.processes) {
        assert!(PHP_FPM_PROCESS.iter().all(|name| found.get(name).is_some()), "{found}");
        for (name, value) in [("user", row.user), ("script", row.script), ("request method", row.method)] {
            assert_eq!(found[name], shown_in_json(value));
        }
        assert_eq!((&found["state"], &found["last request cpu"]), (&json!(row.state.word()), &json!(0.0)));
    }
}

#[test]
fn xml_holds_for_any_value() {
    let (wait, duration) = (spans(&[80]), spans(&[700]));
    let page = page(&wait, &duration, hostile_rows());
    let found = read("xml", &show(Form::Xml, Detail::Full, &page));
    let children = found[3].as_array().unwrap();
    let names: Vec<_> = children.iter().map(|child| child[0].as_str().unwrap().replace('-', " ")).collect();
    assert_eq!(names[..PHP_FPM.len()], PHP_FPM);
    assert_eq!(children[2][2], "1795173707");
    let rows = children.last().unwrap()[3].as_array().unwrap();
    assert_eq!(rows.len(), page.processes.len());
    for (found, row) in rows.iter().zip(&page.processes) {
        let cells = found[3].as_array().unwrap();
        let names: Vec<_> = cells.iter().map(|cell| cell[0].as_str().unwrap().replace('-', " ")).collect();
        assert_eq!(names[..PHP_FPM_PROCESS.len()], PHP_FPM_PROCESS);
        assert!(cells.iter().all(|cell| cell[3] == json!([])), "an element from outside: {found}");
        assert_eq!((&cells[1][2], &cells[11][2]), (&json!(row.state.word()), &json!("0.00")));
    }
    let users: Vec<_> = rows.iter().map(|row| row[3][9][2].as_str().unwrap()).collect();
    assert_eq!(users, shown());
}

#[test]
fn html_holds_for_any_value() {
    let (wait, duration) = (spans(&[80]), spans(&[700]));
    let page = page(&wait, &duration, hostile_rows());
    let text = show(Form::Html, Detail::Full, &page);
    let found = read("html", &text);
    let elements = ["body", "head", "html", "style", "table", "td", "th", "title", "tr"];
    assert_eq!(found["elements"], json!(elements));
    let rows = found["rows"].as_array().unwrap();
    let names: Vec<_> = rows[..PHP_FPM.len()].iter().map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(names, PHP_FPM);
    let head = rows.iter().position(|row| row[0] == "pid").unwrap();
    let names: Vec<_> = rows[head].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names[..PHP_FPM_PROCESS.len()], PHP_FPM_PROCESS);
    let users: Vec<_> = rows[head + 1..].iter().map(|row| row[9].as_str().unwrap()).collect();
    assert_eq!(users, shown());
}

/// `HOSTILE` from the fourth on, as text and markup show it.
fn shown() -> Vec<&'static str> {
    let mut shown = vec![
        "-",
        "<script>alert(1)</script>",
        "\"'`><img src=x onerror=alert(1)>",
        "a\\x0astate: Idle\\x0d\\x0a\\x0d\\x0a************************\\x0apid: 1",
        "\",\"pid\":1,\"x\":\"\\",
        "]]></td></tr></table>&amp;&#60;&nosuch;<!-- <![CDATA[",
        "nul\\x00 esc\\x1b[31m del\\x7f",
        "\\xff\\xfe\\x80\\xc3( \\xed\\xa0\\x80 \\xf5",
        "\\u{202e}gpj.exe\\u{2066}\\u{200f}\\u{feff}\\u{2028}\\u{85}\\u{ffff}\\u{fffe}",
        "größe \u{1f980} 中文",
        "# EOF\\x0aphpfpm_up 0 \\n {} \\",
        "%s%n$(id)`id`;--",
    ];
    shown.rotate_left(3);
    shown
}

#[test]
fn text_holds_for_any_value() {
    let none = Histogram::default();
    let clean =
        show(Form::Text, Detail::Full, &page(&none, &none, vec![row(0, ProcessState::Idle); HOSTILE.len()]));
    let hostile = show(Form::Text, Detail::Full, &page(&none, &none, hostile_rows()));
    let names =
        |text: &str| text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&hostile), names(&clean));
    let users = hostile.lines().filter_map(|line| line.strip_prefix("user:                 "));
    assert_eq!(users.collect::<Vec<_>>(), shown());
}

#[test]
fn long_values_are_cut() {
    let none = Histogram::default();
    let long = vec![b'x'; 5000];
    let page =
        page(&none, &none, vec![ProcessRow { uri: &long, query: &long, ..row(0, ProcessState::Running) }]);
    for (form, name) in FORMS {
        let text = show(form, Detail::Full, &page);
        assert!(!text.contains(&"x".repeat(1025)), "{name}");
        let whole = "x".repeat(1024) + "...";
        assert!(form == Form::Openmetrics || text.contains(&format!("{whole}?{whole}")), "{name}");
    }
}

/// A family, as Prometheus' parser found it.
fn family<'a>(found: &'a Value, name: &str) -> &'a Value {
    found
        .as_array()
        .unwrap()
        .iter()
        .find(|family| family["name"] == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn openmetrics_is_valid_and_complete() {
    let (wait, duration) = (spans(&[80, 137]), spans(&[700, 1_000_000, 400_000_000]));
    let mut page = page(&wait, &duration, hostile_rows());
    page.pool = "we\"ird\\ \n{pool}";
    page.accept_queues[0].listen = "/run/a\"b\n\\.sock";
    page.accept_queues[1].queue = None;
    let text = show(Form::Openmetrics, Detail::Full, &page);
    let found = read("openmetrics", &text);
    let families = found.as_array().unwrap();
    for family in families {
        let (name, unit) = (family["name"].as_str().unwrap(), family["unit"].as_str().unwrap());
        assert!(family["help"].as_str().unwrap().ends_with('.') || name == "phpfpm_up", "{name}");
        assert_eq!(!unit.is_empty(), name.ends_with("_seconds") || name.ends_with("_bytes"), "{name}");
        assert!(!family["samples"].as_array().unwrap().is_empty(), "{name} has no samples");
        for sample in family["samples"].as_array().unwrap() {
            assert_eq!(sample[1]["pool"], page.pool, "{name}");
        }
    }
    // The names of php-fpm's samples, which dashboards have.
    for (name, value) in
        [("accepted_connections", 5190), ("max_active_processes", 3), ("slow_requests", 4), ("up", 1)]
    {
        let samples = &family(&found, &format!("phpfpm_{name}"))["samples"];
        assert_eq!(samples[0], json!([format!("phpfpm_{name}"), {"pool": page.pool}, f64::from(value)]));
    }
    let duration = family(&found, "fpmd_request_duration_seconds");
    assert_eq!((&duration["type"], &duration["unit"]), (&json!("histogram"), &json!("seconds")));
    let samples = duration["samples"].as_array().unwrap();
    let bucket = |le: &str| samples.iter().find(|sample| sample[1]["le"] == le).unwrap()[2].clone();
    assert_eq!(
        [bucket("0.0005"), bucket("0.001"), bucket("300.0"), bucket("+Inf")],
        [0.0, 1.0, 2.0, 3.0].map(Value::from)
    );
    assert!(
        samples
            .iter()
            .any(|sample| sample[0] == "fpmd_request_duration_seconds_sum" && sample[2] == json!(401.0007))
    );
    let requests = &family(&found, "fpmd_requests");
    assert_eq!(
        (&requests["type"], &requests["samples"][0][0]),
        (&json!("counter"), &json!("fpmd_requests_total"))
    );
    let queues = family(&found, "fpmd_accept_queue_length")["samples"].as_array().unwrap();
    assert_eq!((queues.len(), &queues[0][1]["listen"]), (1, &json!(page.accept_queues[0].listen)));
    let memory = family(&found, "fpmd_worker_memory_bytes")["samples"].as_array().unwrap();
    assert_eq!(
        (memory.len(), &memory[2][1]["slot"], &memory[2][1]["pid"]),
        (12, &json!("2"), &json!("31081"))
    );
    let states = family(&found, "fpmd_worker_state")["samples"].as_array().unwrap();
    let on: Vec<_> = states
        .iter()
        .filter(|sample| sample[2] == json!(1.0))
        .map(|sample| &sample[1]["fpmd_worker_state"])
        .collect();
    assert_eq!(on, page.processes.iter().map(|row| row.state.word()).collect::<Vec<_>>());
}

#[test]
fn openmetrics_without_workers_and_memory_is_valid_too() {
    let none = Histogram::default();
    let mut page = page(&none, &none, Vec::new());
    (page.memory, page.accept_queues, page.recycled) = (None, Vec::new(), Recycled::default());
    for detail in [Detail::Pool, Detail::Full] {
        let text = show(Form::Openmetrics, detail, &page);
        let found = read("openmetrics", &text);
        assert!(!text.contains("fpmd_worker_") && text.ends_with("\n# EOF\n"));
        assert!(found.as_array().unwrap().len() > 30);
    }
    let rows = vec![ProcessRow { rss: None, ..row(0, ProcessState::Idle) }];
    let text = show(Form::Openmetrics, Detail::Full, &PoolPage { processes: rows, ..page });
    read("openmetrics", &text);
    assert!(!text.contains("fpmd_worker_memory_bytes"));
}

/// One process reads many pages: it would take too long otherwise.
#[test]
fn no_bytes_break_any_form() {
    let none = Histogram::default();
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
    let text = || {
        proptest::collection::vec(any::<char>(), 0..100)
            .prop_map(|text| text.iter().collect::<String>().into_bytes())
    };
    let values = proptest::collection::vec(prop_oneof![bytes(), text()], 200);
    TestRunner::new(ProptestConfig::with_cases(3))
        .run(&values, |values| {
            let rows = values.chunks(4).map(|four| ProcessRow {
                uri: &four[0],
                query: &four[1],
                user: &four[2],
                script: &four[3],
                ..row(0, ProcessState::Running)
            });
            let page = page(&none, &none, rows.collect());
            let found = read("json", &show(Form::Json, Detail::Full, &page));
            for (found, row) in found["processes"].as_array().unwrap().iter().zip(&page.processes) {
                prop_assert_eq!(found["user"].as_str(), Some(&*shown_in_json(row.user)));
            }
            let found = read("xml", &show(Form::Xml, Detail::Full, &page));
            prop_assert_eq!(found[3].as_array().unwrap().last().unwrap()[3].as_array().unwrap().len(), 50);
            let found = read("html", &show(Form::Html, Detail::Full, &page));
            let cells: Vec<_> =
                found["rows"].as_array().unwrap().iter().map(|row| row.as_array().unwrap().len()).collect();
            prop_assert!(cells.ends_with(&[18; 51]), "{:?}", cells);
            let text = show(Form::Text, Detail::Full, &page);
            prop_assert_eq!(text.lines().filter(|line| line.starts_with("user: ")).count(), 50);
            let hides = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            prop_assert!(!text.contains(hides));
            Ok(())
        })
        .unwrap();
}

/// Python's strftime is the C library's.
#[test]
fn times_agree_with_the_c_library() {
    const FORMAT: &str = "%a %A %b %B %c %C %d %D %e %F %g %G %H %I %j %k %l %m %M %p %P %r %R %S %T %u %U %V %w %W %x %X %y %Y %z";
    let format = TimeFormat::parse(FORMAT).unwrap();
    let seconds: Vec<i64> = (0i64..3000).map(|step| 1_000_000_007 * 12 * step % 4_102_444_800).collect();
    let program = "import json,sys,time\nasked=json.load(sys.stdin)\n\
        print(json.dumps([time.strftime(asked['format'],time.gmtime(at)) for at in asked['seconds']]))";
    let mut python = Command::new("python3");
    python.args(["-c", program]).env("LC_ALL", "C").env("TZ", "UTC");
    let found = run(&mut python, &json!({"format": FORMAT, "seconds": seconds}).to_string());
    for (seconds, wanted) in seconds.iter().zip(found.as_array().unwrap()) {
        let mut made = Vec::new();
        format.write(&stamp(*seconds), &mut made);
        assert_eq!(wanted.as_str().unwrap().as_bytes(), made, "{seconds}: {}", stamp(*seconds).text(COMMON));
    }
}

#[test]
fn the_manual_has_every_field_metric_and_letter() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = fs::read_to_string(root.join("man/fpmd-status.7")).unwrap();
    let (wait, duration) = (spans(&[1]), spans(&[1]));
    let page = page(&wait, &duration, vec![row(0, ProcessState::Idle)]);
    let named =
        |line| [".It Va ", ".Pq Va ", ".Ql "].into_iter().find_map(|macros| str::strip_prefix(line, macros));
    let quoted: Vec<&str> = manual
        .lines()
        .filter_map(named)
        .flat_map(|names| names.split(" , "))
        .map(|name| name.trim_end_matches([' ', ',', '.', ':', ';']))
        .collect();
    let found: Value = serde_json::from_str(&show(Form::Json, Detail::Full, &page)).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let fields = [names(&found), names(&found["processes"][0])].concat();
    for name in fields.iter().filter(|name| *name != "processes") {
        assert!(quoted.contains(&name.as_str()), "man/fpmd-status.7 does not have the field '{name}'");
    }
    let metrics = show(Form::Openmetrics, Detail::Full, &page);
    for sample in metrics.lines().filter(|line| line.starts_with("fpmd_")) {
        let name = sample.split('{').next().unwrap();
        let family = name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
        assert!(quoted.contains(&family), "man/fpmd-status.7 does not have the metric '{family}'");
    }
    for letter in ' '..='~' {
        let forms = [format!("%{letter}"), format!("%{{NAME}}{letter}"), format!("%{{Name}}{letter}")];
        let known = forms.iter().any(|form| Format::parse(form).is_ok());
        let listed = manual.lines().any(|line| forms.iter().any(|form| line == format!(".It Ql \\&{form}")));
        assert_eq!(known, listed, "man/fpmd-status.7 and the letter '{letter}'");
    }
}
