//! `fpmctl upgrade`, from the new program's side: the trial that tells whether it could go on with what the running one
//! holds, and the taking over itself, in the same process: rehearsed first, and given back to the running one's program if that
//! fails.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd};
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
use crate::log::{self, LogError};
use crate::os::activity::Observer;
use crate::os::aside::{self, AsideError};
use crate::os::errno::{self, Cause};
use crate::os::handover::{self, Inheritance, Turn};
use crate::os::{clock, signal, wait};
use crate::systemd::Notifier;

/// What a program says that could go on: nothing else that ends well when it is tried is one of us.
pub const CONSENT: &str = "fpmd can take over";

/// Whether this program could go on with the state on descriptor 0.
///
/// # Errors
/// A sentence.
pub fn trial() -> Result<(), String> {
    let text = handover::read(io::stdin().as_fd()).map_err(system)?;
    let state = State::read(&text).map_err(|error| error.to_string())?;
    let has_gateways = state.gateways.is_any();
    Settings::read(state.settings)?;
    if has_gateways {
        gateways::find_program()?;
    }
    output::print(&format!("{CONSENT}\n")).map_err(|error| error.to_string())
}

/// Goes on where another program left off in this process, if it did: its whole life then.
pub fn resume() -> Option<ExitCode> {
    let inheritance = handover::inheritance()?;
    Some(match take_over(inheritance) {
        Ok(master) => live(master),
        Err(reason) => {
            output::complain("fpmd", &format_args!("cannot take over: {reason}"));
            Exit::System.into()
        }
    })
}

fn take_over(Inheritance { will, turn }: Inheritance) -> Result<Master, String> {
    let will = will.claim().map_err(|error| error.to_string())?;
    if let Turn::Next(Some(way_back)) = &turn
        && let Err(reason) = rehearse(will.as_fd())
    {
        let errno = way_back.take(will.as_fd(), &reason);
        output::complain("fpmd", &format_args!("cannot go back to the program before: {}", Cause(errno)));
    }
    let mut state = read(will.as_fd())?;
    drop(will);
    let log = state.log.take().and_then(|log| log.claim().ok());
    let (ticket, release) = (state.ticket, state.release.clone());
    let mut master = rebuild(state, |settings| log::resume(settings, log))?;
    // They are caught now.
    handover::release_signals();
    match turn {
        Turn::Next(_) => master.go_on(ticket, &release),
        Turn::Again(reason) => master.go_on_as_before(ticket, &reason),
    }
    Ok(master)
}

fn read(will: BorrowedFd<'_>) -> Result<State, String> {
    let text = handover::read(will).map_err(system)?;
    State::read(&text).map_err(|error| error.to_string())
}

/// Takes everything over in a child, which has all that we have and can do no harm: neither by an error, nor by a crash, nor
/// by taking too long. Only then it is done for good, as there is no way back from half of it.
///
/// # Errors
/// A sentence.
fn rehearse(will: BorrowedFd<'_>) -> Result<(), String> {
    // Nothing is to be tidied up at the child's end: neither sockets' paths nor control groups are its own.
    let answer = aside::ask(|| rebuild(read(will)?, |_| Ok(())).map(std::mem::forget));
    answer.unwrap_or_else(|error| {
        Err(match error {
            AsideError::Start(cause) => format!("no process or descriptor is left: {}", errno::said(&cause)),
            AsideError::Late => "it has not come to an end with it".to_owned(),
            AsideError::Silent => "it crashed".to_owned(),
        })
    })
}

/// What an exec has undone.
fn prepare_process() -> Result<(), String> {
    signal::ignore_write_signals().map_err(|error| error.to_string())?;
    wait::set_subreaper().map_err(|error| error.to_string())
}

fn system(error: io::Error) -> String {
    errno::said(&error)
}

/// Everything from what is written down. Only what removes nothing when it is dropped is made before what may fail.
fn rebuild(
    state: State,
    begin_log: impl FnOnce(&log::Settings) -> Result<(), LogError>,
) -> Result<Master, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (global, settings) = Settings::read(state.settings)?;
    begin_log(&log::Settings::from(&global)).map_err(|error| text(&error))?;
    prepare_process()?;
    let poll = mio::Poll::new().map_err(system)?;
    let registry = poll.registry();
    let signals = catch_signals(registry).map_err(system)?;
    let workers = Workers::claim(state.workers, registry).map_err(|error| text(&error))?;
    let user = || global.gateway_user.clone();
    let gateways = Gateways::claim(state.gateways, user(), |pool, generation| settings.of(pool, generation))?;
    gateways.watch(registry).map_err(system)?;
    let listeners = Listeners::claim(state.listeners).map_err(|error| text(&error))?;
    let slots = ManuallyDrop::new(Slots::claim(&global.runtime_dir, user(), state.slots)?);
    let group = global.control_group.as_ref().map(|group| group.gid);
    let control = Control::claim(state.control, group, registry).map_err(system)?;
    let programs =
        state.programs.into_iter().map(|(pool, generation, program)| ((pool, generation), program));
    Ok(Master {
        signals,
        timers: Timers::new(),
        supervisor: state.supervisor,
        source: state.source,
        settings,
        listeners,
        slots: ManuallyDrop::into_inner(slots),
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
    /// Exchanges the gateways, and then tells who waited.
    fn go_on(&mut self, ticket: Option<Ticket>, release: &str) {
        let (ours, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        ::log::info!("fpmd {ours} has taken over from fpmd {release}, pid {pid}");
        self.look_around();
        let (waiting, failed) = (self.gateways.serving().into_iter().collect(), Vec::new());
        let succession = Succession { ticket, release: release.to_owned(), waiting, failed };
        self.upgrade = Upgrade::Succeeding(succession);
        self.timers.set(Timer::Upgrade, Some(clock::monotonic().after(upgrade::PATIENCE)));
        for pool in self.gateways.serving() {
            if let Err(reason) = self.start_successor(&pool) {
                self.on_succession(&pool, Err(reason));
            }
        }
        self.conclude_upgrade();
    }

    /// The program that was to take over could not: nothing has changed.
    fn go_on_as_before(&mut self, ticket: Option<Ticket>, reason: &str) {
        self.look_around();
        let reason = format!("'{}' could not take over: {reason}", self.own_path.display());
        self.give_up_upgrade(ticket, &reason);
        ::log::info!("fpmd {} goes on as before, pid {}", env!("CARGO_PKG_VERSION"), std::process::id());
    }

    /// Looks at everything once that may have happened while nobody looked.
    fn look_around(&mut self) {
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
    }
}
