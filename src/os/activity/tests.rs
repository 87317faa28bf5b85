//! Real workers on real sockets: small programs in Perl and Python of each kind, and php-cgi where it is installed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::config::model::{ListenAddress, SocketSettings};
use crate::os::testing::TempDir;

/// Answers lines: `echo X` by X, `work` by nothing until `$ARGV[0]`, a fifo, is opened by someone. One connection at a
/// time, in accept.
const BLOCKING: &str = r#"
    while (accept(my $peer, STDIN)) {
        $peer->autoflush(1);
        while (my $line = <$peer>) {
            if ($line =~ /^echo (.*)/) { print $peer "$1\n"; }
            if ($line =~ /^work/) { open(my $fifo, '<', $ARGV[0]); print $peer "done\n"; }
        }
    }"#;

/// The same lines, behind select as in flup.
const SELECTING: &str = r#"
    while (1) {
        my $set = ''; vec($set, 0, 1) = 1;
        next unless select($set, undef, undef, 1) > 0;
        accept(my $peer, STDIN) or next;
        $peer->autoflush(1);
        while (my $line = <$peer>) { print $peer "$1\n" if $line =~ /^echo (.*)/; }
    }"#;

/// An event loop that never blocks in accept.
const EPOLL: &str = r#"
import select, socket
listener = socket.socket(fileno=0)
epoll = select.epoll()
epoll.register(0, select.EPOLLIN)
peers = {}
while True:
    for fd, _ in epoll.poll():
        if fd == 0:
            peer, _ = listener.accept()
            peers[peer.fileno()] = peer
            epoll.register(peer.fileno(), select.EPOLLIN)
        else:
            line = peers[fd].recv(99)
            if line:
                peers[fd].send(line[5:])
            else:
                epoll.unregister(fd)
                peers.pop(fd).close()
"#;

/// A parent that only waits, and two children that accept, as php-cgi with PHP_FCGI_CHILDREN.
const FORKING: &str = r#"
    for (1..2) {
        next if fork;
        while (accept(my $peer, STDIN)) {
            $peer->autoflush(1);
            while (my $line = <$peer>) { print $peer "$1\n" if $line =~ /^echo (.*)/; }
        }
        exit;
    }
    $SIG{TERM} = sub { kill 'TERM', split ' ', `ps -o pid= --ppid $$`; exit 0 };
    1 while wait > 0;"#;

/// A worker that is ended with the test, and its children with it.
struct Worker(Child);

impl Worker {
    fn start(command: &mut Command, listener: &Listener) -> Worker {
        let socket = listener.as_fd().try_clone_to_owned().unwrap();
        Worker(command.stdin(Stdio::from(socket)).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::new(self.0.id() as i32).unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for member in tree(self.pid()).into_iter().rev() {
            let _ = signal::send(member, Signal::KILL);
        }
        drop(self.0.wait());
    }
}

struct Fixture {
    dir: TempDir,
    listeners: Vec<Listener>,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = TempDir::new();
        let address = ListenAddress::Unix(dir.join("x.sock"));
        let settings = SocketSettings {
            backlog: 128,
            owner: None,
            group: None,
            mode: 0o600,
            acl_users: vec![],
            acl_groups: vec![],
        };
        Fixture { listeners: vec![Listener::open(&address, &settings).unwrap()], dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("x.sock")
    }

    fn perl(&self, program: &str) -> Worker {
        let fifo = self.dir.join("fifo");
        let mut command = Command::new("perl");
        Worker::start(command.args(["-MIO::Handle", "-e", program]).arg(fifo), &self.listeners[0])
    }

    fn client(&self) -> UnixStream {
        let client = UnixStream::connect(self.path()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    fn wait_for(&self, worker: &Worker, activity: Activity, connections: u32) {
        let mut observer = Observer::new();
        let wanted = Observation { activity, connections: Some(connections), method: METHOD };
        wait_until(|| {
            let seen = observer.observe(&self.listeners, worker.pid());
            if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }

    fn stop(&self, worker: &Worker, signal: Signal) -> StopOutcome {
        Observer::new().stop_if_idle(&self.listeners, worker.pid(), signal).unwrap()
    }
}

fn wait_until(mut check: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(seen) = check() {
        assert!(Instant::now() < deadline, "{seen}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn echo(client: &mut UnixStream, word: &str) -> Result<String, String> {
    client.write_all(format!("echo {word}\n").as_bytes()).map_err(|error| format!("write: {error}"))?;
    let mut answer = String::new();
    let mut reader = BufReader::new(client);
    reader.read_line(&mut answer).map_err(|error| format!("read: {error}"))?;
    Ok(answer.trim_end().to_owned())
}

fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

#[test]
fn a_blocking_worker_is_idle_busy_and_waiting() {
    let fixture = Fixture::new();
    let fifo = fixture.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let worker = fixture.perl(BLOCKING);
    fixture.wait_for(&worker, Activity::Idle, 0);
    let mut client = fixture.client();
    fixture.wait_for(&worker, Activity::Waiting, 1);
    assert_eq!(echo(&mut client, "hello").unwrap(), "hello");
    fixture.wait_for(&worker, Activity::Waiting, 1);
    client.write_all(b"work\n").unwrap();
    fixture.wait_for(&worker, Activity::Busy, 1);
    let queued = fixture.client();
    assert_eq!(fixture.stop(&worker, Signal::KILL), StopOutcome::NotIdle(Activity::Busy));
    drop(std::fs::OpenOptions::new().write(true).open(&fifo).unwrap());
    fixture.wait_for(&worker, Activity::Waiting, 1);
    drop(client);
    fixture.wait_for(&worker, Activity::Waiting, 1);
    drop(queued);
    fixture.wait_for(&worker, Activity::Idle, 0);
}

#[test]
fn a_selecting_worker_is_idle_only_at_its_listener() {
    let fixture = Fixture::new();
    let worker = fixture.perl(SELECTING);
    fixture.wait_for(&worker, Activity::Idle, 0);
    let mut client = fixture.client();
    assert_eq!(echo(&mut client, "hello").unwrap(), "hello");
    fixture.wait_for(&worker, Activity::Waiting, 1);
    drop(client);
    fixture.wait_for(&worker, Activity::Idle, 0);
}

#[test]
fn a_worker_that_still_starts_is_not_idle() {
    let fixture = Fixture::new();
    let elsewhere = fixture.perl("select(undef, undef, undef, 60)");
    let mut observer = Observer::new();
    for _ in 0..50 {
        let seen = observer.observe(&fixture.listeners, elsewhere.pid());
        assert_eq!(seen.activity, Activity::Busy);
        assert_eq!(fixture.stop(&elsewhere, Signal::KILL), StopOutcome::NotIdle(Activity::Busy));
    }
}

#[test]
fn an_event_loop_is_idle_without_connections_and_busy_with() {
    if !installed("python3") {
        return;
    }
    let fixture = Fixture::new();
    let worker = Worker::start(Command::new("python3").args(["-c", EPOLL]), &fixture.listeners[0]);
    fixture.wait_for(&worker, Activity::Idle, 0);
    let mut one = fixture.client();
    let mut two = fixture.client();
    assert_eq!(echo(&mut one, "a").unwrap(), "a");
    assert_eq!(echo(&mut two, "b").unwrap(), "b");
    fixture.wait_for(&worker, Activity::Busy, 2);
    drop(one);
    fixture.wait_for(&worker, Activity::Busy, 1);
    assert_eq!(fixture.stop(&worker, Signal::KILL), StopOutcome::NotIdle(Activity::Busy));
    drop(two);
    fixture.wait_for(&worker, Activity::Idle, 0);
}

#[test]
fn children_count_with_their_parent() {
    let fixture = Fixture::new();
    let worker = fixture.perl(FORKING);
    fixture.wait_for(&worker, Activity::Idle, 0);
    let mut client = fixture.client();
    assert_eq!(echo(&mut client, "hello").unwrap(), "hello");
    fixture.wait_for(&worker, Activity::Busy, 1);
    assert_eq!(fixture.stop(&worker, Signal::KILL), StopOutcome::NotIdle(Activity::Busy));
    assert_eq!(echo(&mut client, "again").unwrap(), "again", "the children go on");
    drop(client);
    fixture.wait_for(&worker, Activity::Idle, 0);
}

#[test]
fn several_workers_are_seen_at_once_and_the_dead_as_unknown() {
    let fixture = Fixture::new();
    let workers: Vec<_> = (0..3).map(|_| fixture.perl(BLOCKING)).collect();
    workers.iter().for_each(|worker| fixture.wait_for(worker, Activity::Idle, 0));
    let _client = fixture.client();
    let mut pids: Vec<Pid> = workers.iter().map(Worker::pid).collect();
    let mut dead = Command::new("true").spawn().unwrap();
    pids.push(Pid::new(dead.id() as i32).unwrap());
    dead.wait().unwrap();
    wait_until(|| {
        let seen = Observer::new().observe_all(&fixture.listeners, &pids);
        let count = |activity| seen.iter().filter(|seen| seen.activity == activity).count();
        let counts = [Activity::Idle, Activity::Waiting, Activity::Busy, Activity::Unknown].map(count);
        if counts == [2, 1, 0, 1] { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    let gone = Observer::new().stop_if_idle(&fixture.listeners, pids[3], Signal::TERM);
    assert_eq!(gone, Ok(StopOutcome::Gone));
}

#[test]
fn someone_else_s_stop_is_left_alone() {
    let fixture = Fixture::new();
    let worker = fixture.perl(BLOCKING);
    fixture.wait_for(&worker, Activity::Idle, 0);
    signal::send(worker.pid(), Signal::STOP).unwrap();
    wait_until(|| if is_stopped(worker.pid()) { Ok(()) } else { Err("runs".into()) });
    assert_eq!(fixture.stop(&worker, Signal::KILL), StopOutcome::NotIdle(Activity::Unknown));
    assert!(is_stopped(worker.pid()));
}

/// What the loop below did.
#[derive(Debug, Default)]
struct Tally {
    stopped: u32,
    refused: u32,
    ends: HashSet<Option<i32>>,
}

/// Clients send requests without pause; meanwhile idle workers are stopped and replaced, at least `rounds` times.
fn replace_under_load(
    fixture: &Fixture,
    start: impl Fn() -> Worker,
    request: impl Fn(&Path, u32) -> Result<(), String> + Sync,
    (signal, rounds): (Signal, u32),
) -> Tally {
    let (over, served) = (AtomicBool::new(false), AtomicU32::new(0));
    let path = fixture.path();
    let mut workers: Vec<Worker> = (0..3).map(|_| start()).collect();
    let tally = std::thread::scope(|scope| {
        let client = || {
            while !over.load(Ordering::Relaxed) {
                let number = served.fetch_add(1, Ordering::Relaxed);
                request(&path, number)?;
                // With fewer clients at a time than workers, some worker is idle for a moment now and then.
                std::thread::sleep(Duration::from_micros(u64::from(number % 7) * 50));
            }
            Ok::<(), String>(())
        };
        let clients: Vec<_> = (0..2).map(|_| scope.spawn(client)).collect();
        let tally = stop_again_and_again(fixture, &mut workers, &start, (signal, rounds));
        over.store(true, Ordering::Relaxed);
        for client in clients {
            assert_eq!(client.join().unwrap(), Ok(()), "a request was lost: {tally:?}");
        }
        tally
    });
    assert!(served.load(Ordering::Relaxed) > 10, "there was load");
    tally
}

fn stop_again_and_again(
    fixture: &Fixture,
    workers: &mut [Worker],
    start: impl Fn() -> Worker,
    (signal, rounds): (Signal, u32),
) -> Tally {
    let mut observer = Observer::new();
    let mut tally = Tally::default();
    let deadline = Instant::now() + Duration::from_secs(60);
    while tally.stopped < rounds && Instant::now() < deadline {
        for worker in &mut *workers {
            match observer.stop_if_idle(&fixture.listeners, worker.pid(), signal).unwrap() {
                StopOutcome::Sent => {
                    let mut ended = std::mem::replace(worker, start());
                    tally.ends.insert(end(&mut ended).signal());
                    tally.stopped += 1;
                }
                StopOutcome::NotIdle(_) => tally.refused += 1,
                StopOutcome::Gone => panic!("a worker ended by itself"),
            }
        }
    }
    tally
}

/// Waits for the end of a worker that has its signal.
fn end(worker: &mut Worker) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = worker.0.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "a signalled worker goes on");
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn echo_request(path: &Path, number: u32) -> Result<(), String> {
    let mut client = UnixStream::connect(path).map_err(|error| format!("connect: {error}"))?;
    client.set_read_timeout(Some(Duration::from_secs(20))).map_err(|error| error.to_string())?;
    let answer = echo(&mut client, &number.to_string())?;
    if answer == number.to_string() { Ok(()) } else { Err(format!("'{answer}' instead of {number}")) }
}

#[test]
fn no_request_is_lost_to_a_killed_blocking_worker() {
    let fixture = Fixture::new();
    let tally = replace_under_load(&fixture, || fixture.perl(BLOCKING), echo_request, (Signal::KILL, 60));
    assert!(tally.stopped >= 60, "{tally:?}");
    assert_eq!(tally.ends, HashSet::from([Some(9)]));
}

#[test]
fn no_request_is_lost_to_a_killed_selecting_worker() {
    let fixture = Fixture::new();
    let tally = replace_under_load(&fixture, || fixture.perl(SELECTING), echo_request, (Signal::KILL, 30));
    assert!(tally.stopped >= 30, "{tally:?}");
}

/// A whole FastCGI request for one PHP script, in the smallest form.
fn php_request(path: &Path, script: &Path) -> Result<(), String> {
    let record = |kind: u8, content: &[u8]| {
        let length = (content.len() as u16).to_be_bytes();
        [&[1, kind, 0, 1, length[0], length[1], 0, 0], content].concat()
    };
    let script = script.to_str().unwrap();
    let pairs = [("SCRIPT_FILENAME", script), ("REQUEST_METHOD", "GET"), ("REDIRECT_STATUS", "200")];
    let pair = |(name, value): (&str, &str)| {
        [&[name.len() as u8, value.len() as u8], name.as_bytes(), value.as_bytes()].concat()
    };
    let parameters: Vec<u8> = pairs.into_iter().flat_map(pair).collect();
    let request =
        [record(1, &[0, 1, 0, 0, 0, 0, 0, 0]), record(4, &parameters), record(4, b""), record(5, b"")];
    let mut client = UnixStream::connect(path).map_err(|error| format!("connect: {error}"))?;
    client.set_read_timeout(Some(Duration::from_secs(20))).map_err(|error| error.to_string())?;
    client.write_all(&request.concat()).map_err(|error| format!("write: {error}"))?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).map_err(|error| format!("read: {error}"))?;
    if answer.windows(9).any(|window| window == b"all right") {
        Ok(())
    } else {
        Err(format!("answer: {:?}", String::from_utf8_lossy(&answer)))
    }
}

#[test]
fn php_cgi_is_seen_and_stopped_without_a_loss() {
    if !installed("php-cgi") {
        return;
    }
    let fixture = Fixture::new();
    let script = fixture.dir.join("x.php");
    std::fs::write(&script, "<?php usleep(500); echo 'all right';").unwrap();
    let start = || {
        let mut command = Command::new("php-cgi");
        Worker::start(command.env_clear().env("PHP_FCGI_MAX_REQUESTS", "0"), &fixture.listeners[0])
    };
    let worker = start();
    fixture.wait_for(&worker, Activity::Idle, 0);
    php_request(&fixture.path(), &script).unwrap();
    fixture.wait_for(&worker, Activity::Idle, 0);
    let client = fixture.client();
    fixture.wait_for(&worker, Activity::Waiting, 1);
    drop((client, worker));
    let request = |path: &Path, _| php_request(path, &script);
    let tally = replace_under_load(&fixture, start, request, (Signal::TERM, 25));
    assert!(tally.stopped >= 25, "{tally:?}");
    assert_eq!(tally.ends, HashSet::from([None]), "php-cgi ends by itself, exit code 0");
}

/// libfcgi, which C, C++ and Perl workers share: it tests for the signal and only then calls accept.
const LIBFCGI: &str = r#"
    my $request = FCGI::Request();
    while ($request->Accept() >= 0) { print "Status: 200\r\n\r\nall right"; }"#;

#[test]
fn libfcgi_is_stopped_without_a_loss() {
    let installed = Command::new("perl").args(["-MFCGI", "-e", "1"]).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        println!("skipped: libfcgi-perl is not installed");
        return;
    }
    let fixture = Fixture::new();
    let start = || Worker::start(Command::new("perl").args(["-MFCGI", "-e", LIBFCGI]), &fixture.listeners[0]);
    let request = |path: &Path, _| php_request(path, Path::new("/none"));
    let tally = replace_under_load(&fixture, start, request, (Signal::TERM, 25));
    assert!(tally.stopped >= 25, "{tally:?}");
}

#[test]
fn without_sock_diag_only_accept_is_known() {
    let fixture = Fixture::new();
    let worker = fixture.perl(BLOCKING);
    fixture.wait_for(&worker, Activity::Idle, 0);
    let mut observer = Observer { diag: None };
    let seen = observer.observe(&fixture.listeners, worker.pid());
    assert_eq!(seen, Observation { activity: Activity::Idle, connections: None, method: WITHOUT_DIAG });
    let outcome = observer.stop_if_idle(&fixture.listeners, worker.pid(), Signal::KILL).unwrap();
    assert_eq!(outcome, StopOutcome::NotIdle(Activity::Unknown));
}

#[test]
fn an_inherited_copy_of_the_listener_is_the_same_listener() {
    let fixture = Fixture::new();
    let copy: OwnedFd = fixture.listeners[0].as_fd().try_clone_to_owned().unwrap();
    let adopted = [Listener::adopt(copy, ListenAddress::Systemd("web".into())).unwrap()];
    let worker = fixture.perl(BLOCKING);
    fixture.wait_for(&worker, Activity::Idle, 0);
    let _client = fixture.client();
    wait_until(|| match Observer::new().observe(&adopted, worker.pid()).connections {
        Some(1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
