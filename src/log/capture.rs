//! What workers write to FD 1 and 2: read from the pipe whatever happens, so that no worker ever waits for us, split
//! into lines, and logged in php-fpm's words or as it is, so far as the rate allows. Owns no descriptor and no timer.

use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use serde::{Deserialize, Serialize};

use super::line;
use super::rate::{Bucket, Dropped, Verdict};
use super::recent::Recent;
use super::split::Splitter;
use crate::ids::{Moment, Pid, PoolName};

/// The most that one `drain` reads, bytes: a full pipe of the default size, and the other workers get their turn.
const TURN: usize = 64 * 1024;

/// What a line begins with that is to be logged as it is.
const MARK: &[u8] = b"<->";

/// Whose output it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The worker's pool.
    pub pool: PoolName,
    /// The worker.
    pub pid: Pid,
    /// Which of its descriptors.
    pub stream: Stream,
}

/// Which way to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// FD 1.
    Stdout,
    /// FD 2.
    Stderr,
    /// The stream of a request, in FastCGI.
    FastCgi,
}

/// How lines are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Form {
    /// `WARNING: [pool www] child 10576 said into stderr: "text"`, control characters escaped.
    #[default]
    Decorated,
    /// As they are: for workers that write a log format of their own.
    Raw,
    /// As they are, behind a mark: for a process of ours, which hands them on to fpmd.
    Marked,
    /// Lines of a process of ours, at the level of their prefix: `<4>` is a warning (sd-daemon(3)). Marked ones as they are.
    Ours,
}

/// How much is logged. What is beyond is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longer lines are wrapped, bytes.
    pub line: usize,
    /// Bytes that may come at once.
    pub burst: u64,
    /// Bytes a second in the long run.
    pub rate: u64,
}

impl Default for Limits {
    /// Lines of 8 KiB; a burst of 1 MiB, which holds any stack trace; then 256 KiB a second.
    fn default() -> Limits {
        Limits { line: 8 * 1024, burst: 1024 * 1024, rate: 256 * 1024 }
    }
}

/// Why `drain` came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// There is nothing more for now; wait until the descriptor is readable.
    Empty,
    /// There may be more: call again in the next turn, without waiting.
    More,
    /// Every writer has closed; everything is logged.
    Closed,
}

/// The output of one worker on one pipe.
#[derive(Debug, Serialize, Deserialize)]
pub struct Capture {
    source: Source,
    form: Form,
    splitter: Splitter,
    bucket: Bucket,
    recent: Recent,
}

impl Capture {
    /// Nothing read yet, the whole burst to spend.
    pub fn new(source: Source, form: Form, limits: Limits, now: Moment) -> Capture {
        let bucket = Bucket::new(limits.burst, limits.rate, now);
        Capture { source, form, splitter: Splitter::new(limits.line), bucket, recent: Recent::default() }
    }

    /// Whose output it is.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The last lines that were said, in one.
    pub fn last_words(&self) -> Option<String> {
        self.recent.text()
    }

    /// Reads what the pipe holds, at most 64 KiB, and logs it. `pipe` must be non-blocking.
    ///
    /// # Errors
    /// read(2) failed; the pipe is of no more use. What came before is logged.
    pub fn drain(&mut self, pipe: BorrowedFd<'_>, now: Moment) -> io::Result<Drained> {
        let log = &mut |output: Output<'_>| output.log();
        let mut buffer = [0; TURN / 4];
        let mut left = TURN;
        while left > 0 {
            match nix::unistd::read(pipe, &mut buffer[..left.min(TURN / 4)]) {
                Ok(0) => {
                    self.finish_to(log);
                    return Ok(Drained::Closed);
                }
                Ok(length) => {
                    self.feed(&buffer[..length], now, log);
                    left -= length;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Drained::Empty),
                Err(error) => {
                    self.finish_to(log);
                    return Err(error.into());
                }
            }
        }
        Ok(Drained::More)
    }

    /// Logs bytes that came by another way than a pipe.
    pub fn absorb(&mut self, bytes: &[u8], now: Moment) {
        self.feed(bytes, now, &mut |output| output.log());
    }

    /// Logs an unfinished line as if it had ended.
    pub fn end_line(&mut self) {
        if let Some(rest) = self.splitter.finish() {
            Output::said(&self.source, self.form, &rest, End::Newline).log();
        }
    }

    /// Logs what is left of an unfinished line: nobody reads the pipe any more.
    pub fn finish(&mut self) {
        self.finish_to(&mut |output| output.log());
    }

    /// Takes in bytes of the worker and puts out what is to be logged.
    fn feed(&mut self, bytes: &[u8], now: Moment, out: &mut impl FnMut(Output<'_>)) {
        let Capture { source, form, splitter, bucket, recent } = self;
        splitter.feed(bytes, &mut |line| {
            recent.push(line);
            match bucket.judge(line.len() as u64, now) {
                Verdict::Pass => out(Output::said(source, *form, line, End::Newline)),
                Verdict::PassAfter(dropped) => {
                    out(Output::Dropped(source, dropped));
                    out(Output::said(source, *form, line, End::Newline));
                }
                Verdict::CloseAndDrop => out(Output::Dropping(source)),
                Verdict::Drop => {}
            }
        });
    }

    fn finish_to(&mut self, out: &mut impl FnMut(Output<'_>)) {
        let dropped = self.bucket.finish();
        if let Some(dropped) = dropped {
            out(Output::Dropped(&self.source, dropped));
        }
        // An unfinished line is one at most, and often the reason why the worker died: logged whatever the rate.
        if let Some(rest) = self.splitter.finish() {
            self.recent.push(&rest);
            out(Output::said(&self.source, self.form, &rest, End::Closed));
        }
    }
}

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Newline,
    Closed,
}

/// One line to log.
enum Output<'a> {
    Raw(&'a [u8]),
    Marked(&'a [u8]),
    Said(&'a Source, &'a [u8], End),
    Ours(&'a Source, ::log::Level, &'a [u8]),
    /// The worker writes too much.
    Dropping(&'a Source),
    /// So much was dropped.
    Dropped(&'a Source, Dropped),
}

impl<'a> Output<'a> {
    fn said(source: &'a Source, form: Form, text: &'a [u8], end: End) -> Output<'a> {
        match form {
            Form::Raw => Output::Raw(text),
            Form::Marked => Output::Marked(text),
            Form::Decorated => Output::Said(source, text, end),
            Form::Ours => {
                let (level, text) = prefixed(text);
                text.strip_prefix(MARK).map_or(Output::Ours(source, level, text), Output::Raw)
            }
        }
    }

    fn log(&self) {
        match self {
            Output::Raw(text) => super::raw(text),
            Output::Marked(text) => super::raw(&[MARK, text].concat()),
            Output::Ours(_, level, _) => ::log::log!(*level, "{}", self.text()),
            // Rendering is worth its price only if somebody sees it.
            _ if !::log::log_enabled!(::log::Level::Warn) => {}
            decorated => ::log::warn!("{}", decorated.text()),
        }
    }

    fn text(&self) -> String {
        match self {
            Output::Raw(text) | Output::Marked(text) => String::from_utf8_lossy(text).into_owned(),
            Output::Said(source, text, end) => {
                let mut out = format!("{source} said into {}: \"", source.stream);
                line::escape_bytes(&mut out, text.strip_suffix(b"\r").unwrap_or(text));
                out.push('"');
                out.push_str(match end {
                    End::Newline => "",
                    End::Closed => ", pipe is closed",
                });
                out
            }
            Output::Ours(source, _, text) => {
                let mut out = format!("[pool {}] ", source.pool);
                let text = text.strip_prefix(out.as_bytes()).unwrap_or(text);
                // What is about a child reads as in php-fpm's log.
                if !text.starts_with(b"child ") {
                    out.push_str("gateway: ");
                }
                line::escape_bytes(&mut out, text);
                out
            }
            Output::Dropping(source) => {
                format!("{source} says too much into {}: dropping lines", source.stream)
            }
            Output::Dropped(source, Dropped { lines, bytes }) => {
                format!("{source} said too much into {}: dropped {lines} lines, {bytes} bytes", source.stream)
            }
        }
    }
}

/// The level of a line with a prefix, and the rest of it; one without is a panic's, or of a library.
fn prefixed(text: &[u8]) -> (::log::Level, &[u8]) {
    use ::log::Level;
    let Some((priority, rest)) = (match text {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => Some((*digit, rest)),
        _ => None,
    }) else {
        return (Level::Error, text);
    };
    let level = match priority {
        b'0'..=b'3' => Level::Error,
        b'4' => Level::Warn,
        b'5' | b'6' => Level::Info,
        _ => Level::Debug,
    };
    (level, rest)
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[pool {}] child {}", self.pool, self.pid)
    }
}

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::FastCgi => "FCGI_STDERR",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    const START: Moment = Moment(Duration::from_secs(100));

    fn capture(form: Form, limits: Limits) -> Capture {
        let source = Source {
            pool: PoolName::new("www").unwrap(),
            pid: Pid::new(10576).unwrap(),
            stream: Stream::Stderr,
        };
        Capture::new(source, form, limits, START)
    }

    fn fed(capture: &mut Capture, bytes: &[u8], now: Moment) -> Vec<String> {
        let mut lines = Vec::new();
        capture.feed(bytes, now, &mut |output| lines.push(output.text()));
        lines
    }

    fn finished(capture: &mut Capture) -> Vec<String> {
        let mut lines = Vec::new();
        capture.finish_to(&mut |output| lines.push(output.text()));
        lines
    }

    #[test]
    fn lines_are_decorated_in_the_words_of_php_fpm() {
        let mut capture = capture(Form::Decorated, Limits::default());
        let lines = fed(&mut capture, b"one\r\ntwo \x1b[0m\xff\nthr", START);
        assert_eq!(
            lines,
            [
                r#"[pool www] child 10576 said into stderr: "one""#,
                r#"[pool www] child 10576 said into stderr: "two \u{1b}[0m\xff""#
            ]
        );
        let last = finished(&mut capture);
        assert_eq!(last, [r#"[pool www] child 10576 said into stderr: "thr", pipe is closed"#]);
        assert!(finished(&mut capture).is_empty());
    }

    #[test]
    fn raw_lines_stay_as_they_are() {
        let mut capture = capture(Form::Raw, Limits::default());
        assert_eq!(fed(&mut capture, b"{\"a\":\t1}\n", START), ["{\"a\":\t1}"]);
    }

    #[test]
    fn lines_of_ours_have_the_level_of_their_prefix() {
        let mut capture = capture(Form::Ours, Limits::default());
        assert_eq!(
            fed(&mut capture, b"<4>slow client\x1b\n", START),
            ["[pool www] gateway: slow client\\u{1b}"]
        );
        assert_eq!(fed(&mut capture, b"<4>[pool www] late\n", START), ["[pool www] gateway: late"]);
        let about_child = "[pool www] child 7, script '/x' executing too slow";
        assert_eq!(fed(&mut capture, format!("<4>{about_child}\n").as_bytes(), START), [about_child]);
        assert_eq!(prefixed(b"<4>x"), (::log::Level::Warn, &b"x"[..]));
        assert_eq!(prefixed(b"<6>x"), (::log::Level::Info, &b"x"[..]));
        assert_eq!(prefixed(b"<7>x"), (::log::Level::Debug, &b"x"[..]));
        assert_eq!(fed(&mut capture, b"<4><-><0>as it is\n", START), ["<0>as it is"]);
        for odd in [&b"thread 'main' panicked"[..], b"<8>x", b"<", b""] {
            assert_eq!(prefixed(odd), (::log::Level::Error, odd));
        }
    }

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let limits = Limits { line: 100, burst: 650, rate: 100 };
        let mut capture = capture(Form::Raw, limits);
        let lines = fed(&mut capture, b"x\n".repeat(1000).as_slice(), START);
        assert_eq!(lines.len(), 11, "{lines:?}");
        assert_eq!(lines[10], "[pool www] child 10576 says too much into stderr: dropping lines");
        let later = fed(&mut capture, b"y\n", START.after(Duration::from_secs(1)));
        let dropped = "[pool www] child 10576 said too much into stderr: dropped 990 lines, 990 bytes";
        assert_eq!(later, [dropped, "y"]);
    }

    #[test]
    fn what_is_dropped_at_the_end_is_counted_too() {
        let limits = Limits { line: 100, burst: 65, rate: 1 };
        let mut capture = capture(Form::Raw, limits);
        fed(&mut capture, b"1\n2\n3\nlast words", START);
        assert_eq!(
            finished(&mut capture),
            ["[pool www] child 10576 said too much into stderr: dropped 2 lines, 2 bytes", "last words"]
        );
    }

    #[test]
    fn a_pipe_is_drained_in_bounded_turns_until_it_is_closed() {
        let (reader, mut writer) = io::pipe().unwrap();
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(256 * 1024)).unwrap();
        let mut capture = capture(Form::Raw, Limits { line: 100, burst: 0, rate: 0 });
        assert_eq!(capture.drain(reader.as_fd(), START).unwrap(), Drained::Empty);
        writer.write_all(&[b'x'; 100_000]).unwrap();
        assert_eq!(capture.drain(reader.as_fd(), START).unwrap(), Drained::More);
        assert_eq!(capture.drain(reader.as_fd(), START).unwrap(), Drained::Empty);
        writer.write_all(b"end").unwrap();
        drop(writer);
        assert_eq!(capture.drain(reader.as_fd(), START).unwrap(), Drained::Closed);
    }

    #[test]
    fn a_descriptor_that_cannot_be_read_is_an_error() {
        let (_reader, writer) = io::pipe().unwrap();
        let mut capture = capture(Form::Raw, Limits::default());
        assert_eq!(
            capture.drain(writer.as_fd(), START).unwrap_err().raw_os_error(),
            Some(Errno::EBADF as i32)
        );
    }
}
