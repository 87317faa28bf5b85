//! What the tests of the system ring share: a directory that goes away by itself, a socket's settings, and a pace.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::model::SocketSettings;

/// A new, empty directory under the system's temporary directory, removed with its content at the end of the test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fpmd-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Waits 2 ms: the pace of a test that looks again and again for a fact.
pub(crate) fn pause() {
    let _ = nix::poll::poll(&mut [], 2u8);
}

/// Settings of a test's socket: a queue of 8, of whoever runs the test, for nobody else.
pub(crate) fn socket_settings() -> SocketSettings {
    SocketSettings {
        backlog: 8,
        owner: None,
        group: None,
        mode: 0o600,
        acl_users: Vec::new(),
        acl_groups: Vec::new(),
    }
}
