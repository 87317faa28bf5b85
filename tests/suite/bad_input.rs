//! What is wrong from outside: configurations, disks, limits, control clients. What happens is said, and fpmd goes on.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::daemon::{Fpmd, MARK, Pool, Rig, run};
use crate::support::dir::Dir;
use crate::support::{PATIENCE, as_root, process, wait_until, workers};

const FPMD: &str = env!("CARGO_BIN_EXE_fpmd");

/// A pool that is right, to put mistakes around.
const POOL: &str =
    "[pool.www]\nlisten = \"/tmp/fpmd-never.sock\"\ncommand = [\"/bin/sleep\"]\nuser = \"root\"\n";

/// Every configuration ends fpmd with 78 before it has created anything, with these words.
#[track_caller]
fn refused(dir: &Dir, file: &str, words: &[&str]) {
    let path = dir.join(file);
    for option in ["--config", "--check", "--dump"] {
        let arguments = match option {
            "--config" => vec!["--config", path.to_str().unwrap()],
            option => vec![option, "--config", path.to_str().unwrap()],
        };
        let ran = run(FPMD, &arguments);
        assert_eq!(ran.code, Some(78), "{arguments:?}: {ran:?}");
        for word in words {
            assert!(ran.err.contains(word), "{arguments:?}: no '{word}' in:\n{}", ran.err);
        }
    }
    assert!(dir.sockets().is_empty());
}

#[test]
fn configurations_that_are_refused_say_where_and_why() {
    let dir = Dir::new();
    refused(&dir, "missing.toml", &["missing.toml", "No such file"]);
    fs::create_dir(dir.join("folder.toml")).unwrap();
    refused(&dir, "folder.toml", &["folder.toml", "irectory"]);
    let mut cases: Vec<(String, &[&str])> = vec![
        ("[pool.www\n".into(), &["case.toml:1:"]),
        (
            format!("{POOL}umsak = \"022\"\n[pool.www.pm]\nmax_children = 1\n"),
            &["case.toml:5:1", "umsak", "umask"],
        ),
        (format!("{POOL}[pool.www.pm]\nmax_children = \"many\"\n"), &["case.toml:6:", "max_children"]),
        (format!("{POOL}[pool.www.pm]\nmax_children = 0\n"), &["case.toml:6:", "max_children"]),
        (
            format!("{POOL}[pool.www.pm]\nmax_children = 1\nmode = \"dynamic\"\n"),
            &["min_spare_servers", "max_spare_servers"],
        ),
        (
            format!("{POOL}dispatch = \"direct\"\nstatus_path = \"/s\"\n[pool.www.pm]\nmax_children = 1\n"),
            &["status_path", "needs dispatch = \"gateway\""],
        ),
        (
            format!(
                "{POOL}[pool.www.pm]\nmax_children = 1\n{}[pool.two.pm]\nmax_children = 1\n",
                POOL.replace("www", "two")
            ),
            &["/tmp/fpmd-never.sock", "www", "two"],
        ),
        (POOL.replace("\"root\"", "\"no-such-user\""), &["no-such-user"]),
        (POOL.replace("/bin/sleep", "/bin/no-such-program"), &["/bin/no-such-program"]),
        (POOL.replace("/bin/sleep", "sleep"), &["absolute"]),
        // Every mistake in one run.
        (
            format!(
                "[global]\nlog_level = \"loud\"\n{POOL}stop_signal = \"SIGNOPE\"\numask = \"99\"\n[pool.www.pm]\nmax_children = -1\n"
            ),
            &["log_level", "stop_signal", "umask", "max_children"],
        ),
        (
            format!("[global]\ninclude = [\"broken.toml\"]\n{POOL}[pool.www.pm]\nmax_children = 1\n"),
            &["broken.toml:2:"],
        ),
        (
            format!("[global]\ninclude = [\"folder.toml\"]\n{POOL}[pool.www.pm]\nmax_children = 1\n"),
            &["folder.toml"],
        ),
        (String::from_utf8(vec![b'#'; 10]).unwrap() + "\n[pool.www]\u{0}\n", &["case.toml:2:"]),
    ];
    if !as_root("a configuration for root") {
        cases.iter_mut().for_each(|(text, _)| *text = text.replace("user = \"root\"\n", "\n"));
    }
    dir.write("broken.toml", "# fine\n= broken\n");
    for (text, words) in &cases {
        dir.write("case.toml", text);
        refused(&dir, "case.toml", words);
    }
    fs::write(dir.join("case.toml"), b"# \xff\xfe\n[pool.x]\n").unwrap();
    refused(&dir, "case.toml", &["case.toml", "UTF-8"]);
}

#[test]
fn an_include_that_cannot_be_read_is_a_mistake() {
    if !as_root("another user's file") {
        return;
    }
    let dir = Dir::new();
    dir.write("secret.toml", "");
    fs::set_permissions(dir.join("secret.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = "[global]\ninclude = [\"secret.toml\"]\n[pool.www]\nlisten = \"/tmp/fpmd-never.sock\"\ncommand = [\"/bin/sleep\"]\n[pool.www.pm]\nmax_children = 1\n";
    let config = dir.write("fpmd.toml", text);
    let program = dir.install(FPMD.as_ref(), "fpmd");
    let who = [
        "--reuid=54321",
        "--regid=54321",
        "--clear-groups",
        program.to_str().unwrap(),
        "--check",
        "--config",
    ];
    let ran = run("/usr/bin/setpriv", &[&who[..], &[config.to_str().unwrap()]].concat());
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(ran.err.contains("secret.toml") && ran.err.contains("Permission denied"), "{ran:?}");
}

#[test]
fn workers_that_close_their_socket_or_do_nothing_are_kept_and_stopped() {
    let quick = |name: &str, script: &str| Pool::new(name, &workers::shell(script)).hasty();
    let fpmd = Rig::new()
        .pool(quick("closes", "exec 0<&- 1>&- 2>&-; exec sleep 1000"))
        .pool(quick("listens-not", "exec sleep 1000"))
        .pool(Pool::new("good", &workers::c()))
        .start();
    for pool in ["closes", "listens-not"] {
        assert_eq!(fpmd.pool(pool).total_processes, 1);
    }
    // The socket is still the pool's: clients wait instead of being refused.
    fpmd.address("closes").connect().unwrap();
    fpmd.address("good").get("/pid").unwrap();
    fpmd.finish();
}

/// A small file system of our own; unmounted on drop.
struct Mount(PathBuf);

impl Mount {
    fn new(dir: &Dir, name: &str, options: &str) -> Mount {
        let path = dir.join(name);
        fs::create_dir(&path).unwrap();
        let ran = run("/bin/mount", &["-t", "tmpfs", "-o", options, "tmpfs", path.to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        Mount(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("/bin/umount", &[self.0.to_str().unwrap()]);
    }
}

#[test]
fn disks_that_take_no_socket_stop_their_own_pool_only() {
    if !as_root("a file system of our own") {
        return;
    }
    let rig = Rig::new();
    // One inode is the folder itself.
    let full = Mount::new(&rig.dir, "full", "size=4k,nr_inodes=1");
    let read_only = Mount::new(&rig.dir, "ro", "size=4k,ro");
    let rig = rig
        .pool(Pool::new("full", &workers::c()).listen(&["{dir}/full/www.sock"]))
        .pool(Pool::new("readonly", &workers::c()).listen(&["{dir}/ro/www.sock"]))
        .pool(Pool::new("good", &workers::c()))
        .expect("www.sock");
    let mut fpmd = rig.start();
    for (pool, cause) in [("full", "No space left on device"), ("readonly", "Read-only file system")] {
        let reason = fpmd.pool(pool).reason.unwrap_or_default();
        assert!(reason.contains(cause) && reason.contains("www.sock"), "{pool}: {reason}");
        fpmd.wait_log(cause);
    }
    fpmd.address("good").get("/pid").unwrap();
    // Repaired, it comes back.
    fpmd.descriptors_may_change();
    assert_eq!(run("/bin/mount", &["-o", "remount,nr_inodes=100", full.0.to_str().unwrap()]).code, Some(0));
    fpmd.ctl_done(&["start", "full"]);
    fpmd.wait_pool("full", "a worker", |pool| pool.total_processes == 1);
    fpmd.finish();
    drop((full, read_only));
}

#[test]
fn out_of_descriptors_it_goes_on_with_the_workers_it_has() {
    let rig = Rig::new()
        .pool(Pool::new("www", &workers::c()).workers(40))
        .wrapper(&["/usr/bin/prlimit", "--nofile=64:64"])
        .expect("Too many open files");
    let mut fpmd = rig.expect("www").start();
    fpmd.descriptors_may_change();
    let pool = fpmd.wait_pool("www", "the reason", |pool| pool.reason.is_some());
    assert!(pool.total_processes > 0 && pool.total_processes < 40, "{pool:?}");
    let reason = pool.reason.unwrap();
    assert!(reason.contains("Too many open files (the limit is 64: raise LimitNOFILE="), "{reason}");
    fpmd.address("www").get("/pid").unwrap();
    // With as many as there is room for, all is well.
    fpmd.ctl_done(&["scale", "www", "5"]);
    fpmd.wait_pool("www", "five workers", |pool| pool.total_processes == 5 && pool.state == "running");
    fpmd.finish();
}

#[test]
fn without_processes_it_goes_on_and_tries_again() {
    if !as_root("a user of our own") {
        return;
    }
    // Nobody else's, so that the kernel counts our processes only.
    let user = (50_000 + std::process::id() % 10_000).to_string();
    let rig = Rig::new().without_root(&user, "prlimit --nproc=5:100");
    let worker = rig.own_worker();
    let rig = rig
        .pool(Pool::new("www", &worker).workers(8).without("user"))
        .expect("Resource temporarily unavailable")
        .expect("www");
    let mut fpmd = rig.start();
    fpmd.descriptors_may_change();
    let pool = fpmd.wait_pool("www", "three workers and the reason", |pool| {
        pool.total_processes == 3 && pool.reason.is_some()
    });
    assert!(pool.reason.as_ref().unwrap().contains("Resource temporarily unavailable"), "{pool:?}");
    fpmd.ctl_done(&["request", "www", "/"]);
    let who = [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()];
    let raise = ["/usr/bin/prlimit", "--nproc=100:100", "--pid"].map(str::to_owned);
    let line: Vec<String> = who.into_iter().chain(raise).chain([fpmd.pid().to_string()]).collect();
    let raised = run("/usr/bin/setpriv", &line.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(raised.code, Some(0), "{raised:?}");
    fpmd.wait_pool("www", "eight workers", |pool| pool.total_processes == 8);
    fpmd.finish();
}

fn control(fpmd: &Fpmd) -> UnixStream {
    let stream = UnixStream::connect(fpmd.control()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn garbage_and_half_messages_on_the_control_socket() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c())).start();
    let endless = "x".repeat(300_000);
    let deep = "[".repeat(50_000) + "\n";
    let garbage: [&[u8]; 9] = [
        b"\n",
        b"\0\xff\xfe\x01\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"{\"version\":1}\n",
        b"{\"version\":999,\"command\":\"dump\"}\n",
        b"{\"version\":1,\"command\":{\"no-such\":{}}}\n",
        b"{\"version\":1,\"command\":{\"kill\":{\"pid\":-1}}}\n",
        deep.as_bytes(),
        endless.as_bytes(),
    ];
    for bytes in garbage {
        let mut stream = control(&fpmd);
        // fpmd may close before it has read all.
        let _ = stream.write_all(bytes);
        let mut line = String::new();
        let _ = BufReader::new(&stream).read_line(&mut line);
        let said = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(line.is_empty() || line.contains("refused"), "{said}: {line}");
        fpmd.snapshot();
    }
    // Half a message, then nothing: some leave, some stay.
    let stay: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = control(&fpmd);
            stream.write_all(b"{\"version\":1,\"comm").unwrap();
            stream
        })
        .collect();
    for _ in 0..100 {
        let _ = control(&fpmd).write_all(b"{\"ver");
    }
    // fpmd may have to notice first that so many have left.
    wait_until("an answer", || fpmd.ctl(&["list"]).code == Some(0));
    drop(stay);
    fpmd.finish();
}

#[test]
fn a_flood_of_control_clients() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c())).start();
    let mut crowd = Vec::new();
    for _ in 0..600 {
        // The queue of the socket may be full: that is the client's part.
        let stream = UnixStream::connect(fpmd.control());
        crowd.extend(stream.ok());
    }
    assert!(crowd.len() > 50, "{}", crowd.len());
    fpmd.address("www").get("/pid").unwrap();
    drop(crowd);
    fpmd.snapshot();
    fpmd.finish();
}

#[test]
fn a_control_client_that_never_reads_holds_up_nobody() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(60)).start();
    let stuck: Vec<UnixStream> = (0..30)
        .map(|_| {
            let mut stream = control(&fpmd);
            stream.write_all(b"{\"version\":1,\"command\":{\"status\":{\"pool\":null}}}\n").unwrap();
            stream
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(fpmd.pool("www").total_processes, 60);
    }
    // It was a good question: whoever reads in the end gets the whole answer.
    let mut answer = String::new();
    let mut stream = stuck.into_iter().next().unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with('\n') && serde_json::from_str::<serde_json::Value>(&answer).is_ok(), "{answer}");
    fpmd.finish();
}

#[test]
fn a_descriptor_shortage_on_the_control_socket_passes() {
    let rig =
        Rig::new().pool(Pool::new("www", &workers::c())).wrapper(&["/usr/bin/prlimit", "--nofile=40:40"]);
    let fpmd = rig.expect("Too many open files").start();
    let crowd: Vec<UnixStream> = (0..100).filter_map(|_| UnixStream::connect(fpmd.control()).ok()).collect();
    assert!(crowd.len() >= 40, "{}", crowd.len());
    fpmd.wait_log("cannot accept control client: Too many open files (the limit is 40: raise LimitNOFILE=");
    let pid = fpmd.pid();
    // Out of descriptors it must wait, not spin.
    let ticks = || -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(ticks() - before < 20, "{} ticks of CPU in half a second", ticks() - before);
    fpmd.address("www").get("/pid").unwrap();
    drop(crowd);
    fpmd.snapshot();
    fpmd.finish();
}

#[test]
fn the_mark_of_a_test_reaches_its_workers() {
    // The check of `finish` for processes left behind rests on it.
    let fpmd = Rig::new().pool(Pool::new("www", &workers::sleep()).hasty()).start();
    let mark = fpmd.rig.dir.path().to_str().unwrap().to_owned();
    wait_until("master and worker", || process::marked(MARK, &mark).len() == 2);
    fpmd.finish();
}
