//! Slots and the workers on them, as the gateway knows them: who may take a request, who is being emptied, who is worn.

use std::path::PathBuf;
use std::time::Duration;

use super::finished::{Shown, WorkerName};
use super::lost::Lost;
use super::request::{Request, Told};
use super::rules::Candidate;
use super::slab::Key;
use super::tail::Tail;
use crate::ids::{Moment, SlotId};
use crate::os::clock::WallTime;
use crate::os::procfs::CpuTimes;
use crate::status::page::ProcessState;

/// Bytes that are kept of each text of a worker's last request.
const SHOWN: usize = 512;

/// A worker's place.
#[derive(Debug)]
pub struct Slot {
    /// Its number.
    pub id: SlotId,
    /// Where to connect.
    pub path: PathBuf,
    /// Who accepts there.
    pub worker: Option<Worker>,
    /// Connections to the worker that wait for their next request; the last one is the warmest.
    pub kept: Vec<Key>,
    /// Requests that it has.
    pub active: u32,
    /// Requests that nobody waits for any more, but on which the worker may be at work still.
    pub lost: Vec<Lost>,
    /// Its worker goes on with something after the end of its answer.
    pub tail: Option<Tail>,
    /// Nothing is sent there until then: it refused, or its worker has most likely ended.
    pub closed_until: Option<Moment>,
    /// As it was counted last.
    pub counted: Counted,
}

/// How a slot counts in the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// It could take one more request.
    pub idle: bool,
    /// It has at least one.
    pub busy: bool,
    /// It has at least one and may get more.
    pub working: bool,
    /// It has none and may get some.
    pub free: bool,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    /// Which.
    pub name: WorkerName,
    /// What it may get.
    pub state: State,
    /// Requests that it was given.
    pub served: u64,
    /// How many it is given; 0 is any number.
    pub wear: u64,
    /// When it was started, or at least when the gateway heard of it.
    pub since: Moment,
    /// The same on the wall clock.
    pub start: WallTime,
    /// When it last became idle: a number that grows.
    pub freed: u64,
    /// When it last answered to the end.
    pub answered: Moment,
    /// When its memory was last looked at, and whether the master was told that it is too much.
    pub weighed: (Moment, Told),
    /// When the master was last asked what it does.
    pub looked_at: Moment,
    /// Its last request.
    pub last: Last,
}

/// What a worker may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Requests.
    Serving,
    /// None more: it has had as many as it may; whether the master knows.
    Worn(Told),
    /// None more: the master wants to stop it; whether the master knows that it is empty.
    Draining(Told),
    /// None more: it is being ended.
    Doomed,
}

/// A worker's last request, in memory that is used again.
#[derive(Debug, Default)]
pub struct Last {
    texts: [Vec<u8>; 5],
    content_length: Option<u64>,
    duration: Duration,
    queue_wait: Duration,
    cpu: Option<CpuTimes>,
    any: bool,
}

impl Slot {
    /// A slot on which nobody accepts yet.
    pub fn new(id: SlotId, path: PathBuf) -> Slot {
        Slot {
            id,
            path,
            worker: None,
            kept: Vec::new(),
            active: 0,
            lost: Vec::new(),
            tail: None,
            closed_until: None,
            counted: Counted::default(),
        }
    }

    /// Requests that keep its worker from others.
    pub fn load(&self) -> u32 {
        self.active + self.lost.len() as u32 + u32::from(self.tail.is_some())
    }

    /// Whether its worker may get requests.
    pub fn is_serving(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.state == State::Serving)
    }

    /// How it counts now, where its worker may have `concurrency` requests at once.
    pub fn count(&self, concurrency: u32) -> Counted {
        let serving = self.is_serving();
        let open = self.closed_until.is_none();
        let load = self.load();
        Counted {
            idle: serving && open && load < concurrency,
            busy: load > 0,
            working: serving && load > 0,
            free: serving && open && load == 0,
        }
    }

    /// As a candidate for the next request, if it is one.
    pub fn candidate(&self) -> Option<Candidate> {
        let worker = self.worker.as_ref().filter(|_| self.counted.idle)?;
        Some(Candidate { generation: worker.name.generation, current: self.load(), freed: worker.freed })
    }

    /// What the worker does.
    pub fn activity(&self) -> ProcessState {
        match (self.active, self.load()) {
            (_, 0) => ProcessState::Idle,
            (0, _) => ProcessState::Finishing,
            (_, _) => ProcessState::Running,
        }
    }
}

impl Last {
    /// Remembers a request that is over.
    pub fn keep(&mut self, request: &Request, duration: Duration, cpu: Option<CpuTimes>) {
        let params = &request.params;
        let texts = [params.method(), params.uri(), params.query(), params.script(), params.user()];
        for (kept, text) in self.texts.iter_mut().zip(texts) {
            kept.clear();
            kept.extend_from_slice(cut(text));
        }
        self.content_length = params.content_length();
        self.duration = duration;
        self.queue_wait = waited(request);
        self.cpu = cpu;
        self.any = true;
    }

    /// The request, if there was one.
    pub fn shown(&self) -> Option<Shown<'_>> {
        let [method, uri, query, script, user] = &self.texts;
        self.any.then_some(Shown {
            method,
            uri,
            query,
            script,
            user,
            content_length: self.content_length,
            duration: self.duration,
            queue_wait: self.queue_wait,
            cpu: self.cpu,
            runs: false,
        })
    }
}

/// A request that runs, as `&full` shows it.
pub fn shown(request: &Request, dispatched: Moment, now: Moment) -> Shown<'_> {
    let params = &request.params;
    Shown {
        method: cut(params.method()),
        uri: cut(params.uri()),
        query: cut(params.query()),
        script: cut(params.script()),
        user: cut(params.user()),
        content_length: params.content_length(),
        duration: now.since(dispatched),
        queue_wait: waited(request),
        cpu: None,
        runs: true,
    }
}

fn waited(request: &Request) -> Duration {
    let times = request.dispatched.zip(request.ready);
    times.map_or(Duration::ZERO, |(dispatched, ready)| dispatched.since(ready))
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(SHOWN)]
}

#[cfg(test)]
mod tests {
    use super::super::lost::Extent;
    use super::*;
    use crate::ids::{Generation, Pid, WorkerId};

    fn slot() -> Slot {
        let name = WorkerName {
            slot: SlotId(0),
            worker: WorkerId(1),
            pid: Pid::new(7).unwrap(),
            generation: Generation(1),
        };
        let worker = Worker {
            name,
            state: State::Serving,
            served: 0,
            wear: 0,
            since: Moment(Duration::ZERO),
            start: WallTime { seconds: 0, micros: 0 },
            freed: 0,
            answered: Moment(Duration::ZERO),
            weighed: (Moment(Duration::ZERO), Told::No),
            looked_at: Moment(Duration::ZERO),
            last: Last::default(),
        };
        Slot { worker: Some(worker), ..Slot::new(SlotId(0), PathBuf::new()) }
    }

    #[test]
    fn a_slot_is_idle_while_its_worker_serves_and_has_room() {
        let mut slot = slot();
        let counted = |slot: &Slot, concurrency| {
            let Counted { idle, busy, working, free } = slot.count(concurrency);
            (idle, busy, working, free)
        };
        assert_eq!(counted(&slot, 1), (true, false, false, true));
        slot.active = 1;
        assert_eq!(counted(&slot, 1), (false, true, true, false));
        assert_eq!(counted(&slot, 2), (true, true, true, false));
        slot.lost.push(Lost { since: Moment(Duration::ZERO), extent: Extent::Whole });
        assert_eq!(counted(&slot, 2), (false, true, true, false));
        slot.active = 0;
        assert_eq!(
            (counted(&slot, 1), slot.activity()),
            ((false, true, true, false), ProcessState::Finishing)
        );
        slot.lost.clear();
        for state in [State::Worn(Told::No), State::Draining(Told::No), State::Doomed] {
            slot.worker.as_mut().unwrap().state = state;
            assert!(!slot.count(1).idle, "{state:?}");
        }
        slot.worker = None;
        assert!(!slot.count(1).idle);
    }

    #[test]
    fn a_refusing_slot_is_not_idle() {
        let mut slot = slot();
        slot.closed_until = Some(Moment(Duration::ZERO));
        assert!(!slot.count(1).idle);
    }
}
