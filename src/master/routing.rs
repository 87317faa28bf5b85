//! Between the supervisor and the gateways: what is decided about workers becomes messages, what a gateway says becomes
//! events. Only pools with `dispatch = "gateway"` come here.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::Master;
use super::gateways::{Condition, End, PATIENCE, Role, Said, World, facts};
use super::passage::doors_of;
use super::run::Timer;
use super::seats::Seat;
use super::slots::{Occupant, Stage};
use super::spawning::Pipe;
use crate::event;
use crate::event::token::Token;
use crate::ids::{ExitStatus, Generation, Pid, PoolName, SlotId, WorkerId};
use crate::log::capture::{Capture, Form, Limits, Source, Stream};
use crate::os::{activity, clock, errno};
use crate::policy::Wear;
use crate::supervise::event::{Event, WorkerCommand};
use crate::wire::gateway::{FromGateway, Past, ToGateway, VERSION};

/// How long changed numbers may wait to be told to a gateway: a thousand starts are told at once.
const FACTS_PAUSE: Duration = Duration::from_millis(100);

/// Messages of one gateway before others, signals and clocks get their turn: one that never stops talking holds nobody up.
const MESSAGES_A_TURN: usize = 256;

/// How much of what a gateway has to say was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    All,
    /// There may be more.
    Enough,
}

impl Master {
    /// A generation is over: its sockets are closed that no other wants, and its gateway takes in who waits there.
    pub(super) fn release(&mut self, pool: &PoolName, generation: Generation) {
        let before = self.listeners.all(pool).count();
        self.listeners.release(pool, generation);
        if self.listeners.all(pool).count() < before && self.gateways.condition(pool) == Condition::Running {
            self.tell_settings(pool);
        }
    }

    /// Starts what is due, now and later.
    pub(super) fn start_gateways(&mut self) {
        for pool in self.gateways.due(clock::monotonic()) {
            if let Err(reason) = self.start_gateway(&pool) {
                log::error!("[pool {pool}] {reason}");
                self.gateways.rest(&pool, clock::monotonic());
                self.resume_listening(&pool);
            }
        }
        self.timers.set(Timer::Gateways, self.gateways.next_start());
    }

    pub(super) fn start_gateway(&mut self, pool: &PoolName) -> Result<(), String> {
        let log = Pipe::open()?;
        let (number, pid) = self.gateways.start(pool, &mut self.cgroups, &log)?;
        self.watch_gateway(pool, number, pid, log)?;
        // Nobody waits any more for what the one before has sent there.
        for (_, listener, _) in self.slots.of(pool).filter(|(_, _, occupant)| occupant.is_none()) {
            activity::take_pending(listener);
        }
        let listeners = doors_of(&self.listeners, &self.gateways, pool);
        self.gateways.tell_everything(pool, &World { listeners, slots: &self.slots });
        self.warm_up_again(pool);
        Ok(())
    }

    pub(super) fn watch_gateway(
        &mut self,
        pool: &PoolName,
        number: u64,
        pid: Pid,
        log: Pipe,
    ) -> Result<(), String> {
        log::info!("[pool {pool}] gateway {pid} started");
        let source = Source { pool: pool.clone(), pid, stream: Stream::Stderr };
        let capture = Capture::new(source, Form::Ours, Limits::default(), clock::monotonic());
        let registry = self.poll.registry();
        let watched = self.workers.listen_to(Token::GatewayLog(number), log.ours, capture, registry);
        if let Err(error) = watched {
            log::warn!("[pool {pool}] cannot capture what gateway {pid} logs: {}", errno::said(&error));
        }
        if let Some(channel) = self.gateways.channel(number) {
            event::watch_both_ways(registry, channel, Token::Gateway(number))
                .map_err(|error| format!("cannot watch gateway {pid}: {}", errno::said(&error)))?;
        }
        self.on_let_go(pool);
        Ok(())
    }

    /// A worker of a pool with a gateway is ready.
    pub(super) fn admit(&mut self, id: WorkerId) {
        let Some((pool, slot, pid)) = self.on_slot(id) else { return };
        let Some(occupant) = self.slots.occupant(&pool, slot).copied() else { return };
        self.slots.set_stage(&pool, slot, id, Stage::Admitted { pid });
        let Occupant { generation, started, .. } = occupant;
        let message = ToGateway::Worker { slot, worker: id, pid, generation, started, past: Past::Unknown };
        self.gateways.tell(&pool, &message);
    }

    /// Where a worker sits, and its process.
    pub(super) fn on_slot(&self, id: WorkerId) -> Option<(PoolName, SlotId, Pid)> {
        let worker = self.workers.get(id)?;
        match worker.seat {
            Seat::Slot(slot) => Some((worker.pool.clone(), slot, worker.pid)),
            Seat::Shared(_) => None,
        }
    }

    /// The pool is about to stop. Where its gateway serves on, the workers do too.
    pub(super) fn close_intake(&mut self, pool: &PoolName, within: Duration) {
        self.gateways.stop(pool, within);
    }

    /// The pool has stopped: its gateway ends, its slots are closed.
    pub(super) fn close_gateway(&mut self, pool: &PoolName) {
        for number in self.gateways.close(pool) {
            self.timers.set(Timer::GatewayEnd(number), Some(clock::monotonic().after(PATIENCE)));
        }
        self.slots.close(pool);
    }

    /// A gateway said something, or can be told more.
    pub(super) fn on_gateway(&mut self, number: u64) {
        let token = Token::Gateway(number);
        if self.hear(number) == Heard::Enough && !self.talkative.contains(&token) {
            self.talkative.push_back(token);
        }
    }

    /// Hears a gateway until it has nothing more to say, or it is somebody else's turn.
    fn hear(&mut self, number: u64) -> Heard {
        for _ in 0..MESSAGES_A_TURN {
            let Some(Said { by, message, descriptors }) = self.gateways.next_message(number) else {
                return Heard::All;
            };
            // What a process says that was replaced concerns nobody.
            if let Some((pool, role)) = by {
                self.on_message(&pool, (number, role), message, descriptors);
            }
        }
        Heard::Enough
    }

    fn on_message(
        &mut self,
        pool: &PoolName,
        (number, role): (u64, Role),
        message: FromGateway,
        descriptors: Vec<OwnedFd>,
    ) {
        match message {
            FromGateway::Ready { version: VERSION } => self.on_gateway_ready(pool, number, role),
            FromGateway::Ready { version } => {
                log::error!("[pool {pool}] its gateway speaks version {version}, not {VERSION}; killing it");
                self.gateways.kill_process(number);
            }
            FromGateway::Works => self.on_works(pool),
            FromGateway::Warmed { slot, worker, result } => self.on_answer(pool, slot, worker, result),
            FromGateway::Drained { slot, worker } => self.on_drained(pool, slot, worker),
            FromGateway::Worn { slot, worker, requests, wear } => {
                self.on_worn(pool, (slot, worker), requests, wear);
            }
            FromGateway::Terminate { slot, worker, reason } => {
                self.on_terminate(pool, slot, worker, &reason);
            }
            FromGateway::Slow { number: question, slot, worker } => {
                let sight = self.sight(pool, slot, worker);
                self.gateways.tell_process(pool, number, &ToGateway::Seen { number: question, sight });
            }
            FromGateway::Look { slot, worker } => {
                let rest = self.rest(pool, slot, worker);
                self.gateways.tell_process(pool, number, &ToGateway::Rest { slot, worker, rest });
            }
            FromGateway::TakeBack { slot, worker, kept, until } => {
                let outcome = self.take_back(pool, (slot, worker), kept, until);
                self.gateways.tell_process(pool, number, &ToGateway::TakenBack { slot, worker, outcome });
            }
            FromGateway::Load(load) if role == Role::Handing => self.gateways.note_load(number, load),
            FromGateway::Load(load) => self.on_load(pool, load),
            FromGateway::LetGo => self.on_let_go(pool),
            FromGateway::Released { slot, worker, requests } => {
                self.on_released(pool, number, slot, worker, Past::Released(requests));
            }
            FromGateway::Left { slot, worker, requests } => {
                self.on_released(pool, number, slot, worker, Past::Orphaned(requests));
            }
            FromGateway::Clients => self.on_clients(pool, role, descriptors),
            FromGateway::Counts { report } if role == Role::Handing => {
                self.gateways.pass_counts(pool, *report);
            }
            FromGateway::Counts { .. } => {}
            FromGateway::Workers { number: question, workers } => {
                self.inquiries.note_workers(question, number, workers);
            }
            FromGateway::Report { number: question, report } => {
                self.on_gateway_report(question, (number, pool), *report);
            }
            FromGateway::QueueServed => self.on_queue_served(pool, number, role),
            FromGateway::Stopped => log::debug!("[pool {pool}] gateway has served what it had"),
        }
    }

    /// A worker has answered its warm-up request, or cannot; if it is one of this pool's.
    fn on_answer(&mut self, pool: &PoolName, slot: SlotId, worker: WorkerId, result: Result<(), String>) {
        if self.stage(pool, slot, worker).is_some() {
            self.on_warmed(worker, result);
        }
    }

    /// Of one that is not asked for any they would be kept for as long as it does not read.
    fn on_clients(&mut self, pool: &PoolName, role: Role, clients: Vec<OwnedFd>) {
        if role == Role::Handing {
            self.gateways.pass_clients(pool, clients);
        }
    }

    fn on_gateway_ready(&mut self, pool: &PoolName, number: u64, role: Role) {
        self.gateways.note_ready(number);
        match role {
            Role::Successor => self.succeed(pool),
            Role::Current | Role::Handing => log::debug!("[pool {pool}] gateway is ready"),
        }
        self.resume_listening(pool);
    }

    /// Nobody whom a stop has found waits any more: nobody else can come, and who did meanwhile is taken in.
    fn on_queue_served(&mut self, pool: &PoolName, number: u64, role: Role) {
        // The sockets of one that hands over are another one's.
        if role != Role::Handing {
            self.listeners.withdraw(pool);
        }
        self.gateways.tell_process(pool, number, &ToGateway::Shut);
    }

    fn on_drained(&mut self, pool: &PoolName, slot: SlotId, worker: WorkerId) {
        // Asked for by name, or as one of the idlest.
        if let Some(Stage::Draining { .. } | Stage::Admitted { .. }) = self.stage(pool, slot, worker) {
            self.slots.set_stage(pool, slot, worker, Stage::Drained);
            self.gateways.forget_worker(pool, worker);
            self.supervisor.handle(clock::monotonic(), Event::Drained { worker });
        }
    }

    fn on_worn(&mut self, pool: &PoolName, (slot, worker): (SlotId, WorkerId), requests: u64, wear: Wear) {
        if self.stage(pool, slot, worker).is_some() {
            log::debug!("[pool {pool}] {worker:?} is worn after {requests} requests: {wear:?}");
            self.command(worker, WorkerCommand::Recycle(wear));
        }
    }

    fn on_terminate(&mut self, pool: &PoolName, slot: SlotId, worker: WorkerId, reason: &str) {
        if self.stage(pool, slot, worker).is_some()
            && let Some((_, _, pid)) = self.on_slot(worker)
        {
            log::warn!("[pool {pool}] child {pid}, {reason}, terminating");
            self.command(worker, WorkerCommand::Terminate);
        }
    }

    /// What the gateway knows of a worker, if that worker is still there.
    pub(super) fn stage(&self, pool: &PoolName, slot: SlotId, worker: WorkerId) -> Option<Stage> {
        let occupant = self.slots.occupant(pool, slot)?;
        (occupant.worker == worker).then_some(occupant.stage)
    }

    fn command(&mut self, worker: WorkerId, command: WorkerCommand) {
        let event = Event::Worker { worker, command, ticket: None };
        self.supervisor.handle(clock::monotonic(), event);
    }

    /// A child has ended; whether it was a gateway.
    pub(super) fn on_gateway_exit(&mut self, pid: Pid, status: ExitStatus) -> bool {
        // Its last words first.
        if let Some(number) = self.gateways.number(pid) {
            while self.hear(number) == Heard::Enough {}
            self.on_output(Token::GatewayLog(number));
            self.timers.set(Timer::GatewayEnd(number), None);
        }
        let pool = self.gateways.pool_of(pid);
        if let Some(number) = self.gateways.number(pid) {
            self.ask_no_more(number);
        }
        match self.gateways.ended(clock::monotonic(), pid, status) {
            End::Foreign => false,
            End::Expected => {
                // Nobody takes connections any more: whoever comes is refused, instead of waiting for a reset.
                if let Some(pool) = pool.filter(|pool| self.gateways.condition(pool) == Condition::Absent) {
                    self.listeners.close(&pool);
                }
                true
            }
            End::Lost => {
                self.start_gateways();
                pool.iter().for_each(|pool| self.resume_listening(pool));
                true
            }
            End::HandedOver { pool, workers } => {
                self.give_orphans(&pool, &workers);
                true
            }
            End::Heirless { pool, why } => {
                self.on_succession(&pool, Err(why));
                self.resume_listening(&pool);
                true
            }
        }
    }

    /// The numbers of a pool's workers have changed.
    pub(super) fn facts_changed(&mut self) {
        self.status_changed();
        if self.gateways.pools().next().is_some() && !self.facts_due {
            self.facts_due = true;
            self.timers.set(Timer::Facts, Some(clock::monotonic().after(FACTS_PAUSE)));
        }
    }

    /// Tells the gateways the numbers of their pools, and closes slots that nobody needs any more.
    pub(super) fn tell_facts(&mut self) {
        self.facts_due = false;
        let pools: Vec<PoolName> = self.gateways.pools().cloned().collect();
        for view in self.supervisor.pools().filter(|view| pools.contains(&view.name)) {
            let oom_kills = self.cgroups.usage(&view.name).and_then(|(usage, _)| usage.oom_kills);
            let peak = self.gateways.memory_peak(&view.name);
            self.gateways.tell_facts(&view.name, facts(&view, oom_kills, peak));
            let wanted = usize::try_from(view.children).unwrap_or(usize::MAX);
            for slot in self.slots.shrink(&view.name, wanted) {
                self.gateways.tell(&view.name, &ToGateway::SlotGone { slot });
                self.gateways.tell_handing(&view.name, &ToGateway::SlotGone { slot });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;
    use crate::master::testing::idle_master;
    use crate::os::fdpass;
    use crate::os::process::testing::{output, playing, role, said, say};
    use crate::os::testing::TempDir;

    /// Says as much as there is room for; how many messages that is.
    fn flood(gateway: &OwnedFd) -> usize {
        let message = serde_json::to_vec(&FromGateway::Works).unwrap();
        let mut sent = 0;
        loop {
            match fdpass::send(gateway.as_fd(), &message, &[]) {
                Ok(()) => sent += 1,
                Err(errno) => break assert_eq!(errno, Errno::EAGAIN),
            }
        }
        sent
    }

    #[test]
    fn a_gateway_that_never_stops_talking_is_heard_for_a_turn_at_a_time() {
        let text = output(&role("master::routing::tests::role_flooded"));
        assert_eq!(said(&text), ["all is well"], "{text}");
    }

    #[test]
    #[ignore = "a role of another test"]
    fn role_flooded() {
        const NUMBER: u64 = 7;
        if !playing() {
            return;
        }
        let directory = TempDir::new();
        let mut master = idle_master(&directory);
        let gateway = master.gateways.with_leaving(NUMBER, master.poll.registry());
        fcntl(&gateway, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        setsockopt(&gateway, sockopt::SndBuf, &(1 << 20)).unwrap();
        let sent = flood(&gateway);
        assert!(sent > MESSAGES_A_TURN, "there is room for {sent} messages only");
        master.on_gateway(NUMBER);
        assert_eq!(master.talkative, [Token::Gateway(NUMBER)]);
        let left = std::iter::from_fn(|| master.gateways.next_message(NUMBER)).count();
        assert_eq!(left, sent - MESSAGES_A_TURN);
        // What one turn leaves is the next one's, without a word from the kernel.
        let mut sent = flood(&gateway);
        while sent >= MESSAGES_A_TURN {
            master.hear_out();
            assert_eq!(master.talkative, [Token::Gateway(NUMBER)]);
            sent -= MESSAGES_A_TURN;
        }
        master.hear_out();
        assert!(master.talkative.is_empty() && master.gateways.next_message(NUMBER).is_none());
        say("all is well");
    }
}
