//! What a child does between fork and exec: one list, in one order, and the words for each failure.
//!
//! The order is the one that spawn-fcgi and systemd have, for the reasons that stand beside each step.

use std::ffi::CStr;
use std::fmt;

use nix::errno::Errno;

use super::{OpenFiles, Spawn, interpreter};
use crate::ids::{Gid, Uid};
use crate::os::errno::Cause;

/// One thing that a child does between fork and exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Lead a new session: first, so that whatever goes wrong later reaches nobody else's terminal.
    Session,
    /// Join the control group, with our rights.
    Cgroup,
    /// All signals to their default action, then none blocked: an ignored signal would survive the exec.
    Signals,
    /// FD 0, 1 and 2.
    Streams,
    /// Everything else is closed by the exec, whoever opened it and however.
    CloseOnExec,
    /// The file mode creation mask.
    Umask,
    /// RLIMIT_NOFILE; raising the hard limit needs root.
    OpenFiles,
    /// RLIMIT_CORE, likewise.
    CoreSize,
    /// The nice value; a negative one needs root.
    Priority,
    /// The scheduling policy; from "idle" to another one needs root or a nice limit that allows it.
    Policy,
    /// Supplementary groups: while still root.
    Groups,
    /// The group: while still root.
    Group,
    /// The root directory, while still root.
    Root,
    /// Into the new root: a working directory outside would be a way out of it.
    RootDirectory,
    /// The capabilities that a program could ever regain, while still root.
    Bounds,
    /// The user: from here on with the worker's rights only.
    User,
    /// All other capabilities, and the way to new privileges.
    Privileges,
    /// The working directory, with the rights of the new user, as on a network file system only they may count.
    Directory,
    /// A signal when the parent ends: after the user, as a change of credentials clears it; then a look whether the
    /// parent has ended before.
    ParentDeath,
    /// The program.
    Execute,
}

impl Step {
    /// The order, which is all there is to know about the time between fork and exec.
    pub const ORDER: [Step; 20] = [
        Step::Session,
        Step::Cgroup,
        Step::Signals,
        Step::Streams,
        Step::CloseOnExec,
        Step::Umask,
        Step::OpenFiles,
        Step::CoreSize,
        Step::Priority,
        Step::Policy,
        Step::Groups,
        Step::Group,
        Step::Root,
        Step::RootDirectory,
        Step::Bounds,
        Step::User,
        Step::Privileges,
        Step::Directory,
        Step::ParentDeath,
        Step::Execute,
    ];
}

/// A step that failed in the child, which has ended or is about to: exit code 127 if there is no such program, else 126.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    /// Which step.
    pub step: Step,
    /// What it was about: a path, a number.
    pub object: String,
    /// Why.
    pub cause: Cause,
    /// The interpreter of a script that is missing while the script itself is there.
    pub interpreter: Option<String>,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StepError { step, object, cause, interpreter } = self;
        if let Some(interpreter) = interpreter {
            return write!(f, "cannot execute '{object}': its interpreter '{interpreter}' does not exist");
        }
        match step {
            Step::Session => write!(f, "cannot start a session: {cause}"),
            Step::Cgroup => write!(f, "cannot join the control group: {cause}"),
            Step::Signals => write!(f, "cannot reset the signals: {cause}"),
            Step::Streams => write!(f, "cannot set up descriptors 0, 1 and 2: {cause}"),
            Step::CloseOnExec => write!(f, "cannot mark descriptors for closing: {cause}"),
            Step::Umask => write!(f, "cannot set umask {object}: {cause}"),
            Step::OpenFiles => write!(f, "cannot set the limit of open files to {object}: {cause}"),
            Step::CoreSize => write!(f, "cannot set the limit of core files to {object}: {cause}"),
            Step::Priority => write!(f, "cannot set priority {object}: {cause}"),
            Step::Policy => write!(f, "cannot set scheduling policy {object}: {cause}"),
            Step::Groups => write!(f, "cannot set supplementary groups {object}: {cause}"),
            Step::Group => write!(f, "cannot set group id {object}: {cause}"),
            Step::Root => write!(f, "cannot change root directory to '{object}': {cause}"),
            Step::RootDirectory => write!(f, "cannot enter root directory '{object}': {cause}"),
            Step::Bounds => write!(f, "cannot empty the capability bounding set: {cause}"),
            Step::Privileges => write!(f, "cannot give up privileges: {cause}"),
            Step::User => write!(f, "cannot set user id {object}: {cause}"),
            Step::Directory => write!(f, "cannot change directory to '{object}': {cause}"),
            Step::ParentDeath => write!(f, "cannot follow the parent's death: {cause}"),
            Step::Execute => write!(f, "cannot execute '{object}': {cause}"),
        }
    }
}

impl std::error::Error for StepError {}

/// What the steps of one child are about, kept only until its program runs.
#[derive(Debug)]
pub(super) struct Objects(Box<Spawn>);

impl Objects {
    pub(super) fn of(spawn: &Spawn) -> Objects {
        Objects(Box::new(Spawn { arguments: Vec::new(), environment: Default::default(), ..spawn.clone() }))
    }

    pub(super) fn error(&self, step: Step, errno: Errno) -> StepError {
        let spawn = &*self.0;
        let missing = step == Step::Execute && errno == Errno::ENOENT;
        let interpreter =
            missing.then(|| interpreter::missing(&spawn.program, spawn.chroot.as_deref())).flatten();
        StepError { step, object: self.object(step), cause: errno.into(), interpreter }
    }

    fn object(&self, step: Step) -> String {
        let spawn = &*self.0;
        match step {
            Step::Session
            | Step::Cgroup
            | Step::Signals
            | Step::Streams
            | Step::CloseOnExec
            | Step::Bounds
            | Step::Privileges
            | Step::ParentDeath => String::new(),
            Step::Umask => spawn.umask.map(|mask| format!("{mask:03o}")).unwrap_or_default(),
            Step::OpenFiles => match spawn.open_files {
                OpenFiles::Keep => String::new(),
                OpenFiles::Restore(original) => original.soft.to_string(),
                OpenFiles::Set(limit) => limit.to_string(),
            },
            Step::CoreSize => match spawn.core_size {
                Some(u64::MAX) => "unlimited".to_owned(),
                size => size.map(|bytes| format!("{bytes} bytes")).unwrap_or_default(),
            },
            Step::Priority => spawn.priority.map(|nice| nice.to_string()).unwrap_or_default(),
            Step::Policy => spawn.policy.map(|policy| policy.as_str().to_owned()).unwrap_or_default(),
            Step::Groups => {
                let groups = spawn.groups.iter().flatten().map(|Gid(gid)| gid.to_string());
                groups.collect::<Vec<_>>().join(", ")
            }
            Step::Group => spawn.gid.map(|Gid(gid)| gid.to_string()).unwrap_or_default(),
            Step::User => spawn.uid.map(|Uid(uid)| uid.to_string()).unwrap_or_default(),
            Step::Root | Step::RootDirectory => spawn.chroot.as_deref().map(lossy).unwrap_or_default(),
            Step::Directory => spawn.directory.as_deref().map(lossy).unwrap_or_default(),
            Step::Execute => lossy(&spawn.program),
        }
    }
}

fn lossy(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}
