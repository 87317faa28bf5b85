//! Real workers: answers byte for byte, on fresh and on kept connections, with bodies of every size, while workers are
//! killed and replaced. A program that is not installed is said to be missing and left out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fpmd::fcgi::body::Connection;

use crate::peer::{Answer, Reader, ask, request};
use crate::stage::{Stage, connect, settings};

const PHP: &str = r"<?php
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
echo $_SERVER['QUERY_STRING'], '|', file_get_contents('php://input');";

const PERL: &str = r#"use FCGI;
my $request = FCGI::Request();
while ($request->Accept() >= 0) {
    my ($body, $part) = ('');
    while (read(STDIN, $part, 65536)) { $body .= $part; }
    print "Content-Type: text/plain\r\n\r\n$ENV{QUERY_STRING}|$body";
}"#;

const C: &str = r#"#include <fcgiapp.h>
#include <stdlib.h>
int main(void) {
    FCGX_Request r;
    FCGX_Init();
    FCGX_InitRequest(&r, 0, 0);
    while (FCGX_Accept_r(&r) >= 0) {
        char *q = FCGX_GetParam("QUERY_STRING", r.envp), buffer[8192];
        int n;
        FCGX_FPrintF(r.out, "Content-Type: text/plain\r\n\r\n%s|", q ? q : "");
        /* As many programs, it does not look at the body unless it is told to. */
        if (!q || q[0] != 'u')
            while ((n = FCGX_GetStr(buffer, sizeof buffer, r.in)) > 0) FCGX_PutStr(buffer, n, r.out);
        FCGX_Finish_r(&r);
    }
    return 0;
}"#;

struct Kind {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    script: PathBuf,
}

impl Kind {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env("PHP_FCGI_MAX_REQUESTS", "20");
        command
    }
}

/// Writes a source next to the sockets.
fn source(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn installed(program: &str, probe: &[&str]) -> bool {
    let status = Command::new(program).args(probe).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = status.is_ok_and(|status| status.success());
    if !found {
        eprintln!("{program} {probe:?} is not installed: left out");
    }
    found
}

/// What is installed here.
fn kinds(directory: &Path) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if installed("php-cgi", &["-v"]) {
        let script = source(directory, "echo.php", PHP);
        let ini = ["-d", "post_max_size=64M", "-d", "enable_post_data_reading=0"];
        let arguments = ini.iter().map(PathBuf::from).collect();
        kinds.push(Kind { name: "php-cgi", program: "php-cgi".into(), arguments, script });
    }
    if installed("perl", &["-MFCGI", "-e", "1"]) {
        let script = source(directory, "echo.pl", PERL);
        let arguments = vec![script.clone()];
        kinds.push(Kind { name: "Perl FCGI", program: "perl".into(), arguments, script });
    }
    let (code, program) = (source(directory, "echo.c", C), directory.join("echo"));
    let built =
        Command::new("cc").arg(&code).arg("-o").arg(&program).arg("-lfcgi").stderr(Stdio::null()).status();
    if built.is_ok_and(|status| status.success()) {
        kinds.push(Kind { name: "libfcgi C", program, arguments: Vec::new(), script: code });
    } else {
        eprintln!("a C compiler with libfcgi is not installed: left out");
    }
    kinds
}

fn params<'a>(kind: &'a Kind, method: &'a str, query: &'a str, length: &'a str) -> Vec<(&'a str, &'a str)> {
    let script = kind.script.to_str().unwrap();
    vec![
        ("REQUEST_METHOD", method),
        ("SCRIPT_FILENAME", script),
        ("SCRIPT_NAME", "/echo"),
        ("REQUEST_URI", "/echo"),
        ("QUERY_STRING", query),
        ("CONTENT_LENGTH", length),
        ("CONTENT_TYPE", "application/octet-stream"),
        ("REDIRECT_STATUS", "200"),
    ]
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 31 % 257) as u8).collect()
}

/// A request for an echo and whether its answer is that.
fn echoes(kind: &Kind, address: &Path, number: usize, size: usize) -> Result<(), Answer> {
    let (query, length, body) = (format!("q{number}"), size.to_string(), body(size));
    let (method, length) = if size == 0 { ("GET", "") } else { ("POST", length.as_str()) };
    let answer = ask(connect(address), &params(kind, method, &query, length), &body);
    let expected = [query.as_bytes(), b"|", &body].concat();
    if answer.body() == expected && answer.end.is_some() { Ok(()) } else { Err(answer) }
}

fn for_each_kind(test: impl Fn(&Kind, &mut Stage)) {
    let scratch = std::env::temp_dir().join(format!("fpmd-gateway-kinds-{}", std::process::id()));
    let scratch = scratch.with_extension(format!("{:?}", std::thread::current().id()));
    std::fs::create_dir_all(&scratch).unwrap();
    for kind in kinds(&scratch) {
        let mut stage = Stage::new(&settings());
        for slot in 0..2 {
            assert_eq!(stage.slot(), slot);
            stage.start(slot, &mut kind.command());
        }
        test(&kind, &mut stage);
    }
    std::fs::remove_dir_all(&scratch).unwrap();
}

/// Does `work` while workers that end are replaced, as the master would.
fn while_replacing<T: Send>(kind: &Kind, stage: &mut Stage, work: impl FnOnce(&Path) -> T + Send) -> T {
    let address = stage.address.clone();
    std::thread::scope(|scope| {
        let work = scope.spawn(move || work(&address));
        while !work.is_finished() {
            for slot in 0..2 {
                if stage.child(slot).try_wait().unwrap().is_some() {
                    stage.bury(slot);
                    stage.start(slot, &mut kind.command());
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_body_whose_length_the_client_did_not_know_comes_back() {
    for_each_kind(|kind, stage| {
        for size in [1, 9_000, 1_000_000] {
            let body = body(size);
            let mut without = params(kind, "POST", "q", "");
            for length in ["empty", "absent"] {
                let answer = ask(connect(&stage.address), &without, &body);
                let expected = [&b"q|"[..], &body].concat();
                assert!(
                    answer.body() == expected,
                    "{}: {size} bytes, {length}: {:.200}",
                    kind.name,
                    answer.text()
                );
                without.retain(|(name, _)| *name != "CONTENT_LENGTH");
            }
        }
    });
}

#[test]
fn bodies_of_every_size_come_back() {
    for_each_kind(|kind, stage| {
        let sizes = [0, 1, 0, 8_000, 0, 9_000, 65_535, 0, 1_000_000, 0, 10_000_000, 0];
        for (number, size) in sizes.into_iter().enumerate() {
            let result = echoes(kind, &stage.address, number, size);
            assert!(result.is_ok(), "{}: {size} bytes: {:.200}", kind.name, result.unwrap_err().text());
        }
        let report = stage.report();
        assert_eq!((report.broken, report.retried, report.aborted), (0, 0, 0), "{}", kind.name);
    });
}

#[test]
fn a_body_that_was_not_read_does_not_harm_the_next_request() {
    for_each_kind(|kind, stage| {
        while_replacing(kind, stage, |address| {
            for number in 0..20 {
                let answer = ask(connect(address), &params(kind, "POST", "unread", "20000"), &body(20_000));
                assert!(answer.body().starts_with(b"unread|"), "{}: {}", kind.name, answer.text());
                let result = echoes(kind, address, number, 0);
                assert!(result.is_ok(), "{}: {:?}", kind.name, result);
            }
        });
    });
}

#[test]
fn workers_that_end_after_their_last_request_cost_no_request() {
    for_each_kind(|kind, stage| {
        // php-cgi ends after each 20.
        while_replacing(kind, stage, |address| {
            let mut stream = connect(address);
            let mut reader = Reader::new(stream.try_clone().unwrap());
            for number in 0..200 {
                let query = format!("q{number}");
                let small = [b'x'; 10];
                let (method, length, body) =
                    if number % 3 == 0 { ("POST", "10", &small[..]) } else { ("GET", "", &small[..0]) };
                let bytes = request(1, Connection::Keep, &params(kind, method, &query, length), body);
                stream.write_all(&bytes).unwrap();
                let answer = reader.answer(1);
                let expected = [query.as_bytes(), b"|", body].concat();
                assert_eq!(answer.body(), expected, "{} {number}: {}", kind.name, answer.text());
            }
        });
        let report = stage.report();
        assert_eq!((report.broken, report.accepted), (0, 200), "{}", kind.name);
    });
}

#[test]
fn workers_that_are_killed_cost_at_most_the_request_in_them() {
    for_each_kind(|kind, stage| {
        let (mut lost, mut kills) = (0, 0);
        for round in 0..15 {
            let _ = stage.child(round % 2).kill();
            kills += 1;
            lost += while_replacing(kind, stage, |address| {
                let failed = (0..10).filter_map(|number| {
                    let size = [0, 1, 8_000, 65_535][number % 4];
                    echoes(kind, address, number, size).err()
                });
                let failed: Vec<Answer> = failed.collect();
                for answer in &failed {
                    let (status, text) = (answer.status(), answer.text());
                    assert_eq!((status, answer.end.is_some()), (502, true), "{}: {text}", kind.name);
                }
                failed.len() as u64
            });
        }
        assert!(lost <= kills, "{}: {lost} lost for {kills} killed", kind.name);
        let report = stage.report();
        assert_eq!((report.accepted, report.broken), (150, lost), "{}", kind.name);
    });
}
