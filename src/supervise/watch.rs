//! Repeated looks at one worker, ever further apart, until it is seen to be what somebody waits for or patience ends.

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
}

impl Watch {
    pub(super) fn for_readiness() -> Watch {
        Watch { poll: Poll::for_readiness(), next: None, deadline: None }
    }

    pub(super) fn for_idleness(deadline: Option<Moment>) -> Watch {
        Watch { poll: Poll::for_idleness(), next: None, deadline }
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
