//! Random scripts: against the simulated master, where every answer comes, and bare, where events come in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::ids::{ExitStatus, Generation, Moment, Pid, Signal, Ticket, WorkerId};
use crate::policy::{Mode, Wear};
use crate::status::snapshot::Activity;
use crate::supervise::action::Action;
use crate::supervise::event::{Event, Intake, Load, News, PoolCommand, PoolPlan, Readiness, WorkerCommand};
use crate::supervise::{PoolState, Supervisor, WorkerState};

use super::master::{KILLED, Master, Program, bounds, millis, name, plan, secs};

const POOLS: [&str; 2] = ["www", "api"];
const MOST: u32 = 4;

/// What an administrator, a program or chance may do next.
#[derive(Debug, Clone)]
enum Step {
    Configure {
        plan: PoolPlan,
    },
    Amend {
        plan: PoolPlan,
    },
    Queue {
        pool: usize,
        queued: u32,
    },
    ProcessMax {
        most: Option<u32>,
    },
    Remove {
        pool: usize,
    },
    Command {
        pool: usize,
        command: PoolCommand,
    },
    Worker {
        index: usize,
        command: WorkerCommand,
    },
    Crash {
        index: usize,
        code: i32,
    },
    Program {
        pool: usize,
        program: Program,
    },
    Activity {
        all: bool,
        activity: Activity,
    },
    Sockets {
        pool: usize,
        broken: bool,
    },
    Wait {
        millis: u64,
    },
    /// fpmd is exchanged in place.
    Upgrade,
}

fn any_activity() -> impl Strategy<Value = Activity> {
    prop::sample::select(vec![Activity::Idle, Activity::Busy, Activity::Waiting, Activity::Unknown])
}

fn any_program() -> impl Strategy<Value = Program> {
    prop_oneof![
        4 => Just(Program::Serves),
        1 => Just(Program::Stubborn),
        1 => Just(Program::CannotFork),
        1 => Just(Program::CannotExecute("cannot execute '/x': Permission denied")),
        1 => Just(Program::HangsBeforeExec),
        1 => Just(Program::Stuck),
        2 => (1u64..15_000).prop_map(|span| Program::Slow(millis(span))),
        2 => (1u64..20_000, 0i32..2).prop_map(|(age, code)| Program::Ends(millis(age), ExitStatus::Code(code))),
    ]
}

fn any_command() -> impl Strategy<Value = PoolCommand> {
    prop_oneof![
        Just(PoolCommand::Start),
        Just(PoolCommand::Stop),
        Just(PoolCommand::Restart),
        (0..=MOST).prop_map(PoolCommand::Scale),
    ]
}

fn any_worker_command() -> impl Strategy<Value = WorkerCommand> {
    prop::sample::select(vec![
        WorkerCommand::Drain,
        WorkerCommand::Kill,
        WorkerCommand::Recycle(Wear::Requests),
        WorkerCommand::Recycle(Wear::Memory),
        WorkerCommand::Terminate,
    ])
}

/// A reload may change all of it but whether there is a gateway, which the master refuses for a pool that runs.
fn any_plan(least: u32) -> impl Strategy<Value = PoolPlan> {
    (prop::sample::select(POOLS.to_vec()), least..=MOST, 0..3).prop_map(|(pool, children, mode)| {
        let intake = if pool == "www" { Intake::Gateway } else { Intake::Shared };
        let most = children.max(1);
        let mode = match mode {
            0 => Mode::Static,
            1 => Mode::Ondemand,
            _ => Mode::Dynamic { start_servers: most.min(2), min_spare: 1, max_spare: most.min(3) },
        };
        let warms = intake == Intake::Gateway && children.is_multiple_of(3);
        let readiness = if warms { Readiness::Warmed } else { Readiness::Seen };
        PoolPlan { intake, readiness, bounds: bounds(mode, children), ..plan(pool, children) }
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let pool = 0..POOLS.len();
    prop_oneof![
        3 => any_plan(1).prop_map(|plan| Step::Configure { plan }),
        1 => any_plan(1).prop_map(|plan| Step::Amend { plan }),
        4 => (pool.clone(), 0..2 * MOST).prop_map(|(pool, queued)| Step::Queue { pool, queued }),
        1 => prop::option::of(1..3 * MOST).prop_map(|most| Step::ProcessMax { most }),
        1 => pool.clone().prop_map(|pool| Step::Remove { pool }),
        4 => (pool.clone(), any_command()).prop_map(|(pool, command)| Step::Command { pool, command }),
        3 => (0usize..40, any_worker_command()).prop_map(|(index, command)| Step::Worker { index, command }),
        3 => (0usize..40, 0i32..2).prop_map(|(index, code)| Step::Crash { index, code }),
        2 => (pool.clone(), any_program()).prop_map(|(pool, program)| Step::Program { pool, program }),
        3 => (any::<bool>(), any_activity()).prop_map(|(all, activity)| Step::Activity { all, activity }),
        1 => (pool, any::<bool>()).prop_map(|(pool, broken)| Step::Sockets { pool, broken }),
        6 => (0u64..40_000).prop_map(|millis| Step::Wait { millis }),
        2 => Just(Step::Upgrade),
    ]
}

fn take(master: &mut Master, step: &Step, ticket: u64) {
    let workers: Vec<WorkerId> = master.processes.keys().copied().collect();
    let pick = |index: usize| workers.get(index % workers.len().max(1)).copied();
    match step.clone() {
        Step::Configure { plan } => master.configure(vec![plan], Some(ticket)),
        Step::Amend { plan } => master.amend(vec![plan], Some(ticket)),
        Step::Queue { pool, queued } => master.queue(POOLS[pool], queued),
        Step::ProcessMax { most } => master.send(Event::ProcessMax { most }),
        Step::Remove { pool } => master.send(Event::Configure {
            plans: Vec::new(),
            amended: Vec::new(),
            removed: vec![name(POOLS[pool])],
            ticket: Some(Ticket(ticket)),
        }),
        Step::Command { pool, command } => master.command(POOLS[pool], command, ticket),
        Step::Worker { index, command } => {
            let worker = pick(index).unwrap_or(WorkerId(0));
            master.command_worker(worker, command, ticket);
        }
        Step::Crash { index, code } => {
            if let Some(worker) = pick(index) {
                master.end(worker, ExitStatus::Code(code));
            }
        }
        Step::Program { pool, program } => {
            (1..50).for_each(|generation| master.program(POOLS[pool], generation, program.clone()));
        }
        Step::Activity { all, activity } => {
            master.activity = activity;
            if all {
                master.everyone_is(activity);
            }
        }
        Step::Sockets { pool, broken: true } => {
            master.cannot_listen.insert(POOLS[pool].to_owned(), "cannot bind".to_owned());
        }
        Step::Sockets { pool, broken: false } => {
            master.cannot_listen.remove(POOLS[pool]);
        }
        Step::Wait { millis: span } => master.run(millis(span)),
        Step::Upgrade => master.upgrade(),
    }
}

fn asks(step: &Step) -> bool {
    match step {
        Step::Configure { .. }
        | Step::Amend { .. }
        | Step::Remove { .. }
        | Step::Command { .. }
        | Step::Worker { .. } => true,
        Step::Queue { .. }
        | Step::ProcessMax { .. }
        | Step::Crash { .. }
        | Step::Program { .. }
        | Step::Activity { .. }
        | Step::Sockets { .. }
        | Step::Wait { .. }
        | Step::Upgrade => false,
    }
}

fn script() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn numbers_are_bounded_and_what_is_shown_is_what_is_there(steps in script(), at_once in any::<bool>()) {
        let mut master = Master::new();
        master.answers_at_once = at_once;
        for (ticket, step) in steps.iter().enumerate() {
            take(&mut master, step, ticket as u64);
            master.check_views();
            for pool in POOLS {
                // Twice as many as wanted, and twice as many again of the next generation.
                let alive = master.alive(pool).iter().filter(|id| !master.processes[id].is_stuck()).count();
                prop_assert!(alive <= 4 * MOST as usize, "{}", alive);
            }
        }
        prop_assert_eq!(master.logged("cannot be"), 0);
    }

    #[test]
    fn a_pool_left_alone_with_a_good_program_gets_well(steps in script(), at_once in any::<bool>()) {
        let mut master = Master::new();
        master.answers_at_once = at_once;
        for (ticket, step) in steps.iter().enumerate() {
            take(&mut master, step, ticket as u64);
        }
        master.programs.clear();
        master.cannot_listen.clear();
        master.activity = Activity::Idle;
        master.everyone_is(Activity::Idle);
        POOLS.iter().for_each(|pool| master.queue(pool, 0));
        master.send(Event::ProcessMax { most: None });
        master.run(secs(200));
        let views: Vec<_> = master.supervisor.pools().collect();
        for view in views {
            let alive = view.workers.iter().filter(|worker| worker.state != WorkerState::Killed).count();
            match view.state {
                PoolState::Running => {
                    let (least, most) = match view.mode {
                        Mode::Static => (view.children, view.children),
                        Mode::Ondemand => (0, 0),
                        Mode::Dynamic { min_spare, max_spare, .. } => (min_spare, max_spare),
                    };
                    prop_assert!((least as usize..=most as usize).contains(&alive), "{} of {}", alive, view.children);
                }
                PoolState::Stopped => prop_assert_eq!(alive, 0),
                state => prop_assert!(false, "pool {} is {}", view.name, state),
            }
        }
        prop_assert_eq!(master.supervisor.next_deadline(), None);
        for (ticket, step) in steps.iter().enumerate() {
            prop_assert_eq!(master.answer(ticket as u64).is_some(), asks(step), "ticket {} of {:?}", ticket, step);
        }
    }

    #[test]
    fn a_stop_always_ends_and_leaves_nothing(steps in script(), at_once in any::<bool>(), twice in any::<bool>()) {
        let mut master = Master::new();
        master.answers_at_once = at_once;
        for (ticket, step) in steps.iter().enumerate() {
            take(&mut master, step, ticket as u64);
        }
        master.stop(1000);
        if twice {
            master.run(secs(1));
            master.stop(1001);
            prop_assert!(master.exited || !master.processes.values().all(|process| !process.alive));
        }
        master.run(secs(30 + 5 + 10));
        prop_assert!(master.exited);
        prop_assert!(master.processes.values().all(|process| !process.alive || process.is_stuck()));
        prop_assert!(master.open.is_empty());
        prop_assert_eq!(master.supervisor.next_deadline(), None);
        prop_assert!(master.answer(1000).unwrap().is_ok());
        for (ticket, step) in steps.iter().enumerate() {
            prop_assert_eq!(master.answer(ticket as u64).is_some(), asks(step), "ticket {} of {:?}", ticket, step);
        }
    }

    #[test]
    fn counters_add_up(steps in script(), at_once in any::<bool>()) {
        let mut master = Master::new();
        master.answers_at_once = at_once;
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Remove { .. }));
        for (ticket, step) in steps.enumerate() {
            take(&mut master, &step, ticket as u64);
        }
        for view in master.supervisor.pools() {
            let counters = view.counters;
            let ended = counters.recycled + counters.crashed + counters.killed;
            let there = |process: &&super::master::Process| process.pool == view.name;
            let made = master.processes.values().filter(there).count() as u64;
            prop_assert!(ended + counters.start_failures <= master.starts() as u64);
            prop_assert!(counters.started <= made);
            prop_assert!(ended <= made);
        }
    }

    #[test]
    fn no_order_of_events_is_too_much(events in prop::collection::vec(any_event(), 1..200)) {
        let mut supervisor = Supervisor::new(Moment(secs(0)));
        let mut configured = BTreeSet::new();
        let mut now = Moment(secs(0));
        for (event, wait) in events {
            now = now.after(millis(wait));
            if let Event::Configure { plans, amended, .. } = &event {
                configured.extend(plans.iter().chain(amended).map(|plan| plan.name.clone()));
            }
            supervisor.handle(now, event);
            for _ in 0..1000 {
                let Some(action) = supervisor.next_action() else { break };
                if let Some(pool) = pool_of(&action) {
                    prop_assert!(configured.contains(pool), "{:?}", action);
                }
            }
            prop_assert_eq!(supervisor.next_action(), None);
            for view in supervisor.pools() {
                prop_assert!(view.workers.iter().all(|worker| supervisor.pid_of(worker.id) == Some(worker.pid)));
            }
            supervisor.next_deadline();
        }
    }
}

fn pool_of(action: &Action) -> Option<&crate::ids::PoolName> {
    match action {
        Action::Listen { pool, .. }
        | Action::Amend { pool, .. }
        | Action::CloseListeners { pool }
        | Action::Survey { pool }
        | Action::Release { pool, .. }
        | Action::AwaitQueue { pool }
        | Action::Measure { pool }
        | Action::ForgetSettings { pool, .. }
        | Action::Start { pool, .. }
        | Action::CloseIntake { pool, .. }
        | Action::OpenIntake { pool }
        | Action::PassIntake { pool, .. }
        | Action::KillLeftovers { pool } => Some(pool),
        Action::Admit { .. }
        | Action::WarmUp { .. }
        | Action::Signal { .. }
        | Action::StopIfIdle { .. }
        | Action::Observe { .. }
        | Action::Log { .. }
        | Action::Progress { .. }
        | Action::Answer { .. }
        | Action::Exit => None,
    }
}

fn any_plans() -> impl Strategy<Value = Vec<PoolPlan>> {
    prop::collection::vec(any_plan(0), 0..3)
}

fn any_demand() -> impl Strategy<Value = Event> {
    let pool = || prop::sample::select(POOLS.to_vec()).prop_map(name);
    let few = || 0u32..9;
    let seen = prop::collection::vec(((0u64..12).prop_map(WorkerId), any_activity()), 0..5);
    let load = (few(), few(), few()).prop_map(|(queued, busy, least_idle)| Load { queued, busy, least_idle });
    prop_oneof![
        prop::option::of(few()).prop_map(|most| Event::ProcessMax { most }),
        (pool(), load).prop_map(|(pool, load)| Event::Demand { pool, news: News::Load(load) }),
        pool().prop_map(|pool| Event::Demand { pool, news: News::Released }),
        pool().prop_map(|pool| Event::Demand { pool, news: News::Queued }),
        (pool(), few()).prop_map(|(pool, queued)| Event::Demand { pool, news: News::Measured(queued) }),
        (pool(), few(), seen)
            .prop_map(|(pool, queued, seen)| Event::Demand { pool, news: News::Surveyed { queued, seen } }),
        (0u64..12).prop_map(|worker| Event::Holding { worker: WorkerId(worker) }),
    ]
}

fn any_event() -> impl Strategy<Value = (Event, u64)> {
    let pool = || prop::sample::select(POOLS.to_vec()).prop_map(name);
    let worker = || (0u64..12).prop_map(WorkerId);
    let generation = || (0u32..4).prop_map(Generation);
    let ticket = || prop::option::of((0u64..9).prop_map(Ticket));
    let statuses = [ExitStatus::Code(0), ExitStatus::Code(1), KILLED];
    let event = prop_oneof![
        6 => any_demand(),
        1 => (any_plans(), any_plans(), any::<bool>(), ticket()).prop_map(|(plans, amended, remove, ticket)| {
            let removed = if remove { vec![name("www")] } else { Vec::new() };
            Event::Configure { plans, amended, removed, ticket }
        }),
        1 => (pool(), generation(), any::<bool>()).prop_map(|(pool, generation, good)| {
            Event::Amended { pool, generation, result: if good { Ok(()) } else { Err("no".into()) } }
        }),
        3 => (pool(), generation()).prop_map(|(pool, generation)| Event::Listening { pool, generation }),
        1 => (pool(), generation())
            .prop_map(|(pool, generation)| Event::ListenFailed { pool, generation, reason: "no".into() }),
        3 => (worker(), 1i32..9)
            .prop_map(|(worker, pid)| Event::Forked { worker, pid: Pid::new(pid).unwrap() }),
        3 => worker().prop_map(|worker| Event::Executing { worker }),
        1 => worker().prop_map(|worker| Event::StartFailed { worker, reason: "no".into() }),
        2 => (worker(), prop::sample::select(statuses.to_vec()))
            .prop_map(|(worker, status)| Event::Exited { worker, status }),
        2 => (worker(), any_activity()).prop_map(|(worker, activity)| Event::Observed { worker, activity }),
        1 => (worker(), any::<bool>()).prop_map(|(worker, good)| {
            Event::Warmed { worker, result: if good { Ok(()) } else { Err("no".into()) } }
        }),
        1 => worker().prop_map(|worker| Event::StopSent { worker }),
        1 => worker().prop_map(|worker| Event::Drained { worker }),
        1 => pool().prop_map(|pool| Event::Demand { pool, news: News::Works }),
        1 => (pool(), any_command(), ticket())
            .prop_map(|(pool, command, ticket)| Event::Pool { pool, command, ticket }),
        1 => (worker(), any_worker_command(), ticket())
            .prop_map(|(worker, command, ticket)| Event::Worker { worker, command, ticket }),
        1 => ticket().prop_map(|ticket| Event::Stop { ticket }),
        2 => Just(Event::Deadline),
    ];
    (event, prop::sample::select(vec![0, 1, 10, 100, 1000, 31_000]))
}

#[test]
fn a_signal_is_never_sent_to_a_worker_that_is_at_work_unless_its_time_is_up() {
    let mut master = Master::with_www(3);
    master.everyone_is(Activity::Busy);
    master.command("www", PoolCommand::Restart, 1);
    master.command("www", PoolCommand::Scale(1), 2);
    master.run(secs(29));
    let term = |action: &&Action| matches!(action, Action::Signal { signal: Signal::TERM, .. });
    assert_eq!(master.actions.iter().filter(term).count(), 0);
    assert!(master.alive_of("www", 1).iter().all(|worker| !master.processes[worker].signalled));
}
