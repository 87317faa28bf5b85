//! Workers and their output on their way to a new program. Workers whose start is not over stay behind: the caller waits.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;

use mio::Registry;
use serde::{Deserialize, Serialize};

use super::{Output, Worker, Workers};
use crate::event;
use crate::event::token::Token;
use crate::ids::{Pid, PoolName, WorkerId};
use crate::log::capture::Capture;
use crate::master::seats::Seat;
use crate::os::activity::Trail;
use crate::os::errno;
use crate::os::handover::{Estate, Heirloom};
use crate::os::socket::Error;
use crate::sorted::SortedMap;

/// Every worker and every open output pipe.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written<C = Capture> {
    alive: Vec<WrittenWorker>,
    outputs: Vec<WrittenOutput<C>>,
    former: SortedMap<PoolName, VecDeque<Pid>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenWorker {
    id: WorkerId,
    pool: PoolName,
    seat: Seat,
    pid: Pid,
    trail: Trail,
    last_words: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenOutput<C> {
    token: Token,
    pipe: Heirloom,
    capture: C,
}

impl Workers {
    /// Whether a worker is between its fork and its program: what it reports then only this program understands.
    pub fn is_any_starting(&self) -> bool {
        self.alive.values().any(|worker| worker.report.is_some())
    }

    /// Hands all of them over.
    pub fn bequeath<'a>(&'a self, estate: &mut Estate<'a>) -> Written<&'a Capture> {
        let alive = self.alive.iter().map(|(id, worker)| WrittenWorker {
            id: *id,
            pool: worker.pool.clone(),
            seat: worker.seat,
            pid: worker.pid,
            trail: worker.trail,
            last_words: worker.last_words.clone(),
        });
        let outputs = self.outputs.iter().map(|(token, output)| WrittenOutput {
            token: *token,
            pipe: estate.leave(output.pipe.as_fd()),
            capture: &output.capture,
        });
        Written { alive: alive.collect(), outputs: outputs.collect(), former: self.former.clone() }
    }

    /// Takes them over and watches their output.
    ///
    /// # Errors
    /// A pipe was not handed over.
    pub fn claim(written: Written, registry: &Registry) -> Result<Workers, Error> {
        let mut workers = Workers { former: written.former, ..Workers::default() };
        for WrittenWorker { id, pool, seat, pid, trail, last_words } in written.alive {
            workers.insert(id, Worker { pool, seat, pid, report: None, trail, last_words });
        }
        let mut outputs = HashMap::new();
        for WrittenOutput { token, pipe, capture } in written.outputs {
            let pipe = pipe.claim()?;
            match event::watch(registry, pipe.as_fd(), token) {
                Ok(()) => drop(outputs.insert(token, Output { pipe, capture })),
                Err(error) => {
                    log::warn!("cannot watch the output of a worker any more: {}", errno::said(&error))
                }
            }
        }
        workers.outputs = outputs;
        Ok(workers)
    }
}
