//! Who is left of workers that have ended: orphans that became our children, and members of their sessions (`proc(5)`).
//!
//! Owns reading `/proc/PID/stat` of all processes at once and the rule that nobody is killed who is not a descendant of ours.
//! The states of single workers are observed in `procfs` and `activity`.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::{fmt, fs};

use crate::ids::{Pid, Signal};
use crate::os::errno::Cause;
use crate::os::signal::{self, Delivery};

/// One process as `/proc/PID/stat` had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// The first 15 bytes of its name, for people.
    pub name: String,
    /// Whether it has ended and waits to be reaped.
    pub zombie: bool,
    /// Who gets its exit status; 0 for process 1 and for those from outside our namespace.
    pub parent: i32,
    /// Its process group; `None` likewise.
    pub group: Option<Pid>,
    /// Its session, which is the pid of the process that made it; `None` likewise.
    pub session: Option<Pid>,
    /// Clock ticks from the machine's start to its own. With the pid this names a process for ever.
    pub start_ticks: u64,
}

/// All processes at one moment, or nearly: the kernel gives them one by one.
#[derive(Debug, Clone)]
pub struct Processes(HashMap<Pid, Process>);

impl Processes {
    /// Looks at all of them: about 10 microseconds each.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn read() -> Result<Processes, SessionError> {
        let entries = fs::read_dir("/proc").map_err(|error| SessionError::Proc(error.into()))?;
        let pids = entries.flatten().filter_map(|entry| Pid::new(entry.file_name().to_str()?.parse().ok()?));
        // A process that vanishes between the listing and the look is no more.
        Ok(Processes(pids.filter_map(|pid| Some((pid, process(pid)?))).collect()))
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.0.values()
    }

    /// One of them.
    pub fn find(&self, pid: Pid) -> Option<&Process> {
        self.0.get(&pid)
    }

    /// Our own children, zombies too: those that we started, and orphans that became ours.
    pub fn children(&self) -> impl Iterator<Item = &Process> {
        let own = nix::unistd::getpid().as_raw();
        self.iter().filter(move |process| process.parent == own)
    }

    /// Whether we started it, or one of ours did.
    fn is_descendant(&self, process: &Process) -> bool {
        let own = nix::unistd::getpid().as_raw();
        let mut parent = process.parent;
        // A snapshot that is not of one moment may hold a circle; no real chain is longer than there are processes.
        for _ in 0..self.0.len() {
            if parent == own {
                return true;
            }
            match Pid::new(parent).and_then(|pid| self.find(pid)) {
                Some(next) => parent = next.parent,
                None => return false,
            }
        }
        false
    }

    /// Living members of the sessions that workers led who have ended *and are reaped*. The kernel does not give a number
    /// away while a session bears it, so where a process of that number exists again the session was empty and the
    /// number is somebody else's: such a session is passed over, as is everyone who is no descendant of ours.
    pub fn leftovers<'a>(&'a self, former: &'a HashSet<Pid>) -> impl Iterator<Item = &'a Process> {
        self.iter().filter(move |process| {
            let orphaned = |session: &Pid| former.contains(session) && self.find(*session).is_none();
            !process.zombie && process.session.as_ref().is_some_and(orphaned) && self.is_descendant(process)
        })
    }
}

/// Sends SIGKILL to what is left of workers that have ended and are reaped; returns whom it reached. Processes that
/// fork while they are being killed need another call, so repeat until it returns nobody.
///
/// # Errors
/// There is no `/proc`.
pub fn kill_leftovers(former: &HashSet<Pid>) -> Result<Vec<Process>, SessionError> {
    if former.is_empty() {
        return Ok(Vec::new());
    }
    let processes = Processes::read()?;
    let killed =
        processes.leftovers(former).filter(|p| signal::send(p.pid, Signal::KILL) == Ok(Delivery::Sent));
    Ok(killed.cloned().collect())
}

/// Our children now, with session and start time: php-cgi with PHP_FCGI_CHILDREN makes a session of its own, so its
/// orphans are found here and attributed by the caller, to whose cgroup or user they belong.
///
/// # Errors
/// There is no `/proc`.
pub fn children() -> Result<Vec<Process>, SessionError> {
    Ok(Processes::read()?.children().cloned().collect())
}

fn process(pid: Pid) -> Option<Process> {
    // The name may be any bytes.
    let stat = fs::read(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    parse(pid, &stat)
}

/// Fields are counted from the last parenthesis, as the name may hold spaces and parentheses itself.
fn parse(pid: Pid, stat: &[u8]) -> Option<Process> {
    const START_TICKS: usize = 19; // field 22 of the file; the state, field 3, is number 0 here
    let open = stat.iter().position(|&byte| byte == b'(')?;
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(START_TICKS + 1).collect();
    let number = |index: usize| fields.get(index)?.parse::<i32>().ok();
    Some(Process {
        pid,
        name: String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned(),
        zombie: matches!(*fields.first()?, "Z" | "X"),
        parent: number(1)?,
        group: Pid::new(number(2)?),
        session: Pid::new(number(3)?),
        start_ticks: fields.get(START_TICKS)?.parse().ok()?,
    })
}

/// Why processes cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionError {
    /// `/proc` cannot be read.
    Proc(Cause),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Proc(cause) => write!(f, "cannot list '/proc': {cause}"),
        }
    }
}

impl std::error::Error for SessionError {}
