//! The working directory of one run: made before, what the test holds meanwhile, listed after, removed at the end.

use std::any::Any;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::Mode;
use nix::unistd;

use super::cases::Scene;

/// The user that runs as "somebody else" where the tests run as root.
pub const NOBODY: u32 = 65534;

/// A fresh directory, removed with all that is in it.
pub struct Stage {
    base: PathBuf,
    /// Kept open until the run is over.
    held: Vec<Box<dyn Any>>,
}

impl Stage {
    /// Builds `scene` in a directory that its caller owns.
    pub fn build(scene: Scene, port: u16, owner: Option<u32>, probe: &Path) -> Stage {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let base = std::env::temp_dir().join(format!("fpmd-compat-{}-{number}", std::process::id()));
        fs::create_dir(&base).unwrap();
        fs::set_permissions(&base, Permissions::from_mode(0o755)).unwrap();
        let mut stage = Stage { base, held: Vec::new() };
        fs::create_dir(stage.work()).unwrap();
        // Whoever the application becomes, it can write its report.
        fs::set_permissions(stage.work(), Permissions::from_mode(0o777)).unwrap();
        stage.set(scene, port, probe);
        if let Some(owner) = owner {
            give(&stage.work(), owner);
        }
        stage
    }

    /// The working directory of the program.
    pub fn work(&self) -> PathBuf {
        self.base.join("work")
    }

    /// A file beside the working directory.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    fn set(&mut self, scene: Scene, port: u16, probe: &Path) {
        let work = self.work();
        let (sock, pid) = (work.join("sock"), work.join("pid"));
        match scene {
            Scene::Empty => {}
            Scene::PortTaken => self.held.push(Box::new(TcpListener::bind(("127.0.0.1", port)).unwrap())),
            Scene::Owner => self.held.push(Box::new(UnixListener::bind(&sock).unwrap())),
            Scene::BusyOwner => self.hold_full_queue(&sock),
            Scene::Stale => drop(UnixListener::bind(&sock).unwrap()),
            Scene::FileAtSocket => fs::write(&sock, "text").unwrap(),
            Scene::DirectoryAtSocket => fs::create_dir(&sock).unwrap(),
            Scene::PidFile(text) => fs::write(&pid, text).unwrap(),
            Scene::DirectoryAtPid => fs::create_dir(&pid).unwrap(),
            Scene::DanglingPid => symlink("nothing/there", &pid).unwrap(),
            Scene::PipeAtPid => unistd::mkfifo(&pid, Mode::from_bits_truncate(0o600)).unwrap(),
            Scene::PidFileAndOwner => {
                fs::write(&pid, "77").unwrap();
                self.held.push(Box::new(UnixListener::bind(&sock).unwrap()));
            }
            Scene::Locked => lock(&work.join("locked")),
            Scene::NotExecutable => {
                fs::write(work.join("plain"), "text").unwrap();
                fs::set_permissions(work.join("plain"), Permissions::from_mode(0o644)).unwrap();
            }
            Scene::Jail => {
                build_jail(&work.join("jail"), probe);
                fs::create_dir(work.join("jail/dev")).unwrap();
                // The device itself needs a privilege that containers do not have; a file can be opened as well.
                fs::write(work.join("jail/dev/null"), "").unwrap();
                fs::set_permissions(work.join("jail/dev/null"), Permissions::from_mode(0o666)).unwrap();
            }
            Scene::BareJail => build_jail(&work.join("jail"), probe),
        }
    }

    fn hold_full_queue(&mut self, path: &Path) {
        let owner = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(owner.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        listen(&owner, Backlog::new(0).unwrap()).unwrap();
        self.held.push(Box::new(UnixStream::connect(path).unwrap()));
        self.held.push(Box::new(owner));
    }

    /// Everything in the working directory but reports and the probe: kind, mode, owner, and the PID file's text.
    pub fn listing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        list(&self.work(), "", &mut lines);
        lines.sort();
        lines
    }

    /// Reports of the probes: the pid and the text of each.
    pub fn reports(&self) -> Vec<(i32, String)> {
        let mut reports = Vec::new();
        for directory in [self.work(), self.work().join("jail/run")] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name().into_string().unwrap_or_default();
                if let Some(pid) = name.strip_prefix("report.").and_then(|rest| rest.parse().ok()) {
                    reports.push((pid, fs::read_to_string(entry.path()).unwrap()));
                }
            }
        }
        reports
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.held.clear();
        // Without this an ordinary user could not look into the directory in order to remove it.
        let _ = fs::set_permissions(self.work().join("locked"), Permissions::from_mode(0o700));
        let _ = fs::remove_dir_all(&self.base);
    }
}

fn lock(path: &Path) {
    fs::create_dir(path).unwrap();
    let mode = if unistd::geteuid().is_root() { 0o700 } else { 0 };
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn build_jail(path: &Path, probe: &Path) {
    fs::create_dir_all(path.join("run")).unwrap();
    fs::set_permissions(path.join("run"), Permissions::from_mode(0o777)).unwrap();
    fs::copy(probe, path.join("probe")).unwrap();
}

/// The directory and all that is in it, but not what was locked.
fn give(path: &Path, owner: u32) {
    lchown(path, Some(owner), Some(owner)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap().flatten().filter(|entry| entry.file_name() != "locked") {
            give(&entry.path(), owner);
        }
    }
}

fn list(directory: &Path, prefix: &str, lines: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().display());
        let Ok(found) = entry.metadata() else { continue };
        if name.contains("report.") || name == "jail/probe" {
            continue;
        }
        let kind = found.file_type();
        let kind = match () {
            () if kind.is_socket() => "socket",
            () if kind.is_dir() => "directory",
            () if kind.is_symlink() => "link",
            () if kind.is_fifo() => "pipe",
            () => "file",
        };
        let mode = found.mode() & 0o7777;
        // How it is locked depends on who runs the tests.
        if name != "locked" {
            lines.push(format!("{name}: {kind} {mode:04o} {}:{}", found.uid(), found.gid()));
        }
        if kind == "directory" {
            list(&entry.path(), &format!("{name}/"), lines);
        }
    }
}
