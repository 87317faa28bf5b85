//! Descriptors held back from clients: without them, clients that wait for a worker could take all there are, and none would
//! be left for the connection to a worker, which ends their wait, nor for what the master hands over. EMFILE and ENFILE of
//! accept(2) and socket(2).

use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;

/// So many workers can be reached at once, however many clients there are.
const SIZE: usize = 8;

/// Two new log files, opened and duplicated.
const LOGS: usize = 4;

/// Descriptors that mean nothing but their numbers.
#[derive(Debug, Default)]
pub struct Reserve(Vec<UnixDatagram>);

impl Reserve {
    /// Takes back what was given away; enough to hand over this many listening sockets, too.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE`: there are not enough for it, and so none for clients.
    pub fn fill(&mut self, listeners: usize) -> Result<(), Errno> {
        while self.0.len() < SIZE.max(listeners + LOGS) {
            match UnixDatagram::unbound() {
                Ok(placeholder) => self.0.push(placeholder),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(errno @ (Errno::EMFILE | Errno::ENFILE)) => return Err(errno),
                    // A system that lets us have no such socket is served without a reserve.
                    _ => return Ok(()),
                },
            }
        }
        Ok(())
    }

    /// Frees a descriptor for something that others wait for; false if none is left.
    pub fn release(&mut self) -> bool {
        self.0.pop().is_some()
    }

    /// Frees all of them.
    pub fn release_all(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_released_can_be_taken_back() {
        let mut reserve = Reserve::default();
        assert!(!reserve.release());
        reserve.fill(0).unwrap();
        assert_eq!((0..20).filter(|_| reserve.release()).count(), SIZE);
        reserve.fill(1).unwrap();
        assert_eq!(reserve.0.len(), SIZE);
        reserve.fill(20).unwrap();
        assert_eq!(reserve.0.len(), 20 + LOGS);
        reserve.release_all();
        assert!(!reserve.release());
    }
}
