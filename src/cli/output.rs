//! Standard output and standard error of the programs: locked once for a whole text, and never a panic where nobody reads.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Writes to standard output. A reader that has seen enough (`fpmctl status | head -1`) is not an error.
///
/// # Errors
/// What the write gave: a full disk, a closed descriptor.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    forgive_closed_pipe(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// One line to standard error: "PROGRAM: TEXT". Where even that cannot be written the exit code has to do.
pub fn complain(program: &str, text: &dyn Display) {
    let _ = writeln!(io::stderr().lock(), "{program}: {text}");
}

fn forgive_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_success_and_a_full_disk_is_not() {
        assert!(forgive_closed_pipe(Err(ErrorKind::BrokenPipe.into())).is_ok());
        assert!(forgive_closed_pipe(Err(ErrorKind::StorageFull.into())).is_err());
    }
}
