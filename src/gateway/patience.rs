//! Clients that begin something and do not go on: each has `input_timeout` for the parameters of a request, and as long for
//! its next byte after that. One timer for all; a client whose requests are complete, or that is made to wait, is not meant.

use super::client::{Client, Ending, Reading, Violation};
use super::core::{Gateway, Timer};
use super::request::Stage;
use super::slab::Key;
use crate::ids::Moment;

/// What a client owes us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Debt {
    /// The rest of a request's parameters, which began then.
    Params(Moment),
    /// The rest of a body, or of the record that it was last heard with.
    Rest(Moment),
    /// The end of its input, after which its connection is closed: its answer was early.
    End(Moment),
}

impl Debt {
    fn since(self) -> Moment {
        match self {
            Debt::Params(since) | Debt::Rest(since) | Debt::End(since) => since,
        }
    }
}

impl Gateway {
    /// Has a client looked after that has not said all of what it began.
    pub(super) fn mind(&mut self, key: Key) {
        let Some(limit) = self.settings.input_timeout.filter(|_| !self.minding) else { return };
        if self.clients.get(key).and_then(|client| self.debt(client)).is_some() {
            self.minding = true;
            self.timers.set(Timer::Input, Some(self.now.after(limit)));
        }
    }

    /// Closes the connections of those who have taken too long, and looks again when the next one may have.
    pub(super) fn inspect_input(&mut self) {
        self.minding = false;
        let Some(limit) = self.settings.input_timeout else { return self.timers.set(Timer::Input, None) };
        let (mut late, mut next): (Vec<(Key, Debt)>, Option<Moment>) = (Vec::new(), None);
        for (key, client) in self.clients.iter() {
            let Some(debt) = self.debt(client) else { continue };
            if self.now.since(debt.since()) >= limit {
                late.push((key, debt));
            } else {
                next = next.into_iter().chain([debt.since().after(limit)]).min();
            }
        }
        for (key, debt) in late {
            match debt {
                Debt::Params(_) => self.expel(key, &Violation::Slow(limit)),
                Debt::Rest(_) => self.expel(key, &Violation::Silent(limit)),
                // It has its answer.
                Debt::End(_) => self.lose_client(key),
            }
        }
        self.minding = next.is_some();
        self.timers.set(Timer::Input, next);
    }

    fn debt(&self, client: &Client) -> Option<Debt> {
        if client.reading != Reading::Open {
            return None;
        }
        let requests = || client.active.iter().filter_map(|(_, at)| self.requests.get(at));
        let begun =
            requests().filter(|request| request.stage == Stage::Params).map(|request| request.arrived);
        if let Some(oldest) = begun.min() {
            return Some(Debt::Params(oldest));
        }
        if requests().any(|request| !request.is_complete()) || !client.decoder.is_between_records() {
            return Some(Debt::Rest(client.heard));
        }
        (client.ending == Ending::AfterInput).then_some(Debt::End(client.heard))
    }
}
