//! A master without a system: it answers each action as the real one would, from a table of how programs behave.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::ids::{ExitStatus, Generation, Moment, Pid, PoolName, Signal, Ticket, WorkerId};
use crate::policy::{Bounds, Heed, Mode};
use crate::status::snapshot::Activity;
use crate::supervise::action::Action;
use crate::supervise::event::{Event, Intake, Load, News, PoolCommand, PoolPlan, Readiness, WorkerCommand};
use crate::supervise::{PoolState, PoolView, Supervisor, WorkerState};

/// As by `kill -9` from outside.
pub(super) const KILLED: ExitStatus = ExitStatus::Signal { signal: Signal::KILL, core: false };

/// How the workers of a generation behave.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Program {
    /// Runs until it is asked to end.
    Serves,
    /// Runs and ends by itself.
    Ends(Duration, ExitStatus),
    /// Runs and takes no notice of a stop signal.
    Stubborn,
    /// The exec fails.
    CannotExecute(&'static str),
    /// The fork fails.
    CannotFork,
    /// Runs and outlives even SIGKILL, as a process does that waits for a dead disk.
    Stuck,
    /// The exec takes this long.
    Slow(Duration),
    /// It is not heard of after the fork.
    HangsBeforeExec,
    /// Runs and answers its warm-up request after this time, so or not.
    Warms(Duration, Result<(), &'static str>),
}

#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) pool: PoolName,
    pub(super) generation: Generation,
    pub(super) activity: Activity,
    pub(super) alive: bool,
    /// Whether requests may come.
    pub(super) admitted: bool,
    /// Whether the gateway has let go of it.
    pub(super) is_let_go: bool,
    /// Whether it was sent any signal.
    pub(super) signalled: bool,
    program: Program,
}

pub(super) struct Master {
    pub(super) supervisor: Supervisor,
    pub(super) now: Moment,
    /// Everything that was asked for, log lines and ticket lines left out.
    pub(super) actions: Vec<Action>,
    pub(super) logged: Vec<(log::Level, String)>,
    pub(super) answers: Vec<(Ticket, Result<String, String>)>,
    pub(super) progress: Vec<String>,
    pub(super) processes: BTreeMap<WorkerId, Process>,
    pub(super) programs: BTreeMap<(String, u32), Program>,
    /// What new workers are seen doing.
    pub(super) activity: Activity,
    pub(super) cannot_listen: BTreeMap<String, String>,
    pub(super) open: BTreeSet<PoolName>,
    pub(super) exited: bool,
    pub(super) wakeups: usize,
    /// Whether answers come while further actions wait to be done, as they do from the real master.
    pub(super) answers_at_once: bool,
    /// Whether what gateways are asked for gets lost.
    pub(super) gateway_is_deaf: bool,
    /// Requests that wait.
    queues: BTreeMap<PoolName, u32>,
    awaited: BTreeSet<PoolName>,
    gateways: BTreeSet<PoolName>,
    known: BTreeSet<PoolName>,
    schedule: BTreeMap<(Moment, u64), Event>,
    pending: VecDeque<Event>,
    last_pid: i32,
    sequence: u64,
}

pub(super) fn name(text: &str) -> PoolName {
    PoolName::new(text).unwrap()
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn plan(pool: &str, children: u32) -> PoolPlan {
    PoolPlan {
        name: name(pool),
        bounds: bounds(Mode::Static, children),
        stop_signal: Signal::TERM,
        heed: Heed::Unknown,
        stop_timeout: secs(30),
        kill_timeout: secs(5),
        start_timeout: secs(10),
        recycles: false,
        max_lifetime: None,
        intake: Intake::Shared,
        readiness: Readiness::Seen,
    }
}

pub(super) fn bounds(mode: Mode, max_children: u32) -> Bounds {
    Bounds { mode, max_children, concurrency: 1, max_spawn_rate: 32, at_once: 8, idle_timeout: secs(10) }
}

impl Process {
    /// Whether it was sent a signal that it outlives.
    pub(super) fn is_stuck(&self) -> bool {
        self.signalled && self.program == Program::Stuck
    }
}

impl Master {
    pub(super) fn new() -> Master {
        let now = Moment(secs(1000));
        Master {
            supervisor: Supervisor::new(now),
            now,
            actions: Vec::new(),
            logged: Vec::new(),
            answers: Vec::new(),
            progress: Vec::new(),
            processes: BTreeMap::new(),
            programs: BTreeMap::new(),
            activity: Activity::Idle,
            cannot_listen: BTreeMap::new(),
            open: BTreeSet::new(),
            exited: false,
            wakeups: 0,
            answers_at_once: false,
            gateway_is_deaf: false,
            queues: BTreeMap::new(),
            awaited: BTreeSet::new(),
            gateways: BTreeSet::new(),
            known: BTreeSet::new(),
            schedule: BTreeMap::new(),
            pending: VecDeque::new(),
            last_pid: 100,
            sequence: 0,
        }
    }

    /// Goes on with a supervisor that knows what was written down of this one, as a new fpmd does.
    pub(super) fn upgrade(&mut self) {
        assert_eq!(self.supervisor.next_action(), None);
        let written = serde_json::to_string(&self.supervisor).unwrap();
        self.supervisor = serde_json::from_str(&written).unwrap();
        let again = serde_json::to_value(&self.supervisor).unwrap();
        let written: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(again, written);
    }

    /// With pool www of so many children that have run for a minute.
    pub(super) fn with_www(children: u32) -> Master {
        let mut master = Master::new();
        master.configure(vec![plan("www", children)], None);
        master.run(secs(60));
        master
    }

    pub(super) fn configure(&mut self, plans: Vec<PoolPlan>, ticket: Option<u64>) {
        let (amended, removed) = (Vec::new(), Vec::new());
        self.send(Event::Configure { plans, amended, removed, ticket: ticket.map(Ticket) });
    }

    /// As `configure`, for settings that need no new workers.
    pub(super) fn amend(&mut self, amended: Vec<PoolPlan>, ticket: Option<u64>) {
        let (plans, removed) = (Vec::new(), Vec::new());
        self.send(Event::Configure { plans, amended, removed, ticket: ticket.map(Ticket) });
    }

    pub(super) fn command(&mut self, pool: &str, command: PoolCommand, ticket: u64) {
        self.send(Event::Pool { pool: name(pool), command, ticket: Some(Ticket(ticket)) });
    }

    pub(super) fn works(&mut self, pool: &str) {
        self.send(Event::Demand { pool: name(pool), news: News::Works });
    }

    pub(super) fn command_worker(&mut self, worker: WorkerId, command: WorkerCommand, ticket: u64) {
        self.send(Event::Worker { worker, command, ticket: Some(Ticket(ticket)) });
    }

    pub(super) fn stop(&mut self, ticket: u64) {
        self.send(Event::Stop { ticket: Some(Ticket(ticket)) });
    }

    pub(super) fn program(&mut self, pool: &str, generation: u32, program: Program) {
        self.programs.insert((pool.to_owned(), generation), program);
    }

    /// Takes in one event and does what follows from it at the same moment.
    pub(super) fn send(&mut self, event: Event) {
        if let Event::Configure { plans, amended, .. } = &event {
            for plan in plans.iter().chain(amended) {
                self.known.insert(plan.name.clone());
                match plan.intake {
                    Intake::Gateway => self.gateways.insert(plan.name.clone()),
                    Intake::Shared => self.gateways.remove(&plan.name),
                };
            }
        }
        self.pending.push_back(event);
        self.pump();
    }

    /// Ends a process.
    pub(super) fn end(&mut self, worker: WorkerId, status: ExitStatus) {
        self.exit(worker, status);
        self.pump();
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        for _ in 0..200_000 {
            let deadline = self.supervisor.next_deadline();
            let scheduled = self.schedule.first_key_value().map(|((moment, _), _)| *moment);
            let Some(next) = deadline.into_iter().chain(scheduled).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if scheduled == Some(next) {
                let (_, event) = self.schedule.pop_first().unwrap();
                match event {
                    Event::Exited { worker, status } => self.exit(worker, status),
                    Event::Executing { worker } if !self.processes[&worker].alive => {}
                    event => self.pending.push_back(event),
                }
            } else {
                self.wakeups += 1;
                self.pending.push_back(Event::Deadline);
            }
            self.pump();
        }
        panic!("no end of events");
    }

    pub(super) fn view(&self, pool: &str) -> PoolView {
        self.supervisor.pools().find(|view| view.name.as_str() == pool).unwrap()
    }

    pub(super) fn state(&self, pool: &str) -> PoolState {
        self.view(pool).state
    }

    pub(super) fn alive(&self, pool: &str) -> Vec<WorkerId> {
        let here = |process: &&(&WorkerId, &Process)| process.1.alive && process.1.pool.as_str() == pool;
        self.processes.iter().filter(|process| here(&process)).map(|(worker, _)| *worker).collect()
    }

    pub(super) fn alive_of(&self, pool: &str, generation: u32) -> Vec<WorkerId> {
        let mut alive = self.alive(pool);
        alive.retain(|worker| self.processes[worker].generation == Generation(generation));
        alive
    }

    pub(super) fn everyone_is(&mut self, activity: Activity) {
        self.processes.values_mut().for_each(|process| process.activity = activity);
    }

    pub(super) fn logged(&self, part: &str) -> usize {
        self.logged.iter().filter(|(_, text)| text.contains(part)).count()
    }

    pub(super) fn logged_at(&self, level: log::Level, part: &str) -> usize {
        self.logged.iter().filter(|(at, text)| *at == level && text.contains(part)).count()
    }

    pub(super) fn answer(&self, ticket: u64) -> Option<Result<&str, &str>> {
        let mut answers = self.answers.iter().filter(|(to, _)| to.0 == ticket);
        let answer = answers.next().map(|(_, result)| result.as_deref().map_err(String::as_str));
        assert!(answers.next().is_none(), "ticket {ticket} has two answers");
        answer
    }

    pub(super) fn starts(&self) -> usize {
        self.actions.iter().filter(|action| matches!(action, Action::Start { .. })).count()
    }

    pub(super) fn position(&self, wanted: &Action) -> Option<usize> {
        self.actions.iter().position(|action| action == wanted)
    }

    /// What is shown is what is there.
    pub(super) fn check_views(&self) {
        for view in self.supervisor.pools() {
            // A stuck one is shown for as long as the pool is there that it belonged to.
            let counts = |id: &WorkerId| !self.processes[id].is_stuck();
            let shown: Vec<WorkerId> = view.workers.iter().map(|worker| worker.id).filter(counts).collect();
            let alive: Vec<WorkerId> = self.alive(view.name.as_str()).into_iter().filter(counts).collect();
            assert_eq!(shown, alive, "pool {}", view.name);
            assert!(view.workers.is_sorted_by_key(|worker| worker.id));
            for worker in &view.workers {
                assert_eq!(self.supervisor.pid_of(worker.id), Some(worker.pid));
                assert_eq!(self.supervisor.worker_by_pid(worker.pid), Some(worker.id));
                if worker.state == WorkerState::Killed {
                    assert!(self.processes[&worker.id].signalled);
                }
            }
        }
    }

    fn pump(&mut self) {
        for _ in 0..100_000 {
            if self.answers_at_once && !self.pending.is_empty() {
                let event = self.pending.pop_front().unwrap();
                self.supervisor.handle(self.now, event);
            } else if let Some(action) = self.supervisor.next_action() {
                self.act(action);
            } else if let Some(event) = self.pending.pop_front() {
                self.supervisor.handle(self.now, event);
            } else {
                return;
            }
        }
        panic!("no end of actions");
    }

    fn act(&mut self, action: Action) {
        assert!(!self.exited || matches!(action, Action::Answer { .. }), "{action:?} after Exit");
        match &action {
            Action::Log { level, text } => return self.logged.push((*level, text.clone())),
            Action::Progress { text, .. } => return self.progress.push(text.clone()),
            Action::Answer { ticket, result } => return self.answers.push((*ticket, result.clone())),
            Action::Listen { pool, generation } => self.listen(pool, *generation),
            Action::Amend { pool, generation } => {
                assert!(self.open.contains(pool), "it is amended while it serves");
                let (pool, generation) = (pool.clone(), *generation);
                let refusal = self.cannot_listen.get(pool.as_str()).cloned();
                self.pending.push_back(Event::Amended {
                    pool,
                    generation,
                    result: refusal.map_or(Ok(()), Err),
                });
            }
            Action::CloseListeners { pool } => {
                assert!(self.known.contains(pool));
                self.open.remove(pool);
            }
            Action::ForgetSettings { pool, generation } => {
                let used = |id: &WorkerId| !self.processes[id].is_stuck();
                assert!(!self.alive_of(pool.as_str(), generation.0).iter().any(used), "settings in use");
            }
            Action::KillLeftovers { pool } => assert!(self.known.contains(pool)),
            Action::Start { pool, generation, worker } => self.start(pool, *generation, *worker),
            Action::Signal { worker, signal } => self.signal(*worker, *signal),
            Action::StopIfIdle { worker, signal } => {
                let process = &self.processes[worker];
                if process.activity == Activity::Idle && process.alive {
                    self.pending.push_back(Event::StopSent { worker: *worker });
                    self.signal(*worker, *signal);
                } else {
                    self.observe(*worker);
                }
            }
            Action::Observe { worker } => self.observe(*worker),
            Action::WarmUp { worker } => self.warm_up(*worker),
            Action::Admit { worker } => {
                let process = self.processes.get_mut(worker).unwrap();
                assert!(process.alive && !process.admitted, "{worker:?} is admitted once");
                process.admitted = true;
            }
            Action::Survey { .. } | Action::Release { .. } if self.gateway_is_deaf => {}
            Action::Survey { pool } => self.survey(pool),
            Action::Release { pool, count } => self.release(pool, *count),
            Action::AwaitQueue { pool } => {
                self.awaited.insert(pool.clone());
                self.ring(pool);
            }
            Action::Measure { pool } => {
                let queued = self.queue_of(pool);
                self.pending.push_back(Event::Demand { pool: pool.clone(), news: News::Measured(queued) });
            }
            Action::CloseIntake { pool, .. }
            | Action::OpenIntake { pool }
            | Action::PassIntake { pool, .. } => assert!(self.known.contains(pool)),
            Action::Exit => self.exited = true,
        }
        self.actions.push(action);
    }

    /// So many requests wait for a worker; whoever is to learn of that does.
    pub(super) fn queue(&mut self, pool: &str, queued: u32) {
        let pool = name(pool);
        self.queues.insert(pool.clone(), queued);
        if self.gateways.contains(&pool) {
            self.survey(&pool);
        } else {
            self.ring(&pool);
        }
        self.pump();
    }

    fn queue_of(&self, pool: &PoolName) -> u32 {
        self.queues.get(pool).copied().unwrap_or(0)
    }

    /// Says that a connection waits, if it does and someone wants to know.
    fn ring(&mut self, pool: &PoolName) {
        if self.queue_of(pool) > 0 && self.awaited.remove(pool) {
            self.pending.push_back(Event::Demand { pool: pool.clone(), news: News::Queued });
        }
    }

    fn survey(&mut self, pool: &PoolName) {
        let pool = pool.clone();
        let queued = self.queue_of(&pool);
        let here = self.alive(pool.as_str());
        let event = if self.gateways.contains(&pool) {
            let serving = here.iter().map(|worker| &self.processes[worker]);
            let serving = serving.filter(|process| process.admitted && !process.is_let_go);
            let (busy, idle): (Vec<_>, Vec<_>) =
                serving.partition(|process| process.activity != Activity::Idle);
            let load = Load { queued, busy: busy.len() as u32, least_idle: idle.len() as u32 };
            Event::Demand { pool, news: News::Load(load) }
        } else {
            let seen = here.into_iter().map(|worker| (worker, self.processes[&worker].activity)).collect();
            Event::Demand { pool, news: News::Surveyed { queued, seen } }
        };
        self.pending.push_back(event);
    }

    fn release(&mut self, pool: &PoolName, count: u32) {
        assert!(self.gateways.contains(pool));
        let is_idle = |process: &Process| process.activity == Activity::Idle && process.admitted;
        let mut chosen = self.alive(pool.as_str());
        chosen.retain(|worker| is_idle(&self.processes[worker]) && !self.processes[worker].is_let_go);
        for worker in chosen.into_iter().take(count as usize) {
            self.processes.get_mut(&worker).unwrap().is_let_go = true;
            self.pending.push_back(Event::Drained { worker });
        }
        self.pending.push_back(Event::Demand { pool: pool.clone(), news: News::Released });
    }

    fn listen(&mut self, pool: &PoolName, generation: Generation) {
        assert!(self.known.contains(pool));
        let pool = pool.clone();
        match self.cannot_listen.get(pool.as_str()) {
            Some(reason) => {
                let reason = reason.clone();
                self.pending.push_back(Event::ListenFailed { pool, generation, reason });
            }
            None => {
                self.open.insert(pool.clone());
                self.pending.push_back(Event::Listening { pool, generation });
            }
        }
    }

    fn start(&mut self, pool: &PoolName, generation: Generation, worker: WorkerId) {
        assert!(self.open.contains(pool), "a worker needs a socket");
        let key = (pool.as_str().to_owned(), generation.0);
        let program = self.programs.get(&key).cloned().unwrap_or(Program::Serves);
        if program == Program::CannotFork {
            let reason = "cannot fork: Resource temporarily unavailable".to_owned();
            return self.pending.push_back(Event::StartFailed { worker, reason });
        }
        self.last_pid += 1;
        let pid = Pid::new(self.last_pid).unwrap();
        let process = Process {
            pool: pool.clone(),
            generation,
            activity: self.activity,
            alive: true,
            signalled: false,
            admitted: false,
            is_let_go: false,
            program: program.clone(),
        };
        self.processes.insert(worker, process);
        self.pending.push_back(Event::Forked { worker, pid });
        match program {
            Program::CannotExecute(reason) => {
                self.pending.push_back(Event::StartFailed { worker, reason: reason.to_owned() });
                self.exit(worker, ExitStatus::Code(127));
            }
            Program::HangsBeforeExec => {}
            Program::Warms(..) => self.pending.push_back(Event::Executing { worker }),
            Program::Serves | Program::Stubborn | Program::Stuck => {
                self.pending.push_back(Event::Executing { worker });
            }
            Program::Slow(span) => self.later(span, Event::Executing { worker }),
            Program::Ends(age, status) => {
                self.pending.push_back(Event::Executing { worker });
                self.later(age, Event::Exited { worker, status });
            }
            Program::CannotFork => unreachable!(),
        }
    }

    fn warm_up(&mut self, worker: WorkerId) {
        let (span, result) = match &self.processes[&worker].program {
            Program::Warms(span, result) => (*span, result.map_err(str::to_owned)),
            _ => (millis(1), Ok(())),
        };
        self.later(span, Event::Warmed { worker, result });
    }

    fn signal(&mut self, worker: WorkerId, signal: Signal) {
        let process = self.processes.get_mut(&worker).expect("a signal for nobody");
        process.signalled = true;
        if process.program == Program::Stuck {
            return;
        }
        if signal == Signal::KILL {
            self.exit(worker, ExitStatus::Signal { signal, core: false });
        } else if process.program != Program::Stubborn {
            self.exit(worker, ExitStatus::Code(0));
        }
    }

    fn observe(&mut self, worker: WorkerId) {
        let process = &self.processes[&worker];
        let activity = if process.alive { process.activity } else { Activity::Unknown };
        self.pending.push_back(Event::Observed { worker, activity });
    }

    fn exit(&mut self, worker: WorkerId, status: ExitStatus) {
        if let Some(process) = self.processes.get_mut(&worker).filter(|process| process.alive) {
            process.alive = false;
            self.pending.push_back(Event::Exited { worker, status });
        }
    }

    fn later(&mut self, span: Duration, event: Event) {
        self.sequence += 1;
        self.schedule.insert((self.now.after(span), self.sequence), event);
    }
}
