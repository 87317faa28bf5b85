//! What tests with real processes share: starting them, waiting for facts about them, and ending them for certain.
//!
//! The tests run as threads of one process, so children are reaped by pid only; what concerns a whole process (its own
//! limits, its descriptors 0 to 2, its death) is tested in a copy of the test program that plays one role ([`role`]).

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::*;
use crate::ids::{ExitStatus, Signal};
use crate::os::{signal, wait};

/// No test here waits longer for a fact.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks until there is an answer.
pub(crate) fn until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(Instant::now() < end, "{what} did not happen in {DEADLINE:?}");
        nix::poll::poll(&mut [], 1u8).expect("a pause");
    }
}

/// A process of a test: killed and reaped when the test is over, however it ends.
pub(crate) struct Running {
    pub(crate) pid: Pid,
    pub(crate) report: ReportPipe,
    /// The other end of its standard output.
    pub(crate) stdout: File,
    ended: Option<ExitStatus>,
}

impl Running {
    /// With nothing to read and its standard output piped to us.
    pub(crate) fn start(what: &Spawn) -> Running {
        let stdin = File::open("/dev/null").expect("it exists");
        let (stdout, sink) = pipe();
        let streams = Descriptors {
            stdin: stdin.as_fd(),
            stdout: Output::To(sink.as_fd()),
            stderr: Output::Null,
            cgroup: None,
        };
        Running::with(what, &streams, stdout)
    }

    pub(crate) fn with(what: &Spawn, descriptors: &Descriptors<'_>, stdout: OwnedFd) -> Running {
        let Child { pid, report } = spawn(what, descriptors).expect("a process is free");
        Running { pid, report, stdout: File::from(stdout), ended: None }
    }

    pub(crate) fn answer(&self) -> Report {
        until("an answer", || match self.report.read() {
            Report::Pending => None,
            known @ (Report::Executing | Report::Failed(_)) => Some(known),
        })
    }

    pub(crate) fn end(&mut self) -> ExitStatus {
        let pid = self.pid;
        let ended = until("its end", || wait::reap_child(pid).expect("it is a child"));
        *self.ended.insert(ended.status)
    }

    /// All that it wrote until everybody had closed the pipe.
    pub(crate) fn text(&mut self) -> String {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).expect("a pipe is readable");
        text
    }

    /// One line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.stdout.read(&mut byte).expect("a pipe is readable") == 1 && byte != *b"\n" {
            line.extend(byte);
        }
        String::from_utf8(line).expect("it writes text")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = signal::send_to_session(self.pid, Signal::KILL);
            self.end();
        }
    }
}

pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("descriptors are free")
}

pub(crate) fn program(arguments: &[&str]) -> Spawn {
    Spawn::new(arguments, EnvironmentBlock::default()).expect("valid arguments")
}

pub(crate) fn shell(script: &str) -> Spawn {
    let path = EnvironmentBlock::new([("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")]).expect("a valid name");
    Spawn::new(&["/bin/sh", "-c", script], path).expect("valid arguments")
}

/// What a program wrote that ran and ended well.
pub(crate) fn output(what: &Spawn) -> String {
    let mut process = Running::start(what);
    let text = process.text();
    assert_eq!((process.answer(), process.end()), (Report::Executing, ExitStatus::Code(0)), "{text}");
    text
}

/// Why a program did not run, and its exit status.
pub(crate) fn failure(what: &Spawn) -> (String, ExitStatus) {
    let mut process = Running::start(what);
    let Report::Failed(error) = process.answer() else { panic!("it runs") };
    (error.to_string(), process.end())
}

const ROLE: &str = "FPMD_TEST_ROLE";

/// The test program again, running only this ignored test. `/proc/self/exe` needs no right to any directory.
pub(crate) fn role(test: &str) -> Spawn {
    let environment = EnvironmentBlock::new([(ROLE, test)]).expect("a valid name");
    let arguments = ["/proc/self/exe", "--exact", test, "--ignored", "--nocapture", "--test-threads=1"];
    Spawn::new(&arguments, environment).expect("valid arguments")
}

/// Whether this process was started by [`role`]: an ignored test does nothing when somebody runs it by hand.
pub(crate) fn playing() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// A line of a role that the harness's own lines cannot be taken for.
pub(crate) fn say(what: impl fmt::Display) {
    // The harness may have left its own line unfinished.
    println!("\nsaid: {what}");
}

/// The lines of [`say`].
pub(crate) fn said(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("said: ")).collect()
}

/// The next line of [`say`].
pub(crate) fn next_said(process: &mut Running) -> String {
    until("a line", || process.line().strip_prefix("said: ").map(str::to_owned))
}
