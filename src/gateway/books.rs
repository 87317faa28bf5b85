//! Whatever clients, workers, the master and the clock do, in any order: every request is counted once and written down once,
//! and what is kept in two places agrees.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::core::Token;
use super::finished::{Finished, Outcome, Slow, Wants, WorkerName};
use super::request::Stage;
use super::seam::{Journal, LogFiles};
use super::slab::Key;
use super::testing::{Rig, settings};
use super::upstream::ID;
use crate::fcgi::body::{BeginRequest, Connection, ProtocolStatus, Role};
use crate::fcgi::encode;
use crate::fcgi::record::{RecordType, RequestId};
use crate::ids::{Generation, Moment, Pid, WorkerId};
use crate::wire::gateway::{FromGateway, Past, Rest, Settings, Sight, TakenBack, ToGateway};

type Lines = Rc<RefCell<BTreeMap<u8, u64>>>;

/// Counts what is written down, by outcome.
struct Counting(Lines);

impl Journal for Counting {
    fn configure(&mut self, _: &Settings, _: LogFiles) {}
    fn wants(&self) -> Wants {
        Wants::default()
    }
    fn finished(&mut self, request: &Finished<'_>) {
        *self.0.borrow_mut().entry(request.outcome as u8).or_default() += 1;
    }
    fn slow(&mut self, _: &Slow<'_>) -> Option<u64> {
        None
    }
    fn seen(&mut self, _: u64, _: &Sight) {}
    fn stderr(&mut self, _: WorkerName, _: &[u8], _: Moment) {}
    fn flush(&mut self) {}
}

/// A pool and everybody around it.
struct World {
    rig: Rig,
    lines: Lines,
    clients: Vec<UnixStream>,
    seats: Vec<Seat>,
    workers: u64,
    next_id: u16,
}

struct Seat {
    listener: UnixListener,
    slot: Key,
    worker: WorkerId,
    /// What the worker has accepted.
    visits: Vec<UnixStream>,
}

impl World {
    fn new(settings: Settings) -> World {
        let lines = Lines::default();
        let mut rig = Rig::new(settings);
        rig.gateway.seams.journal = Box::new(Counting(Rc::clone(&lines)));
        let mut world = World { rig, lines, clients: Vec::new(), seats: Vec::new(), workers: 0, next_id: 0 };
        for number in 1..=2 {
            let (listener, slot) = world.rig.seat();
            world.seats.push(Seat { listener, slot, worker: WorkerId(number), visits: Vec::new() });
            world.workers = number;
        }
        world
    }

    fn step(&mut self, kind: u8, which: u8) {
        let (client, seat) = (usize::from(which) % self.clients.len().max(1), usize::from(which) % 2);
        match kind {
            0 => {
                let (stream, _) = self.rig.client();
                self.clients.push(stream);
            }
            1..=3 => self.ask(client, which),
            4 if !self.clients.is_empty() => drop(self.clients.remove(client)),
            5 => self.send(client, &[1, 2, 0, self.next_id as u8, 0, 0, 0, 0]),
            6 => {
                if let Some(stream) = self.clients.get(client) {
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                }
            }
            7 | 8 => {
                if let Ok((stream, _)) = self.seats[seat].listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    self.seats[seat].visits.push(stream);
                }
            }
            9..=12 => self.work(seat, which),
            13 => drop(self.seats[seat].visits.pop()),
            14 => self.pass_time(Duration::from_millis(u64::from(which))),
            15 => self.pass_time(Duration::from_secs(u64::from(which) / 8)),
            16 => self.exchange(seat),
            17 => {
                let slot = self.rig.gateway.slots.get(self.seats[seat].slot).unwrap().id;
                self.rig.gateway.obey(ToGateway::Drain { slot, worker: self.seats[seat].worker }, Vec::new());
            }
            _ => self.send(client, &[1, which % 12, 0, which % 4, 0, 0, 0, 0]),
        }
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        if let Some(mut stream) = self.clients.get(client) {
            let _ = stream.write(bytes);
        }
    }

    fn ask(&mut self, client: usize, which: u8) {
        self.next_id = self.next_id % 200 + 1;
        let connection = if which & 1 == 0 { Connection::Keep } else { Connection::Close };
        let begin = BeginRequest { role: Role::from_wire(1 + u16::from(which % 32 == 7)), connection };
        let method: &[u8] = if which & 2 == 0 { b"GET" } else { b"POST" };
        let path: &[u8] = if which & 12 == 12 { b"/ping" } else { b"/x" };
        let body = vec![b'x'; if which & 16 == 0 { 0 } else { 3000 }];
        let pairs: [(&[u8], &[u8]); 2] = [(b"REQUEST_METHOD", method), (b"SCRIPT_NAME", path)];
        let mut out = Vec::new();
        encode::request(&mut out, RequestId(self.next_id), &begin, pairs, &body).unwrap();
        // Some come in part, and the rest never.
        let length = if which & 32 == 0 { out.len() } else { out.len() * usize::from(which & 15) / 16 };
        self.send(client, &out[..length]);
    }

    /// A worker reads something and says something.
    fn work(&mut self, seat: usize, which: u8) {
        let Some(mut visit) = self.seats[seat].visits.last() else { return };
        let _ = visit.read(&mut [0; 8192]);
        let mut out = Vec::new();
        let status = ProtocolStatus::from_wire(which >> 6);
        if which & 1 == 0 {
            encode::stream(&mut out, RecordType::Stdout, ID, b"Status: 200\r\n\r\nbody");
        }
        if which & 2 == 0 {
            encode::stream(&mut out, RecordType::Stderr, ID, b"oh");
        }
        if which & 4 == 0 {
            encode::end_request(&mut out, ID, 0, status);
        }
        if which & 24 == 24 {
            out.extend([u8::from(which & 32 == 0); 11]);
        }
        let _ = visit.write(&out);
    }

    fn pass_time(&mut self, span: Duration) {
        let gateway = &mut self.rig.gateway;
        gateway.now = gateway.now.after(span);
        gateway.keep_time();
    }

    /// A worker ends and another one comes.
    fn exchange(&mut self, seat: usize) {
        self.workers += 1;
        let seat = &mut self.seats[seat];
        let slot = self.rig.gateway.slots.get(seat.slot).unwrap().id;
        seat.visits.clear();
        let gone = ToGateway::WorkerGone { slot, worker: seat.worker, how: String::new() };
        seat.worker = WorkerId(self.workers);
        let (worker, pid) = (seat.worker, Pid::new(std::process::id() as i32).unwrap());
        let generation = Generation(1);
        let next =
            ToGateway::Worker { slot, worker, pid, generation, started: None, past: Past::Released(0) };
        self.rig.gateway.obey(gone, Vec::new());
        self.rig.gateway.obey(next, Vec::new());
    }

    /// What the event loop would do, until nothing is left to do.
    fn settle(&mut self, buffer: &mut [u8], which: u8) {
        let gateway = &mut self.rig.gateway;
        for client in gateway.clients.keys(|_| true) {
            gateway.go_on(Token::Client(client), buffer);
        }
        for upstream in gateway.upstreams.keys(|_| true) {
            gateway.go_on(Token::Upstream(upstream), buffer);
        }
        while !gateway.again.is_empty() || !gateway.pages.is_empty() {
            gateway.answer_next_page();
            for token in std::mem::take(&mut gateway.again) {
                gateway.go_on(token, buffer);
            }
        }
        self.answer_as_master(which);
    }

    fn answer_as_master(&mut self, which: u8) {
        for message in std::mem::take(&mut self.rig.gateway.outbox) {
            let answer = match message {
                FromGateway::Look { slot, worker } => {
                    let rest = if which & 1 == 0 { Rest::Waiting } else { Rest::AtWork };
                    ToGateway::Rest { slot, worker, rest }
                }
                FromGateway::TakeBack { slot, worker, .. } => {
                    let outcome = if which & 2 == 0 { TakenBack::Taken } else { TakenBack::Begun };
                    ToGateway::TakenBack { slot, worker, outcome }
                }
                FromGateway::Terminate { worker, .. } | FromGateway::Drained { worker, .. } => {
                    if let Some(seat) = self.seats.iter().position(|seat| seat.worker == worker) {
                        self.exchange(seat);
                    }
                    continue;
                }
                _ => continue,
            };
            self.rig.gateway.obey(answer, Vec::new());
        }
    }

    /// What must always hold.
    fn check(&self) {
        let gateway = &self.rig.gateway;
        let staged = |wanted: fn(&Stage) -> bool| {
            gateway.requests.iter().filter(|(_, request)| wanted(&request.stage)).count() as u64
        };
        assert_eq!(u64::from(gateway.queue.len()), staged(|stage| *stage == Stage::Queued));
        let counters = &gateway.counters;
        let lines = self.lines.borrow();
        let open = staged(|stage| *stage != Stage::Params);
        assert_eq!(
            lines.values().sum::<u64>() + open,
            counters.accepted,
            "each request is written down once"
        );
        for (outcome, counted) in [
            (Outcome::Answered, counters.answered),
            (Outcome::Aborted, counters.aborted),
            (Outcome::Broken, counters.broken),
            (Outcome::TimedOut, counters.timed_out),
            (Outcome::RefusedFull, counters.refused_full),
            (Outcome::RefusedLate, counters.refused_late),
        ] {
            assert_eq!(lines.get(&(outcome as u8)).copied().unwrap_or(0), counted, "{outcome:?}");
        }
        let (mut idle, mut busy) = (0, 0);
        for (key, slot) in gateway.slots.iter() {
            let running =
                |upstream: &super::upstream::Upstream| upstream.slot == key && upstream.request.is_some();
            let running = gateway.upstreams.iter().filter(|(_, upstream)| running(upstream)).count();
            assert_eq!(running, slot.active as usize);
            let counted = slot.count(gateway.settings.concurrency);
            assert_eq!(counted, slot.counted);
            (idle, busy) = (idle + u32::from(counted.idle), busy + u32::from(counted.busy));
        }
        assert_eq!((idle, busy), (counters.load.idle, counters.load.busy));
        assert!(gateway.queue.is_empty() || idle == 0, "nobody waits while somebody is idle");
        let mut owned = 0;
        for (key, client) in gateway.clients.iter() {
            for (id, at) in client.active.iter() {
                let request = gateway.requests.get(at).expect("a request of a client");
                assert_eq!((request.client, request.id), (key, id));
                owned += 1;
            }
        }
        assert_eq!(owned, gateway.requests.len(), "no request is without its client");
        for (_, request) in gateway.requests.iter() {
            if let Stage::Running(upstream) = request.stage {
                assert!(gateway.upstreams.get(upstream).is_some_and(|upstream| upstream.request.is_some()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_books_agree_whatever_happens(
        steps in vec((0u8..19, any::<u8>()), 1..300),
        (streams, concurrency) in (any::<bool>(), 1u32..3),
    ) {
        let mut world = World::new(Settings {
            request_buffer: if streams { 0 } else { 1000 },
            concurrency,
            queue_limit: 2,
            queue_timeout: Some(Duration::from_secs(7)),
            input_timeout: Some(Duration::from_secs(11)),
            request_terminate_timeout: Some(Duration::from_secs(13)),
            ping_path: Some("/ping".into()),
            ..settings()
        });
        let mut buffer = vec![0; 64 * 1024];
        for (kind, which) in steps {
            world.step(kind, which);
            world.settle(&mut buffer, which);
            world.check();
        }
        // Everybody leaves.
        world.clients.clear();
        for _ in 0..2 {
            world.settle(&mut buffer, 0);
            world.seats.iter_mut().for_each(|seat| seat.visits.clear());
            world.pass_time(Duration::from_secs(30));
        }
        world.settle(&mut buffer, 0);
        world.check();
        prop_assert_eq!(world.rig.gateway.requests.len(), 0);
    }
}
