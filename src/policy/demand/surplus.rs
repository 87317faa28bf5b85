//! For how long how many workers have been idle: for each number, since when there were never fewer. Which worker was idle
//! makes no difference, so that this holds for workers that the kernel wakes in turn as well.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Moment;

/// There were at least `level` idle workers ever since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    level: u32,
    since: Moment,
}

/// Levels and moments both ascend: a higher number has held for less long.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Surplus {
    steps: Vec<Step>,
}

impl Surplus {
    /// Nobody was ever idle.
    pub fn new() -> Surplus {
        Surplus::default()
    }

    /// So many are idle now.
    pub fn observe(&mut self, now: Moment, idle: u32) {
        let mut cut = None;
        while let Some(step) = self.steps.pop_if(|step| step.level > idle) {
            cut = Some(step.since);
        }
        let level = self.steps.last().map_or(0, |step| step.level);
        if level < idle {
            self.steps.push(Step { level: idle, since: cut.unwrap_or(now) });
        }
    }

    /// The least number of idle workers in the `span` up to now.
    pub fn settled(&self, now: Moment, span: Duration) -> u32 {
        let held = self.steps.iter().rev().find(|step| step.since.after(span) <= now);
        held.map_or(0, |step| step.level)
    }

    /// When that number will next rise, to more than `above`, if nothing changes.
    pub fn next(&self, now: Moment, above: u32, span: Duration) -> Option<Moment> {
        let coming = |step: &&Step| step.level > above && step.since.after(span) > now;
        self.steps.iter().find(coming).map(|step| step.since.after(span))
    }
}
