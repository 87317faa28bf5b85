//! The programs of a comparison: ours and the probe, copied to where everybody may execute them, and the original.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory with the programs, removed at the end.
pub struct Programs {
    directory: PathBuf,
    /// Debian's, if it is installed.
    pub original: Option<PathBuf>,
}

impl Programs {
    /// Copies and compiles.
    pub fn install() -> Programs {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fpmd-compat-programs-{}-{number}", std::process::id());
        let programs = Programs { directory: std::env::temp_dir().join(name), original: original() };
        fs::create_dir(&programs.directory).unwrap();
        fs::set_permissions(&programs.directory, Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_spawn-fcgi"), programs.ours()).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/probe.c");
        let compiler =
            Command::new("gcc").args(["-static", "-O1", "-o"]).arg(programs.probe()).arg(source).status();
        assert!(
            compiler.is_ok_and(|status| status.success()),
            "no probe: tests/setup.sh installs the compiler"
        );
        programs
    }

    /// Our program.
    pub fn ours(&self) -> PathBuf {
        self.directory.join("spawn-fcgi")
    }

    /// The application.
    pub fn probe(&self) -> PathBuf {
        self.directory.join("probe")
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Where packages install ours, it is no original.
fn original() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/bin/spawn-fcgi");
    let said = Command::new(&path).arg("-v").output().ok()?;
    (!String::from_utf8_lossy(&said.stdout).contains("fpmd")).then_some(path)
}
