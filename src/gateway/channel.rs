//! The connection to the master: packets of JSON with descriptors beside them, as `wire::gateway` has them.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::os::errno::Cause;
use crate::os::{fdpass, stream};
use crate::wire::gateway::{FromGateway, MAX_PACKET, ToGateway};

/// The connection to the master.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// What the master has for us.
#[derive(Debug)]
pub enum Incoming {
    /// An order, and what came with it.
    Order(Box<ToGateway>, Vec<OwnedFd>),
    /// Nothing at the moment.
    Nothing,
    /// The master has ended.
    End,
}

/// What became of a message to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing {
    /// It is on its way.
    Sent,
    /// There is no room for it yet; an event tells when there is.
    Waits,
    /// The system is short of something at the moment, and no event tells when it is not.
    Short,
    /// The master has ended.
    End,
}

/// A master that cannot be understood: there is nothing to live for.
#[derive(Debug)]
pub enum ChannelError {
    /// Reading or writing failed.
    System(Errno),
    /// A packet was too long.
    Cut,
    /// We may not have as many descriptors as came with an order that cannot do without.
    Short,
    /// A packet is no message.
    Malformed(serde_json::Error),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelError::System(errno) => write!(f, "cannot talk to fpmd: {}", Cause(*errno)),
            ChannelError::Cut => write!(f, "cannot talk to fpmd: a message exceeds {MAX_PACKET} bytes"),
            ChannelError::Short => f.write_str("cannot take what fpmd hands over: no descriptor is left"),
            ChannelError::Malformed(error) => write!(f, "cannot understand fpmd: {error}"),
        }
    }
}

impl std::error::Error for ChannelError {}

impl Channel {
    /// Over this socket, which becomes non-blocking.
    ///
    /// # Errors
    /// It is no descriptor.
    pub fn new(fd: OwnedFd) -> Result<Channel, ChannelError> {
        stream::make_non_blocking(fd.as_fd()).map_err(ChannelError::System)?;
        Ok(Channel { fd, buffer: vec![0; MAX_PACKET] })
    }

    /// Whether the next order has descriptors beside it.
    pub fn brings_descriptors(&self) -> bool {
        fdpass::brings_descriptors(self.fd.as_fd())
    }

    /// The next order.
    ///
    /// # Errors
    /// The master cannot be understood.
    pub fn receive(&mut self) -> Result<Incoming, ChannelError> {
        match fdpass::receive(self.fd.as_fd(), &mut self.buffer) {
            Ok(received) if received.cut => Err(ChannelError::Cut),
            Ok(received) if received.length == 0 => Ok(Incoming::End),
            Ok(received) => {
                let order = serde_json::from_slice(&self.buffer[..received.length]);
                let order: ToGateway = order.map_err(ChannelError::Malformed)?;
                // Some clients are better than none.
                if received.lacks_descriptors && order != ToGateway::Clients {
                    return Err(ChannelError::Short);
                }
                Ok(Incoming::Order(Box::new(order), received.descriptors))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Incoming::Nothing),
            Err(Errno::ECONNRESET) => Ok(Incoming::End),
            Err(errno) => Err(ChannelError::System(errno)),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The socket is of no use any more, other than by the master's end.
    pub fn send(&mut self, message: &FromGateway) -> Result<Outgoing, ChannelError> {
        self.send_with(message, &[])
    }

    /// Sends a message with descriptors beside it.
    ///
    /// # Errors
    /// As for `send`.
    pub fn send_with(
        &mut self,
        message: &FromGateway,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Outgoing, ChannelError> {
        let packet = serde_json::to_vec(message).map_err(ChannelError::Malformed)?;
        match fdpass::send(self.fd.as_fd(), &packet, descriptors) {
            Ok(()) => Ok(Outgoing::Sent),
            Err(Errno::EMSGSIZE) => {
                ::log::error!("a message of {} bytes to fpmd is lost: it is too long", packet.len());
                Ok(Outgoing::Sent)
            }
            Err(errno) => unsent(errno),
        }
    }
}

/// What becomes of a message that could not be sent for this reason.
fn unsent(errno: Errno) -> Result<Outgoing, ChannelError> {
    match errno {
        Errno::EAGAIN => Ok(Outgoing::Waits),
        Errno::EPIPE | Errno::ECONNRESET => Ok(Outgoing::End),
        errno if errno == Errno::EINTR || fdpass::is_shortage(errno) => Ok(Outgoing::Short),
        errno => Err(ChannelError::System(errno)),
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_no_reason_to_end() {
        for errno in [Errno::ENOBUFS, Errno::ENOMEM, Errno::ETOOMANYREFS] {
            assert_eq!(unsent(errno).ok(), Some(Outgoing::Short), "{errno}");
        }
        assert_eq!(unsent(Errno::EAGAIN).ok(), Some(Outgoing::Waits));
        assert_eq!(unsent(Errno::EPIPE).ok(), Some(Outgoing::End));
        assert!(unsent(Errno::EBADF).is_err());
    }

    #[test]
    fn what_has_no_room_is_not_sent_and_not_waited_for() {
        let (ours, theirs) = fdpass::pair().unwrap();
        let mut channel = Channel::new(ours).unwrap();
        let message = FromGateway::LetGo;
        let mut sent = 0;
        while channel.send(&message).unwrap() == Outgoing::Sent {
            sent += 1;
        }
        let mut buffer = [0; 64];
        for _ in 0..sent {
            assert!(fdpass::receive(theirs.as_fd(), &mut buffer).unwrap().length > 0);
        }
        assert_eq!(channel.send(&message).unwrap(), Outgoing::Sent, "once there is room again");
    }
}
