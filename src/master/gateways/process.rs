//! One gateway process: found, started without any privilege, spoken to, killed. Owns its descriptors; what it is told and
//! what its words mean is `gateways`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use super::channel::Channel;
use crate::config::model::User;
use crate::ids::{Moment, Pid, PoolName, Signal};
use crate::master::cgroups::Cgroups;
use crate::master::spawning::Pipe;
use crate::os::errno::Cause;
use crate::os::process::{
    self, Descriptors, EnvironmentBlock, OpenFiles, Output, Privileges, ReportPipe, Session, Spawn,
};
use crate::os::{clock, signal};

/// The program's file name.
const PROGRAM: &str = "fpmd-gateway";

/// Where distributions put programs that only other programs start.
const LIBEXEC: &str = "/usr/libexec/fpmd";

/// A gateway process, from its fork until it is reaped.
#[derive(Debug)]
pub struct Process {
    /// Its number over the daemon's life.
    pub number: u64,
    /// Its process.
    pub pid: Pid,
    /// How the messages go.
    pub channel: Channel,
    /// Why it could not run, should that be so; `None` once it has spoken.
    pub report: Option<ReportPipe>,
    /// When it was started.
    pub since: Moment,
    /// Settings that it was told and has not said yet to be in force.
    pub untaken: u32,
}

/// A program that gateways are started from.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    /// Opened, as its user need not be able to reach the path.
    image: Arc<OwnedFd>,
}

impl Program {
    /// `fpmd-gateway` beside our own program, else in `/usr/libexec/fpmd`. Looked up for each process, so that one that is
    /// started after an upgrade is the new one.
    ///
    /// # Errors
    /// A sentence that names both places.
    pub fn find() -> Result<Program, String> {
        let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
        let installed = Path::new(LIBEXEC).join(PROGRAM);
        for path in beside.iter().chain([&installed]) {
            match process::open_image(path) {
                Ok(image) => return Ok(Program { path: path.clone(), image }),
                Err(Errno::ENOENT) => {}
                Err(errno) => {
                    return Err(format!(
                        "cannot open gateway program '{}': {}",
                        path.display(),
                        Cause(errno)
                    ));
                }
            }
        }
        let beside = beside.map(|path| format!("neither '{}' nor ", path.display())).unwrap_or_default();
        Err(format!(
            "cannot start a gateway: there is {beside}'{}'; dispatch = \"direct\" needs none",
            installed.display()
        ))
    }

    /// Starts a process; what it logs comes out of `log`.
    ///
    /// # Errors
    /// A sentence: no process was made.
    pub fn start(
        &self,
        number: u64,
        pool: &PoolName,
        user: Option<&User>,
        log: &Pipe,
        cgroups: &mut Cgroups,
    ) -> Result<Process, String> {
        let (channel, theirs) = Channel::open()
            .map_err(|errno| format!("cannot make a connection to the gateway: {}", Cause(errno)))?;
        let spawn = self.spawn(pool, user).map_err(|error| error.to_string())?;
        let output = Output::To(log.theirs.as_fd());
        let descriptors = Descriptors {
            stdin: theirs.as_fd(),
            stdout: output,
            stderr: output,
            cgroup: cgroups.of_gateways(),
        };
        let child = process::spawn(&spawn, &descriptors).map_err(|error| error.to_string())?;
        let (pid, since) = (child.pid, clock::monotonic());
        Ok(Process { number, pid, channel, report: Some(child.report), since, untaken: 0 })
    }

    /// Nothing but what a gateway needs: no environment, no group but its user's, no capability; every descriptor that the
    /// system allows, as a connection takes one and a request two.
    fn spawn(&self, pool: &PoolName, user: Option<&User>) -> Result<Spawn, process::SpawnError> {
        let nothing: [(&str, &str); 0] = [];
        let name = format!("{PROGRAM}: pool {pool}");
        Ok(Spawn {
            program: process::path(&self.path)?,
            image: Some(Arc::clone(&self.image)),
            session: Session::New,
            umask: Some(0o077),
            open_files: OpenFiles::Keep,
            core_size: None,
            groups: user.map(|_| Vec::new()),
            gid: user.and_then(|user| user.gid),
            uid: user.map(|user| user.uid),
            privileges: Privileges::None,
            directory: Some(c"/".to_owned()),
            parent_death: Some(Signal::KILL),
            ..Spawn::new(&[name], EnvironmentBlock::new(nothing)?)?
        })
    }
}

impl Process {
    /// SIGKILL: there is nothing that it would have to tidy up.
    pub fn kill(&self) {
        if let Err(error) = signal::send_to_group(self.pid, Signal::KILL) {
            log::error!("{error}");
        }
    }
}
