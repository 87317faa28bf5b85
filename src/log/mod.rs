//! Our backend of the `log` facade: `::log::warn!` and its relatives write php-fpm's lines, or JSON, to the target that
//! the configuration names. Never blocks and never ends the daemon: what cannot be written is counted, and the count
//! is logged once writing works again. Worker output comes in through `capture`.
//!
//! Until `init` is called the facade drops everything; programs call it first with `Settings::stderr()`.

pub mod capture;
mod line;
mod rate;
mod recent;
mod sink;
mod split;
pub mod writer;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::log::{Level, LevelFilter, Metadata, Record};

use self::line::{Entry, Frame, Style};
use self::sink::Sink;
use self::writer::Writer;
use crate::config::model::{Global, LogFormat, LogLevel, LogTarget};
use crate::os::clock;
use crate::os::errno::said;

/// Target that makes an error an ALERT: `::log::error!(target: log::ALERT, …)`.
pub const ALERT: &str = "alert";

static LOGGER: Logger = Logger(Mutex::new(None));

/// Where, what and how to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where lines go.
    pub target: LogTarget,
    /// The least important level that is logged.
    pub level: LogLevel,
    /// Text or JSON.
    pub format: LogFormat,
}

impl Settings {
    /// What a program logs by before it has read its configuration: notices to stderr, as text.
    pub fn stderr() -> Settings {
        Settings { target: LogTarget::Stderr, level: LogLevel::Notice, format: LogFormat::Text }
    }
}

impl From<&Global> for Settings {
    fn from(global: &Global) -> Settings {
        Settings { target: global.log.clone(), level: global.log_level, format: global.log_format }
    }
}

/// Why the log is not as it was asked for. What was logged to before, if anything, is logged to still.
#[derive(Debug)]
pub enum LogError {
    /// The target cannot be opened.
    Open {
        /// Which.
        target: LogTarget,
        /// Why.
        cause: io::Error,
    },
    /// Another backend of the facade was there first, or `init` was called twice.
    Taken,
    /// `init` has not been called.
    NotInitialised,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Open { target, cause } => {
                write!(f, "cannot open {}: {}", Named(target), said(cause))
            }
            LogError::Taken => f.write_str("cannot start the log: it is started already"),
            LogError::NotInitialised => f.write_str("cannot change the log: it is not started yet"),
        }
    }
}

impl std::error::Error for LogError {}

/// Starts logging.
///
/// # Errors
/// The target cannot be opened, or logging has started already.
pub fn init(settings: &Settings) -> Result<(), LogError> {
    start(Backend::open(settings)?)
}

/// Starts logging as [`init`] does; `file` is the log file, where a program before us has opened it. A target that cannot be
/// opened is no reason to end any more: until the log is re-opened, standard error has to do.
///
/// # Errors
/// Logging has started already, or there is no standard error either.
pub fn resume(settings: &Settings, file: Option<OwnedFd>) -> Result<(), LogError> {
    let backend = match (file, &settings.target) {
        (Some(file), LogTarget::File(_)) => {
            return start(Backend::over(settings, Sink::File(file.into()), Frame::Stream));
        }
        (_, _) => Backend::open(settings),
    };
    let trouble = match backend {
        Ok(backend) => return start(backend),
        Err(trouble) => trouble,
    };
    let (sink, frame) = open(&Settings { target: LogTarget::Stderr, ..settings.clone() })?;
    start(Backend::over(settings, sink, frame))?;
    ::log::error!("{trouble}; logging to standard error until the log is re-opened");
    Ok(())
}

/// Another descriptor of the open log file, if the log goes to one.
pub fn file() -> Option<OwnedFd> {
    LOGGER.lock().as_ref()?.writer.sink().file()?.try_clone().ok().map(OwnedFd::from)
}

fn start(backend: Backend) -> Result<(), LogError> {
    let level = backend.settings.level;
    ::log::set_logger(&LOGGER).map_err(|_| LogError::Taken)?;
    *LOGGER.lock() = Some(backend);
    ::log::set_max_level(filter(level));
    Ok(())
}

/// Goes over to other settings; also right after FD 1 or 2 was replaced, by becoming a daemon for instance.
///
/// # Errors
/// The new target cannot be opened: everything stays as it was.
pub fn reconfigure(settings: &Settings) -> Result<(), LogError> {
    let mut guard = LOGGER.lock();
    let backend = guard.as_mut().ok_or(LogError::NotInitialised)?;
    backend.reconfigure(settings)?;
    ::log::set_max_level(filter(settings.level));
    Ok(())
}

/// Opens the target again, after log rotation. Logs what came of it.
///
/// # Errors
/// The target cannot be opened: the old one is kept, and holds a line that says so.
pub fn reopen() -> Result<(), LogError> {
    LOGGER.lock().as_mut().ok_or(LogError::NotInitialised)?.reopen()
}

/// Logs a line of a worker as it is, without time or level, if warnings are logged. `line` holds no newline.
pub fn raw(line: &[u8]) {
    if let Some(backend) = LOGGER.lock().as_mut() {
        backend.raw(line);
    }
}

/// The facade knows no ALERT, so errors pass it when only alerts are wanted; `Backend::log` has the last word.
fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Alert | LogLevel::Error => LevelFilter::Error,
        LogLevel::Warning => LevelFilter::Warn,
        LogLevel::Notice => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
    }
}

/// `None` is never logged.
fn level_of(metadata: &Metadata<'_>) -> Option<LogLevel> {
    match metadata.level() {
        Level::Error if metadata.target() == ALERT => Some(LogLevel::Alert),
        Level::Error => Some(LogLevel::Error),
        Level::Warn => Some(LogLevel::Warning),
        Level::Info => Some(LogLevel::Notice),
        Level::Debug => Some(LogLevel::Debug),
        Level::Trace => None,
    }
}

struct Logger(Mutex<Option<Backend>>);

impl Logger {
    /// A panic while a line was written harms that line only.
    fn lock(&self) -> MutexGuard<'_, Option<Backend>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ::log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= ::log::max_level() && level_of(metadata).is_some()
    }

    fn log(&self, record: &Record<'_>) {
        // Formatted before the lock is taken: a message whose Display logs something itself must not dead-lock.
        let message = match record.args().as_str() {
            Some(text) => std::borrow::Cow::Borrowed(text),
            None => std::borrow::Cow::Owned(record.args().to_string()),
        };
        let Some(level) = level_of(record.metadata()) else { return };
        if let Some(backend) = self.lock().as_mut() {
            let origin = record.module_path().zip(record.line());
            backend.log(level, format_args!("{message}"), origin);
        }
    }

    fn flush(&self) {} // each line is written at once
}

/// The settings in force and what they opened.
struct Backend {
    settings: Settings,
    style: Style,
    writer: Writer<Sink>,
    /// Kept for its memory.
    buffer: String,
}

impl Backend {
    fn open(settings: &Settings) -> Result<Backend, LogError> {
        let (sink, frame) = open(settings)?;
        Ok(Backend::over(settings, sink, frame))
    }

    fn over(settings: &Settings, sink: Sink, frame: Frame) -> Backend {
        let (settings, style) = (settings.clone(), style(settings, frame));
        Backend { settings, style, writer: Writer::new(sink), buffer: String::new() }
    }

    fn reconfigure(&mut self, settings: &Settings) -> Result<(), LogError> {
        let (sink, frame) = open(settings)?;
        let place = sink.place_after(self.writer.sink());
        self.writer.replace(sink, place);
        self.style = style(settings, frame);
        self.settings = settings.clone();
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        let settings = self.settings.clone();
        let result = self.reconfigure(&settings);
        match &result {
            Ok(()) => self.log(LogLevel::Notice, format_args!("log re-opened"), None),
            Err(error) => self.log(LogLevel::Error, format_args!("{error}; the old one is kept"), None),
        }
        result
    }

    fn log(&mut self, level: LogLevel, message: fmt::Arguments<'_>, origin: Option<(&str, u32)>) {
        if level > self.settings.level {
            return;
        }
        if let Err(error) = self.report_loss().and_then(|()| self.put(level, message, origin)) {
            self.writer.lose(error);
        }
    }

    fn raw(&mut self, line: &[u8]) {
        if LogLevel::Warning > self.settings.level {
            return;
        }
        let mut framed = Vec::with_capacity(line.len() + 64);
        line::render_raw(&mut framed, line, LogLevel::Warning, &clock::local(clock::wall()), &self.style);
        if let Err(error) = self.report_loss().and_then(|()| self.writer.put(&framed)) {
            self.writer.lose(error);
        }
    }

    fn report_loss(&mut self) -> io::Result<()> {
        let Some(loss) = self.writer.loss() else { return Ok(()) };
        let text = format!("cannot write {} log lines before this one: {}", loss.lines, loss.cause);
        self.put(LogLevel::Warning, format_args!("{text}"), None)?;
        self.writer.forget_loss();
        Ok(())
    }

    fn put(
        &mut self,
        level: LogLevel,
        message: fmt::Arguments<'_>,
        origin: Option<(&str, u32)>,
    ) -> io::Result<()> {
        let entry = Entry { level, time: clock::local(clock::wall()), message, origin };
        self.buffer.clear();
        line::render(&mut self.buffer, &entry, &self.style);
        self.writer.put(self.buffer.as_bytes())
    }
}

fn open(settings: &Settings) -> Result<(Sink, Frame), LogError> {
    Sink::open(&settings.target)
        .map_err(|error| LogError::Open { target: settings.target.clone(), cause: error })
}

fn style(settings: &Settings, frame: Frame) -> Style {
    Style { format: settings.format, frame, level: settings.level, pid: std::process::id() }
}

/// A target in a sentence.
struct Named<'a>(&'a LogTarget);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LogTarget::Stderr => f.write_str("standard error"),
            LogTarget::Stdout => f.write_str("standard output"),
            LogTarget::Syslog => f.write_str("the system log"),
            LogTarget::Journal => f.write_str("the journal"),
            LogTarget::File(path) => write!(f, "log file '{}'", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::TempDir;

    fn settings(target: LogTarget, level: LogLevel) -> Settings {
        Settings { target, level, format: LogFormat::Text }
    }

    fn say(backend: &mut Backend, level: LogLevel, text: &str) {
        backend.log(level, format_args!("{text}"), None);
    }

    /// The lines of a log file without their times.
    fn lines(path: &std::path::Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.split_once("] ").map_or(line, |(_, rest)| rest).to_owned()).collect()
    }

    #[test]
    fn a_level_hides_what_is_less_important() {
        let directory = TempDir::new();
        let path = directory.join("log");
        let mut backend = Backend::open(&settings(LogTarget::File(path.clone()), LogLevel::Warning)).unwrap();
        say(&mut backend, LogLevel::Notice, "hidden");
        say(&mut backend, LogLevel::Warning, "shown");
        say(&mut backend, LogLevel::Alert, "shown too");
        backend.raw(b"as it is");
        assert_eq!(lines(&path), ["WARNING: shown", "ALERT: shown too", "as it is"]);

        backend.reconfigure(&settings(LogTarget::File(path.clone()), LogLevel::Error)).unwrap();
        say(&mut backend, LogLevel::Warning, "hidden");
        backend.raw(b"hidden");
        assert_eq!(lines(&path).len(), 3);
    }

    #[test]
    fn reopening_follows_a_rotation() {
        let directory = TempDir::new();
        let (path, old) = (directory.join("log"), directory.join("log.1"));
        let mut backend = Backend::open(&settings(LogTarget::File(path.clone()), LogLevel::Notice)).unwrap();
        say(&mut backend, LogLevel::Notice, "one");
        std::fs::rename(&path, &old).unwrap();
        say(&mut backend, LogLevel::Notice, "two");
        backend.reopen().unwrap();
        say(&mut backend, LogLevel::Notice, "three");
        assert_eq!(lines(&old), ["NOTICE: one", "NOTICE: two"]);
        assert_eq!(lines(&path), ["NOTICE: log re-opened", "NOTICE: three"]);
    }

    #[test]
    fn a_failed_reopening_keeps_the_old_file_and_says_so() {
        let directory = TempDir::new();
        let (path, old) = (directory.join("log"), directory.join("log.1"));
        let mut backend = Backend::open(&settings(LogTarget::File(path.clone()), LogLevel::Notice)).unwrap();
        std::fs::rename(&path, &old).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = backend.reopen().unwrap_err().to_string();
        say(&mut backend, LogLevel::Notice, "more");
        assert_eq!(error, format!("cannot open log file '{}': Is a directory", path.display()));
        assert_eq!(lines(&old), [format!("ERROR: {error}; the old one is kept"), "NOTICE: more".into()]);
    }

    #[test]
    fn lines_for_a_full_pipe_are_counted_and_reported_once() {
        let directory = TempDir::new();
        let path = directory.join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut backend = Backend::open(&settings(LogTarget::File(path.clone()), LogLevel::Notice)).unwrap();
        while backend.writer.loss().is_none() {
            say(&mut backend, LogLevel::Notice, "full");
        }
        say(&mut backend, LogLevel::Notice, "lost");
        assert_eq!(backend.writer.loss().unwrap().lines, 2);

        std::io::Read::read_exact(&mut &reader, &mut [0; 60_000]).unwrap();
        say(&mut backend, LogLevel::Notice, "back");
        say(&mut backend, LogLevel::Notice, "again");
        let mut rest = vec![0; 100_000];
        let length = std::io::Read::read(&mut &reader, &mut rest).unwrap();
        let rest = String::from_utf8_lossy(&rest[..length]).into_owned();
        let tail: Vec<&str> = rest.lines().rev().take(3).collect();
        assert!(
            tail[2].ends_with(
                "WARNING: cannot write 2 log lines before this one: Resource temporarily unavailable"
            ),
            "{}",
            tail[2]
        );
        assert!(tail[1].ends_with("NOTICE: back"));
        assert!(tail[0].ends_with("NOTICE: again"));
    }

    #[test]
    fn a_full_disk_is_survived_and_reported() {
        let directory = TempDir::new();
        let path = directory.join("log");
        let mut backend =
            Backend::open(&settings(LogTarget::File("/dev/full".into()), LogLevel::Notice)).unwrap();
        say(&mut backend, LogLevel::Notice, "lost");
        backend.raw(b"lost too");
        backend.reconfigure(&settings(LogTarget::File(path.clone()), LogLevel::Notice)).unwrap();
        say(&mut backend, LogLevel::Notice, "kept");
        let report = "WARNING: cannot write 2 log lines before this one: No space left on device";
        assert_eq!(lines(&path), [report, "NOTICE: kept"]);
    }

    /// The only test of the static: the facade can be set once a process.
    #[test]
    fn the_facade_writes_to_the_target() {
        let directory = TempDir::new();
        let path = directory.join("log");
        init(&settings(LogTarget::File(path.clone()), LogLevel::Debug)).unwrap();
        assert!(matches!(init(&Settings::stderr()), Err(LogError::Taken)));
        ::log::error!(target: ALERT, "fire {}", 1);
        ::log::debug!("detail");
        ::log::trace!("never");
        reopen().unwrap();
        let lines = lines(&path);
        let shown = |text: &str| lines.iter().any(|line| line.contains(text));
        assert!(shown("ALERT: pid ") && shown(": fire 1"), "{lines:?}");
        assert!(shown("DEBUG: pid ") && shown("fpmd::log::tests, line "), "{lines:?}");
        assert!(!shown("never"));
        reconfigure(&Settings::stderr()).unwrap();
    }
}
