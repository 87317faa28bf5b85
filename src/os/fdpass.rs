//! Packets with descriptors beside them, over a SOCK_SEQPACKET pair of Unix sockets. unix(7), cmsg(3), sendmsg(2).
//! What the packets say is `wire`'s. Nothing here waits, unless the caller made its end blocking.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

/// The most descriptors beside one packet: SCM_MAX_FD of the kernel.
pub const MAX_DESCRIPTORS: usize = 253;

/// One packet and what came beside it.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the packet; 0 is the end of the peer.
    pub length: usize,
    /// Its descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// Whether the packet, or its descriptors, were longer than there was room for.
    pub cut: bool,
}

/// A connected pair, close-on-exec, blocking.
///
/// # Errors
/// No descriptor is left.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends one packet whole, or not at all.
///
/// # Errors
/// `EAGAIN` while the peer does not read, `EMSGSIZE` for a packet beyond the send buffer, `EPIPE` after its end.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None).map(|_| ())
}

/// Receives the next packet into `buffer`.
///
/// # Errors
/// `EAGAIN` where a non-blocking socket has none, `ECONNRESET` where the peer left without reading all of ours.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut space = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows their numbers.
            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let cut = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
    Ok(Received { length: message.bytes, descriptors, cut })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn packets_keep_their_bounds_and_carry_descriptors() {
        let (ours, theirs) = pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(ours.as_fd(), b"one", &[writer.as_fd()]).unwrap();
        send(ours.as_fd(), b"second", &[]).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let first = receive(theirs.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..first.length], first.cut), (&b"one"[..], false));
        let fd = first.descriptors.into_iter().next().unwrap();
        std::fs::File::from(fd).write_all(b"x").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        assert_eq!(receive(theirs.as_fd(), &mut buffer).unwrap().length, 6);
        drop(ours);
        assert_eq!(receive(theirs.as_fd(), &mut buffer).unwrap().length, 0);
    }

    #[test]
    fn a_packet_that_is_too_long_is_known_as_cut() {
        let (ours, theirs) = pair().unwrap();
        send(ours.as_fd(), b"longer than four", &[]).unwrap();
        let received = receive(theirs.as_fd(), &mut [0; 4]).unwrap();
        assert!(received.cut);
        drop(theirs);
        assert_eq!(send(ours.as_fd(), b"x", &[]), Err(Errno::EPIPE));
    }
}
