//! Why `execve(2)` says "No such file or directory" of a program that is there: what it asks to be run by is missing.
//!
//! Looked at by the parent after the failure, so that the message names the file that has to be installed or corrected.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

/// The kernel reads no more of a `#!` line (BINPRM_BUF_SIZE).
const FIRST_BYTES: u64 = 256;

/// The missing interpreter of a program that exists, as its first line has it; `None` if that is not the reason.
pub(super) fn missing(program: &CStr, chroot: Option<&CStr>) -> Option<String> {
    // Whatever the path leads to by now, opening it must not wait, as a FIFO would.
    let file =
        File::options().read(true).custom_flags(libc::O_NONBLOCK).open(inside(chroot, program.to_bytes()));
    let mut first = Vec::new();
    file.ok()?.take(FIRST_BYTES).read_to_end(&mut first).ok()?;
    let line = first.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    // Spaces and tabs separate, a carriage return does not: the kernel looks for "/bin/sh\r".
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let interpreter = words.next()?;
    let absent = !inside(chroot, interpreter).exists();
    absent.then(|| String::from_utf8_lossy(interpreter).escape_debug().to_string())
}

/// As seen from outside the root directory; a symbolic link inside that is absolute is followed outside, which is good
/// enough for a message.
fn inside(chroot: Option<&CStr>, path: &[u8]) -> PathBuf {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let Some(chroot) = chroot else { return path.to_owned() };
    let root = Path::new(std::ffi::OsStr::from_bytes(chroot.to_bytes()));
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs;

    use super::*;
    use crate::os::testing::TempDir;

    #[test]
    fn only_a_missing_interpreter_is_named() {
        let directory = TempDir::new();
        let root = CString::new(directory.path().as_os_str().as_bytes()).expect("no NUL byte");
        fs::write(directory.join("interpreter"), "").expect("writable");
        for (text, expected) in [
            ("#!/nonexistent/python9 -u\n", Some("/nonexistent/python9")),
            ("#! \t/nonexistent/python9", Some("/nonexistent/python9")),
            ("#!/interpreter\r\n", Some("/interpreter\\r")),
            ("#!/interpreter\n", None),
            ("#!\n", None),
            ("no script", None),
            ("", None),
        ] {
            fs::write(directory.join("script"), text).expect("writable");
            assert_eq!(missing(c"/script", Some(&root)).as_deref(), expected, "{text:?}");
        }
        assert_eq!(missing(c"/absent", Some(&root)), None);
        assert_eq!(missing(c"/bin/sh", None), None);
    }
}
