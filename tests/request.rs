//! The FastCGI client of `fpmctl request` against real applications: the demo worker, php-cgi, and one that answers
//! without listening. Each application gets its listening socket on FD 0 and ends with its test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fpmd::cli::request::{Data, Endpoint, Request, Target};
use fpmd::ctl::request::{RequestError, Response, run};
use fpmd::fcgi::body::ProtocolStatus;
use fpmd::fcgi::decode::Record;
use fpmd::fcgi::encode;
use fpmd::fcgi::record::{RecordType, RequestId};

/// A directory of its own for each test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fpmd-request-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An application on a socket, killed with its test.
struct Application(Child);

impl Application {
    fn start(command: &[&str], listener: OwnedFd) -> Application {
        let child = Command::new(command[0])
            .args(&command[1..])
            .env("PHP_FCGI_MAX_REQUESTS", "0")
            .stdin(listener)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Application(child)
    }

    fn demo(listener: OwnedFd) -> Application {
        Application::start(&[env!("CARGO_BIN_EXE_fpmd"), "demo-worker"], listener)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn unix(folder: &Folder) -> (OwnedFd, Endpoint) {
    let path = folder.0.join("socket");
    (UnixListener::bind(&path).unwrap().into(), Endpoint::Unix(path))
}

fn get(path: &str) -> Request {
    Request {
        target: Target::Endpoint(Endpoint::Abstract("unused".into())),
        path: path.into(),
        method: None,
        data: None,
        headers: Vec::new(),
        params: Vec::new(),
        root: None,
        include: false,
        timeout: Duration::from_secs(20),
    }
}

/// The response with its body and what was said on the error stream.
fn send(request: &Request, endpoint: &Endpoint) -> Result<(Response, Vec<u8>, String), RequestError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let response = run(request, endpoint, &mut out, &mut err)?;
    assert!(request.include || response.body == out.len() as u64);
    Ok((response, out, String::from_utf8(err).unwrap()))
}

/// So many bytes, of which no two neighbours are alike.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn the_demo_worker_answers_over_unix_and_tcp() {
    let folder = Folder::new();
    let (listener, endpoint) = unix(&folder);
    let _unix = Application::demo(listener);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let _tcp = Application::demo(tcp.into());
    for endpoint in [endpoint, Endpoint::Tcp(address)] {
        let (response, body, _) = send(&get("/?a=b"), &endpoint).unwrap();
        assert_eq!((response.status, response.app_status), (200, 0));
        assert!(String::from_utf8(body).unwrap().contains("GET /?a=b"));
        assert_eq!(send(&get("/missing"), &endpoint).unwrap().0.status, 404);
    }
}

#[test]
fn twenty_megabytes_go_up_and_down() {
    let folder = Folder::new();
    let (listener, endpoint) = unix(&folder);
    let _demo = Application::demo(listener);
    let sent = pattern(20_000_000);
    let data = Some(Data::File(folder.write("upload", &sent)));
    let (_, echoed, _) = send(&Request { data, ..get("/echo") }, &endpoint).unwrap();
    assert!(echoed == sent);
    assert_eq!(send(&get("/bytes?n=20000000"), &endpoint).unwrap().0.body, 20_000_000);
    let data = Some(Data::File(folder.write("upload", &pattern(34_000_000))));
    assert_eq!(send(&Request { data, ..get("/echo") }, &endpoint).unwrap().0.status, 413);
}

#[test]
fn both_ways_at_once() {
    let folder = Folder::new();
    let (listener, endpoint) = unix(&folder);
    // Gives each piece back before it reads the next: a client that only sends at first would never end.
    let application = std::thread::spawn(move || {
        let (mut stream, _) = UnixListener::from(listener).accept().unwrap();
        stream.write_all(&stdout(b"\n")).unwrap();
        let mut bytes = Vec::new();
        loop {
            while let Some((record, length)) = Record::first(&bytes).unwrap() {
                match (record.header.kind, record.content) {
                    (RecordType::Stdin, []) => {
                        let mut end = Vec::new();
                        encode::end_request(&mut end, RequestId(1), 0, ProtocolStatus::RequestComplete);
                        return stream.write_all(&end).unwrap();
                    }
                    (RecordType::Stdin, piece) => stream.write_all(&stdout(piece)).unwrap(),
                    _ => {}
                }
                bytes.drain(..length);
            }
            let mut more = [0; 65_536];
            let length = stream.read(&mut more).unwrap();
            assert_ne!(length, 0);
            bytes.extend_from_slice(&more[..length]);
        }
    });
    let sent = pattern(20_000_000);
    let data = Some(Data::File(folder.write("upload", &sent)));
    let (_, echoed, _) = send(&Request { data, ..get("/") }, &endpoint).unwrap();
    assert!(echoed == sent);
    application.join().unwrap();
}

/// Records of STDOUT.
fn stdout(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::stream(&mut bytes, RecordType::Stdout, RequestId(1), content);
    bytes
}

#[test]
fn an_application_may_answer_without_reading_the_body() {
    let folder = Folder::new();
    let (listener, endpoint) = unix(&folder);
    let application = std::thread::spawn(move || {
        let (mut stream, _) = UnixListener::from(listener).accept().unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
        let mut bytes = Vec::new();
        encode::stream(&mut bytes, RecordType::Stdout, RequestId(1), b"Status: 413 Too Much\r\n\r\nno");
        encode::end_request(&mut bytes, RequestId(1), 0, ProtocolStatus::RequestComplete);
        stream.write_all(&bytes).unwrap();
        stream
    });
    let data = Some(Data::File(folder.write("upload", &pattern(20_000_000))));
    let (response, body, _) = send(&Request { data, ..get("/") }, &endpoint).unwrap();
    assert_eq!((response.status, body), (413, b"no".to_vec()));
    application.join().unwrap();
}

#[test]
fn a_worker_that_crashes_is_no_answer() {
    let folder = Folder::new();
    let (listener, endpoint) = unix(&folder);
    let _demo = Application::demo(listener);
    let error = send(&get("/crash"), &endpoint).unwrap_err().to_string();
    assert!(error.ends_with("the connection was closed before it said anything"), "{error}");
}

#[test]
fn php_cgi_is_served_what_it_needs() {
    let folder = Folder::new();
    let script = br#"<?php
        header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
        http_response_code(201);
        error_log('said to the web server');
        echo json_encode([
            'query' => $_GET, 'post' => $_POST, 'length' => strlen(file_get_contents('php://input')),
            'script' => $_SERVER['SCRIPT_NAME'], 'agent' => $_SERVER['HTTP_X_AGENT'] ?? null,
            'big' => strlen($_SERVER['BIG'] ?? ''),
        ]);"#;
    folder.write("a b.php", script);
    let (listener, endpoint) = unix(&folder);
    let _php = Application::start(&["php-cgi", "-d", "log_errors=1", "-d", "error_log="], listener);
    let root = Some(folder.0.to_string_lossy().into_owned());

    let request = Request {
        root: root.clone(),
        data: Some(Data::Text("x=1&y=2".into())),
        headers: vec![("X-Agent".into(), "me".into())],
        params: vec![("BIG".into(), "b".repeat(65_000))],
        include: true,
        ..get("/a%20b.php?q=1")
    };
    let (response, out, err) = send(&request, &endpoint).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!((response.status, response.reason.as_str()), (201, "Created"));
    assert!(response.fields.contains(&("X-Method".into(), "POST".into())), "{response:?}");
    assert!(out.starts_with("Status: 201 Created\n"), "{out}");
    let (_, body) = out.split_once("\n\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "query": {"q": "1"}, "post": {"x": "1", "y": "2"}, "length": 7,
        "script": "/a b.php", "agent": "me", "big": 65_000,
    });
    assert_eq!(body, expected);
    assert!(err.contains("said to the web server"), "{err}");

    let upload = Some(Data::File(folder.write("upload", &pattern(20_000_000))));
    let headers = vec![("Content-Type".into(), "application/octet-stream".into())];
    let request = Request { root: root.clone(), data: upload, headers, ..get("/a%20b.php") };
    let (_, body, _) = send(&request, &endpoint).unwrap();
    assert!(String::from_utf8(body).unwrap().contains("\"length\":20000000"));

    let (missing, _, _) = send(&Request { root, ..get("/none.php") }, &endpoint).unwrap();
    assert_eq!(missing.status, 404);
}
