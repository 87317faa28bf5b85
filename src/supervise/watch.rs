//! Repeated looks at one worker, ever further apart, until it is seen to be what somebody waits for or patience ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Moment;
use crate::policy::Poll;

/// Repeated looks at a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Watch {
    poll: Poll,
    /// The next look; `None` while an answer is awaited or the program does not run yet.
    next: Option<Moment>,
    /// When patience ends.
    pub(super) deadline: Option<Moment>,
    /// Since when it is known to have one short request after the other.
    #[serde(default)]
    restless_since: Option<Moment>,
}

/// A worker that is looked at in a hurry for so long is saturated: a hundred looks, where there are few.
const IN_VAIN: Duration = Duration::from_secs(2);

impl Watch {
    pub(super) fn for_readiness() -> Watch {
        Watch { poll: Poll::for_readiness(), next: None, deadline: None, restless_since: None }
    }

    pub(super) fn for_idleness(deadline: Option<Moment>) -> Watch {
        Watch { poll: Poll::for_idleness(), next: None, deadline, restless_since: None }
    }

    /// It has one short request after the other, and so have others.
    pub(super) fn hurry(&mut self, now: Moment, workers: u32) {
        self.restless_since.get_or_insert(now);
        self.poll.hurry(workers);
    }

    /// Whether looks in a hurry have met no moment without a request.
    pub(super) fn is_in_vain(&self, now: Moment) -> bool {
        self.restless_since.is_some_and(|since| now.since(since) >= IN_VAIN)
    }

    pub(super) fn look_later(&mut self, now: Moment) {
        self.next = Some(now.after(self.poll.interval()));
    }

    pub(super) fn due(&self) -> Option<Moment> {
        match (self.next, self.deadline) {
            (Some(next), Some(deadline)) => Some(next.min(deadline)),
            (next, deadline) => next.or(deadline),
        }
    }

    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn take_look(&mut self, now: Moment) -> bool {
        self.next.take_if(|next| *next <= now).is_some()
    }
}
