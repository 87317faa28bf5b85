//! Reloads: checked first, replacements first, nothing lost, nothing changed by a mistake.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;

use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig, fpmctl};
use crate::support::{Load, PATIENCE, as_root, process, wait_until, workers};

/// Waits until every worker of the pool is another one than before.
#[track_caller]
fn wait_exchanged(fpmd: &Fpmd, before: &[i32]) {
    fpmd.wait_pool("www", "new workers only", |pool| {
        let old = pool.workers.iter().any(|worker| before.contains(&worker.pid.as_raw()));
        !old && pool.total_processes as usize == before.len()
    });
    wait_until("the old workers to be gone", || !before.iter().any(|pid| process::is_alive(*pid)));
}

#[test]
fn a_reload_exchanges_every_worker() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(3)).start();
    for reload in ["SIGHUP", "SIGUSR2", "fpmctl"] {
        let (before, generation) = (fpmd.workers("www"), fpmd.pool("www").generation.0);
        match reload {
            "SIGHUP" => fpmd.signal(Signal::SIGHUP),
            "SIGUSR2" => fpmd.signal(Signal::SIGUSR2),
            _ => drop(fpmd.ctl_done(&["reload"])),
        }
        wait_exchanged(&fpmd, &before);
        assert_eq!(fpmd.pool("www").generation.0, generation + 1, "{reload}");
        fpmd.address("www").get("/pid").unwrap();
    }
    let pool = fpmd.pool("www");
    assert_eq!((pool.started, pool.crashed, pool.killed), (12, 0, 0), "{pool:?}");
    fpmd.finish();
}

#[test]
fn a_reload_of_one_pool_leaves_the_others_alone() {
    let fpmd =
        Rig::new().pool(Pool::new("www", &workers::c())).pool(Pool::new("other", &workers::c())).start();
    let (before, other) = (fpmd.workers("www"), fpmd.workers("other"));
    fpmd.ctl_done(&["reload", "www"]);
    wait_exchanged(&fpmd, &before);
    assert_eq!(fpmd.workers("other"), other);
    let ran = fpmd.ctl(&["reload", "wwww"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("wwww"), "{ran:?}");
    assert_eq!(fpmd.workers("other"), other);
    fpmd.finish();
}

#[test]
fn a_mistake_changes_nothing_and_is_told_to_the_caller() {
    let mut fpmd = Rig::new()
        .pool(Pool::new("www", &workers::c()).workers(2))
        .expect("umsak")
        .expect("reload refused")
        .start();
    let before = (fpmd.workers("www"), fpmd.pool("www").generation);
    fpmd.rewrite(&[
        Pool::new("www", &workers::c()).key("umsak", "\"022\"").workers(5),
        Pool::new("new", &workers::c()),
    ]);
    let ran = fpmd.ctl(&["reload"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for piece in ["umsak", "umask", "fpmd.toml"] {
        assert!(ran.err.contains(piece), "no {piece} in {}", ran.err);
    }
    fpmd.signal(Signal::SIGHUP);
    fpmd.wait_log("umsak");
    assert_eq!((fpmd.workers("www"), fpmd.pool("www").generation), before);
    assert_eq!(fpmd.snapshot().pools.len(), 1);
    fpmd.finish();
}

/// Reloads again and again under load; answers how many requests failed.
#[track_caller]
fn lost_under_load(command: &[String], stop_signal: &str, reloads: usize) -> Vec<String> {
    let pool = Pool::new("www", command).workers(WORKERS).key("stop_timeout", "\"20s\"");
    let rig = Rig::new().pool(pool.key("stop_signal", &format!("\"{stop_signal}\"")));
    let fpmd = rig.for_python().start();
    let address = fpmd.address("www");
    // Fewer clients than workers: one that is never idle is stopped only after its stop_timeout.
    let load = Load::start(2, move || match address.get("/slow/5") {
        Ok(answer) if !answer.body.is_empty() => Ok(()),
        Ok(answer) => Err(format!("{answer:?}")),
        Err(error) => Err(error.to_string()),
    });
    for _ in 0..reloads {
        let before = fpmd.workers("www");
        fpmd.ctl_done(&["reload"]);
        wait_exchanged(&fpmd, &before);
    }
    let (good, bad) = load.stop();
    assert!(good > 50, "{good} requests");
    assert_eq!(fpmd.pool("www").crashed, 0, "{:?}", fpmd.pool("www"));
    fpmd.finish();
    bad
}

const WORKERS: u32 = 3;

#[test]
fn nothing_is_lost_under_load_with_php_cgi() {
    assert_eq!(lost_under_load(&workers::php(), "SIGTERM", 5), [""; 0]);
}

#[test]
fn nothing_is_lost_under_load_with_libfcgi() {
    assert_eq!(lost_under_load(&workers::c(), "SIGTERM", 5), [""; 0]);
}

/// Python restarts an interrupted select and accept after its handler has run (PEP 475), so flup takes one more
/// connection after SIGTERM, queues it for a thread and may then end without having run it: each worker costs one request at most.
#[test]
fn a_reload_under_load_costs_flup_one_request_a_worker_at_most() {
    const RELOADS: usize = 3;
    let lost = lost_under_load(&workers::flup("threaded"), "SIGTERM", RELOADS);
    assert!(lost.len() <= RELOADS * WORKERS as usize, "{lost:?}");
}

/// What fpmd.toml(5) advises for such workers: one that is seen idle while it is suspended has nothing to lose.
#[test]
fn nothing_is_lost_under_load_with_flup_and_sigkill() {
    assert_eq!(lost_under_load(&workers::flup("threaded"), "SIGKILL", 5), [""; 0]);
}

#[test]
fn pools_come_and_go() {
    let mut fpmd = Rig::new()
        .pool(Pool::new("www", &workers::c()))
        .pool(Pool::new("old", &workers::c()).workers(2))
        .start();
    fpmd.descriptors_may_change();
    let old = fpmd.workers("old");
    fpmd.rewrite(&[Pool::new("www", &workers::c()).workers(4), Pool::new("new", &workers::c())]);
    fpmd.ctl_done(&["reload"]);
    fpmd.wait_pool("www", "four workers", |pool| pool.total_processes == 4);
    fpmd.wait_pool("new", "a worker", |pool| pool.total_processes == 1);
    fpmd.address("new").get("/pid").unwrap();
    wait_until("the removed pool to be gone", || {
        !old.iter().any(|pid| process::is_alive(*pid)) && fpmd.snapshot().pools.len() == 2
    });
    assert!(!fpmd.socket("old").exists());
    fpmd.finish();
}

#[test]
fn a_socket_stays_the_same_one_and_takes_new_settings() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::c()).key("listen_mode", "\"0600\"")).start();
    let before = fs::metadata(fpmd.socket("www")).unwrap();
    assert_eq!(before.mode() & 0o777, 0o600);
    fpmd.rewrite(&[Pool::new("www", &workers::c())
        .key("listen_mode", "\"0666\"")
        .key("listen_backlog", "12")]);
    fpmd.ctl_done(&["reload"]);
    let after = fs::metadata(fpmd.socket("www")).unwrap();
    assert_eq!(after.mode() & 0o777, 0o666);
    assert_eq!(after.ino(), before.ino(), "clients that wait in the queue must not lose it");
    assert_eq!(fpmd.pool("www").listeners[0].queue_limit, Some(12));
    fpmd.finish();
}

#[test]
fn a_moved_socket_listens_at_its_new_place_only() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::c())).start();
    fpmd.rewrite(&[Pool::new("www", &workers::c()).listen(&["{dir}/moved.sock"])]);
    fpmd.ctl_done(&["reload"]);
    fpmd.address("moved").get("/pid").unwrap();
    wait_until("the old path to be gone", || !fpmd.socket("www").exists());
    fpmd.finish();
}

#[test]
fn when_the_new_workers_fail_the_old_ones_stay() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(2)).expect("www").start();
    let before = fpmd.workers("www");
    for broken in
        [workers::shell("exit 3"), workers::shell("kill -9 $$"), workers::shell("sleep 0.05; exit 1")]
    {
        fpmd.rewrite(&[Pool::new("www", &broken).workers(2).key("start_timeout", "\"2s\"")]);
        let ran = fpmd.ctl(&["reload"]);
        assert_eq!(ran.code, Some(1), "{broken:?}: {ran:?}");
        assert!(ran.err.contains("www"), "{ran:?}");
        let now = fpmd.workers("www");
        assert!(before.iter().all(|pid| now.contains(pid)), "{broken:?}: {now:?} {before:?}");
        // A new one that was about to fail as well may still be on its way out.
        fpmd.wait_pool("www", "the old workers only", |pool| pool.total_processes == 2);
        assert_eq!(fpmd.workers("www"), before, "{broken:?}");
        fpmd.address("www").get("/pid").unwrap();
    }
    // A command that does not exist is a mistake of the configuration.
    fpmd.rewrite(&[Pool::new("www", &["/no/such/worker".to_owned()])]);
    let ran = fpmd.ctl(&["reload"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("/no/such/worker"), "{ran:?}");
    assert_eq!(fpmd.workers("www"), before);
    fpmd.rewrite(&[Pool::new("www", &workers::c()).workers(2)]);
    fpmd.ctl_done(&["reload"]);
    wait_exchanged(&fpmd, &before);
    fpmd.finish();
}

#[test]
fn a_reload_of_what_has_changed_leaves_the_rest_alone() {
    let mut rig = Rig::new();
    let program = rig.dir.install(std::path::Path::new(&workers::c()[0]), "worker");
    let command = [program.to_str().unwrap().to_owned()];
    for name in ["same", "live", "other", "file"] {
        let command = if name == "file" { command.to_vec() } else { workers::c() };
        rig = rig.pool(Pool::new(name, &command).workers(2).dispatch(Dispatch::Gateway));
    }
    let mut fpmd = rig.start();
    let workers_of = |fpmd: &Fpmd| ["same", "live", "other", "file"].map(|name| fpmd.workers(name));
    let before = workers_of(&fpmd);
    let ran = fpmd.ctl_done(&["reload", "--changed"]);
    assert_eq!(ran.trim(), "nothing has changed");
    assert_eq!(workers_of(&fpmd), before);
    fpmd.rig.dir.install(std::path::Path::new(&workers::c()[0]), "worker");
    let pool = |name: &str| Pool::new(name, &workers::c()).workers(2).dispatch(Dispatch::Gateway);
    fpmd.rewrite(&[
        pool("same"),
        pool("live")
            .key("listen_mode", "\"0600\"")
            .key("ping_path", "\"/ping\"")
            .listen(&["{dir}/live.sock", "{dir}/more.sock"]),
        pool("other").key("umask", "\"077\""),
        Pool::new("file", &command).workers(2).dispatch(Dispatch::Gateway),
    ]);
    let ran = fpmd.ctl_done(&["reload", "--changed"]);
    for line in ["live is reloaded, its workers stay", "other is reloaded, generation 2", "file is reloaded"]
    {
        assert!(ran.contains(line), "{ran:?}");
    }
    let after = workers_of(&fpmd);
    assert_eq!(after[..2], before[..2]);
    assert!(before[2..].iter().flatten().all(|pid| !after[2..].iter().flatten().any(|now| now == pid)));
    assert_eq!(fs::metadata(fpmd.socket("live")).unwrap().mode() & 0o777, 0o600);
    for socket in ["live", "more"] {
        wait_until("the new settings to be in force", || {
            fpmd.ctl(&["request", fpmd.socket(socket).to_str().unwrap(), "/ping"]).out == "pong"
        });
    }
    fpmd.rewrite(&[pool("same"), pool("live").listen(&["{dir}/more.sock"]), pool("other"), pool("file")]);
    fpmd.ctl_done(&["reload", "--changed", "live"]);
    assert!(!fpmd.socket("live").exists());
    fpmd.address("more").get("/pid").unwrap();
    assert_eq!(workers_of(&fpmd), after);
    fpmd.finish();
}

#[test]
fn who_waits_at_an_address_that_goes_away_is_served() {
    let pool = || Pool::new("www", &workers::c()).dispatch(Dispatch::Gateway);
    let mut fpmd = Rig::new().pool(pool()).start();
    let gateway = fpmd.pool("www").gateway.expect("a gateway");
    // While the gateway stands still, clients wait in the socket's own queue.
    process::signal(gateway.pid.as_raw(), Signal::SIGSTOP);
    let address = fpmd.address("www");
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut connection = address.connect().unwrap();
            connection.send("GET", "/pid", &[]).unwrap();
            connection
        })
        .collect();
    fpmd.rewrite(&[pool().listen(&["{dir}/moved.sock"])]);
    let socket = fpmd.control().to_str().unwrap().to_owned();
    let reload = std::thread::spawn(move || fpmctl(&["--socket", &socket, "reload", "--changed"]));
    wait_until("the old path to be gone", || !fpmd.socket("www").exists());
    process::signal(gateway.pid.as_raw(), Signal::SIGCONT);
    for mut connection in waiting {
        assert!(!connection.answer().unwrap().body.is_empty());
    }
    assert_eq!(reload.join().unwrap().code, Some(0));
    fpmd.address("moved").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn a_setting_that_needs_a_restart_is_named_and_nothing_changes() {
    let mut fpmd =
        Rig::new().pool(Pool::new("www", &workers::c())).expect("reload refused").expect("restart").start();
    let before = fpmd.workers("www");
    fpmd.rewrite_global("runtime_dir", "\"{dir}/elsewhere\"");
    let ran = fpmd.ctl(&["reload"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for piece in ["global.runtime_dir", "elsewhere", "restart"] {
        assert!(ran.err.contains(piece), "no {piece} in {}", ran.err);
    }
    fpmd.signal(Signal::SIGHUP);
    fpmd.wait_log("global.runtime_dir has changed");
    // One pool alone is not concerned.
    fpmd.ctl_done(&["reload", "--changed", "www"]);
    assert_eq!(fpmd.workers("www"), before);
    fpmd.finish();
}

#[test]
fn global_settings_are_exchanged_while_fpmd_runs() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::c())).start();
    let before = fpmd.workers("www");
    let file = |fpmd: &Fpmd, name: &str| fs::read_to_string(fpmd.rig.dir.join(name)).ok();
    fpmd.rewrite_global("pid_file", "\"{dir}/one.pid\"");
    fpmd.ctl_done(&["reload", "--changed"]);
    assert_eq!(file(&fpmd, "one.pid"), Some(format!("{}\n", fpmd.pid())));
    fpmd.rewrite_global("pid_file", "\"{dir}/two.pid\"");
    fpmd.rewrite_global("log", "\"{dir}/other.log\"");
    fpmd.rewrite_global("log_format", "\"json\"");
    fpmd.ctl_done(&["reload", "--changed"]);
    assert_eq!((file(&fpmd, "one.pid"), file(&fpmd, "two.pid")), (None, Some(format!("{}\n", fpmd.pid()))));
    // What cannot be put in force is refused as a whole.
    fs::create_dir(fpmd.rig.dir.join("directory.pid")).unwrap();
    fpmd.rewrite_global("pid_file", "\"{dir}/directory.pid\"");
    let ran = fpmd.ctl(&["reload"]);
    assert!(ran.code == Some(1) && ran.err.contains("directory.pid"), "{ran:?}");
    assert!(file(&fpmd, "two.pid").is_some());
    assert_eq!(fpmd.workers("www"), before);
    if as_root("a group for the control socket") {
        fpmd.rewrite_global("pid_file", "\"{dir}/two.pid\"");
        fpmd.rewrite_global("control_group", "\"nogroup\"");
        fpmd.ctl_done(&["reload", "--changed"]);
        let metadata = fs::metadata(fpmd.rig.dir.join("control")).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.gid() != 0), (0o660, true));
    }
    fpmd.signal(Signal::SIGHUP);
    wait_exchanged(&fpmd, &before);
    assert!(file(&fpmd, "other.log").unwrap().contains("generation 2"), "{:?}", file(&fpmd, "other.log"));
    fpmd.finish();
}

#[test]
fn two_reloads_with_a_small_surge_keep_within_it_and_lose_nothing() {
    let pools =
        || ["www", "two"].map(|name| Pool::new(name, &workers::c()).workers(4).dispatch(Dispatch::Gateway));
    let mut rig = Rig::new().global("reload_surge", "2");
    for pool in pools() {
        rig = rig.pool(pool);
    }
    let fpmd = rig.start();
    let (www, two) = (fpmd.address("www"), fpmd.address("two"));
    let load = Load::start(4, move || {
        for address in [&www, &two] {
            address.get("/slow/5").map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    let master = fpmd.pid();
    let (stop, watcher) = {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let done = stop.clone();
        let watcher = std::thread::spawn(move || {
            let mut most = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let all = process::descendants(master);
                most = most.max(
                    all.iter().filter(|process| process.name == "worker" && process.state != 'Z').count(),
                );
            }
            most
        });
        (stop, watcher)
    };
    for _ in 0..2 {
        let before = fpmd.workers("www");
        fpmd.ctl_done(&["reload"]);
        wait_exchanged(&fpmd, &before);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let most = watcher.join().unwrap();
    assert!(most <= 8 + 2, "{most} workers at once");
    let (good, bad) = load.stop();
    assert_eq!((bad, good > 50), (Vec::new(), true), "{good} requests");
    fpmd.finish();
}

#[test]
fn new_workers_warm_up_before_they_get_a_request() {
    let warm = |path: &str| {
        let pool = Pool::new("www", &workers::c()).workers(2).dispatch(Dispatch::Gateway);
        pool.key("warmup_path", &format!("{path:?}")).key("start_timeout", "\"5s\"")
    };
    // Each says who it is after a tenth of a second, and counts as nobody's request.
    let mut fpmd = Rig::new().pool(warm("/slow/100")).expect("www").start();
    assert_eq!(fpmd.pool("www").gateway.expect("a gateway").accepted_conn, 0);
    let before = fpmd.workers("www");
    fpmd.ctl_done(&["reload"]);
    wait_exchanged(&fpmd, &before);
    let before = fpmd.workers("www");
    // Whether the end of the connection or that of the process is heard of first.
    let dies = ["closed the connection", "exited on signal 9"];
    let late = ["has not answered its warm-up request"; 2];
    for (path, words) in [("/die", dies), ("/slow/30000", late)] {
        fpmd.rewrite(&[warm(path).key("start_timeout", "\"1s\"").key("umask", "\"027\"")]);
        let ran = fpmd.ctl(&["reload"]);
        assert_eq!(ran.code, Some(1), "{path}: {ran:?}");
        assert!(words.iter().any(|words| ran.err.contains(words)), "{path}: {ran:?}");
        fpmd.wait_pool("www", "the old workers only", |pool| pool.total_processes == 2);
        assert_eq!(fpmd.workers("www"), before);
    }
    fpmd.address("www").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn a_warm_up_survives_the_gateway_that_sent_it() {
    let pool = Pool::new("www", &workers::c()).dispatch(Dispatch::Gateway);
    let mut fpmd = Rig::new().pool(pool.clone()).expect("gateway").start();
    fpmd.descriptors_may_change();
    fpmd.rewrite(&[pool.key("warmup_path", "\"/slow/1500\"")]);
    let (before, gateway) = (fpmd.workers("www"), fpmd.pool("www").gateway.expect("a gateway").pid);
    let socket = fpmd.control().to_str().unwrap().to_owned();
    let reload = std::thread::spawn(move || fpmctl(&["--socket", &socket, "reload"]));
    fpmd.wait_pool("www", "a new worker", |pool| pool.total_processes == 2);
    process::signal(gateway.as_raw(), Signal::SIGKILL);
    assert_eq!(reload.join().unwrap().code, Some(0));
    wait_exchanged(&fpmd, &before);
    fpmd.address("www").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn who_comes_while_a_pool_stops_is_answered_or_refused() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c()).dispatch(Dispatch::Gateway)).start();
    let address = fpmd.address("www");
    let mut slow = address.connect().unwrap();
    slow.send("GET", "/slow/1500", &[]).unwrap();
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    let socket = fpmd.control().to_str().unwrap().to_owned();
    let stop = std::thread::spawn(move || fpmctl(&["--socket", &socket, "stop", "www"]));
    fpmd.wait_pool("www", "the stop", |pool| pool.state == "stopping");
    let late: Vec<_> = (0..5)
        .filter_map(|_| {
            let mut connection = address.connect().ok()?;
            connection.send("GET", "/pid", &[]).unwrap();
            Some(connection)
        })
        .collect();
    assert!(!slow.answer().unwrap().body.is_empty());
    for mut connection in late {
        let answer = connection.answer().unwrap();
        assert!(answer.head.contains("Status: 503") || !answer.body.is_empty());
    }
    assert_eq!(stop.join().unwrap().code, Some(0));
    assert!(!fpmd.socket("www").exists());
    fpmd.ctl_done(&["start", "www"]);
    address.get("/pid").unwrap();
    fpmd.finish();
}

/// Each request finds the next one waiting, so that no old worker is ever idle; php-cgi finishes what it has at SIGTERM.
#[test]
fn a_saturated_direct_pool_of_php_cgi_is_reloaded_long_before_its_stop_timeout() {
    let pool = Pool::new("www", &workers::php()).workers(2).dispatch(Dispatch::Direct);
    let fpmd = Rig::new().pool(pool.key("stop_timeout", "\"10m\"")).start();
    let address = fpmd.address("www");
    let load = Load::start(8, move || match address.get("/slow/5") {
        Ok(answer) if !answer.body.is_empty() => Ok(()),
        Ok(answer) => Err(format!("{answer:?}")),
        Err(error) => Err(error.to_string()),
    });
    load.wait_for_more(20);
    let before = fpmd.workers("www");
    fpmd.ctl_done(&["reload"]);
    wait_exchanged(&fpmd, &before);
    load.wait_for_more(20);
    assert_eq!(load.stop().1, [""; 0]);
    let pool = fpmd.pool("www");
    assert_eq!((pool.crashed, pool.killed), (0, 0), "{pool:?}");
    fpmd.finish();
}

const RELOAD_CHANGED: &str = r#"{"reload":{"pools":[],"extent":"changed"}}"#;

/// Gives commands of which fpmd finds the second when it looks for the first; the answers.
fn at_once(fpmd: &Fpmd, commands: [&str; 2]) -> [String; 2] {
    fpmd.signal(Signal::SIGSTOP);
    let clients = commands.map(|command| {
        let mut client = UnixStream::connect(fpmd.control()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(format!("{{\"version\":1,\"command\":{command}}}\n").as_bytes()).unwrap();
        client
    });
    fpmd.signal(Signal::SIGCONT);
    clients.map(|mut client| {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    })
}

#[test]
fn a_restart_that_comes_with_a_reload_has_its_settings() {
    let pool = Pool::new("www", &workers::c());
    let mut fpmd = Rig::new().pool(pool.clone()).start();
    fpmd.descriptors_may_change();
    fpmd.rewrite(&[pool.workers(3)]);
    // The first may be superseded, should the worker's program have changed as well.
    let [_, restarted] = at_once(&fpmd, [RELOAD_CHANGED, r#"{"restart":{"pool":"www"}}"#]);
    assert!(restarted.contains("done"), "{restarted}");
    assert_eq!((fpmd.pool("www").max_children, fpmd.workers("www").len()), (3, 3));
    fpmd.finish();
}

#[test]
fn reloads_that_come_at_once_are_judged_one_by_one() {
    let pool = |log: &str| {
        Pool::new("www", &workers::c()).dispatch(Dispatch::Gateway).key("access_log", &format!("{log:?}"))
    };
    let mut fpmd = Rig::new().pool(pool("{dir}/access")).expect("Is a directory").start();
    fpmd.wait_pool("www", "an idle worker", |pool| pool.idle_processes == 1);
    fpmd.rewrite(&[pool("{dir}")]);
    for answer in at_once(&fpmd, [RELOAD_CHANGED, RELOAD_CHANGED]) {
        assert!(answer.contains("refused") && answer.contains("Is a directory"), "{answer}");
    }
    let dump = fpmd.ctl_done(&["dump"]);
    assert!(dump.contains("/access\""), "{dump}");
    fpmd.finish();
}
