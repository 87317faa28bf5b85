//! The size of a terminal (ioctl_tty(2)). Whether a stream is one, the standard library says.

use std::os::fd::{AsRawFd, BorrowedFd};

/// How many characters fit on a line; `None` where `fd` is no terminal or the terminal does not say.
pub fn width(fd: BorrowedFd<'_>) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `fd` is open while borrowed, and TIOCGWINSZ writes one winsize at most, which `size` has room for.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::pty::{Winsize, openpty};

    use super::*;

    #[test]
    fn a_terminal_tells_its_width() {
        let size = Winsize { ws_row: 24, ws_col: 97, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        assert_eq!(width(pty.slave.as_fd()), Some(97));
        let silent = openpty(None, None).unwrap();
        assert_eq!(width(silent.slave.as_fd()), None);
    }

    #[test]
    fn what_is_no_terminal_has_no_width() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(width(file.as_fd()), None);
    }
}
