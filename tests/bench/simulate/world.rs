//! One pool from the first request of a trace to the end: the queue, the workers, and a manager that is told what
//! happens and orders workers to start and stop. Knows no manager in particular.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use crate::machine::Machine;
use crate::trace::{End, MILLI, Request};

/// What a manager hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The pool starts.
    Begin,
    /// A request has come; it may have a worker already.
    Arrived,
    /// A worker is done; it may have the next request already.
    Served,
    /// A worker is ready.
    Ready,
    /// A worker has died.
    Died {
        /// How long ago it was ordered.
        age: u64,
        /// How long ago the oldest one that lives was ordered.
        oldest: u64,
    },
    /// A worker that was told to stop is gone.
    Left,
    /// The moment that the manager asked for.
    Timer,
}

/// What a manager sees.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub queued: usize,
    pub busy: usize,
    pub starting: usize,
    pub leaving: usize,
    /// Ready ones without a request, the longest idle first.
    pub idle: VecDeque<Idle>,
}

impl View {
    pub fn running(&self) -> usize {
        self.busy + self.starting + self.leaving + self.idle.len()
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Idle {
    pub worker: usize,
    pub started: u64,
    pub since: u64,
}

/// What a manager wants.
#[derive(Debug, Default)]
pub struct Orders {
    pub start: usize,
    pub stop: Vec<usize>,
    /// Replaces the last one.
    pub timer: Option<u64>,
}

pub trait Manager {
    fn act(&mut self, now: u64, cause: Cause, view: &View) -> Orders;
    /// Which idle worker gets the next request.
    fn order(&self) -> Order;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The kernel wakes those that wait in accept in the order in which they came.
    LongestIdle,
    /// fpmd's gateway keeps the warm ones at work.
    LastIdle,
}

/// What a start costs.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// CPU, which all that are starting share.
    pub cpu: u64,
    /// And then it waits for something.
    pub wait: u64,
}

/// What came of it. Times in microseconds.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How long each request that was served had waited; sorted.
    pub waits: Vec<u64>,
    /// Requests whose worker died.
    pub lost: usize,
    /// When the last one was served, from the first arrival.
    pub wall: u64,
    /// How long workers existed, all together.
    pub worker_time: u64,
    pub starts: usize,
    pub stops: usize,
    pub most: usize,
    /// How often a timer woke the manager.
    pub wakes: usize,
    /// Moments at which workers became ready.
    pub readies: Vec<u64>,
}

impl Outcome {
    /// So many of a hundred waited no longer.
    pub fn wait(&self, percent: usize) -> u64 {
        let index = (self.waits.len() * percent).div_ceil(100).max(1) - 1;
        self.waits.get(index).copied().unwrap_or(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ready(usize),
    Done(usize),
    Left(usize),
}

#[derive(Debug)]
struct Worker {
    ordered: u64,
    gone: Option<u64>,
    request: Option<Request>,
}

/// How long an idle worker takes to exit.
const EXIT: u64 = MILLI;

pub struct World<'a> {
    manager: &'a mut dyn Manager,
    start: Start,
    machine: Machine,
    now: u64,
    view: View,
    queue: VecDeque<Request>,
    workers: Vec<Worker>,
    alive: BTreeSet<usize>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    timer: Option<u64>,
    outcome: Outcome,
}

/// What happens next.
enum Next {
    Arrival,
    Started,
    Event,
    Timer,
}

/// Plays the requests, in the order of their arrival, up to the moment `until` and on until all have been served.
pub fn play(requests: &[Request], until: u64, cpus: u32, start: Start, manager: &mut dyn Manager) -> Outcome {
    let mut world = World {
        manager,
        start,
        machine: Machine::new(cpus),
        now: 0,
        view: View::default(),
        queue: VecDeque::new(),
        workers: Vec::new(),
        alive: BTreeSet::new(),
        events: BinaryHeap::new(),
        timer: None,
        outcome: Outcome::default(),
    };
    world.tell(Cause::Begin);
    let mut arrivals = requests.iter().copied().peekable();
    while let Some((at, next)) = world.next(arrivals.peek().map(|request| request.at)) {
        let served = world.outcome.waits.len() + world.outcome.lost == requests.len();
        if at > until && served {
            break;
        }
        assert!(at < until + 86_400 * crate::trace::SECOND, "requests are left that nobody serves");
        world.now = at;
        match next {
            Next::Arrival => world.arrive(arrivals.next().unwrap()),
            Next::Started => world.started(),
            Next::Event => world.event(),
            Next::Timer => {
                world.timer = None;
                world.outcome.wakes += 1;
                world.tell(Cause::Timer);
            }
        }
    }
    world.finish(requests, until)
}

impl World<'_> {
    fn next(&self, arrival: Option<u64>) -> Option<(u64, Next)> {
        let event = self.events.peek().map(|Reverse((at, _))| *at);
        let all = [
            (event, Next::Event),
            (self.machine.next(), Next::Started),
            (arrival, Next::Arrival),
            (self.timer, Next::Timer),
        ];
        all.into_iter().filter_map(|(at, next)| Some((at?.max(self.now), next))).min_by_key(|(at, _)| *at)
    }

    fn arrive(&mut self, request: Request) {
        self.queue.push_back(request);
        self.dispatch();
        self.tell(Cause::Arrived);
    }

    fn started(&mut self) {
        let Some(worker) = self.machine.finish(self.now) else { return };
        self.events.push(Reverse((self.now + self.start.wait, Event::Ready(worker))));
    }

    fn event(&mut self) {
        let Some(Reverse((_, event))) = self.events.pop() else { return };
        match event {
            Event::Ready(worker) => {
                self.view.starting -= 1;
                self.outcome.readies.push(self.now);
                self.rest(worker);
                self.tell(Cause::Ready);
            }
            Event::Done(worker) => self.done(worker),
            Event::Left(worker) => {
                self.view.leaving -= 1;
                self.gone(worker);
                self.tell(Cause::Left);
            }
        }
    }

    fn done(&mut self, worker: usize) {
        self.view.busy -= 1;
        let Some(request) = self.workers[worker].request.take() else { return };
        match request.end {
            End::Served => {
                self.outcome.wall = self.now;
                self.outcome.waits.push(self.now - request.takes - request.at);
                self.rest(worker);
                self.tell(Cause::Served);
            }
            End::Crash => {
                self.outcome.lost += 1;
                self.gone(worker);
                let age = |worker: usize| self.now - self.workers[worker].ordered;
                let oldest = self.alive.first().map_or(0, |worker| age(*worker));
                self.tell(Cause::Died { age: age(worker), oldest });
            }
        }
    }

    fn rest(&mut self, worker: usize) {
        let started = self.workers[worker].ordered;
        self.view.idle.push_back(Idle { worker, started, since: self.now });
        self.dispatch();
    }

    fn dispatch(&mut self) {
        while let (Some(_), Some(_)) = (self.queue.front(), self.view.idle.front()) {
            let idle = match self.manager.order() {
                Order::LongestIdle => self.view.idle.pop_front(),
                Order::LastIdle => self.view.idle.pop_back(),
            };
            let (Some(request), Some(idle)) = (self.queue.pop_front(), idle) else { return };
            self.workers[idle.worker].request = Some(request);
            self.view.busy += 1;
            self.events.push(Reverse((self.now + request.takes, Event::Done(idle.worker))));
        }
    }

    fn gone(&mut self, worker: usize) {
        self.workers[worker].gone = Some(self.now);
        self.alive.remove(&worker);
    }

    fn tell(&mut self, cause: Cause) {
        self.view.queued = self.queue.len();
        let orders = self.manager.act(self.now, cause, &self.view);
        self.timer = orders.timer;
        for _ in 0..orders.start {
            let worker = self.workers.len();
            self.workers.push(Worker { ordered: self.now, gone: None, request: None });
            self.machine.begin(self.now, worker, self.start.cpu);
            self.alive.insert(worker);
            self.view.starting += 1;
        }
        self.outcome.starts += orders.start;
        self.outcome.stops += orders.stop.len();
        for worker in orders.stop {
            let place = self.view.idle.iter().position(|idle| idle.worker == worker);
            self.view.idle.remove(place.expect("only an idle worker is stopped"));
            self.view.leaving += 1;
            self.events.push(Reverse((self.now + EXIT, Event::Left(worker))));
        }
        self.outcome.most = self.outcome.most.max(self.view.running());
    }

    fn finish(mut self, requests: &[Request], until: u64) -> Outcome {
        let end = self.now.max(until);
        let lives = self.workers.iter().map(|worker| worker.gone.unwrap_or(end) - worker.ordered);
        self.outcome.worker_time = lives.sum();
        self.outcome.wall -= requests.first().map_or(0, |request| request.at);
        self.outcome.waits.sort_unstable();
        self.outcome
    }
}
