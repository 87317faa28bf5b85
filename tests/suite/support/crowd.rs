//! Clients of every manner, good and bad, through a web server and without one, that can be made to hold their breath. Good
//! ones insist on the whole right answer; rude ones only on an end.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bytes::Random;
use super::fastcgi::{Address, BEGIN_REQUEST, CUT_OFF, PARAMS, STDIN, pairs, record, script};
use super::random::{Cut, Request};
use super::traffic::{self, Ask};

const ABORT_REQUEST: u8 = 2;
const GET_VALUES: u8 = 9;

/// A pool, as its clients know it.
#[derive(Debug, Clone)]
pub struct Target {
    pub name: String,
    pub socket: PathBuf,
    /// Whether its workers are behind a gateway, which rude clients do not get past.
    pub is_shielded: bool,
}

/// What a client can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    /// Waits for a slow answer, through the web server.
    Wait,
    /// Sends a body, through the web server.
    Upload,
    /// Asks several times on one connection.
    Kept,
    /// Cuts its records as it likes.
    Wild,
    /// Reads a large answer bit by bit, and all of it.
    Sips,
    /// Sends a body bit by bit.
    Drips,
    /// Connects and says nothing.
    Silent,
    /// Goes away in the middle of its request.
    Half,
    /// Goes away in the middle of the answer, or before it.
    Leaves,
    /// Sends more parameters than anybody may.
    Oversized,
    /// Speaks another language.
    Garbage,
    /// Takes its request back.
    Aborts,
    /// Asks what it may ask, and nothing else.
    Values,
}

/// Good ones, in the weight of their number here.
const GOOD: [Manner; 8] = [
    Manner::Wait,
    Manner::Wait,
    Manner::Wait,
    Manner::Upload,
    Manner::Kept,
    Manner::Wild,
    Manner::Sips,
    Manner::Drips,
];

const RUDE: [Manner; 7] = [
    Manner::Silent,
    Manner::Half,
    Manner::Leaves,
    Manner::Oversized,
    Manner::Garbage,
    Manner::Aborts,
    Manner::Values,
];

/// A good request that was not answered well.
#[derive(Debug, Clone)]
pub struct Failure {
    pub pool: String,
    pub manner: Manner,
    pub began: Instant,
    pub ended: Instant,
    pub why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { pool, manner, began, ended, why } = self;
        let (took, ago) = (*ended - *began, began.elapsed());
        write!(f, "{pool} {manner:?}, begun {ago:.3?} ago, ended {took:.3?} later: {why}")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Paused,
    Over,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Clients that have nothing under way.
    resting: usize,
    done: BTreeMap<Manner, u64>,
    failures: Vec<Failure>,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// Clients, until they are told to stop.
pub struct Crowd {
    shared: Shared,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// So many clients in all, which do as their seed says. They begin at a pause.
    pub fn gather(front: &Path, targets: &[Target], clients: usize, seed: u64) -> Crowd {
        let state = State { phase: Phase::Paused, resting: 0, done: BTreeMap::new(), failures: Vec::new() };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let threads = (0..clients).map(|number| {
            let client = Client {
                front: front.to_owned(),
                targets: targets.to_vec(),
                random: Random::new(seed ^ (number as u64 + 1) << 32),
            };
            let shared = shared.clone();
            std::thread::spawn(move || client.go_on(&shared))
        });
        Crowd { threads: threads.collect(), shared }
    }

    /// Lets them ask.
    pub fn resume(&self) {
        self.set(Phase::Running);
    }

    /// Waits until none of them has anything under way.
    #[track_caller]
    pub fn pause(&self) {
        self.set(Phase::Paused);
        let (state, changed) = &*self.shared;
        let state = state.lock().unwrap();
        let all = self.threads.len();
        // Each of their waits has an end of its own.
        let (_state, late) =
            changed.wait_timeout_while(state, Duration::from_secs(120), |state| state.resting < all).unwrap();
        assert!(!late.timed_out(), "a client hangs");
    }

    /// The failures since the last call.
    pub fn failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.shared.0.lock().unwrap().failures)
    }

    /// Requests up to now, good ones and others.
    pub fn done(&self) -> BTreeMap<Manner, u64> {
        self.shared.0.lock().unwrap().done.clone()
    }

    fn set(&self, phase: Phase) {
        self.shared.0.lock().unwrap().phase = phase;
        self.shared.1.notify_all();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.set(Phase::Over);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

struct Client {
    front: PathBuf,
    targets: Vec<Target>,
    random: Random,
}

impl Client {
    fn go_on(mut self, shared: &Shared) {
        let (state, changed) = &**shared;
        loop {
            let mut now = state.lock().unwrap();
            if now.phase == Phase::Paused {
                now.resting += 1;
                changed.notify_all();
                now = changed.wait_while(now, |state| state.phase == Phase::Paused).unwrap();
                now.resting -= 1;
            }
            if now.phase == Phase::Over {
                return;
            }
            drop(now);
            let target = self.targets[self.random.below(self.targets.len())].clone();
            let is_good = !target.is_shielded || self.random.below(4) > 0;
            let kinds: &[Manner] = if is_good { &GOOD } else { &RUDE };
            let manner = kinds[self.random.below(kinds.len())];
            let began = Instant::now();
            let result = self.act(manner, &target);
            let mut now = state.lock().unwrap();
            *now.done.entry(manner).or_default() += 1;
            if let Err(why) = result {
                let (pool, ended) = (target.name, Instant::now());
                now.failures.push(Failure { pool, manner, began, ended, why });
            }
        }
    }

    fn act(&mut self, manner: Manner, target: &Target) -> Result<(), String> {
        let address = Address::Unix(target.socket.clone());
        let words = |error: io::Error| error.to_string();
        match manner {
            Manner::Wait => {
                let millis = [0, 1, 5, 20, 50][self.random.below(5)];
                traffic::one(&self.front, &target.name, Ask::Wait(millis))
            }
            Manner::Upload => {
                let length = self.length();
                traffic::one(&self.front, &target.name, Ask::Upload(length))
            }
            Manner::Kept => self.ask_on_one_connection(&address).map_err(words),
            Manner::Wild => self.cut(&address, target).map_err(words),
            Manner::Sips => self.sip(&address).map_err(words),
            Manner::Drips => self.drip(&address).map_err(words),
            rude => {
                // Whatever comes of it, they had it coming.
                let _ = self.be_rude(rude, &address);
                Ok(())
            }
        }
    }

    /// From nothing to more than is kept in memory anywhere.
    fn length(&mut self) -> usize {
        let most = [100, 10_000, 300_000, 2 << 20][self.random.below(4)];
        self.random.below(most)
    }

    fn ask_on_one_connection(&mut self, address: &Address) -> io::Result<()> {
        let mut connection = address.connect()?;
        for turn in 0..1 + self.random.below(4) {
            let request = request("GET", "/pid", &[], true);
            let answer = connection.send_raw(&request).and_then(|()| connection.answer());
            // One that was kept may have been closed meanwhile; whoever keeps connections knows and asks again.
            let answer = match answer {
                Err(error) if turn > 0 && !error.to_string().contains(CUT_OFF) => {
                    connection = address.connect()?;
                    connection.send_raw(&request)?;
                    connection.answer()?
                }
                answer => answer?,
            };
            is_pid(&answer.text())?;
        }
        Ok(())
    }

    fn cut(&mut self, address: &Address, target: &Target) -> io::Result<()> {
        let length = self.length() / 4;
        let (body, script) = (self.random.bytes(length), script("php/app.php"));
        let request = Request { script: &script, method: "POST", path: "/echo", body: &body };
        let cut = if target.is_shielded { Cut::Wild } else { Cut::Tame };
        let answer = request.exchange(address, cut, &mut self.random)?;
        if answer.body == body { Ok(()) } else { Err(wrong(&answer.head)) }
    }

    fn sip(&mut self, address: &Address) -> io::Result<()> {
        let length = self.length();
        let mut connection = address.connect()?;
        connection.send("GET", &format!("/big/{length}"), &[])?;
        std::thread::sleep(Duration::from_millis(self.random.below(100) as u64));
        let answer = connection.answer()?;
        if answer.body.len() == length { Ok(()) } else { Err(wrong(&answer.head)) }
    }

    fn drip(&mut self, address: &Address) -> io::Result<()> {
        let length = self.length() / 2;
        let body = self.random.bytes(length);
        let bytes = request("POST", "/echo", &body, false);
        let mut connection = address.connect()?;
        let mut writer = connection.duplicate()?;
        let answer = std::thread::scope(|scope| {
            scope.spawn(move || {
                for piece in bytes.chunks(bytes.len() / 7 + 1) {
                    if writer.send_raw(piece).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let answer = connection.answer();
            connection.end();
            answer
        })?;
        if answer.body == body { Ok(()) } else { Err(wrong(&answer.head)) }
    }

    fn be_rude(&mut self, manner: Manner, address: &Address) -> io::Result<()> {
        let mut connection = address.connect()?;
        let length = self.length();
        let body = self.random.bytes(length);
        match manner {
            Manner::Silent => {}
            Manner::Half => {
                let whole = request("POST", "/echo", &body, false);
                connection.send_raw(&whole[..self.random.below(whole.len())])?;
            }
            Manner::Leaves => {
                let path = [format!("/slow/{}", self.random.below(80)), format!("/big/{}", 4 * length)];
                connection.send("GET", &path[self.random.below(2)], &[])?;
            }
            Manner::Oversized => {
                let pair = [&[8, 0x80, 0x01, 0x86, 0xa0][..], b"TOO_LONG", &[b'x'; 100_000]].concat();
                let mut bytes = record(BEGIN_REQUEST, &[0, 1, 0, 0, 0, 0, 0, 0]);
                for _ in 0..1 + self.random.below(15) {
                    pair.chunks(60_000).for_each(|part| bytes.extend(record(PARAMS, part)));
                }
                connection.send_raw(&[bytes, record(PARAMS, &[])].concat())?;
                connection.answer()?;
            }
            Manner::Garbage => {
                connection.send_raw(&body[..body.len().min(10_000)])?;
            }
            Manner::Aborts => {
                connection.send_raw(&request("GET", "/slow/40", &[], true))?;
                self.dawdle();
                connection.send_raw(&record(ABORT_REQUEST, &[]))?;
                let _ = connection.answer();
            }
            _ => {
                let names = b"\x0e\0FCGI_MAX_CONNS\x0d\0FCGI_MAX_REQS";
                let mut bytes = record(GET_VALUES, names);
                bytes[3] = 0;
                connection.send_raw(&bytes)?;
            }
        }
        self.dawdle();
        Ok(())
    }

    fn dawdle(&mut self) {
        std::thread::sleep(Duration::from_millis(self.random.below(30) as u64));
    }
}

fn is_pid(text: &str) -> io::Result<()> {
    if text.parse::<u32>().is_ok() { Ok(()) } else { Err(io::Error::other(format!("a pid is no {text:?}"))) }
}

fn wrong(head: &str) -> io::Error {
    io::Error::other(format!("another body than it should be: {head:?}"))
}

/// A whole request as bytes.
pub fn request(method: &str, path: &str, body: &[u8], keep: bool) -> Vec<u8> {
    let mut out = record(BEGIN_REQUEST, &[0, 1, u8::from(keep), 0, 0, 0, 0, 0]);
    out.extend(record(PARAMS, &pairs(&script("php/app.php"), method, path, body.len()).concat()));
    out.extend(record(PARAMS, &[]));
    body.chunks(32_768).for_each(|part| out.extend(record(STDIN, part)));
    out.extend(record(STDIN, &[]));
    out
}

/// Asks once on a connection of its own; says why it has no good answer.
pub fn ask(address: &Address, path: &str) -> Result<(), String> {
    match address.get(path) {
        Ok(answer) if !answer.head.starts_with("Status: 5") && !answer.body.is_empty() => Ok(()),
        Ok(answer) => Err(answer.head),
        Err(error) => Err(error.to_string()),
    }
}

/// Asks many times at once, each on a connection of its own; the answers' heads, or why there are none.
pub fn ask_at_once(address: &Address, path: &str, clients: usize) -> Vec<Result<String, String>> {
    let one = |_| {
        let (address, path) = (address.clone(), path.to_owned());
        std::thread::spawn(move || {
            address.get(&path).map(|answer| answer.head).map_err(|error| error.to_string())
        })
    };
    let threads: Vec<_> = (0..clients).map(one).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}
