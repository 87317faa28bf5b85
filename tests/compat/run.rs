//! Runs one command line as one caller with one program, and tells all that came of it as text that is the same each time:
//! status, output, files, and what every application inherited. Ends and awaits every process that it caused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};

use super::cases::Case;
use super::scene::{NOBODY, Stage};

/// Nothing here takes longer, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(30);

/// Whatever runs the tests may have left descriptors open; the cases bring their own.
const TIDY: &str = "umask 022; for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd > 2)) && exec {fd}>&-; done; ";

/// Who runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Root,
    Ordinary,
}

/// What came of `case`.
pub fn outcome(case: &Case, caller: Caller, program: &Path, probe: &Path) -> String {
    let port = free_port();
    let owner = (geteuid().is_root() && caller == Caller::Ordinary).then_some(NOBODY);
    let stage = Stage::build(case.scene, port, owner, probe);
    let words = Words { work: stage.work(), program: program.to_owned(), probe: probe.to_owned(), port };
    let mut child = start(case, caller, &stage, &words);
    let status = wait_for_facts(case, &mut child, &stage);
    let files = stage.listing();
    let caused = Caused::gather(&stage);
    let status = status.unwrap_or_else(|| {
        // In place: it has become the application, and it is ours to end.
        child.kill().unwrap();
        child.wait().unwrap();
        "became the application".to_owned()
    });
    caused.end();
    tell(&status, &files, &caused, &stage, &words)
}

/// What stands for what in arguments, and the other way round in results.
struct Words {
    work: PathBuf,
    program: PathBuf,
    probe: PathBuf,
    port: u16,
}

impl Words {
    fn fill(&self, word: &str) -> String {
        if word == "''" {
            return String::new();
        }
        let report = self.work.join("report");
        word.replace("{probe}", &self.probe.display().to_string())
            .replace("{report}", &report.display().to_string())
            .replace("{port}", &self.port.to_string())
            .replace("{high}", &(u32::from(self.port) + 65536).to_string())
            .replace("{longest}", &"x".repeat(107))
            .replace("{long}", &"x".repeat(108))
            .replace('\u{a0}', " ")
    }

    fn unfill(&self, text: &str) -> String {
        let base = self.work.parent().unwrap_or(&self.work);
        let text = text
            .replace(&self.work.display().to_string(), "WORK")
            .replace(&base.display().to_string(), "BASE")
            .replace(&self.probe.display().to_string(), "PROBE")
            .replace(&self.program.display().to_string(), "PROGRAM")
            .replace(&self.port.to_string(), "PORT")
            .replace(&"x".repeat(107), "LONGEST");
        match std::fs::read_to_string("/proc/sys/net/core/somaxconn") {
            Ok(most) => text.replace(&format!("backlog={most}"), "backlog=MOST\n"),
            Err(_) => text,
        }
    }
}

fn start(case: &Case, caller: Caller, stage: &Stage, words: &Words) -> Child {
    let mut command = if geteuid().is_root() {
        let id = if caller == Caller::Root { 0 } else { NOBODY };
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={id}"), format!("--regid={id}")]).args([
            "--clear-groups",
            "--",
            "env",
        ]);
        command
    } else {
        Command::new("env")
    };
    // Whoever runs the tests may ignore signals: nohup does, and a shell for what it puts into the background.
    command.args(["--default-signal", "bash"]);
    let line = case.line.split(' ').filter(|word| !word.is_empty()).map(|word| words.fill(word));
    command
        .args(["-c", &format!("{TIDY}{}", case.shell), "bash"])
        .args(["env", "-i"])
        .args(case.environment.split_terminator(' ').map(|entry| words.fill(entry)))
        .arg(&words.program)
        .args(line)
        .current_dir(&words.work)
        .stdin(Stdio::null())
        .stdout(File::create(stage.beside("out")).unwrap())
        .stderr(File::create(stage.beside("err")).unwrap());
    command.spawn().expect("setpriv and bash are there")
}

/// Waits until the program has ended and every application that lives has reported, or, in place, until it has become one.
fn wait_for_facts(case: &Case, child: &mut Child, stage: &Stage) -> Option<String> {
    let deadline = Instant::now() + DEADLINE;
    let in_place =
        |stage: &Stage, pid: u32| stage.reports().iter().any(|(reporter, _)| *reporter as u32 == pid);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let silent = Caused::gather(stage).silent();
            if silent.is_empty() || !case.line.contains("report") {
                return Some(status.to_string());
            }
        } else if case.line.contains("stay") && in_place(stage, child.id()) {
            return None;
        }
        assert!(Instant::now() < deadline, "{}: nothing happens any more", case.name);
        sleep(Duration::from_millis(2));
    }
}

/// The processes that a run has caused, and what they reported.
struct Caused {
    pids: BTreeSet<i32>,
    reports: BTreeMap<i32, String>,
}

impl Caused {
    fn gather(stage: &Stage) -> Caused {
        let said = fs::read_to_string(stage.beside("out")).unwrap_or_default();
        let said = said.lines().filter_map(|line| line.split_once("PID: ")).map(|(_, pid)| pid.to_owned());
        // A PID file that the scene has made names nobody.
        let written = pid_file(stage).unwrap_or_default();
        let written = written.lines().filter(|line| line.len() > 2 && line.len() < 9).map(str::to_owned);
        let reports: BTreeMap<i32, String> = stage.reports().into_iter().collect();
        let named = said.chain(written.collect::<Vec<_>>()).filter_map(|pid| pid.parse().ok());
        let pids = named.chain(reports.keys().copied()).collect();
        Caused { pids, reports }
    }

    /// Those that live and have not reported.
    fn silent(&self) -> Vec<i32> {
        self.pids.iter().copied().filter(|pid| !self.reports.contains_key(pid) && lives(*pid)).collect()
    }

    fn end(&self) {
        let deadline = Instant::now() + DEADLINE;
        for &pid in &self.pids {
            if lives(pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        for &pid in &self.pids {
            while lives(pid) {
                assert!(Instant::now() < deadline, "process {pid} does not end");
                sleep(Duration::from_millis(2));
            }
        }
    }
}

/// Whether the process is there and is no zombie, which is its new parent's business.
pub fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn pid_file(stage: &Stage) -> Option<String> {
    let path = stage.work().join("pid");
    path.is_file().then(|| fs::read_to_string(path).unwrap())
}

fn tell(status: &str, files: &[String], caused: &Caused, stage: &Stage, words: &Words) -> String {
    let mut told = format!("{status}\n");
    let read = |name| String::from_utf8_lossy(&fs::read(stage.beside(name)).unwrap()).into_owned();
    let (out, err) = (read("out"), read("err"));
    for (name, text) in [("out", shorten(&out)), ("err", err)] {
        for line in text.lines() {
            told += &format!("{name}| {}\n", without_pid(line));
        }
    }
    for line in files {
        told += &format!("{}\n", own_ids(line));
    }
    if let Some(text) = pid_file(stage) {
        let known = |line: &str| line.parse().is_ok_and(|pid: i32| caused.pids.contains(&pid) && pid != 77);
        let lines: Vec<&str> = text.split('\n').map(|line| if known(line) { "PID" } else { line }).collect();
        told += &format!("pid holds {:?}\n", lines.join("\n"));
    }
    told += &fold(caused.reports.values());
    words.unfill(&told)
}

/// Usage and version are ours; that they are asked for in the same cases is what is compared.
fn shorten(out: &str) -> String {
    match out {
        _ if out.starts_with("Usage: spawn-fcgi [options] [-- <fcgiapp> [fcgi app arguments]]\n") => {
            "(usage)".to_owned()
        }
        _ if out.starts_with("spawn-fcgi v1.6.4 (ipv6) - spawns FastCGI processes\n") => {
            "(version)".to_owned()
        }
        _ => out.to_owned(),
    }
}

fn without_pid(line: &str) -> String {
    match line.split_once("PID: ") {
        Some((before, _)) => format!("{before}PID: PID"),
        None => line.to_owned(),
    }
}

/// Reports, the same ones told once.
fn fold<'a>(reports: impl Iterator<Item = &'a String>) -> String {
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for report in reports {
        *counted.entry(report.lines().map(|line| format!("  {}\n", own_ids(line))).collect()).or_default() +=
            1;
    }
    counted.into_iter().map(|(report, count)| format!("{count} applications:\n{report}")).collect()
}

/// Where the tests do not run as root, their user stands for nobody.
fn own_ids(line: &str) -> String {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        return line.to_owned();
    }
    if line.starts_with("groups:") {
        return "groups:".to_owned();
    }
    let is_id = line.starts_with("uid:") || line.starts_with("gid:");
    let line = line.replace(&format!(" {uid}:{gid}"), &format!(" {NOBODY}:{NOBODY}"));
    let own = if line.starts_with("uid:") { uid.as_raw() } else { gid.as_raw() };
    if is_id { line.replace(&format!(" {own}"), &format!(" {NOBODY}")) } else { line }
}

/// A port that nobody has and that the kernel gives to nobody by itself; each is handed out once.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 12_000 + (std::process::id() % 60) as u16 * 300;
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() && TcpListener::bind(("::", port)).is_ok() {
            return port;
        }
    }
}
