//! `fpmctl upgrade`, from the new program's side: the trial that tells whether it could go on with what the running one
//! holds, and the taking over itself, in the same process.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use super::Master;
use super::cgroups::Cgroups;
use super::control::{Control, PATIENCE};
use super::demand::Ears;
use super::gateways::{self, Gateways};
use super::globals::PidFiles;
use super::inquiries::Inquiries;
use super::listeners::Listeners;
use super::passage::Awaited;
use super::run::{Farewell, Timer};
use super::service::Service;
use super::settings::Settings;
use super::slots::Slots;
use super::start::{catch_signals, live};
use super::state::State;
use super::upgrade::{self, Succession, Upgrade};
use super::workers::Workers;
use crate::cli::exit::Daemon as Exit;
use crate::cli::output;
use crate::event::timer::Timers;
use crate::ids::Ticket;
use crate::log;
use crate::os::activity::Observer;
use crate::os::handover::{self, Heirloom};
use crate::os::{clock, signal, wait};
use crate::systemd::Notifier;

/// Whether this program could go on with the state on descriptor 0: nothing is said if so.
///
/// # Errors
/// A sentence.
pub fn trial() -> Result<(), String> {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let text = handover::read(stdin).map_err(|error| error.to_string())?;
    let state = State::read(&text).map_err(|error| error.to_string())?;
    let has_gateways = state.gateways.is_any();
    Settings::read(state.settings)?;
    if has_gateways { gateways::find_program() } else { Ok(()) }
}

/// Goes on where another program left off in this process, if it did: its whole life then.
pub fn resume() -> Option<ExitCode> {
    let will = handover::will()?;
    Some(match take_over(will) {
        Ok(master) => live(master),
        Err(reason) => {
            output::complain("fpmd", &format_args!("cannot take over: {reason}"));
            Exit::System.into()
        }
    })
}

fn take_over(will: Heirloom) -> Result<Master, String> {
    let text = will.claim().map_err(|error| error.to_string())?;
    let text = handover::read(text).map_err(|error| error.to_string())?;
    let mut state = State::read(&text).map_err(|error| error.to_string())?;
    let log = state.log.take().and_then(|log| log.claim().ok());
    let (ticket, release) = (state.ticket, state.release.clone());
    let mut master = rebuild(state, log)?;
    // They are caught now.
    handover::release_signals();
    ::log::info!(
        "fpmd {} has taken over from fpmd {release}, pid {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    );
    master.go_on(ticket, &release);
    Ok(master)
}

fn rebuild(state: State, log: Option<std::os::fd::OwnedFd>) -> Result<Master, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (global, settings) = Settings::read(state.settings)?;
    log::resume(&log::Settings::from(&global), log).map_err(|error| text(&error))?;
    signal::ignore_write_signals().map_err(|error| text(&error))?;
    wait::set_subreaper().map_err(|error| text(&error))?;
    let poll = mio::Poll::new().map_err(|error| text(&error))?;
    let registry = poll.registry();
    let signals = catch_signals(registry).map_err(|error| text(&error))?;
    let workers = Workers::claim(state.workers, registry).map_err(|error| text(&error))?;
    let group = global.control_group.as_ref().map(|group| group.gid);
    let control = Control::claim(state.control, group, registry).map_err(|error| text(&error))?;
    let user = || global.gateway_user.clone();
    let gateways = Gateways::claim(state.gateways, user(), |pool, generation| settings.of(pool, generation))?;
    gateways.watch(registry).map_err(|error| text(&error))?;
    let programs =
        state.programs.into_iter().map(|(pool, generation, program)| ((pool, generation), program));
    Ok(Master {
        signals,
        timers: Timers::new(),
        supervisor: state.supervisor,
        source: state.source,
        settings,
        listeners: Listeners::claim(state.listeners).map_err(|error| text(&error))?,
        slots: Slots::claim(&global.runtime_dir, user(), state.slots)?,
        ears: Ears::default(),
        gateways,
        inquiries: Inquiries::default(),
        facts_due: false,
        spawns: HashMap::new(),
        open_files: state.open_files,
        workers,
        strangers: state.strangers,
        cgroups: Cgroups::claim(state.cgroups),
        observer: Observer::new(),
        control,
        last_ticket: state.last_ticket,
        reload_by_signal: state.reload_by_signal,
        notifier: Notifier::from_environment(),
        service: Service::default(),
        starting: None,
        demo: None,
        talkative: VecDeque::new(),
        farewell: Farewell::NotYet,
        failure: None,
        started: state.started,
        own_path: state.own_path,
        pid_files: PidFiles::claim(state.pid_files),
        programs: programs.collect(),
        awaited: Awaited::new(),
        warming: state.warming,
        upgrade: Upgrade::None,
        global,
        poll,
    })
}

impl Master {
    /// Looks at everything once that may have happened while nobody looked, and tells who waited.
    fn go_on(&mut self, ticket: Option<Ticket>, release: &str) {
        let now = clock::monotonic();
        let hurried: Vec<u64> = self.control.hurried().collect();
        for client in hurried {
            self.set_client_timer(client, Some(PATIENCE));
        }
        for number in self.gateways.leaving() {
            self.timers.set(Timer::GatewayEnd(number), Some(now.after(gateways::PATIENCE)));
        }
        self.extend_reload();
        self.start_gateways();
        self.listen_again();
        self.facts_changed();
        self.reap();
        let (waiting, failed) = (self.gateways.serving().into_iter().collect(), Vec::new());
        let succession = Succession { ticket, release: release.to_owned(), waiting, failed };
        self.upgrade = Upgrade::Succeeding(succession);
        self.timers.set(Timer::Upgrade, Some(now.after(upgrade::PATIENCE)));
        for pool in self.gateways.serving() {
            if let Err(reason) = self.start_successor(&pool) {
                self.on_succession(&pool, Err(reason));
            }
        }
        self.conclude_upgrade();
    }
}
