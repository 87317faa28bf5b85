//! Warm-up requests: who is let in when, and what becomes of a worker that does not answer as it should.

use crate::ids::WorkerId;
use crate::supervise::action::Action;
use crate::supervise::event::{Intake, PoolPlan, Readiness};
use crate::supervise::{PoolState, WorkerState};

use super::master::{Master, Program, millis, plan, secs};

fn warmed(children: u32) -> PoolPlan {
    PoolPlan { intake: Intake::Gateway, readiness: Readiness::Warmed, ..plan("www", children) }
}

#[test]
fn a_worker_is_let_in_when_it_has_answered() {
    let mut master = Master::new();
    master.program("www", 1, Program::Warms(secs(3), Ok(())));
    master.configure(vec![warmed(2)], Some(1));
    master.run(secs(2));
    assert!(master.position(&Action::WarmUp { worker: WorkerId(2) }).is_some());
    assert!(master.processes.values().all(|process| !process.admitted));
    assert_eq!(master.view("www").workers[0].state, WorkerState::Starting);
    master.run(secs(2));
    assert!(master.processes.values().all(|process| process.admitted));
    let looks = master.actions.iter().filter(|action| matches!(action, Action::Observe { .. })).count();
    assert_eq!((master.state("www"), looks), (PoolState::Running, 0), "nobody has to look");
    assert_eq!(master.supervisor.next_deadline(), None);
}

#[test]
fn a_generation_that_answers_badly_leaves_the_old_one_in_service() {
    let mut master = Master::new();
    master.configure(vec![warmed(2)], None);
    master.run(secs(60));
    let old = master.alive("www");
    let words = "it answered 500 when it was asked to warm up; it said: no database";
    master.program("www", 2, Program::Warms(millis(20), Err(words)));
    master.configure(vec![warmed(2)], Some(1));
    master.run(secs(5));
    let reason = master.answer(1).unwrap().unwrap_err();
    assert_eq!(reason, format!("cannot reload pool www: {words}; its old workers stay in service"));
    assert_eq!(master.alive("www"), old);
    let counters = master.view("www").counters;
    assert_eq!((counters.start_failures, counters.killed, counters.crashed), (3, 0, 0));
}

#[test]
fn no_answer_in_time_is_a_failed_start() {
    let mut master = Master::new();
    master.configure(vec![warmed(1)], None);
    master.run(secs(60));
    master.program("www", 2, Program::Warms(secs(3600), Ok(())));
    master.configure(vec![warmed(1)], Some(1));
    master.run(secs(9));
    assert_eq!(master.answer(1), None);
    master.run(secs(60));
    let reason = master.answer(1).unwrap().unwrap_err();
    assert!(reason.contains("it has not answered its warm-up request after 10s"), "{reason}");
}

#[test]
fn workers_that_keep_failing_are_started_ever_more_slowly() {
    let mut master = Master::new();
    master.program("www", 1, Program::Warms(millis(5), Err("it answered 503")));
    master.configure(vec![warmed(4)], None);
    master.run(secs(600));
    assert_eq!(master.state("www"), PoolState::BackingOff);
    assert!(master.starts() < 100, "{}", master.starts());
    assert!(master.processes.values().all(|process| !process.admitted));
    master.programs.clear();
    master.run(secs(120));
    assert_eq!((master.state("www"), master.alive("www").len()), (PoolState::Running, 4));
}
