//! fpmctl: every command, every exit code, text for people and JSON for programs.

use nix::sys::signal::Signal;

use crate::support::daemon::{Pool, Rig, fpmctl};
use crate::support::{process, wait_until, workers};

#[test]
fn status_and_list() {
    let fpmd = Rig::new()
        .pool(Pool::new("api", &workers::c()).workers(2))
        .pool(Pool::new("www", &workers::php()))
        .start();
    let text = fpmd.ctl_done(&["status"]);
    for word in ["api", "www", "running"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "colours without a terminal: {text:?}");
    let text = fpmd.ctl_done(&["status", "api"]);
    for pid in fpmd.workers("api") {
        assert!(text.contains(&pid.to_string()), "no {pid} in {text}");
    }
    let full = fpmd.ctl_done(&["status", "--full"]);
    assert!(full.contains(&fpmd.workers("www")[0].to_string()), "{full}");
    let list = fpmd.ctl_done(&["list"]);
    assert_eq!(list.lines().filter(|line| line.contains("running")).count(), 2, "{list}");
    for line in [&["--json", "status"][..], &["--json", "status", "api"], &["--json", "list"]] {
        let text = fpmd.ctl_done(line);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{line:?}: {text}");
    }
    let ran = fpmd.ctl(&["status", "wwww"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("wwww"), "{ran:?}");
    let snapshot = fpmd.snapshot();
    assert_eq!((snapshot.pid.as_raw(), snapshot.state.as_str()), (fpmd.pid(), "running"));
    fpmd.finish();
}

#[test]
fn stop_and_start_a_pool() {
    let mut fpmd = Rig::new()
        .pool(Pool::new("www", &workers::c()).workers(2))
        .pool(Pool::new("other", &workers::c()))
        .start();
    let (before, other) = (fpmd.workers("www"), fpmd.workers("other"));
    fpmd.ctl_done(&["stop", "www"]);
    assert!(!before.iter().any(|pid| process::is_alive(*pid)), "done when it says so");
    assert_eq!((fpmd.pool("www").state.as_str(), fpmd.pool("www").total_processes), ("stopped", 0));
    assert!(!fpmd.socket("www").exists());
    assert_eq!(fpmd.ctl(&["health", "www"]).code, Some(1));
    assert_eq!(fpmd.ctl(&["health", "other"]).code, Some(0));
    fpmd.descriptors_may_change();
    fpmd.ctl_done(&["start", "www"]);
    fpmd.wait_pool("www", "running", |pool| pool.state == "running" && pool.total_processes == 2);
    fpmd.address("www").get("/pid").unwrap();
    assert_eq!(fpmd.ctl(&["health"]).code, Some(0));
    assert_eq!(fpmd.workers("other"), other);
    for command in ["stop", "start", "restart"] {
        let ran = fpmd.ctl(&[command, "nope"]);
        assert_eq!(ran.code, Some(1), "{command}: {ran:?}");
        assert!(ran.err.contains("nope"), "{ran:?}");
    }
    fpmd.finish();
}

#[test]
fn restart_scale_drain_and_kill() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(2)).expect("SIGKILL").start();
    fpmd.descriptors_may_change();
    let before = fpmd.workers("www");
    fpmd.ctl_done(&["restart", "www"]);
    let after = fpmd.wait_pool("www", "two workers", |pool| pool.total_processes == 2);
    assert!(!after.workers.iter().any(|worker| before.contains(&worker.pid.as_raw())), "{after:?}");
    for number in [5, 1, 3] {
        fpmd.ctl_done(&["scale", "www", &number.to_string()]);
        fpmd.wait_pool("www", &format!("{number} workers"), |pool| {
            (pool.total_processes, pool.max_children) == (number, number)
        });
        fpmd.address("www").get("/pid").unwrap();
    }
    for command in ["drain", "kill"] {
        let worker = fpmd.workers("www")[1];
        fpmd.ctl_done(&[command, &worker.to_string()]);
        wait_until("the worker to end", || !process::is_alive(worker));
        fpmd.wait_pool("www", "three workers", |pool| pool.total_processes == 3);
    }
    assert_eq!(fpmd.pool("www").crashed, 0, "what was asked for is no crash");
    // Only workers of fpmd can be named.
    for pid in [fpmd.pid(), std::process::id().cast_signed(), 1] {
        let ran = fpmd.ctl(&["kill", &pid.to_string()]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
    }
    // A reload keeps the number until the file has another one.
    fpmd.ctl_done(&["reload"]);
    fpmd.wait_pool("www", "three workers", |pool| (pool.total_processes, pool.max_children) == (3, 3));
    fpmd.rewrite(&[Pool::new("www", &workers::c()).workers(1)]);
    fpmd.ctl_done(&["reload"]);
    fpmd.wait_pool("www", "one worker", |pool| (pool.total_processes, pool.max_children) == (1, 1));
    fpmd.finish();
}

#[test]
fn a_drained_worker_finishes_its_request() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::php())).start();
    let worker = fpmd.workers("www")[0];
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/500", &[]).unwrap();
    fpmd.wait_pool("www", "busy", |pool| pool.active_processes == 1);
    let control = fpmd.control().to_str().unwrap().to_owned();
    let drain = std::thread::spawn(move || fpmctl(&["--socket", &control, "drain", &worker.to_string()]));
    assert_eq!(connection.answer().unwrap().text(), worker.to_string());
    assert!(!drain.is_finished(), "drained before its client had hung up");
    drop(connection);
    assert_eq!(drain.join().unwrap().code, Some(0));
    wait_until("the worker to end", || !process::is_alive(worker));
    fpmd.address("www").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn stop_ends_the_daemon() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(2)).start();
    fpmd.ctl_done(&["stop"]);
    fpmd.finish_stopped();
}

#[test]
fn dump_prints_what_is_in_force() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(2)).start();
    let dump = fpmd.ctl_done(&["dump"]);
    assert!(dump.contains("[pool.www]") && dump.contains("max_children = 2"), "{dump}");
    fpmd.rewrite(&[Pool::new("www", &workers::c()).workers(4)]);
    assert_eq!(fpmd.ctl_done(&["dump"]), dump, "a file that is not loaded is not in force");
    fpmd.descriptors_may_change();
    fpmd.ctl_done(&["reload"]);
    assert!(fpmd.ctl_done(&["dump"]).contains("max_children = 4"));
    fpmd.finish();
}

#[test]
fn request_is_a_fastcgi_client() {
    let pool = Pool::new("www", &workers::php()).listen(&["{dir}/www.sock", "127.0.0.1:0"]).workers(2);
    let fpmd = Rig::new().pool(pool).start();
    let script = format!("SCRIPT_FILENAME={}", workers::fixture("php/app.php").display());
    let socket = fpmd.socket("www");
    let tcp = fpmd
        .pool("www")
        .listeners
        .iter()
        .map(|listener| listener.address.clone())
        .find(|address| address.starts_with("127"));
    for target in ["www", socket.to_str().unwrap(), &tcp.unwrap()] {
        let out = fpmd.ctl_done(&["request", target, "/pid", "--param", &script]);
        assert!(fpmd.workers("www").contains(&out.trim().parse().unwrap()), "{target}: {out}");
    }
    let out = fpmd.ctl_done(&["request", "www", "/body", "--param", &script, "--data", "hello"]);
    assert_eq!(out.trim(), "5 5d41402abc4b2a76b9719d911017c592");
    let out = fpmd.ctl_done(&["request", "www", "/pid", "--param", &script, "--include"]);
    assert!(out.to_lowercase().contains("content-type: text/plain"), "{out}");
    let big = fpmd.ctl_done(&["request", "www", "/big/3000000", "--param", &script]);
    assert_eq!(big.len(), 3_000_000);
    let ran = fpmd.ctl(&["request", "www", "/slow/3000", "--param", &script, "--timeout", "0.2"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let ran = fpmctl(&["request", "127.0.0.1:1", "/"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("127.0.0.1:1"), "{ran:?}");
    fpmd.finish();
}

#[test]
fn exit_codes_tell_who_is_at_fault() {
    for wrong in [&["statsu"][..], &[], &["scale", "www"], &["kill", "0"], &["status", "--no-such"]] {
        assert_eq!(fpmctl(wrong).code, Some(2), "{wrong:?}");
    }
    for command in [&["status"][..], &["list"], &["health"], &["reload"], &["stop"], &["reopen"], &["dump"]] {
        let ran = fpmctl(&[&["--socket", "/nonexistent/fpmd.sock"], command].concat());
        assert_eq!(ran.code, Some(3), "{command:?}: {ran:?}");
        assert!(ran.err.contains("/nonexistent/fpmd.sock"), "{ran:?}");
    }
    let ran = fpmctl(&["check", "/nonexistent.toml"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("/nonexistent.toml"), "{ran:?}");
}

#[test]
fn a_client_whose_daemon_is_killed_is_told() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::php()).key("stop_timeout", "\"1m\"")).start();
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/20000", &[]).unwrap();
    fpmd.wait_pool("www", "busy", |pool| pool.active_processes == 1);
    let control = fpmd.control().to_str().unwrap().to_owned();
    let waits = std::thread::spawn(move || fpmctl(&["--socket", &control, "stop", "www"]));
    fpmd.wait_pool("www", "stopping", |pool| pool.state == "stopping");
    fpmd.kill_master();
    let ran = waits.join().unwrap();
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let fpmd = fpmd.start_again();
    fpmd.finish();
}

#[test]
fn only_root_and_fpmds_own_user_may_change_things() {
    if !crate::support::as_root("another user") {
        return;
    }
    let fpmd =
        Rig::new().pool(Pool::new("www", &workers::c())).global("control_group", "\"www-data\"").start();
    let ctl = env!("CARGO_BIN_EXE_fpmctl");
    // The program itself may lie where others cannot read.
    let copy = fpmd.rig.dir.install(ctl.as_ref(), "fpmctl");
    let (copy, control) = (copy.to_str().unwrap().to_owned(), fpmd.control().to_str().unwrap().to_owned());
    let run_as = |user: &str, group: &str, command: &[&str]| {
        let who = [
            &format!("--reuid={user}"),
            &format!("--regid={group}"),
            "--clear-groups",
            &copy,
            "--socket",
            &control,
        ];
        crate::support::daemon::run("/usr/bin/setpriv", &[&who[..], command].concat())
    };
    assert_eq!(run_as("www-data", "www-data", &["status"]).code, Some(0));
    for command in [&["stop", "www"][..], &["reload"], &["dump"], &["scale", "www", "3"], &["reopen"]] {
        let ran = run_as("www-data", "www-data", command);
        assert_eq!(ran.code, Some(1), "{command:?}: {ran:?}");
    }
    let ran = run_as("nobody", "nogroup", &["status"]);
    assert!(matches!(ran.code, Some(1 | 3)), "{ran:?}");
    assert_eq!(fpmd.pool("www").max_children, 1);
    fpmd.signal(Signal::SIGTERM);
    fpmd.finish_stopped();
}
