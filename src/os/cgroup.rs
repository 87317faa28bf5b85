//! One control group a pool, so that whatever a worker starts can be found and killed (`cgroups(7)`, version 2 only).
//!
//! Works where fpmd's own group was delegated to it: it is not the root of the machine and we may write to it. Everywhere
//! else [`Delegated::find`] says why not, and fpmd goes on with sessions alone. What they may use is in [`limits`].

pub mod limits;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::{fmt, str};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use crate::ids::{Pid, PoolName, Signal};
use crate::os::errno::Cause;
use crate::os::signal;

/// fpmd's own control group, under which it may make others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    path: PathBuf,
}

impl Delegated {
    /// Finds it by `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// Why there will be no groups: worth one line in the log, no more.
    pub fn find() -> Result<Delegated, Unavailable> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| Unavailable::Proc(error.into()));
        let path = own_directory(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)?;
        // This process was executed again after it had stepped aside.
        let is_aside = path.file_name().is_some_and(|name| name == own_name().as_str());
        Delegated::at(if is_aside { path.parent().map(Path::to_owned).unwrap_or(path) } else { path })
    }

    fn at(path: PathBuf) -> Result<Delegated, Unavailable> {
        // The kernel gives this file to every group but the root of the machine, whatever a namespace calls root.
        if !path.join("cgroup.events").exists() {
            return Err(Unavailable::Root);
        }
        // A child is moved from our group into another one: that takes writing to both, and to their common ancestor.
        for needed in [path.clone(), path.join("cgroup.procs")] {
            faccessat(AT_FDCWD, &needed, AccessFlags::W_OK, AtFlags::AT_EACCESS)
                .map_err(|errno| Unavailable::Forbidden { path: needed, cause: errno.into() })?;
        }
        Ok(Delegated { path })
    }

    /// Makes an empty group for a pool's workers. Its name has our pid in it, as other fpmds may share our own group.
    ///
    /// # Errors
    /// It cannot be made, or processes cannot be put into it.
    pub fn create(&self, pool: &PoolName) -> Result<Group, CgroupError> {
        let group = self.make(format!("fpmd-{}-{pool}", std::process::id()))?;
        let workers = group.path.join(WORKERS);
        match fs::create_dir(&workers) {
            Ok(()) => Group::open(group.path),
            Err(error) => {
                let _ = group.remove();
                Err(CgroupError::new("make", workers, error))
            }
        }
    }

    /// Makes an empty group for all gateways: none of a pool's, as what is in a pool's group is killed with its workers.
    ///
    /// # Errors
    /// As for [`Delegated::create`].
    pub fn create_for_gateways(&self) -> Result<Group, CgroupError> {
        // No pool's name has a plus sign.
        self.make(format!("fpmd-{}+gateways", std::process::id()))
    }

    fn make(&self, name: String) -> Result<Group, CgroupError> {
        const ATTEMPTS: u32 = 100;
        let mut path = self.path.join(&name);
        for attempt in 2..=ATTEMPTS {
            // What a dead fpmd of our pid left empty is in the way; what still has processes in it stays.
            let _busy_or_absent = fs::remove_dir(&path);
            match fs::create_dir(&path) {
                Ok(()) => return Group::open(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    path = self.path.join(format!("{name}-{attempt}"));
                }
                Err(error) => return Err(CgroupError::new("make", path, error)),
            }
        }
        Err(CgroupError { verb: "make", path, cause: Errno::EEXIST.into() })
    }
}

/// Of the group in which fpmd itself is while it hands controllers down. No pool's name has a plus sign.
fn own_name() -> String {
    format!("fpmd-{}+master", std::process::id())
}

/// Where a pool's workers are, below the pool's group: a group with groups below it may have no processes of its own.
const WORKERS: &str = "workers";

/// The group of one pool, or of one worker. It outlives this value: call [`Group::remove`] at the end.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    procs: File,
}

impl Group {
    /// A group that is there.
    ///
    /// # Errors
    /// Processes cannot be put into it.
    pub fn open(path: PathBuf) -> Result<Group, CgroupError> {
        let workers = path.join(WORKERS);
        let seat = if workers.exists() { &workers } else { &path };
        let opened =
            usable(seat).and_then(|()| OpenOptions::new().write(true).open(seat.join("cgroup.procs")));
        match opened {
            Ok(procs) => Ok(Group { path, procs }),
            Err(error) => {
                let _ = fs::remove_dir(&workers);
                let _ = fs::remove_dir(&path);
                Err(CgroupError::new("use", path, error))
            }
        }
    }

    /// `cgroup.procs`, for `process::Descriptors::cgroup`.
    pub fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everyone in the group and in the groups that a worker made below it; zombies do not count.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn members(&self) -> Result<Vec<Pid>, CgroupError> {
        let mut pids = Vec::new();
        for directory in subtree(&self.path) {
            match fs::read_to_string(directory.join("cgroup.procs")) {
                Ok(text) => pids.extend(text.lines().filter_map(|line| Pid::new(line.parse().ok()?))),
                Err(_) if directory != self.path => (), // it was removed while we looked
                Err(error) => return Err(CgroupError::new("read", directory, error)),
            }
        }
        Ok(pids)
    }

    /// SIGKILL for everyone in it, those that are being forked included where the kernel can do that (Linux 5.14).
    ///
    /// # Errors
    /// The kernel refused.
    pub fn kill(&self) -> Result<(), CgroupError> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.kill_each(),
            Err(error) => Err(CgroupError::new("kill", self.path.clone(), error)),
            Ok(()) => Ok(()),
        }
    }

    /// Until a look finds nobody new: a child that was forked meanwhile is killed by the next round.
    fn kill_each(&self) -> Result<(), CgroupError> {
        const ROUNDS: u32 = 100;
        let mut killed = HashSet::new();
        for _ in 0..ROUNDS {
            let fresh: Vec<Pid> = self.members()?.into_iter().filter(|&pid| killed.insert(pid)).collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                // One that may not be signalled, or has gone, does not keep the others alive.
                let _ = signal::send(pid, Signal::KILL);
            }
        }
        Ok(())
    }

    /// Removes the group and those below it.
    ///
    /// # Errors
    /// EBUSY while processes are in it, those that were killed but have not ended yet included: try again when the
    /// last one is reaped.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for directory in subtree(&self.path).into_iter().rev() {
            match fs::remove_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(CgroupError::new("remove", directory, error));
                }
                Ok(()) | Err(_) => (),
            }
        }
        Ok(())
    }
}

/// A group below a threaded one exists but takes no processes.
fn usable(path: &Path) -> io::Result<()> {
    match fs::read_to_string(path.join("cgroup.type"))?.trim_end() {
        "domain" => Ok(()),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// The directory and all below it, parents before their children.
fn subtree(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    let mut next = 0;
    while let Some(directory) = found.get(next) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let below: Vec<PathBuf> = below.map(|entry| entry.path()).collect();
        found.extend(below);
        next += 1;
    }
    found
}

/// Where our group of version 2 is in the file system. `mountinfo` as in `proc_pid_mountinfo(5)`, `cgroup` as in `cgroups(7)`.
fn own_directory(mountinfo: &str, cgroup: &str) -> Result<PathBuf, Unavailable> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::")).ok_or(Unavailable::NoVersion2)?;
    let own = Path::new(own);
    let mut mounts = mountinfo.lines().filter_map(cgroup2_mount).peekable();
    if mounts.peek().is_none() {
        return Err(Unavailable::NoVersion2);
    }
    let visible = mounts.find_map(|(root, mount_point)| Some(mount_point.join(own.strip_prefix(root).ok()?)));
    // "/.." is how a namespace shows what is outside of it.
    visible.filter(|path| !path.components().any(|c| c == Component::ParentDir)).ok_or(Unavailable::Outside)
}

/// Which part of the hierarchy is mounted, and where.
fn cgroup2_mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, mount_point) = (fields.next()?, fields.next()?);
    (kind.split(' ').next()? == "cgroup2").then(|| (unescape(root), unescape(mount_point)))
}

/// Space, tab, newline and backslash are written as `\040` and so on.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    while let Some((&first, rest)) = bytes.split_first() {
        let digits = rest.get(..3).filter(|_| first == b'\\');
        let code = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(first));
        bytes = if code.is_some() { &rest[3..] } else { rest };
    }
    PathBuf::from(OsString::from_vec(plain))
}

/// Why there are no control groups for pools. None of it is a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// `/proc` cannot be read.
    Proc(Cause),
    /// Version 2 is not mounted.
    NoVersion2,
    /// Ours is not in the part that is mounted.
    Outside,
    /// fpmd is in the root group, which nobody delegates.
    Root,
    /// It belongs to somebody else.
    Forbidden {
        /// Which file.
        path: PathBuf,
        /// Why we cannot write to it.
        cause: Cause,
    },
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot use control groups: ")?;
        match self {
            Unavailable::Proc(cause) => write!(f, "cannot read '/proc/self': {cause}"),
            Unavailable::NoVersion2 => f.write_str("version 2 is not mounted"),
            Unavailable::Outside => f.write_str("fpmd's own is not visible here"),
            Unavailable::Root => f.write_str("fpmd runs in the root group"),
            Unavailable::Forbidden { path, cause } => {
                write!(f, "cannot write to '{}': {cause}", path.display())
            }
        }
    }
}

impl std::error::Error for Unavailable {}

/// What could not be done with a pool's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupError {
    verb: &'static str,
    path: PathBuf,
    /// Why.
    pub cause: Cause,
}

impl CgroupError {
    fn new(verb: &'static str, path: PathBuf, error: io::Error) -> CgroupError {
        CgroupError { verb, path, cause: error.into() }
    }
}

impl fmt::Display for CgroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} control group '{}': {}", self.verb, self.path.display(), self.cause)
    }
}

impl std::error::Error for CgroupError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ExitStatus;
    use crate::os::process::testing::{Running, pipe, shell, until};
    use crate::os::process::{Descriptors, Output};

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn our_own_group_is_found() {
        let own = |mounts, cgroup| own_directory(mounts, cgroup);
        let unit = "4:memory:/elsewhere\n0::/system.slice/fpmd.service\n";
        assert_eq!(own(HYBRID, unit), Ok("/sys/fs/cgroup/unified/system.slice/fpmd.service".into()));
        // Only a part of the hierarchy is mounted, at a place with a space in its name.
        let part = "50 23 0:26 /system.slice /mnt/a\\040b rw - cgroup2 none rw\n";
        assert_eq!(own(part, unit), Ok("/mnt/a b/fpmd.service".into()));
        assert_eq!(own(part, "0::/user.slice\n"), Err(Unavailable::Outside));
        assert_eq!(own(HYBRID, "0::/../other\n"), Err(Unavailable::Outside));
        assert_eq!(own(HYBRID, "4:memory:/\n"), Err(Unavailable::NoVersion2));
        assert_eq!(own("22 1 8:1 / / rw - ext4 /dev/sda rw\n", unit), Err(Unavailable::NoVersion2));
    }

    #[test]
    fn reasons_are_sentences() {
        let cause = Cause(Errno::EACCES);
        let forbidden = Unavailable::Forbidden { path: "/sys/fs/cgroup/a".into(), cause };
        let text = "cannot use control groups: cannot write to '/sys/fs/cgroup/a': Permission denied";
        assert_eq!(forbidden.to_string(), text);
        let text = "cannot use control groups: fpmd runs in the root group";
        assert_eq!(Unavailable::Root.to_string(), text);
    }

    /// A group such as a service manager would delegate to us; removed at the end.
    struct Unit(Delegated);

    impl Unit {
        /// `None` where the tests may not make groups.
        fn new(test: &str) -> Option<Unit> {
            let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
            let (_, mount) = mounts.lines().find_map(cgroup2_mount)?;
            let path = mount.join(format!("fpmd-test-{}-{test}", std::process::id()));
            fs::create_dir(&path).ok()?;
            Some(Unit(Delegated::at(path).expect("we have just made it")))
        }
    }

    impl Drop for Unit {
        fn drop(&mut self) {
            fs::remove_dir(&self.0.path).expect("nothing is left in it");
        }
    }

    fn pool() -> PoolName {
        PoolName::new("www").expect("a valid name")
    }

    fn start_in(group: &Group, script: &str) -> Running {
        let null = File::open("/dev/null").expect("it exists");
        let (stdout, sink) = pipe();
        let descriptors = Descriptors {
            stdin: null.as_fd(),
            stdout: Output::To(sink.as_fd()),
            stderr: Output::Null,
            cgroup: Some(group.procs()),
        };
        Running::with(&shell(script), &descriptors, stdout)
    }

    fn removed(group: &Group) {
        until("an empty group", || group.remove().ok());
        assert!(!group.path().exists());
    }

    #[test]
    fn workers_and_what_they_start_are_members_and_are_killed() {
        let Some(unit) = Unit::new("kill") else { return };
        type Killer = fn(&Group) -> Result<(), CgroupError>;
        for kill in [Group::kill as Killer, Group::kill_each] {
            let group = unit.0.create(&pool()).expect("we may");
            // A session of its own does not help.
            let mut worker = start_in(&group, "setsid sleep 1000 & echo started; exec sleep 1000");
            assert_eq!(worker.line(), "started");
            assert_eq!(group.members().expect("readable").len(), 2);
            assert!(group.members().expect("readable").contains(&worker.pid));
            let busy = group.remove().expect_err("two are in it");
            let path = group.path().join(WORKERS);
            let path = path.display();
            assert_eq!(
                busy.to_string(),
                format!("cannot remove control group '{path}': Device or resource busy")
            );
            kill(&group).expect("we may");
            assert_eq!(worker.end(), ExitStatus::Signal { signal: Signal::KILL, core: false });
            removed(&group);
            group.remove().expect("twice does no harm");
        }
    }

    #[test]
    fn groups_below_count_and_go_too() {
        let Some(unit) = Unit::new("below") else { return };
        let group = unit.0.create(&pool()).expect("we may");
        let below = group.path().join("below/further");
        fs::create_dir_all(&below).expect("we may");
        let script = format!("echo 0 > '{}/cgroup.procs'; echo moved; exec sleep 1000", below.display());
        let mut worker = start_in(&group, &script);
        assert_eq!(worker.line(), "moved");
        // `echo` is the shell itself, so it is the shell that has moved.
        assert_eq!(group.members(), Ok(vec![worker.pid]));
        group.kill().expect("we may");
        worker.end();
        removed(&group);
    }

    #[test]
    fn names_that_are_taken_are_left_alone() {
        let Some(unit) = Unit::new("names") else { return };
        let first = unit.0.create(&pool()).expect("we may");
        let mut worker = start_in(&first, "echo started; exec sleep 1000");
        assert_eq!(worker.line(), "started");
        let second = unit.0.create(&pool()).expect("under another name");
        let name = |group: &Group| group.path().file_name().map(|name| name.to_string_lossy().into_owned());
        let base = format!("fpmd-{}-www", std::process::id());
        assert_eq!((name(&first), name(&second)), (Some(base.clone()), Some(format!("{base}-2"))));
        first.kill().expect("we may");
        worker.end();
        removed(&first);
        removed(&second);
    }

    #[test]
    fn the_root_is_not_ours() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("there is /proc");
        let Some((root, mount)) = mounts.lines().find_map(cgroup2_mount) else { return };
        if root == Path::new("/") && !mount.join("cgroup.events").exists() {
            assert_eq!(Delegated::at(mount), Err(Unavailable::Root));
        }
    }
}
