//! The frame of netlink(7) messages and attributes: pure, bounds-checked, without allocation. What they mean is the
//! caller's business.

/// `NLMSG_ERROR`: an errno, 0 for an acknowledgement.
pub(super) const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub(super) const DONE: u16 = 3;
/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The messages of one datagram; ends at the first one that claims more than there is.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = u32_at(self.0, 0)? as usize;
        let payload = self.0.get(HEADER..length)?;
        let message = Message { kind: u16_at(self.0, 4)?, sequence: u32_at(self.0, 8)?, payload };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes behind a message's fixed part: type and value.
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let value = self.0.get(4..length)?;
        let kind = u16_at(self.0, 2)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A whole message: header and `payload`.
pub(super) fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = (HEADER + payload.len()) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(payload);
    bytes
}

/// A number in the machine's byte order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A number in the machine's byte order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Messages and attributes begin at multiples of 4.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_read_as_written() {
        let mut bytes = message(7, 0, 1, b"abc");
        bytes.push(0);
        bytes.extend(message(DONE, 0, 2, b""));
        let read: Vec<Message> = Messages(&bytes).collect();
        let first = Message { kind: 7, sequence: 1, payload: b"abc" };
        assert_eq!(read, [first, Message { kind: DONE, sequence: 2, payload: b"" }]);
    }

    #[test]
    fn attributes_are_padded_to_four() {
        let bytes = [5, 0, 1, 0, b'x', 0, 0, 0, 8, 0, 4, 0, 1, 2, 3, 4];
        let read: Vec<_> = Attributes(&bytes).collect();
        assert_eq!(read, [(1, &b"x"[..]), (4, &[1, 2, 3, 4][..])]);
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_twice_or_beyond_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(Messages(&bytes).map(|message| message.payload.len()).sum::<usize>() <= bytes.len());
            prop_assert!(Attributes(&bytes).map(|(_, value)| value.len()).sum::<usize>() <= bytes.len());
        }
    }
}
