//! Exchanges that change how requests come to the workers: when which side opens and closes, and what a failure leaves.

use crate::ids::WorkerId;
use crate::status::snapshot::Activity;
use crate::supervise::action::Action;
use crate::supervise::event::{Event, Intake, PoolCommand, PoolPlan};
use crate::supervise::{PoolState, WorkerState};

use super::master::{Master, Program, name, plan, secs};

fn behind_gateway(children: u32) -> PoolPlan {
    PoolPlan { intake: Intake::Gateway, ..plan("www", children) }
}

fn open() -> Action {
    Action::OpenIntake { pool: name("www") }
}

fn pass() -> Action {
    Action::PassIntake { pool: name("www"), within: secs(15) }
}

fn count(master: &Master, wanted: &Action) -> usize {
    master.actions.iter().filter(|action| *action == wanted).count()
}

fn first_ask(master: &Master) -> Option<usize> {
    master.actions.iter().position(|action| matches!(action, Action::StopIfIdle { .. }))
}

#[test]
fn a_gateway_opens_when_its_workers_are_ready_and_before_an_old_one_leaves() {
    let mut master = Master::with_www(2);
    master.activity = Activity::Unknown;
    master.configure(vec![behind_gateway(2)], Some(1));
    master.run(secs(1));
    assert_eq!((count(&master, &open()), first_ask(&master)), (0, None));
    assert_eq!(master.supervisor.intake(&name("www")), Some(Intake::Shared));
    master.everyone_is(Activity::Idle);
    master.run(secs(1));
    assert!(master.position(&open()).is_some() && master.position(&open()) < first_ask(&master));
    assert_eq!((count(&master, &open()), count(&master, &pass())), (1, 0));
    assert_eq!((master.alive_of("www", 1).len(), master.alive_of("www", 2).len()), (0, 2));
    assert!(master.answer(1).unwrap().is_ok());
    assert_eq!(master.supervisor.intake(&name("www")), Some(Intake::Gateway));
}

#[test]
fn with_little_surge_all_old_workers_are_to_leave_and_none_takes_their_place() {
    let mut master = Master::with_www(6);
    master.send(Event::ReloadSurge { processes: 2 });
    master.everyone_is(Activity::Busy);
    master.activity = Activity::Idle;
    master.configure(vec![behind_gateway(6)], Some(1));
    master.run(secs(1));
    assert_eq!((count(&master, &open()), master.alive("www").len()), (1, 8), "six that are busy and two");
    let workers = master.view("www").workers;
    assert_eq!(workers.iter().filter(|worker| worker.state == WorkerState::Draining).count(), 6);
    // One that ends makes room for a new one and for nobody else.
    master.end(WorkerId(1), super::master::KILLED);
    master.run(secs(1));
    assert_eq!((master.alive_of("www", 1).len(), master.alive_of("www", 2).len()), (5, 3));
    master.everyone_is(Activity::Idle);
    master.run(secs(2));
    assert_eq!((master.alive_of("www", 1).len(), master.alive_of("www", 2).len()), (0, 6));
    assert!(master.answer(1).unwrap().is_ok());
}

#[test]
fn workers_accept_before_the_gateway_closes_and_old_ones_leave_after_it() {
    let mut master = Master::new();
    master.configure(vec![behind_gateway(2)], None);
    master.configure(vec![plan("www", 2)], Some(1));
    master.run(secs(1));
    let started = master.actions.iter().rposition(|action| matches!(action, Action::Start { .. }));
    let passed = master.position(&pass());
    assert!(started < passed && passed < first_ask(&master), "{:?}", master.actions);
    assert_eq!((count(&master, &open()), count(&master, &pass())), (0, 1));
    assert_eq!((master.alive_of("www", 1).len(), master.alive_of("www", 2).len()), (0, 2));
    assert!(master.answer(1).unwrap().is_ok());
}

#[test]
fn new_workers_that_fail_leave_the_way_of_requests_as_it_was() {
    for (old, new) in [(plan("www", 2), behind_gateway(2)), (behind_gateway(2), plan("www", 2))] {
        let mut master = Master::new();
        master.configure(vec![old.clone()], None);
        master.run(secs(60));
        master.program("www", 2, Program::CannotExecute("no such file"));
        master.configure(vec![new], Some(1));
        master.run(secs(5));
        assert!(master.answer(1).unwrap().unwrap_err().contains("no such file"));
        // A gateway that nobody needs ends; one that is needed is told nothing.
        let passed = usize::from(old.intake == Intake::Shared);
        assert_eq!((count(&master, &open()), count(&master, &pass())), (0, passed));
        assert_eq!(master.alive("www"), [WorkerId(1), WorkerId(2)]);
        assert_eq!(master.state("www"), PoolState::Running);
        assert_eq!(master.supervisor.intake(&name("www")), Some(old.intake));
    }
}

#[test]
fn a_gateway_that_was_open_serves_what_it_has_when_its_workers_fail_after_all() {
    let mut master = Master::with_www(4);
    master.run(secs(60));
    master.send(Event::ReloadSurge { processes: 1 });
    master.everyone_is(Activity::Busy);
    master.activity = Activity::Idle;
    master.configure(vec![behind_gateway(4)], Some(1));
    master.run(secs(1));
    assert_eq!(count(&master, &open()), 1);
    master.program("www", 2, Program::CannotExecute("no such file"));
    for worker in 1..=3 {
        master.end(WorkerId(worker), super::master::KILLED);
        master.run(secs(1));
    }
    assert!(master.answer(1).unwrap().is_err());
    assert_eq!((count(&master, &open()), count(&master, &pass())), (1, 1));
    master.everyone_is(Activity::Idle);
    master.run(secs(5));
    assert_eq!((master.alive_of("www", 1).len(), master.alive_of("www", 2).len()), (4, 0));
    assert_eq!(master.state("www"), PoolState::Running);
}

#[test]
fn a_change_that_is_overtaken_takes_its_gateway_along() {
    let mut master = Master::with_www(2);
    master.activity = Activity::Unknown;
    master.configure(vec![behind_gateway(2)], Some(1));
    master.run(secs(1));
    master.activity = Activity::Idle;
    master.configure(vec![plan("www", 2)], Some(2));
    master.everyone_is(Activity::Idle);
    master.run(secs(2));
    assert!(master.answer(1).unwrap().is_err() && master.answer(2).unwrap().is_ok());
    assert_eq!((count(&master, &open()), count(&master, &pass())), (0, 1));
    assert_eq!((master.alive("www").len(), master.alive_of("www", 3).len()), (2, 2));
}

#[test]
fn a_stop_on_the_way_closes_what_was_opened() {
    let mut master = Master::with_www(2);
    master.activity = Activity::Unknown;
    master.configure(vec![behind_gateway(2)], Some(1));
    master.run(secs(1));
    master.command("www", PoolCommand::Stop, 2);
    master.everyone_is(Activity::Idle);
    master.run(secs(40));
    assert!(master.answer(1).unwrap().is_err() && master.answer(2).unwrap().is_ok());
    assert_eq!((count(&master, &pass()), master.alive("www").len()), (1, 0));
    assert_eq!(master.state("www"), PoolState::Stopped);
}
