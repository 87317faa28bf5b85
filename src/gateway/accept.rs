//! New clients: taken off the listening sockets until none waits, read from at once, and watched only if they have more to
//! say. accept4(2); `allowed_clients`.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;

use super::client::{Client, Ending, Interest, NEW, Reading};
use super::core::{Door, Gateway, Phase, Timer, Token, unwatch, watch};
use super::finished::Peer;
use super::slab::Key;
use crate::os::stream::{Stream, watch_listener};
use crate::wire::gateway::Company;

/// Clients that are taken off a socket before others get their turn.
const AT_ONCE: usize = 128;

/// Bytes that are read at once from the last clients of a socket.
const LAST_LOOK: usize = 16 * 1024;

/// How long accepting pauses where descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(100);

impl Door {
    fn accept(&self) -> Result<Stream, Errno> {
        match self.company {
            Company::Alone => Stream::accept(self.fd.as_fd()),
            Company::Workers => Stream::accept_beside_others(self.fd.as_fd()),
        }
    }
}

impl Gateway {
    /// Takes clients off a listening socket: as many as came together the last time. To find out that nobody is left costs
    /// about as much as to accept somebody, so that it is left to the event loop, which tells of those who wait until none
    /// does.
    pub(super) fn accept(&mut self, door: usize, buffer: &mut [u8]) {
        let crowd = self.doors.get(door).map_or(0, |door| door.crowd);
        for met in 0..crowd {
            let Some(open) = self.doors.get(door).filter(|_| self.phase == Phase::Serving) else { return };
            let tcp = open.tcp;
            match self.reserve.fill(self.doors.len()).and_then(|()| open.accept()) {
                Ok(stream) => self.welcome(stream, tcp, buffer),
                Err(Errno::EAGAIN) => return self.expect_crowd(door, met),
                Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => {
                    self.tell_shortage("accept connections", errno);
                    return self.pause_doors();
                }
                // Somebody has shut it down: it would be told of for ever.
                Err(Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK) => {
                    return unwatch(&self.registry, open.fd.as_fd());
                }
                // An error of that one connection, as accept(2) has it; the next may be well.
                Err(_) => {}
            }
        }
        self.expect_crowd(door, crowd + 1);
    }

    fn expect_crowd(&mut self, door: usize, crowd: usize) {
        if let Some(door) = self.doors.get_mut(door) {
            door.crowd = crowd.clamp(1, AT_ONCE);
        }
    }

    /// Has the event loop tell of whoever waits at a listening socket.
    pub(super) fn watch_door(&self, door: usize) {
        let Some(open) = self.doors.get(door) else { return };
        let watched = watch_listener(&self.registry, open.fd.as_fd(), Token::Door(door).encode());
        if let Err(errno) = watched {
            let cause = crate::os::errno::Cause(errno);
            ::log::error!("[pool {}] cannot watch a listening socket: {cause}", self.settings.pool);
        }
    }

    /// Accepting goes on.
    pub(super) fn watch_doors(&mut self) {
        for door in 0..self.doors.len() {
            self.watch_door(door);
        }
    }

    /// A shortage that lasts is found again after every pause.
    pub(super) fn tell_shortage(&mut self, what: &str, errno: Errno) {
        if !self.shortage_told.is_due(self.now) {
            return;
        }
        let pool = &self.settings.pool;
        ::log::warn!("[pool {pool}] cannot {what} for a moment: {}", errno.desc());
    }

    /// Nobody is accepted for a while, and nothing wakes us up for those who wait.
    fn pause_doors(&mut self) {
        for door in &self.doors {
            unwatch(&self.registry, door.fd.as_fd());
        }
        self.timers.set(Timer::Accept, Some(self.now.after(PAUSE)));
    }

    /// Takes whoever waits off a socket that is about to close, and reads what they have said.
    pub(super) fn take_in(&mut self, door: &Door) {
        let mut buffer = vec![0; LAST_LOOK];
        loop {
            match door.accept() {
                Ok(stream) => self.welcome(stream, door.tcp, &mut buffer),
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    /// Who a new client is; `None` if it may not connect, or has gone already.
    pub(super) fn admit(&mut self, stream: &Stream, tcp: bool) -> Option<Peer> {
        if !tcp {
            return Some(Peer::Unix);
        }
        let address = stream.peer()?;
        if self.allowed.admits(address.ip()) {
            return Some(Peer::Tcp(address));
        }
        self.turn_away(address);
        None
    }

    fn welcome(&mut self, stream: Stream, tcp: bool, buffer: &mut [u8]) {
        let Some(peer) = self.admit(&stream, tcp) else { return };
        let key = self.clients.insert(Client::new(stream, peer, self.now));
        self.read_client(key, buffer, false);
        self.watch_newcomer(key);
        if self.phase != Phase::Serving {
            self.timers.set(Timer::Newcomers, Some(self.now.after(NEW)));
        }
    }

    /// Watches a client unless it has said all that it has to say: the answer is written, and the connection closed,
    /// without the event loop ever having heard of it.
    fn watch_newcomer(&mut self, key: Key) {
        let Some(client) = self.clients.get(key) else { return };
        let complete = |(_, at)| self.requests.get(at).is_some_and(|request| request.is_complete());
        let done =
            client.ending == Ending::Ours && client.active.len() == 1 && client.active.iter().all(complete);
        let watched = client.interest != Interest::None || client.reading == Reading::Paused;
        if !done && !watched {
            self.watch_client(key, Interest::Read);
        }
    }

    /// Has the event loop watch a client, in addition to what it watches it for already.
    pub(super) fn watch_client(&mut self, key: Key, interest: Interest) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.interest == interest {
            return;
        }
        match watch(&self.registry, client.stream.as_fd(), Token::Client(key), client.interest, interest) {
            Ok(()) => client.interest = interest,
            Err(error) => {
                ::log::warn!("[pool {}] cannot watch a client: {error}", self.settings.pool);
                self.lose_client(key);
            }
        }
    }

    fn turn_away(&mut self, address: std::net::SocketAddr) {
        self.refused.count += 1;
        self.counters.refused_client += 1;
        if !self.refused.told.is_due(self.now) {
            return;
        }
        let (pool, count) = (&self.settings.pool, std::mem::take(&mut self.refused.count));
        ::log::warn!(
            "[pool {pool}] refused {count} connection(s), the last from {address}: not in allowed_clients"
        );
    }
}
