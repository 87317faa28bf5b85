//! From a request to running applications, in the original's order of steps, which decides who owns a file, inside which root a path is
//! looked up, and which of two faults is reported: PID file, users, (-S: socket,) groups, chroot, socket, user, directory, fork.

use std::env;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use super::bind::{Access, listen_on};
use super::identity::Identity;
use super::message::{Failure, Notice};
use super::pid_file::PidFile;
use super::say::{say_failure, say_notice};
use crate::cli::spawn_fcgi::args::{Application, Privileged, Request, Style};
use crate::ids::{Gid, Pid};
use crate::os::legacy::{self, ChildState, Program, c_string};

/// How long children are watched before they count as started, milliseconds.
const WATCH: u16 = 100;

/// The permissions of a Unix socket before the umask.
const SOCKET_MODE: u32 = 0o660;

/// Who the application and the socket belong to.
#[derive(Debug, Clone)]
pub struct Identities {
    /// `-u` and `-g`.
    pub application: Identity,
    /// `-U` and `-G`, completed by the application's.
    pub socket: Identity,
}

impl Identities {
    /// Looks up all names before anything is changed.
    ///
    /// # Errors
    /// As `Identity::look_up`.
    pub fn look_up(options: &Privileged) -> Result<Identities, Failure> {
        let application = Identity::look_up(options.user.as_deref(), options.group.as_deref())?;
        let mut socket = Identity::look_up(options.socket_user.as_deref(), options.socket_group.as_deref())?;
        socket.uid = socket.uid.or(application.uid);
        socket.gid = socket.gid.or(application.gid);
        Ok(Identities { application, socket })
    }
}

/// Starts the application as `request` says. With `-n` it only returns if that failed, or if `-F` asks for nothing.
///
/// # Errors
/// The first step that failed; nothing runs then.
pub fn launch(request: &Request) -> Result<u8, Failure> {
    let pid_file = request.pid_file.as_deref().map(PidFile::open).transpose()?;
    let listener = match &request.privileged {
        Some(options) => listen_and_drop_privileges(request, options)?,
        None => listen_on(&request.endpoint, access(request, None), request.backlog)?,
    };
    if let Some(directory) = &request.directory {
        change_directory(directory)?;
    }
    let program = program(request).map_err(Failure::Exec)?;
    match request.style {
        Style::InPlace if request.fork_count > 0 => {
            Err(Failure::Exec(program.execute_in_place(listener.as_fd())))
        }
        Style::InPlace => Ok(0),
        Style::Fork => fork_all(&program, &listener, request.fork_count, pid_file),
    }
}

/// The permissions of the request's socket.
pub fn access(request: &Request, socket: Option<&Identity>) -> Access {
    Access {
        mode: request.mode.unwrap_or_else(|| SOCKET_MODE & !legacy::creation_mask()),
        owner: socket.and_then(|identity| identity.uid),
        group: socket.and_then(|identity| identity.gid),
    }
}

fn listen_and_drop_privileges(request: &Request, options: &Privileged) -> Result<OwnedFd, Failure> {
    let Identities { application, socket } = Identities::look_up(options)?;
    warn_without_group(&application);
    let listen = || listen_on(&request.endpoint, access(request, Some(&socket)), request.backlog);
    let early = if options.bind_first { Some(listen()?) } else { None };
    if let Some(gid) = application.gid {
        take_groups(gid, application.login.as_deref())?;
    }
    if let Some(root) = &options.chroot {
        legacy::change_root(root).map_err(|cause| Failure::ChangeRoot(root.clone(), cause))?;
        change_directory(OsStr::new("/"))?;
    }
    let listener = match early {
        Some(listener) => listener,
        None => listen()?,
    };
    if let Some(uid) = application.uid {
        legacy::become_user(uid).map_err(|cause| Failure::SetUid(uid, cause))?;
    }
    Ok(listener)
}

/// A number without an account brings no group along, so that root's group stays.
pub fn warn_without_group(application: &Identity) {
    if let (Some(uid), None) = (application.uid, application.gid) {
        say_notice(&Notice::NoGroup(uid));
    }
}

fn take_groups(gid: Gid, login: Option<&OsStr>) -> Result<(), Failure> {
    legacy::become_group(gid).map_err(|cause| Failure::SetGid(gid, cause))?;
    legacy::drop_supplementary_groups().map_err(Failure::ClearGroups)?;
    if let Some(login) = login {
        legacy::join_groups_of(login, gid).map_err(|cause| Failure::JoinGroups(login.into(), gid, cause))?;
    }
    Ok(())
}

fn change_directory(directory: &OsStr) -> Result<(), Failure> {
    env::set_current_dir(directory).map_err(|cause| Failure::ChangeDirectory(directory.into(), cause))
}

fn program(request: &Request) -> io::Result<Program> {
    let (path, arguments) = match &request.application {
        Application::Direct(arguments) => {
            let arguments = arguments.iter().map(|a| c_string(a)).collect::<io::Result<Vec<_>>>()?;
            (arguments.first().cloned().unwrap_or_default(), arguments)
        }
        Application::Shell(path) => {
            let command = [OsStr::new("exec "), path].map(OsStrExt::as_bytes).concat();
            (c"/bin/sh".to_owned(), vec![c"sh".to_owned(), c"-c".to_owned(), CString::new(command)?])
        }
    };
    let environment = with_php_children(legacy::environment(), request.php_children)?;
    Ok(Program { path, arguments, environment })
}

/// putenv(3): the first entry of that name is replaced, or one is added at the end.
fn with_php_children(mut entries: Vec<CString>, children: Option<i32>) -> io::Result<Vec<CString>> {
    const NAME: &str = "PHP_FCGI_CHILDREN=";
    if let Some(children) = children {
        let entry = CString::new(format!("{NAME}{children}"))?;
        match entries.iter_mut().find(|old| old.as_bytes().starts_with(NAME.as_bytes())) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }
    Ok(entries)
}

/// Starts all children, then watches all of them for the same 100 ms. The status is that of the last child that failed, or 0.
fn fork_all(
    program: &Program,
    listener: &OwnedFd,
    count: i32,
    pid_file: Option<PidFile>,
) -> Result<u8, Failure> {
    let signal = legacy::collect_children().map_err(Failure::Fork)?;
    let children: Vec<_> = (0..count).map(|_| program.fork_detached(listener.as_fd(), signal)).collect();
    if !children.is_empty() {
        legacy::wait_for(WATCH);
    }
    let outcomes: Vec<Outcome> = children.into_iter().map(Outcome::of).collect();
    let living: Vec<Pid> = outcomes.iter().filter_map(Outcome::living).collect();
    // Before anything is said: who reads our stdout and goes away must not cost the PID file.
    if let Some(Err(cause)) = pid_file.map(|file| file.write(&living)) {
        say_notice(&Notice::WritePidFile(cause));
    }
    let mut status = 0;
    for outcome in &outcomes {
        status = outcome.report().unwrap_or(status);
    }
    Ok(status)
}

/// What became of one child.
enum Outcome {
    /// It was not even forked.
    NotForked(io::Error),
    /// This is how it is after 100 ms.
    Forked(Pid, ChildState),
}

impl Outcome {
    fn of(forked: io::Result<Pid>) -> Outcome {
        match forked {
            Err(cause) => Outcome::NotForked(cause),
            // waitpid can only fail for a child that is not ours, and this one is.
            Ok(pid) => Outcome::Forked(pid, legacy::child_state(pid).unwrap_or(ChildState::Running)),
        }
    }

    fn living(&self) -> Option<Pid> {
        match self {
            Outcome::Forked(pid, ChildState::Running) => Some(*pid),
            Outcome::Forked(_, ChildState::Exited(_) | ChildState::Signaled(_)) | Outcome::NotForked(_) => {
                None
            }
        }
    }

    /// Tells the user; `Some` is the exit status of a failure. A child that ended by itself with 0 is none.
    fn report(&self) -> Option<u8> {
        let (notice, status) = match self {
            Outcome::NotForked(cause) => {
                let failure =
                    Failure::Fork(io::Error::from_raw_os_error(cause.raw_os_error().unwrap_or_default()));
                say_failure(&failure);
                return Some(failure.exit_status());
            }
            Outcome::Forked(pid, ChildState::Running) => (Notice::Spawned(*pid), None),
            Outcome::Forked(_, ChildState::Exited(status)) => {
                (Notice::ChildExited(*status), Some((*status & 0xff) as u8).filter(|status| *status != 0))
            }
            Outcome::Forked(_, ChildState::Signaled(signal)) => (Notice::ChildSignaled(*signal), Some(1)),
        };
        say_notice(&notice);
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn php_children_is_put_where_putenv_puts_it() {
        let entries = |list: &[&str]| list.iter().map(|e| CString::new(*e).unwrap()).collect::<Vec<_>>();
        let plain = entries(&["A=1", "PHP_FCGI_CHILDREN=7", "NOVALUE", "PHP_FCGI_CHILDREN=8"]);
        let replaced = entries(&["A=1", "PHP_FCGI_CHILDREN=2", "NOVALUE", "PHP_FCGI_CHILDREN=8"]);
        assert_eq!(with_php_children(plain.clone(), None).unwrap(), plain);
        assert_eq!(with_php_children(plain, Some(2)).unwrap(), replaced);
        let added = with_php_children(entries(&["PHP_FCGI_CHILDREN_X=1"]), Some(0)).unwrap();
        assert_eq!(added, entries(&["PHP_FCGI_CHILDREN_X=1", "PHP_FCGI_CHILDREN=0"]));
    }
}
