//! Who is left of workers that have ended: orphans that became our children, and members of their sessions (`proc(5)`).
//!
//! Owns looking at all processes at once and the rule that nobody is killed who is not a descendant of ours.
//! The states of single workers are observed in `procfs` and `activity`.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::{fmt, fs};

use crate::ids::{Pid, Signal};
use crate::os::errno::Cause;
use crate::os::procfs::{self, Stat, State};
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
    /// Who gets its exit status; `None` for process 1 and where that is outside our namespace.
    pub parent: Option<Pid>,
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
        let own = own_pid();
        self.iter().filter(move |process| process.parent == own)
    }

    /// Whether we started it, or one of ours did.
    fn is_descendant(&self, process: &Process) -> bool {
        let own = own_pid();
        let mut parent = process.parent;
        // A snapshot that is not of one moment may hold a circle; no real chain is longer than there are processes.
        for _ in 0..self.0.len() {
            if parent == own {
                return true;
            }
            match parent.and_then(|pid| self.find(pid)) {
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

/// Sends SIGKILL to every descendant of ours that has one of these sockets as FD 0, less the `spared`; returns whom it
/// reached. These are workers that nobody remembers: php-cgi with PHP_FCGI_CHILDREN makes a session of its own, and its
/// children go on accepting after it was killed.
///
/// # Errors
/// There is no `/proc`.
pub fn kill_strays(
    sockets: &HashSet<u64>,
    spared: impl Fn(Pid) -> bool,
) -> Result<Vec<Process>, SessionError> {
    let processes = Processes::read()?;
    let is_stray = |process: &&Process| {
        !process.zombie
            && !spared(process.pid)
            && processes.is_descendant(process)
            && standard_input(process.pid).is_some_and(|inode| sockets.contains(&inode))
    };
    let killed =
        processes.iter().filter(is_stray).filter(|p| signal::send(p.pid, Signal::KILL) == Ok(Delivery::Sent));
    Ok(killed.cloned().collect())
}

/// Whether we may have children besides the `known` ones: orphans that became ours. Where it is false there are no leftovers
/// and no strays, and no need to look at every process of the machine. True, too, where the kernel does not tell.
pub fn may_have_other_children(known: &HashSet<Pid>) -> bool {
    let Some(own) = own_pid() else { return true };
    let mut is_any_other = false;
    // Only we can take somebody off that list, by reaping, so that none is missed while it is read.
    let listed = procfs::threads(own, |thread| {
        let listed = procfs::children(own, thread, |child| is_any_other |= !known.contains(&child));
        is_any_other |= listed.is_err();
    });
    is_any_other || listed.is_err()
}

/// Our children now, with session and start time.
///
/// # Errors
/// There is no `/proc`.
pub fn children() -> Result<Vec<Process>, SessionError> {
    Ok(Processes::read()?.children().cloned().collect())
}

/// The inode of the socket that a process has as FD 0: a worker that nobody remembers belongs to the pool that listens on
/// it. `None` if it is no socket, or we may not look: that takes the same user, or root.
pub fn standard_input(pid: Pid) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/fd/0")).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn own_pid() -> Option<Pid> {
    Pid::new(nix::unistd::getpid().as_raw())
}

fn process(pid: Pid) -> Option<Process> {
    // The name may be any bytes.
    let stat = fs::read(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    parse(pid, &stat)
}

fn parse(pid: Pid, text: &[u8]) -> Option<Process> {
    let Stat { state, parent, group, session, start_ticks, .. } = procfs::parse_stat(text)?;
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let name = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    Some(Process { pid, name, zombie: state == State::Zombie, parent, group, session, start_ticks })
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::os::process::testing::{
        Running, output, pipe, playing, program, role, said, say, shell, until,
    };
    use crate::os::process::{Descriptors, Output, Report};
    use crate::os::testing::TempDir;
    use crate::os::wait;

    #[test]
    fn any_name_is_read() {
        let pid = Pid::new(7).expect("it is positive");
        let stat = b"7 (a) R (b \xff) S 3 5 6 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 10";
        let process = parse(pid, stat).expect("it is whole");
        assert_eq!(process.name, "a) R (b \u{fffd}");
        assert_eq!((process.parent, process.group, process.session), (Pid::new(3), Pid::new(5), Pid::new(6)));
        assert_eq!((process.start_ticks, process.zombie), (123_456, false));
        for broken in [
            &b""[..],
            b"7",
            b"7 (a",
            b"7 (a) S 3",
            b"7 )a( S 3 5 6 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 10",
        ] {
            assert_eq!(parse(pid, broken), None);
        }
    }

    #[test]
    fn children_are_listed_with_their_session() {
        let sleeper = Running::start(&program(&["/bin/sleep", "1000"]));
        let found = until("its exec", || {
            let found =
                children().expect("there is /proc").into_iter().find(|child| child.pid == sleeper.pid);
            found.filter(|child| child.name == "sleep")
        });
        assert_eq!((found.session, found.group, found.zombie), (Some(sleeper.pid), Some(sleeper.pid), false));
        assert_eq!(found.parent, own_pid());
    }

    #[test]
    fn a_child_that_is_not_known_is_noticed() {
        let text = output(&role("os::session::tests::role_parent"));
        assert_eq!(said(&text), ["none: false", "known: false", "another: true", "an orphan: true"]);
    }

    #[test]
    #[ignore = "a role of another test"]
    fn role_parent() {
        if !playing() {
            return;
        }
        wait::set_subreaper().expect("any kernel of this century");
        say(format_args!("none: {}", may_have_other_children(&HashSet::new())));
        let mut child = Running::start(&shell("sleep 1000 & echo $!; exec sleep 1000"));
        let orphan = Pid::new(child.line().parse().expect("a number")).expect("a pid");
        let known = HashSet::from([child.pid]);
        say(format_args!("known: {}", may_have_other_children(&known)));
        say(format_args!("another: {}", may_have_other_children(&HashSet::from([orphan]))));
        signal::send(child.pid, Signal::KILL).expect("it is ours");
        child.end();
        say(format_args!("an orphan: {}", may_have_other_children(&known)));
        signal::send(orphan, Signal::KILL).expect("it is ours");
    }

    #[test]
    fn a_worker_is_known_by_its_listening_socket() {
        let directory = TempDir::new();
        let listener = UnixListener::bind(directory.join("s")).expect("a new path");
        let streams =
            Descriptors { stdin: listener.as_fd(), stdout: Output::Null, stderr: Output::Null, cgroup: None };
        let worker = Running::with(&program(&["/bin/sleep", "1000"]), &streams, pipe().0);
        assert_eq!(worker.answer(), Report::Executing);
        let inode = nix::sys::stat::fstat(&listener).expect("it is open").st_ino;
        assert_eq!(standard_input(worker.pid), Some(inode));
        let reader = Running::start(&program(&["/bin/sleep", "1000"]));
        assert_eq!(standard_input(reader.pid), None);
    }

    #[test]
    fn the_session_of_a_living_worker_is_no_leftover() {
        let mut worker = Running::start(&shell("sleep 1000 & echo $!; exec sleep 1000"));
        let member = Pid::new(worker.line().parse().expect("a number")).expect("a pid");
        assert!(Processes::read().expect("there is /proc").find(member).is_some());
        assert_eq!(kill_leftovers(&HashSet::from([worker.pid])), Ok(Vec::new()));
    }

    #[test]
    fn strangers_are_no_leftovers() {
        // In a PID namespace whose processes have no session of it there would be no other stranger.
        let mut worker = Running::start(&shell("setsid sleep 1000 & echo $!; exit 0"));
        let stranger = Pid::new(worker.line().parse().expect("a number")).expect("a pid");
        worker.end();
        let processes = until("a stranger", || {
            let processes = Processes::read().expect("there is /proc");
            let known = processes.find(stranger)?;
            (known.session == Some(stranger) && !processes.is_descendant(known)).then_some(processes)
        });
        let ours = |process: &&Process| processes.is_descendant(process);
        let sessions: HashSet<Pid> =
            processes.iter().filter(|process| !ours(process)).filter_map(|process| process.session).collect();
        assert!(sessions.contains(&stranger));
        assert_eq!(processes.leftovers(&sessions).filter(|process| !ours(process)).count(), 0);
        signal::send(stranger, Signal::KILL).expect("it is ours");
    }

    #[test]
    fn what_a_worker_leaves_is_killed() {
        let text = output(&role("os::session::tests::role_master_of_orphans"));
        assert_eq!(said(&text), ["1 killed: sleep", "0 killed: ", "other child: sleep"]);
    }

    #[test]
    #[ignore = "a role of another test"]
    fn role_master_of_orphans() {
        if !playing() {
            return;
        }
        wait::set_subreaper().expect("any kernel of this century");
        // One orphan stays in the worker's session, the other makes its own, as php-cgi does with PHP_FCGI_CHILDREN.
        let mut worker = Running::start(&shell("sleep 1000 & setsid sleep 1000 & exit 0"));
        worker.end();
        let sleeps = |child: &&Process| child.name == "sleep" && !child.zombie;
        let orphans =
            || children().expect("there is /proc").iter().filter(sleeps).cloned().collect::<Vec<_>>();
        until("both orphans", || {
            let apart = orphans().iter().filter(|child| child.session != Some(worker.pid)).count();
            (apart == 1 && orphans().len() == 2).then_some(())
        });
        let former = HashSet::from([worker.pid]);
        for _ in 0..2 {
            let killed = kill_leftovers(&former).expect("there is /proc");
            let names: Vec<&str> = killed.iter().map(|process| process.name.as_str()).collect();
            say(format_args!("{} killed: {}", killed.len(), names.join(" ")));
            for process in killed {
                until("its end", || wait::reap_child(process.pid).expect("it is a child"));
            }
        }
        for other in orphans() {
            say(format_args!("other child: {}", other.name));
            signal::send(other.pid, Signal::KILL).expect("it is ours");
        }
    }
}
