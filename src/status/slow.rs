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
}

/// What is known of a process from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    /// CPU time since the process began.
    pub cpu_total: Option<Duration>,
    /// Resident memory, bytes.
    pub memory: Option<u64>,
    /// Lines of a stack trace, innermost frame first: `[0x00007f860bc161d0] usleep() /srv/slow.php:2`.
    pub trace: &'a [String],
}

impl Block<'_> {
    /// Appends the first part of the block: an empty line, the header, what is known of the request. `Process::write` adds
    /// the rest.
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
    /// Appends the second part of a block.
    pub fn write(&self, out: &mut Vec<u8>) {
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
        if let Some(cpu) = self.cpu_total {
            let _ = writeln!(out, "cpu_total = {}", seconds(cpu));
        }
        if let Some(memory) = self.memory {
            let _ = writeln!(out, "memory = {memory}");
        }
        for frame in self.trace {
            escape::legible(out, frame.as_bytes());
            out.push(b'\n');
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block() -> Block<'static> {
        Block {
            time: Stamp { seconds: 1_795_162_763, micros: 0, offset: 0 },
            pool: "www",
            pid: Pid::new(10576).unwrap(),
            script: b"/srv/slow.php",
            method: b"GET",
            uri: b"/slow.php",
            query: b"a=1",
            age: Duration::from_micros(1_314_066),
            queue_wait: Duration::from_millis(2),
            bytes_in: 0,
            bytes_out: 12,
        }
    }

    fn written(block: &Block<'_>, process: &Process<'_>) -> String {
        let mut out = Vec::new();
        block.write(&mut out);
        process.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_head_is_that_of_php_fpm() {
        assert_eq!(
            written(&block(), &Process::default()),
            "\n[20-Nov-2026 08:19:23]  [pool www] pid 10576\nscript_filename = /srv/slow.php\n\
             request = \"GET /slow.php?a=1\"\nage = 1.314066 sec\nqueue_wait = 0.002000 sec\nbytes_in = 0\nbytes_out = 12\n"
        );
        let bare = Block { script: b"", method: b"", uri: b"", query: b"", ..block() };
        assert!(written(&bare, &Process::default()).contains("script_filename = -\nrequest = \"- -\"\n"));
    }

    #[test]
    fn what_is_known_of_the_process_and_its_stack_follows() {
        let trace =
            ["[0x00007f860bc161d0] usleep() /srv/slow.php:2", "[0x00007f860bc16100] in\nner() /srv/ü.php:3"];
        let trace = trace.map(str::to_owned);
        let process = Process {
            state: Some("S (sleeping)"),
            system_call: Some("read(7)"),
            waits_on: Some("socket 10.0.0.5:3306"),
            wchan: Some("wait_woken"),
            cpu: Some(Duration::from_millis(20)),
            cpu_total: Some(Duration::from_millis(3500)),
            memory: Some(9_800_000),
            trace: &trace,
        };
        let text = written(&Block { uri: b"/x?a=1", ..block() }, &process);
        let (_, tail) = text.split_once("bytes_out = 12\n").unwrap();
        assert!(text.contains("request = \"GET /x?a=1\"\n"), "{text}");
        assert_eq!(
            tail,
            "state = S (sleeping)\nsystem_call = read(7)\nwaits_on = socket 10.0.0.5:3306\nwchan = wait_woken\n\
             cpu = 0.020000 sec\ncpu_total = 3.500000 sec\nmemory = 9800000\n\
             [0x00007f860bc161d0] usleep() /srv/slow.php:2\n[0x00007f860bc16100] in\\x0Aner() /srv/ü.php:3\n"
        );
    }

    proptest! {
        #[test]
        fn no_request_forges_a_block(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 4),
            words in prop::collection::vec("(.|\n|\u{202e}|\u{85}){0,20}", 5),
        ) {
            let trace = [words[4].clone()];
            let process = Process {
                state: Some(&words[0]), system_call: Some(&words[1]), waits_on: Some(&words[2]), wchan: Some(&words[3]),
                cpu: None, cpu_total: None, memory: None, trace: &trace,
            };
            let (script, method, uri, query) = (&texts[0][..], &texts[1][..], &texts[2][..], &texts[3][..]);
            let text = written(&Block { script, method, uri, query, ..block() }, &process);
            prop_assert_eq!(text.matches('\n').count(), 13);
            let hides = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            prop_assert!(!text.contains(hides));
            prop_assert_eq!(text.lines().filter(|line| line.starts_with("[20-Nov")).count(), 1);
            prop_assert_eq!(text.lines().nth(3).unwrap().matches('"').count(), 2);
        }
    }
}
