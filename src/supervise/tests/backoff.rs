//! Crash loops, starts that fail, sockets that cannot be opened: what is tried when, said how often, and who is
//! not touched by it.

use crate::ids::ExitStatus;
use crate::supervise::PoolState;
use crate::supervise::event::PoolCommand;

use super::master::{KILLED, Master, Program, millis, plan, secs};

const CRASH: ExitStatus = ExitStatus::Code(1);

#[test]
fn a_crash_loop_backs_off_is_visible_and_recovers_by_itself() {
    let mut master = Master::new();
    master.program("www", 1, Program::Ends(millis(50), CRASH));
    master.configure(vec![plan("www", 4), plan("api", 2)], None);
    let api = master.alive("api");
    master.run(secs(300));
    assert!((15..30).contains(&master.starts()), "{} starts", master.starts());
    let view = master.view("www");
    assert_eq!(view.state, PoolState::BackingOff);
    assert!(view.reason.unwrap().contains("exited with code 1 after 0.050000 seconds from start"));
    assert!(view.retry_at.unwrap() <= master.now.after(secs(30)));
    let loud = master.logged.iter().filter(|(level, _)| *level <= log::Level::Info).count();
    assert!(loud < 35, "{loud} lines");
    assert_eq!(master.logged_at(log::Level::Warn, "next start in 30s"), 9);
    master.program("www", 1, Program::Serves);
    master.run(secs(32));
    assert_eq!(master.alive("www").len(), 4);
    assert_eq!(master.state("www"), PoolState::Running);
    assert_eq!(master.logged("[pool www] recovered"), 1);
    assert_eq!(master.supervisor.next_deadline(), None);
    assert_eq!(master.alive("api"), api);
}

#[test]
fn requests_that_kill_workers_do_not_end_the_service_of_the_others() {
    let mut master = Master::new();
    master.program("www", 1, Program::Ends(millis(50), CRASH));
    master.configure(vec![plan("www", 4)], None);
    // Each worker answers something before it is given what kills it.
    for _ in 0..200 {
        master.run(millis(50));
        master.works("www");
        assert_eq!(master.state("www"), PoolState::Running);
    }
    let starts = master.starts();
    assert!(starts > 600, "{starts} starts");
    // And now nobody answers anything any more.
    master.run(secs(300));
    assert!((80..120).contains(&(master.starts() - starts)), "{} starts", master.starts() - starts);
    assert_eq!(master.state("www"), PoolState::BackingOff);
    master.works("www");
    assert_eq!(master.logged("[pool www] recovered"), 0, "nobody was on probation");
}

#[test]
fn one_probe_decides_for_all() {
    let mut master = Master::new();
    master.program("www", 1, Program::CannotExecute("cannot execute '/usr/bin/php-cgx': No such file"));
    master.configure(vec![plan("www", 50)], None);
    assert_eq!(master.starts(), 50);
    master.run(millis(100));
    assert_eq!(master.starts(), 51);
    master.program("www", 1, Program::Serves);
    master.run(millis(200));
    assert_eq!(master.starts(), 52);
    assert_eq!(master.state("www"), PoolState::BackingOff);
    master.run(millis(999));
    assert_eq!(master.starts(), 52);
    master.run(millis(1));
    assert_eq!(master.alive("www").len(), 50);
    assert_eq!(master.state("www"), PoolState::Running);
}

/// What whoever waits for workers of `www` hears of a failure.
fn with_outlook(sentence: &str) -> String {
    format!("{sentence}; fpmd keeps trying, mended settings come in force by `fpmctl reload www`")
}

#[test]
fn whatever_is_asked_of_a_pool_that_does_not_come_up_fails_in_its_own_words() {
    let mut master = Master::new();
    for generation in 1..=2 {
        let why = "cannot execute '/x': No such file or directory";
        master.program("www", generation, Program::CannotExecute(why));
    }
    master.configure(vec![plan("www", 3)], None);
    master.run(secs(1));
    let commands = [
        (PoolCommand::Start, "start pool www"),
        (PoolCommand::Restart, "restart pool www"),
        (PoolCommand::Scale(5), "scale pool www to 5 workers"),
    ];
    for (ticket, (command, words)) in (1..).zip(commands) {
        master.command("www", command, ticket);
        master.run(secs(120));
        let sentence = format!("cannot {words}: cannot execute '/x': No such file or directory");
        assert_eq!(master.answer(ticket), Some(Err(with_outlook(&sentence).as_str())));
    }
    assert_eq!(master.logged_at(log::Level::Error, "cannot restart pool www"), 1);
    assert_eq!(master.logged("cannot reload"), 0);
    master.command("www", PoolCommand::Stop, 4);
    master.cannot_listen.insert("www".into(), "cannot bind '/run/x.sock'".into());
    master.command("www", PoolCommand::Restart, 5);
    let sentence = "cannot restart pool www: cannot bind '/run/x.sock'";
    assert_eq!(master.answer(5), Some(Err(with_outlook(sentence).as_str())));
}

#[test]
fn a_start_that_fails_is_logged_once_for_each_reason() {
    let mut master = Master::new();
    master.program("www", 1, Program::CannotExecute("cannot execute '/x': No such file or directory"));
    master.configure(vec![plan("www", 3)], Some(1));
    master.run(secs(120));
    let sentence = "cannot start pool www: cannot execute '/x': No such file or directory";
    assert_eq!(master.logged_at(log::Level::Error, sentence), 1);
    assert_eq!(master.answer(1), Some(Err(with_outlook(sentence).as_str())));
    assert_eq!(master.view("www").reason.as_deref(), Some(sentence));
    let counters = master.view("www").counters;
    assert_eq!(counters.start_failures as usize, master.starts());
    assert_eq!((counters.started, counters.crashed, counters.recycled), (0, 0, 0));
    master.program("www", 1, Program::CannotExecute("cannot change user to 'www': unknown"));
    master.run(secs(120));
    assert_eq!(master.logged_at(log::Level::Error, "cannot change user"), 1);
}

#[test]
fn when_fork_fails_what_runs_is_kept() {
    let mut master = Master::with_www(10);
    master.program("www", 1, Program::CannotFork);
    let victim = master.alive("www")[0];
    master.end(victim, KILLED);
    master.run(secs(20));
    assert_eq!(master.alive("www").len(), 9);
    assert_eq!(master.state("www"), PoolState::BackingOff);
    assert_eq!(master.logged_at(log::Level::Error, "cannot fork: Resource temporarily unavailable"), 1);
    master.program("www", 1, Program::Serves);
    master.run(secs(20));
    assert_eq!(master.alive("www").len(), 10);
    assert_eq!(master.state("www"), PoolState::Running);
}

#[test]
fn an_old_worker_is_replaced_at_once_even_while_another_slot_crash_loops() {
    let mut master = Master::with_www(3);
    master.program("www", 1, Program::Ends(millis(20), CRASH));
    let [first, second, _] = master.alive("www")[..] else { panic!() };
    master.end(first, KILLED);
    master.run(secs(40));
    assert_eq!(master.state("www"), PoolState::BackingOff);
    master.program("www", 1, Program::Serves);
    let starts = master.starts();
    master.end(second, KILLED);
    assert_eq!(master.starts(), starts + 1);
}

#[test]
fn start_of_a_pool_that_backs_off_tries_at_once() {
    let mut master = Master::new();
    master.program("www", 1, Program::Ends(millis(20), CRASH));
    master.configure(vec![plan("www", 2)], None);
    master.run(secs(100));
    master.program("www", 1, Program::Serves);
    assert!(master.alive("www").is_empty());
    master.command("www", PoolCommand::Start, 1);
    assert_eq!(master.alive("www").len(), 2);
    master.run(secs(1));
    assert!(master.answer(1).unwrap().is_ok());
}

#[test]
fn exit_code_0_at_once_ends_in_back_off_too() {
    let mut master = Master::new();
    master.program("www", 1, Program::Ends(millis(2), ExitStatus::Code(0)));
    master.configure(vec![plan("www", 2)], None);
    master.run(secs(600));
    assert!((20..40).contains(&master.starts()), "{} starts", master.starts());
    assert_eq!(master.view("www").counters.crashed, 0);
    assert_eq!(master.view("www").counters.recycled as usize, master.starts());
}

#[test]
fn a_pool_that_recycles_fast_is_never_held_back_and_one_that_spins_is() {
    let mut master = Master::new();
    let mut recycling = plan("www", 2);
    recycling.recycles = true;
    master.program("www", 1, Program::Ends(millis(150), ExitStatus::Code(0)));
    master.configure(vec![recycling.clone()], None);
    master.run(secs(60));
    assert_eq!(master.starts(), 2 * (60_000 / 150 + 1));
    assert_eq!(master.state("www"), PoolState::Running);

    let mut master = Master::new();
    master.program("www", 1, Program::Ends(millis(2), ExitStatus::Code(0)));
    master.configure(vec![recycling], None);
    master.run(secs(60));
    assert!((200..350).contains(&master.starts()), "{} starts", master.starts());
    let loud = master.logged.iter().filter(|(level, _)| *level <= log::Level::Info).count();
    assert!(loud < 100, "{loud} lines");
}

#[test]
fn sockets_that_cannot_be_opened_are_tried_again_for_ever() {
    let mut master = Master::new();
    let reason = "cannot bind '/run/x.sock': No space left on device";
    master.cannot_listen.insert("www".into(), reason.into());
    master.configure(vec![plan("www", 2), plan("api", 2)], Some(1));
    master.run(secs(200));
    let sentence = format!("cannot start pool www: {reason}");
    assert_eq!(master.answer(1), Some(Err(with_outlook(&sentence).as_str())));
    assert_eq!(master.logged_at(log::Level::Error, &sentence), 1);
    let view = master.view("www");
    assert_eq!((view.state, view.reason), (PoolState::Failed, Some(sentence)));
    assert!(view.retry_at.unwrap() <= master.now.after(secs(30)));
    assert_eq!(master.alive("api").len(), 2);
    master.cannot_listen.clear();
    master.run(secs(30));
    assert_eq!(master.state("www"), PoolState::Running);
    assert_eq!(master.logged("[pool www] listens now"), 1);
    assert_eq!(master.supervisor.next_deadline(), None);
}

#[test]
fn a_failed_pool_takes_new_settings_at_once() {
    let mut master = Master::new();
    master.cannot_listen.insert("www".into(), "cannot bind".into());
    master.configure(vec![plan("www", 2)], None);
    master.run(secs(200));
    master.cannot_listen.clear();
    master.configure(vec![plan("www", 3)], Some(1));
    assert_eq!(master.alive_of("www", 2).len(), 3);
    master.run(secs(1));
    assert!(master.answer(1).unwrap().is_ok());
    master.cannot_listen.insert("api".into(), "cannot bind".into());
    master.configure(vec![plan("api", 2)], None);
    master.cannot_listen.clear();
    master.command("api", PoolCommand::Start, 2);
    assert_eq!(master.alive("api").len(), 2);
}

#[test]
fn the_log_of_a_crash_loop_reads_in_order() {
    let mut master = Master::new();
    master.program("www", 1, Program::Ends(millis(50), CRASH));
    master.configure(vec![plan("www", 1)], None);
    master.run(secs(3));
    let loud: Vec<&str> = master
        .logged
        .iter()
        .filter(|(level, _)| *level <= log::Level::Info)
        .map(|(_, text)| text.strip_prefix("[pool www] ").unwrap())
        .map(|text| text.split_once(';').map_or(text, |(head, _)| head))
        .collect();
    let ended = |pid: u32| format!("child {pid} exited with code 1 after 0.050000 seconds from start");
    let started = |pid: u32| format!("child {pid} started");
    let slower = |delay: &str| format!("children keep ending young, next start in {delay}");
    let expected = [
        ended(101),
        started(102),
        ended(102),
        slower("100ms"),
        started(103),
        ended(103),
        slower("200ms"),
        started(104),
        ended(104),
        slower("400ms"),
        started(105),
        ended(105),
        slower("800ms"),
        started(106),
        "more children end young".to_owned(),
        slower("1.6s"),
    ];
    assert_eq!(loud, expected);
}
