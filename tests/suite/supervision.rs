//! Workers that die, loop, leave orphans or will not go; fpmd that is asked to end, told twice, killed, or process 1.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::{Dispatch, MARK, Pool, Rig};
use crate::support::{as_root, process, wait_for, wait_until, workers};

#[test]
fn a_killed_worker_is_replaced_and_counted_once() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(3)).expect("SIGKILL").start();
    let before = fpmd.workers("www");
    process::signal(before[1], Signal::SIGKILL);
    let pool = fpmd.wait_pool("www", "three workers, one new", |pool| {
        (pool.total_processes, pool.started) == (3, 4)
            && !pool.workers.iter().any(|worker| worker.pid.as_raw() == before[1])
    });
    assert_eq!((pool.started, pool.crashed, pool.recycled), (4, 1, 0), "{pool:?}");
    let kept: Vec<i32> =
        pool.workers.iter().map(|worker| worker.pid.as_raw()).filter(|pid| before.contains(pid)).collect();
    assert_eq!(kept, [before[0], before[2]]);
    fpmd.finish();
}

#[test]
fn a_hundred_killed_at_once_are_all_replaced() {
    let rig =
        Rig::new().pool(Pool::new("www", &workers::c()).workers(100)).expect("SIGKILL").expect("end young");
    let fpmd = rig.start();
    let before = fpmd.workers("www");
    before.iter().for_each(|pid| process::signal(*pid, Signal::SIGKILL));
    let pool = fpmd.wait_pool("www", "a hundred new workers", |pool| {
        (pool.total_processes, pool.started) == (100, 200)
            && pool.workers.iter().all(|worker| !before.contains(&worker.pid.as_raw()))
    });
    assert_eq!((pool.started, pool.crashed), (200, 100), "{pool:?}");
    fpmd.finish();
}

#[test]
fn exit_0_is_a_recycle_without_a_wait() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::php()).pm("max_requests", "5")).start();
    let mut pids: Vec<String> = Vec::new();
    for _ in 0..40 {
        // php-cgi closes its end of the queue's next connection only when it exits; the queue itself is never lost.
        pids.push(wait_for("an answer", || fpmd.address("www").get("/pid").ok()).text());
    }
    pids.dedup();
    assert!(pids.len() >= 7, "{pids:?}");
    let pool = fpmd.pool("www");
    assert!(pool.recycled >= 7 && pool.crashed == 0, "{pool:?}");
    fpmd.finish();
}

#[test]
fn a_crash_loop_backs_off_is_visible_and_heals_by_itself() {
    let rig = Rig::new();
    rig.dir.program("app", "#!/bin/sh\necho broken >&2\nexit 3\n");
    let command = vec![rig.dir.join("app").to_str().unwrap().to_owned()];
    let rig = rig.pool(Pool::new("www", &command)).pool(Pool::new("good", &workers::c()).workers(2));
    let mut fpmd = rig.expect("www").start();
    fpmd.descriptors_may_change();
    let good = fpmd.workers("good");
    let pool =
        fpmd.wait_pool("www", "backing off", |pool| pool.state == "backing off" && pool.retry_in.is_some());
    assert!(pool.reason.as_ref().unwrap().contains("code 3"), "{pool:?}");
    let (started, since) = (pool.started, Instant::now());
    // Exponential: in the next second there is room for a few tries only.
    wait_until("a second to pass", || since.elapsed() > Duration::from_secs(1));
    let tries = fpmd.pool("www").started - started;
    assert!(tries <= 10, "{tries} starts in a second");
    assert_eq!(fpmd.ctl(&["health"]).code, Some(1));
    assert_eq!(fpmd.ctl(&["health", "good"]).code, Some(0));
    fpmd.rig.dir.program("app", &format!("#!/bin/sh\nexec {}\n", workers::c()[0]));
    fpmd.wait_pool("www", "healed", |pool| pool.state == "running" && pool.total_processes == 1);
    fpmd.address("www").get("/pid").unwrap();
    assert_eq!(fpmd.workers("good"), good, "the other pool never noticed");
    fpmd.finish();
}

#[test]
fn a_worker_that_exits_0_at_once_does_not_spin() {
    let mut fpmd = Rig::new()
        .pool(Pool::new("www", &workers::shell("exit 0")))
        .pool(Pool::new("good", &workers::c()))
        .expect("www")
        .start();
    fpmd.descriptors_may_change();
    let pool = fpmd.wait_pool("www", "backing off", |pool| pool.retry_in.is_some());
    let (started, since) = (pool.started, Instant::now());
    wait_until("a second to pass", || since.elapsed() > Duration::from_secs(1));
    let tries = fpmd.pool("www").started - started;
    assert!(tries <= 10, "{tries} starts in a second");
    fpmd.address("good").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn a_worker_that_ignores_its_stop_signal_is_killed_in_time() {
    let stubborn = Pool::new("www", &workers::shell("trap '' TERM; sleep 1000 & wait; wait"))
        .key("stop_timeout", "\"100ms\"");
    let fpmd = Rig::new()
        .pool(stubborn)
        .global("process_control_timeout", "\"300ms\"")
        .expect("www")
        .expect("orphan")
        .start();
    let pid = fpmd.workers("www")[0];
    wait_until("the trap to be set", || process::children(pid).len() == 1);
    let since = Instant::now();
    // `finish` checks that nothing is left, the worker's own child included.
    fpmd.finish();
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[test]
fn a_second_signal_ends_at_once() {
    let stubborn = Pool::new("www", &workers::shell("trap '' TERM; while :; do sleep 1; done")).workers(2);
    let fpmd = Rig::new()
        .pool(stubborn.key("stop_timeout", "\"10m\""))
        .global("process_control_timeout", "\"10m\"")
        .expect("www")
        .start();
    fpmd.signal(Signal::SIGTERM);
    let notified = fpmd.log().len();
    wait_until("the first signal to be logged", || {
        fpmd.log().len() >= notified && fpmd.log().to_lowercase().contains("stop")
    });
    assert!(process::is_alive(fpmd.pid()), "it drains first");
    let since = Instant::now();
    fpmd.signal(Signal::SIGTERM);
    fpmd.finish_stopped();
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[test]
fn every_signal_that_asks_for_the_end_is_a_good_end() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        let mut fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(2)).start();
        fpmd.signal(signal);
        wait_until("the service manager to be told", || fpmd.notified().contains("STOPPING=1"));
        fpmd.finish_stopped();
    }
}

#[test]
fn a_stop_lets_the_request_in_a_worker_end() {
    for command in [workers::php(), workers::flup("threaded"), workers::c()] {
        let fpmd =
            Rig::new().for_python().pool(Pool::new("www", &command).key("stop_timeout", "\"10s\"")).start();
        let pid = fpmd.wait_pool("www", "idle", |pool| pool.idle_processes == 1).workers[0].pid;
        let mut connection = fpmd.address("www").connect().unwrap();
        connection.send("GET", "/slow/700", &[]).unwrap();
        fpmd.wait_pool("www", "busy", |pool| pool.active_processes == 1);
        fpmd.signal(Signal::SIGTERM);
        assert_eq!(
            connection.answer().unwrap_or_else(|error| panic!("{command:?}: {error}")).text(),
            pid.to_string()
        );
        drop(connection);
        fpmd.finish_stopped();
    }
}

#[test]
fn the_pools_own_stop_signal_is_used() {
    let rig = Rig::new();
    let script = format!(
        "trap 'echo graceful > {}/said; exit 0' USR2; while :; do sleep 0.05; done",
        rig.dir.path().display()
    );
    let pool = Pool::new("www", &workers::shell(&script)).key("stop_signal", "\"SIGUSR2\"").hasty();
    let fpmd = rig.pool(pool).start();
    let pid = fpmd.workers("www")[0];
    wait_until("the trap to be set", || {
        process::status_line(pid, "SigCgt").is_some_and(|set| set != "0000000000000000")
    });
    let said = fpmd.rig.dir.join("said");
    let dir = fpmd.rig.dir.path().to_owned();
    let master = fpmd.pid();
    fpmd.signal(Signal::SIGTERM);
    wait_until("the end", || !process::is_alive(master));
    assert_eq!(fs::read_to_string(&said).unwrap_or_default().trim(), "graceful", "{}", dir.display());
    fpmd.finish_stopped();
}

#[test]
fn orphans_are_reaped_and_what_a_worker_leaves_is_killed_at_the_stop_of_its_pool() {
    // One leaves its session, one stays in it, and some just end.
    let script = "setsid sleep 1000 & sleep 1000 & (sleep 0.01 &) ; exec sleep 1000";
    let pool = Pool::new("www", &workers::shell(script)).hasty();
    let mut fpmd =
        Rig::new().pool(pool).pool(Pool::new("good", &workers::c())).expect("www").expect("orphan").start();
    fpmd.descriptors_may_change();
    let worker = fpmd.workers("www")[0];
    let mark = fpmd.rig.dir.path().to_str().unwrap().to_owned();
    let sleepers = || {
        process::marked(MARK, &mark).into_iter().filter(|process| process.name == "sleep").collect::<Vec<_>>()
    };
    wait_until("three sleepers", || sleepers().len() == 3);
    process::signal(worker, Signal::SIGKILL);
    // The two left behind are children of the master now: it is their subreaper.
    wait_until("orphans of the master", || {
        sleepers().iter().filter(|sleeper| sleeper.parent == fpmd.pid() && sleeper.pid != worker).count() >= 2
    });
    fpmd.ctl_done(&["stop", "www"]);
    // Whoever made a session of its own is found by its control group where fpmd may make one, else when fpmd ends:
    // `finish` sees to it that nobody outlives it.
    wait_until("nobody of the workers' sessions", || {
        !sleepers().iter().any(|sleeper| sleeper.session != sleeper.pid)
    });
    assert_eq!(fpmd.pool("www").state, "stopped");
    fpmd.address("good").get("/pid").unwrap();
    let master = fpmd.pid();
    fpmd.signal(Signal::SIGTERM);
    wait_until("the end", || !process::is_alive(master));
    let log = fpmd.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("killing orphan")).collect();
    let pids: std::collections::BTreeSet<_> = said.iter().map(|line| line.split(' ').nth(5)).collect();
    assert_eq!(pids.len(), said.len(), "one line for each: {said:?}");
    fpmd.finish_stopped();
}

#[test]
fn a_worker_that_forks_away_does_not_multiply() {
    let mut fpmd = Rig::new()
        .pool(Pool::new("www", &workers::shell("sleep 1000 & exit 0")).hasty())
        .expect("www")
        .expect("orphan")
        .start();
    fpmd.descriptors_may_change();
    fpmd.wait_pool("www", "backing off", |pool| pool.retry_in.is_some());
    fpmd.finish();
}

#[test]
fn when_the_master_is_killed_its_workers_end_and_the_next_start_takes_the_socket_over() {
    let stubborn = Pool::new("stubborn", &workers::shell("trap '' TERM; exec sleep 1000")).hasty();
    let rig = Rig::new().pool(Pool::new("www", &workers::php()).workers(2)).pool(stubborn);
    let rig = rig.global("process_control_timeout", "\"200ms\"");
    let mut fpmd = rig.expect("stubborn").start();
    let family = process::descendants(fpmd.pid());
    assert!(family.len() >= 3, "{family:?}");
    let workers: Vec<_> = family.into_iter().filter(|process| process.parent == fpmd.pid()).collect();
    fpmd.kill_master();
    wait_until("every worker to end", || !workers.iter().any(process::still_runs));
    assert!(fpmd.socket("www").exists(), "nobody was left to remove it");
    let fpmd = fpmd.start_again();
    fpmd.address("www").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn two_masters_do_not_share_a_directory() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c())).start();
    let config = fpmd.rig.dir.join("fpmd.toml");
    let second =
        crate::support::daemon::run(env!("CARGO_BIN_EXE_fpmd"), &["--config", config.to_str().unwrap()]);
    assert!(matches!(second.code, Some(71 | 78 | 77)), "{second:?}");
    assert!(second.err.contains("control"), "{second:?}");
    fpmd.address("www").get("/pid").unwrap();
    fpmd.snapshot();
    fpmd.finish();
}

#[test]
fn it_works_as_process_1() {
    if !as_root("a pid namespace") {
        return;
    }
    let script = "(setsid sleep 0.05 &) ; exec sleep 1000";
    let rig = Rig::new()
        .pool(Pool::new("www", &workers::c()).workers(2))
        .pool(Pool::new("orphans", &workers::shell(script)).hasty())
        .wrapper(&["/usr/bin/unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    let fpmd = rig.start();
    assert_eq!(process::status_line(fpmd.pid(), "NSpid").unwrap().split_whitespace().last(), Some("1"));
    let page = fpmd.address("www").get("/pid").unwrap().text();
    assert!(fpmd.workers("www").contains(&page.parse().unwrap()), "{page}");
    let master = fpmd.pid();
    wait_until("orphans to be reaped, so that three workers and two gateways are left", || {
        let family = process::descendants(master);
        family.len() == 5 && family.iter().all(|process| process.state != 'Z')
    });
    fpmd.finish();
}

#[test]
fn requests_that_kill_workers_leave_the_others_served() {
    let pool = Pool::new("www", &workers::c()).workers(2).dispatch(Dispatch::Gateway);
    let fpmd =
        Rig::new().pool(pool).expect("SIGKILL").expect("closed its connection").expect("end young").start();
    let address = fpmd.address("www");
    let since = Instant::now();
    for number in 0..40 {
        // A POST is not tried again on the next worker.
        let _ = address.ask("POST", "/die", b"");
        let answer = address.get("/pid").unwrap();
        assert!(
            answer.text().parse::<i32>().is_ok(),
            "request {number} after {:?}: {}",
            since.elapsed(),
            fpmd.log()
        );
    }
    let pool = fpmd.wait_pool("www", "forty crashes", |pool| pool.crashed == 40);
    assert_eq!((pool.state.as_str(), pool.started), ("running", 42), "no start was held back");
    fpmd.finish();
}
