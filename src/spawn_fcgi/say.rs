//! stdout and stderr of the program: `spawn-fcgi: ` in front of every sentence, whatever the program's file is called.

use std::io::{self, Write};

use super::message::{Failure, Notice};

/// A failure, on stderr.
pub fn say_failure(failure: &Failure) {
    to_stderr(&[b"spawn-fcgi: ", &failure.text()[..], b"\n"].concat());
}

/// A notice: a success on stdout, everything else on stderr.
pub fn say_notice(notice: &Notice) {
    let line = format!("spawn-fcgi: {}\n", notice.text());
    match notice {
        Notice::Spawned(_) => to_stdout(&line),
        Notice::NoGroup(_) | Notice::ChildExited(_) | Notice::ChildSignaled(_) | Notice::WritePidFile(_) => {
            to_stderr(line.as_bytes())
        }
    }
}

/// Usage and version.
pub fn to_stdout(text: &str) {
    // The original does not look at the result, and there is nobody to tell.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}

/// One line as it is.
pub fn to_stderr(line: &[u8]) {
    let _ = io::stderr().write_all(line);
}
