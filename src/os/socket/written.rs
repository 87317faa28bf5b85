//! A listening socket on its way to the successor of this process: see `os::handover`.

use std::os::fd::AsFd;

use serde::{Deserialize, Serialize};

use super::unix::OwnedPath;
use super::{Error, Listener, local_name};
use crate::config::model::ListenAddress;
use crate::os::handover::{Estate, Heirloom};

/// What has to be known of a socket besides its descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub struct WrittenListener {
    fd: Heirloom,
    address: ListenAddress,
    path: Option<OwnedPath>,
}

impl Listener {
    /// Hands the socket over; its flags stay what they are.
    pub fn bequeath<'a>(&'a self, estate: &mut Estate<'a>) -> WrittenListener {
        let fd = estate.leave(self.fd.as_fd());
        WrittenListener { fd, address: self.address.clone(), path: self.path.clone() }
    }

    /// Takes it over.
    ///
    /// # Errors
    /// It was not handed over.
    pub fn claim(written: WrittenListener) -> Result<Listener, Error> {
        let WrittenListener { fd, address, path } = written;
        let fd = fd.claim()?;
        Ok(Listener { name: local_name(fd.as_fd()), fd, address, path })
    }
}
