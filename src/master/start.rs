//! From the command line to the running loop, in one order: configuration, descriptors, background, log, control socket,
//! pid file, signals, pools. Whatever fails before the loop ends fpmd with one sentence and its exit code.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mio::{Interest, Registry};
use signal_hook_mio::v1_0::Signals;

use super::cgroups::Cgroups;
use super::control::{Control, ControlError};
use super::demand::Ears;
use super::demo::Demo;
use super::gateways::Gateways;
use super::globals::PidFiles;
use super::inquiries::Inquiries;
use super::listeners::Listeners;
use super::orphans::Strangers;
use super::passage::Awaited;
use super::pid_file::PidFileError;
use super::run::{Farewell, signals};
use super::service::Service;
use super::settings::Settings;
use super::slots::Slots;
use super::source::{OnePool, Source};
use super::upgrade::Upgrade;
use super::warming::Warming;
use super::workers::Workers;
use super::{Master, Starting, reload, take_over};
use crate::cli::exit::Daemon as Exit;
use crate::cli::fpmd::{Invocation, Place, Run};
use crate::cli::output;
use crate::config::model::Config;
use crate::config::{self, Errors, Host};
use crate::event::timer::Timers;
use crate::event::token::Token;
use crate::ids::{Pid, Ticket};
use crate::log::{self, LogError};
use crate::os::activity::Observer;
use crate::os::daemon::{self, Role};
use crate::os::host::Machine;
use crate::os::limits::OriginalLimit;
use crate::os::{clock, errno, handover, limits, signal, users, wait};
use crate::supervise::Supervisor;
use crate::systemd::{self, Inherited, Notifier};

/// fpmd, from its parsed command line to its exit code.
pub fn main(invocation: Invocation) -> ExitCode {
    // Claimed before anything else is opened, so that their numbers are still theirs.
    let inherited = Inherited::take();
    let done = match invocation {
        Invocation::Check { config } => check(&config),
        Invocation::Dump { config } => dump(&config),
        Invocation::Serve { config, place, pid_file } => {
            // Reloads and the status name the same file, whatever the working directory is.
            let config = std::path::absolute(&config).unwrap_or(config);
            serve(inherited, Source::File(config), Options { place, pid_file, demo: None })
        }
        Invocation::Run(run) => run_one_pool(inherited, &run),
        Invocation::Demo(demo) => run_demo(inherited, &demo.listen, demo.workers),
        Invocation::Trial => take_over::trial().map_err(Failure::Sentence),
        // The built-in worker is another program; the binary calls it instead of us.
        Invocation::DemoWorker => Ok(()),
    };
    report(done)
}

fn report(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            for line in failure.to_string().lines() {
                output::complain("fpmd", &line);
            }
            failure.exit().into()
        }
    }
}

/// Why fpmd does not start.
#[derive(Debug)]
pub(super) enum Failure {
    Config(Errors),
    Command(String),
    Log(LogError),
    Control(ControlError),
    PidFile(PidFileError),
    Inherited(systemd::Error),
    System(&'static str, io::Error),
    /// A sentence that is complete already.
    Sentence(String),
    /// The daemon in the background has said why, and this is its exit code.
    Background(Option<u8>),
}

impl Failure {
    fn exit(&self) -> Exit {
        let permission_or = |is_permission: bool, other| if is_permission { Exit::Permission } else { other };
        match self {
            Failure::Config(_) => Exit::Config,
            Failure::Command(_) => Exit::Usage,
            Failure::Log(LogError::Open { cause, .. }) => {
                permission_or(cause.kind() == io::ErrorKind::PermissionDenied, Exit::Config)
            }
            Failure::Log(LogError::Taken | LogError::NotInitialised) => Exit::Bug,
            Failure::Control(error) => permission_or(error.is_permission(), Exit::System),
            Failure::PidFile(error) => permission_or(error.is_permission(), Exit::System),
            Failure::Inherited(_) | Failure::Sentence(_) | Failure::System(..) => Exit::System,
            Failure::Background(code) => match code {
                Some(code) => [Exit::Usage, Exit::System, Exit::Permission, Exit::Config]
                    .into_iter()
                    .find(|exit| *exit as u8 == *code)
                    .unwrap_or(Exit::Bug),
                None => Exit::Bug,
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Config(errors) => errors.fmt(f),
            Failure::Command(text) => f.write_str(text),
            Failure::Log(error) => error.fmt(f),
            Failure::Control(error) => error.fmt(f),
            Failure::PidFile(error) => error.fmt(f),
            Failure::Inherited(error) => error.fmt(f),
            Failure::Sentence(text) => f.write_str(text),
            Failure::System(what, error) => write!(f, "cannot {what}: {}", errno::said(error)),
            Failure::Background(Some(_)) => Ok(()),
            Failure::Background(None) => {
                f.write_str("cannot start in the background: the daemon died at its start")
            }
        }
    }
}

/// What the command line says beside the configuration.
struct Options {
    place: Place,
    pid_file: Option<PathBuf>,
    /// Its instructions are printed when it serves.
    demo: Option<Demo>,
}

fn check(path: &Path) -> Result<(), Failure> {
    config::load(path, &Machine).map_err(Failure::Config)?;
    print(&format!("configuration file {} test is successful\n", path.display()))
}

fn dump(path: &Path) -> Result<(), Failure> {
    let config = config::load(path, &Machine).map_err(Failure::Config)?;
    print(&config::dump(&config))
}

fn print(text: &str) -> Result<(), Failure> {
    output::print(text).map_err(|error| Failure::System("write to standard output", error))
}

fn run_one_pool(inherited: Taken, run: &Run) -> Result<(), Failure> {
    let mut command = run.command.clone();
    if let Some(program) = command.first_mut() {
        *program = find_program(program)?;
    }
    let pool = OnePool {
        name: "main",
        listen: &run.listen,
        command: &command,
        workers: run.workers,
        dispatch: run.dispatch,
        user: run.user.as_deref().or(own_user()),
        group: run.group.as_deref(),
        env: &run.env,
        control_socket: run.socket.as_deref(),
        runtime_dir: None,
    };
    let source = Source::one_pool("command line", &pool);
    serve(inherited, source, Options { place: Place::Foreground, pid_file: None, demo: None })
}

fn run_demo(inherited: Taken, listen: &str, workers: u32) -> Result<(), Failure> {
    let demo = Demo::new(workers).map_err(|error| Failure::System("make a directory for the demo", error))?;
    let source = demo.source(listen, own_user());
    serve(inherited, source, Options { place: Place::Foreground, pid_file: None, demo: Some(demo) })
}

/// Who types a command as root means it; a configuration file has to name the user.
fn own_user() -> Option<&'static str> {
    users::is_root().then_some("root")
}

/// A program as a shell would find it: a word without a slash is looked up in PATH.
fn find_program(word: &str) -> Result<String, Failure> {
    let not_found = || Failure::Command(format!("cannot find program '{word}': no such file in PATH"));
    if word.starts_with('/') {
        return Ok(word.to_owned());
    }
    if word.contains('/') {
        let absolute =
            std::path::absolute(word).map_err(|error| Failure::System("find the program", error))?;
        return Ok(absolute.to_string_lossy().into_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(word))
        .find(|candidate| Machine.executable(None, candidate).is_ok())
        .map(|found| found.to_string_lossy().into_owned())
        .ok_or_else(not_found)
}

/// What came by LISTEN_FDS, or why it cannot be used.
type Taken = Result<Inherited, systemd::Error>;

fn serve(inherited: Taken, source: Source, options: Options) -> Result<(), Failure> {
    let inherited = inherited.map_err(Failure::Inherited)?;
    let config = reload::load(&source).map_err(Failure::Config)?;
    let starting = match options.place {
        Place::Foreground => Starting::Foreground,
        Place::Background => match daemon::daemonize() {
            Ok(Role::Daemon(readiness)) => Starting::Background(readiness),
            Ok(Role::Starter(verdict)) => return verdict.wait().map_err(Failure::Background),
            Err(error) => return Err(Failure::System("go to the background", error)),
        },
    };
    log::init(&log::Settings::from(&config.global)).map_err(Failure::Log)?;
    let pid_files = PidFiles::new(options.pid_file);
    let master = bring_up(inherited, source, pid_files, config, starting, options.demo)?;
    master.pid_files.try_out(&master.global).map_err(Failure::PidFile)?;
    serve_to_the_end(master)
}

fn serve_to_the_end(mut master: Master) -> Result<(), Failure> {
    let ran = master.run().map_err(|error| Failure::System("wait for events", error));
    master.bury();
    ran?;
    match master.failure.take() {
        Some(reason) => Err(Failure::Sentence(reason)),
        None => Ok(()),
    }
}

/// A master's whole life after its start, to its exit code.
pub(super) fn live(master: Master) -> ExitCode {
    report(serve_to_the_end(master))
}

/// Our pid, after going to the background.
pub(super) fn own_pid() -> Pid {
    // getpid(2) always gives a positive number that fits.
    #[allow(clippy::expect_used)]
    i32::try_from(std::process::id()).ok().and_then(Pid::new).expect("a process has a positive pid")
}

pub(super) fn catch_signals(registry: &Registry) -> io::Result<Signals> {
    let mut signals = Signals::new(signals::ALL)?;
    registry.register(&mut signals, Token::Signals.encode(), Interest::READABLE)?;
    Ok(signals)
}

/// What this process is to be like as long as it lives; the limit that workers get back.
fn prepare_process() -> Result<OriginalLimit, Failure> {
    let open_files = limits::raise_open_files().map_err(|error| Failure::Sentence(error.to_string()))?;
    signal::ignore_write_signals().map_err(|error| Failure::Sentence(error.to_string()))?;
    wait::set_subreaper().map_err(|error| Failure::Sentence(error.to_string()))?;
    Ok(open_files)
}

/// Opens what the loop needs and hands the configuration to the supervisor.
pub(super) fn bring_up(
    inherited: Inherited,
    source: Source,
    pid_files: PidFiles,
    config: Config,
    starting: Starting,
    demo: Option<Demo>,
) -> Result<Master, Failure> {
    let system = |what| move |error: io::Error| Failure::System(what, error);
    let open_files = prepare_process()?;
    let poll = mio::Poll::new().map_err(system("make the event loop"))?;
    // Before anything that a signal should clean up.
    let signals = catch_signals(poll.registry()).map_err(system("catch signals"))?;
    let group = config.global.control_group.as_ref().map(|group| group.gid);
    let control =
        Control::open(&config.global.control_socket, group, poll.registry()).map_err(Failure::Control)?;
    let now = clock::monotonic();
    let mut master = Master {
        poll,
        signals,
        timers: Timers::new(),
        supervisor: Supervisor::new(now),
        source,
        pid_files,
        global: config.global.clone(),
        settings: Settings::default(),
        listeners: Listeners::new(inherited),
        ears: Ears::default(),
        slots: Slots::new(&config.global.runtime_dir, config.global.gateway_user.clone()),
        gateways: Gateways::new(config.global.gateway_user.clone()),
        inquiries: Inquiries::default(),
        facts_due: false,
        spawns: HashMap::new(),
        programs: HashMap::new(),
        open_files,
        workers: Workers::default(),
        awaited: Awaited::new(),
        warming: Warming::new(),
        strangers: Strangers::note(),
        cgroups: Cgroups::new(),
        observer: Observer::new(),
        control,
        last_ticket: Ticket(0),
        reload_by_signal: None,
        notifier: Notifier::from_environment(),
        service: Service::default(),
        starting: Some(starting),
        demo,
        talkative: VecDeque::new(),
        farewell: Farewell::NotYet,
        failure: None,
        started: now,
        own_path: handover::own_path().map_err(system("find our own program (is /proc mounted?)"))?,
        upgrade: Upgrade::None,
    };
    ::log::info!("fpmd is running, pid {}", std::process::id());
    let event = reload::adopt(&mut master, reload::Change::all(config), None).map_err(Failure::Sentence)?;
    master.supervisor.handle(now, event);
    Ok(master)
}
