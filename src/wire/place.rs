//! Where fpmd lives when nobody says: the one rule that the configuration's defaults and fpmctl share, so that `fpmctl`
//! without options finds the fpmd that was started without options. Reads no environment and creates nothing: its callers
//! bring the facts (systemd.exec(5), `$RUNTIME_DIRECTORY`; XDG Base Directory Specification 0.8, `$XDG_RUNTIME_DIR`).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::ids::Uid;

/// The control socket's file name inside the runtime directory.
pub const CONTROL_SOCKET: &str = "fpmd.sock";

/// What the environment says of runtime directories. Relative paths and empty ones say nothing, as the second's
/// specification demands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// `$RUNTIME_DIRECTORY`: made by the service manager for this one service; several are separated by colons.
    pub service: Option<&'a OsStr>,
    /// `$XDG_RUNTIME_DIR`: of all that one user runs.
    pub user: Option<&'a OsStr>,
}

/// The runtime directory: `/run/fpmd` for root; for others the first of a service's directories, else `fpmd` in the user's,
/// else `/tmp/fpmd-UID`.
///
/// Anyone may create a name in `/tmp`: who uses the last form has to check that the directory is its own and closed to others.
pub fn default_runtime_dir(is_root: bool, hints: Hints<'_>, uid: Uid) -> PathBuf {
    if is_root {
        return PathBuf::from("/run/fpmd");
    }
    let service = hints.service.and_then(|list| list.as_encoded_bytes().split(|byte| *byte == b':').next());
    let service = service.and_then(|first| std::str::from_utf8(first).ok()).map(PathBuf::from);
    let user = hints.user.map(|directory| Path::new(directory).join("fpmd"));
    let usable = [service, user].into_iter().flatten().find(|directory| directory.is_absolute());
    usable.unwrap_or_else(|| PathBuf::from(format!("/tmp/fpmd-{}", uid.0)))
}

/// The control socket of an fpmd whose runtime directory is this one.
pub fn control_socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join(CONTROL_SOCKET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_user(service: Option<&str>, user: Option<&str>) -> PathBuf {
        let hints = Hints { service: service.map(OsStr::new), user: user.map(OsStr::new) };
        default_runtime_dir(false, hints, Uid(1000))
    }

    #[test]
    fn root_lives_in_run_whatever_the_environment_says() {
        let hints = Hints { service: Some(OsStr::new("/run/x")), user: Some(OsStr::new("/run/user/0")) };
        let dir = default_runtime_dir(true, hints, Uid(0));
        assert_eq!(control_socket(&dir), Path::new("/run/fpmd/fpmd.sock"));
    }

    #[test]
    fn others_live_in_their_runtime_directory() {
        let dir = of_user(None, Some("/run/user/1000"));
        assert_eq!(control_socket(&dir), Path::new("/run/user/1000/fpmd/fpmd.sock"));
    }

    #[test]
    fn a_service_lives_in_its_own_directory() {
        assert_eq!(of_user(Some("/run/fpmd-alice"), Some("/run/user/1000")), Path::new("/run/fpmd-alice"));
        assert_eq!(of_user(Some("/run/one:/run/two"), None), Path::new("/run/one"));
        assert_eq!(of_user(Some("one"), Some("/run/user/1000")), Path::new("/run/user/1000/fpmd"));
    }

    #[test]
    fn without_a_usable_runtime_directory_it_is_tmp() {
        for directory in [None, Some(""), Some("run/user")] {
            assert_eq!(of_user(directory, directory), Path::new("/tmp/fpmd-1000"));
        }
    }
}
