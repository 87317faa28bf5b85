//! Packets with descriptors beside them, over a SOCK_SEQPACKET pair of Unix sockets. unix(7), cmsg(3), sendmsg(2).
//! What the packets say is `wire`'s. Nothing here waits, unless the caller made its end blocking.

use std::io::{IoSlice, IoSliceMut};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::slice;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, setsockopt, socketpair,
    sockopt,
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
    /// Whether the packet was longer than there was room for.
    pub cut: bool,
    /// Whether some of its descriptors are missing: this process may not have so many, or they were too many.
    pub lacks_descriptors: bool,
}

/// Room for them beside a packet, in words.
// SAFETY: computes a length from a number.
const CONTROL: usize =
    unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * size_of::<RawFd>()) as u32) as usize } / 8 + 1;

/// What either end may have sent and the other not read, bytes, of which the kernel doubles what it is told; usual for
/// `net.core.wmem_max`, which bounds it.
const UNREAD: usize = 208 * 1024;

/// A connected pair, close-on-exec, blocking. A packet may be as long as one of ours can be, however little
/// `net.core.wmem_default` is.
///
/// # Errors
/// No descriptor is left.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    for end in [&pair.0, &pair.1] {
        setsockopt(end, sockopt::SndBuf, &UNREAD)?;
    }
    Ok(pair)
}

/// Whether a packet that could not be sent for this reason may be sent later though no event tells when: the kernel is short of
/// memory, or (unix(7)) our user has too many descriptors on their way already, those of other processes included.
pub fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::ENOBUFS | Errno::ENOMEM | Errno::ETOOMANYREFS)
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

/// Whether the next packet has descriptors beside it; it stays where it is. False where there is none yet.
pub fn brings_descriptors(socket: BorrowedFd<'_>) -> bool {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    // Without room for them none is made, and the kernel says that there would have been some.
    let seen = recvmsg::<()>(socket.as_raw_fd(), &mut parts, None, flags);
    seen.is_ok_and(|message| message.flags.contains(MsgFlags::MSG_CTRUNC))
}

/// Receives the next packet into `buffer`. Where this process may not have all of its descriptors, it gets as many as it may.
///
/// # Errors
/// `EAGAIN` where a non-blocking socket has none, `ECONNRESET` where the peer left without reading all of ours.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut control = [0u64; CONTROL];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all bytes zero are a valid msghdr: it holds numbers, and pointers that may be null.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // Not by nix, which gives back no descriptor of a packet that lacks one, so that those that came stay open for ever.
    // SAFETY: everything that `message` points to is live and as long as it says.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let length = Errno::result(length)?;
    Ok(Received {
        length: usize::try_from(length).unwrap_or(0),
        descriptors: descriptors(&message),
        cut: message.msg_flags & libc::MSG_TRUNC != 0,
        lacks_descriptors: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// The descriptors beside a packet that the kernel has just written to `message`. To be called once.
fn descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut owned = Vec::new();
    // SAFETY: the kernel has set the control part's length, and has written headers up to there.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: it points to a header inside the control part, or is null.
    while let Some(header) = unsafe { next.as_ref() } {
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: computes a length from a number.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            #[allow(clippy::unnecessary_cast, reason = "its type is the C library's choice")]
            let length = (header.cmsg_len as usize).saturating_sub(head);
            // SAFETY: computes where the content of this header begins.
            let content = unsafe { libc::CMSG_DATA(next) };
            // SAFETY: the content is so long, and nobody writes to it.
            let content = unsafe { slice::from_raw_parts(content, length) };
            for raw in content.as_chunks().0 {
                // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
                owned.push(unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(*raw)) });
            }
        }
        // SAFETY: as for the first one.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    owned
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
    fn the_longest_packet_is_taken() {
        use crate::wire::gateway::MAX_PACKET;
        let (ours, theirs) = pair().unwrap();
        send(ours.as_fd(), &vec![b'x'; MAX_PACKET], &[]).unwrap();
        assert_eq!(receive(theirs.as_fd(), &mut vec![0; MAX_PACKET]).unwrap().length, MAX_PACKET);
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

    #[test]
    fn it_is_known_beforehand_whether_a_packet_brings_descriptors() {
        let (ours, theirs) = pair().unwrap();
        assert!(!brings_descriptors(theirs.as_fd()), "nothing has come");
        send(ours.as_fd(), b"one", &[]).unwrap();
        send(ours.as_fd(), b"second", &[ours.as_fd(), theirs.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        for (expected, length) in [(0, 3), (2, 6)] {
            assert_eq!(brings_descriptors(theirs.as_fd()), expected > 0);
            let received = receive(theirs.as_fd(), &mut buffer).unwrap();
            assert_eq!((received.length, received.descriptors.len()), (length, expected));
            assert!(!received.cut && !received.lacks_descriptors);
        }
    }
}
