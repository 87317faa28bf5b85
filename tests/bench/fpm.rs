//! Debian's php-fpm, to compare with.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::dir::Dir;
use crate::support::{process, wait_until};

/// Where it is, if it is installed.
pub fn program() -> Option<&'static str> {
    let programs = ["/usr/sbin/php-fpm", "/usr/sbin/php-fpm8.2"];
    programs.into_iter().find(|program| Path::new(program).exists())
}

/// A php-fpm of so many workers, as Debian sets it up otherwise.
pub struct PhpFpm {
    child: Child,
    dir: Dir,
}

impl PhpFpm {
    /// `global`: lines of its `[global]`.
    pub fn start(program: &str, workers: u32, global: &str) -> PhpFpm {
        let dir = Dir::new();
        let folder = dir.path().display();
        let text = format!(
            "[global]\npid = {folder}/pid\nerror_log = {folder}/log\n{global}\n[www]\nuser = root\ngroup = root\n\
             listen = {folder}/www.sock\npm = static\npm.max_children = {workers}\n"
        );
        let config = dir.write("fpm.conf", &text);
        let mut command = Command::new(program);
        command.args(["-R", "-F", "-y"]).arg(config).stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        wait_until("php-fpm's socket", || dir.join("www.sock").exists());
        PhpFpm { child, dir }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("www.sock")
    }

    /// The master's pid; a reload does not change it.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }
}

impl Drop for PhpFpm {
    fn drop(&mut self) {
        process::signal(self.pid(), nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
