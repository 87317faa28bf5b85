//! A directory for one test, short enough for socket paths, open to every user, removed at the end.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Removed on drop; kept and named when the test fails.
pub struct Dir {
    path: PathBuf,
}

impl Dir {
    pub fn new() -> Dir {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fpmd-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Dir { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that everyone may read and run, with its folders.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Writes a program that everyone may run.
    pub fn program(&self, name: &str, text: &str) -> PathBuf {
        let source = self.write(&format!("{name}.text"), text);
        self.install(&source, name)
    }

    /// Copies a program to where everyone may run it. Another process does it: while one of our threads writes a file,
    /// another may be starting a process that then holds it open, and executing it fails with "Text file busy".
    pub fn install(&self, source: &Path, name: &str) -> PathBuf {
        let path = self.join(name);
        let made = Command::new("install").arg("-m755").arg(source).arg(&path).status();
        assert!(made.unwrap().success(), "cannot install {}", path.display());
        path
    }

    /// Every socket below it.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.path.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    Ok(kind) if kind.is_socket() => found.push(entry.path()),
                    _ => {}
                }
            }
        }
        found
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
