//! The control socket: who may connect, one request a connection, replies until a final one.
//!
//! Owns the clients' bytes; what a command means is `commands`. Nothing that a client sends or leaves unread can hold up
//! or end the master: requests are bounded, replies are written as the client reads, both against a deadline.

mod bind;
mod written;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry};

pub use self::bind::ControlError;
pub use self::written::Written;
use serde::{Deserialize, Serialize};

use crate::event::token::Token;
use crate::ids::{Gid, Ticket};
use crate::os::{aside, users};
use crate::sorted::SortedMap;
use crate::wire::control::{Reply, Request};
use crate::wire::frame::{self, Decoder, Fault};

/// How long a client may take to send its request, and then to read the reply.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Clients at once. One more is told so and closed: a status of 10,000 workers that nobody reads is about 2 MB.
const MAX_CLIENTS: usize = 32;

/// What a peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// root and fpmd's own user.
    Full,
    /// Members of `control_group`.
    ReadOnly,
    /// Everyone else.
    None,
}

/// The socket and its clients.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    group: Option<Gid>,
    clients: SortedMap<u64, Client>,
    last_client: u64,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    access: Access,
    stage: Stage,
}

/// Where a client is in its one exchange.
#[derive(Debug)]
enum Stage {
    /// Its request is still coming.
    Reading(Decoder<Request>),
    /// Its command is being carried out; `unsent` is progress that it has not read yet.
    Waiting { ticket: Ticket, unsent: Vec<u8> },
    /// The final reply is on its way.
    Closing { unsent: Vec<u8> },
}

/// What became of an event on a client's connection.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing to do.
    Pending,
    /// A whole request.
    Request(Request, Access),
    /// The connection is over and forgotten.
    Gone,
}

impl Control {
    /// Binds the socket and starts to watch it; see `bind`.
    ///
    /// # Errors
    /// See `ControlError`; nothing is left behind then but the directory.
    pub fn open(path: &Path, group: Option<Gid>, registry: &Registry) -> Result<Control, ControlError> {
        let mut listener = bind::bind(path, group)?;
        let watched = registry.register(&mut listener, Token::Control.encode(), Interest::READABLE);
        let control =
            Control { listener, path: path.to_owned(), group, clients: SortedMap::new(), last_client: 0 };
        match watched {
            Ok(()) => Ok(control),
            Err(cause) => {
                Err(ControlError::Failed { what: "watch control socket", path: path.to_owned(), cause })
            }
        }
    }

    /// Lets the members of this group look from now on, and those of no other.
    ///
    /// # Errors
    /// The socket's path cannot be changed; everyone may do what they might before.
    pub fn open_to(&mut self, group: Option<Gid>) -> Result<(), ControlError> {
        if group != self.group {
            bind::open_to(&self.path, group)?;
            self.group = group;
        }
        Ok(())
    }

    /// Accepts whoever waits; gives the numbers of new clients, whose requests are due within `PATIENCE`.
    ///
    /// # Errors
    /// Out of descriptors or memory: the caller should try again in a while.
    pub fn accept(&mut self, registry: &Registry) -> (Vec<u64>, io::Result<()>) {
        let mut admitted = Vec::new();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => admitted.extend(self.admit(stream, registry)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (admitted, Ok(())),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => return (admitted, Err(error)),
            }
        }
    }

    fn admit(&mut self, mut stream: UnixStream, registry: &Registry) -> Option<u64> {
        let access = self.access_of(&stream);
        let refusal = match access {
            Access::None => Some("permission denied: only root, fpmd's own user and control_group may ask"),
            Access::Full | Access::ReadOnly if self.clients.len() >= MAX_CLIENTS => {
                Some("too many control clients at once; try again")
            }
            Access::Full | Access::ReadOnly => None,
        };
        if let Some(refusal) = refusal {
            // A fresh connection's send buffer takes one line; if it does not, the client learns by the close.
            let _ = stream.write(&frame::encode(&Reply::Refused(refusal.to_owned())));
            return None;
        }
        let number = self.last_client + 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token::Client(number).encode(), interest).ok()?;
        self.last_client = number;
        self.clients.insert(number, Client { stream, access, stage: Stage::Reading(Decoder::default()) });
        Some(number)
    }

    fn access_of(&self, stream: &UnixStream) -> Access {
        let Ok(peer) = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials)
        else {
            return Access::None;
        };
        if peer.uid() == 0 || peer.uid() == users::own_uid().0 {
            return Access::Full;
        }
        match self.group {
            Some(group) if is_member(peer.uid(), Gid(peer.gid()), group) => Access::ReadOnly,
            Some(_) | None => Access::None,
        }
    }

    /// Reads and writes what the client's connection takes now.
    pub fn ready(&mut self, number: u64) -> Outcome {
        let Some(client) = self.clients.get_mut(&number) else { return Outcome::Pending };
        let access = client.access;
        let outcome = match client.progress() {
            Ok(Some(request)) => return Outcome::Request(request, access),
            Ok(None) => Outcome::Pending,
            Err(_) => Outcome::Gone,
        };
        if matches!(outcome, Outcome::Gone) {
            self.clients.remove(&number);
        }
        outcome
    }

    /// The client's command is being carried out; replies follow by its ticket.
    pub fn wait(&mut self, number: u64, ticket: Ticket) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.stage = Stage::Waiting { ticket, unsent: Vec::new() };
        }
    }

    /// Sends the final reply; the connection closes when the client has read it, or after `PATIENCE`.
    pub fn finish(&mut self, number: u64, reply: &Reply) -> Outcome {
        let Some(client) = self.clients.get_mut(&number) else { return Outcome::Gone };
        let mut unsent = match &mut client.stage {
            Stage::Waiting { unsent, .. } => std::mem::take(unsent),
            Stage::Reading(_) | Stage::Closing { .. } => Vec::new(),
        };
        unsent.extend(frame::encode(reply));
        client.stage = Stage::Closing { unsent };
        self.ready(number)
    }

    /// Tells the client how far its command is. One that does not read misses what does not fit.
    pub fn tell(&mut self, ticket: Ticket, text: String) {
        const ENOUGH: usize = 64 * 1024;
        let Some(number) = self.waiting_for(ticket) else { return };
        if let Some(Client { stage: Stage::Waiting { unsent, .. }, .. }) = self.clients.get_mut(&number)
            && unsent.len() < ENOUGH
        {
            unsent.extend(frame::encode(&Reply::Progress(text)));
        }
        self.ready(number);
    }

    /// The client that waits for this ticket, if it has not gone away.
    pub fn waiting_for(&self, ticket: Ticket) -> Option<u64> {
        let is_theirs = |client: &Client| matches!(&client.stage, Stage::Waiting { ticket: theirs, .. } if *theirs == ticket);
        self.clients.iter().find(|(_, client)| is_theirs(client)).map(|(number, _)| *number)
    }

    /// The client's time is up, unless it waits for us.
    pub fn expire(&mut self, number: u64) {
        if !matches!(self.clients.get(&number), Some(Client { stage: Stage::Waiting { .. }, .. })) {
            self.clients.remove(&number);
        }
    }

    /// Whether a final reply is still on its way to someone.
    pub fn is_sending(&self) -> bool {
        self.clients.values().any(|client| matches!(client.stage, Stage::Closing { .. }))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Client {
    /// `Err` ends the connection: all was said, the peer left, or it broke the protocol and was told.
    fn progress(&mut self) -> Result<Option<Request>, ()> {
        match &mut self.stage {
            Stage::Reading(decoder) => match read_request(&mut self.stream, decoder) {
                Ok(request) => Ok(request),
                Err(Some(refusal)) => {
                    self.stage = Stage::Closing { unsent: frame::encode(&Reply::Refused(refusal)) };
                    self.progress()
                }
                Err(None) => Err(()),
            },
            Stage::Waiting { unsent, .. } => {
                flush(&mut self.stream, unsent)?;
                // A client may have ended its side after the request and wait for the answer all the same.
                match self.stream.read(&mut [0; 64]) {
                    Ok(0) => Ok(None),
                    Ok(_) => Err(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    Err(_) => Err(()),
                }
            }
            Stage::Closing { unsent } => {
                flush(&mut self.stream, unsent)?;
                if unsent.is_empty() { Err(()) } else { Ok(None) }
            }
        }
    }
}

/// By the user database, as `newgrp` and login would have it.
fn is_member(uid: u32, primary: Gid, group: Gid) -> bool {
    let groups = || {
        let user = users::user(&uid.to_string()).ok()?;
        users::supplementary_groups(&user, primary).ok()
    };
    primary == group
        || aside::ask(groups).is_ok_and(|groups| groups.is_some_and(|groups| groups.contains(&group)))
}

/// A whole request, or `Err` with the reason that the client should hear, or without one if it is gone.
fn read_request(
    stream: &mut UnixStream,
    decoder: &mut Decoder<Request>,
) -> Result<Option<Request>, Option<String>> {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Err(None),
            Ok(length) => {
                decoder.push(&bytes[..length]);
                match decoder.message() {
                    Ok(None) => {}
                    Ok(Some(request)) => return Ok(Some(request)),
                    Err(fault @ Fault::Version(_)) => return Err(Some(fault.to_string())),
                    Err(fault) => return Err(Some(format!("fpmd cannot understand the request: {fault}"))),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(None),
        }
    }
}

fn flush(stream: &mut UnixStream, unsent: &mut Vec<u8>) -> Result<(), ()> {
    let mut sent = 0;
    let result = loop {
        if sent == unsent.len() {
            break Ok(());
        }
        match stream.write(&unsent[sent..]) {
            Ok(0) => break Err(()),
            Ok(length) => sent += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break Err(()),
        }
    };
    unsent.drain(..sent);
    result
}
