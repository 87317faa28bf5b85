//! Newtypes of kernel numbers and of our own names. No arithmetic on them, no defaults.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many processes Linux has at most (PID_MAX_LIMIT of proc_sys_kernel(5)): no pool can have more workers.
pub const MOST_PROCESSES: u32 = 1 << 22;

/// A process id, always positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Pid(i32);

impl Pid {
    /// `None` for zero and negative numbers, which `kill(2)` would take for groups of processes.
    pub fn new(raw: i32) -> Option<Pid> {
        (raw > 0).then_some(Pid(raw))
    }

    /// The number that system calls take.
    pub fn as_raw(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Pid {
    type Error = String;
    fn try_from(raw: i32) -> Result<Pid, String> {
        Pid::new(raw).ok_or_else(|| format!("a pid is positive, not {raw}"))
    }
}

impl From<Pid> for i32 {
    fn from(pid: Pid) -> i32 {
        pid.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A numeric user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Uid(pub u32);

/// A numeric group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gid(pub u32);

/// A pool's name: 1 to 64 of `A-Z a-z 0-9 _ . -`, not starting with `.` or `-`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(Arc<str>);

impl PoolName {
    /// # Errors
    /// A sentence that says which rule the name breaks.
    pub fn new(name: &str) -> Result<PoolName, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || name.len() > 64 {
            return Err(format!("a pool name has 1 to 64 characters, this one has {}", name.len()));
        }
        if name.starts_with(['.', '-']) || !name.chars().all(legal) {
            return Err(format!("a pool name has letters, digits, '_', '.' and '-' only, not '{name}'"));
        }
        Ok(PoolName(Arc::from(name)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for PoolName {
    type Error = String;
    fn try_from(name: String) -> Result<PoolName, String> {
        PoolName::new(&name)
    }
}

impl From<PoolName> for String {
    fn from(name: PoolName) -> String {
        name.0.to_string()
    }
}

/// One worker process over its whole life; never reused while fpmd runs, unlike its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkerId(pub u64);

/// A worker's place in a pool with a gateway: its private socket, which outlives the worker. Counted from 0 in each pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SlotId(pub u32);

/// Counts the settings that a pool was given: 1 at start, one more with each reload; one that failed uses its number up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Generation(pub u32);

/// A control client that waits for the end of what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// A point of monotonic time, counted from an origin that only its maker knows. Pure code is handed it as `now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(pub Duration);

impl Moment {
    /// This moment and `span` more; saturates.
    pub fn after(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(span))
    }

    /// How long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A signal number that is valid here, written as `SIGTERM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(i32);

/// Names and numbers of Linux signals on every architecture that Rust's tier 1 Linux targets share.
const SIGNALS: [(&str, i32); 31] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
];

impl Signal {
    /// Ends a process for certain.
    pub const KILL: Signal = Signal(9);
    /// The usual request to end.
    pub const TERM: Signal = Signal(15);
    /// Suspends a process.
    pub const STOP: Signal = Signal(19);
    /// Resumes a process.
    pub const CONT: Signal = Signal(18);
    /// Interrupt from the keyboard.
    pub const INT: Signal = Signal(2);

    /// Reads `SIGTERM`, `TERM`, `term` or `15`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Signal> {
        let upper = text.trim().to_ascii_uppercase();
        let named = |(name, _): &&(&str, i32)| *name == upper || name[3..] == upper;
        if let Some((_, number)) = SIGNALS.iter().find(named) {
            return Some(Signal(*number));
        }
        // Real-time signals are shown as SIGRT34 and read back from that.
        let number = upper.strip_prefix("SIGRT").unwrap_or(&upper);
        number.parse().ok().and_then(Signal::from_raw)
    }

    /// `None` where the number is not that of a signal: real-time signals 34 to 64 count.
    pub fn from_raw(number: i32) -> Option<Signal> {
        (matches!(number, 1..=31 | 34..=64)).then_some(Signal(number))
    }

    /// The number that system calls take.
    pub fn as_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.pad(name),
            None => f.pad(&format!("SIGRT{}", self.0)),
        }
    }
}

impl TryFrom<String> for Signal {
    type Error = String;
    fn try_from(text: String) -> Result<Signal, String> {
        Signal::parse(&text).ok_or_else(|| format!("'{text}' is not a signal"))
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> String {
        signal.to_string()
    }
}

/// How the kernel shares CPU time among processes that are not real-time, `sched(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulingPolicy {
    /// SCHED_OTHER: a process that wakes up may interrupt another one.
    Other,
    /// SCHED_BATCH: one that wakes up waits until another one sleeps or has had its turn.
    Batch,
    /// SCHED_IDLE: only what others leave.
    Idle,
}

impl SchedulingPolicy {
    /// All, in the order of the documentation.
    pub const ALL: [SchedulingPolicy; 3] =
        [SchedulingPolicy::Other, SchedulingPolicy::Batch, SchedulingPolicy::Idle];

    /// Their words.
    pub const WORDS: [&'static str; 3] = {
        let [first, second, third] = SchedulingPolicy::ALL;
        [first.as_str(), second.as_str(), third.as_str()]
    };

    /// The word of `CPUSchedulingPolicy=` in systemd.exec(5), which is also ours.
    pub const fn as_str(self) -> &'static str {
        match self {
            SchedulingPolicy::Other => "other",
            SchedulingPolicy::Batch => "batch",
            SchedulingPolicy::Idle => "idle",
        }
    }
}

/// How a process ended, from `waitpid(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It called `exit` with this code, 0 to 255.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// Which one.
        signal: Signal,
        /// Whether the kernel wrote a core file.
        core: bool,
    },
}

impl fmt::Display for ExitStatus {
    /// php-fpm's words: `exited with code 3`, `exited on signal 11 (SIGSEGV - core dumped)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exited with code {code}"),
            ExitStatus::Signal { signal, core } => {
                let dumped = if *core { " - core dumped" } else { "" };
                write!(f, "exited on signal {} ({signal}{dumped})", signal.as_raw())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_positive() {
        assert_eq!(Pid::new(0), None);
        assert_eq!(Pid::new(-1), None);
        assert_eq!(Pid::new(7).map(Pid::as_raw), Some(7));
    }

    #[test]
    fn pool_names_keep_to_their_rule() {
        assert!(PoolName::new("www-2.example_org").is_ok());
        for bad in ["", ".", "-x", ".x", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(PoolName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_are_read_and_written() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(Signal::parse(text), Some(Signal::TERM));
        }
        for text in ["", "SIG", "0", "32", "65", "-1", "SIGNOPE"] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
        assert_eq!(Signal::KILL.to_string(), "SIGKILL");
        for signal in (0..=70).filter_map(Signal::from_raw) {
            assert_eq!(Signal::parse(&signal.to_string()), Some(signal));
        }
    }

    #[test]
    fn exit_statuses_read_as_in_php_fpm() {
        assert_eq!(ExitStatus::Code(3).to_string(), "exited with code 3");
        let crash = ExitStatus::Signal { signal: Signal(11), core: true };
        assert_eq!(crash.to_string(), "exited on signal 11 (SIGSEGV - core dumped)");
    }

    #[test]
    fn moments_do_not_wrap() {
        let start = Moment(Duration::from_secs(1));
        assert_eq!(start.since(start.after(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(start.after(Duration::MAX).0, Duration::MAX);
    }
}
