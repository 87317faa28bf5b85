//! The end of pools and of the daemon.

use crate::ids::{Generation, Ticket, WorkerId};
use crate::status::snapshot::Activity;
use crate::supervise::action::Action;
use crate::supervise::event::{Event, PoolCommand, WorkerCommand};
use crate::supervise::{DaemonState, PoolState};

use super::master::{KILLED, Master, Program, millis, name, plan, secs};

#[test]
fn a_stopped_pool_closes_its_sockets_after_the_last_worker() {
    let mut master = Master::with_www(3);
    master.processes.get_mut(&WorkerId(2)).unwrap().activity = Activity::Busy;
    master.command("www", PoolCommand::Stop, 1);
    assert_eq!((master.alive("www"), master.state("www")), (vec![WorkerId(2)], PoolState::Stopping));
    assert!(master.open.contains(&name("www")));
    assert_eq!(master.starts(), 3);
    master.run(secs(3));
    assert!(master.progress.iter().any(|line| line == "www: 1 of 3 workers still there"));
    master.everyone_is(Activity::Idle);
    master.run(secs(1));
    assert_eq!(master.answer(1), Some(Ok("www is stopped")));
    assert_eq!(master.state("www"), PoolState::Stopped);
    let pool = name("www");
    let leftovers = master.position(&Action::KillLeftovers { pool: pool.clone() }).unwrap();
    assert_eq!(master.position(&Action::CloseListeners { pool: pool.clone() }), Some(leftovers + 1));
    assert_eq!(master.starts(), 3);
    assert_eq!(master.supervisor.next_deadline(), None);
    master.command("www", PoolCommand::Stop, 2);
    assert_eq!(master.answer(2), Some(Ok("www is stopped")));
    master.command("www", PoolCommand::Start, 3);
    master.run(secs(1));
    assert_eq!(master.answer(3), Some(Ok("www is running with 3 workers")));
    assert_eq!(master.alive_of("www", 1).len(), 3);
}

#[test]
fn a_stopped_pool_stays_stopped_over_a_reload_and_starts_with_the_new_settings() {
    let mut master = Master::with_www(1);
    master.command("www", PoolCommand::Stop, 1);
    master.configure(vec![plan("www", 2)], Some(2));
    assert!(master.answer(2).unwrap().unwrap().contains("is stopped"));
    assert_eq!(master.state("www"), PoolState::Stopped);
    master.command("www", PoolCommand::Scale(3), 3);
    assert!(master.answer(3).unwrap().is_ok());
    master.command("www", PoolCommand::Restart, 4);
    master.run(secs(1));
    assert_eq!(master.alive_of("www", 2).len(), 3);
    assert!(
        master.actions.contains(&Action::ForgetSettings { pool: name("www"), generation: Generation(1) })
    );
}

#[test]
fn a_start_while_it_stops_follows_the_stop() {
    let mut master = Master::with_www(2);
    master.everyone_is(Activity::Busy);
    master.command("www", PoolCommand::Stop, 1);
    master.command("www", PoolCommand::Start, 2);
    master.run(secs(1));
    assert_eq!((master.answer(1), master.answer(2)), (None, None));
    master.everyone_is(Activity::Idle);
    master.run(secs(1));
    assert!(master.answer(1).unwrap().is_ok() && master.answer(2).unwrap().is_ok());
    assert_eq!((master.alive("www").len(), master.state("www")), (2, PoolState::Running));
}

#[test]
fn a_stop_answers_those_who_waited_for_a_start_or_a_reload() {
    let mut master = Master::with_www(1);
    master.activity = Activity::Unknown;
    master.configure(vec![plan("www", 1), plan("api", 1)], Some(1));
    master.run(millis(50));
    master.command("www", PoolCommand::Stop, 2);
    master.command("api", PoolCommand::Stop, 3);
    let answer = master.answer(1).unwrap().unwrap_err();
    assert!(answer.contains("cannot reload pool www: it is being stopped"), "{answer}");
    assert!(answer.contains("cannot start pool api: it is being stopped"), "{answer}");
    master.everyone_is(Activity::Idle);
    master.run(secs(1));
    assert!(master.answer(2).unwrap().is_ok() && master.answer(3).unwrap().is_ok());
}

#[test]
fn a_stop_answers_those_who_waited_for_fewer_workers() {
    let mut master = Master::with_www(3);
    master.everyone_is(Activity::Busy);
    master.command("www", PoolCommand::Scale(1), 1);
    master.run(secs(1));
    assert_eq!(master.answer(1), None);
    master.command("www", PoolCommand::Stop, 2);
    assert_eq!(master.answer(1), Some(Err("cannot scale pool www to 1 worker: it is being stopped")));
    master.everyone_is(Activity::Idle);
    master.run(secs(1));
    assert_eq!(master.answer(2), Some(Ok("www is stopped")));
}

#[test]
fn a_removed_pool_is_forgotten() {
    let mut master = Master::with_www(2);
    master.configure(vec![plan("api", 1)], None);
    let remove = Event::Configure {
        plans: vec![],
        amended: vec![],
        removed: vec![name("www")],
        ticket: Some(Ticket(1)),
    };
    master.send(remove.clone());
    assert!(master.alive("www").is_empty());
    assert_eq!(master.answer(1), Some(Ok("www is stopped")));
    assert_eq!(master.supervisor.pools().map(|view| view.name).collect::<Vec<_>>(), [name("api")]);
    assert!(
        master.actions.contains(&Action::ForgetSettings { pool: name("www"), generation: Generation(1) })
    );
    // One that comes back while it goes is a new start.
    master.configure(vec![plan("www", 2)], None);
    master.everyone_is(Activity::Busy);
    master.send(Event::Configure {
        plans: vec![],
        amended: vec![],
        removed: vec![name("www")],
        ticket: Some(Ticket(2)),
    });
    master.command("www", PoolCommand::Start, 3);
    assert_eq!(master.answer(3), Some(Err("cannot start pool www: it is being removed")));
    master.configure(vec![plan("www", 4)], Some(4));
    master.everyone_is(Activity::Idle);
    master.run(secs(2));
    assert_eq!(master.alive("www").len(), 4);
    assert!(master.answer(2).unwrap().is_ok() && master.answer(4).unwrap().is_ok());
}

#[test]
fn the_daemon_ends_when_the_last_worker_has_left() {
    let mut master = Master::with_www(3);
    master.configure(vec![plan("api", 2)], None);
    master.processes.get_mut(&WorkerId(1)).unwrap().activity = Activity::Busy;
    master.stop(1);
    assert_eq!(master.supervisor.state(), DaemonState::Stopping);
    assert_eq!(master.alive("www"), [WorkerId(1)]);
    assert!(master.alive("api").is_empty() && !master.exited);
    master.configure(vec![plan("new", 1)], Some(2));
    assert_eq!(master.answer(2), Some(Err("fpmd is stopping")));
    master.command("www", PoolCommand::Start, 3);
    assert_eq!(master.answer(3), Some(Err("fpmd is stopping")));
    master.run(secs(29));
    assert!(!master.processes[&WorkerId(1)].signalled);
    master.run(secs(2));
    assert!(master.exited);
    assert!(master.answer(1).unwrap().unwrap().ends_with("fpmd has stopped"));
    assert_eq!(master.supervisor.next_deadline(), None);
    assert!(master.open.is_empty());
}

#[test]
fn a_second_stop_ends_everything_at_once() {
    let mut master = Master::new();
    master.program("www", 1, Program::Stubborn);
    master.configure(vec![plan("www", 50)], None);
    master.everyone_is(Activity::Busy);
    master.stop(1);
    assert_eq!(master.alive("www").len(), 50);
    let before = master.now;
    master.stop(2);
    assert_eq!(master.now, before);
    assert!(master.exited && master.alive("www").is_empty());
    assert_eq!(master.supervisor.pools().next().unwrap().counters.killed, 50);
    assert!(master.answer(1).unwrap().is_ok() && master.answer(2).unwrap().is_ok());
    let exits = master.actions.iter().filter(|action| **action == Action::Exit).count();
    assert_eq!(exits, 1);
}

#[test]
fn a_daemon_without_pools_stops_at_once() {
    let mut master = Master::new();
    master.stop(1);
    assert!(master.exited);
    assert!(master.answer(1).unwrap().is_ok());
}

#[test]
fn workers_on_their_way_up_are_stopped_when_they_are_there() {
    let mut master = Master::with_www(1);
    master.program("www", 1, Program::HangsBeforeExec);
    master.command("www", PoolCommand::Scale(2), 1);
    master.stop(2);
    assert!(!master.processes[&WorkerId(2)].signalled);
    master.send(Event::Executing { worker: WorkerId(2) });
    assert!(master.exited);
    assert!(master.answer(1).is_some() && master.answer(2).unwrap().is_ok());
}

#[test]
fn pools_that_failed_or_back_off_stop_at_once() {
    let mut master = Master::new();
    master.cannot_listen.insert("bad".into(), "cannot bind".into());
    master.program("loop", 1, Program::Ends(millis(1), crate::ids::ExitStatus::Code(1)));
    master.configure(vec![plan("bad", 1), plan("loop", 1)], None);
    master.run(secs(100));
    master.stop(1);
    assert!(master.exited);
    assert_eq!(master.supervisor.next_deadline(), None);
}

#[test]
fn a_worker_that_is_stuck_in_the_kernel_holds_nothing_up() {
    let mut master = Master::new();
    master.program("www", 1, Program::Stuck);
    master.configure(vec![plan("www", 2)], None);
    master.program("www", 1, Program::Serves);
    master.command_worker(WorkerId(1), WorkerCommand::Kill, 1);
    master.run(secs(11));
    assert!(master.answer(1).unwrap().unwrap_err().contains("stuck in the kernel"));
    assert_eq!(master.logged_at(log::Level::Error, "child 101 of pool www does not end after SIGKILL"), 1);
    assert_eq!(master.supervisor.next_deadline(), None);
    assert_eq!(master.alive("www"), [1, 2, 3].map(WorkerId));
    master.check_views();
    master.command_worker(WorkerId(1), WorkerCommand::Drain, 2);
    assert!(master.answer(2).unwrap().is_err());
    master.end(WorkerId(1), KILLED);
    assert_eq!(master.view("www").counters.killed, 1);
    // The other one is stuck too.
    master.stop(3);
    master.run(secs(30 + 5 + 10));
    assert!(master.exited && master.answer(3).unwrap().is_ok());
    assert_eq!(master.logged("cannot be"), 0);
}

#[test]
fn a_stuck_worker_of_a_removed_pool_may_end_at_last() {
    let mut master = Master::new();
    master.program("www", 1, Program::Stuck);
    master.configure(vec![plan("www", 1)], None);
    master.send(Event::Configure {
        plans: vec![],
        amended: vec![],
        removed: vec![name("www")],
        ticket: Some(Ticket(1)),
    });
    master.run(secs(60));
    assert!(master.answer(1).unwrap().is_ok());
    assert_eq!(master.supervisor.pools().count(), 0);
    master.end(WorkerId(1), KILLED);
    assert_eq!(master.logged("cannot be"), 0);
}
