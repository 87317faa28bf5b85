//! The soak: clients of every manner ask without rest, and trouble after trouble, drawn at random, happens to fpmd under
//! them. After each few of them the clients hold their breath, and then everything has to be as if nothing had happened: no
//! process, descriptor, socket, slot or file that nobody can explain, every request counted once, no memory that grows.
//! `FPMD_TEST_SOAK=3600` goes on for so many seconds, `FPMD_TEST_SOAK_SEED=7` makes another sequence. A failure prints the
//! seed and all that was done.

mod books;
mod command;
mod pressure;
mod trouble;
mod world;

use std::time::{Duration, Instant};

use self::books::Books;
use self::trouble::{Trouble, WARNINGS};
use self::world::World;
use crate::support::bytes::Random;
use crate::support::census::Census;
use crate::support::crowd::Crowd;
use crate::support::web::Nginx;

const CLIENTS: usize = 10;

/// Without the knob.
const STEPS: usize = 16;
const SEED: u64 = 5;

/// A number in the environment.
fn knob(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// What was done up to now, with how long each took; printed when the test fails.
struct History {
    seed: u64,
    began: Instant,
    /// When the last one began.
    last: Instant,
    steps: Vec<String>,
}

impl History {
    fn new(seed: u64) -> History {
        History { seed, began: Instant::now(), last: Instant::now(), steps: Vec::new() }
    }

    /// A new step.
    fn begin(&mut self) {
        self.steps.push(format!("{:7.1} s:", self.began.elapsed().as_secs_f32()));
    }

    fn add(&mut self, what: &str) {
        self.last = Instant::now();
        let step = self.steps.last_mut().unwrap();
        step.push_str(&format!(" {what}"));
    }

    /// The last one is over.
    fn note_time(&mut self) {
        let took = self.last.elapsed().as_secs_f32();
        self.steps.last_mut().unwrap().push_str(&format!(" ({took:.1})"));
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the soak failed in step {} of FPMD_TEST_SOAK_SEED={}:", self.steps.len(), self.seed);
            let steps = self.steps.iter().enumerate();
            steps.for_each(|(number, step)| eprintln!("{:4} {step}", number + 1));
        }
    }
}

#[test]
fn nothing_is_left_of_any_trouble() {
    let seed = knob("FPMD_TEST_SOAK_SEED").unwrap_or(SEED);
    let end = knob("FPMD_TEST_SOAK").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut random = Random::new(seed);
    // Told last, after the log.
    let mut history = History::new(seed);
    let mut world = World::start(&WARNINGS);
    let targets = world.targets();
    let upstreams = targets.iter().map(|one| (one.name.as_str(), format!("unix:{}", one.socket.display())));
    let nginx = Nginx::start(&world.fpmd.rig.dir, &upstreams.collect::<Vec<_>>());
    let crowd = Crowd::gather(nginx.socket(), &targets, CLIENTS, seed);
    world.rest().unwrap();
    let census = Census::first(&world.fpmd, &["guest.access", "guest.slow", "direct.access", "direct.slow"]);
    let mut books = Books::open(&world);
    while end.map_or(history.steps.len() < STEPS, |end| Instant::now() < end) {
        step(&mut world, &crowd, &mut random, &mut history);
        check(&mut world, &crowd, &census, &mut books, &mut history);
    }
    let done = crowd.done();
    eprintln!(
        "seed {seed}, {} steps in {:.0} s, {} requests: {done:?}; {}",
        history.steps.len(),
        history.began.elapsed().as_secs_f32(),
        done.values().sum::<u64>(),
        books.summary(),
    );
    drop((crowd, nginx));
    let World { fpmd, .. } = world;
    fpmd.finish();
}

/// Some troubles, one after the other, while everybody asks.
fn step(world: &mut World, crowd: &Crowd, random: &mut Random, history: &mut History) {
    crowd.resume();
    history.begin();
    for _ in 0..1 + random.below(3) {
        let trouble = Trouble::draw(random, world);
        history.add(&format!("{trouble:?}"));
        trouble.make(world);
        history.note_time();
    }
}

/// Everything is as if nothing had happened.
#[track_caller]
fn check(world: &mut World, crowd: &Crowd, census: &Census, books: &mut Books, history: &mut History) {
    history.add("pause");
    crowd.pause();
    history.note_time();
    let (costs, unexplained) = world.judge(crowd.failures());
    if !costs.is_empty() {
        history.add(&format!("lost {costs:?}"));
    }
    assert!(unexplained.is_empty(), "lost without a reason: {unexplained:#?}");
    history.add("rest");
    let snapshot = world.rest().unwrap_or_else(|why| panic!("{why}"));
    history.note_time();
    history.add("books");
    let wrong = books.balance(world, &snapshot);
    assert!(wrong.is_empty(), "{wrong:#?}");
    history.note_time();
    history.add("census");
    let strange = census.repeat(&world.fpmd);
    assert!(strange.is_empty(), "{strange:#?}");
    history.note_time();
}
