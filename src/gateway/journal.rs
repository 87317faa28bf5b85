//! What became of requests, written down: a line of the access log for each, a block of the slow log for each slow one, and
//! what workers say into FCGI_STDERR. What lines and blocks look like is `status`' business. php-fpm's manual, `access.log`
//! and `slowlog`; fpmd-status(7).

use std::collections::BTreeMap;

use nix::unistd::getppid;

use super::finished::{Finished, Outcome, Peer, Slow, Wants, WorkerName};
use super::lines::Lines;
use super::params::{Params, brief};
use super::seam::{Journal, LogFiles};
use crate::ids::{Moment, Pid, PoolName, SlotId, WorkerId};
use crate::log::capture::{Capture, Form, Limits, Source, Stream};
use crate::os::clock::{self, WallTime};
use crate::os::procfs::CpuTimes;
use crate::status::access::{self, Entry, Format};
use crate::status::slow::{Block, Process};
use crate::status::stamp::Stamp;
use crate::wire::gateway::{Settings, Sight};

/// What one worker may say into FCGI_STDERR: less than fpmd takes of all of us, so that the log has room for others, and that
/// what a line begins with does not make it too long.
const CHATTER: Limits = Limits { line: 7 * 1024, burst: 128 * 1024, rate: 32 * 1024 };

/// So many blocks of the slow log wait for the master's answer; then the oldest is written without it.
const MOST_BEGUN: usize = 256;

/// The logs of one pool.
#[derive(Debug, Default)]
pub struct Logs {
    pool: Option<PoolName>,
    access: Option<AccessLog>,
    slow: Option<Lines>,
    /// By the number of the question to the master.
    begun: BTreeMap<u64, Begun>,
    asked: u64,
    /// By slot, what its worker has begun to say.
    errors: BTreeMap<SlotId, (WorkerId, Capture)>,
    /// How that is logged.
    form: Form,
    zone: Zone,
}

/// A block of the slow log that lacks what the process is doing.
#[derive(Debug)]
struct Begun {
    text: Vec<u8>,
    cpu_before: Option<CpuTimes>,
}

#[derive(Debug)]
struct AccessLog {
    format: Format,
    lines: Lines,
    master: Pid,
}

/// The local time zone, looked up once a second at most.
#[derive(Debug, Default)]
struct Zone {
    second: Option<i64>,
    offset: i32,
}

impl Zone {
    fn stamp(&mut self, wall: WallTime) -> Stamp {
        if self.second != Some(wall.seconds) {
            self.second = Some(wall.seconds);
            self.offset = clock::local(wall).offset;
        }
        Stamp { seconds: wall.seconds, micros: wall.micros, offset: self.offset }
    }
}

impl Journal for Logs {
    fn configure(&mut self, settings: &Settings, files: LogFiles) {
        self.flush();
        while files.slow.is_none() && !self.begun.is_empty() {
            self.end_first_block();
        }
        let pool = &settings.pool;
        // The file may be the one before, where a line may have begun.
        let open = |name, before: Option<Lines>, file| {
            let opened = match before {
                Some(mut lines) => lines.go_on(&file).map(|()| lines),
                None => Lines::new(pool, name, &file),
            };
            opened.inspect_err(|error| ::log::error!("[pool {pool}] cannot write the {name}: {error}")).ok()
        };
        let before = self.access.take().map(|access| access.lines);
        let lines = files.access.and_then(|file| open("access log", before, file));
        self.access = lines.and_then(|lines| AccessLog::new(settings, lines));
        let before = self.slow.take();
        self.slow = files.slow.and_then(|file| open("slow log", before, file));
        self.pool = Some(pool.clone());
        let form = if settings.decorate_output { Form::Decorated } else { Form::Marked };
        if !settings.log_stderr || form != self.form {
            self.errors.clear();
        }
        self.form = form;
    }

    fn wants(&self) -> Wants {
        Wants { usage: self.access.as_ref().is_some_and(|access| access.format.wants_usage()) }
    }

    fn finished(&mut self, request: &Finished<'_>) {
        if let Some(worker) = request.worker.filter(|_| !self.errors.is_empty()) {
            self.end_chatter(worker);
        }
        if let (Some(access), Some(pool)) = (&mut self.access, &self.pool) {
            access.add(pool, request, &mut self.zone);
        }
    }

    fn slow(&mut self, request: &Slow<'_>) -> Option<u64> {
        let pool = self.pool.as_ref()?;
        let (pid, params) = (request.worker.pid, request.params);
        let age = request.now.since(request.dispatched);
        let followed = if self.slow.is_some() { ", logging" } else { "" };
        let (seconds, micros) = (age.as_secs(), age.subsec_micros());
        let subject = subject(params);
        ::log::warn!(
            "[pool {pool}] child {pid}, {subject} executing too slow ({seconds}.{micros:06} sec){followed}"
        );
        self.slow.as_ref()?;
        let block = Block {
            time: self.zone.stamp(clock::wall()),
            pool: pool.as_str(),
            pid,
            script: params.script(),
            method: params.method(),
            uri: params.uri(),
            query: params.query(),
            age,
            queue_wait: request.dispatched.since(request.ready),
            bytes_in: request.bytes_in,
            bytes_out: request.bytes_out,
        };
        let mut begun = Begun { text: Vec::new(), cpu_before: request.cpu_before };
        block.write(&mut begun.text);
        self.asked += 1;
        self.begun.insert(self.asked, begun);
        if self.begun.len() > MOST_BEGUN {
            self.end_first_block();
        }
        Some(self.asked)
    }

    fn seen(&mut self, number: u64, sight: &Sight) {
        if let Some(begun) = self.begun.remove(&number) {
            self.end_block(begun, sight);
        }
    }

    fn stderr(&mut self, worker: WorkerName, content: &[u8], now: Moment) {
        let Some(pool) = &self.pool else { return };
        let fresh = || {
            let source = Source { pool: pool.clone(), pid: worker.pid, stream: Stream::FastCgi };
            (worker.worker, Capture::new(source, self.form, CHATTER, now))
        };
        let entry = self.errors.entry(worker.slot).or_insert_with(fresh);
        if entry.0 != worker.worker {
            entry.1.end_line();
            *entry = fresh();
        }
        entry.1.absorb(content, now);
    }

    fn flush(&mut self) {
        if let Some(access) = &mut self.access {
            access.lines.flush();
        }
    }
}

impl Logs {
    /// Writes a block whose process the master has looked at.
    fn end_block(&mut self, mut begun: Begun, sight: &Sight) {
        let Some(lines) = &mut self.slow else { return };
        let used = sight.cpu.zip(begun.cpu_before).map(|(now, before)| now.saturating_sub(before.total()));
        let process = Process {
            state: sight.state.as_deref(),
            system_call: sight.system_call.as_deref(),
            waits_on: sight.waits_on.as_deref(),
            wchan: sight.wchan.as_deref(),
            cpu: used,
            cpu_total: sight.cpu,
            memory: sight.memory,
            trace: &sight.trace,
        };
        process.write(&mut begun.text);
        lines.add(|out| out.extend_from_slice(&begun.text));
        lines.flush();
    }

    /// Waits no longer for the oldest answer.
    fn end_first_block(&mut self) {
        if let Some((_, begun)) = self.begun.pop_first() {
            self.end_block(begun, &Sight::default());
        }
    }

    /// A request is over, and with it the line that its worker may have left unfinished.
    fn end_chatter(&mut self, worker: WorkerName) {
        if let Some((_, capture)) = self.errors.get_mut(&worker.slot).filter(|(id, _)| *id == worker.worker) {
            capture.end_line();
        }
    }
}

impl Drop for Logs {
    /// The master answers no more.
    fn drop(&mut self) {
        while !self.begun.is_empty() {
            self.end_first_block();
        }
    }
}

impl AccessLog {
    /// `None` for a format that the master should have refused.
    fn new(settings: &Settings, lines: Lines) -> Option<AccessLog> {
        let format = Format::parse(&settings.access_format).inspect_err(|error| {
            ::log::error!("[pool {}] cannot write the access log: {error}", settings.pool);
        });
        Some(AccessLog { format: format.ok()?, lines, master: Pid::new(getppid().as_raw())? })
    }

    fn add(&mut self, pool: &PoolName, request: &Finished<'_>, zone: &mut Zone) {
        let AccessLog { format, lines, master } = self;
        let params = request.params;
        let entry = Entry {
            pool: pool.as_str(),
            pid: request.worker.map(|worker| worker.pid),
            master: *master,
            slot: request.worker.map(|worker| worker.slot),
            generation: request.worker.map(|worker| worker.generation),
            peer: match request.peer {
                Peer::Tcp(address) => Some(address.ip()),
                Peer::Unix => None,
            },
            method: params.method(),
            uri: params.uri(),
            query: params.query(),
            script: params.script(),
            user: params.user(),
            content_length: params.content_length().unwrap_or(0),
            param: &|name| params.value(name),
            head: request.head,
            status: request.status,
            outcome: word(request.outcome),
            start: zone.stamp(request.start),
            end: zone.stamp(request.end),
            duration: request.served(),
            queue_wait: request.queued(),
            bytes_in: request.bytes_in,
            bytes_out: request.bytes_out,
            retries: request.attempts.saturating_sub(1),
            usage: request.usage.map(|usage| access::Usage {
                user: usage.cpu.user,
                system: usage.cpu.system,
                memory: usage.memory,
            }),
        };
        lines.add(|out| format.write(&entry, out));
    }
}

/// How a request ended, as `%x` and JSON say it.
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered => "answered",
        Outcome::Page => "page",
        Outcome::Rejected => "rejected",
        Outcome::TimedOut => "timed-out",
        Outcome::Aborted => "aborted",
        Outcome::Broken => "broken",
        Outcome::RefusedFull => "refused-full",
        Outcome::RefusedLate => "refused-late",
    }
}

/// `script '/srv/slow.php' (request: "GET /slow.php?a=1")`, in php-fpm's words.
fn subject(params: &Params) -> String {
    let (script, method, uri) = (brief(params.script()), brief(params.method()), brief(params.uri()));
    let shown = !params.query().is_empty() && !params.uri().contains(&b'?');
    let query = if shown { format!("?{}", brief(params.query())) } else { String::new() };
    format!("script '{script}' (request: \"{method} {uri}{query}\")")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fcgi::pairs;

    #[test]
    fn the_zone_is_looked_up_for_each_second() {
        let mut zone = Zone::default();
        for seconds in [1_795_162_535, 1_795_162_535, 1_780_000_000] {
            let wall = WallTime { seconds, micros: 7 };
            let stamp = zone.stamp(wall);
            assert_eq!((stamp.seconds, stamp.micros), (seconds, 7));
            assert_eq!(stamp.offset, clock::local(wall).offset);
        }
    }

    #[test]
    fn a_subject_is_short_whatever_the_request() {
        let subject = |named: &[(&str, &str)]| {
            let mut bytes = Vec::new();
            for (name, value) in named {
                pairs::encode(&mut bytes, name.as_bytes(), value.as_bytes()).unwrap();
            }
            let mut params = Params::default();
            params.push(&bytes, 1 << 20).unwrap();
            params.check().unwrap();
            subject(&params)
        };
        let slow = [("SCRIPT_FILENAME", "/srv/slow.php"), ("REQUEST_METHOD", "GET"), ("QUERY_STRING", "a=1")];
        let wanted = "script '/srv/slow.php' (request: \"GET /slow.php?a=1\")";
        assert_eq!(subject(&[&slow[..], &[("SCRIPT_NAME", "/slow.php")]].concat()), wanted);
        assert_eq!(subject(&[&slow[..], &[("REQUEST_URI", "/slow.php?a=1")]].concat()), wanted);
        let long = "\0".repeat(10_000);
        let names = ["SCRIPT_FILENAME", "REQUEST_METHOD", "REQUEST_URI", "QUERY_STRING"];
        // The log writes a NUL in five bytes and wraps lines of 8 KiB.
        assert!(subject(&names.map(|name| (name, long.as_str()))).len() * 5 < 8000);
    }
}
