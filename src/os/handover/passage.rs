//! The exec of an upgrade and the way back: a program that cannot go on with what it was handed becomes the one before
//! again, which gets the same descriptors under the same numbers. Each is told by its environment, see fpmd(8).
//! execve(2), execveat(2).

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::{env, fs};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::prctl;
use nix::sys::stat::Mode;

use super::{Heirloom, without_deleted};

/// `PID:DESCRIPTOR`, the descriptor of what is written down.
const TAKE_OVER: &str = "FPMD_TAKE_OVER";
/// `PID:DESCRIPTOR`, the descriptor of the program before.
const WAY_BACK: &str = "FPMD_WAY_BACK";
/// `PID:REASON`, why the program after could not go on.
const TAKEN_BACK: &str = "FPMD_TAKEN_BACK";

/// How one program of this process tells the next one; each meant for that process alone.
pub const VARIABLES: [&str; 3] = [TAKE_OVER, WAY_BACK, TAKEN_BACK];

/// Of a reason, bytes: far below what an environment may hold.
const LONGEST_REASON: usize = 4096;

/// Who we are.
const OWN: &CStr = c"/proc/self/exe";

/// What a program finds that goes on in a process.
#[derive(Debug)]
pub struct Inheritance {
    /// What is written down.
    pub will: Heirloom,
    /// Whose turn it is.
    pub turn: Turn,
}

/// Whose turn it is.
#[derive(Debug)]
pub enum Turn {
    /// The program after, with its way back.
    Next(Option<WayBack>),
    /// The program before again, and why.
    Again(String),
}

/// The program before, kept open.
#[derive(Debug)]
pub struct WayBack {
    program: OwnedFd,
}

/// What was left to us by a program that this process was before; `None` if it was none. To be called once. Signals are
/// still held back then: see [`super::release_signals`].
pub fn inheritance() -> Option<Inheritance> {
    let will = Heirloom(note(TAKE_OVER)?.to_str()?.parse().ok()?);
    let turn = match note(TAKEN_BACK) {
        Some(reason) => {
            restore_name();
            Turn::Again(reason.to_string_lossy().into_owned())
        }
        None => Turn::Next(WayBack::claim()),
    };
    Some(Inheritance { will, turn })
}

/// A note to this very process: that of a shell that copied the variables, or of our own child, has another pid.
fn note(name: &str) -> Option<OsString> {
    let note = env::var_os(name)?;
    let prefix = format!("{}:", std::process::id());
    let text = note.as_bytes().strip_prefix(prefix.as_bytes())?;
    Some(OsStr::from_bytes(text).to_owned())
}

impl WayBack {
    /// To the running program, whatever becomes of its path.
    pub(super) fn open() -> Result<WayBack, Errno> {
        let program = open(OWN, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(WayBack { program })
    }

    fn claim() -> Option<WayBack> {
        let program = Heirloom(note(WAY_BACK)?.to_str()?.parse().ok()?);
        Some(WayBack { program: program.claim().ok()? })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Becomes the program before, with `will` as what is written down. Nothing that it handed over may have been closed,
    /// and signals are to be held back still. Returns only if that fails.
    pub fn take(&self, will: BorrowedFd<'_>, reason: &str) -> Errno {
        let kept = reason.bytes().filter(|byte| *byte != 0).take(LONGEST_REASON).collect();
        let notes = [(TAKE_OVER, number(will)), (TAKEN_BACK, OsString::from_vec(kept))];
        let result = with_open([will], || {
            let (arguments, environment) = (arguments()?, environment(&notes)?);
            nix::unistd::execveat(&self.program, c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH)
        });
        match result {
            Ok(never) => match never {},
            Err(errno) => errno,
        }
    }
}

/// Executes the program after.
pub(super) fn go(program: &Path, will: BorrowedFd<'_>, way_back: &WayBack) -> Result<Infallible, Errno> {
    let notes = [(TAKE_OVER, number(will)), (WAY_BACK, number(way_back.as_fd()))];
    nix::unistd::execve(&text(program.as_os_str())?, &arguments()?, &environment(&notes)?)
}

/// Has these descriptors pass an exec; closes none, whatever comes of it.
pub(super) fn with_open<'a>(
    descriptors: impl IntoIterator<Item = BorrowedFd<'a>>,
    execute: impl FnOnce() -> Result<Infallible, Errno>,
) -> Result<Infallible, Errno> {
    let descriptors: Vec<_> = descriptors.into_iter().collect();
    let set =
        |flags: FdFlag| descriptors.iter().try_for_each(|fd| fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop));
    let result = set(FdFlag::empty()).and_then(|()| execute());
    let _ = set(FdFlag::FD_CLOEXEC);
    result
}

fn number(fd: BorrowedFd<'_>) -> OsString {
    fd.as_raw_fd().to_string().into()
}

fn text(text: &OsStr) -> Result<CString, Errno> {
    CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL)
}

/// Our own.
fn arguments() -> Result<Vec<CString>, Errno> {
    env::args_os().map(|argument| text(&argument)).collect()
}

/// Ours, with these notes to this process as the only ones.
fn environment(notes: &[(&str, OsString)]) -> Result<Vec<CString>, Errno> {
    let ours = env::vars_os().filter(|(name, _)| !VARIABLES.iter().any(|note| name == *note));
    let notes = notes.iter().map(|(name, note)| {
        let mut value = OsString::from(format!("{}:", std::process::id()));
        value.push(note);
        (OsString::from(name), value)
    });
    let assignment = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        text(&name)
    };
    ours.chain(notes).map(assignment).collect()
}

/// The process shows its program's name again: one that is executed by descriptor is called by that number before Linux 6.14.
fn restore_name() {
    let Ok(program) = fs::read_link("/proc/self/exe") else { return };
    let program = without_deleted(program);
    if let Some(Ok(name)) = program.file_name().map(text) {
        let _ = prctl::set_name(&name);
    }
}
