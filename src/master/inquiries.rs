//! Status questions that gateways have to be asked about: the client waits until each has answered, and not longer than a
//! stuck one deserves. What is not known by then is shown as unknown.

use std::time::Duration;

use super::Master;
use super::run::Timer;
use crate::ids::{PoolName, Ticket};
use crate::os::clock;
use crate::sorted::{SortedMap, SortedSet};
use crate::wire::control::Reply;
use crate::wire::gateway::{Report, ToGateway, WorkerReport};

/// How long a gateway may take to answer. One that works does so within a turn of its loop.
const PATIENCE: Duration = Duration::from_millis(500);

/// What gateways have reported, by pool.
pub type Reports = SortedMap<PoolName, Report>;

/// Every question that is not answered yet.
#[derive(Debug, Default)]
pub struct Inquiries {
    open: SortedMap<u64, Inquiry>,
    last: u64,
}

#[derive(Debug)]
struct Inquiry {
    client: u64,
    /// `None` is every pool.
    pool: Option<PoolName>,
    /// Gateways, by the numbers of their processes.
    missing: SortedSet<u64>,
    /// Workers of reports that are not complete yet.
    parts: SortedMap<u64, Vec<WorkerReport>>,
    reports: Reports,
}

impl Inquiries {
    /// Whether a client waits for an answer.
    pub fn is_any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Notes a question; its number.
    fn open(&mut self, client: u64, pool: Option<PoolName>, missing: SortedSet<u64>) -> u64 {
        self.last += 1;
        self.open.insert(
            self.last,
            Inquiry { client, pool, missing, parts: SortedMap::new(), reports: Reports::new() },
        );
        self.last
    }

    /// The first part of an answer.
    pub fn note_workers(&mut self, number: u64, gateway: u64, workers: Vec<WorkerReport>) {
        if let Some(inquiry) = self.open.get_mut(&number).filter(|inquiry| inquiry.missing.contains(&gateway))
        {
            inquiry.parts.or_default(gateway).extend(workers);
        }
    }

    /// A gateway has answered; true if it was the last that was waited for. An answer that comes too late is none.
    fn answer(&mut self, number: u64, (gateway, pool): (u64, &PoolName), mut report: Report) -> bool {
        let Some(inquiry) = self.open.get_mut(&number) else { return false };
        if inquiry.missing.remove(&gateway) {
            report.workers.splice(..0, inquiry.parts.remove(&gateway).unwrap_or_default());
            // During an upgrade a pool has two.
            inquiry.reports.or_default(pool.clone()).add(report);
        }
        inquiry.missing.is_empty()
    }

    /// A gateway has ended and answers nobody any more: the questions that were only waiting for it.
    fn give_up(&mut self, gateway: u64) -> Vec<u64> {
        let mut complete = Vec::new();
        for (number, inquiry) in &mut self.open {
            if inquiry.missing.remove(&gateway) && inquiry.missing.is_empty() {
                complete.push(*number);
            }
        }
        complete
    }
}

impl Master {
    /// Answers a client that asks for the status of a pool or of all, after their gateways have been asked.
    pub(super) fn inquire(&mut self, client: u64, pool: Option<PoolName>, ticket: Ticket) {
        let served = self.gateways.served();
        let wanted = served.iter().filter(|name| pool.as_ref().is_none_or(|pool| pool == *name));
        let asked: Vec<(PoolName, u64)> = wanted
            .flat_map(|name| self.gateways.witnesses(name).into_iter().map(|number| (name.clone(), number)))
            .collect();
        if asked.is_empty() {
            let snapshot = self.snapshot(pool.as_ref(), &Reports::new());
            return self.reply(client, &Reply::Status(Box::new(snapshot)));
        }
        self.control.wait(client, ticket);
        self.set_client_timer(client, None);
        let missing = asked.iter().map(|(_, gateway)| *gateway).collect();
        let number = self.inquiries.open(client, pool, missing);
        self.timers.set(Timer::Inquiry(number), Some(clock::monotonic().after(PATIENCE)));
        for (name, gateway) in &asked {
            self.gateways.tell_process(name, *gateway, &ToGateway::Ask { number });
        }
    }

    /// A gateway has answered.
    pub(super) fn on_gateway_report(&mut self, number: u64, by: (u64, &PoolName), report: Report) {
        if self.inquiries.answer(number, by, report) {
            self.conclude(number);
        }
    }

    /// A gateway is gone.
    pub(super) fn ask_no_more(&mut self, gateway: u64) {
        for number in self.inquiries.give_up(gateway) {
            self.conclude(number);
        }
    }

    /// Tells the client what is known by now.
    pub(super) fn conclude(&mut self, number: u64) {
        self.timers.set(Timer::Inquiry(number), None);
        let Some(inquiry) = self.inquiries.open.remove(&number) else { return };
        let snapshot = self.snapshot(inquiry.pool.as_ref(), &inquiry.reports);
        self.reply(inquiry.client, &Reply::Status(Box::new(snapshot)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Pid, SlotId, WorkerId};

    fn name(text: &str) -> PoolName {
        PoolName::new(text).unwrap()
    }

    #[test]
    fn a_question_is_answered_when_the_last_gateway_has_spoken() {
        let mut inquiries = Inquiries::default();
        let number = inquiries.open(7, None, SortedSet::from([1, 2]));
        assert!(!inquiries.answer(number, (1, &name("a")), Report::default()));
        assert!(!inquiries.answer(number + 1, (2, &name("b")), Report::default()));
        assert!(inquiries.answer(number, (2, &name("b")), Report { accepted: 9, ..Report::default() }));
        assert_eq!(inquiries.open[&number].reports[&name("b")].accepted, 9);
    }

    #[test]
    fn a_pool_with_two_gateways_shows_the_sum_of_both() {
        let mut inquiries = Inquiries::default();
        let number = inquiries.open(7, None, SortedSet::from([1, 2]));
        let report = |accepted| Report { accepted, ..Report::default() };
        assert!(!inquiries.answer(number, (1, &name("a")), report(3)));
        assert!(inquiries.answer(number, (2, &name("a")), report(4)));
        assert_eq!(inquiries.open[&number].reports[&name("a")].accepted, 7);
    }

    #[test]
    fn a_long_answer_comes_in_parts() {
        let mut inquiries = Inquiries::default();
        let number = inquiries.open(7, None, SortedSet::from([1]));
        let worker = |slot| WorkerReport {
            slot: SlotId(slot),
            worker: WorkerId(1),
            pid: Pid::new(1).unwrap(),
            state: "Idle".into(),
            requests: 0,
            current: 0,
        };
        inquiries.note_workers(number, 1, vec![worker(0), worker(1)]);
        inquiries.note_workers(number, 9, vec![worker(9)]);
        inquiries.note_workers(number, 1, vec![worker(2)]);
        assert!(inquiries.answer(
            number,
            (1, &name("a")),
            Report { workers: vec![worker(3)], ..Report::default() }
        ));
        let slots = inquiries.open[&number].reports[&name("a")].workers.iter().map(|worker| worker.slot.0);
        assert_eq!(slots.collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_gateway_that_has_ended_is_not_waited_for() {
        let mut inquiries = Inquiries::default();
        let both = inquiries.open(7, None, SortedSet::from([1, 2]));
        let one = inquiries.open(8, Some(name("a")), SortedSet::from([1]));
        assert_eq!(inquiries.give_up(1), [one]);
        assert_eq!(inquiries.give_up(2), [both]);
        assert_eq!(inquiries.give_up(2), Vec::<u64>::new());
    }
}
