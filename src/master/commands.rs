//! What a control command means: an answer at once, or an event for the supervisor and a ticket to answer later.

use super::Master;
use super::control::Access;
use super::inquiries::Reports;
use crate::config::nearest;
use crate::ids::{Pid, PoolName, Ticket};
use crate::os::clock;
use crate::status::snapshot::{PoolSnapshot, Snapshot};
use crate::supervise::event::{Event, PoolCommand, WorkerCommand};
use crate::wire::control::{Command, Reply, Request};

/// What to do about a command.
enum Verdict {
    /// This is the final reply.
    Now(Reply),
    /// The supervisor answers by the ticket.
    Later(Event),
    /// Our successor answers, or we do.
    Upgrade,
    /// Gateways have to be asked for the status of this pool, or of all.
    Ask(Option<PoolName>),
}

impl Master {
    /// Carries out a client's request.
    pub(super) fn obey(&mut self, client: u64, request: Request, access: Access) {
        if access != Access::Full && !request.command.is_read_only() {
            let refusal = "permission denied: only root and fpmd's own user may do that";
            self.reply(client, &Reply::Refused(refusal.to_owned()));
            return;
        }
        let ticket = self.next_ticket();
        match self.judge(request.command, ticket) {
            Verdict::Now(reply) => self.reply(client, &reply),
            Verdict::Ask(pool) => self.inquire(client, pool, ticket),
            Verdict::Upgrade => {
                self.control.wait(client, ticket);
                self.set_client_timer(client, None);
                self.begin_upgrade(ticket);
            }
            Verdict::Later(event) => {
                // First the stage, then the event: its answer may come at once.
                self.control.wait(client, ticket);
                self.set_client_timer(client, None);
                self.supervisor.handle(clock::monotonic(), event);
            }
        }
    }

    fn judge(&mut self, command: Command, ticket: Ticket) -> Verdict {
        let named = match &command {
            Command::Status { pool } | Command::Health { pool } | Command::Stop { pool } => {
                pool.iter().cloned().collect()
            }
            Command::Start { pool } | Command::Restart { pool } | Command::Scale { pool, .. } => {
                vec![pool.clone()]
            }
            // The new configuration decides which names a reload knows.
            Command::Reload { .. }
            | Command::Dump
            | Command::Drain { .. }
            | Command::Kill { .. }
            | Command::Reopen
            | Command::Upgrade => Vec::new(),
        };
        if let Some(refusal) = named.iter().find_map(|pool| self.refuse_unknown(pool)) {
            return Verdict::Now(Reply::Refused(refusal));
        }
        let about_pool = |pool, command| Verdict::Later(Event::Pool { pool, command, ticket: Some(ticket) });
        match command {
            Command::Status { pool } => Verdict::Ask(pool),
            Command::Health { pool } => Verdict::Now(health(&self.snapshot(pool.as_ref(), &Reports::new()))),
            Command::Dump => Verdict::Now(Reply::Done(self.dump())),
            Command::Reload { pools, extent } => match self.reload(&pools, extent, Some(ticket)) {
                Ok(event) => Verdict::Later(event),
                Err(refusal) => Verdict::Now(Reply::Refused(refusal)),
            },
            Command::Start { pool } => about_pool(pool, PoolCommand::Start),
            Command::Stop { pool: Some(pool) } => about_pool(pool, PoolCommand::Stop),
            Command::Stop { pool: None } => {
                self.tell_stop();
                Verdict::Later(Event::Stop { ticket: Some(ticket) })
            }
            Command::Restart { pool } => {
                self.catch_up();
                about_pool(pool, PoolCommand::Restart)
            }
            Command::Scale { pool, workers } => about_pool(pool, PoolCommand::Scale(workers)),
            Command::Drain { pid } => self.about_worker(pid, WorkerCommand::Drain, ticket),
            Command::Kill { pid } => self.about_worker(pid, WorkerCommand::Kill, ticket),
            Command::Upgrade => Verdict::Upgrade,
            Command::Reopen => Verdict::Now(match self.reopen_logs() {
                Ok(()) => Reply::Done(String::new()),
                Err(refusal) => Reply::Refused(refusal),
            }),
        }
    }

    fn about_worker(&self, pid: Pid, command: WorkerCommand, ticket: Ticket) -> Verdict {
        match self.supervisor.worker_by_pid(pid) {
            Some(worker) => Verdict::Later(Event::Worker { worker, command, ticket: Some(ticket) }),
            None => {
                let refusal = format!("no worker has pid {pid}; `fpmctl status --full` lists them");
                Verdict::Now(Reply::Refused(refusal))
            }
        }
    }

    fn refuse_unknown(&self, pool: &PoolName) -> Option<String> {
        let views: Vec<_> = self.supervisor.pools().collect();
        let mut names = views.iter().map(|view| view.name.as_str());
        if names.any(|name| name == pool.as_str()) {
            return None;
        }
        Some(unknown(pool, views.iter().map(|view| view.name.as_str())))
    }
}

/// So many pools are named by a sentence; more are for `fpmctl list`.
const NAMED: usize = 16;

/// Says that there is no such pool, and which there are.
pub(super) fn unknown<'a>(pool: &PoolName, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let known = match names.len() {
        0 => "pools: there is none".to_owned(),
        1..=NAMED => format!("pools: {}", names.join(", ")),
        count => {
            let near = nearest(pool.as_str(), names).map(|near| format!("did you mean '{near}'? "));
            format!("{}`fpmctl list` names all {count}", near.unwrap_or_default())
        }
    };
    format!("no pool is named '{pool}'; {known}")
}

/// Healthy is: every pool that was asked for runs and has a worker, or needs none before a request comes.
fn health(snapshot: &Snapshot) -> Reply {
    let is_well = |state: &str| matches!(state, "running" | "reloading");
    let may_be_empty = |pool: &PoolSnapshot| pool.process_manager == "ondemand";
    let complaints: Vec<String> = snapshot
        .pools
        .iter()
        .filter(|pool| !is_well(&pool.state) || (pool.total_processes == 0 && !may_be_empty(pool)))
        .map(|pool| {
            let reason = pool.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("pool {} is {} with {} workers{reason}", pool.name, pool.state, pool.total_processes)
        })
        .collect();
    if complaints.is_empty() {
        let workers: u32 = snapshot.pools.iter().map(|pool| pool.total_processes).sum();
        Reply::Done(format!("healthy: pools {}, workers {workers}", snapshot.pools.len()))
    } else {
        Reply::Refused(complaints.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_pools_are_named_and_many_are_counted() {
        let pool = |name: &str| PoolName::new(name).unwrap();
        assert_eq!(unknown(&pool("x"), [].into_iter()), "no pool is named 'x'; pools: there is none");
        assert_eq!(unknown(&pool("x"), ["www", "api"].into_iter()), "no pool is named 'x'; pools: www, api");
        let many: Vec<String> = (100..500).map(|number| format!("site{number}")).collect();
        let of = |name: &str| unknown(&pool(name), many.iter().map(String::as_str));
        assert_eq!(
            of("site1234"),
            "no pool is named 'site1234'; did you mean 'site123'? `fpmctl list` names all 400"
        );
        assert_eq!(of("www"), "no pool is named 'www'; `fpmctl list` names all 400");
    }
}
