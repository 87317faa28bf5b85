//! One worker: what its process is (as far as the master has said) and what its duty is (as the pool has decided).
//! Owns both states and their transitions; what follows for the pool is decided in the files beside this one.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ExitStatus, Generation, Moment, Pid, Signal, WorkerId};
use crate::policy::{Heed, Wear, seen_ready};
use crate::status::snapshot::Activity;

use super::action::Action;
use super::effects::{Effects, JobId};
use super::event::PoolPlan;
use super::watch::Watch;

/// How long SIGKILL may take. A process that waits in the kernel (a dead NFS server, a broken disk) does not end before
/// that wait does; nothing may wait for it.
const UNTIL_STUCK: Duration = Duration::from_secs(10);

/// Settings under their number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Edition {
    pub(super) generation: Generation,
    pub(super) plan: PoolPlan,
}

/// How far its start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Process {
    /// `Action::Start` is on its way.
    Requested,
    /// It exists.
    Forked { pid: Pid, since: Moment },
    /// It runs the program.
    Executing { pid: Pid, since: Moment },
    /// It exists, will never run the program, and that failure has been counted; its end follows.
    Unstarted { pid: Pid, since: Moment },
}

/// What the pool wants of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Duty {
    /// Serve; somebody waits until it is seen to do so.
    Joining(Watch),
    /// Serve.
    Serving,
    /// Serve until its replacement does.
    Retiring,
    /// End as soon as it is seen idle.
    Draining(Watch),
    /// End: the signal has been sent.
    Stopping { signal: Signal, grace: Duration, deadline: Moment },
    /// End: SIGKILL has been sent, or will be as soon as there is a process; nobody waits for it after the deadline.
    Killed { deadline: Option<Moment> },
}

/// What a worker's deadline turned out to mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It was asked again.
    Nothing,
    /// It runs its program for `start_timeout` and could not be seen: taken for ready.
    Assumed,
    /// It did not come to run its program within `start_timeout`, and got SIGKILL.
    StartTimeout,
    /// It was busy for `stop_timeout` and got its stop signal all the same.
    StopTimeout,
    /// It went on after its stop signal and got SIGKILL.
    KillTimeout(Signal, Duration),
    /// It is still there long after SIGKILL: stuck in the kernel.
    Stuck,
}

/// How a worker's end is to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its start had failed; already counted.
    Unstarted,
    /// By our SIGKILL.
    Killed,
    /// After it was asked to, or while it was to leave anyway.
    Asked,
    /// As `Asked`, since it was worn.
    Worn(Wear),
    /// By itself, exit code 0.
    Clean,
    /// By itself, otherwise.
    Crashed,
}

/// Why a worker is started, which decides how loudly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Origin {
    /// One of a first set.
    Initial,
    /// In place of one that ended or leaves.
    Replacement,
}

/// One worker over its whole life.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) edition: Rc<Edition>,
    pub(super) origin: Origin,
    pub(super) requested: Moment,
    pub(super) process: Process,
    pub(super) duty: Duty,
    pub(super) seen: Option<Activity>,
    /// Why it is being replaced, if nothing is wrong with it.
    #[serde(default)]
    pub(super) wear: Option<Wear>,
    /// Since when it was seen idle, at every look; where demand is noticed from outside.
    pub(super) idle_since: Option<Moment>,
    /// What it said last, where it has ended.
    #[serde(default)]
    pub(super) last_words: Option<String>,
    /// Clients that wait for its end.
    pub(super) waiters: Vec<JobId>,
    /// `Observe` and `StopIfIdle` that are not answered yet.
    questions: u32,
}

impl Worker {
    pub(super) fn new(
        id: WorkerId,
        edition: Rc<Edition>,
        origin: Origin,
        watched: bool,
        now: Moment,
    ) -> Worker {
        let duty = if watched { Duty::Joining(Watch::for_readiness()) } else { Duty::Serving };
        Worker {
            id,
            edition,
            origin,
            requested: now,
            process: Process::Requested,
            duty,
            seen: None,
            wear: None,
            idle_since: None,
            last_words: None,
            waiters: Vec::new(),
            questions: 0,
        }
    }

    pub(super) fn generation(&self) -> Generation {
        self.edition.generation
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        match self.process {
            Process::Requested => None,
            Process::Forked { pid, .. } | Process::Executing { pid, .. } | Process::Unstarted { pid, .. } => {
                Some(pid)
            }
        }
    }

    /// Since its process exists; zero before.
    pub(super) fn age(&self, now: Moment) -> Duration {
        self.since().map_or(Duration::ZERO, |since| now.since(since))
    }

    pub(super) fn since(&self) -> Option<Moment> {
        match self.process {
            Process::Requested => None,
            Process::Forked { since, .. }
            | Process::Executing { since, .. }
            | Process::Unstarted { since, .. } => Some(since),
        }
    }

    pub(super) fn is_executing(&self) -> bool {
        matches!(self.process, Process::Executing { .. })
    }

    /// Whether it was told, or is about to be told, to end.
    pub(super) fn is_leaving(&self) -> bool {
        match self.duty {
            Duty::Draining(_) | Duty::Stopping { .. } | Duty::Killed { .. } => true,
            Duty::Joining(_) | Duty::Serving | Duty::Retiring => false,
        }
    }

    /// The process exists. `false` if that cannot be.
    pub(super) fn forked(&mut self, now: Moment, pid: Pid, out: &mut Effects) -> bool {
        if self.process != Process::Requested {
            return false;
        }
        self.process = Process::Forked { pid, since: now };
        match &mut self.duty {
            Duty::Joining(watch) => watch.deadline = Some(now.after(self.edition.plan.start_timeout)),
            Duty::Killed { .. } => self.send_kill(now, out),
            Duty::Serving | Duty::Retiring | Duty::Draining(_) | Duty::Stopping { .. } => {}
        }
        true
    }

    /// The program runs. `false` if that cannot be.
    pub(super) fn executing(&mut self, now: Moment, out: &mut Effects) -> bool {
        let Process::Forked { pid, since } = self.process else { return false };
        self.process = Process::Executing { pid, since };
        match &mut self.duty {
            Duty::Joining(_) if self.edition.warms() => out.push(Action::WarmUp { worker: self.id }),
            Duty::Joining(watch) => watch.look_later(now),
            Duty::Draining(_) => self.ask_to_stop(out),
            Duty::Serving | Duty::Retiring | Duty::Stopping { .. } | Duty::Killed { .. } => {}
        }
        true
    }

    /// Its start failed after the fork. `false` if that cannot be.
    pub(super) fn unstarted(&mut self) -> bool {
        let Process::Forked { pid, since } = self.process else { return false };
        self.process = Process::Unstarted { pid, since };
        true
    }

    /// An answer to a question. `false` if none was asked.
    pub(super) fn answered(&mut self) -> bool {
        let asked = self.questions > 0;
        self.questions = self.questions.saturating_sub(1);
        asked
    }

    /// It was seen; `true` if it has just become ready.
    pub(super) fn observed(&mut self, now: Moment, activity: Activity) -> bool {
        self.seen = Some(activity);
        let age = self.age(now);
        match &mut self.duty {
            Duty::Joining(_) if seen_ready(activity, age) => {
                self.duty = Duty::Serving;
                return true;
            }
            Duty::Joining(watch) | Duty::Draining(watch) => watch.look_later(now),
            Duty::Serving | Duty::Retiring | Duty::Stopping { .. } | Duty::Killed { .. } => {}
        }
        false
    }

    /// It has one short request after the other. Another moment may be a better one to meet it idle: it is one of so many
    /// that are waited for. Where each request finds the next one waiting there is none, and one that finishes what it has
    /// gets its signal without; `true` then.
    pub(super) fn restless(&mut self, now: Moment, workers: u32, out: &mut Effects) -> bool {
        let Duty::Draining(watch) = &mut self.duty else { return false };
        watch.hurry(now, workers);
        let is_enough = watch.is_in_vain(now) && self.edition.plan.heed == Heed::Finishes;
        if is_enough {
            self.ask_at_once(now, out);
        }
        is_enough
    }

    /// `StopIfIdle` found it idle: its stop signal has been sent.
    pub(super) fn stop_sent(&mut self, now: Moment) {
        match self.duty {
            Duty::Joining(_) | Duty::Serving | Duty::Retiring | Duty::Draining(_) => {
                if matches!(self.duty, Duty::Serving) && self.edition.follows_demand() {
                    self.wear = Some(Wear::Idle);
                }
                self.duty = self.stopping(now);
            }
            // Overtaken by the deadline or by a command.
            Duty::Stopping { .. } | Duty::Killed { .. } => {}
        }
    }

    /// SIGKILL, at once or as soon as there is a process.
    pub(super) fn kill(&mut self, now: Moment, out: &mut Effects) {
        if matches!(self.duty, Duty::Killed { .. }) {
            return;
        }
        self.duty = Duty::Killed { deadline: None };
        if self.process != Process::Requested {
            self.send_kill(now, out);
        }
    }

    /// Asks once whether it is idle and has it stopped if so.
    pub(super) fn ask_to_stop(&mut self, out: &mut Effects) {
        self.questions += 1;
        out.push(Action::StopIfIdle { worker: self.id, signal: self.edition.plan.stop_signal });
    }

    /// When it has to be looked at again.
    pub(super) fn due(&self) -> Option<Moment> {
        match &self.duty {
            Duty::Joining(watch) | Duty::Draining(watch) => watch.due(),
            Duty::Stopping { deadline, .. } => Some(*deadline),
            Duty::Serving | Duty::Retiring => self.start_deadline(),
            Duty::Killed { deadline } => *deadline,
        }
    }

    /// Its moment has come.
    pub(super) fn on_due(&mut self, now: Moment, out: &mut Effects) -> Due {
        let executing = self.is_executing();
        let warms = self.edition.warms();
        let hangs = self.start_deadline().is_some_and(|end| end <= now);
        match &mut self.duty {
            Duty::Joining(watch) if watch.is_over(now) && executing && !warms => {
                self.duty = Duty::Serving;
                Due::Assumed
            }
            Duty::Joining(watch) if watch.is_over(now) => self.give_up_start(now, out),
            Duty::Joining(watch) => {
                if watch.take_look(now) {
                    self.questions += 1;
                    out.push(Action::Observe { worker: self.id });
                }
                Due::Nothing
            }
            Duty::Draining(watch) if watch.is_over(now) => self.stop_at_last(now, out),
            Duty::Draining(watch) => {
                if watch.take_look(now) {
                    self.ask_to_stop(out);
                }
                Due::Nothing
            }
            Duty::Stopping { signal, grace, deadline } if *deadline <= now => {
                let (signal, grace) = (*signal, *grace);
                self.kill(now, out);
                Due::KillTimeout(signal, grace)
            }
            Duty::Serving | Duty::Retiring if hangs => self.give_up_start(now, out),
            Duty::Killed { deadline: Some(deadline) } if *deadline <= now => {
                self.duty = Duty::Killed { deadline: None };
                Due::Stuck
            }
            Duty::Stopping { .. } | Duty::Serving | Duty::Retiring | Duty::Killed { .. } => Due::Nothing,
        }
    }

    /// How its end with this status is to be judged.
    pub(super) fn ending(&self, status: ExitStatus) -> Ending {
        if matches!(self.process, Process::Unstarted { .. }) {
            return Ending::Unstarted;
        }
        match (&self.duty, status) {
            (Duty::Killed { .. }, ExitStatus::Signal { signal, .. }) if signal == Signal::KILL => {
                Ending::Killed
            }
            (Duty::Draining(_) | Duty::Stopping { .. }, _) => self.wear.map_or(Ending::Asked, Ending::Worn),
            (Duty::Killed { .. }, _) => Ending::Asked,
            (Duty::Joining(_) | Duty::Serving | Duty::Retiring, ExitStatus::Code(0)) => Ending::Clean,
            (Duty::Joining(_) | Duty::Serving | Duty::Retiring, _) => Ending::Crashed,
        }
    }

    /// Until when its program must run, while it does not.
    fn start_deadline(&self) -> Option<Moment> {
        match self.process {
            Process::Forked { since, .. } => Some(since.after(self.edition.plan.start_timeout)),
            Process::Requested | Process::Executing { .. } | Process::Unstarted { .. } => None,
        }
    }

    fn give_up_start(&mut self, now: Moment, out: &mut Effects) -> Due {
        if !self.reject(now, out) {
            self.kill(now, out);
            self.unstarted();
        }
        Due::StartTimeout
    }

    fn send_kill(&mut self, now: Moment, out: &mut Effects) {
        self.duty = Duty::Killed { deadline: Some(now.after(UNTIL_STUCK)) };
        out.push(Action::Signal { worker: self.id, signal: Signal::KILL });
    }

    /// The stop signal, whatever it does.
    pub(super) fn ask_at_once(&mut self, now: Moment, out: &mut Effects) {
        out.push(Action::Signal { worker: self.id, signal: self.edition.plan.stop_signal });
        self.duty = self.stopping(now);
    }

    fn stopping(&self, now: Moment) -> Duty {
        let plan = &self.edition.plan;
        let grace = plan.kill_timeout;
        Duty::Stopping { signal: plan.stop_signal, grace, deadline: now.after(grace) }
    }

    fn stop_at_last(&mut self, now: Moment, out: &mut Effects) -> Due {
        if self.process == Process::Requested {
            // There is nothing yet that could be signalled; it dies when it appears.
            self.kill(now, out);
            return Due::Nothing;
        }
        self.ask_at_once(now, out);
        Due::StopTimeout
    }
}
