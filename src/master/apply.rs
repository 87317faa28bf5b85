//! Does what the supervisor wants done: the one place where its actions become system calls. Every action is answered
//! as `supervise::action` says; what fails is an event or a log line, never the end of the daemon.

use std::collections::HashSet;
use std::sync::Arc;

use super::passage::Routed;
use super::run::{Farewell, Timer};
use super::settings::Amended;
use super::workers::Worker;
use super::{Master, spawning};
use crate::config::model::Pool;
use crate::event::token::Token;
use crate::ids::{ExitStatus, Generation, Pid, PoolName, Signal, Ticket, WorkerId};
use crate::os::process::Report;
use crate::os::socket::Listener;
use crate::os::wait::Ended;
use crate::os::{clock, session, signal};
use crate::supervise::action::Action;
use crate::supervise::event::Event;
use crate::wire::control::Reply;

impl Master {
    /// Does one action; true if it was a start, which takes its time.
    pub(super) fn apply(&mut self, action: Action) -> bool {
        let is_start = matches!(action, Action::Start { .. });
        match action {
            Action::Listen { pool, generation } => self.listen(pool, generation),
            Action::Amend { pool, generation } => self.amend(pool, generation),
            Action::CloseListeners { pool } => {
                // The gateway takes in whoever has connected by now.
                self.listeners.withdraw(&pool);
                self.close_gateway(&pool);
                self.deafen(&pool);
                self.awaited.remove(&pool);
                self.listeners.close(&pool);
            }
            Action::ForgetSettings { pool, generation } => {
                let was_waiting = self.deafen(&pool);
                self.release(&pool, generation);
                if was_waiting {
                    self.await_queue(&pool);
                }
                self.spawns.remove(&(pool.clone(), generation));
                self.programs.remove(&(pool.clone(), generation));
                self.settings.forget(&pool, generation);
                self.awaited.retain(|name, awaited| (name, *awaited) != (&pool, generation));
                self.settle_dispatch(&pool);
            }
            Action::Start { pool, generation, worker } => self.start(pool, generation, worker),
            Action::Signal { worker, signal } => self.signal(worker, signal),
            Action::StopIfIdle { worker, signal } => self.stop_if_idle(worker, signal),
            Action::Observe { worker } => self.observe(worker),
            Action::WarmUp { worker } => self.warm_up(worker),
            Action::Admit { worker } => self.admit(worker),
            Action::Survey { pool } => self.survey(pool),
            Action::Release { pool, count } => self.release_workers(&pool, count),
            Action::AwaitQueue { pool } => self.await_queue(&pool),
            Action::Measure { pool } => self.measure(pool),
            Action::CloseIntake { pool, within } => self.close_intake(&pool, within),
            Action::OpenIntake { pool } => self.open_intake(&pool),
            Action::PassIntake { pool, within } => self.pass_intake(&pool, within),
            Action::KillLeftovers { pool } => self.kill_leftovers(&pool),
            Action::Log { level, text } => log::log!(level, "{text}"),
            Action::Progress { ticket, text } => self.control.tell(ticket, text),
            Action::Answer { ticket, result } => self.answer(ticket, result),
            Action::Exit => self.farewell = Farewell::Due,
        }
        is_start
    }

    fn listen(&mut self, pool: PoolName, generation: Generation) {
        let opened = match self.settings.adopt(&pool, generation) {
            Some(settings) => self.listeners.open(&settings, generation).and_then(|()| {
                self.route(&settings, generation).inspect_err(|_| self.release(&pool, generation))
            }),
            None => Err("its settings are gone".to_owned()),
        };
        let event = match opened {
            Ok(Routed::Now) => Event::Listening { pool, generation },
            Ok(Routed::Later) => {
                self.awaited.insert(pool, generation);
                return;
            }
            Err(reason) => Event::ListenFailed { pool, generation, reason },
        };
        self.supervisor.handle(clock::monotonic(), event);
    }

    fn amend(&mut self, pool: PoolName, generation: Generation) {
        let result = match self.settings.amend(&pool, generation) {
            Some(Amended { old, new }) => self.put_in_force(&new, generation).inspect_err(|_| {
                self.settings.restore(generation, Arc::clone(&old));
                if let Err(reason) = self.put_in_force(&old, generation) {
                    log::error!("[pool {pool}] cannot go back to its old settings: {reason}");
                }
            }),
            None => Err("its settings are gone".to_owned()),
        };
        self.supervisor.handle(clock::monotonic(), Event::Amended { pool, generation, result });
    }

    fn put_in_force(&mut self, settings: &Arc<Pool>, generation: Generation) -> Result<(), String> {
        self.listeners.amend(settings, generation)?;
        self.route(settings, generation).map(drop)
    }

    fn start(&mut self, pool: PoolName, generation: Generation, id: WorkerId) {
        let event = match spawning::start(self, &pool, generation, id) {
            Ok(worker) => {
                let pid = worker.pid;
                self.workers.insert(id, worker);
                self.facts_changed();
                Event::Forked { worker: id, pid }
            }
            Err(reason) => Event::StartFailed { worker: id, reason },
        };
        self.supervisor.handle(clock::monotonic(), event);
    }

    /// The worker reports how its start went.
    pub(super) fn on_report(&mut self, worker: WorkerId) {
        let event = match self.workers.report(worker) {
            Report::Pending => return,
            Report::Executing => Event::Executing { worker },
            Report::Failed(error) => Event::StartFailed { worker, reason: error.to_string() },
        };
        self.supervisor.handle(clock::monotonic(), event);
    }

    /// The worker said something on this pipe.
    pub(super) fn on_output(&mut self, token: Token) {
        if self.workers.drain(token, clock::monotonic()) {
            self.talkative.push_back(token);
        }
    }

    fn signal(&mut self, id: WorkerId, signal: Signal) {
        let Some(worker) = self.workers.get(id) else { return };
        let sent = match signal {
            // It may have children that would go on with its sockets; it leads its process group.
            Signal::KILL => signal::send_to_group(worker.pid, signal),
            _ => signal::send(worker.pid, signal),
        };
        if let Err(error) = sent {
            log::error!("[pool {}] {error}", worker.pool);
        }
    }

    /// Kills what the pool's former workers left behind: in the pool's control group, in the sessions that they led, and
    /// on the pool's sockets.
    fn kill_leftovers(&mut self, pool: &PoolName) {
        self.cgroups.kill(pool);
        let former: HashSet<Pid> = self.workers.take_former(pool).collect();
        let known: HashSet<Pid> = self.workers.pids().chain(self.gateways.pids()).collect();
        let slots = self.slots.of(pool).map(|(_, listener, _)| listener);
        let sockets: HashSet<u64> =
            self.listeners.all(pool).chain(slots).filter_map(Listener::inode).collect();
        let mut reached: HashSet<Pid> = HashSet::new();
        for _ in 0..LEFTOVER_ROUNDS {
            // With hundreds of pools that stop, a look at all processes for each would take their number squared.
            if !session::may_have_other_children(&known) {
                return;
            }
            let killed = session::kill_leftovers(&former).and_then(|mut killed| {
                killed.extend(session::kill_strays(&sockets, |pid| known.contains(&pid))?);
                Ok(killed)
            });
            match killed {
                Ok(mut killed) => {
                    // Those of the last round may not have died yet; they fork no more.
                    killed.retain(|process| reached.insert(process.pid));
                    self.strangers.name(killed.iter().map(|process| process.pid));
                    if killed.is_empty() {
                        return;
                    }
                    for process in killed {
                        log::warn!(
                            "[pool {pool}] killed leftover process {} ({})",
                            process.pid,
                            process.name
                        );
                    }
                }
                Err(error) => {
                    log::warn!("[pool {pool}] {error}");
                    return;
                }
            }
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, result: Result<String, String>) {
        if self.reload_by_signal == Some(ticket) {
            self.reload_by_signal = None;
            self.timers.set(Timer::Reload, None);
            let outcome = if result.is_ok() { "" } else { "; the reload has failed, see the log" };
            self.notifier.ready(&format!("Ready to handle connections{outcome}"));
        }
        let Some(client) = self.control.waiting_for(ticket) else { return };
        let reply = match result {
            Ok(text) => Reply::Done(text),
            Err(reason) => Reply::Refused(reason),
        };
        self.reply(client, &reply);
    }

    /// A child was reaped.
    pub(super) fn on_exit(&mut self, ended: &Ended) {
        let Ended { pid, status, usage } = *ended;
        if self.on_gateway_exit(pid, status) || self.on_trial_exit(pid, status) {
            return;
        }
        let Some(worker) = self.workers.by_pid(pid) else {
            // An orphan that became ours because fpmd is a subreaper, or PID 1.
            log::debug!("orphan {pid} {status}");
            self.strangers.reaped(pid);
            self.cgroups.sweep();
            return;
        };
        // What it said and why it did not start come first: the log and the supervisor want them in that order.
        self.on_report(worker);
        self.on_output(Token::Stdout(worker));
        self.on_output(Token::Stderr(worker));
        if let Some(text) = self.workers.last_words(worker) {
            self.supervisor.handle(clock::monotonic(), Event::LastWords { worker, text });
        }
        self.warming.remove(&worker);
        if let Some(Worker { pool, seat, .. }) = self.workers.exited(worker) {
            let is_killed = matches!(status, ExitStatus::Signal { signal: Signal::KILL, .. });
            if let Some(why) = is_killed.then(|| self.cgroups.why_killed(&pool, worker)).flatten() {
                log::warn!("[pool {pool}] child {pid} was killed by the kernel: out of memory, {why}");
            }
            self.cgroups.worker_gone(worker);
            self.gateways.note_memory(&pool, usage.max_resident);
            self.vacate(&pool, seat, worker, status);
        }
        self.supervisor.handle(clock::monotonic(), Event::Exited { worker, status });
        self.facts_changed();
    }
}

/// Processes that fork while they are killed need another round; what outlives this many is a fork bomb, for the control
/// group or the administrator.
const LEFTOVER_ROUNDS: usize = 16;
