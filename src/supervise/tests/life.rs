//! Start, replacement, counters, commands about workers, scaling, events that cannot be.

use crate::ids::{ExitStatus, Generation, Ticket, WorkerId};
use crate::status::snapshot::Activity;
use crate::supervise::action::Action;
use crate::supervise::event::{Event, PoolCommand, WorkerCommand};
use crate::supervise::{Counters, DaemonState, PoolState, WorkerState};

use super::master::{KILLED, Master, Program, millis, name, plan, secs};

#[test]
fn a_new_pool_listens_and_then_starts_its_children() {
    let mut master = Master::new();
    master.configure(vec![plan("www", 3)], None);
    let (pool, generation) = (name("www"), Generation(1));
    assert_eq!(master.actions[0], Action::Listen { pool: pool.clone(), generation });
    for number in 1..=3 {
        let worker = WorkerId(number);
        assert_eq!(master.actions[number as usize], Action::Start { pool: pool.clone(), generation, worker });
    }
    assert_eq!(master.actions.len(), 4);
    let view = master.view("www");
    assert_eq!((view.state, view.children, view.generation), (PoolState::Running, 3, generation));
    assert_eq!(view.counters, Counters { started: 3, ..Counters::default() });
    assert!(view.workers.iter().all(|worker| worker.state == WorkerState::Running));
    assert_eq!(master.logged_at(log::Level::Debug, "started"), 3);
    assert_eq!(master.supervisor.state(), DaemonState::Running);
    master.check_views();
}

#[test]
fn a_healthy_daemon_never_wakes_up() {
    let mut master = Master::new();
    master.configure(vec![plan("a", 100), plan("b", 1)], None);
    assert_eq!(master.supervisor.next_deadline(), None);
    master.run(secs(86_400));
    assert_eq!(master.wakeups, 0);
    let victim = master.alive("a")[5];
    master.end(victim, KILLED);
    assert_eq!(master.supervisor.next_deadline(), None);
}

#[test]
fn a_dead_worker_is_replaced_at_once_with_php_fpms_words() {
    let mut master = Master::with_www(2);
    let victim = master.alive("www")[0];
    master.end(victim, ExitStatus::Code(3));
    assert_eq!(master.alive("www").len(), 2);
    let end = "[pool www] child 101 exited with code 3 after 60.000000 seconds from start";
    assert_eq!(master.logged_at(log::Level::Warn, end), 1);
    assert_eq!(master.logged_at(log::Level::Info, "[pool www] child 103 started"), 1);
    assert_eq!(master.view("www").counters, Counters { started: 3, crashed: 1, ..Counters::default() });
    assert_eq!(master.state("www"), PoolState::Running);
    master.check_views();
}

#[test]
fn exit_code_0_is_a_recycle() {
    let mut master = Master::with_www(2);
    let victim = master.alive("www")[1];
    master.end(victim, ExitStatus::Code(0));
    assert_eq!(master.logged_at(log::Level::Info, "child 102 exited with code 0"), 1);
    assert_eq!(
        master.view("www").counters,
        Counters { started: 3, recycled: 1, exited: 1, ..Counters::default() }
    );
    assert_eq!(master.alive("www").len(), 2);
}

#[test]
fn a_hundred_killed_at_once_are_all_replaced_and_counted_once() {
    for age in [secs(60), millis(5)] {
        let mut master = Master::new();
        master.configure(vec![plan("www", 100)], None);
        master.run(age);
        let before = master.now;
        for victim in master.alive("www") {
            master.end(victim, KILLED);
        }
        assert_eq!(master.now, before);
        assert_eq!(master.alive("www").len(), 100, "{age:?}");
        assert_eq!(
            master.view("www").counters,
            Counters { started: 200, crashed: 100, ..Counters::default() }
        );
        assert_eq!(master.supervisor.next_deadline(), None);
        assert_eq!(master.state("www"), PoolState::Running);
    }
}

#[test]
fn an_ordered_kill_is_no_crash_and_never_delays() {
    let mut master = Master::with_www(1);
    for ticket in 0..50 {
        let victim = master.alive("www")[0];
        master.command_worker(victim, WorkerCommand::Kill, ticket);
        assert!(master.answer(ticket).unwrap().is_ok());
        assert_eq!(master.alive("www").len(), 1);
    }
    let counters = master.view("www").counters;
    assert_eq!(counters, Counters { started: 51, killed: 50, ..Counters::default() });
    assert_eq!(master.state("www"), PoolState::Running);
}

#[test]
fn a_drained_worker_stays_until_its_replacement_is_ready() {
    let mut master = Master::with_www(1);
    let old = master.alive("www")[0];
    master.activity = Activity::Busy;
    master.command_worker(old, WorkerCommand::Drain, 1);
    assert_eq!(master.alive("www").len(), 2);
    master.run(millis(200));
    assert!(!master.processes[&old].signalled);
    master.everyone_is(Activity::Idle);
    master.run(millis(300));
    assert_eq!(master.answer(1), Some(Ok("child 101 of pool www is gone")));
    assert_eq!(master.alive("www"), [WorkerId(2)]);
    assert_eq!(master.supervisor.next_deadline(), None);
    master.check_views();
}

#[test]
fn draining_is_refused_once_every_worker_is_on_its_way_out() {
    let mut master = Master::with_www(1);
    master.program("www", 1, Program::HangsBeforeExec);
    let first = master.alive("www")[0];
    master.command_worker(first, WorkerCommand::Drain, 1);
    master.command_worker(WorkerId(2), WorkerCommand::Drain, 2);
    assert!(master.answer(2).unwrap().unwrap_err().contains("still starting"));
    master.command_worker(WorkerId(77), WorkerCommand::Kill, 3);
    assert_eq!(master.answer(3), Some(Err("there is no worker 77")));
    // The replacement never comes up: given up after start_timeout, tried again, and the old one serves on.
    master.run(secs(60));
    assert!(master.processes[&first].alive);
    assert!(master.view("www").counters.start_failures >= 3);
}

#[test]
fn scaling_up_starts_and_scaling_down_takes_the_idle_first() {
    let mut master = Master::with_www(4);
    master.command("www", PoolCommand::Scale(8), 1);
    master.run(secs(1));
    assert_eq!(master.answer(1), Some(Ok("www is running with 8 workers")));
    assert_eq!((master.alive("www").len(), master.view("www").children), (8, 8));
    // All but three are busy.
    master.everyone_is(Activity::Busy);
    let idle: Vec<WorkerId> = [2, 3, 5].map(WorkerId).to_vec();
    for worker in &idle {
        master.processes.get_mut(worker).unwrap().activity = Activity::Idle;
    }
    master.command("www", PoolCommand::Scale(5), 2);
    assert!(idle.iter().all(|worker| !master.processes[worker].alive));
    assert_eq!(master.alive("www").len(), 5);
    assert_eq!(master.answer(2), Some(Ok("www is running with 5 workers")));
    assert_eq!(master.supervisor.next_deadline(), None);
    // With none idle the youngest are chosen, and leave when they can.
    master.command("www", PoolCommand::Scale(4), 3);
    assert_eq!(master.answer(3), None);
    assert!(master.processes.values().filter(|process| process.alive).all(|process| !process.signalled));
    master.everyone_is(Activity::Idle);
    master.run(secs(1));
    assert_eq!(master.alive("www"), [1, 4, 6, 7].map(WorkerId));
    assert!(master.answer(3).unwrap().is_ok());
    master.command("www", PoolCommand::Scale(0), 4);
    assert!(master.answer(4).unwrap().is_err());
    master.check_views();
}

#[test]
fn a_scale_holds_until_the_configuration_says_another_number() {
    let mut master = Master::with_www(2);
    master.command("www", PoolCommand::Scale(3), 1);
    master.run(secs(1));
    master.command("www", PoolCommand::Restart, 2);
    master.run(secs(1));
    assert_eq!((master.alive_of("www", 2).len(), master.alive("www").len()), (3, 3));
    master.configure(vec![plan("www", 2)], Some(3));
    master.run(secs(1));
    assert_eq!((master.alive_of("www", 3).len(), master.alive("www").len()), (3, 3));
    // A number that could not be put in force changes nothing.
    master.cannot_listen.insert("www".into(), "cannot bind".into());
    master.configure(vec![plan("www", 5)], Some(4));
    master.cannot_listen.clear();
    master.configure(vec![plan("www", 2)], Some(5));
    master.run(secs(1));
    assert_eq!(master.alive("www").len(), 3);
    master.configure(vec![plan("www", 4)], Some(6));
    master.run(secs(1));
    assert_eq!(master.alive("www").len(), 4);
    master.configure(vec![plan("www", 2)], Some(7));
    master.run(secs(1));
    assert_eq!(master.alive("www").len(), 2);
}

#[test]
fn a_scale_of_a_stopped_pool_holds_as_well() {
    let mut master = Master::with_www(2);
    master.command("www", PoolCommand::Scale(3), 1);
    master.command("www", PoolCommand::Stop, 2);
    master.run(secs(1));
    master.configure(vec![plan("www", 2)], Some(3));
    master.command("www", PoolCommand::Start, 4);
    master.run(secs(1));
    assert_eq!(master.alive("www").len(), 3);
    master.command("www", PoolCommand::Stop, 5);
    master.run(secs(1));
    master.configure(vec![plan("www", 1)], Some(6));
    master.command("www", PoolCommand::Start, 7);
    master.run(secs(1));
    assert_eq!(master.alive("www").len(), 1);
}

#[test]
fn a_start_with_a_client_waits_until_the_workers_are_ready() {
    let mut master = Master::new();
    master.activity = Activity::Unknown;
    master.configure(vec![plan("www", 2)], Some(1));
    master.run(secs(1));
    assert_eq!(master.answer(1), None);
    master.everyone_is(Activity::Idle);
    master.run(secs(1));
    assert_eq!(master.answer(1), Some(Ok("www is running with 2 workers")));
    assert_eq!(master.supervisor.next_deadline(), None);
    master.command("www", PoolCommand::Start, 2);
    assert_eq!(master.answer(2), Some(Ok("www is running")));
    master.command("api", PoolCommand::Start, 3);
    assert_eq!(master.answer(3), Some(Err("there is no pool api")));
    master.send(Event::Configure {
        plans: vec![],
        amended: vec![],
        removed: vec![name("api")],
        ticket: Some(Ticket(4)),
    });
    assert_eq!(master.answer(4), Some(Ok("nothing has changed")));
}

#[test]
fn events_that_cannot_be_are_logged_once_and_ignored() {
    let mut master = Master::with_www(1);
    let before = (master.actions.clone(), master.view("www"));
    for _ in 0..3 {
        master.send(Event::Exited { worker: WorkerId(99), status: KILLED });
        master.send(Event::Executing { worker: WorkerId(1) });
        master.send(Event::StartFailed { worker: WorkerId(1), reason: "late".into() });
        master.send(Event::StopSent { worker: WorkerId(1) });
        master.send(Event::Observed { worker: WorkerId(1), activity: Activity::Busy });
        master.send(Event::Listening { pool: name("www"), generation: Generation(7) });
        master.send(Event::Deadline);
    }
    assert_eq!((master.actions.clone(), master.view("www")), before);
    assert_eq!(master.logged_at(log::Level::Warn, "ignoring an event that cannot be"), 6);
}

#[test]
fn a_thousand_workers_come_and_go_in_few_actions() {
    let mut master = Master::with_www(1000);
    assert_eq!(master.actions.len(), 1 + 1000);
    for victim in master.alive("www") {
        master.end(victim, KILLED);
    }
    assert_eq!((master.alive("www").len(), master.actions.len()), (1000, 1 + 2000));
    assert_eq!(master.view("www").counters.crashed, 1000);
    master.stop(1);
    assert!(master.exited);
    // One question for each, then leftovers, sockets and the end.
    assert_eq!(master.actions.len(), 1 + 2000 + 1000 + 3);
    assert_eq!(master.wakeups, 0);
}
