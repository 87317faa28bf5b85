//! Pools with a gateway: who is admitted when, and what the gateway's word does to a worker.

use crate::ids::{Signal, WorkerId};
use crate::policy::{Lifetime, Wear};
use crate::status::snapshot::Activity;
use crate::supervise::WorkerState;
use crate::supervise::action::Action;
use crate::supervise::event::{Event, Intake, PoolCommand, PoolPlan, WorkerCommand};

use super::master::{Master, Program, millis, name, plan, secs};

fn gateway_plan(children: u32) -> PoolPlan {
    PoolPlan { intake: Intake::Gateway, ..plan("www", children) }
}

fn with_gateway(children: u32) -> Master {
    let mut master = Master::new();
    master.configure(vec![gateway_plan(children)], None);
    master.run(secs(60));
    master
}

fn tell(master: &mut Master, worker: u64, command: WorkerCommand) {
    master.send(Event::Worker { worker: WorkerId(worker), command, ticket: None });
}

fn state(master: &Master, worker: u64) -> Option<WorkerState> {
    let view = master.view("www");
    view.workers.iter().find(|view| view.id == WorkerId(worker)).map(|view| view.state)
}

#[test]
fn a_worker_is_admitted_when_it_is_ready_and_not_before() {
    let mut master = Master::new();
    master.activity = Activity::Busy;
    master.configure(vec![gateway_plan(2)], None);
    master.run(secs(1));
    assert!(!master.processes[&WorkerId(1)].admitted);
    master.everyone_is(Activity::Idle);
    master.run(millis(100));
    assert!(master.processes.values().all(|process| process.admitted));
    assert_eq!(state(&master, 1), Some(WorkerState::Running));
}

#[test]
fn a_worker_that_cannot_be_seen_is_admitted_after_start_timeout() {
    let mut master = Master::new();
    master.activity = Activity::Unknown;
    master.configure(vec![gateway_plan(1)], None);
    master.run(secs(9));
    assert!(!master.processes[&WorkerId(1)].admitted);
    master.run(secs(2));
    assert!(master.processes[&WorkerId(1)].admitted);
}

#[test]
fn without_a_gateway_nobody_is_admitted() {
    let master = Master::with_www(2);
    assert!(master.processes.values().all(|process| !process.admitted));
}

#[test]
fn a_terminated_worker_is_replaced_at_once_and_killed_a_second_later() {
    let mut master = with_gateway(2);
    master.everyone_is(Activity::Busy);
    master.programs.insert(("www".to_owned(), 1), Program::Stubborn);
    tell(&mut master, 1, WorkerCommand::Kill);
    master.run(secs(1));
    let stubborn = *master.alive("www").last().unwrap();
    let before = master.starts();
    tell(&mut master, stubborn.0, WorkerCommand::Terminate);
    assert_eq!(master.starts(), before + 1, "its replacement does not wait for its end");
    assert!(master.position(&Action::Signal { worker: stubborn, signal: Signal::TERM }).is_some());
    master.run(millis(900));
    let kill = Action::Signal { worker: stubborn, signal: Signal::KILL };
    assert_eq!(master.position(&kill), None);
    master.run(millis(200));
    assert!(master.position(&kill).is_some());
    assert_eq!(master.logged("still there 1s after SIGTERM, sending SIGKILL"), 1);
    assert_eq!(master.alive("www").len(), 2);
    assert_eq!(master.view("www").counters.crashed, 0);
}

#[test]
fn a_worn_worker_goes_when_its_replacement_serves() {
    let mut master = with_gateway(2);
    master.activity = Activity::Busy;
    tell(&mut master, 1, WorkerCommand::Recycle(Wear::Requests));
    master.run(secs(1));
    let ask = Action::StopIfIdle { worker: WorkerId(1), signal: Signal::TERM };
    assert_eq!(master.position(&ask), None, "the new one still loads");
    master.everyone_is(Activity::Idle);
    master.run(secs(1));
    assert!(master.position(&ask).is_some());
    assert_eq!(master.alive("www").len(), 2);
    assert_eq!(master.view("www").counters.recycled, 1);
}

#[test]
fn many_worn_workers_at_once_all_go() {
    let mut master = with_gateway(2);
    for worker in [1, 2] {
        tell(&mut master, worker, WorkerCommand::Recycle(Wear::Requests));
    }
    master.run(secs(1));
    let third = master.alive("www")[0];
    tell(&mut master, third.0, WorkerCommand::Recycle(Wear::Requests));
    master.run(secs(2));
    assert_eq!(master.alive("www").len(), 2);
    assert_eq!(master.view("www").counters.recycled, 3);
}

#[test]
fn a_replacement_that_is_worn_before_the_others_are_up_holds_nobody_back() {
    let mut master = with_gateway(3);
    master.activity = Activity::Busy;
    for id in [1, 2, 3] {
        tell(&mut master, id, WorkerCommand::Recycle(Wear::Requests));
    }
    master.run(millis(100));
    assert_eq!(master.alive("www").len(), 6, "three replacements load");
    // Each is up before the next one is.
    for id in [4, 5, 6] {
        master.processes.get_mut(&WorkerId(id)).unwrap().activity = Activity::Idle;
        master.run(secs(1));
        if id == 4 {
            tell(&mut master, id, WorkerCommand::Recycle(Wear::Memory));
        }
    }
    master.everyone_is(Activity::Idle);
    master.activity = Activity::Idle;
    master.run(secs(60));
    let serve = |id: &WorkerId| state(&master, id.0) == Some(WorkerState::Running);
    assert_eq!(master.alive("www").iter().filter(|id| serve(id)).count(), 3, "{:?}", master.view("www"));
    assert_eq!(master.alive("www").len(), 3);
}

#[test]
fn a_drained_worker_is_asked_at_once() {
    let mut master = with_gateway(1);
    master.everyone_is(Activity::Busy);
    master.command("www", PoolCommand::Restart, 1);
    master.run(secs(5));
    assert_eq!(master.alive_of("www", 1).len(), 1);
    master.everyone_is(Activity::Idle);
    master.send(Event::Drained { worker: WorkerId(1) });
    assert_eq!(master.alive_of("www", 1), []);
    assert!(master.answer(1).is_some_and(|answer| answer.is_ok()));
    master.send(Event::Drained { worker: WorkerId(1) });
}

#[test]
fn a_pool_that_stops_closes_its_intake_before_it_drains() {
    let mut master = with_gateway(2);
    master.command("www", PoolCommand::Stop, 1);
    let closed = master.position(&Action::CloseIntake { pool: name("www"), within: secs(15) });
    let asked = master.position(&Action::StopIfIdle { worker: WorkerId(1), signal: Signal::TERM });
    assert!(closed.is_some() && closed < asked);
}

#[test]
fn surplus_workers_drain_without_a_search() {
    let mut master = with_gateway(4);
    master.everyone_is(Activity::Busy);
    master.command("www", PoolCommand::Scale(2), 1);
    master.run(secs(1));
    for worker in [3, 4] {
        assert_eq!(state(&master, worker), Some(WorkerState::Draining));
    }
    for worker in [1, 2] {
        let ask = Action::StopIfIdle { worker: WorkerId(worker), signal: Signal::TERM };
        assert_eq!(master.position(&ask), None, "a drained worker gets no more requests");
    }
}

fn with_lifetime(children: u32, least: u64, jitter: u64) -> Master {
    let max_lifetime = Some(Lifetime { least: secs(least), jitter: secs(jitter) });
    let mut master = Master::new();
    master.configure(vec![PoolPlan { max_lifetime, ..gateway_plan(children) }], None);
    master
}

#[test]
fn lives_end_and_others_begin() {
    let mut master = with_lifetime(4, 100, 10);
    master.run(secs(99));
    assert_eq!((master.starts(), master.view("www").counters.outlived), (4, 0));
    master.run(secs(13));
    let view = master.view("www");
    assert_eq!((master.starts(), view.counters.outlived, view.counters.recycled), (8, 4, 4));
    assert_eq!(master.alive("www").len(), 4);
}

#[test]
fn an_eighth_of_a_pool_is_replaced_at_once() {
    let mut master = with_lifetime(16, 100, 0);
    master.run(secs(50));
    // New ones are never ready.
    master.activity = Activity::Busy;
    master.run(secs(55));
    assert_eq!(master.starts(), 18);
    assert_eq!(master.alive_of("www", 1).len(), 18, "nobody has gone: no replacement serves");
    master.everyone_is(Activity::Idle);
    master.activity = Activity::Idle;
    master.run(secs(20));
    assert_eq!(master.view("www").counters.outlived, 16);
    assert_eq!((master.starts(), master.alive("www").len()), (32, 16));
}

#[test]
fn a_worn_worker_leaves_when_it_is_idle_however_long_that_takes() {
    let mut master = with_gateway(2);
    master.processes.get_mut(&WorkerId(1)).unwrap().activity = Activity::Busy;
    tell(&mut master, 1, WorkerCommand::Recycle(Wear::Memory));
    master.run(secs(3600));
    assert_eq!(state(&master, 1), Some(WorkerState::Draining));
    assert_eq!(master.alive("www").len(), 3);
    // One whose pool stops has stop_timeout.
    master.command("www", PoolCommand::Stop, 1);
    master.run(secs(31));
    assert_eq!(master.logged("still busy after 30s, sending SIGTERM all the same"), 1);
    assert!(master.alive("www").is_empty());
}

#[test]
fn a_stranded_worker_has_stop_timeout() {
    let mut master = with_gateway(2);
    for id in [1, 2] {
        master.processes.get_mut(&WorkerId(id)).unwrap().activity = Activity::Busy;
    }
    tell(&mut master, 1, WorkerCommand::Recycle(Wear::Stranded));
    // One that leaves already, in its own time, has no more of it than that.
    tell(&mut master, 2, WorkerCommand::Recycle(Wear::Memory));
    master.run(secs(10));
    tell(&mut master, 2, WorkerCommand::Recycle(Wear::Stranded));
    assert_eq!(master.alive("www").len(), 4);
    master.run(secs(21));
    assert_eq!(master.alive("www").len(), 3);
    master.run(secs(10));
    assert_eq!(master.alive("www").len(), 2);
    assert_eq!(master.logged("still busy after 30s, sending SIGTERM all the same"), 2);
    assert_eq!(master.view("www").counters.recycled, 2);
}

#[test]
fn nobody_is_recycled_while_a_reload_replaces_everybody() {
    let mut master = with_gateway(2);
    master.activity = Activity::Busy;
    master.command("www", PoolCommand::Restart, 1);
    tell(&mut master, 1, WorkerCommand::Recycle(Wear::Memory));
    master.run(secs(1));
    assert_eq!(master.alive_of("www", 1).len(), 2);
    master.everyone_is(Activity::Idle);
    master.run(secs(5));
    assert_eq!((master.alive("www").len(), master.view("www").counters.overweight), (2, 0));
}
