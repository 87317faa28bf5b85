//! The event loop of fpmd-gateway: waits for clients, workers, the master and the clock, and hands each event to its part.
//! Ends when the master does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use mio::{Events, Poll};

use super::channel::{Channel, ChannelError, Incoming, Outgoing};
use super::client::Interest;
use super::core::{Gateway, Timer, Token, watch};
use super::seam::Seams;
use crate::log;
use crate::os::{clock, limits, signal};
use crate::wire::gateway::{FromGateway, MAX_DESCRIPTORS, ToGateway};

/// Events that are taken from the kernel at once.
const EVENTS: usize = 1024;

/// Bytes that are read at once; larger and smaller were slower.
const BUFFER: usize = 256 * 1024;

/// How long a shortage of kernel memory is given to pass before the master is told what it is to know.
const AGAIN: Duration = Duration::from_millis(10);

/// EX_SOFTWARE and EX_OSERR of sysexits.h.
const BUG: u8 = 70;
const SYSTEM: u8 = 71;

/// The program fpmd-gateway: descriptor 0 is the connection to fpmd.
pub fn main(seams: Seams) -> ExitCode {
    let target = crate::config::model::LogTarget::Journal;
    // Without a log there is nobody to tell.
    let _ = log::init(&log::Settings { target, ..log::Settings::stderr() });
    if let Err(error) = signal::leave_signals_to_master() {
        ::log::warn!("{error}");
    }
    // A connection takes one or two descriptors; what it may have beyond the usual 1024 the master has decided.
    if let Err(error) = limits::raise_open_files() {
        ::log::warn!("{error}");
    }
    let started = io::stdin().as_fd().try_clone_to_owned().and_then(|channel| run(channel, seams));
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            ::log::error!("{error}");
            ExitCode::from(BUG)
        }
        Err(error) => {
            ::log::error!("{error}");
            ExitCode::from(SYSTEM)
        }
    }
}

/// Serves a pool until the master at the other end of `channel` ends, or says so.
///
/// # Errors
/// No descriptor or memory is left at the start, or the master cannot be understood (`InvalidData`).
pub fn run(channel: OwnedFd, seams: Seams) -> io::Result<()> {
    let understand = |error: ChannelError| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut poll = Poll::new()?;
    let channel = Channel::new(channel).map_err(understand)?;
    let fd = channel.as_fd();
    watch(poll.registry(), fd, Token::Channel, Interest::None, Interest::Both)?;
    let mut server = Server { channel, gateway: None, seams: Some(seams), buffer: vec![0; BUFFER] };
    let mut events = Events::with_capacity(EVENTS);
    loop {
        match poll.poll(&mut events, server.patience()) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        if server.turn(&poll, &events).map_err(understand)? == Turn::Last {
            return Ok(());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    More,
    Last,
}

impl Gateway {
    /// Does what there is to do about one of those that are watched, whatever event there was or was not.
    pub(super) fn go_on(&mut self, token: Token, buffer: &mut [u8]) {
        match token {
            Token::Channel => {}
            Token::Door(door) => self.accept(door, buffer),
            Token::Client(key) => {
                self.flush_client(key);
                self.read_client(key, buffer, true);
            }
            Token::Warming(key) => self.warming_ready(key, buffer),
            Token::Upstream(key) => {
                self.pump(key);
                self.read_upstream(key, buffer, true);
            }
        }
    }

    /// Does what is due by now.
    pub(super) fn keep_time(&mut self) {
        while let Some(timer) = self.timers.expired(self.now) {
            self.on_timer(timer);
        }
    }

    /// No event will tell when the master can be told.
    fn tell_again_soon(&mut self) -> Turn {
        self.timers.set(Timer::Master, Some(self.now.after(AGAIN)));
        Turn::More
    }
}

struct Server {
    channel: Channel,
    /// Made from the first settings.
    gateway: Option<Gateway>,
    seams: Option<Seams>,
    buffer: Vec<u8>,
}

impl Server {
    /// How long to wait for events.
    fn patience(&mut self) -> Option<Duration> {
        let gateway = self.gateway.as_mut()?;
        if !gateway.again.is_empty() || !gateway.pages.is_empty() {
            return Some(Duration::ZERO);
        }
        gateway.now = clock::monotonic();
        gateway.timers.wait(gateway.now)
    }

    /// One round: all events, what is due, what is to be told.
    fn turn(&mut self, poll: &Poll, events: &Events) -> Result<Turn, ChannelError> {
        if let Some(gateway) = &mut self.gateway {
            gateway.tick();
        }
        for event in events {
            match Token::decode(event.token()) {
                Token::Channel if event.is_readable() || event.is_read_closed() => {
                    if self.listen_to_master(poll)? == Turn::Last {
                        return Ok(Turn::Last);
                    }
                }
                Token::Channel => {}
                token => self.serve(token, event),
            }
        }
        let Some(gateway) = &mut self.gateway else { return Ok(Turn::More) };
        gateway.answer_next_page();
        for token in std::mem::take(&mut gateway.again) {
            gateway.now = clock::monotonic();
            gateway.go_on(token, &mut self.buffer);
        }
        gateway.keep_time();
        self.tell_master()
    }

    fn serve(&mut self, token: Token, event: &mio::event::Event) {
        let Some(gateway) = &mut self.gateway else { return };
        gateway.now = clock::monotonic();
        match token {
            Token::Client(key) => gateway.client_ready(key, event, &mut self.buffer),
            Token::Upstream(key) => gateway.upstream_ready(key, event, &mut self.buffer),
            Token::Channel | Token::Door(_) | Token::Warming(_) => gateway.go_on(token, &mut self.buffer),
        }
    }

    fn listen_to_master(&mut self, poll: &Poll) -> Result<Turn, ChannelError> {
        loop {
            // Clients may have taken all there are but these.
            if let Some(gateway) = self.gateway.as_mut().filter(|_| self.channel.brings_descriptors()) {
                gateway.reserve.release_all();
            }
            let (order, descriptors) = match self.channel.receive()? {
                Incoming::Order(order, descriptors) => (*order, descriptors),
                Incoming::Nothing => return Ok(Turn::More),
                Incoming::End => return Ok(Turn::Last),
            };
            if let Some(gateway) = &mut self.gateway {
                gateway.obey(order, descriptors);
                // Or when the next client comes.
                let _ = gateway.reserve.fill(gateway.doors.len());
                continue;
            }
            // Whatever comes before the settings is about slots that will be told again.
            let ToGateway::Settings(settings) = order else { continue };
            let Some(seams) = self.seams.take() else { continue };
            let registry = poll.registry().try_clone();
            let registry = registry.map_err(|_| ChannelError::System(nix::errno::Errno::ENFILE))?;
            let mut gateway = Gateway::new(registry, (*settings).clone(), seams);
            gateway.configure(*settings, descriptors);
            self.gateway = Some(gateway);
        }
    }

    /// Sends what the master is to know, in order; what there is no room for waits, and nothing is ever left out.
    fn tell_master(&mut self) -> Result<Turn, ChannelError> {
        let Some(gateway) = &mut self.gateway else { return Ok(Turn::More) };
        gateway.seams.journal.flush();
        gateway.give_away();
        gateway.tell_load();
        gateway.tell_served();
        let over = gateway.is_over();
        if over && !gateway.said_last {
            gateway.said_last = true;
            gateway.leave_workers();
            gateway.pass_counts_on();
        }
        while let Some(message) = gateway.outbox.front() {
            match self.channel.send(message)? {
                Outgoing::Sent => drop(gateway.outbox.pop_front()),
                Outgoing::Waits => return Ok(Turn::More),
                Outgoing::Short => return Ok(gateway.tell_again_soon()),
                Outgoing::End => return Ok(Turn::Last),
            }
        }
        while !gateway.gifts.is_empty() {
            let some = gateway.gifts.len().min(MAX_DESCRIPTORS);
            let connections: Vec<BorrowedFd<'_>> = gateway.gifts.iter().take(some).map(AsFd::as_fd).collect();
            match self.channel.send_with(&FromGateway::Clients, &connections)? {
                Outgoing::Sent => drop(gateway.gifts.drain(..some)),
                Outgoing::Waits => return Ok(Turn::More),
                Outgoing::Short => return Ok(gateway.tell_again_soon()),
                Outgoing::End => return Ok(Turn::Last),
            }
        }
        if !over {
            return Ok(Turn::More);
        }
        Ok(match self.channel.send(&FromGateway::Stopped)? {
            Outgoing::Sent | Outgoing::End => Turn::Last,
            Outgoing::Waits => Turn::More,
            Outgoing::Short => gateway.tell_again_soon(),
        })
    }
}
