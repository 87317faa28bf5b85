//! `--supervise`, from the command line to an application that is replaced and a daemon that ends when told.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cases::Scene;
use super::programs::Programs;
use super::run::lives;
use super::scene::Stage;

const DEADLINE: Duration = Duration::from_secs(30);

fn wait_until(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !fact() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        sleep(Duration::from_millis(5));
    }
}

fn supervise(stage: &Stage, line: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spawn-fcgi"))
        .arg("--supervise")
        .args(line)
        .current_dir(stage.work())
        .env("XDG_RUNTIME_DIR", stage.work())
        .output()
        .unwrap()
}

fn pid_in(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Ended whatever the test finds.
struct Daemon(i32);

impl Daemon {
    /// Until it ends: the second SIGTERM does not wait for requests.
    fn end(&self) {
        // One that arrives before the last was taken counts as one.
        wait_until("the end of fpmd", || {
            let _ = kill(Pid::from_raw(self.0), Signal::SIGTERM);
            !lives(self.0)
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if lives(self.0) {
            let _ = kill(Pid::from_raw(self.0), Signal::SIGKILL);
        }
    }
}

#[test]
fn the_same_command_line_stays_and_replaces_what_dies() {
    let programs = Programs::install();
    let stage = Stage::build(Scene::Empty, 0, None, &programs.probe());
    let (probe, report) = (programs.probe(), stage.work().join("report"));
    let application = [probe.to_str().unwrap(), report.to_str().unwrap(), "stay"];
    let line = [&["-s", "sock", "-F", "2", "-P", "pid", "-C", "3", "--"][..], &application].concat();
    let started = supervise(&stage, &line);
    let pid_file = stage.work().join("pid");
    wait_until("the PID file", || pid_in(&pid_file).is_some() || !started.status.success());
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let daemon = Daemon(pid_in(&pid_file).unwrap());

    let pids = || stage.reports().iter().map(|(pid, _)| *pid).collect::<BTreeSet<i32>>();
    wait_until("two applications", || pids().len() == 2);
    for (_, report) in stage.reports() {
        assert!(report.contains("listener: listens=1 nonblocking=0 unix "), "{report}");
        assert!(report.contains("env: PHP_FCGI_CHILDREN=3\n"), "{report}");
    }
    let first = pids().first().copied().unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    wait_until("a third application", || pids().len() == 3);

    let taken = supervise(&stage, &["-s", "sock", "--", "/bin/true"]);
    assert_eq!(taken.status.code(), Some(255));
    assert_eq!(String::from_utf8_lossy(&taken.stderr), "spawn-fcgi: socket is already in use, can't spawn\n");

    daemon.end();
    for pid in pids() {
        wait_until("the end of the applications", || !lives(pid));
    }
    assert!(!pid_file.exists(), "fpmd removes its PID file");
}

#[test]
fn what_fpmd_refuses_is_on_standard_error() {
    let programs = Programs::install();
    let stage = Stage::build(Scene::Empty, 0, None, &programs.probe());
    let refused = supervise(&stage, &["-s", "sock", "--", "/no/such/application"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot execute '/no/such/application'"));
}
