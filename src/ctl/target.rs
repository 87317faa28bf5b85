//! Where `fpmctl request` sends to: an address as it is, a pool by the sockets that the running fpmd names.

use std::path::Path;

use super::answer::{Answer, Look};
use super::{QUICK, converse, unanswered};
use crate::cli::exit::Ctl;
use crate::cli::request::{Endpoint, Target};
use crate::ids::PoolName;
use crate::status::snapshot::Snapshot;
use crate::wire::control::{Command, Reply};

/// The socket to connect to; asks fpmd only for a pool.
///
/// # Errors
/// The answer that says why there is none.
pub fn endpoint(target: &Target, control_socket: &Path, look: Look) -> Result<Endpoint, Answer> {
    let pool = match target {
        Target::Endpoint(endpoint) => return Ok(endpoint.clone()),
        Target::Pool(pool) => pool,
    };
    match converse(control_socket, Command::Status { pool: Some(pool.clone()) }, QUICK) {
        Ok(Reply::Status(snapshot)) => {
            first(&snapshot, pool).map_err(|reason| Answer::failed(Ctl::Refused, &reason, look))
        }
        Ok(other) => Err(Answer::of_reply(other, look)),
        Err(failure) => Err(unanswered(&failure, look)),
    }
}

fn first(snapshot: &Snapshot, pool: &PoolName) -> Result<Endpoint, String> {
    let listeners = snapshot.pools.iter().filter(|one| one.name == *pool).flat_map(|one| &one.listeners);
    let mut reasons = Vec::new();
    for listener in listeners {
        match Endpoint::parse(&listener.address) {
            Ok(endpoint) => return Ok(endpoint.clone()),
            Err(reason) => reasons.push(reason),
        }
    }
    let reason = reasons.pop().unwrap_or_else(|| "it has no open socket".into());
    Err(format!("cannot send to pool {pool}: {reason}"))
}
