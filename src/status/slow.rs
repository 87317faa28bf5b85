//! The slow log: a block for each request that exceeds `request_slowlog_timeout`. php-fpm's header and `script_filename`,
//! then what is known of the request and its process, then the frames of a trace if there is one. Every value is escaped,
//! so that no block can be forged; writes no file. php-fpm's manual, `slowlog`.

use std::io::Write;
use std::time::Duration;

use super::escape;
use super::stamp::{LOGGED, Stamp};
use crate::ids::Pid;

/// A request that runs for too long. Texts may be any bytes. What is not known is not written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block<'a> {
    /// When this was seen.
    pub time: Stamp,
    /// The pool's name.
    pub pool: &'a str,
    /// The worker's process.
    pub pid: Pid,
    /// SCRIPT_FILENAME.
    pub script: &'a [u8],
    /// REQUEST_METHOD.
    pub method: &'a [u8],
    /// REQUEST_URI, else SCRIPT_NAME.
    pub uri: &'a [u8],
    /// QUERY_STRING; shown where `uri` has no query of its own.
    pub query: &'a [u8],
    /// How long its worker has had it.
    pub age: Duration,
    /// How long it had waited for that worker.
    pub queue_wait: Duration,
    /// Bytes of its body that arrived.
    pub bytes_in: u64,
    /// Bytes of the response's body so far.
    pub bytes_out: u64,
    /// The process, as /proc shows it.
    pub process: Process<'a>,
    /// Lines of a stack trace, innermost frame first: `[0x00007f860bc161d0] usleep() /srv/slow.php:2`.
    pub trace: &'a [&'a str],
}

/// What is known of a process from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process<'a> {
    /// `S (sleeping)`.
    pub state: Option<&'a str>,
    /// The system call that it is in: `read(7)`.
    pub system_call: Option<&'a str>,
    /// The file or peer that the call waits on: `socket 10.0.0.5:3306`.
    pub waits_on: Option<&'a str>,
    /// The kernel function that it sleeps in.
    pub wchan: Option<&'a str>,
    /// CPU time since the request began.
    pub cpu: Option<Duration>,
    /// Resident memory, bytes.
    pub memory: Option<u64>,
}

impl Block<'_> {
    /// Appends the block: an empty line, the header, `name = value` lines, the trace.
    pub fn write(&self, out: &mut Vec<u8>) {
        // A Vec takes everything, here and below.
        let _ = write!(out, "\n[{}]  [pool ", self.time.text(LOGGED));
        escape::legible(out, self.pool.as_bytes());
        let _ = writeln!(out, "] pid {}", self.pid);
        line(out, "script_filename", if self.script.is_empty() { b"-" } else { self.script });
        self.request(out);
        let _ = writeln!(out, "age = {}", seconds(self.age));
        let _ = writeln!(out, "queue_wait = {}", seconds(self.queue_wait));
        let _ = writeln!(out, "bytes_in = {}\nbytes_out = {}", self.bytes_in, self.bytes_out);
        self.process.write(out);
        for frame in self.trace {
            escape::legible(out, frame.as_bytes());
            out.push(b'\n');
        }
    }

    fn request(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"request = \"");
        escape::legible(out, if self.method.is_empty() { b"-" } else { self.method });
        out.push(b' ');
        escape::legible(out, if self.uri.is_empty() { b"-" } else { self.uri });
        if !self.query.is_empty() && !self.uri.contains(&b'?') {
            out.push(b'?');
            escape::legible(out, self.query);
        }
        out.extend_from_slice(b"\"\n");
    }
}

impl Process<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let texts = [
            ("state", self.state),
            ("system_call", self.system_call),
            ("waits_on", self.waits_on),
            ("wchan", self.wchan),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                line(out, name, text.as_bytes());
            }
        }
        if let Some(cpu) = self.cpu {
            let _ = writeln!(out, "cpu = {}", seconds(cpu));
        }
        if let Some(memory) = self.memory {
            let _ = writeln!(out, "memory = {memory}");
        }
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let _ = write!(out, "{name} = ");
    escape::legible(out, value);
    out.push(b'\n');
}

/// `1.314066 sec`, as php-fpm writes it.
fn seconds(span: Duration) -> String {
    format!("{}.{:06} sec", span.as_secs(), span.subsec_micros())
}
