//! Debian's php-fpm, to compare with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::dir::Dir;
use crate::support::{process, wait_until};

/// Where it is, if it is installed.
pub fn program() -> Option<&'static str> {
    let programs = ["/usr/sbin/php-fpm", "/usr/sbin/php-fpm8.2"];
    programs.into_iter().find(|program| Path::new(program).exists())
}

/// A php-fpm with one pool, as Debian sets it up otherwise.
pub struct PhpFpm {
    program: &'static str,
    child: Child,
    dir: Dir,
}

impl PhpFpm {
    /// With so many workers from its start to its end. `global`: lines of its `[global]`.
    #[allow(dead_code, reason = "not each benchmark uses both")]
    pub fn start(program: &'static str, workers: u32, global: &str) -> PhpFpm {
        PhpFpm::managed(program, &format!("pm = static\npm.max_children = {workers}\n"), global)
    }

    /// `management`: the `pm` lines of its pool.
    pub fn managed(program: &'static str, management: &str, global: &str) -> PhpFpm {
        let dir = Dir::new();
        let folder = dir.path().display();
        let text = format!(
            "[global]\npid = {folder}/pid\nerror_log = {folder}/log\n{global}\n[www]\nuser = root\ngroup = root\n\
             listen = {folder}/www.sock\n{management}"
        );
        dir.write("fpm.conf", &text);
        let child = launch(program, &dir);
        PhpFpm { program, child, dir }
    }

    /// A reload that meets a mistake in its file, and what then has to be done: it ends, and is started again with the file
    /// as it was.
    #[allow(dead_code, reason = "not each benchmark does that")]
    pub fn reload_with_mistake(&mut self) {
        let config = self.dir.join("fpm.conf");
        let text = fs::read_to_string(&config).unwrap();
        self.dir.write("fpm.conf", &format!("{text}\nthis is a mistake\n"));
        process::signal(self.pid(), nix::sys::signal::Signal::SIGUSR2);
        wait_until("php-fpm's end", || self.child.try_wait().unwrap().is_some());
        self.dir.write("fpm.conf", &text);
        fs::remove_file(self.dir.join("log")).unwrap();
        self.child = launch(self.program, &self.dir);
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

/// A php-fpm that is ready.
fn launch(program: &str, dir: &Dir) -> Child {
    let mut command = Command::new(program);
    command.args(["-R", "-F", "-y"]).arg(dir.join("fpm.conf")).stdin(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
    wait_until("php-fpm to be ready", || log().contains("ready to handle connections"));
    child
}
