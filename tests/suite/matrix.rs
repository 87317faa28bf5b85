//! Every kind of worker, through the gateway and directly: bodies of every size back byte for byte, cut into records at
//! random, and workers killed throughout. `FPMD_TEST_MATRIX=1000` asks for so many requests of each instead of a few.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig};
use crate::support::fastcgi::{Address, CUT_OFF, script};
use crate::support::random::{Cut, Random, Request};
use crate::support::{Load, process, wait_until, workers};

/// Sizes of bodies, around the limits of records and buffers.
const SIZES: [usize; 6] = [0, 1, 8192, 65_535, 1 << 20, 50 << 20];
/// One in so many is of the largest size: it is as much work as all the others.
const LARGE_EVERY: usize = 50;
/// Requests of each kind of worker, without a knob.
const FEW: usize = 20;
const WORKERS: u32 = 3;
const CLIENTS: usize = 4;
/// More in a row, and fpmd rightly waits longer and longer before it starts the next worker.
const KILLS_MOST: usize = 12;

/// One kind of worker.
struct Kind {
    command: Vec<String>,
    /// SCRIPT_FILENAME.
    script: String,
    /// Requests that one worker serves at once.
    concurrency: u32,
    answers: Answers,
}

/// Who answers in a worker.
#[derive(PartialEq, Eq)]
enum Answers {
    Itself,
    /// A child of its own, which may be killed without fpmd noticing.
    Child,
}

impl Kind {
    fn new(command: Vec<String>) -> Kind {
        Kind { command, script: script("php/app.php"), concurrency: 1, answers: Answers::Itself }
    }

    fn concurrent(command: Vec<String>) -> Kind {
        Kind { concurrency: 8, ..Kind::new(command) }
    }

    fn start(&self, dispatch: Dispatch) -> Fpmd {
        let mut pool = Pool::new("www", &self.command).workers(WORKERS).dispatch(dispatch);
        if dispatch == Dispatch::Gateway {
            pool = pool.key("concurrency", &self.concurrency.to_string());
        }
        // Some heed SIGTERM only with the next connection, and a killed parent leaves children.
        let rig = Rig::new().global("process_control_timeout", "\"500ms\"");
        let pieces = ["after SIGTERM", "pure ruby", "leftover", "end young", "ending young", "orphan"];
        pieces.iter().fold(rig, |rig, piece| rig.expect(piece)).pool(pool).start()
    }
}

fn requests() -> usize {
    let knob = std::env::var("FPMD_TEST_MATRIX").ok();
    knob.map_or(FEW, |number| number.parse().expect("FPMD_TEST_MATRIX is a number of requests"))
}

/// Both parts of the matrix for one kind of worker on one road.
#[track_caller]
fn holds(kind: &Kind, dispatch: Dispatch) {
    let cut = match dispatch {
        Dispatch::Direct => Cut::Tame,
        Dispatch::Gateway => Cut::Wild,
    };
    let mut fpmd = kind.start(dispatch);
    bodies(kind, &fpmd.address("www"), cut);
    kills(kind, &mut fpmd, cut, dispatch);
    fpmd.finish();
}

#[track_caller]
fn bodies(kind: &Kind, address: &Address, cut: Cut) {
    let mut random = Random::new(1);
    for round in 0..requests() {
        let size = if round % LARGE_EVERY == 5 { 5 } else { round % 5 };
        let body = random.bytes(SIZES[size]);
        let request = Request { script: &kind.script, method: "POST", path: "/echo", body: &body };
        let answer = request.exchange(address, cut, &mut random);
        let answer = answer.unwrap_or_else(|error| panic!("request {round}, {} bytes: {error}", body.len()));
        let same = answer.body == body;
        assert!(
            same,
            "request {round}: {} bytes came back as {}: {}",
            body.len(),
            answer.body.len(),
            answer.head
        );
    }
}

/// A request that is answered in full, or says why not.
fn ask(script: &str, address: &Address, cut: Cut, number: u64) -> Result<(), String> {
    let mut random = Random::new(number + 2);
    let size = SIZES[random.below(4)];
    let body = random.bytes(size);
    let (method, path, body) =
        if number.is_multiple_of(2) { ("POST", "/echo", &body[..]) } else { ("GET", "/slow/5", &[][..]) };
    let answer = Request { script, method, path, body }.exchange(address, cut, &mut random);
    let answer = answer.map_err(|error| format!("{method} {path}, {} bytes: {error}", body.len()))?;
    let good = if method == "POST" { answer.body == body } else { answer.text().parse::<i32>().is_ok() };
    good.then_some(()).ok_or_else(|| format!("{method} {path}, {} bytes: {}", body.len(), answer.head.trim()))
}

/// Kills worker after worker under load. What fails was inside a killed one; through the gateway it is told so.
#[track_caller]
fn kills(kind: &Kind, fpmd: &mut Fpmd, cut: Cut, dispatch: Dispatch) {
    let kills = requests().div_ceil(5).min(KILLS_MOST);
    let (address, script) = (fpmd.address("www"), kind.script.clone());
    let numbers = Arc::new(AtomicU64::new(0));
    let counted = numbers.clone();
    let load =
        Load::start(CLIENTS, move || ask(&script, &address, cut, counted.fetch_add(1, Ordering::Relaxed)));
    for round in 0..kills {
        let victim = match kind.answers {
            Answers::Itself => fpmd.workers("www")[round % WORKERS as usize],
            Answers::Child => answering(kind, &fpmd.address("www"), cut),
        };
        fpmd.expect(&victim.to_string());
        if kind.answers == Answers::Child {
            // The gateway knows the worker, and not its child that was killed.
            fpmd.expect("closed its connection before its answer was complete");
        }
        process::end(victim);
        fpmd.wait_pool("www", "every worker to run again", |pool| {
            pool.total_processes == WORKERS
                && !pool.workers.iter().any(|worker| worker.pid.as_raw() == victim)
        });
    }
    let enough = u64::try_from(requests()).unwrap();
    wait_until("enough requests", || numbers.load(Ordering::Relaxed) > enough);
    let (good, bad) = load.stop();
    let inside = kills * CLIENTS.min(kind.concurrency.max(1) as usize);
    assert!(bad.len() <= inside, "{} of {good} failed, {inside} may: {bad:?}", bad.len());
    assert!(good as usize > kills, "{good} answered: {bad:?}");
    if dispatch == Dispatch::Gateway {
        // Once a worker's answer has begun, nothing but its end can be told: by a connection that closes without END_REQUEST.
        let told = |why: &&String| ["502", "504", CUT_OFF].iter().any(|word| why.contains(word));
        let silent: Vec<_> = bad.iter().filter(|why| !told(why)).collect();
        assert!(silent.is_empty(), "lost without an answer: {silent:?}");
    }
}

/// The pid of a process that answers.
#[track_caller]
fn answering(kind: &Kind, address: &Address, cut: Cut) -> i32 {
    let request = Request { script: &kind.script, method: "GET", path: "/pid", body: &[] };
    let answer = request.exchange(address, cut, &mut Random::new(3));
    answer.unwrap().text().parse().unwrap()
}

/// A test for each road.
macro_rules! matrix {
    ($($name:ident: $kind:expr;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn through_the_gateway() {
                holds(&$kind, Dispatch::Gateway);
            }

            #[test]
            fn directly() {
                holds(&$kind, Dispatch::Direct);
            }
        })*
    };
}

matrix! {
    php_cgi: Kind::new(workers::php());
    libfcgi_c: Kind::new(workers::c());
    perl_fcgi: Kind::new(workers::perl());
    fcgiwrap: Kind { script: script("cgi/app.cgi"), ..Kind::new(workers::fcgiwrap()) };
    flup_single: Kind::new(workers::flup("single"));
    flup_threaded: Kind::concurrent(workers::flup("threaded"));
    flup_forking: Kind { answers: Answers::Child, ..Kind::new(workers::flup("fork")) };
    flipflop: Kind::concurrent(workers::flipflop());
    ruby_fcgi: Kind::new(workers::ruby());
    node_fastcgi: Kind::concurrent(workers::node());
    go_net_http_fcgi: Kind::concurrent(workers::go());
}
