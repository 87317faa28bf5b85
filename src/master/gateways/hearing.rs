//! Hearing gateways: whose words a message is, and the next one. What they mean is `routing`'s.

use std::os::fd::OwnedFd;

use super::channel::Fault;
use super::process::Process;
use super::{Gateways, State};
use crate::ids::PoolName;
use crate::wire::gateway::FromGateway;

/// What a process is to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The gateway.
    Current,
    /// It will be.
    Successor,
    /// It was, and hands over.
    Handing,
}

/// What a gateway's process has said.
#[derive(Debug)]
pub struct Said {
    /// For which pool and as what; `None` once it speaks for none.
    pub by: Option<(PoolName, Role)>,
    /// What.
    pub message: FromGateway,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
}

impl Gateways {
    /// Sends what waits and takes the next message of the process with this number.
    pub fn next_message(&mut self, number: u64) -> Option<Said> {
        let by = self.role(number);
        let process = self.process_mut(number)?;
        let received = process.channel.flush().and_then(|()| process.channel.receive());
        match received {
            Ok(received) => {
                let (message, descriptors) = received?;
                // It runs: nobody will ask why it could not, and two descriptors for each pool are saved.
                process.report = None;
                Some(Said { by, message, descriptors })
            }
            // Its end follows.
            Err(Fault::Closed) => None,
            Err(fault) => {
                log::error!("gateway {}: {fault}; killing it", process.pid);
                process.kill();
                None
            }
        }
    }

    /// For which pool the process with this number speaks, and as what.
    fn role(&self, number: u64) -> Option<(PoolName, Role)> {
        let is_it = |process: &Process| process.number == number;
        if let Some(handing) = self.handing.get(&number) {
            return Some((handing.pool.clone(), Role::Handing));
        }
        self.pools.iter().find_map(|(pool, gateway)| {
            let current = gateway.process().is_some_and(is_it).then_some(Role::Current);
            let successor = gateway.successor.as_ref().is_some_and(is_it).then_some(Role::Successor);
            Some((pool.clone(), current.or(successor)?))
        })
    }

    /// The process with this number.
    pub(super) fn process_mut(&mut self, number: u64) -> Option<&mut Process> {
        let pools = self.pools.values_mut().flat_map(|gateway| {
            let current = match &mut gateway.state {
                State::Running(process) | State::Stopping(process) => Some(process),
                State::Resting { .. } | State::Stopped => None,
            };
            current.into_iter().chain(gateway.successor.as_mut())
        });
        let handing = self.handing.values_mut().map(|handing| &mut handing.process);
        pools.chain(handing).chain(self.leaving.values_mut()).find(|process| process.number == number)
    }
}
