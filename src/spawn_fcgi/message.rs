//! Every sentence of the old program, word for word, because scripts match them. Owns the texts and nothing else.
//! Texts are bytes: a path or a name is repeated as it was given. `--supervise` adds its own at the end.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;

use crate::cli::spawn_fcgi::args::Fault;
use crate::ids::{Gid, Pid, Uid};
use crate::os::errno::said_plainly;

/// Why nothing was started. The exit status is 255, but that of a failed exec is its errno.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong.
    CommandLine(Fault),
    /// The binary has a set-user-ID or set-group-ID bit.
    SetId,
    /// open(2) of the PID file.
    OpenPidFile(OsString, io::Error),
    /// stat(2) of the PID file.
    StatPidFile(OsString, io::Error),
    /// The PID file is a directory, a device or a pipe.
    PidFileNotRegular(OsString),
    /// `-u` or `-U` names nobody.
    UnknownUser(OsString),
    /// `-g` or `-G` names no group.
    UnknownGroup(OsString),
    /// `-u` or `-U` names root.
    UserIsRoot,
    /// `-g`, `-G` or a user's primary group is root's.
    GroupIsRoot,
    /// socket(2).
    CreateSocket(io::Error),
    /// Somebody listens on the path.
    SocketInUse,
    /// unlink(2) of what was at the socket's path.
    RemoveOldSocket(io::Error),
    /// `-a` is no numeric address.
    InvalidAddress(OsString),
    /// setsockopt(2).
    ReuseAddress(io::Error),
    /// bind(2).
    Bind(io::Error),
    /// chmod(2) of the socket.
    ChangeMode(io::Error),
    /// chown(2) of the socket.
    ChangeOwner(io::Error),
    /// listen(2).
    Listen(io::Error),
    /// setgid(2).
    SetGid(Gid, io::Error),
    /// setgroups(2).
    ClearGroups(io::Error),
    /// initgroups(3).
    JoinGroups(OsString, Gid, io::Error),
    /// chroot(2).
    ChangeRoot(OsString, io::Error),
    /// chdir(2), after chroot or by `-d`.
    ChangeDirectory(OsString, io::Error),
    /// setuid(2).
    SetUid(Uid, io::Error),
    /// fork(2); the original goes on, and so do we.
    Fork(io::Error),
    /// execve(2), with `-n`.
    Exec(io::Error),
    /// `--supervise`: what cannot be written as a configuration.
    NotSupervisable(String),
    /// `--supervise`: fpmd could not be executed.
    StartFpmd(io::Error),
}

impl Failure {
    /// The exit status of the program after this failure.
    pub fn exit_status(&self) -> u8 {
        match self {
            Failure::Exec(cause) => (cause.raw_os_error().unwrap_or(255) & 0xff) as u8,
            _ => 255,
        }
    }

    /// The sentence, without the program's name and without a newline.
    pub fn text(&self) -> Vec<u8> {
        match self {
            Failure::CommandLine(fault) => fault.to_string().into(),
            Failure::SetId => b"Are you nuts? Don't apply a SUID bit to this binary".to_vec(),
            Failure::OpenPidFile(path, cause) => about("opening PID-file '", path, "' failed: ", Some(cause)),
            Failure::StatPidFile(path, cause) => about("stating PID-file '", path, "' failed: ", Some(cause)),
            Failure::PidFileNotRegular(path) => {
                about("PID-file exists and isn't regular file: '", path, "'", None)
            }
            Failure::UnknownUser(name) => about("can't find user name ", name, "", None),
            Failure::UnknownGroup(name) => about("can't find group name ", name, "", None),
            Failure::UserIsRoot => b"I will not set uid to 0".to_vec(),
            Failure::GroupIsRoot => b"I will not set gid to 0".to_vec(),
            Failure::SocketInUse => b"socket is already in use, can't spawn".to_vec(),
            Failure::InvalidAddress(address) => about("'", address, "' is not a valid IP address", None),
            Failure::JoinGroups(user, gid, cause) => {
                about("initgroups('", user, &format!("', {}) failed: ", signed(gid.0)), Some(cause))
            }
            Failure::ChangeRoot(path, cause) => about("chroot('", path, "') failed: ", Some(cause)),
            Failure::ChangeDirectory(path, cause) => about("chdir('", path, "') failed: ", Some(cause)),
            Failure::NotSupervisable(reason) => format!("cannot supervise: {reason}").into(),
            Failure::CreateSocket(cause) => plain("couldn't create socket: ", cause),
            Failure::RemoveOldSocket(cause) => plain("removing old socket failed: ", cause),
            Failure::ReuseAddress(cause) => plain("couldn't set SO_REUSEADDR: ", cause),
            Failure::Bind(cause) => plain("bind failed: ", cause),
            Failure::ChangeMode(cause) => plain("couldn't chmod socket: ", cause),
            Failure::ChangeOwner(cause) => plain("couldn't chown socket: ", cause),
            Failure::Listen(cause) => plain("listen failed: ", cause),
            Failure::SetGid(gid, cause) => plain(&format!("setgid({}) failed: ", signed(gid.0)), cause),
            Failure::ClearGroups(cause) => plain("setgroups(0, NULL) failed: ", cause),
            Failure::SetUid(uid, cause) => plain(&format!("setuid({}) failed: ", signed(uid.0)), cause),
            Failure::Fork(cause) => plain("fork failed: ", cause),
            Failure::Exec(cause) => plain("exec failed: ", cause),
            Failure::StartFpmd(cause) => plain("cannot execute fpmd: ", cause),
        }
    }
}

/// What is said on the way, without ending the program.
#[derive(Debug)]
pub enum Notice {
    /// Only the user changes, for want of a group; a warning.
    NoGroup(Uid),
    /// A child outlived its first 100 ms; on stdout, and scripts read the number.
    Spawned(Pid),
    /// A child ended with this status in its first 100 ms.
    ChildExited(i32),
    /// A child was ended by this signal in its first 100 ms.
    ChildSignaled(i32),
    /// write(2) to the PID file.
    WritePidFile(io::Error),
}

impl Notice {
    /// The sentence, without the program's name and without a newline.
    pub fn text(&self) -> String {
        match self {
            Notice::NoGroup(uid) => format!(
                "WARNING: couldn't find the user for uid {} and no group was specified, so only the user privileges will be dropped",
                signed(uid.0)
            ),
            Notice::Spawned(pid) => format!("child spawned successfully: PID: {pid}"),
            Notice::ChildExited(status) => format!("child exited with: {status}"),
            Notice::ChildSignaled(signal) => format!("child signaled: {signal}"),
            Notice::WritePidFile(cause) => format!("writing pid file failed: {}", said_plainly(cause)),
        }
    }
}

/// The original prints ids with `%i`.
fn signed(id: u32) -> i32 {
    id as i32
}

fn plain(start: &str, cause: &io::Error) -> Vec<u8> {
    format!("{start}{}", said_plainly(cause)).into()
}

fn about(start: &str, object: &OsString, end: &str, cause: Option<&io::Error>) -> Vec<u8> {
    let cause = cause.map(said_plainly).unwrap_or_default();
    [start.as_bytes(), object.as_bytes(), end.as_bytes(), cause.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn enoent() -> io::Error {
        io::Error::from_raw_os_error(2)
    }

    #[test]
    fn texts_are_the_originals() {
        let cases: Vec<(Failure, &str)> = vec![
            (Failure::CommandLine(Fault::InvalidPort(4464)), "invalid port: 4464"),
            (
                Failure::OpenPidFile("/x/y".into(), enoent()),
                "opening PID-file '/x/y' failed: No such file or directory",
            ),
            (Failure::PidFileNotRegular("/dev".into()), "PID-file exists and isn't regular file: '/dev'"),
            (Failure::UnknownUser("".into()), "can't find user name "),
            (Failure::InvalidAddress("localhost".into()), "'localhost' is not a valid IP address"),
            (
                Failure::JoinGroups("www".into(), Gid(33), enoent()),
                "initgroups('www', 33) failed: No such file or directory",
            ),
            (Failure::SetUid(Uid(u32::MAX), enoent()), "setuid(-1) failed: No such file or directory"),
            (Failure::ChangeDirectory("/".into(), enoent()), "chdir('/') failed: No such file or directory"),
        ];
        for (failure, expected) in cases {
            assert_eq!(String::from_utf8(failure.text()).unwrap(), expected);
            assert_eq!(failure.exit_status(), 255);
        }
        assert_eq!(Failure::Exec(enoent()).exit_status(), 2);
        assert_eq!(Notice::Spawned(Pid::new(7).unwrap()).text(), "child spawned successfully: PID: 7");
    }

    #[test]
    fn a_name_that_is_no_text_is_repeated_as_it_is() {
        let name = OsString::from_vec(vec![b'a', 0xff]);
        assert_eq!(Failure::UnknownGroup(name).text(), b"can't find group name a\xff");
    }
}
