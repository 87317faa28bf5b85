//! Small workers of each kind, in Perl and Python, on a real socket; and what is seen of them.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::config::model::{ListenAddress, SocketSettings};
use crate::os::activity::*;
use crate::os::testing::{TempDir, pause};

/// Answers lines: `echo X` by X, `work` by nothing until `$ARGV[0]`, a fifo, is opened by someone. One connection at a
/// time, in accept.
pub(in crate::os::activity) const BLOCKING: &str = r#"
    while (accept(my $peer, STDIN)) {
        $peer->autoflush(1);
        while (my $line = <$peer>) {
            if ($line =~ /^echo (.*)/) { print $peer "$1\n"; }
            if ($line =~ /^work/) { open(my $fifo, '<', $ARGV[0]); print $peer "done\n"; }
        }
    }"#;

/// The same lines, behind select as in flup.
pub(in crate::os::activity) const SELECTING: &str = r#"
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
pub(in crate::os::activity) struct Worker(pub(super) Child);

impl Worker {
    pub(in crate::os::activity) fn start(command: &mut Command, listener: &Listener) -> Worker {
        let socket = listener.as_fd().try_clone_to_owned().unwrap();
        Worker(command.stdin(Stdio::from(socket)).stdout(Stdio::null()).spawn().unwrap())
    }

    pub(in crate::os::activity) fn pid(&self) -> Pid {
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

pub(in crate::os::activity) struct Fixture {
    pub(in crate::os::activity) dir: TempDir,
    pub(in crate::os::activity) listeners: Vec<Listener>,
}

impl Fixture {
    pub(in crate::os::activity) fn new() -> Fixture {
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

    pub(in crate::os::activity) fn path(&self) -> PathBuf {
        self.dir.join("x.sock")
    }

    pub(in crate::os::activity) fn perl(&self, program: &str) -> Worker {
        let fifo = self.dir.join("fifo");
        let mut command = Command::new("perl");
        Worker::start(command.args(["-MIO::Handle", "-e", program]).arg(fifo), &self.listeners[0])
    }

    pub(in crate::os::activity) fn client(&self) -> UnixStream {
        let client = UnixStream::connect(self.path()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    pub(in crate::os::activity) fn wait_for(&self, worker: &Worker, activity: Activity, connections: u32) {
        let mut observer = Observer::new();
        wait_until(|| {
            let seen = observer.observe(&self.listeners, worker.pid());
            if (seen.activity, seen.connections, seen.method) == (activity, Some(connections), METHOD) {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        });
    }

    fn stop(&self, worker: &Worker, signal: Signal) -> StopOutcome {
        Observer::new().stop_if_idle(&self.listeners, worker.pid(), signal, &mut Trail::default()).unwrap()
    }
}

fn wait_until(mut check: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(seen) = check() {
        assert!(Instant::now() < deadline, "{seen}");
        pause();
    }
}

pub(in crate::os::activity) fn echo(client: &mut UnixStream, word: &str) -> Result<String, String> {
    client.write_all(format!("echo {word}\n").as_bytes()).map_err(|error| format!("write: {error}"))?;
    let mut answer = String::new();
    let mut reader = BufReader::new(client);
    reader.read_line(&mut answer).map_err(|error| format!("read: {error}"))?;
    Ok(answer.trim_end().to_owned())
}

pub(in crate::os::activity) fn installed(program: &str) -> bool {
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
    let gone = Observer::new().stop_if_idle(&fixture.listeners, pids[3], Signal::TERM, &mut Trail::default());
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

#[test]
fn without_sock_diag_only_accept_is_known() {
    let fixture = Fixture::new();
    let worker = fixture.perl(BLOCKING);
    fixture.wait_for(&worker, Activity::Idle, 0);
    let mut observer = Observer { diag: None };
    let seen = observer.observe(&fixture.listeners, worker.pid());
    assert_eq!((seen.activity, seen.connections, seen.method), (Activity::Idle, None, WITHOUT_DIAG));
    let outcome =
        observer.stop_if_idle(&fixture.listeners, worker.pid(), Signal::KILL, &mut Trail::default()).unwrap();
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
