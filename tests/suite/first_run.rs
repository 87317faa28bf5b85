//! The first minutes with fpmd: the demo, a pool without a file, the checks of a configuration, the background.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::daemon::{Pool, Rig, fpmctl, run};
use crate::support::dir::Dir;
use crate::support::{process, wait_for, wait_until, workers};

const FPMD: &str = env!("CARGO_BIN_EXE_fpmd");

/// The first word of the log that can be an address on the loopback.
fn address(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || "'\"`,;".contains(c));
    let is_address = |word: &&str| {
        word.strip_prefix("127.0.0.1:").is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    words.map(|word| word.trim_end_matches('.')).find(is_address).map(str::to_owned)
}

#[test]
fn the_demo_serves_until_ctrl_c() {
    let rig = Rig::new();
    let home = rig.dir.path().to_str().unwrap().to_owned();
    let mut demo =
        rig.arguments(&["demo"]).environment("XDG_RUNTIME_DIR", &home).environment("TMPDIR", &home).start();
    let address = wait_for("the demo's address", || address(&demo.log()));
    let ran = fpmctl(&["request", &address, "/"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.out.is_empty());
    // What it tells the user to try works as printed.
    let log = demo.log();
    let tries: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once("fpmctl ")?.1)).collect();
    assert!(tries.len() >= 2, "{log}");
    for line in tries {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ran = fpmctl(&words);
        assert_eq!(ran.code, Some(0), "fpmctl {line}: {ran:?}");
    }
    demo.descriptors_may_change();
    demo.signal(Signal::SIGINT);
    demo.finish_stopped();
}

#[test]
fn a_pool_without_a_file() {
    let command = workers::php();
    let arguments =
        ["run", "--listen", "{dir}/www.sock", "--workers", "3", "--socket", "{dir}/control", "--"];
    let arguments: Vec<&str> = arguments.into_iter().chain(command.iter().map(String::as_str)).collect();
    let rig = Rig::new().environment("XDG_RUNTIME_DIR", "/nonexistent").arguments(&arguments);
    let fpmd = rig.start();
    let pool =
        wait_for("three workers", || fpmd.snapshot().pools.pop().filter(|pool| pool.total_processes == 3));
    let page = fpmd.address("www").get("/pid").unwrap().text();
    assert!(pool.workers.iter().any(|worker| worker.pid.to_string() == page), "{page}");
    fpmd.finish();
}

#[test]
fn help_and_version() {
    for (program, word) in [("fpmd", "--config"), ("fpmctl", "status")] {
        let path = std::path::Path::new(FPMD).with_file_name(program);
        let help = run(path.to_str().unwrap(), &["--help"]);
        assert_eq!(help.code, Some(0));
        assert!(help.out.contains(word), "{}", help.out);
        let version = run(path.to_str().unwrap(), &["--version"]);
        assert_eq!(
            (version.code, version.out.trim()),
            (Some(0), &*format!("{program} {}", env!("CARGO_PKG_VERSION")))
        );
    }
    let wrong = run(FPMD, &["--chekc"]);
    assert_eq!(wrong.code, Some(64));
    assert!(wrong.err.contains("--check"), "{}", wrong.err);
}

#[test]
fn a_check_creates_nothing() {
    let rig = Rig::new().pool(Pool::new("www", &workers::c())).global("log", "\"{dir}/fpmd.log\"");
    let config = rig.dir.write("fpmd.toml", &rig.text());
    let before = listing(&rig.dir);
    let ran = run(FPMD, &["--check", "--config", config.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(listing(&rig.dir), before);
    // fpmctl checks the same way, without a running fpmd.
    let ran = fpmctl(&["check", config.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(listing(&rig.dir), before);
}

#[test]
fn a_dump_is_a_configuration_with_the_same_meaning() {
    let rig = Rig::new().pool(Pool::new("www", &workers::php()).workers(3).key("umask", "\"027\""));
    let config = rig.dir.write("fpmd.toml", &rig.text());
    let first = run(FPMD, &["--dump", "--config", config.to_str().unwrap()]);
    assert_eq!(first.code, Some(0), "{first:?}");
    for word in ["max_children = 3", "PHP_FCGI_CHILDREN", "stop_signal", "listen_backlog"] {
        assert!(first.out.contains(word), "no {word} in {}", first.out);
    }
    let again = rig.dir.write("again.toml", &first.out);
    let second = run(FPMD, &["--dump", "--config", again.to_str().unwrap()]);
    assert_eq!(second.code, Some(0), "{second:?}\n{}", first.out);
    assert_eq!(first.out, second.out);
}

#[test]
fn in_the_background_it_is_ready_when_the_command_returns() {
    let rig = Rig::new().pool(Pool::new("www", &workers::c()).workers(2)).global("log", "\"{dir}/log\"");
    let config = rig.dir.write("fpmd.toml", &rig.text());
    let pid_file = rig.dir.join("fpmd.pid");
    let line =
        ["--daemonize", "--pid-file", pid_file.to_str().unwrap(), "--config", config.to_str().unwrap()];
    let ran = run(FPMD, &line);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let text = fs::read_to_string(&pid_file).unwrap();
    let pid: i32 = text.strip_suffix('\n').unwrap().parse().unwrap();
    let master = process::process(pid).expect("the master");
    let control = rig.dir.join("control");
    let control = control.to_str().unwrap();
    let ran = fpmctl(&["--socket", control, "health"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_ne!(
        master.session,
        nix::unistd::getsid(None).unwrap().as_raw(),
        "still in the session of the caller"
    );
    // A second one on the same sockets does not start, and leaves the file.
    let other = rig.dir.write("other.toml", &rig.text().replace("/control\"", "/control2\""));
    let ran = run(FPMD, &["--pid-file", pid_file.to_str().unwrap(), "--config", other.to_str().unwrap()]);
    assert!(ran.code == Some(71) && ran.err.contains("another process is listening"), "{ran:?}");
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), text);
    let family = process::descendants(pid);
    assert_eq!(fpmctl(&["--socket", control, "stop"]).code, Some(0));
    wait_until("the end", || !process::still_runs(&master));
    assert!(!family.iter().any(process::still_runs));
    assert!(!pid_file.exists(), "the pid file is removed at the end");
    assert!(!rig.dir.join("www.sock").exists());
}

#[test]
fn in_the_background_a_failed_start_is_told_to_the_caller() {
    let rig = Rig::new().pool(Pool::new("www", &workers::c()).key("umask", "\"999\""));
    let config = rig.dir.write("fpmd.toml", &rig.text());
    let ran = run(FPMD, &["--daemonize", "--config", config.to_str().unwrap()]);
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(ran.err.contains("umask"), "{ran:?}");
}

fn listing(dir: &Dir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
