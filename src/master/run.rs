//! The loop: wait, turn what happened into events for the supervisor, do the actions that it answers with.
//!
//! Nothing here blocks but the one wait, and that has a deadline only if something is due: an idle daemon sleeps.

use std::io;
use std::time::Duration;

use mio::Events;

use super::control::{Outcome, PATIENCE};
use super::{Master, Starting};
use crate::cli::output;
use crate::config::model::LogTarget;
use crate::event::token::Token;
use crate::ids::{Signal, Ticket};
use crate::log;
use crate::os::daemon::Stderr;
use crate::os::{clock, errno, wait};
use crate::supervise::event::Event;
use crate::systemd;
use crate::wire::control::{Extent, Reply};

/// What the timer heap wakes us up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The supervisor's next deadline.
    Supervisor,
    /// A control client took too long.
    Client(u64),
    /// Accepting control clients failed for want of descriptors; time to try again.
    Accept,
    /// A gateway that died is to be started again.
    Gateways,
    /// A gateway that nobody needs any more takes too long to end.
    GatewayEnd(u64),
    /// Gateways are told the numbers of their pools.
    Facts,
    /// Workers in direct mode are weighed.
    Weight,
    /// Gateways took too long to answer a question.
    Inquiry(u64),
    /// An upgrade takes too long.
    Upgrade,
    /// The service manager is to hear that the loop is alive.
    Watchdog,
    /// It is told how we are.
    Status,
    /// It is told that a reload goes on.
    Reload,
    /// The last replies of a stopping daemon have had their time.
    Farewell,
}

/// Workers started between two looks at the descriptors, so that starting a thousand leaves fpmctl an answer.
const STARTS_A_TURN: usize = 64;

/// How long to wait after `accept(2)` failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long the final replies of a stopping daemon may take.
const FAREWELL: Duration = Duration::from_secs(1);

impl Master {
    /// Serves until every pool has stopped.
    ///
    /// # Errors
    /// The event loop itself failed: nothing can be watched any more.
    pub(super) fn run(&mut self) -> io::Result<()> {
        self.feed_watchdog();
        let mut events = Events::with_capacity(256);
        loop {
            let is_settled = self.settle();
            if is_settled {
                self.proceed_with_upgrade();
            }
            if self.is_over() {
                self.workers.finish_outputs(clock::monotonic());
                return Ok(());
            }
            let now = clock::monotonic();
            let has_more = !is_settled || !self.talkative.is_empty();
            let wait = if has_more { Some(Duration::ZERO) } else { self.timers.wait(now) };
            match self.poll.poll(&mut events, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            for event in &events {
                match Token::decode(event.token()) {
                    Some(token) => self.on_ready(token),
                    None => ::log::warn!("unknown readiness token {:?}", event.token()),
                }
            }
            self.hear_out();
            let now = clock::monotonic();
            while let Some(timer) = self.timers.expired(now) {
                self.on_timer(timer);
            }
        }
    }

    /// Does what the supervisor wants; false if there is more to do after a look at the descriptors.
    fn settle(&mut self) -> bool {
        let mut starts = 0;
        while let Some(action) = self.supervisor.next_action() {
            starts += usize::from(self.apply(action));
            if starts == STARTS_A_TURN {
                return false;
            }
        }
        self.timers.set(Timer::Supervisor, self.supervisor.next_deadline());
        self.announce_readiness();
        true
    }

    /// Does all that was asked for until now: before settings are proposed, or a generation is begun that gets the proposed
    /// ones, as whoever was here first is to get what was meant.
    pub(super) fn catch_up(&mut self) {
        while !self.settle() {}
    }

    fn on_ready(&mut self, token: Token) {
        match token {
            Token::Signals => self.on_signals(),
            Token::Control => self.on_control(),
            Token::Client(number) => self.on_client(number),
            Token::Report(worker) => self.on_report(worker),
            Token::Stdout(_) | Token::Stderr(_) | Token::GatewayLog(_) => self.on_output(token),
            Token::Gateway(number) => self.on_gateway(number),
            Token::Listener(number) => self.on_queue(number),
        }
    }

    /// Goes on with those that had more to say than a turn takes; whoever has more still is heard in the next one.
    pub(super) fn hear_out(&mut self) {
        for _ in 0..self.talkative.len() {
            if let Some(token) = self.talkative.pop_front() {
                self.on_ready(token);
            }
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Supervisor => self.supervisor.handle(clock::monotonic(), Event::Deadline),
            Timer::Client(number) => self.control.expire(number),
            Timer::Accept => self.on_control(),
            Timer::Gateways => self.start_gateways(),
            Timer::GatewayEnd(number) => self.gateways.kill(number),
            Timer::Facts => self.tell_facts(),
            Timer::Weight => self.weigh(),
            Timer::Inquiry(number) => self.conclude(number),
            Timer::Upgrade => self.expire_upgrade(),
            Timer::Status => self.tell_status(),
            Timer::Reload => self.extend_reload(),
            Timer::Watchdog => self.feed_watchdog(),
            Timer::Farewell => self.farewell = Farewell::Said,
        }
    }

    /// Says that the loop is alive, and when it will next.
    fn feed_watchdog(&mut self) {
        if let Some(interval) = systemd::watchdog_interval() {
            self.notifier.watchdog();
            self.timers.set(Timer::Watchdog, Some(clock::monotonic().after(interval)));
        }
    }

    fn on_signals(&mut self) {
        let pending: Vec<i32> = self.signals.pending().collect();
        pending.into_iter().for_each(|number| self.on_signal(number));
    }

    pub(super) fn on_signal(&mut self, number: i32) {
        match number {
            signals::CHLD => self.reap(),
            signals::TERM | signals::QUIT | signals::INT => self.on_stop_signal(number),
            signals::HUP | signals::USR2 => self.on_reload_signal(),
            // Says itself what came of it.
            signals::USR1 => drop(self.reopen_logs()),
            // signal-hook gives back nothing but what it was asked for.
            _ => {}
        }
    }

    fn on_stop_signal(&mut self, number: i32) {
        let name = Signal::from_raw(number).map(|signal| signal.to_string()).unwrap_or_default();
        ::log::info!("got {name}, stopping");
        self.tell_stop();
        self.listeners.leave_to_successor();
        self.supervisor.handle(clock::monotonic(), Event::Stop { ticket: None });
    }

    fn on_reload_signal(&mut self) {
        // Only for a signal: who reloads by fpmctl waits for its answer.
        self.notifier.reloading();
        let ticket = self.next_ticket();
        match self.reload(&[], Extent::Every, Some(ticket)) {
            Ok(event) => {
                self.reload_by_signal = Some(ticket);
                self.extend_reload();
                self.supervisor.handle(clock::monotonic(), event);
            }
            Err(refusal) => {
                self.notifier.ready("Ready to handle connections; the reload was refused, see the log");
                ::log::error!("reload refused, nothing has changed");
                for line in refusal.lines() {
                    ::log::error!("{line}");
                }
            }
        }
    }

    /// Takes every child that has ended, until there is none: one SIGCHLD can stand for many.
    pub(super) fn reap(&mut self) {
        loop {
            match wait::reap() {
                Ok(Some(ended)) => self.on_exit(&ended),
                Ok(None) => return,
                Err(error) => {
                    ::log::error!("cannot wait for children: {error}");
                    return;
                }
            }
        }
    }

    fn on_control(&mut self) {
        let (admitted, result) = self.control.accept(self.poll.registry());
        for number in admitted {
            self.set_client_timer(number, Some(PATIENCE));
        }
        if let Err(error) = result {
            ::log::warn!(
                "cannot accept control client: {}; trying again in {ACCEPT_PAUSE:?}",
                errno::said(&error)
            );
            self.timers.set(Timer::Accept, Some(clock::monotonic().after(ACCEPT_PAUSE)));
        }
    }

    fn on_client(&mut self, number: u64) {
        match self.control.ready(number) {
            Outcome::Pending => {}
            Outcome::Request(request, access) => self.obey(number, request, access),
            Outcome::Gone => self.set_client_timer(number, None),
        }
    }

    /// Sends a client its final reply.
    pub(super) fn reply(&mut self, number: u64, reply: &Reply) {
        let patience = match self.control.finish(number, reply) {
            Outcome::Gone => None,
            Outcome::Pending | Outcome::Request(..) => Some(PATIENCE),
        };
        self.set_client_timer(number, patience);
    }

    /// Sets or clears a client's deadline, from now.
    pub(super) fn set_client_timer(&mut self, number: u64, patience: Option<Duration>) {
        let deadline = patience.map(|patience| clock::monotonic().after(patience));
        self.timers.set(Timer::Client(number), deadline);
    }

    /// A number for a client that waits.
    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.last_ticket.0 += 1;
        self.last_ticket
    }

    /// Tells whoever started us that we serve, once, when the first configuration has been put in force.
    fn announce_readiness(&mut self) {
        let Some(starting) = self.starting.take() else { return };
        if let Err(reason) = self.begin_service() {
            self.failure = Some(reason);
            self.farewell = Farewell::Said;
            return;
        }
        self.listeners.discard_stored();
        ::log::info!("ready to handle connections");
        self.notifier.ready("Ready to handle connections");
        self.status_changed();
        if let Starting::Background(readiness) = starting {
            let stderr = if self.global.log == LogTarget::Stderr { Stderr::Keep } else { Stderr::Null };
            if let Err(error) = readiness.announce(stderr) {
                ::log::warn!("cannot leave the terminal: {}", errno::said(&error));
            }
        }
        if let (Some(demo), Some(address)) = (&self.demo, self.first_address()) {
            // Whoever closed our standard output does not want to read it.
            let _ = output::print(&demo.greeting(&address));
        }
    }

    /// Makes sure that something serves, and says where we are.
    ///
    /// # Errors
    /// A sentence: there is no reason to run.
    fn begin_service(&mut self) -> Result<(), String> {
        self.check_listening()?;
        // Not before: a second fpmd that finds every socket taken leaves the file of the first.
        self.pid_files.adopt(&self.global).map_err(|error| error.to_string())
    }

    /// One pool that cannot open its sockets is that pool's trouble, and it tries again. If none of them can at start, then
    /// whoever started us had better know: why, a line for each.
    fn check_listening(&self) -> Result<(), String> {
        let mut reasons = Vec::new();
        for view in self.supervisor.pools() {
            if self.listeners.all(&view.name).next().is_some() {
                return Ok(());
            }
            let unknown = || format!("cannot start pool {}: it does not listen", view.name);
            reasons.push(view.reason.clone().unwrap_or_else(unknown));
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("\n")) }
    }

    /// Whether the first configuration is in force and was told of.
    pub(super) fn is_serving(&self) -> bool {
        self.starting.is_none()
    }

    fn first_address(&self) -> Option<String> {
        let view = self.supervisor.pools().next()?;
        self.listeners.all(&view.name).next().map(ToString::to_string)
    }

    /// Whether all is done and said.
    fn is_over(&mut self) -> bool {
        match self.farewell {
            Farewell::NotYet => false,
            Farewell::Said => true,
            Farewell::Due => {
                if !self.is_anyone_left() {
                    return true;
                }
                let deadline = clock::monotonic().after(FAREWELL);
                self.timers.set(Timer::Farewell, Some(deadline));
                self.farewell = Farewell::Sending;
                false
            }
            Farewell::Sending => !self.is_anyone_left(),
        }
    }

    /// Whether a reply is still on its way, or a gateway that ends.
    fn is_anyone_left(&self) -> bool {
        self.control.is_sending() || self.gateways.is_anyone_left()
    }

    /// Opens all log files again, ours and those that gateways write. Says itself what came of it.
    ///
    /// # Errors
    /// The same, for whoever asked.
    pub(super) fn reopen_logs(&mut self) -> Result<(), String> {
        let own = log::reopen().map_err(|error| error.to_string());
        let theirs = self.gateways.reopen_logs();
        if let Err(refusals) = &theirs {
            refusals.lines().for_each(|refusal| ::log::error!("{refusal}"));
        }
        let refusals: Vec<String> = [own, theirs].into_iter().filter_map(Result::err).collect();
        if refusals.is_empty() { Ok(()) } else { Err(refusals.join("\n")) }
    }
}

/// How far the end of the daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// It serves.
    NotYet,
    /// Every pool has stopped.
    Due,
    /// Final replies are on their way to control clients.
    Sending,
    /// Done, or their time is up.
    Said,
}

/// The signals that the master listens to, by the numbers that signal-hook gives back.
pub(super) mod signals {
    pub use signal_hook::consts::signal::{
        SIGCHLD as CHLD, SIGHUP as HUP, SIGINT as INT, SIGQUIT as QUIT, SIGTERM as TERM, SIGUSR1 as USR1,
        SIGUSR2 as USR2,
    };

    /// All of them.
    pub const ALL: [i32; 7] = [CHLD, HUP, INT, QUIT, TERM, USR1, USR2];
}
