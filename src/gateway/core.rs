//! Everything that the gateway knows, in one place, and what its parts share: tokens, timers, slots' counts. What happens
//! on an event is told by the parts: `accept`, `intake`, `schedule`, `dispatch`, `upload`, `response`, `output`, `finish`.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest as Wish, Registry};

use super::allowed::Allowed;
use super::client::{Client, Interest};
use super::finished::Peer;
use super::queue::Queue;
use super::request::{Request, Told};
use super::roster::Roster;
use super::rules::{self, Keeping};
use super::seam::Seams;
use super::slab::{Key, Slab};
use super::slot::{Slot, State};
use super::sparing::Sparing;
use super::tail::Tails;
pub(super) use super::token::Token;
use super::upstream::Upstream;
use super::warm::Warming;
use crate::event::timer::Timers;
use crate::ids::{Moment, SlotId};
use crate::os::clock::{self, WallTime};
use crate::os::sockdiag::SockDiag;
use crate::policy::Wear;
use crate::wire::gateway::{Company, Facts, FromGateway, Report, Settings};

/// Full buffers that are read from or written to one connection before others, the master and the clock get their turn: one
/// whose other end is quicker than we are holds nobody up.
pub(super) const AT_A_TURN: usize = 16;

/// Finished requests whose memory is kept for the next ones.
const SPARE: usize = 64;

/// What is to be done at a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The first request in the queue has waited long enough.
    Queue,
    /// A running request is slow, or has run long enough.
    Running,
    /// Heads that came without a body are held back no longer.
    Heads,
    /// A client has taken too long over a request.
    Input,
    /// Accepting goes on after a shortage of descriptors.
    Accept,
    /// A slot that refused is tried again.
    Slot(Key),
    /// Whether workers are done with what nobody waits for.
    Lost,
    /// Whether workers are done with what comes after their answers.
    Tail,
    /// Whether workers have begun with what they were sent.
    Reception,
    /// Memory that idle workers keep is looked at.
    Weight,
    /// The master is told of the load.
    Load,
    /// The master could not be told something.
    Master,
    /// The pool has stopped for long enough.
    Stop,
    /// Clients of a pool that stops have had time to say what they want.
    Newcomers,
}

/// A listening socket.
#[derive(Debug)]
pub struct Door {
    /// The socket.
    pub fd: OwnedFd,
    /// Who else accepts there.
    pub company: Company,
    /// Whether its clients have addresses.
    pub tcp: bool,
    /// How many clients are likely to wait there at once.
    pub crowd: usize,
}

/// Whether new connections are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// They are.
    Serving,
    /// They are not; what waits is served still.
    Stopping,
    /// They are another gateway's; what is here is served still, and given away where that can be.
    Leaving,
    /// Nothing is served any more.
    Stopped,
}

/// The gateway of one pool.
pub struct Gateway {
    pub(super) registry: Registry,
    pub(super) settings: Settings,
    pub(super) facts: Facts,
    pub(super) allowed: Allowed,
    pub(super) doors: Vec<Door>,
    pub(super) clients: Slab<Client>,
    /// In boxes, which are used again: a request is large, and nothing but its pointer moves.
    pub(super) requests: Slab<Box<Request>>,
    pub(super) upstreams: Slab<Upstream>,
    pub(super) warming: Slab<Warming>,
    pub(super) slots: Slab<Slot>,
    pub(super) roster: Roster,
    pub(super) places: BTreeMap<SlotId, Key>,
    pub(super) queue: Queue<Key>,
    /// Requests for pages of ours, in their order.
    pub(super) pages: VecDeque<Key>,
    pub(super) timers: Timers<Timer>,
    /// Counts, and the load.
    pub(super) counters: Report,
    pub(super) keeping: Keeping,
    pub(super) tails: Tails,
    /// Whether a `Weight` timer is set.
    pub(super) weighing: bool,
    pub(super) seams: Seams,
    pub(super) phase: Phase,
    /// Whether the master knows that nothing waits any more.
    pub(super) told_served: bool,
    /// For the master, in this order.
    pub(super) outbox: VecDeque<FromGateway>,
    /// Connections for another gateway, after what is in `outbox`.
    pub(super) gifts: VecDeque<OwnedFd>,
    /// Workers that another gateway is to get.
    pub(super) owed: u32,
    /// While requests wait and nobody is idle, how many workers there were at the least, as the master was told.
    pub(super) need: Option<usize>,
    /// Whether the master was told that nothing is left.
    pub(super) said_last: bool,
    /// The message under construction: a request for a worker, or an answer of ours.
    pub(super) message: Vec<u8>,
    /// Room for reading from files.
    pub(super) chunk: Vec<u8>,
    /// What is to be gone on with without an event.
    pub(super) again: Vec<Token>,
    /// Whether a `Running` timer is set.
    pub(super) watching: bool,
    /// Whether an `Input` timer is set.
    pub(super) minding: bool,
    /// Requests whose answer's head is held back until its body comes, or for a moment.
    pub(super) heads: Vec<Key>,
    pub(super) diag: Option<SockDiag>,
    pub(super) refused: Refusals,
    /// When the log was last told that descriptors or memory are short.
    pub(super) shortage_told: Sparing,
    /// When it was last told that there is no room for files.
    pub(super) no_room_told: Sparing,
    pub(super) reserve: super::reserve::Reserve,
    /// Whose requests are being cancelled.
    pub(super) lost_peer: Peer,
    pub(super) told: super::report::LoadTold,
    /// How many had been answered when the master was last told that the program works.
    pub(super) works: u64,
    /// When it started.
    pub(super) born: Moment,
    pub(super) now: Moment,
    pub(super) wall: WallTime,
    pub(super) stamp: u64,
    random: u64,
    #[allow(clippy::vec_box, reason = "it is the boxes that are kept")]
    spare: Vec<Box<Request>>,
}

/// Clients that were turned away and not told of in the log yet.
#[derive(Debug, Default)]
pub struct Refusals {
    /// How many.
    pub count: u64,
    /// When the log was last told.
    pub told: Sparing,
}

impl Gateway {
    /// A gateway without listening sockets and slots. `settings` are checked by the master; networks that cannot be read
    /// all the same admit nobody.
    pub fn new(registry: Registry, settings: Settings, seams: Seams) -> Gateway {
        let now = clock::monotonic();
        let seed = now.0.as_nanos() as u64 ^ u64::from(std::process::id()) << 40;
        let mut gateway = Gateway {
            registry,
            facts: Facts::default(),
            allowed: Allowed::default(),
            doors: Vec::new(),
            clients: Slab::new(),
            requests: Slab::new(),
            upstreams: Slab::new(),
            warming: Slab::new(),
            slots: Slab::new(),
            roster: Roster::default(),
            places: BTreeMap::new(),
            queue: Queue::new(),
            pages: VecDeque::new(),
            timers: Timers::new(),
            counters: Report::default(),
            keeping: Keeping::Unknown(0),
            tails: Tails::default(),
            weighing: false,
            seams,
            phase: Phase::Serving,
            told_served: false,
            outbox: VecDeque::new(),
            gifts: VecDeque::new(),
            owed: 0,
            need: None,
            said_last: false,
            message: Vec::new(),
            chunk: Vec::new(),
            again: Vec::new(),
            watching: false,
            minding: false,
            heads: Vec::new(),
            diag: None,
            refused: Refusals::default(),
            shortage_told: Sparing::default(),
            no_room_told: Sparing::default(),
            reserve: super::reserve::Reserve::default(),
            lost_peer: Peer::Unix,
            told: super::report::LoadTold::default(),
            works: 0,
            born: now,
            now,
            wall: clock::wall(),
            stamp: 0,
            random: seed | 1,
            spare: Vec::new(),
            settings,
        };
        gateway.read_networks();
        let _ = gateway.reserve.fill(0); // or when the first client comes
        gateway
    }

    /// Takes the networks from the settings.
    pub(super) fn read_networks(&mut self) {
        self.allowed = Allowed::parse(&self.settings.allowed_clients).unwrap_or_else(|text| {
            ::log::error!(
                "[pool {}] cannot read allowed client '{text}': nobody may connect",
                self.settings.pool
            );
            // A network that holds nobody who could connect.
            Allowed::parse(&["255.255.255.255".to_owned()]).unwrap_or_default()
        });
    }

    /// Looks at the clocks.
    pub(super) fn tick(&mut self) {
        self.now = clock::monotonic();
        self.wall = clock::wall();
    }

    /// A request, in used memory if there is any.
    pub(super) fn fresh_request(&mut self) -> Box<Request> {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps the memory of a request that is over.
    pub(super) fn reuse_request(&mut self, mut request: Box<Request>) {
        if self.spare.len() < SPARE {
            request.recycle();
            self.spare.push(request);
        }
    }

    /// After how many requests the next worker is worn.
    pub(super) fn next_wear(&mut self) -> u64 {
        let random = rules::shuffle(&mut self.random);
        rules::wear(self.settings.max_requests, self.settings.max_requests_jitter, random)
    }

    /// Counts a slot again after anything about it has changed, and tells the master if its worker is empty or worn.
    pub(super) fn recount(&mut self, key: Key) {
        if self.roster.is_crowded(self.slots.len()) {
            let candidates = self.slots.iter().filter_map(|(key, slot)| Some((key, slot.candidate()?)));
            self.roster.refill(candidates);
        }
        let Some(slot) = self.slots.get_mut(key) else { return };
        let counted = slot.count(self.settings.concurrency);
        let load = &mut self.counters.load;
        load.idle = load.idle + u32::from(counted.idle) - u32::from(slot.counted.idle);
        load.busy = load.busy + u32::from(counted.busy) - u32::from(slot.counted.busy);
        load.working = load.working + u32::from(counted.working) - u32::from(slot.counted.working);
        load.free = load.free + u32::from(counted.free) - u32::from(slot.counted.free);
        load.least_free = load.least_free.min(load.free);
        slot.counted = counted;
        if let Some(candidate) = slot.candidate() {
            self.roster.enter(key, candidate);
        }
        self.counters.max_active = self.counters.max_active.max(load.busy);
        let empty = slot.load() == 0;
        let Some(worker) = slot.worker.as_mut().filter(|_| empty) else { return };
        let name = worker.name;
        match worker.state {
            State::Serving | State::Doomed | State::Worn(Told::Yes) | State::Draining(Told::Yes) => {}
            State::Worn(Told::No) => {
                worker.state = State::Worn(Told::Yes);
                self.outbox.push_back(name.worn(worker.served, Wear::Requests));
            }
            State::Draining(Told::No) => {
                worker.state = State::Draining(Told::Yes);
                let kept = std::mem::take(&mut slot.kept);
                // A worker that waits for its next request on a kept connection hears no signal until that is closed.
                for connection in kept {
                    self.upstreams.remove(connection);
                }
                self.outbox.push_back(FromGateway::Drained { slot: name.slot, worker: name.worker });
            }
        }
    }

    /// Keeps a slot closed for a while.
    pub(super) fn close_slot(&mut self, key: Key, pause: Duration) {
        if let Some(slot) = self.slots.get_mut(key) {
            let until = self.now.after(pause);
            slot.closed_until = Some(until);
            self.timers.set(Timer::Slot(key), Some(until));
        }
        self.recount(key);
    }

    /// Whether a request waits in the queue.
    pub(super) fn waits(requests: &Slab<Box<Request>>, key: Key) -> bool {
        requests.get(key).is_some_and(|request| request.stage == super::request::Stage::Queued)
    }

    /// What the log calls a client.
    pub(super) fn peer_of(&self, key: Key) -> Peer {
        self.clients.get(key).map_or(Peer::Unix, |client| client.peer)
    }
}

/// Watches a descriptor for what `interest` says, edge-triggered. `before` is what it was watched for.
pub(super) fn watch(
    registry: &Registry,
    fd: BorrowedFd<'_>,
    token: Token,
    before: Interest,
    interest: Interest,
) -> std::io::Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    let mut source = SourceFd(&raw);
    let wish = match interest {
        Interest::None => return Ok(()),
        Interest::Read => Wish::READABLE,
        Interest::Both => Wish::READABLE | Wish::WRITABLE,
    };
    match before {
        Interest::None => registry.register(&mut source, token.encode(), wish),
        Interest::Read | Interest::Both => registry.reregister(&mut source, token.encode(), wish),
    }
}

/// Ends the watch of a descriptor whose socket others have open as well.
pub(super) fn unwatch(registry: &Registry, fd: BorrowedFd<'_>) {
    // One that could not be watched is not, which is what is wanted.
    let _ = registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
}
