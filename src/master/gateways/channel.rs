//! The master's end of the packets to and from one gateway: sent in order, kept while the gateway does not read, read until
//! there is none. Owns no meaning of the messages.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::os::errno::Cause;
use crate::os::fdpass;
use crate::wire::gateway::{FromGateway, MAX_PACKET, ToGateway};

/// Packets that may wait for a gateway to read: a pool of 30,000 workers is told anew with that many.
const MOST_UNSENT: usize = 100_000;

/// Both directions; our end never blocks.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    unsent: VecDeque<Packet>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Why a gateway can no longer be talked to.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has closed its end.
    Closed,
    /// It does not read what it is told.
    Deaf,
    /// It said something that is no message.
    Nonsense(String),
    /// The system refuses.
    System(Cause),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Closed => f.write_str("it has closed its connection to the master"),
            Fault::Deaf => write!(f, "it has not read {MOST_UNSENT} messages"),
            Fault::Nonsense(what) => write!(f, "it sent what is no message: {what}"),
            Fault::System(cause) => write!(f, "cannot talk to it: {cause}"),
        }
    }
}

impl Channel {
    /// A channel and the gateway's end of it.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn open() -> Result<(Channel, OwnedFd), Errno> {
        let (socket, theirs) = fdpass::pair()?;
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((Channel { socket, unsent: VecDeque::new(), buffer: vec![0; MAX_PACKET] }, theirs))
    }

    /// The master's end of a channel that an earlier program opened; everything was sent.
    pub fn claim(socket: OwnedFd) -> Channel {
        Channel { socket, unsent: VecDeque::new(), buffer: vec![0; MAX_PACKET] }
    }

    /// Whether nothing waits to be read by the gateway.
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends a message, at once or when the gateway has read those before it. The descriptors are only borrowed.
    ///
    /// # Errors
    /// The gateway is gone or does not read.
    pub fn send(&mut self, message: &ToGateway, descriptors: &[BorrowedFd<'_>]) -> Result<(), Fault> {
        // Plain data: no map with keys that are not text, no type that refuses.
        #[allow(clippy::expect_used)]
        let bytes = serde_json::to_vec(message).expect("a message is plain data");
        if self.unsent.is_empty() {
            match fdpass::send(self.socket.as_fd(), &bytes, descriptors) {
                Ok(()) => return Ok(()),
                Err(errno) if passes(errno) => {}
                Err(errno) => return Err(Fault::from(errno)),
            }
        }
        if self.unsent.len() == MOST_UNSENT {
            return Err(Fault::Deaf);
        }
        let own = |fd: &BorrowedFd<'_>| fd.try_clone_to_owned();
        let descriptors: Result<Vec<OwnedFd>, _> = descriptors.iter().map(own).collect();
        let descriptors = descriptors.map_err(|error| Fault::System(error.into()))?;
        self.unsent.push_back(Packet { bytes, descriptors });
        Ok(())
    }

    /// Sends what waits, as far as the gateway takes it now.
    ///
    /// # Errors
    /// As for `send`.
    pub fn flush(&mut self) -> Result<(), Fault> {
        while let Some(packet) = self.unsent.front() {
            let borrowed: Vec<BorrowedFd<'_>> = packet.descriptors.iter().map(AsFd::as_fd).collect();
            match fdpass::send(self.socket.as_fd(), &packet.bytes, &borrowed) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(Errno::EINTR) => {}
                Err(errno) if passes(errno) => return Ok(()),
                Err(errno) => return Err(Fault::from(errno)),
            }
        }
        Ok(())
    }

    /// The next message; `None` when there is none for now.
    ///
    /// # Errors
    /// The gateway is gone, or said something that is no message.
    pub fn receive(&mut self) -> Result<Option<(FromGateway, Vec<OwnedFd>)>, Fault> {
        loop {
            let received = match fdpass::receive(self.socket.as_fd(), &mut self.buffer) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Fault::from(errno)),
            };
            if received.length == 0 && !received.cut {
                return Err(Fault::Closed);
            }
            if received.cut {
                return Err(Fault::Nonsense("it is too long".to_owned()));
            }
            let packet = &self.buffer[..received.length];
            let message: FromGateway =
                serde_json::from_slice(packet).map_err(|error| Fault::Nonsense(error.to_string()))?;
            if (received.lacks_descriptors || !received.descriptors.is_empty())
                && message != FromGateway::Clients
            {
                return Err(Fault::Nonsense("it has descriptors beside it".to_owned()));
            }
            return Ok(Some((message, received.descriptors)));
        }
    }
}

/// Whether a packet goes later: the gateway has not read those before it, or there is a shortage. The requests in a gateway are
/// worth the wait.
fn passes(errno: Errno) -> bool {
    errno == Errno::EAGAIN || fdpass::is_shortage(errno)
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        match errno {
            Errno::EPIPE | Errno::ECONNRESET => Fault::Closed,
            errno => Fault::System(errno.into()),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{Shutdown, shutdown};

    use super::*;
    use crate::ids::SlotId;

    fn told(theirs: &OwnedFd) -> (ToGateway, usize) {
        let mut buffer = vec![0; MAX_PACKET];
        let received = fdpass::receive(theirs.as_fd(), &mut buffer).unwrap();
        (serde_json::from_slice(&buffer[..received.length]).unwrap(), received.descriptors.len())
    }

    #[test]
    fn what_is_not_read_waits_and_keeps_its_order_and_its_descriptors() {
        let (mut channel, theirs) = Channel::open().unwrap();
        let slot = |number| ToGateway::SlotGone { slot: SlotId(number) };
        let mut sent = 0;
        while channel.unsent.len() < 3 {
            let (reader, _writer) = std::io::pipe().unwrap();
            channel.send(&slot(sent), &[reader.as_fd()]).unwrap();
            sent += 1;
        }
        for number in 0..sent {
            assert_eq!(told(&theirs), (slot(number), 1));
            channel.flush().unwrap();
        }
        assert!(channel.unsent.is_empty());
        // Closing is not enough: the child of a test beside this one may have it open too, for a moment.
        shutdown(theirs.as_raw_fd(), Shutdown::Both).unwrap();
        assert_eq!(channel.send(&slot(0), &[]), Err(Fault::Closed));
    }

    #[test]
    fn what_is_no_message_is_a_fault() {
        let (mut channel, theirs) = Channel::open().unwrap();
        assert!(matches!(channel.receive(), Ok(None)));
        fdpass::send(theirs.as_fd(), b"\"stopped\"", &[]).unwrap();
        assert!(matches!(channel.receive(), Ok(Some((FromGateway::Stopped, _)))));
        for packet in [&b"{"[..], b"\"unheard-of\"", b"null", b"\xff"] {
            fdpass::send(theirs.as_fd(), packet, &[]).unwrap();
            assert!(matches!(channel.receive(), Err(Fault::Nonsense(_))));
        }
        let (reader, _writer) = std::io::pipe().unwrap();
        fdpass::send(theirs.as_fd(), b"\"stopped\"", &[reader.as_fd()]).unwrap();
        assert!(matches!(channel.receive(), Err(Fault::Nonsense(_))));
        fdpass::send(theirs.as_fd(), b"\"clients\"", &[reader.as_fd(), reader.as_fd()]).unwrap();
        let Ok(Some((FromGateway::Clients, clients))) = channel.receive() else { panic!("no clients") };
        assert_eq!(clients.len(), 2);
        drop(theirs);
        assert!(matches!(channel.receive(), Err(Fault::Closed)));
    }
}
