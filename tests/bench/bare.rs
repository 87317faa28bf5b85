//! The least that a relay can cost on the machine at hand, so that the gateway's cost can be told from the machine's: one
//! thread, the gateway's system calls in the gateway's order, and nothing in between. It parses, counts, logs, times and
//! retries nothing, believes that a request comes in one piece, as `load` sends it, and that workers stay. It is a process
//! of its own, the benchmark executed again, so that the CPU time of it alone can be read.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command};

use fpmd::fcgi::body::Connection;
use fpmd::os::stream::{Stream, prepare_listener, watch_listener};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use crate::support::dir::Dir;

/// The program's first argument where it is to be the relay; the sockets of its workers follow.
pub const ROLE: &str = "--bare-relay";

/// The listening socket; clients have odd numbers after it, workers even ones.
const DOOR: Token = Token(0);

/// Bytes that are read at once, and what the kernel may hold for a client that has once been too slow: the gateway's.
const BUFFER: usize = 256 * 1024;
const WIDE: usize = 2 * 1024 * 1024;

/// The empty STDIN record that ends a request, and how the END_REQUEST record begins that ends an answer.
const LAST_OF_REQUEST: [u8; 8] = [1, 5, 0, 1, 0, 0, 0, 0];
const LAST_OF_ANSWER: [u8; 6] = [1, 3, 0, 1, 0, 8];

/// Bytes of that END_REQUEST record.
const END: usize = 16;

/// Where BEGIN_REQUEST, a request's first record, has its flags, and the one that there is: FCGI_KEEP_CONN.
const FLAGS: usize = 8 + 2;
const KEEP: u8 = 1;

/// The relay's process, as long as it is wanted.
pub struct Bare {
    child: Child,
    dir: Dir,
}

impl Bare {
    /// Between clients and the workers that accept on these sockets, one on each.
    pub fn start(workers: &[PathBuf]) -> Bare {
        let dir = Dir::new();
        let listener = UnixListener::bind(dir.join("socket")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ROLE).args(workers).stdin(OwnedFd::from(listener));
        Bare { child: command.spawn().unwrap(), dir }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What that process does, from its listening socket on descriptor 0, until the benchmark ends it or ends itself.
pub fn relay(workers: impl Iterator<Item = PathBuf>) -> ! {
    set_pdeathsig(Signal::SIGKILL).unwrap();
    let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    prepare_listener(listener.as_fd()).unwrap();
    let mut poll = Poll::new().unwrap();
    watch_listener(poll.registry(), listener.as_fd(), DOOR).unwrap();
    let workers: Vec<Worker> = workers.map(Worker::new).collect();
    let mut relay = Relay {
        registry: poll.registry().try_clone().unwrap(),
        listener,
        crowd: 1,
        clients: Vec::new(),
        idle: (0..workers.len()).collect(),
        workers,
        queue: VecDeque::new(),
    };
    let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; BUFFER]);
    loop {
        if let Err(error) = poll.poll(&mut events, None) {
            // By strace, as it comes.
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        }
        for event in &events {
            match event.token() {
                DOOR => relay.accept(&mut buffer),
                Token(number) if number % 2 == 1 => relay.client_ready(number / 2, event, &mut buffer),
                Token(number) => relay.read_worker(number / 2 - 1, &mut buffer),
            }
        }
    }
}

struct Relay {
    registry: Registry,
    listener: OwnedFd,
    /// How many clients came together the last time.
    crowd: usize,
    clients: Vec<Option<Client>>,
    workers: Vec<Worker>,
    /// Workers without a request; the last one is the warmest. Where there are any, nobody waits.
    idle: Vec<usize>,
    /// Clients that wait for a worker.
    queue: VecDeque<usize>,
}

struct Client {
    stream: Stream,
    /// What becomes of it after the answer, once it has asked.
    connection: Option<Connection>,
    watched: Option<Interest>,
    /// While it waits for a worker.
    request: Vec<u8>,
    worker: Option<usize>,
    /// What it did not take of its answer, and how much of that it has by now; its worker is not read from meanwhile.
    rest: Vec<u8>,
    sent: usize,
    widened: bool,
}

struct Worker {
    path: PathBuf,
    /// Kept from request to request.
    stream: Option<Stream>,
    client: Option<usize>,
    /// The last bytes of the answer so far.
    tail: [u8; END],
}

impl Worker {
    fn new(path: PathBuf) -> Worker {
        Worker { path, stream: None, client: None, tail: [0; END] }
    }
}

impl Relay {
    /// As many clients as came together the last time: to learn that nobody is left costs as much as to accept somebody.
    fn accept(&mut self, buffer: &mut [u8]) {
        for met in 0..self.crowd {
            match Stream::accept(self.listener.as_fd()) {
                Ok(stream) => self.welcome(stream, buffer),
                Err(Errno::EAGAIN) => return self.crowd = met.max(1),
                Err(errno) => panic!("cannot accept: {errno}"),
            }
        }
        self.crowd += 1;
    }

    /// A client that has said all that it has to say gets its answer without the event loop's ever having heard of it.
    fn welcome(&mut self, stream: Stream, buffer: &mut [u8]) {
        let free = self.clients.iter().position(Option::is_none);
        let at = free.unwrap_or(self.clients.len());
        if free.is_none() {
            self.clients.push(None);
        }
        self.clients[at] = Some(Client::new(stream));
        self.read_client(at, buffer);
        if let Some(client) = self.clients[at].as_mut().filter(|client| !client.leaves_after_answer()) {
            client.watch(&self.registry, at, Interest::READABLE);
        }
    }

    fn client_ready(&mut self, at: usize, event: &mio::event::Event, buffer: &mut [u8]) {
        if event.is_writable() {
            self.flush(at, buffer);
        }
        if event.is_readable() || event.is_read_closed() {
            self.read_client(at, buffer);
        }
    }

    fn read_client(&mut self, at: usize, buffer: &mut [u8]) {
        let Some(client) = &mut self.clients[at] else { return };
        let count = match client.stream.read(buffer) {
            Err(Errno::EAGAIN) => return,
            Ok(0) | Err(_) => return self.lose_client(at),
            Ok(count) => count,
        };
        let request = &mut buffer[..count];
        assert!(request.ends_with(&LAST_OF_REQUEST), "a request came in more than one piece");
        let keep = request[FLAGS] & KEEP != 0;
        client.connection = Some(if keep { Connection::Keep } else { Connection::Close });
        request[FLAGS] |= KEEP;
        if let Some(worker) = self.idle.pop() {
            return self.dispatch(at, worker, request);
        }
        client.request.extend_from_slice(request);
        self.queue.push_back(at);
    }

    fn dispatch(&mut self, client: usize, at: usize, request: &[u8]) {
        self.clients[client].as_mut().unwrap().worker = Some(at);
        let Worker { path, stream, .. } = &mut self.workers[at];
        let stream = stream.get_or_insert_with(|| {
            let stream = Stream::connect(path).unwrap();
            let (fd, token) = (stream.as_fd().as_raw_fd(), Token(2 * at + 2));
            self.registry.register(&mut SourceFd(&fd), token, Interest::READABLE).unwrap();
            stream
        });
        assert_eq!(stream.write(request), Ok(request.len()), "a worker does not take a request");
        (self.workers[at].client, self.workers[at].tail) = (Some(client), [0; END]);
    }

    /// A worker gets the next request, if one waits.
    fn release_worker(&mut self, at: usize) {
        self.workers[at].client = None;
        let Some(next) = self.queue.pop_front() else { return self.idle.push(at) };
        let mut request = std::mem::take(&mut self.clients[next].as_mut().unwrap().request);
        self.dispatch(next, at, &request);
        request.clear();
        // Its memory is for the client's next one.
        self.clients[next].as_mut().unwrap().request = request;
    }

    /// Passes on what a worker has sent: until a read comes short, its client is full, or the answer is over. The worker then
    /// has its next request before the client has its end.
    fn read_worker(&mut self, at: usize, buffer: &mut [u8]) {
        loop {
            let Worker { stream: Some(stream), client: Some(client), tail, .. } = &mut self.workers[at]
            else {
                return;
            };
            let to = *client;
            if !self.clients[to].as_ref().unwrap().rest.is_empty() {
                return;
            }
            buffer[..END].copy_from_slice(tail);
            let count = match stream.read(&mut buffer[END..]) {
                Err(Errno::EAGAIN) => return,
                Ok(0) | Err(_) => panic!("a worker has closed its connection"),
                Ok(count) => count,
            };
            tail.copy_from_slice(&buffer[count..count + END]);
            let over = tail.starts_with(&LAST_OF_ANSWER);
            if over {
                self.clients[to].as_mut().unwrap().worker = None;
                self.release_worker(at);
            }
            self.pass(to, &buffer[END..END + count]);
            if over || END + count < buffer.len() {
                return;
            }
        }
    }

    /// Sends a client more of its answer.
    fn pass(&mut self, at: usize, bytes: &[u8]) {
        let client = self.clients[at].as_mut().unwrap();
        match client.send(bytes) {
            Err(_) => self.lose_client(at),
            Ok(count) if count < bytes.len() => {
                client.rest.extend_from_slice(&bytes[count..]);
                client.watch(&self.registry, at, Interest::READABLE | Interest::WRITABLE);
            }
            Ok(_) => self.settle(at),
        }
    }

    /// Sends a client what it did not take before; when it has that, its worker is read from again.
    fn flush(&mut self, at: usize, buffer: &mut [u8]) {
        let Some(client) = self.clients[at].as_mut().filter(|client| !client.rest.is_empty()) else { return };
        let mut rest = std::mem::take(&mut client.rest);
        let Ok(count) = client.send(&rest[client.sent..]) else { return self.lose_client(at) };
        client.sent += count;
        if client.sent < rest.len() {
            client.rest = rest;
            return;
        }
        rest.clear();
        (client.rest, client.sent) = (rest, 0);
        client.watch(&self.registry, at, Interest::READABLE);
        match client.worker {
            Some(worker) => self.read_worker(worker, buffer),
            None => self.settle(at),
        }
    }

    /// Closes a client's connection if that was wanted and the answer is over.
    fn settle(&mut self, at: usize) {
        let over = |client: &mut Client| client.worker.is_none() && client.leaves_after_answer();
        self.clients[at].take_if(over);
    }

    /// Nobody waits for an answer any more; its worker notices by the end of its connection.
    fn lose_client(&mut self, at: usize) {
        let Some(client) = self.clients[at].take() else { return };
        self.queue.retain(|waiting| *waiting != at);
        if let Some(worker) = client.worker {
            self.workers[worker].stream = None;
            self.release_worker(worker);
        }
    }
}

impl Client {
    fn new(stream: Stream) -> Client {
        Client {
            stream,
            connection: None,
            watched: None,
            request: Vec::new(),
            worker: None,
            rest: Vec::new(),
            sent: 0,
            widened: false,
        }
    }

    fn leaves_after_answer(&self) -> bool {
        self.connection == Some(Connection::Close)
    }

    fn watch(&mut self, registry: &Registry, at: usize, interest: Interest) {
        let (fd, token) = (self.stream.as_fd().as_raw_fd(), Token(2 * at + 1));
        match self.watched.replace(interest) {
            Some(before) if before == interest => {}
            Some(_) => registry.reregister(&mut SourceFd(&fd), token, interest).unwrap(),
            None => registry.register(&mut SourceFd(&fd), token, interest).unwrap(),
        }
    }

    /// Writes as much as it takes. One that does not take all gets a larger buffer, once.
    fn send(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut at = 0;
        while at < bytes.len() {
            match self.stream.write(&bytes[at..]) {
                Ok(count) => at += count,
                Err(Errno::EAGAIN) if self.widened => break,
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno),
            }
            if at < bytes.len() && !self.widened {
                self.widened = true;
                self.stream.raise_send_buffer(WIDE);
            }
        }
        Ok(at)
    }
}
