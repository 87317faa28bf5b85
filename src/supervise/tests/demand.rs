//! Pools whose number of workers follows demand, with a gateway and without.

use crate::ids::{Ticket, WorkerId};
use crate::policy::Mode;
use crate::status::snapshot::Activity;
use crate::supervise::PoolState;
use crate::supervise::action::Action;
use crate::supervise::event::{Event, Intake, Load, News, PoolCommand, PoolPlan};

use super::master::{Master, Program, bounds, millis, name, plan, secs};

const BOTH: [Intake; 2] = [Intake::Gateway, Intake::Shared];

pub(super) fn dynamic(start_servers: u32, min_spare: u32, max_spare: u32) -> Mode {
    Mode::Dynamic { start_servers, min_spare, max_spare }
}

fn following(mode: Mode, most: u32, intake: Intake) -> PoolPlan {
    PoolPlan { bounds: bounds(mode, most), intake, ..plan("www", most) }
}

fn pool(mode: Mode, most: u32, intake: Intake) -> Master {
    let mut master = Master::new();
    master.configure(vec![following(mode, most, intake)], Some(1));
    master.run(secs(1));
    master
}

fn counts(master: &Master) -> usize {
    master.alive("www").len()
}

/// Gives so many more workers a request.
fn engage(master: &mut Master, workers: usize) {
    let idle = |master: &Master, worker: &WorkerId| master.processes[worker].activity == Activity::Idle;
    let chosen: Vec<WorkerId> =
        master.alive("www").into_iter().filter(|worker| idle(master, worker)).take(workers).collect();
    assert_eq!(chosen.len(), workers);
    for worker in chosen {
        master.processes.get_mut(&worker).unwrap().activity = Activity::Busy;
    }
}

/// The queue is taken up by so many workers that are idle, or will be in a moment.
fn take_up(master: &mut Master, workers: usize) {
    master.run(millis(3));
    master.queue("www", 0);
    master.run(millis(50));
    engage(master, workers);
    master.queue("www", 0);
}

/// A dynamic pool from 2 to 10 with its two workers at work and `queued` requests more.
fn crowded(intake: Intake, queued: u32) -> Master {
    let mut master = pool(dynamic(2, 1, 3), 10, intake);
    engage(&mut master, 2);
    master.queue("www", queued);
    master
}

#[test]
fn a_dynamic_pool_starts_with_its_start_servers() {
    for intake in BOTH {
        let master = pool(dynamic(4, 2, 6), 10, intake);
        assert_eq!((counts(&master), master.state("www")), (4, PoolState::Running));
        assert_eq!(master.answer(1), Some(Ok("www is running with 4 workers, at most 10")));
        assert_eq!(master.view("www").children, 10);
        assert_eq!(master.supervisor.next_deadline(), None, "nothing wakes an idle pool");
    }
}

#[test]
fn an_ondemand_pool_starts_with_nobody_and_is_well() {
    for intake in BOTH {
        let mut master = pool(Mode::Ondemand, 10, intake);
        assert_eq!((counts(&master), master.state("www")), (0, PoolState::Running));
        assert_eq!(master.answer(1), Some(Ok("www is running with 0 workers, at most 10")));
        assert_eq!(master.supervisor.next_deadline(), None, "nothing wakes an idle pool");
        master.command("www", PoolCommand::Stop, 2);
        assert_eq!(master.answer(2), Some(Ok("www is stopped")));
        master.command("www", PoolCommand::Start, 3);
        assert_eq!(master.answer(3), Some(Ok("www is running with 0 workers, at most 10")));
        master.stop(4);
        assert!(master.exited);
    }
}

#[test]
fn as_many_start_as_wait() {
    for intake in BOTH {
        let mut master = pool(Mode::Ondemand, 10, intake);
        master.queue("www", 6);
        assert_eq!(counts(&master), 6, "{intake:?}: at once");
        let mut master = pool(Mode::Ondemand, 10, intake);
        master.queue("www", 30);
        master.run(millis(500));
        assert_eq!(counts(&master), 10, "{intake:?}: at most max_children");
        let mut master = crowded(intake, 5);
        master.run(millis(3));
        assert_eq!(counts(&master), 8, "{intake:?}: five for the queue, and a spare one");
    }
}

#[test]
fn a_burst_is_paced_by_those_that_become_ready() {
    for intake in BOTH {
        let mut master = Master::new();
        master.program("www", 1, Program::Slow(secs(2)));
        let mut slow = following(Mode::Ondemand, 100, intake);
        slow.bounds.max_spawn_rate = 10;
        master.configure(vec![slow], None);
        master.queue("www", 40);
        assert_eq!(counts(&master), 8, "as many as start at once");
        master.run(secs(1));
        assert_eq!(counts(&master), 18, "and ten a second");
        master.run(millis(1_100));
        assert_eq!(counts(&master), 37, "and one for each that is ready");
    }
}

#[test]
fn only_idle_workers_are_ended_and_only_those_that_were_so_for_long() {
    for intake in BOTH {
        let mut master = crowded(intake, 5);
        take_up(&mut master, 6);
        master.run(secs(8));
        assert_eq!(counts(&master), 9, "{intake:?}: one spare beside eight at work");
        // Two are at work from now on.
        master.everyone_is(Activity::Idle);
        engage(&mut master, 2);
        master.queue("www", 0);
        master.run(secs(9));
        assert_eq!(counts(&master), 9, "{intake:?}: they may be needed again");
        master.run(secs(6));
        assert_eq!(counts(&master), 5, "{intake:?}: two at work and three spare");
        let busy = |worker: &WorkerId| master.processes[worker].activity == Activity::Busy;
        assert_eq!(master.alive("www").iter().filter(|worker| busy(worker)).count(), 2, "{intake:?}");
        assert_eq!(master.view("www").counters.crashed, 0);
    }
}

#[test]
fn an_ondemand_pool_ends_them_all_at_last_and_then_sleeps() {
    for intake in BOTH {
        let mut master = pool(Mode::Ondemand, 10, intake);
        master.queue("www", 6);
        take_up(&mut master, 6);
        master.run(secs(30));
        assert_eq!(counts(&master), 6);
        master.everyone_is(Activity::Idle);
        master.queue("www", 0);
        master.run(secs(16));
        assert_eq!((counts(&master), master.state("www")), (0, PoolState::Running), "{intake:?}");
        let wakeups = master.wakeups;
        master.run(secs(3_600));
        assert_eq!(master.wakeups, wakeups, "{intake:?}");
        master.queue("www", 1);
        assert_eq!(counts(&master), 1);
    }
}

#[test]
fn without_a_gateway_a_pool_at_rest_waits_for_a_connection_and_nothing_else() {
    let mut master = pool(dynamic(2, 1, 3), 10, Intake::Shared);
    let waits = Action::AwaitQueue { pool: name("www") };
    assert_eq!(master.actions.iter().filter(|action| **action == waits).count(), 1);
    // One that its workers take by themselves.
    master.queue("www", 1);
    master.queue("www", 0);
    master.run(millis(200));
    assert_eq!((counts(&master), master.starts()), (2, 2));
    master.run(secs(60));
    assert_eq!(master.supervisor.next_deadline(), None);
    assert!(master.wakeups < 8, "{}", master.wakeups);
    assert_eq!(master.actions.iter().filter(|action| **action == waits).count(), 2);
}

#[test]
fn max_children_reached_is_counted_once_a_time_and_logged_as_php_fpm_does() {
    for intake in BOTH {
        let mut master = crowded(intake, 30);
        master.run(millis(100));
        assert_eq!(counts(&master), 10);
        engage(&mut master, 8);
        master.run(secs(3));
        let said = "[pool www] server reached pm.max_children setting (10), consider raising it";
        assert_eq!(master.logged_at(log::Level::Warn, said), 1);
        assert_eq!(master.view("www").counters.max_children_reached, 1);
    }
}

#[test]
fn a_worker_that_ends_without_need_is_not_replaced() {
    for intake in BOTH {
        let mut master = pool(Mode::Ondemand, 10, intake);
        master.queue("www", 1);
        master.queue("www", 0);
        master.run(secs(5));
        let worker = master.alive("www")[0];
        master.end(worker, crate::ids::ExitStatus::Code(0));
        master.run(secs(5));
        assert_eq!(counts(&master), 0, "{intake:?}");
        let mut master = pool(dynamic(2, 2, 3), 10, intake);
        let worker = master.alive("www")[0];
        master.end(worker, crate::ids::ExitStatus::Code(0));
        master.run(secs(1));
        assert_eq!(counts(&master), 2, "{intake:?}: it has to have two spare ones");
    }
}

#[test]
fn programs_that_fail_are_backed_off_from() {
    for intake in BOTH {
        let mut master = Master::new();
        master.program("www", 1, Program::CannotExecute("cannot execute '/x': No such file or directory"));
        master.configure(vec![following(Mode::Ondemand, 10, intake)], None);
        assert_eq!(master.state("www"), PoolState::Running);
        master.queue("www", 3);
        master.run(secs(60));
        assert_eq!(master.state("www"), PoolState::BackingOff, "{intake:?}");
        assert!(master.starts() < 20, "{intake:?}: {}", master.starts());
        master.programs.clear();
        master.run(secs(60));
        // Nobody takes what waits, so that without a gateway even more seem to be needed.
        assert!(counts(&master) >= 3, "{intake:?}");
        assert_eq!(master.state("www"), PoolState::Running, "{intake:?}");
    }
}

#[test]
fn a_scale_changes_the_most() {
    for intake in BOTH {
        let mut master = crowded(intake, 30);
        master.run(millis(500));
        assert_eq!(counts(&master), 10);
        master.command("www", PoolCommand::Scale(12), 2);
        master.run(secs(1));
        assert_eq!((counts(&master), master.view("www").children), (12, 12), "{intake:?}");
        assert_eq!(master.answer(2), Some(Ok("www is running with 12 workers, at most 12")));
        master.queue("www", 0);
        master.everyone_is(Activity::Idle);
        engage(&mut master, 4);
        master.command("www", PoolCommand::Scale(3), 3);
        master.run(secs(6));
        assert_eq!(counts(&master), 4, "{intake:?}: whoever is at work stays");
        assert_eq!(master.answer(3), None);
        master.everyone_is(Activity::Idle);
        master.queue("www", 0);
        master.run(secs(6));
        assert_eq!((counts(&master), master.view("www").children), (3, 3), "{intake:?}");
        assert_eq!(master.answer(3), Some(Ok("www is running with 3 workers, at most 3")));
        // It holds over a reload.
        master.configure(vec![following(dynamic(2, 1, 3), 10, intake)], Some(4));
        master.run(secs(1));
        assert_eq!(master.view("www").children, 3);
        master.configure(vec![following(dynamic(2, 1, 3), 11, intake)], Some(5));
        master.run(secs(1));
        assert_eq!(master.view("www").children, 11);
    }
}

#[test]
fn a_reload_brings_as_many_as_there_are_and_proves_that_they_work() {
    for intake in BOTH {
        let mut master = crowded(intake, 5);
        take_up(&mut master, 6);
        master.run(secs(1));
        assert_eq!(counts(&master), 9);
        master.configure(vec![following(dynamic(2, 1, 3), 20, intake)], Some(2));
        master.run(millis(300));
        assert_eq!(master.alive_of("www", 2).len(), 9, "{intake:?}");
        master.everyone_is(Activity::Idle);
        master.run(secs(1));
        assert!(master.answer(2).unwrap().is_ok());
        assert_eq!(master.alive_of("www", 1).len(), 0);
        // One without workers has one started, as a proof.
        let mut master = pool(Mode::Ondemand, 10, intake);
        master.program("www", 2, Program::CannotExecute("cannot execute '/x': No such file or directory"));
        master.configure(vec![following(Mode::Ondemand, 10, intake)], Some(2));
        master.run(secs(1));
        let reason = master.answer(2).unwrap().unwrap_err();
        assert!(reason.ends_with("No such file or directory; its old settings stay in force"), "{reason}");
        assert_eq!(master.view("www").generation.0, 1);
        master.configure(vec![following(Mode::Ondemand, 10, intake)], Some(3));
        master.run(secs(1));
        assert_eq!((master.answer(3).unwrap().is_ok(), counts(&master)), (true, 0), "{intake:?}");
        assert_eq!((master.view("www").generation.0, master.starts()), (3, 4), "{intake:?}");
        // Where somebody waits it stays.
        master.configure(vec![following(Mode::Ondemand, 10, intake)], Some(4));
        master.queue("www", 1);
        master.run(secs(1));
        assert!(master.answer(4).unwrap().is_ok() && !master.alive_of("www", 4).is_empty(), "{intake:?}");
    }
}

#[test]
fn the_mode_can_change() {
    for intake in BOTH {
        let mut master = Master::new();
        master.configure(vec![following(Mode::Static, 6, intake)], None);
        master.run(secs(1));
        master.amend(vec![following(Mode::Ondemand, 6, intake)], Some(2));
        master.run(secs(16));
        assert_eq!(counts(&master), 0, "{intake:?}");
        master.queue("www", 2);
        assert_eq!(counts(&master), 2, "{intake:?}");
        master.queue("www", 0);
        master.configure(vec![following(Mode::Static, 6, intake)], Some(3));
        master.run(secs(1));
        assert_eq!((counts(&master), master.alive_of("www", 2).len()), (6, 6), "{intake:?}");
        assert_eq!(master.supervisor.next_deadline(), None, "{intake:?}");
    }
}

#[test]
fn a_pool_is_sure_of_its_minimum_of_all_processes() {
    for intake in BOTH {
        let mut master = Master::new();
        master.send(Event::ProcessMax { most: Some(10) });
        let api = PoolPlan { name: name("api"), ..following(Mode::Ondemand, 10, intake) };
        master.configure(vec![following(dynamic(2, 2, 3), 20, intake), api], None);
        master.run(secs(1));
        master.everyone_is(Activity::Busy);
        master.activity = Activity::Busy;
        master.queue("www", 50);
        master.run(secs(10));
        assert_eq!(counts(&master), 9, "{intake:?}: one is api's");
        let said = "[pool www] wants more children than process_max allows";
        assert_eq!(master.logged_at(log::Level::Warn, said), 1);
        master.queue("api", 3);
        master.run(secs(1));
        assert_eq!(master.alive("api").len(), 1, "{intake:?}: and no more than that");
        // What one gives up another gets, without a look in between.
        let worker = master.alive("www")[0];
        master.queue("www", 0);
        master.end(worker, crate::ids::ExitStatus::Code(0));
        master.run(millis(300));
        assert_eq!(master.alive("api").len() + counts(&master), 10, "{intake:?}");
    }
}

#[test]
fn a_static_pool_is_not_scaled_beyond_process_max() {
    let mut master = Master::new();
    master.send(Event::ProcessMax { most: Some(6) });
    let api = PoolPlan { name: name("api"), ..following(dynamic(1, 2, 3), 10, Intake::Gateway) };
    master.configure(vec![plan("www", 2), api], None);
    master.run(secs(1));
    master.command("www", PoolCommand::Scale(5), 2);
    let reason =
        "cannot scale pool www to 5 workers: process_max leaves it 4 beside the least of other pools";
    assert_eq!(master.answer(2), Some(Err(reason)));
    assert_eq!((master.alive("www").len(), master.view("www").children), (2, 2));
    master.command("www", PoolCommand::Scale(4), 3);
    master.run(secs(1));
    assert_eq!((master.answer(3).unwrap().is_ok(), master.alive("www").len()), (true, 4));
    // A bound is not a number that has to be reached.
    master.command("api", PoolCommand::Scale(50), 4);
    master.run(secs(1));
    assert!(master.answer(4).unwrap().is_ok());
}

#[test]
fn a_gateway_that_was_replaced_owes_no_answer() {
    let mut master = pool(Mode::Ondemand, 10, Intake::Gateway);
    master.queue("www", 3);
    master.queue("www", 0);
    master.gateway_is_deaf = true;
    master.run(secs(20));
    assert_eq!(counts(&master), 3, "nobody is let go of");
    master.gateway_is_deaf = false;
    master.send(Event::Demand { pool: name("www"), news: News::Released });
    master.run(secs(20));
    assert_eq!(counts(&master), 0);
}

#[test]
fn what_comes_late_about_a_pool_that_is_gone_is_ignored() {
    let mut master = pool(Mode::Ondemand, 10, Intake::Shared);
    let removed = vec![name("www")];
    master.send(Event::Configure { plans: vec![], amended: vec![], removed, ticket: Some(Ticket(2)) });
    for news in [
        News::Queued,
        News::Measured(3),
        News::Surveyed { queued: 3, seen: vec![(WorkerId(1), Activity::Idle)] },
        News::Load(Load::default()),
        News::Released,
    ] {
        master.send(Event::Demand { pool: name("www"), news });
    }
    assert_eq!((master.logged("cannot be"), master.starts()), (0, 0));
}
