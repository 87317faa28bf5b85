//! `fpmctl upgrade`, from the running program's side: the new program is tried first, as a child that reads what this one
//! would hand over; only if it says that it can go on with that, and nothing is half done, this process becomes it.
//!
//! Until the exec has happened nothing has changed, and any refusal leaves everything as it was. What the new program does
//! then is `take_over`.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Master;
use super::program::Identity;
use super::run::{Timer, signals};
use super::spawning::Pipe;
use super::state::{State, VERSION};
use super::take_over::CONSENT;
use crate::ids::{ExitStatus, Pid, PoolName, Signal, Ticket};
use crate::log;
use crate::log::capture::Capture;
use crate::os::errno::{self, Cause};
use crate::os::handover::{self, Estate};
use crate::os::process::{self, Descriptors, EnvironmentBlock, Output, Report, ReportPipe, Spawn};
use crate::os::signal::Blocked;
use crate::os::{clock, signal};
use crate::sorted::SortedSet;
use crate::supervise::Supervisor;
use crate::systemd;

/// The hidden command by which the new program is asked.
pub const TRIAL: &str = "take-over-trial";

/// How long the new program may take to say that it can go on, and then everything that is half done to get done.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What of a refusing program's words is passed on, bytes.
const WORDS: u64 = 4096;

/// How far an upgrade is.
#[derive(Debug, Default)]
pub enum Upgrade {
    /// Nobody wants one.
    #[default]
    None,
    /// The new program reads the state.
    Trying(Trial),
    /// It can go on with it; as soon as nothing is half done, it will.
    Agreed(Agreement),
    /// This is the new program; gateways of the old one are being exchanged.
    Succeeding(Succession),
}

/// A program that can go on.
#[derive(Debug)]
pub struct Agreement {
    ticket: Option<Ticket>,
    program: PathBuf,
    /// The very file that has said so.
    tried: Option<Identity>,
}

/// What is left to do after the exec.
#[derive(Debug)]
pub struct Succession {
    /// Who waits for it.
    pub ticket: Option<Ticket>,
    /// The release before.
    pub release: String,
    /// Pools whose new gateway does not serve yet.
    pub waiting: SortedSet<PoolName>,
    /// Gateways that could not be exchanged, and why.
    pub failed: Vec<String>,
}

/// The new program, as a child that tells whether it could go on.
#[derive(Debug)]
pub struct Trial {
    agreement: Agreement,
    pid: Pid,
    report: ReportPipe,
    words: OwnedFd,
}

impl Master {
    /// Tries the new program; the client with this ticket is answered in the end, by this program or by that one.
    pub(super) fn begin_upgrade(&mut self, ticket: Ticket) {
        let started = match &self.upgrade {
            Upgrade::None => self.refuse_upgrade().map_or_else(|| self.start_trial(ticket), Err),
            Upgrade::Trying(_) | Upgrade::Agreed(_) | Upgrade::Succeeding(_) => {
                Err("an upgrade is in progress".to_owned())
            }
        };
        match started {
            Ok(trial) => {
                ::log::info!("trying '{}' for an upgrade", trial.agreement.program.display());
                self.upgrade = Upgrade::Trying(trial);
                self.timers.set(Timer::Upgrade, Some(clock::monotonic().after(PATIENCE)));
            }
            Err(reason) => self.say_no(Some(ticket), &reason),
        }
    }

    /// Why there can be no upgrade now, whatever the new program is like.
    fn refuse_upgrade(&self) -> Option<String> {
        if self.demo.is_some() {
            return Some("fpmd demo lives for the moment; end it and start the new one".to_owned());
        }
        self.supervisor.refuse_exchange()
    }

    fn start_trial(&mut self, ticket: Ticket) -> Result<Trial, String> {
        let program = self.own_path.clone();
        let tried = Identity::of(&program);
        let failed = |error: process::SpawnError| error.to_string();
        let mut estate = Estate::default();
        let state = written(&self.will(&mut estate, Some(ticket))?)?;
        let environment = std::env::vars_os().filter(|(name, _)| !is_for_us(name));
        let arguments = [program.as_os_str(), TRIAL.as_ref()];
        let environment = EnvironmentBlock::new(environment).map_err(failed)?;
        let spawn = Spawn {
            parent_death: Some(Signal::KILL),
            ..Spawn::new(&arguments, environment).map_err(failed)?
        };
        let words = Pipe::open()?;
        let output = Output::To(words.theirs.as_fd());
        let descriptors = Descriptors { stdin: state.as_fd(), stdout: output, stderr: output, cgroup: None };
        let child = process::spawn(&spawn, &descriptors).map_err(failed)?;
        let agreement = Agreement { ticket: Some(ticket), program, tried };
        Ok(Trial { agreement, pid: child.pid, report: child.report, words: words.ours })
    }

    /// A child has ended; whether it was the new program's trial.
    pub(super) fn on_trial_exit(&mut self, pid: Pid, status: ExitStatus) -> bool {
        let Upgrade::Trying(trial) = &self.upgrade else { return false };
        if trial.pid != pid {
            return false;
        }
        let Upgrade::Trying(Trial { agreement, report, words, .. }) = std::mem::take(&mut self.upgrade)
        else {
            return false;
        };
        let said = said(words);
        if status == ExitStatus::Code(0) && said.lines().any(|line| line == CONSENT) {
            self.upgrade = Upgrade::Agreed(agreement);
            return true;
        }
        let reason = match report.read() {
            Report::Failed(error) => error.to_string(),
            Report::Pending | Report::Executing => refusal(&agreement.program, status, &said),
        };
        self.give_up_upgrade(agreement.ticket, &reason);
        true
    }

    /// The upgrade takes too long.
    pub(super) fn expire_upgrade(&mut self) {
        let (ticket, reason) = match std::mem::take(&mut self.upgrade) {
            Upgrade::None => return,
            Upgrade::Trying(trial) => {
                // Its end is that of any other child then.
                let _ = signal::send_to_group(trial.pid, Signal::KILL);
                let Agreement { ticket, program, .. } = trial.agreement;
                (ticket, format!("'{}' has not answered within {PATIENCE:?}", program.display()))
            }
            Upgrade::Succeeding(succession) => {
                // Their ends say the rest.
                self.gateways.give_up_successors();
                self.upgrade = Upgrade::Succeeding(succession);
                return;
            }
            Upgrade::Agreed(Agreement { ticket, .. }) => {
                let held_up = self.half_done().unwrap_or("something is half done");
                (ticket, format!("{held_up} for {PATIENCE:?}; try again"))
            }
        };
        self.give_up_upgrade(ticket, &reason);
    }

    pub(super) fn give_up_upgrade(&mut self, ticket: Option<Ticket>, reason: &str) {
        self.timers.set(Timer::Upgrade, None);
        self.say_no(ticket, reason);
    }

    fn say_no(&mut self, ticket: Option<Ticket>, reason: &str) {
        let text = format!("cannot upgrade: {reason}");
        for line in text.lines() {
            ::log::error!("{line}");
        }
        if let Some(ticket) = ticket {
            self.answer(ticket, Err(text));
        }
    }

    /// What is under way that this program has to see to its end, as another one could not.
    fn half_done(&self) -> Option<&'static str> {
        if self.workers.is_any_starting() {
            return Some("workers keep starting");
        }
        if self.gateways.is_any_behind() {
            return Some("a gateway has not read what it was told");
        }
        self.inquiries.is_any_open().then_some("a status is being asked for")
    }

    /// Becomes the new program, if that is wanted and nothing is half done. To be called when all actions are done.
    pub(super) fn proceed_with_upgrade(&mut self) {
        let Upgrade::Agreed(Agreement { ticket, program, tried }) = &self.upgrade else { return };
        let (ticket, program) = (*ticket, program.clone());
        let is_another = || {
            let text = || format!("'{}' was replaced after it was tried; try again", program.display());
            (Identity::of(&program) != *tried).then(text)
        };
        if let Some(reason) = self.refuse_upgrade().or_else(is_another) {
            self.upgrade = Upgrade::None;
            return self.give_up_upgrade(ticket, &reason);
        }
        if self.half_done().is_some() {
            return;
        }
        // From here on signals wait for the new program. Those that have come already are still ours to obey.
        let held = Blocked::all();
        let waiting: Vec<i32> = self.signals.pending().collect();
        if waiting.iter().any(|number| *number != signals::CHLD) {
            drop(held);
            waiting.into_iter().for_each(|number| self.on_signal(number));
            return;
        }
        let reason = self.become_program(ticket, &program, &held);
        drop(held);
        self.upgrade = Upgrade::None;
        self.give_up_upgrade(ticket, &reason);
        // A SIGCHLD may have been taken off with the others.
        self.reap();
    }

    /// Returns only with the reason why it could not.
    fn become_program(&self, ticket: Option<Ticket>, program: &Path, held: &Blocked) -> String {
        let mut estate = Estate::default();
        let state = match self.will(&mut estate, ticket).and_then(|will| written(&will)) {
            Ok(state) => state,
            Err(reason) => return reason,
        };
        ::log::info!("upgrading: fpmd {} hands over to '{}'", env!("CARGO_PKG_VERSION"), program.display());
        let errno = estate.become_program(program, state.as_fd(), held);
        format!("cannot execute '{}': {}", program.display(), Cause(errno))
    }

    /// What is handed over.
    fn will<'a>(
        &'a self,
        estate: &mut Estate<'a>,
        ticket: Option<Ticket>,
    ) -> Result<State<&'a Supervisor, &'a Capture>, String> {
        Ok(State {
            version: VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            own_path: self.own_path.clone(),
            started: self.started,
            open_files: self.open_files,
            ticket,
            last_ticket: self.last_ticket,
            reload_by_signal: self.reload_by_signal,
            source: self.source.clone(),
            settings: self.settings.write(&self.global)?,
            supervisor: &self.supervisor,
            listeners: self.listeners.bequeath(estate),
            slots: self.slots.bequeath(estate),
            gateways: self.gateways.bequeath(estate),
            workers: self.workers.bequeath(estate),
            warming: self.warming.clone(),
            cgroups: self.cgroups.bequeath(),
            strangers: self.strangers.clone(),
            control: self.control.bequeath(estate),
            pid_files: self.pid_files.bequeath(),
            programs: self
                .programs
                .iter()
                .map(|((pool, generation), program)| (pool.clone(), *generation, program.clone()))
                .collect(),
            log: log::file().map(|file| estate.leave_copy(file)),
        })
    }
}

fn written(state: &State<&Supervisor, &Capture>) -> Result<OwnedFd, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot write the state down: {error}");
    let text = serde_json::to_vec(state).map_err(|error| failed(&error))?;
    handover::written(&text).map_err(|error| failed(&errno::said(&error)))
}

/// Nothing that the service manager says to us is for the trial.
fn is_for_us(name: &std::ffi::OsStr) -> bool {
    handover::VARIABLES.iter().chain(&systemd::VARIABLES).any(|ours| name == *ours)
}

/// What a program has said that has ended.
fn said(words: OwnedFd) -> String {
    let mut said = Vec::new();
    // Everything is in the pipe; what a child of its may add is not waited for.
    let _ = File::from(words).take(WORDS).read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// Why a program cannot go on that said this.
fn refusal(program: &Path, status: ExitStatus, said: &str) -> String {
    let program = program.display();
    if status == ExitStatus::Code(0) {
        return format!("'{program}' does not know how to take over");
    }
    let said: Vec<&str> = said.lines().map(|line| line.trim_start_matches("fpmd: ")).collect();
    match said.as_slice() {
        [] => format!("'{program}' {status} when it was tried"),
        lines => format!("'{program}' refuses:\n{}", lines.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::errno::Errno;
    use nix::sys::signal::{Signal as Number, raise};
    use nix::sys::wait::{Id, WaitPidFlag, waitid};

    use super::*;
    use crate::master::testing::idle_master;
    use crate::os::process::testing::{output, playing, role, said, say};
    use crate::os::procfs;
    use crate::os::testing::TempDir;

    #[test]
    fn a_child_that_ends_while_a_signal_puts_the_upgrade_off_is_not_forgotten() {
        let text = output(&role("master::upgrade::tests::role_put_off"));
        assert_eq!(said(&text), ["put off", "reaped"], "{text}");
    }

    #[test]
    #[ignore = "a role of another test"]
    fn role_put_off() {
        if !playing() {
            return;
        }
        let directory = TempDir::new();
        let mut master = idle_master(&directory);
        #[allow(clippy::zombie_processes)] // Waiting for it is the master's.
        let child = Command::new("/bin/true").spawn().unwrap();
        let pid = Pid::new(child.id() as i32).unwrap();
        let id = || Id::Pid(nix::unistd::Pid::from_raw(pid.as_raw()));
        while waitid(id(), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
        // The kernel's own may have gone to another thread, and be noted only in a moment.
        raise(Number::SIGCHLD).unwrap();
        raise(Number::SIGUSR1).unwrap();
        let program = master.own_path.clone();
        let tried = Identity::of(&program);
        master.upgrade = Upgrade::Agreed(Agreement { ticket: None, program, tried });
        master.proceed_with_upgrade();
        if matches!(master.upgrade, Upgrade::Agreed(_)) {
            say("put off");
        }
        if procfs::stat(pid).is_err() {
            say("reaped");
        }
    }
}
