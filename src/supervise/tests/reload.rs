//! The exchange of generations: in which order, what happens when the new one fails, and who is told what.

use crate::ids::{ExitStatus, Generation, Signal, WorkerId};
use crate::policy::Heed;
use crate::status::snapshot::Activity;
use crate::supervise::action::Action;
use crate::supervise::event::{Event, PoolCommand, PoolPlan};
use crate::supervise::{DaemonState, PoolState};

use super::master::{KILLED, Master, Program, millis, name, plan, secs};

fn forget(generation: u32) -> Action {
    Action::ForgetSettings { pool: name("www"), generation: Generation(generation) }
}

#[test]
fn new_workers_are_ready_before_an_old_one_is_asked_to_leave() {
    let mut master = Master::with_www(3);
    master.activity = Activity::Unknown;
    master.configure(vec![plan("www", 4)], Some(1));
    master.run(secs(1));
    assert_eq!((master.alive_of("www", 1).len(), master.alive_of("www", 2).len()), (3, 4));
    assert_eq!(master.state("www"), PoolState::Reloading);
    assert_eq!(master.supervisor.state(), DaemonState::Reloading);
    assert!(master.processes.values().all(|process| !process.signalled));
    master.check_views();
    let [.., last] = master.alive_of("www", 2)[..] else { panic!() };
    master.everyone_is(Activity::Idle);
    master.processes.get_mut(&last).unwrap().activity = Activity::Unknown;
    master.run(secs(1));
    assert_eq!(master.alive_of("www", 1).len(), 3);
    master.processes.get_mut(&last).unwrap().activity = Activity::Idle;
    master.run(millis(100));
    assert_eq!((master.alive_of("www", 1).len(), master.alive_of("www", 2).len()), (0, 4));
    assert_eq!(master.answer(1), Some(Ok("www is reloaded, generation 2")));
    assert_eq!(*master.actions.last().unwrap(), forget(1));
    let view = master.view("www");
    assert_eq!((view.state, view.generation, view.children), (PoolState::Running, Generation(2), 4));
    assert_eq!((view.counters.started, view.counters.recycled), (7, 3));
    assert_eq!(master.supervisor.next_deadline(), None);
}

#[test]
fn a_busy_old_worker_is_waited_for_then_signalled_then_killed() {
    let mut master = Master::with_www(2);
    master.program("www", 1, Program::Stubborn);
    master.end(WorkerId(1), KILLED);
    master.everyone_is(Activity::Busy);
    master.run(secs(60));
    master.configure(vec![plan("www", 2)], Some(1));
    master.run(secs(25));
    assert_eq!(master.alive_of("www", 1).len(), 2);
    let pids: Vec<String> = master
        .alive_of("www", 1)
        .iter()
        .filter_map(|worker| master.supervisor.pid_of(*worker))
        .map(|pid| pid.to_string())
        .collect();
    let line = format!("www: 2 of 2 old workers still there: {}; SIGTERM in 30 s", pids.join(", "));
    assert!(master.progress.contains(&line), "{:?}", master.progress);
    assert!((10..20).contains(&master.progress.len()), "{:?}", master.progress);
    master.run(secs(60));
    assert!(master.alive_of("www", 1).is_empty());
    assert_eq!(master.logged_at(log::Level::Warn, "sending SIGTERM all the same"), 2);
    assert_eq!(master.logged_at(log::Level::Warn, "sending SIGKILL"), 1, "only one is stubborn");
    assert!(master.answer(1).unwrap().is_ok());
}

#[test]
fn sigterm_comes_at_stop_timeout_and_sigkill_after_kill_timeout() {
    let mut master = Master::new();
    master.program("www", 1, Program::Stubborn);
    master.configure(vec![plan("www", 1)], None);
    master.everyone_is(Activity::Waiting);
    master.configure(vec![plan("www", 1)], Some(1));
    let worker = WorkerId(1);
    let switched = master.now;
    master.run(secs(29));
    assert!(!master.processes[&worker].signalled);
    master.run(secs(2));
    assert!(master.actions.contains(&Action::Signal { worker, signal: Signal::TERM }));
    assert!(!master.actions.contains(&Action::Signal { worker, signal: Signal::KILL }));
    master.run(secs(5));
    assert!(master.actions.contains(&Action::Signal { worker, signal: Signal::KILL }));
    assert!(master.now.since(switched) < secs(37));
    assert_eq!(master.view("www").counters.killed, 1);
    assert_eq!(master.logged_at(log::Level::Warn, "still there 5s after SIGTERM, sending SIGKILL"), 1);
    assert!(master.answer(1).unwrap().is_ok());
    // Looked at ever less often: 10 ms doubling to 250 ms.
    let looks = master.actions.iter().filter(|action| matches!(action, Action::StopIfIdle { .. })).count();
    assert!((100..140).contains(&looks), "{looks}");
}

#[test]
fn new_workers_that_cannot_start_leave_everything_as_it_was() {
    let mut master = Master::with_www(8);
    let old = master.alive("www");
    master.program("www", 2, Program::CannotExecute("cannot execute '/usr/bin/php-cgx': No such file"));
    master.configure(vec![plan("www", 8)], Some(1));
    let reason = "cannot reload pool www: cannot execute '/usr/bin/php-cgx': No such file; its old workers stay in service";
    assert_eq!(master.answer(1), Some(Err(reason)));
    assert_eq!(master.alive("www"), old);
    assert!(old.iter().all(|worker| !master.processes[worker].signalled));
    let view = master.view("www");
    assert_eq!((view.state, view.generation), (PoolState::Running, Generation(1)));
    assert!(master.actions.contains(&forget(2)));
    let listen = Action::Listen { pool: name("www"), generation: Generation(1) };
    assert_eq!(master.actions.iter().filter(|action| **action == listen).count(), 2);
    assert_eq!(master.supervisor.next_deadline(), None);
    // The number is used up, and the next attempt is independent.
    master.configure(vec![plan("www", 8)], Some(2));
    master.run(secs(1));
    assert_eq!(master.alive_of("www", 3).len(), 8);
    assert!(master.answer(2).unwrap().is_ok());
}

#[test]
fn new_workers_that_crash_before_they_are_ready_are_tried_three_times() {
    let mut master = Master::with_www(1);
    master.activity = Activity::Busy;
    master.program("www", 2, Program::Ends(millis(300), ExitStatus::Code(78)));
    master.configure(vec![plan("www", 1)], Some(1));
    master.run(millis(800));
    assert_eq!(master.answer(1), None);
    master.run(millis(200));
    assert!(master.answer(1).unwrap().unwrap_err().contains("exited with code 78 after 0.300000 seconds"));
    assert_eq!(master.starts(), 1 + 3);
    let [.., last, verdict] = &master.logged[..] else { panic!() };
    assert!(last.1.contains("exited with code 78"), "the cause comes first: {last:?}");
    assert!(verdict.1.starts_with("cannot reload pool www: child"), "{verdict:?}");
    assert_eq!(master.alive("www"), [WorkerId(1)]);
    assert_eq!(master.state("www"), PoolState::Running);
}

#[test]
fn sockets_that_cannot_be_opened_leave_everything_as_it_was() {
    let mut master = Master::with_www(2);
    let old = master.alive("www");
    master.cannot_listen.insert("www".into(), "cannot bind '0.0.0.0:80': Permission denied".into());
    master.configure(vec![plan("www", 2), plan("api", 1)], Some(1));
    master.run(secs(1));
    let reason = "cannot reload pool www: cannot bind '0.0.0.0:80': Permission denied; its old workers stay in service";
    assert_eq!(master.answer(1), Some(Err(reason)));
    assert_eq!((master.alive("www"), master.alive("api").len()), (old, 1));
    assert!(master.actions.contains(&forget(2)));
    // What it has changed of sockets that are open is undone.
    let listen = |generation| Action::Listen { pool: name("www"), generation: Generation(generation) };
    let asked: Vec<&Action> = master
        .actions
        .iter()
        .filter(|action| matches!(action, Action::Listen { pool, .. } if *pool == name("www")))
        .collect();
    assert_eq!(asked, [&listen(1), &listen(2), &listen(1)]);
}

#[test]
fn a_new_generation_that_hangs_before_its_program_runs_is_given_up() {
    let mut master = Master::with_www(2);
    master.program("www", 2, Program::HangsBeforeExec);
    master.configure(vec![plan("www", 2)], Some(1));
    master.run(secs(60));
    assert!(master.answer(1).unwrap().unwrap_err().contains("its program does not run after 10s"));
    assert_eq!(master.view("www").counters.killed, 0);
    assert_eq!(master.alive("www"), [1, 2].map(WorkerId));
}

#[test]
fn workers_that_cannot_be_observed_are_trusted_after_start_timeout() {
    let mut master = Master::with_www(2);
    master.activity = Activity::Unknown;
    master.configure(vec![plan("www", 2)], Some(1));
    master.run(secs(9));
    assert_eq!(master.alive_of("www", 1).len(), 2);
    master.run(secs(2));
    assert_eq!(master.alive_of("www", 1).len(), 0);
    assert!(master.answer(1).unwrap().is_ok());
}

#[test]
fn new_settings_without_new_workers_are_in_force_when_the_master_says_so() {
    let mut master = Master::with_www(3);
    let before = master.alive("www");
    let quick = crate::supervise::event::PoolPlan { stop_timeout: secs(1), ..plan("www", 3) };
    master.amend(vec![quick], Some(1));
    let amend = Action::Amend { pool: name("www"), generation: Generation(1) };
    assert!(master.position(&amend).is_some());
    assert_eq!(master.answer(1), Some(Ok("www is reloaded, its workers stay")));
    assert_eq!((master.alive("www"), master.view("www").generation), (before, Generation(1)));
    // Workers that run have them, too.
    master.everyone_is(Activity::Busy);
    master.command("www", PoolCommand::Restart, 2);
    master.run(secs(3));
    assert_eq!(master.alive("www").len(), 3);
    assert!(master.answer(2).unwrap().is_ok());
}

#[test]
fn another_number_of_workers_is_reached_without_an_exchange() {
    let mut master = Master::with_www(2);
    let before = master.alive("www");
    master.amend(vec![plan("www", 4)], Some(1));
    master.run(secs(1));
    assert_eq!(master.answer(1), Some(Ok("www is running with 4 workers")));
    assert_eq!(master.alive("www")[..2], before);
    master.amend(vec![plan("www", 1)], Some(2));
    master.run(secs(1));
    assert_eq!((master.answer(2), master.alive("www").len()), (Some(Ok("www is running with 1 worker")), 1));
}

#[test]
fn new_settings_that_cannot_be_put_in_force_are_refused_with_the_reason() {
    let mut master = Master::with_www(2);
    let before = master.alive("www");
    master.cannot_listen.insert("www".into(), "cannot bind '0.0.0.0:80': Permission denied".into());
    master.amend(vec![plan("www", 4), plan("api", 1)], Some(1));
    master.run(secs(1));
    let reason =
        "cannot reload pool www: cannot bind '0.0.0.0:80': Permission denied; nothing has changed there";
    assert_eq!(master.answer(1), Some(Err(reason)));
    assert_eq!((master.alive("www"), master.alive("api").len()), (before, 1));
}

#[test]
fn during_an_exchange_new_settings_begin_another() {
    let mut master = Master::with_www(2);
    master.activity = Activity::Unknown;
    master.configure(vec![plan("www", 2)], Some(1));
    master.run(secs(1));
    master.activity = Activity::Idle;
    master.amend(vec![plan("www", 2)], Some(2));
    master.everyone_is(Activity::Idle);
    master.run(secs(2));
    assert!(master.answer(1).unwrap().is_err() && master.answer(2).unwrap().is_ok());
    assert_eq!(master.view("www").generation, Generation(3));
}

#[test]
fn nothing_to_do_is_said() {
    let mut master = Master::with_www(1);
    master.configure(vec![], Some(1));
    assert_eq!(master.answer(1), Some(Ok("nothing has changed")));
}

#[test]
fn a_later_reload_supersedes_one_that_is_not_in_force() {
    let mut master = Master::with_www(2);
    master.activity = Activity::Unknown;
    master.configure(vec![plan("www", 2)], Some(1));
    master.run(secs(1));
    master.activity = Activity::Idle;
    master.configure(vec![plan("www", 3)], Some(2));
    assert_eq!(master.answer(1), Some(Err("cannot reload pool www: superseded by a later reload")));
    master.everyone_is(Activity::Idle);
    master.run(secs(2));
    assert!(master.answer(2).unwrap().is_ok());
    assert_eq!((master.alive_of("www", 3).len(), master.alive("www").len()), (3, 3));
    assert!(master.actions.contains(&forget(1)) && master.actions.contains(&forget(2)));
}

#[test]
fn a_restart_that_does_not_come_to_its_end_says_so_in_its_own_words() {
    let mut master = Master::with_www(2);
    master.program("www", 2, Program::Ends(millis(1), ExitStatus::Code(3)));
    master.command("www", PoolCommand::Restart, 1);
    master.run(secs(1));
    let answer = master.answer(1).unwrap().unwrap_err();
    assert!(answer.starts_with("cannot restart pool www: child"), "{answer}");
    assert!(answer.ends_with("from start; its old workers stay in service"), "{answer}");
    master.activity = Activity::Unknown;
    master.command("www", PoolCommand::Restart, 2);
    master.command("www", PoolCommand::Restart, 3);
    assert_eq!(master.answer(2), Some(Err("cannot restart pool www: superseded by a later restart")));
    master.configure(vec![plan("www", 2)], Some(4));
    assert_eq!(master.answer(3), Some(Err("cannot restart pool www: superseded by a later reload")));
}

#[test]
fn a_reload_in_force_is_done_even_if_another_follows() {
    let mut master = Master::with_www(2);
    master.everyone_is(Activity::Busy);
    master.command("www", PoolCommand::Restart, 1);
    master.run(secs(1));
    assert_eq!((master.alive_of("www", 1).len(), master.alive_of("www", 2).len()), (2, 2));
    master.command("www", PoolCommand::Restart, 2);
    master.run(secs(1));
    assert_eq!((master.answer(1), master.answer(2)), (None, None));
    master.everyone_is(Activity::Idle);
    master.run(secs(1));
    assert_eq!(master.answer(1), Some(Ok("www is restarted, generation 2")));
    assert_eq!(master.answer(2), Some(Ok("www is restarted, generation 3")));
    assert_eq!(master.logged("[pool www] restarted: generation 3 is in service"), 1);
}

#[test]
fn reload_after_reload_never_piles_up_processes() {
    let mut master = Master::with_www(4);
    master.activity = Activity::Waiting;
    master.everyone_is(Activity::Waiting);
    for ticket in 1..20 {
        master.configure(vec![plan("www", 4)], Some(ticket));
        master.run(secs(1));
        assert!(master.alive("www").len() <= 12, "{}", master.alive("www").len());
    }
    master.run(secs(120));
    assert_eq!(master.alive("www").len(), 4);
    assert!(master.answer(19).unwrap().is_ok());
}

#[test]
fn the_dead_of_the_old_generation_are_replaced_during_a_reload() {
    let mut master = Master::with_www(2);
    master.activity = Activity::Unknown;
    master.configure(vec![plan("www", 2)], Some(1));
    master.end(WorkerId(1), KILLED);
    assert_eq!(master.alive_of("www", 1).len(), 2);
    // A new one that an administrator kills is no failure of the new settings.
    for _ in 0..5 {
        let victim = master.alive_of("www", 2)[0];
        master.send(crate::supervise::event::Event::Worker {
            worker: victim,
            command: crate::supervise::event::WorkerCommand::Kill,
            ticket: None,
        });
    }
    assert_eq!(master.alive_of("www", 2).len(), 2);
    master.everyone_is(Activity::Idle);
    master.run(secs(2));
    assert!(master.answer(1).unwrap().is_ok());
}

#[test]
fn a_reload_ends_a_crash_loop() {
    let mut master = Master::new();
    master.program("www", 1, Program::Ends(millis(10), ExitStatus::Code(1)));
    master.configure(vec![plan("www", 2)], None);
    master.run(secs(100));
    master.configure(vec![plan("www", 2)], Some(1));
    master.run(millis(100));
    assert!(master.answer(1).unwrap().is_ok());
    assert_eq!(master.state("www"), PoolState::Running);
    assert_eq!(master.supervisor.next_deadline(), None);
}

#[test]
fn a_scale_during_a_reload_holds_after_it() {
    let mut master = Master::with_www(2);
    master.activity = Activity::Unknown;
    master.configure(vec![plan("www", 2)], Some(1));
    master.command("www", PoolCommand::Scale(3), 2);
    master.everyone_is(Activity::Idle);
    master.activity = Activity::Idle;
    master.run(secs(2));
    assert_eq!((master.alive_of("www", 2).len(), master.alive("www").len()), (3, 3));
    assert!(master.answer(1).unwrap().is_ok() && master.answer(2).unwrap().is_ok());
}

/// Lets time pass bit by bit; answers the most processes that there were at once.
fn most_while(master: &mut Master, pools: &[&str], span: std::time::Duration) -> usize {
    let mut most = 0;
    let end = master.now.after(span);
    while master.now < end {
        let alive: usize = pools.iter().map(|pool| master.alive(pool).len()).sum();
        most = most.max(alive);
        master.run(millis(5));
    }
    most
}

fn surge(master: &mut Master, processes: u32) {
    master.send(crate::supervise::event::Event::ReloadSurge { processes });
}

#[test]
fn a_reload_has_no_more_processes_than_its_surge_and_never_fewer_ready_than_before() {
    for processes in [1, 3, 10, 100] {
        let mut master = Master::with_www(10);
        surge(&mut master, processes);
        master.configure(vec![plan("www", 10)], Some(1));
        let mut most = 0;
        for _ in 0..2000 {
            let alive = master.alive("www").len();
            most = most.max(alive);
            assert!(alive >= 10, "{alive} of 10 serve");
            master.run(millis(5));
        }
        assert!(most <= 10 + processes as usize, "{most} with {processes}");
        assert_eq!((master.alive_of("www", 2).len(), master.alive("www").len()), (10, 10), "{processes}");
        assert!(master.answer(1).unwrap().is_ok());
        assert_eq!(master.supervisor.next_deadline(), None);
    }
}

#[test]
fn the_surge_is_for_all_pools_together() {
    let names = ["a", "b", "c", "d"];
    let mut master = Master::new();
    surge(&mut master, 3);
    let plans = || names.iter().map(|name| plan(name, 5)).collect::<Vec<_>>();
    master.configure(plans(), None);
    master.run(secs(60));
    master.configure(plans(), Some(1));
    let most = most_while(&mut master, &names, secs(20));
    assert!((21..=23).contains(&most), "{most}");
    for name in names {
        assert_eq!((master.alive_of(name, 2).len(), master.alive(name).len()), (5, 5), "{name}");
    }
    assert!(master.answer(1).unwrap().is_ok());
    assert!(master.progress.iter().any(|line| line.contains("reload_surge lets no more start yet")));
}

#[test]
fn a_slow_request_holds_up_nothing_but_its_own_worker() {
    let mut master = Master::with_www(6);
    surge(&mut master, 2);
    master.everyone_is(Activity::Idle);
    master.processes.get_mut(&WorkerId(1)).unwrap().activity = Activity::Busy;
    master.configure(vec![plan("www", 6)], Some(1));
    master.run(secs(3));
    assert_eq!((master.alive_of("www", 2).len(), master.alive_of("www", 1).len()), (6, 1));
    assert_eq!(master.answer(1), None);
    master.everyone_is(Activity::Idle);
    master.run(secs(1));
    assert!(master.answer(1).unwrap().is_ok());
}

#[test]
fn a_pool_that_hangs_holds_up_the_others_for_as_long_as_its_start_may_take() {
    let mut master = Master::new();
    surge(&mut master, 2);
    master.configure(vec![plan("a", 4), plan("b", 4)], None);
    master.run(secs(60));
    master.program("a", 2, Program::HangsBeforeExec);
    master.configure(vec![plan("a", 4), plan("b", 4)], Some(1));
    master.run(secs(60));
    assert!(master.answer(1).unwrap().unwrap_err().contains("its program does not run after 10s"));
    assert_eq!((master.alive_of("a", 1).len(), master.alive_of("b", 2).len()), (4, 4));
}

#[test]
fn a_generation_that_fails_half_way_goes_back_with_nobody_missing() {
    let mut master = Master::with_www(8);
    surge(&mut master, 2);
    master.configure(vec![plan("www", 8)], Some(1));
    while master.alive_of("www", 2).len() < 4 {
        master.run(millis(1));
    }
    assert!(master.alive_of("www", 1).len() < 8, "some have made way");
    master.program("www", 2, Program::Ends(millis(1), ExitStatus::Code(78)));
    let victims = master.alive_of("www", 2);
    for victim in &victims[..3] {
        master.end(*victim, ExitStatus::Code(78));
    }
    let mut least = usize::MAX;
    for _ in 0..2000 {
        least = least.min(master.alive("www").len());
        master.run(millis(5));
    }
    assert!(master.answer(1).unwrap().unwrap_err().contains("its old workers stay in service"));
    assert_eq!((master.alive_of("www", 1).len(), master.alive("www").len()), (8, 8));
    assert!(least >= 8 - victims.len(), "{least}");
    assert_eq!((master.state("www"), master.view("www").generation), (PoolState::Running, Generation(1)));
}

#[test]
fn half_a_reload_that_is_superseded_leaves_nobody_missing() {
    let mut master = Master::with_www(8);
    surge(&mut master, 2);
    master.configure(vec![plan("www", 8)], Some(1));
    while master.alive_of("www", 2).len() < 4 {
        master.run(millis(1));
    }
    master.configure(vec![plan("www", 8)], Some(2));
    for _ in 0..2000 {
        let alive = master.alive("www").len();
        assert!((8..=8 + 4).contains(&alive), "{alive}");
        master.run(millis(5));
    }
    assert!(master.answer(1).unwrap().is_err() && master.answer(2).unwrap().is_ok());
    assert_eq!((master.alive_of("www", 3).len(), master.alive("www").len()), (8, 8));
}

#[test]
fn a_failed_reload_has_the_worker_s_own_words() {
    let mut master = Master::with_www(1);
    master.program("www", 2, Program::Ends(millis(300), ExitStatus::Code(78)));
    master.activity = Activity::Busy;
    master.configure(vec![plan("www", 1)], Some(1));
    for _ in 0..3 {
        let worker = master.alive_of("www", 2)[0];
        master.send(crate::supervise::event::Event::LastWords { worker, text: "no database".into() });
        master.run(millis(300));
    }
    let reason = master.answer(1).unwrap().unwrap_err();
    assert!(reason.contains("from start; it said: no database; its old workers stay"), "{reason}");
}

#[test]
fn old_workers_have_the_times_of_the_new_settings() {
    let mut master = Master::with_www(1);
    master.everyone_is(Activity::Busy);
    let patient = crate::supervise::event::PoolPlan { stop_timeout: secs(300), ..plan("www", 1) };
    master.configure(vec![patient], Some(1));
    master.run(secs(200));
    assert!(!master.processes[&WorkerId(1)].signalled);
    master.run(secs(150));
    assert!(master.answer(1).unwrap().is_ok());
}

/// Answers each look as the real master does for a worker in direct mode that has one short request after the other.
fn restless(master: &mut Master, seconds: u64) {
    for _ in 0..seconds * 10 {
        for worker in master.alive_of("www", 1) {
            master.send(Event::Restless { worker });
        }
        master.run(millis(100));
    }
}

#[test]
fn a_saturated_worker_that_finishes_what_it_has_is_not_waited_for() {
    for (heed, left) in [(Heed::Finishes, 0), (Heed::Unknown, 2)] {
        let mut master = Master::new();
        master.configure(vec![PoolPlan { heed, ..plan("www", 2) }], None);
        master.everyone_is(Activity::Busy);
        master.activity = Activity::Idle;
        master.configure(vec![PoolPlan { heed, ..plan("www", 2) }], Some(1));
        restless(&mut master, 1);
        assert_eq!(master.alive_of("www", 1).len(), 2, "one moment without a request may come");
        restless(&mut master, 2);
        assert_eq!(master.alive_of("www", 1).len(), left);
        master.run(secs(40));
        assert!(master.answer(1).unwrap().is_ok());
        let late = if heed == Heed::Finishes { 0 } else { 2 };
        assert_eq!(master.logged_at(log::Level::Warn, "sending SIGTERM all the same"), late);
    }
}
