//! The control socket and its clients on their way to a new program: whoever waits for an answer gets it from there.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net;
use std::path::PathBuf;

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry};
use serde::{Deserialize, Serialize};

use super::{Access, Client, Control, Stage};
use crate::event::token::Token;
use crate::ids::{Gid, Ticket};
use crate::os::handover::{Estate, Heirloom};
use crate::sorted::SortedMap;
use crate::wire::frame::Decoder;

/// The socket and its clients.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    listener: Heirloom,
    path: PathBuf,
    clients: Vec<WrittenClient>,
    last_client: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenClient {
    number: u64,
    stream: Heirloom,
    access: Access,
    stage: WrittenStage,
}

#[derive(Debug, Serialize, Deserialize)]
enum WrittenStage {
    Reading { bytes: Vec<u8> },
    Waiting { ticket: Ticket, unsent: Vec<u8> },
    Closing { unsent: Vec<u8> },
}

impl Control {
    /// Hands all of it over.
    pub fn bequeath<'a>(&'a self, estate: &mut Estate<'a>) -> Written {
        let clients = self.clients.iter().map(|(number, client)| WrittenClient {
            number: *number,
            stream: estate.leave(client.stream.as_fd()),
            access: client.access,
            stage: match &client.stage {
                Stage::Reading(decoder) => WrittenStage::Reading { bytes: decoder.unread().to_vec() },
                Stage::Waiting { ticket, unsent } => {
                    WrittenStage::Waiting { ticket: *ticket, unsent: unsent.clone() }
                }
                Stage::Closing { unsent } => WrittenStage::Closing { unsent: unsent.clone() },
            },
        });
        let clients = clients.collect();
        let listener = estate.leave(self.listener.as_fd());
        Written { listener, path: self.path.clone(), clients, last_client: self.last_client }
    }

    /// Takes it over and watches it.
    ///
    /// # Errors
    /// The socket was not handed over, or cannot be watched. A client to whom that happens is lost.
    pub fn claim(written: Written, group: Option<Gid>, registry: &Registry) -> io::Result<Control> {
        let listener = written.listener.claim().map_err(|error| io::Error::other(error.to_string()))?;
        let mut listener = UnixListener::from_std(net::UnixListener::from(listener));
        registry.register(&mut listener, Token::Control.encode(), Interest::READABLE)?;
        let (path, last_client) = (written.path, written.last_client);
        let mut control = Control { listener, path, group, clients: SortedMap::new(), last_client };
        for WrittenClient { number, stream, access, stage } in written.clients {
            let Ok(stream) = stream.claim() else { continue };
            let mut stream = UnixStream::from_std(net::UnixStream::from(stream));
            let interest = Interest::READABLE | Interest::WRITABLE;
            if registry.register(&mut stream, Token::Client(number).encode(), interest).is_ok() {
                control.clients.insert(number, Client { stream, access, stage: stage.into() });
            }
        }
        Ok(control)
    }

    /// The clients that owe or are owed something within a time.
    pub fn hurried(&self) -> impl Iterator<Item = u64> {
        let is_patient = |client: &Client| matches!(client.stage, Stage::Waiting { .. });
        self.clients.iter().filter(move |(_, client)| !is_patient(client)).map(|(number, _)| *number)
    }
}

impl From<WrittenStage> for Stage {
    fn from(stage: WrittenStage) -> Stage {
        match stage {
            WrittenStage::Reading { bytes } => {
                let mut decoder = Decoder::default();
                decoder.push(&bytes);
                Stage::Reading(decoder)
            }
            WrittenStage::Waiting { ticket, unsent } => Stage::Waiting { ticket, unsent },
            WrittenStage::Closing { unsent } => Stage::Closing { unsent },
        }
    }
}
