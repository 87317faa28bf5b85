//! fpmd, the master process: owns listening sockets, workers, timers, configuration and log; never reads a request.
//!
//! `start` brings it up, `run` is its loop, `apply` does what the supervisor decides. Signals are documented in fpmd(8).

mod apply;
mod cgroups;
mod commands;
mod control;
mod demand;
mod demo;
mod environment;
mod gateways;
mod globals;
mod inquiries;
mod listeners;
mod looks;
mod orphans;
mod passage;
mod pid_file;
mod program;
mod reload;
mod routing;
mod run;
mod seats;
mod service;
mod settings;
mod slots;
mod snapshot;
mod source;
mod spawning;
mod start;
mod state;
mod succession;
mod take_over;
#[cfg(test)]
mod testing;
mod upgrade;
mod warming;
mod weight;
mod workers;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use signal_hook_mio::v1_0::Signals;

use self::cgroups::Cgroups;
use self::control::Control;
use self::demand::Ears;
use self::demo::Demo;
use self::gateways::Gateways;
use self::globals::PidFiles;
use self::inquiries::Inquiries;
use self::listeners::Listeners;
use self::orphans::Strangers;
use self::passage::Awaited;
use self::program::Program;
use self::run::{Farewell, Timer};
use self::service::Service;
use self::settings::Settings;
use self::slots::Slots;
use self::source::Source;
use self::upgrade::Upgrade;
use self::warming::Warming;
use self::workers::Workers;
use crate::config::model::Global;
use crate::event::timer::Timers;
use crate::event::token::Token;
use crate::ids::{Generation, Moment, PoolName, Ticket};
use crate::os::activity::Observer;
use crate::os::daemon::Readiness;
use crate::os::limits::OriginalLimit;
use crate::os::process::Spawn;
use crate::supervise::Supervisor;
use crate::systemd::Notifier;

pub use self::start::main;
pub use self::take_over::resume;

/// Everything that the daemon holds. Each part is one module's; the methods are spread over them by subject.
struct Master {
    poll: mio::Poll,
    signals: Signals,
    timers: Timers<Timer>,
    supervisor: Supervisor,
    source: Source,
    pid_files: PidFiles,
    global: Global,
    settings: Settings,
    listeners: Listeners,
    ears: Ears,
    slots: Slots,
    gateways: Gateways,
    awaited: Awaited,
    inquiries: Inquiries,
    /// Gateways are to be told new numbers, soon.
    facts_due: bool,
    /// What the workers of a generation have in common, made at its first start.
    spawns: HashMap<(PoolName, Generation), Rc<Spawn>>,
    /// The files that each generation was started from, as they were at its first start.
    programs: HashMap<(PoolName, Generation), Program>,
    open_files: OriginalLimit,
    workers: Workers,
    warming: Warming,
    cgroups: Cgroups,
    strangers: Strangers,
    observer: Observer,
    control: Control,
    last_ticket: Ticket,
    /// The reload that the service manager waits for, if it was asked for by a signal.
    reload_by_signal: Option<Ticket>,
    notifier: Notifier,
    service: Service,
    /// Until the first configuration is in force.
    starting: Option<Starting>,
    /// Workers' pipes and gateways that said more than one turn takes.
    talkative: VecDeque<Token>,
    farewell: Farewell,
    /// Why no pool serves after the start.
    failure: Option<String>,
    demo: Option<Demo>,
    started: Moment,
    /// Where new versions of our program are found.
    own_path: PathBuf,
    upgrade: Upgrade,
}

/// Who has to be told that we serve.
enum Starting {
    /// The service manager, if there is one.
    Foreground,
    /// The process that was started, too.
    Background(Readiness),
}
