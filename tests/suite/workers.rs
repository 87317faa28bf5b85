//! Every kind of worker that the manager is for serves pages through the pool's socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig};
use crate::support::workers;

/// The worker answers a page and a body of 200,000 bytes.
#[track_caller]
fn serves(command: &[String], sum: &str) {
    serves_in(Rig::new(), command, sum);
}

#[track_caller]
fn serves_in(rig: Rig, command: &[String], sum: &str) {
    let fpmd = rig.pool(Pool::new("www", command).workers(2)).start();
    let pids = fpmd.workers("www");
    let page = fpmd.address("www").get("/pid").unwrap();
    assert!(
        pids.contains(&page.text().parse().unwrap()) || is_child_of(&page.text(), &pids),
        "{page:?} {pids:?}"
    );
    assert!(page.head.contains("text/plain"), "{page:?}");
    let body = vec![b'a'; 200_000];
    assert_eq!(fpmd.address("www").ask("POST", "/body", &body).unwrap().text(), format!("200000 {sum}"));
    finish(fpmd);
}

/// A forking worker answers from a child of its own.
fn is_child_of(pid: &str, parents: &[i32]) -> bool {
    let process = crate::support::process::process(pid.parse().unwrap());
    process.is_some_and(|process| parents.contains(&process.parent))
}

#[track_caller]
fn finish(fpmd: Fpmd) {
    let pids = fpmd.workers("www");
    assert_eq!(pids.len(), 2);
    fpmd.finish();
}

/// MD5 of 200,000 times `a`.
const MD5: &str = "561b1994f6baacd6e5eaf4baaa12849f";

#[test]
fn php_cgi() {
    serves(&workers::php(), MD5);
}

#[test]
fn flup_threaded() {
    serves_in(Rig::new().for_python(), &workers::flup("threaded"), MD5);
}

#[test]
fn flup_single() {
    serves_in(Rig::new().for_python(), &workers::flup("single"), MD5);
}

#[test]
fn flup_forking() {
    // Its idle parent never heeds SIGTERM without a connection, and is killed with its spare child.
    let rig = Rig::new().for_python().expect("leftover").expect("orphan");
    serves_in(rig, &workers::flup("fork"), MD5);
}

#[test]
fn flipflop() {
    serves_in(Rig::new().for_python(), &workers::flipflop(), MD5);
}

#[test]
fn perl_fcgi() {
    serves(&workers::perl(), MD5);
}

#[test]
fn libfcgi_c() {
    // The C worker answers the sum of the bytes.
    serves(&workers::c(), &(200_000 * u64::from(b'a')).to_string());
}

#[test]
fn fcgiwrap() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::fcgiwrap()).workers(2)).start();
    let script = workers::fixture("cgi/app.cgi");
    let ran =
        fpmd.ctl_done(&["request", "www", "/", "--param", &format!("SCRIPT_FILENAME={}", script.display())]);
    assert!(fpmd.workers("www").contains(&ran.trim().parse().unwrap()), "{ran}");
    finish(fpmd);
}

#[test]
fn uvicorn_behind_a_gateway_is_told_what_it_needs() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::uvicorn())).start();
    fpmd.expect("dispatch = \"direct\"");
    fpmd.expect("Invalid HTTP request");
    let answer = fpmd.address("www").get("/").unwrap();
    assert!(answer.head.starts_with("Status: 502"), "{answer:?}");
    fpmd.wait_log("a worker that does not speak FastCGI needs dispatch = \"direct\"");
    let mut stream = UnixStream::connect(fpmd.socket("www")).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    fpmd.wait_log("a pool that speaks another protocol, such as HTTP, needs dispatch = \"direct\"");
    fpmd.finish();
}

#[test]
fn uvicorn_which_speaks_http() {
    let fpmd =
        Rig::new().pool(Pool::new("www", &workers::uvicorn()).workers(2).dispatch(Dispatch::Direct)).start();
    let mut stream = UnixStream::connect(fpmd.socket("www")).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    finish(fpmd);
}
