//! Clients of a web server that never rest, each request with when it began, when it ended and what came of it: for tests
//! of what is lost, and of who had to wait.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// An answer after so many milliseconds.
    Wait(u64),
    /// How many bytes have come.
    Upload(usize),
}

/// The number of the next request.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// One request and what came of it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// By its place among the pools.
    pub pool: usize,
    pub ask: Ask,
    /// Its query: no other request has it.
    pub number: u64,
    pub began: Instant,
    pub ended: Instant,
    /// Why it failed.
    pub failure: Option<String>,
}

impl Sample {
    pub fn took(&self) -> Duration {
        self.ended - self.began
    }

    /// Whether it was under way at this moment.
    pub fn spans(&self, moment: Instant) -> bool {
        self.began <= moment && moment <= self.ended
    }
}

/// Clients, until they are told to stop.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

impl Traffic {
    /// So many clients, dealt out to the pools in turn; each asks for everything in turn, but begins with another.
    pub fn start(front: &Path, pools: &[&str], clients: usize, asks: &[Ask]) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients).map(|client| {
            let (stop, front, asks) = (stop.clone(), front.to_owned(), asks.to_vec());
            let (pool, name) = (client % pools.len(), pools[client % pools.len()].to_owned());
            std::thread::spawn(move || {
                let mut samples = Vec::new();
                let mut turn = client / 2;
                while !stop.load(Ordering::Relaxed) {
                    let ask = asks[turn % asks.len()];
                    turn += 1;
                    samples.push(sample(&front, pool, &name, ask));
                }
                samples
            })
        });
        Traffic { threads: threads.collect(), stop }
    }

    /// All that was asked for; every request is waited for.
    pub fn stop(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

fn sample(front: &Path, pool: usize, name: &str, ask: Ask) -> Sample {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let began = Instant::now();
    let result = exchange(front, name, ask, number);
    let ended = Instant::now();
    Sample { pool, ask, number, began, ended, failure: result.err() }
}

/// One whole request without a number.
pub fn one(front: &Path, name: &str, ask: Ask) -> Result<(), String> {
    exchange(front, name, ask, 0)
}

/// One whole request, over HTTP/1.0: the answer ends with its connection.
fn exchange(front: &Path, name: &str, ask: Ask, number: u64) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let mut stream = UnixStream::connect(front).map_err(failed)?;
    stream.set_read_timeout(Some(DEADLINE)).map_err(failed)?;
    stream.set_write_timeout(Some(DEADLINE)).map_err(failed)?;
    let (line, body) = match ask {
        Ask::Wait(millis) => (format!("GET /{name}/slow/{millis}?{number}"), Vec::new()),
        Ask::Upload(length) => (format!("POST /{name}/body?{number}"), vec![b'x'; length]),
    };
    let head = format!("{line} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).map_err(failed)?;
    // A server that refuses may close before it has read all of it; what it answers says why.
    let sent = stream.write_all(&body);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    sent.map_err(failed)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no head in {text:?}"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        return Err(format!("status {status}"));
    }
    let is_whole = match ask {
        Ask::Wait(_) => body.trim().parse::<u32>().is_ok(),
        Ask::Upload(length) => body.starts_with(&format!("{length} ")),
    };
    if is_whole { Ok(()) } else { Err(format!("status {status}, but the answer is {body:?}")) }
}

/// The duration below which this share of them lies, `0.99` for p99; zero for none.
pub fn quantile(mut durations: Vec<Duration>, share: f64) -> Duration {
    durations.sort_unstable();
    let index = (durations.len() as f64 * share) as usize;
    durations.get(index.min(durations.len().saturating_sub(1))).copied().unwrap_or_default()
}
