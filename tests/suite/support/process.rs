//! What `/proc` says about a process, see proc(5).

use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// The first fields of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub name: String,
    pub state: char,
    pub parent: i32,
    pub session: i32,
    pub nice: i32,
    /// The number of its scheduling policy: 0 is other, 3 batch, 5 idle.
    pub policy: i32,
    /// Clock ticks after boot: with the pid, names a process for ever.
    pub start: u64,
}

/// `None` if there is no such process.
pub fn process(pid: i32) -> Option<Process> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Process {
        pid,
        name: head.split_once('(')?.1.to_owned(),
        state: fields[0].chars().next()?,
        parent: fields[1].parse().ok()?,
        session: fields[3].parse().ok()?,
        nice: fields[16].parse().ok()?,
        policy: fields[38].parse().ok()?,
        start: fields[19].parse().ok()?,
    })
}

/// Every process.
pub fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Children, their children and so on.
pub fn descendants(pid: i32) -> Vec<Process> {
    let all = processes();
    let (mut found, mut parents) = (Vec::new(), vec![pid]);
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            parents.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

/// Direct children that are no zombies.
pub fn children(pid: i32) -> Vec<i32> {
    let all = processes().into_iter();
    all.filter(|process| process.parent == pid && process.state != 'Z').map(|process| process.pid).collect()
}

/// Whether it runs: a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    process(pid).is_some_and(|process| process.state != 'Z')
}

/// Whether this very process runs, not another one with its pid.
pub fn still_runs(then: &Process) -> bool {
    process(then.pid).is_some_and(|now| now.start == then.start && now.state != 'Z')
}

/// A line of `/proc/PID/status` by its name.
pub fn status_line(pid: i32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let prefix = format!("{name}:");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).map(|value| value.trim().to_owned())
}

/// Resident memory, kB.
pub fn resident_kb(pid: i32) -> Option<u64> {
    status_line(pid, "VmRSS")?.strip_suffix(" kB")?.parse().ok()
}

/// Soft and hard limit from `/proc/PID/limits`, as written there.
pub fn limits(pid: i32, name: &str) -> Option<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let mut fields = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}

/// The environment that it was started with.
pub fn environment(pid: i32) -> Option<BTreeMap<String, String>> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    Some(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// The arguments that it was started with.
pub fn arguments(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Open descriptors and what they are.
pub fn descriptors(pid: i32) -> BTreeMap<i32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let read = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
    };
    entries.filter_map(read).collect()
}

/// Processes with `name=value` in their environment.
pub fn marked(name: &str, value: &str) -> Vec<Process> {
    let has = |process: &Process| {
        environment(process.pid)
            .is_some_and(|environment| environment.get(name).is_some_and(|found| found == value))
    };
    processes().into_iter().filter(|process| process.state != 'Z' && has(process)).collect()
}

/// Sends a signal to exactly one process.
#[track_caller]
pub fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "a pid of one process, not {pid}");
    nix::sys::signal::kill(Pid::from_raw(pid), signal)
        .unwrap_or_else(|error| panic!("kill {pid} {signal}: {error}"));
}

/// Ends a process that may be gone already.
pub fn end(pid: i32) {
    if pid > 1 {
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}
