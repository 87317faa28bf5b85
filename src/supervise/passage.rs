//! An exchange of generations that changes how requests come to the workers. Both ways are open for a while, so that nobody
//! waits and nobody is refused:
//!
//! - to a gateway: new workers come up behind it while the old ones accept; as soon as the first of them can serve, the gateway
//!   accepts too, and all old workers are to leave: what they would take the gateway takes, and they fall idle.
//! - to workers: new ones accept beside the gateway from their start; when they are in force the gateway accepts no more, and
//!   the old workers serve what is in it and leave when it has ended.

use super::action::Action;
use super::effects::Effects;
use super::event::Intake;
use super::pool::Pool;
use super::reload::Exchange;

/// What an exchange changes about the way in which requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// Nothing.
    None,
    /// A gateway takes them in.
    ToGateway,
    /// The workers do.
    ToWorkers,
}

impl Pool {
    pub(super) fn passage(&self, exchange: &Exchange) -> Passage {
        match (self.current.plan.intake, exchange.edition().plan.intake) {
            (Intake::Shared, Intake::Gateway) => Passage::ToGateway,
            (Intake::Gateway, Intake::Shared) => Passage::ToWorkers,
            (Intake::Shared, Intake::Shared) | (Intake::Gateway, Intake::Gateway) => Passage::None,
        }
    }

    /// Whether all old workers were told to leave, and no other may take their place.
    pub(super) fn has_passed_on(&self) -> bool {
        let passes = |exchange: &Exchange| self.passage(exchange) == Passage::ToGateway;
        self.exchange.as_ref().is_some_and(|exchange| exchange.is_proven() && passes(exchange))
    }

    /// The new gateway has workers.
    pub(super) fn open_intake(&self, out: &mut Effects) {
        out.push(Action::OpenIntake { pool: self.name.clone() });
    }

    /// The gateway that these settings have is to serve what is in it: half of `stop_timeout` for what waits, the other half
    /// for what has begun then.
    pub(super) fn pass_intake(&self, plan: &super::event::PoolPlan, out: &mut Effects) {
        let within = plan.stop_timeout / 2;
        out.push(Action::PassIntake { pool: self.name.clone(), within });
    }
}
