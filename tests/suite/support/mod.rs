//! The rig: runs the real programs with a configuration in a directory of their own, asks, waits for facts, and at
//! the end insists that nothing is left behind. Every process it starts is ended by its own pid.

pub mod bytes;
pub mod census;
pub mod crowd;
pub mod daemon;
pub mod dir;
pub mod fastcgi;
pub mod fronts;
pub mod ledger;
pub mod process;
pub mod random;
pub mod traffic;
pub mod trouble;
pub mod web;
pub mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Long enough for any fact on a loaded machine; no test passes by reaching it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until there is an answer; panics with `what` when there is none in time.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Looks until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut look: impl FnMut() -> bool) {
    wait_for(what, || look().then_some(()));
}

/// Whether the test may go on; says why not where it may not.
pub fn as_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: {test} needs root");
    }
    root
}

/// Threads that repeat a request until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<(u64, Vec<String>)>>,
}

impl Load {
    pub fn start(threads: usize, request: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Load {
        let (stop, request) = (Arc::new(AtomicBool::new(false)), Arc::new(request));
        let answered = Arc::new(AtomicU64::new(0));
        let one = |_| {
            let (stop, request, answered) = (stop.clone(), request.clone(), answered.clone());
            std::thread::spawn(move || {
                let (mut good, mut bad) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match request() {
                        Ok(()) => {
                            good += 1;
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(why) => bad.push(why),
                    }
                }
                (good, bad)
            })
        };
        let threads = (0..threads).map(one).collect();
        Load { stop, answered, threads }
    }

    /// Until so many more are answered.
    #[track_caller]
    pub fn wait_for_more(&self, requests: u64) {
        let before = self.answered.load(Ordering::Relaxed);
        wait_until("more answers", || self.answered.load(Ordering::Relaxed) >= before + requests);
    }

    /// How many requests were answered, and what went wrong with the others.
    pub fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let each = self.threads.into_iter().map(|thread| thread.join().unwrap());
        each.fold((0, Vec::new()), |(good, bad), (more, worse)| (good + more, [bad, worse].concat()))
    }
}
