//! Where fpmd lives when nobody says: the one rule that the configuration's defaults and fpmctl share, so that `fpmctl`
//! without options finds the fpmd that was started without options. Reads no environment and creates nothing: its callers
//! bring the facts (XDG Base Directory Specification 0.8, `$XDG_RUNTIME_DIR`).

use std::path::{Path, PathBuf};

use crate::ids::Uid;

/// The control socket's file name inside the runtime directory.
pub const CONTROL_SOCKET: &str = "fpmd.sock";

/// The runtime directory: `/run/fpmd` for root, `$XDG_RUNTIME_DIR/fpmd` for others, `/tmp/fpmd-UID` where that variable is
/// unset, empty or (as its specification demands) relative.
///
/// Anyone may create a name in `/tmp`: who uses the last form has to check that the directory is its own and closed to others.
pub fn default_runtime_dir(is_root: bool, xdg_runtime_dir: Option<&Path>, uid: Uid) -> PathBuf {
    match xdg_runtime_dir {
        _ if is_root => PathBuf::from("/run/fpmd"),
        Some(dir) if dir.is_absolute() => dir.join("fpmd"),
        _ => PathBuf::from(format!("/tmp/fpmd-{}", uid.0)),
    }
}

/// The control socket of an fpmd whose runtime directory is this one.
pub fn control_socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join(CONTROL_SOCKET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_lives_in_run_whatever_the_environment_says() {
        let dir = default_runtime_dir(true, Some(Path::new("/run/user/0")), Uid(0));
        assert_eq!(control_socket(&dir), Path::new("/run/fpmd/fpmd.sock"));
    }

    #[test]
    fn others_live_in_their_runtime_directory() {
        let dir = default_runtime_dir(false, Some(Path::new("/run/user/1000")), Uid(1000));
        assert_eq!(control_socket(&dir), Path::new("/run/user/1000/fpmd/fpmd.sock"));
    }

    #[test]
    fn without_a_usable_runtime_directory_it_is_tmp() {
        for xdg in [None, Some(Path::new("")), Some(Path::new("run/user"))] {
            assert_eq!(default_runtime_dir(false, xdg, Uid(1000)), Path::new("/tmp/fpmd-1000"));
        }
    }
}
