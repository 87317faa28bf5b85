//! fpmctl against a master that these tests play themselves: every kind of reply, no reply, nonsense, and the exit codes.
//! What a real master answers is tested with real processes elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fpmd::ctl::connection::{Patience, ask};
use fpmd::ids::{Generation, Pid, PoolName};
use fpmd::status::snapshot::{ListenerSnapshot, PoolSnapshot, Snapshot};
use fpmd::wire::control::{Command, Extent, Reply, Request};
use fpmd::wire::frame::encode;
use nix::errno::Errno;
use nix::pty::{Winsize, openpty};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};

/// A directory of its own for each test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fpmctl-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a fresh directory");
        Folder(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("fpmd.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A master for one connection: reads the question, does `answer`, closes, and gives the question back.
fn master(socket: &Path, answer: impl FnOnce(&mut UnixStream) + Send + 'static) -> JoinHandle<Request> {
    let listener = UnixListener::bind(socket).expect("a fresh socket");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("a question");
        answer(&mut stream);
        serde_json::from_str(&line).expect("a request")
    })
}

fn fpmctl(socket: &Path, args: &[&str]) -> Output {
    Program::new(env!("CARGO_BIN_EXE_fpmctl"))
        .arg("--socket")
        .arg(socket)
        .args(args)
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .expect("fpmctl runs")
}

/// What the program said and how it ended.
fn said(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (text(&output.stdout), text(&output.stderr), output.status.code().expect("an exit code"))
}

/// Runs fpmctl against a master that sends these replies; gives the question that it got, too.
fn exchange(args: &[&str], replies: Vec<Reply>) -> (Command, (String, String, i32)) {
    let folder = Folder::new();
    let master = master(&folder.socket(), move |stream| {
        for reply in &replies {
            stream.write_all(&encode(reply)).unwrap();
        }
    });
    let output = fpmctl(&folder.socket(), args);
    let request = master.join().expect("the master got its question");
    assert_eq!(request.version, 1);
    (request.command, said(&output))
}

fn www() -> PoolName {
    PoolName::new("www").unwrap()
}

fn snapshot(address: &str) -> Snapshot {
    let listener =
        ListenerSnapshot { address: address.into(), queue: None, queue_limit: None, queue_method: None };
    let pool = PoolSnapshot {
        name: www(),
        state: "running".into(),
        reason: None,
        retry_in: None,
        process_manager: "static".into(),
        dispatch: "direct".into(),
        generation: Generation(1),
        start_time: 1,
        start_since: 2,
        listeners: vec![listener],
        max_children: 1,
        idle_processes: 1,
        active_processes: 0,
        total_processes: 1,
        started: 1,
        recycled: 0,
        recycled_requests: 0,
        recycled_lifetime: 0,
        recycled_memory: 0,
        recycled_idle: 0,
        crashed: 0,
        killed: 0,
        start_failures: 0,
        cgroup: None,
        max_children_reached: 0,
        activity_method: "system call (procfs)".into(),
        gateway: None,
        workers: Vec::new(),
    };
    Snapshot {
        version: "0.1.0".into(),
        pid: Pid::new(1).unwrap(),
        start_time: 1,
        start_since: 2,
        config: None,
        state: "running".into(),
        pools: vec![pool],
    }
}

fn status() -> Reply {
    Reply::Status(Box::new(snapshot("127.0.0.1:9000")))
}

#[test]
fn every_command_asks_its_question_and_done_is_exit_0() {
    let (pid, pool) = (Pid::new(7).unwrap(), www());
    for (args, question) in [
        (&["reload"][..], Command::Reload { pools: vec![], extent: Extent::Every }),
        (&["reload", "--changed"], Command::Reload { pools: vec![], extent: Extent::Changed }),
        (&["reload", "www"], Command::Reload { pools: vec![pool.clone()], extent: Extent::Every }),
        (&["start", "www"], Command::Start { pool: pool.clone() }),
        (&["stop"], Command::Stop { pool: None }),
        (&["stop", "www"], Command::Stop { pool: Some(pool.clone()) }),
        (&["restart", "www"], Command::Restart { pool: pool.clone() }),
        (&["scale", "www", "3"], Command::Scale { pool: pool.clone(), workers: 3 }),
        (&["drain", "7"], Command::Drain { pid }),
        (&["kill", "7"], Command::Kill { pid }),
        (&["reopen"], Command::Reopen),
        (&["dump"], Command::Dump),
        (&["health", "www"], Command::Health { pool: Some(pool.clone()) }),
    ] {
        let (asked, said) = exchange(args, vec![Reply::Done("as asked".into())]);
        assert_eq!(asked, question);
        assert_eq!(said, ("as asked\n".into(), String::new(), 0), "{args:?}");
    }
}

#[test]
fn status_and_list_draw_the_snapshot() {
    let (asked, (stdout, stderr, code)) = exchange(&["status"], vec![status()]);
    assert_eq!(asked, Command::Status { pool: None });
    assert!(stdout.contains("www   running") && stdout.contains("127.0.0.1:9000"), "{stdout}");
    assert!(!stdout.contains("no workers") && !stdout.contains('\x1b'), "{stdout}");
    assert_eq!((stderr.as_str(), code), ("", 0));

    let (asked, (stdout, _, _)) = exchange(&["status", "www"], vec![status()]);
    assert_eq!(asked, Command::Status { pool: Some(www()) });
    assert!(stdout.contains("no workers"), "{stdout}");

    let (_, (stdout, _, _)) = exchange(&["status", "--full"], vec![status()]);
    assert!(stdout.contains("no workers"), "{stdout}");

    let (asked, said) = exchange(&["list"], vec![status()]);
    assert_eq!(asked, Command::Status { pool: None });
    assert_eq!(said, ("www  running\n".into(), String::new(), 0));
}

#[test]
fn json_is_json_for_every_command() {
    let json = |args: &[&str], reply| {
        let (_, (stdout, _, code)) = exchange(&[args, &["--json"]].concat(), vec![reply]);
        (serde_json::from_str::<serde_json::Value>(&stdout).expect("JSON"), code)
    };
    let (value, code) = json(&["status"], status());
    assert_eq!((value["pools"][0]["name"].as_str(), code), (Some("www"), 0));
    let (value, _) = json(&["list"], status());
    assert_eq!(value, serde_json::json!([{"name": "www", "state": "running"}]));
    let verdict = json(&["reload"], Reply::Done("done".into()));
    assert_eq!(verdict, (serde_json::json!({"ok": true, "message": "done"}), 0));
    let verdict = json(&["health"], Reply::Refused("pool www has no worker".into()));
    assert_eq!(verdict, (serde_json::json!({"ok": false, "message": "pool www has no worker"}), 1));
}

#[test]
fn colours_are_there_on_request() {
    let (_, (stdout, _, _)) = exchange(&["status", "--color", "always"], vec![status()]);
    assert!(stdout.contains("\x1b[32mrunning\x1b[0m"), "{stdout:?}");
}

/// Runs fpmctl on a terminal of 60 columns and gives what appears there.
fn on_a_terminal(args: &[&str], environment: &[(&str, &str)], replies: Vec<Reply>) -> String {
    let folder = Folder::new();
    let master = master(&folder.socket(), move |stream| {
        for reply in &replies {
            stream.write_all(&encode(reply)).unwrap();
        }
    });
    let size = Winsize { ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(Some(&size), None).unwrap();
    let slave = || terminal.slave.try_clone().unwrap();
    let mut fpmctl = Program::new(env!("CARGO_BIN_EXE_fpmctl"));
    fpmctl.arg("--socket").arg(folder.socket()).args(args).env_remove("NO_COLOR").env("TERM", "xterm");
    fpmctl.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(slave()).stderr(slave());
    let status = fpmctl.status().expect("fpmctl runs");
    master.join().unwrap();
    assert_eq!(status.code(), Some(0));
    // A few lines fit into the terminal's own buffer; with the last slave gone, its end is EIO.
    drop((fpmctl, terminal.slave));
    let mut shown = Vec::new();
    let end = std::fs::File::from(terminal.master).read_to_end(&mut shown);
    assert!(end.is_ok() || end.is_err_and(|error| error.raw_os_error() == Some(nix::libc::EIO)));
    String::from_utf8(shown).unwrap()
}

#[test]
fn a_terminal_gets_colours_its_width_and_progress() {
    let mut far = snapshot("/run/a/long/way/from/here.sock");
    far.pools[0].name = PoolName::new("a-pool-with-a-name-that-is-long").unwrap();
    let far = || vec![Reply::Status(Box::new(far.clone()))];
    let shown = on_a_terminal(&["status"], &[], far());
    assert!(shown.contains("\x1b[32mrunning\x1b[0m"), "{shown:?}");
    assert!(shown.contains("a-pool-with…") && !shown.contains("/run"), "{shown:?}");

    for refused in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_a_terminal(&["status"], &[refused], far());
        assert!(shown.contains("running") && !shown.contains('\x1b'), "{refused:?}: {shown:?}");
    }

    let replies = vec![Reply::Progress("pool www: 1\x1b[2J of 2".into()), Reply::Done("done".into())];
    let shown = on_a_terminal(&["reload"], &[], replies);
    assert_eq!(shown, "fpmctl: pool www: 1\u{fffd}[2J of 2\r\ndone\r\n");
}

#[test]
fn a_refusal_is_exit_1_with_its_reasons_on_standard_error() {
    let (_, said) = exchange(&["reload"], vec![Reply::Refused("first\nsecond".into())]);
    assert_eq!(said, (String::new(), "fpmctl: first\nfpmctl: second\n".into(), 1));
}

#[test]
fn a_refusal_before_the_question_was_read_is_heard() {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let master = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(&encode(&Reply::Refused("permission denied".into()))).unwrap();
    });
    let (_, stderr, code) = said(&fpmctl(&folder.socket(), &["stop"]));
    master.join().unwrap();
    assert_eq!((stderr.as_str(), code), ("fpmctl: permission denied\n", 1));
}

#[test]
fn progress_is_waited_through_and_shown_to_people_only() {
    let replies = vec![
        Reply::Progress("pool www: 1 of 2".into()),
        Reply::Progress("pool www: 2 of 2".into()),
        Reply::Done(String::new()),
    ];
    let (_, said) = exchange(&["reload"], replies);
    assert_eq!(said, (String::new(), String::new(), 0));
}

#[test]
fn an_answer_in_single_bytes_is_an_answer() {
    let folder = Folder::new();
    let master = master(&folder.socket(), |stream| {
        for byte in encode(&status()) {
            stream.write_all(&[byte]).unwrap();
        }
    });
    let (stdout, _, code) = said(&fpmctl(&folder.socket(), &["list"]));
    master.join().unwrap();
    assert_eq!((stdout.as_str(), code), ("www  running\n", 0));
}

#[test]
fn nonsense_is_exit_3() {
    for nonsense in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\xff\xfe\n",
        b"{}\n",
        b"{\"teleported\":\"www\"}\n",
        b"{\"done\":\"cut off",
        b"\n",
    ] {
        let folder = Folder::new();
        let master = master(&folder.socket(), move |stream| stream.write_all(nonsense).unwrap());
        let (stdout, stderr, code) = said(&fpmctl(&folder.socket(), &["reload"]));
        master.join().unwrap();
        assert_eq!((stdout.as_str(), code), ("", 3), "{stderr}");
        assert!(stderr.starts_with("fpmctl: cannot understand fpmd at '"), "{stderr}");
        assert!(
            stderr.contains("': it ") && stderr.ends_with("is it another version, or another program?\n"),
            "{stderr}"
        );
    }
}

#[test]
fn the_answer_to_another_question_is_exit_3() {
    let (_, (stdout, stderr, code)) = exchange(&["status"], vec![Reply::Done("ok".into())]);
    assert_eq!((stdout.as_str(), code), ("", 3));
    assert!(stderr.contains("answered another question"), "{stderr}");
}

#[test]
fn a_master_that_ends_without_an_answer_is_exit_3() {
    for replies in [vec![], vec![Reply::Progress("pool www: 1 of 2".into())]] {
        let (_, (stdout, stderr, code)) = exchange(&["reload"], replies);
        assert_eq!((stdout.as_str(), code), ("", 3));
        assert!(stderr.contains("closed the connection before its answer"), "{stderr}");
    }
}

#[test]
fn a_silent_master_is_given_up_where_it_has_nothing_to_wait_for() {
    let folder = Folder::new();
    let master = master(&folder.socket(), |stream| {
        // Until the client is gone.
        let _ = stream.read(&mut [0]);
    });
    let patience = Patience::Silence(Duration::from_millis(50));
    let failure = ask(&folder.socket(), Command::Reopen, patience, &mut |_| {}).unwrap_err();
    assert!(failure.to_string().ends_with("no answer within 0.05 s"), "{failure}");
    master.join().unwrap();
}

#[test]
fn a_master_that_accepts_nobody_is_given_up() {
    let folder = Folder::new();
    let address = UnixAddr::new(&folder.socket()).unwrap();
    let plain = || socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    let listener = plain();
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let mut waiting = Vec::new();
    loop {
        waiting.push(plain());
        match connect(waiting.last().unwrap().as_raw_fd(), &address) {
            Ok(()) => assert!(waiting.len() < 10, "the queue has no end"),
            Err(errno) => break assert_eq!(errno, Errno::EAGAIN),
        }
    }
    let patience = Patience::Silence(Duration::from_millis(50));
    let failure = ask(&folder.socket(), Command::Reopen, patience, &mut |_| {}).unwrap_err();
    assert!(failure.to_string().ends_with("is it stopped or overloaded?"), "{failure}");
}

#[test]
fn a_slow_master_is_waited_for_while_it_reloads() {
    let folder = Folder::new();
    let (seen, see) = std::sync::mpsc::channel();
    let master = master(&folder.socket(), move |stream| {
        stream.write_all(&encode(&Reply::Progress("draining".into()))).unwrap();
        see.recv_timeout(Duration::from_secs(20)).expect("the client reads progress while it waits");
        stream.write_all(&encode(&Reply::Done("reloaded".into()))).unwrap();
    });
    let question = Command::Reload { pools: vec![], extent: Extent::Every };
    let mut progress = |sentence: &str| seen.send(sentence.to_owned()).unwrap();
    let reply = ask(&folder.socket(), question, Patience::WhileConnected, &mut progress).unwrap();
    assert_eq!(reply, Reply::Done("reloaded".into()));
    master.join().unwrap();
}

#[test]
fn an_absent_master_is_named_with_what_to_do() {
    let folder = Folder::new();
    let (stdout, stderr, code) = said(&fpmctl(&folder.socket(), &["status"]));
    let socket = folder.socket();
    let expected = format!(
        "fpmctl: cannot reach fpmd at '{}': No such file or directory; is it running? Use sudo for root's fpmd, \
         --socket for another socket\n",
        socket.display()
    );
    assert_eq!((stdout.as_str(), stderr, code), ("", expected, 3));

    drop(UnixListener::bind(&socket).unwrap());
    let (_, stderr, code) = said(&fpmctl(&socket, &["status"]));
    assert!(
        stderr.ends_with("Connection refused; it ended and left its socket behind, start it again\n"),
        "{stderr}"
    );
    assert_eq!(code, 3);

    let (_, stderr, code) = said(&fpmctl(Path::new("/dev/null"), &["status"]));
    assert_eq!(stderr, "fpmctl: cannot reach fpmd at '/dev/null': Connection refused; that is no socket\n");
    assert_eq!(code, 3);

    let (stdout, _, code) = said(&fpmctl(&socket, &["reload", "--json"]));
    assert!(stdout.starts_with("{\"ok\":false,"), "{stdout}");
    assert_eq!(code, 3);
}

#[test]
fn a_socket_that_is_closed_to_us_is_named_so() {
    let folder = Folder::new();
    let _listener = UnixListener::bind(folder.socket()).unwrap();
    std::fs::set_permissions(folder.socket(), PermissionsExt::from_mode(0o000)).unwrap();
    let mut fpmctl = Program::new(env!("CARGO_BIN_EXE_fpmctl"));
    fpmctl.arg("--socket").arg(folder.socket()).arg("status").stdin(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        fpmctl.uid(65_534).gid(65_534); // Nothing is closed to root.
    }
    let (_, stderr, code) =
        said(&fpmctl.output().expect("fpmctl runs, from a directory that others can enter"));
    assert!(stderr.contains("Permission denied; run fpmctl as root"), "{stderr}");
    assert_eq!(code, 3);
}

#[test]
fn a_path_that_no_socket_can_have_is_exit_3() {
    let (_, stderr, code) = said(&fpmctl(Path::new(&"/x".repeat(80)), &["status"]));
    assert!(stderr.contains("File name too long"), "{stderr}");
    assert_eq!(code, 3);
}

#[test]
fn usage_errors_are_exit_2_and_help_is_exit_0() {
    let run = |args: &[&str]| said(&fpmctl(Path::new("/nonexistent"), args));
    let (stdout, stderr, code) = run(&["statsu"]);
    assert!(stderr.contains("'status'"), "{stderr}");
    assert_eq!((stdout.as_str(), code), ("", 2));
    assert_eq!(run(&[]).2, 2);
    assert_eq!(run(&["scale", "www", "0"]).2, 2);
    let (stdout, stderr, code) = run(&["--help"]);
    assert!(stdout.contains("Examples:") && stdout.contains("fpmctl reload"), "{stdout}");
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert_eq!(run(&["--version"]).0, format!("fpmctl {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_configuration_is_checked_without_a_running_fpmd() {
    let folder = Folder::new();
    let file = folder.0.join("fpmd.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        said(&fpmctl(&folder.socket(), &["check", file.to_str().unwrap()]))
    };
    let user = nix::unistd::geteuid();
    let rest = format!("user = \"{user}\"\npm.max_children = 1\n");
    let right = format!("[pool.www]\nlisten = \"@x\"\ncommand = [\"/bin/true\"]\n{rest}");
    let (stdout, stderr, code) = check(&right);
    assert_eq!((stderr.as_str(), code), ("", 0), "{stderr}");
    assert_eq!(stdout, format!("configuration file {} test is successful\n", file.display()));

    let (stdout, stderr, code) = check(&right.replace("command", "comand"));
    assert_eq!((stdout.as_str(), code), ("", 1));
    let place = format!("fpmctl: {}:3:1: ", file.display());
    assert!(stderr.lines().any(|line| line.starts_with(&place) && line.contains("'command'")), "{stderr}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = Folder::new();
    let master = master(&folder.socket(), |stream| stream.write_all(&encode(&status())).unwrap());
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let mut fpmctl = Program::new(env!("CARGO_BIN_EXE_fpmctl"));
    fpmctl.arg("--socket").arg(folder.socket()).arg("status").stdin(Stdio::null()).stdout(write);
    let output = fpmctl.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    master.join().unwrap();
    assert_eq!((output.stderr.len(), output.status.code()), (0, Some(0)));
}

/// The built-in worker on a socket of its own.
struct Worker(std::process::Child);

impl Worker {
    fn on(socket: &Path) -> Worker {
        let listener = UnixListener::bind(socket).expect("a fresh socket");
        let mut fpmd = Program::new(env!("CARGO_BIN_EXE_fpmd"));
        Worker(fpmd.arg("demo-worker").stdin(OwnedFd::from(listener)).spawn().expect("fpmd runs"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_request_is_answered_by_a_worker() {
    let folder = Folder::new();
    let address = folder.0.join("worker.sock");
    let _worker = Worker::on(&address);
    let request = |args: &[&str]| {
        let words = [&["request", address.to_str().unwrap()], args].concat();
        said(&fpmctl(&folder.socket(), &words))
    };
    let echo = request(&["/echo", "--data", "to and fro"]);
    assert_eq!(echo, ("to and fro".into(), String::new(), 0));

    let (stdout, _, code) = request(&["/missing", "--include"]);
    assert!(stdout.starts_with("Status: 404 Not Found\r\n") || stdout.starts_with("Status: 404 Not Found\n"));
    assert_eq!(code, 0, "any complete answer is an answer");

    let (stdout, stderr, code) = request(&["/echo", "-d", "\"x\"", "--json", "--include"]);
    let shown: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&shown["ok"], &shown["status"]), (&true.into(), &200.into()));
    assert_eq!((shown["body"].as_str(), shown["errors"].as_str()), (Some("\"x\""), Some("")));
    assert!(shown["headers"].as_array().is_some_and(|headers| !headers.is_empty()), "{stdout}");
    assert_eq!((stderr.as_str(), code), ("", 0));

    let (_, stderr, code) = request(&["/crash"]);
    assert!(stderr.starts_with("fpmctl: cannot "), "{stderr}");
    assert_eq!(code, 1, "half an answer is none");
}

#[test]
fn a_request_to_a_pool_goes_to_its_first_address() {
    let folder = Folder::new();
    let address = folder.0.join("worker.sock");
    let _worker = Worker::on(&address);
    let mut snapshot = snapshot("systemd:www");
    let mut second = snapshot.pools[0].listeners[0].clone();
    second.address = address.to_str().unwrap().into();
    snapshot.pools[0].listeners.push(second);
    let status = Reply::Status(Box::new(snapshot));
    let master = master(&folder.socket(), move |stream| stream.write_all(&encode(&status)).unwrap());
    let said = said(&fpmctl(&folder.socket(), &["request", "www", "/echo", "-d", "hello"]));
    assert_eq!(master.join().unwrap().command, Command::Status { pool: Some(www()) });
    assert_eq!(said, ("hello".into(), String::new(), 0));
}

#[test]
fn a_request_to_a_pool_without_an_address_is_exit_1() {
    let inherited = Reply::Status(Box::new(snapshot("systemd:www")));
    let (_, (_, stderr, code)) = exchange(&["request", "www", "/"], vec![inherited]);
    assert!(
        stderr.contains("cannot send to pool www: 'systemd:www' is a socket that fpmd inherits"),
        "{stderr}"
    );
    assert_eq!(code, 1);

    let mut closed = snapshot("");
    closed.pools[0].listeners.clear();
    let closed = Reply::Status(Box::new(closed));
    let (_, (_, stderr, code)) = exchange(&["request", "www", "/"], vec![closed]);
    assert!(stderr.contains("it has no open socket"), "{stderr}");
    assert_eq!(code, 1);

    let refused = Reply::Refused("no pool is named 'www'".into());
    let (_, said) = exchange(&["request", "www", "/"], vec![refused]);
    assert_eq!(said, (String::new(), "fpmctl: no pool is named 'www'\n".into(), 1));
}
