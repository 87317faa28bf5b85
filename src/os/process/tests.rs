//! Real processes: what a worker finds when its program starts, and what is said when it does not.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::*;
use crate::ids::ExitStatus;
use crate::os::wait;

/// No test here waits longer for a fact.
const DEADLINE: Duration = Duration::from_secs(20);

fn until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(Instant::now() < end, "{what} did not happen in {DEADLINE:?}");
        nix::poll::poll(&mut [], 1u8).expect("a pause");
    }
}

/// What a finished process left.
struct Outcome {
    report: Report,
    status: ExitStatus,
    stdout: String,
}

fn blueprint(arguments: &[&str]) -> Spawn {
    Spawn::new(arguments, EnvironmentBlock::default()).expect("valid arguments")
}

fn shell(script: &str) -> Spawn {
    blueprint(&["/bin/sh", "-c", script])
}

fn end_of(child: &Child) -> (Report, ExitStatus) {
    let report = until("an answer", || match child.report.read() {
        Report::Pending => None,
        known @ (Report::Executing | Report::Failed(_)) => Some(known),
    });
    let ended = until("its end", || wait::reap_child(child.pid).expect("it is a child"));
    (report, ended.status)
}

/// Runs it to its end with its standard output read.
fn run(what: &Spawn) -> Outcome {
    let stdin = File::open("/dev/null").expect("it exists");
    let (output, stdout) = pipe();
    let descriptors = Descriptors {
        stdin: stdin.as_fd(),
        stdout: Output::To(stdout.as_fd()),
        stderr: Output::Null,
        cgroup: None,
    };
    let child = spawn(what, &descriptors).expect("a process is free");
    drop(stdout);
    let mut text = String::new();
    File::from(output).read_to_string(&mut text).expect("a pipe is readable");
    let (report, status) = end_of(&child);
    Outcome { report, status, stdout: text }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("descriptors are free")
}

fn output(what: &Spawn) -> String {
    let outcome = run(what);
    assert_eq!(
        (outcome.report, outcome.status),
        (Report::Executing, ExitStatus::Code(0)),
        "{}",
        outcome.stdout
    );
    outcome.stdout
}

fn failure(what: &Spawn) -> (String, ExitStatus) {
    let outcome = run(what);
    let Report::Failed(error) = outcome.report else { panic!("it runs: {:?}", outcome.report) };
    (error.to_string(), outcome.status)
}

#[test]
fn the_program_runs() {
    assert_eq!(output(&blueprint(&["/bin/echo", "a", "b c"])), "a b c\n");
}

#[test]
fn a_missing_program_is_named() {
    let missing = blueprint(&["/usr/bin/php-cgx"]);
    let expected = "cannot execute '/usr/bin/php-cgx': No such file or directory".to_owned();
    assert_eq!(failure(&missing), (expected, ExitStatus::Code(127)));
}

#[test]
fn the_umask_is_set() {
    assert_eq!(output(&Spawn { umask: Some(0o137), ..shell("umask") }), "0137\n");
}
