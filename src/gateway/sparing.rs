//! When something was last said that the log hears once a second at most. Pure.

use std::time::Duration;

use crate::ids::Moment;

const SPAN: Duration = Duration::from_secs(1);

/// The last time; none yet, at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sparing(Option<Moment>);

impl Sparing {
    /// Whether it is to be said now, which then counts as said.
    pub fn is_due(&mut self, now: Moment) -> bool {
        let is_due = self.0.is_none_or(|told| now.since(told) >= SPAN);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_a_second() {
        let mut sparing = Sparing::default();
        let said = [0, 0, 999, 1000, 1500, 2000].map(|at| sparing.is_due(Moment(Duration::from_millis(at))));
        assert_eq!(said, [true, false, false, true, false, true]);
    }
}
