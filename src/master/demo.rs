//! `fpmd demo`: a configuration of our own around the built-in worker, in a directory that goes when fpmd ends.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::gateways;
use super::source::{OnePool, Source};

/// The demo's private directory; removed when dropped.
#[derive(Debug)]
pub struct Demo {
    directory: PathBuf,
    program: PathBuf,
    workers: u32,
}

impl Demo {
    /// Makes the directory, which needs no privilege and no free path.
    ///
    /// # Errors
    /// The temporary directory cannot be written to, or our own program cannot be found.
    pub fn new(workers: u32) -> io::Result<Demo> {
        let program = std::env::current_exe()?;
        let directory = std::env::temp_dir().join(format!("fpmd-demo-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o711).create(&directory)?;
        Ok(Demo { directory, program, workers })
    }

    /// The configuration: a static pool of built-in workers.
    pub fn source(&self, listen: &str, user: Option<&str>) -> Source {
        let command = [self.program.to_string_lossy().into_owned(), "demo-worker".to_owned()];
        let listen = [listen.to_owned()];
        let pool = OnePool {
            name: "demo",
            listen: &listen,
            command: &command,
            workers: self.workers,
            // A fresh checkout has built only fpmd.
            dispatch: if gateways::is_installed() { None } else { Some("direct") },
            user,
            group: None,
            env: &[("FPMD_POOL".to_owned(), "demo".to_owned())],
            control_socket: None,
            runtime_dir: Some(&self.directory),
        };
        Source::one_pool("demo", &pool)
    }

    /// What to print when it serves on `address`.
    pub fn greeting(&self, address: &str) -> String {
        let fpmctl = self.fpmctl();
        let socket = crate::wire::place::control_socket(&self.directory);
        format!(
            "fpmd serves {workers} built-in workers on {address}. Try in another terminal:\n\n  \
             {fpmctl} --socket {socket} status\n  \
             {fpmctl} request {address} /\n  \
             {fpmctl} --socket {socket} reload\n\n\
             Ctrl-C ends it.\n",
            workers = self.workers,
            socket = socket.display(),
        )
    }

    /// fpmctl is beside us once it is installed; a fresh checkout has built only fpmd.
    fn fpmctl(&self) -> String {
        let beside = self.program.with_file_name("fpmctl");
        let profile = if cfg!(debug_assertions) { "" } else { "--release " };
        if beside == Path::new("/usr/bin/fpmctl") || beside == Path::new("/usr/sbin/fpmctl") {
            "fpmctl".to_owned()
        } else if beside.exists() {
            beside.display().to_string()
        } else {
            format!("cargo run -q {profile}--bin fpmctl --")
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
