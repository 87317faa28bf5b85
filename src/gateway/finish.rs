//! The end of a request: the one place where it is counted, written down and forgotten; our own answers to it; and what
//! becomes of it when its client leaves.

use super::answer::{self, Answer};
use super::core::Gateway;
use super::finished::{Finished, Outcome, Peer, Usage};
use super::output::{MOST_FILED, NO_FILE};
use super::request::{Request, Stage};
use super::slab::Key;
use crate::fcgi::body::ProtocolStatus;
use crate::fcgi::encode;
use crate::os::clock::WallTime;
use crate::os::procfs::{self, CpuTimes};

impl Gateway {
    /// Answers a request ourselves.
    pub(super) fn answer(&mut self, at: Key, answer: Answer, outcome: Outcome) {
        let Some(request) = self.requests.get(at) else { return };
        let (client, id) = (request.client, request.id);
        self.let_finish(at);
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        // Why a worker has failed is most likely there.
        if let Some(request) = self.requests.get_mut(at) {
            request.answer.tell_errors(&mut message);
        }
        answer.encode(&mut message, id);
        self.close_answer(at, &message, MOST_FILED, outcome, answer.status());
        self.message = message;
        self.settle(client);
    }

    /// Answers the next request for one of the pool's own pages: one in each round, as a page takes far longer than anything
    /// else here, and nobody else waits for whoever asks for many.
    pub(super) fn answer_next_page(&mut self) {
        while let Some(at) = self.pages.pop_front() {
            // Or its client has left.
            if self.requests.get(at).is_some_and(|request| request.stage == Stage::Paged) {
                return self.answer_page(at);
            }
        }
    }

    fn answer_page(&mut self, at: Key) {
        let report = self.report();
        let view = self.view(&report);
        let Some(request) = self.requests.get(at) else { return };
        let (client, id) = (request.client, request.id);
        let mut page = Vec::new();
        self.seams.pages.page(&request.params, &view, &mut page);
        drop(view);
        let status = super::head::summary(&page).map_or(200, |head| head.status);
        let mut message = Vec::with_capacity(page.len() + 64);
        answer::page_of(&mut message, id, &page);
        self.let_finish(at);
        self.close_answer(at, &message, NO_FILE, Outcome::Page, status);
        self.settle(client);
    }

    /// Sends the whole of an answer of ours, and ends the request. If the client has gone, the request ends as aborted.
    fn close_answer(&mut self, at: Key, records: &[u8], most_filed: u64, outcome: Outcome, status: u16) {
        let Some(request) = self.requests.get_mut(at) else { return };
        request.stage = Stage::Answered;
        let client = request.client;
        self.emit_within(client, records, most_filed);
        self.end_request(at, outcome, status);
    }

    /// Tells a client that its request has failed: by an answer, or, if that has begun, by cutting it off so that nobody
    /// takes it for complete.
    pub(super) fn give_up(&mut self, at: Key, answer: Answer, outcome: Outcome) {
        let Some(request) = self.requests.get_mut(at) else { return };
        if !request.answer.begun {
            return self.answer(at, answer, outcome);
        }
        request.stage = Stage::Answered;
        let (client, id, status) = (request.client, request.id, request.answer.status());
        let alone = self.clients.get(client).is_none_or(|client| client.active.len() == 1);
        if alone {
            self.end_request(at, outcome, status);
            return self.cut_off(client);
        }
        let mut message = Vec::new();
        encode::end_request(&mut message, id, 1, ProtocolStatus::RequestComplete);
        self.close_answer(at, &message, MOST_FILED, outcome, status);
        self.settle(client);
    }

    /// Closes a connection whose only answer was cut, once what there is of it is sent.
    fn cut_off(&mut self, key: Key) {
        if let Some(client) = self.clients.get_mut(key) {
            client.ending = super::client::Ending::Ours;
        }
        self.settle(key);
    }

    /// Nobody waits for a request any more.
    pub(super) fn cancel(&mut self, at: Key) {
        let Some(request) = self.requests.get_mut(at) else { return };
        let since = request.dispatched.unwrap_or(self.now);
        let status = request.answer.status();
        match std::mem::replace(&mut request.stage, Stage::Answered) {
            Stage::Params => return self.forget(at),
            Stage::Body | Stage::Paged | Stage::Answered => {}
            Stage::Queued => {
                let requests = &self.requests;
                self.queue.left(|key| Gateway::waits(requests, key));
            }
            Stage::Running(upstream) => self.leave_to_worker(upstream, since),
        }
        self.end_request(at, Outcome::Aborted, status);
    }

    /// What never became a request.
    fn forget(&mut self, at: Key) {
        if let Some(request) = self.requests.remove(at) {
            self.unlink(at, &request);
            self.reuse_request(request);
        }
    }

    fn unlink(&mut self, at: Key, request: &Request) {
        if let Some(client) = self.clients.get_mut(request.client) {
            client.active.remove(at);
        }
        // It may have had to wait for this one, and may have others.
        self.resume_client(request.client);
    }

    /// The request is over.
    pub(super) fn end_request(&mut self, at: Key, outcome: Outcome, status: u16) {
        let Some(request) = self.requests.remove(at) else { return };
        let peer = self.clients.get(request.client).map_or(self.lost_peer, |client| client.peer);
        self.unlink(at, &request);
        self.count(outcome, status);
        self.observe(&request);
        let usage = usage(&request, self.seams.journal.wants().usage);
        self.write_down(&request, peer, (outcome, status), usage);
        self.remember(&request, usage.map(|usage| usage.cpu));
        self.reuse_request(request);
    }

    fn count(&mut self, outcome: Outcome, status: u16) {
        let counters = &mut self.counters;
        counters.server_errors += u64::from(status >= 500);
        match outcome {
            Outcome::Answered => counters.answered += 1,
            Outcome::Page | Outcome::Rejected => {}
            Outcome::TimedOut => counters.timed_out += 1,
            Outcome::Aborted => counters.aborted += 1,
            Outcome::Broken => counters.broken += 1,
            Outcome::RefusedFull => counters.refused_full += 1,
            Outcome::RefusedLate => counters.refused_late += 1,
        }
    }

    /// How long it took, if a worker had it.
    fn observe(&mut self, request: &Request) {
        let (Some(ready), Some(dispatched)) = (request.ready, request.dispatched) else { return };
        self.counters.queue_wait.observe(dispatched.since(ready));
        self.counters.duration.observe(self.now.since(dispatched));
    }

    fn write_down(
        &mut self,
        request: &Request,
        peer: Peer,
        (outcome, status): (Outcome, u16),
        usage: Option<Usage>,
    ) {
        let end: WallTime = self.wall;
        self.seams.journal.finished(&Finished {
            params: &request.params,
            peer,
            outcome,
            status,
            head: request.answer.head(),
            start: request.start,
            arrived: request.arrived,
            ready: request.ready,
            dispatched: request.dispatched,
            end,
            ended: self.now,
            bytes_in: request.bytes_in(),
            bytes_out: request.answer.body(),
            worker: request.worker,
            attempts: request.attempts,
            usage,
        });
    }

    /// For the status page: the last request of its worker.
    fn remember(&mut self, request: &Request, cpu: Option<CpuTimes>) {
        let (Some(name), Some(since)) = (request.worker, request.dispatched) else { return };
        let slot = self.places.get(&name.slot).and_then(|key| self.slots.get_mut(*key));
        let worker = slot.and_then(|slot| slot.worker.as_mut());
        if let Some(worker) = worker.filter(|worker| worker.name.worker == name.worker) {
            worker.last.keep(request, self.now.since(since), cpu);
        }
    }
}

fn usage(request: &Request, wanted: bool) -> Option<Usage> {
    let pid = request.worker.filter(|_| wanted)?.pid;
    let cpu = procfs::stat(pid).ok()?.times().since(&request.cpu_before?);
    Some(Usage { cpu, memory: procfs::memory(pid).ok()??.peak })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use crate::gateway::testing::{Rig, get, settings};
    use crate::wire::gateway::Settings;

    #[test]
    fn who_asks_for_many_pages_gets_one_in_a_round() {
        let mut rig = Rig::new(Settings { status_path: Some("/status".into()), ..settings() });
        let (mut many, key) = rig.client();
        many.write_all(&get("/status")).unwrap();
        let (mut other, _) = rig.ask("/status");
        rig.gateway.read_client(key, &mut [0; 4096], false);
        assert_eq!(rig.gateway.pages.len(), 2);
        for (left, is_answered) in [(1, true), (0, true), (0, false)] {
            rig.gateway.answer_next_page();
            assert_eq!(rig.gateway.pages.len(), left);
            let asked = if left == 1 { &mut other } else { &mut many };
            assert_eq!(asked.read(&mut [0; 65536]).is_ok(), is_answered);
        }
    }

    #[test]
    fn a_page_for_somebody_who_has_left_is_not_made() {
        let mut rig = Rig::new(Settings { status_path: Some("/status".into()), ..settings() });
        let (client, key) = rig.ask("/status");
        drop(client);
        rig.gateway.read_client(key, &mut [0; 4096], true);
        let (mut next, _) = rig.ask("/status");
        rig.gateway.answer_next_page();
        assert!(next.read(&mut [0; 65536]).unwrap() > 0);
        assert_eq!((rig.gateway.counters.accepted, rig.gateway.counters.aborted), (2, 1));
    }
}
