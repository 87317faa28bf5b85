//! Pools whose number of workers follows demand: what is known of the demand, what the policy makes of it, and how that is
//! done. Static pools never come here; how demand is noticed without a gateway is in `ear`.
//!
//! A picture of the demand can be a moment old. Starts are decided on any picture, since the workers on their way are ours
//! to count; stops only on one that was taken for that.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Moment, WorkerId};
use crate::policy::demand::longest_idle;
use crate::policy::{Bounds, Claim, Decision, Demand, Limit, Mode, Scaling};

use super::action::Action;
use super::effects::Effects;
use super::event::{Intake, Load, News};
use super::pool::{Due, Pool, State};
use super::reload::Exchange;
use super::staff::Tally;
use super::worker::{Duty, Edition, Origin};

/// How long after idle workers were let go of it is decided again, if nothing else happens.
const AFTER_RELEASE: Duration = Duration::from_secs(1);

/// What a pool knows of the demand on it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Follow {
    scaling: Scaling,
    /// The last picture.
    pub(super) load: Load,
    /// Processes that `process_max` leaves for this pool.
    headroom: u32,
    asked: Question,
    picture: Picture,
    /// Fewer could be started than are wanted, by failures or by `process_max`.
    lack: Lack,
}

/// What is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Question {
    None,
    /// `Survey`.
    Survey,
    /// `Release`.
    Release,
}

/// Why workers are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Lack {
    None,
    /// Starts fail, and the next one waits.
    HeldBack,
    /// Other pools have them.
    ProcessMax,
}

/// How old the picture may be on which a decision rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Picture {
    /// Taken now.
    Fresh,
    /// The last one.
    Old,
}

impl Follow {
    pub(super) fn new(bounds: Bounds) -> Follow {
        Follow {
            scaling: Scaling::new(bounds),
            load: Load::default(),
            headroom: u32::MAX,
            asked: Question::None,
            picture: Picture::Old,
            lack: Lack::None,
        }
    }

    /// One worker more was asked for.
    pub(super) fn started(&mut self, now: Moment) {
        self.scaling.started(now);
        if self.headroom < u32::MAX {
            self.headroom = self.headroom.saturating_sub(1);
        }
    }

    /// Whoever was asked something will not answer: others take requests in from now on.
    pub(super) fn ask_nobody(&mut self) {
        self.asked = Question::None;
    }

    /// One worker is ready.
    pub(super) fn ready(&mut self) {
        self.scaling.ready();
    }
}

/// The bounds that are in force where the number was changed by hand.
pub(super) fn scaled(bounds: &Bounds, scale: Option<u32>) -> Bounds {
    let most = scale.unwrap_or(bounds.max_children).max(1);
    let mode = match bounds.mode {
        Mode::Dynamic { start_servers, min_spare, max_spare } => Mode::Dynamic {
            start_servers: start_servers.min(most),
            min_spare: min_spare.min(most),
            max_spare: max_spare.min(most),
        },
        mode @ (Mode::Static | Mode::Ondemand) => mode,
    };
    Bounds { mode, max_children: most, ..bounds.clone() }
}

impl Edition {
    pub(super) fn follows_demand(&self) -> bool {
        self.plan.bounds.mode != Mode::Static
    }
}

impl Pool {
    /// Whether its number of workers follows demand.
    pub(super) fn follows_demand(&self) -> bool {
        self.current.follows_demand()
    }

    /// Whether it has to notice demand by itself.
    pub(super) fn has_ear(&self) -> bool {
        self.follows_demand() && self.current.plan.intake == Intake::Shared
    }

    /// The bounds of the generation in force.
    pub(super) fn bounds(&self) -> Bounds {
        scaled(&self.current.plan.bounds, self.scale)
    }

    /// The pool starts from nothing.
    pub(super) fn reset_demand(&mut self) {
        let headroom = self.follow.headroom;
        self.follow = Follow { headroom, ..Follow::new(self.bounds()) };
        self.ear.deafen();
    }

    /// Other bounds are in force.
    pub(super) fn rebound(&mut self) {
        let bounds = self.bounds();
        self.follow.scaling.set_bounds(bounds);
    }

    /// What it needs of all the processes that there may be, and has.
    pub(super) fn claim(&self) -> Claim {
        let reserved = self.bounds().reserved();
        Claim { reserved, processes: u32::try_from(self.workers.len()).unwrap_or(u32::MAX) }
    }

    /// How many more processes it may have.
    pub(super) fn set_headroom(&mut self, headroom: u32) {
        self.follow.headroom = headroom;
    }

    /// Whether it would have more workers but for `process_max`.
    pub(super) fn is_short_of_processes(&self) -> bool {
        self.follow.lack == Lack::ProcessMax
    }

    /// Whether workers are missing that cannot be started.
    pub(super) fn is_held_back(&self, tally: &Tally) -> bool {
        if self.follows_demand() {
            self.follow.lack == Lack::HeldBack
        } else {
            tally.in_service < self.wanted()
        }
    }

    /// Whether everyone is there whom it wants now, as far as is known.
    pub(super) fn is_staffed(&self, tally: &Tally) -> bool {
        if self.follows_demand() {
            tally.in_service == tally.ready && self.follow.lack != Lack::HeldBack
        } else {
            tally.ready >= self.wanted()
        }
    }

    /// How many workers of new settings must be ready before they come in force: as many as serve now, so that nobody has to
    /// wait then; and one at least, as a proof that they work.
    pub(super) fn needed_by(&self, exchange: &Exchange) -> u32 {
        let bounds = scaled(&exchange.edition().plan.bounds, exchange.scale());
        match bounds.mode {
            Mode::Static => bounds.max_children,
            Mode::Dynamic { .. } | Mode::Ondemand => {
                let serving = self.tally().in_service + exchange.released();
                serving.clamp(bounds.reserved(), bounds.max_children)
            }
        }
    }

    /// How many workers the generation that is to come in force needs.
    pub(super) fn wanted_next(&self) -> u32 {
        self.exchange.as_ref().map_or(0, |exchange| self.needed_by(exchange))
    }

    /// Takes in what was seen or heard of the demand.
    pub(super) fn hear(&mut self, now: Moment, news: News, out: &mut Effects) {
        match news {
            // Before a gateway is in force nobody but itself knows what it has.
            News::Load(_) if !self.current.has_gateway() => {}
            News::Load(load) => self.loaded(now, load, out),
            News::Works => self.works(now, out),
            News::Released => self.released(now),
            News::Queued => self.queued(now, out),
            News::Measured(queued) => self.measured(now, queued, out),
            News::Surveyed { queued, seen } => self.surveyed(now, queued, &seen, out),
        }
    }

    /// There is a new picture of the demand.
    pub(super) fn loaded(&mut self, now: Moment, load: Load, out: &mut Effects) {
        if matches!(self.state, State::Serving) && self.follows_demand() {
            if self.follow.asked == Question::Survey {
                self.follow.asked = Question::None;
            }
            self.follow.load = load;
            self.follow.picture = Picture::Fresh;
            self.advance(now, out);
        }
    }

    /// The gateway has let go of as many idle workers as it had of those that were wanted, or it will answer nothing.
    fn released(&mut self, now: Moment) {
        self.follow.asked = Question::None;
        // Those that were let go of have said so. If that were too few, asking again at once would bring no more.
        if matches!(self.state, State::Serving) && self.follows_demand() {
            let soon = now.after(AFTER_RELEASE);
            let due = self.agenda.moment(Due::Demand).map_or(soon, |due| due.min(soon));
            self.agenda.set(Due::Demand, Some(due));
        }
    }

    /// Asks for a new picture.
    pub(super) fn survey(&mut self, out: &mut Effects) {
        if self.follow.asked == Question::None && self.follows_demand() {
            self.follow.asked = Question::Survey;
            out.push(Action::Survey { pool: self.name.clone() });
        }
    }

    /// Starts and stops workers as the policy says.
    pub(super) fn follow(&mut self, now: Moment, out: &mut Effects) {
        let picture = std::mem::replace(&mut self.follow.picture, Picture::Old);
        let tally = self.tally();
        let demand = self.demand(&tally, picture);
        let decision = self.follow.scaling.decide(now, &demand);
        self.agenda.set(Due::Demand, decision.look_again);
        self.report_limit(decision.news, out);
        let started = self.start_wanted(now, decision.start, out);
        self.follow.lack = match decision.limit {
            _ if started < decision.start => Lack::HeldBack,
            Some(Limit::ProcessMax) => Lack::ProcessMax,
            Some(Limit::MaxChildren | Limit::SpawnRate) | None => Lack::None,
        };
        if self.follow.lack != Lack::HeldBack && decision.start == 0 {
            self.first_fill = false;
            if tally.in_service == tally.ready && tally.retiring > 0 {
                self.let_retiring_go(now, usize::MAX, out);
            }
        }
        self.stop_wanted(now, decision, picture, out);
    }

    /// Starts one worker in place of one whose end the back-off has nothing to do with, if it is missing.
    pub(super) fn follow_an_end(&mut self, now: Moment, out: &mut Effects) {
        let tally = self.tally();
        let demand = self.demand(&tally, Picture::Old);
        if self.follow.scaling.decide(now, &demand).start > 0 {
            self.start_worker(now, Rc::clone(&self.current), Origin::Replacement, true, out);
        }
    }

    fn demand(&self, tally: &Tally, picture: Picture) -> Demand {
        let Load { queued, busy, least_idle } = self.follow.load;
        let ready = tally.ready + tally.candidates_ready;
        let busy = busy.min(ready);
        let idle = ready - busy;
        Demand {
            queued,
            idle,
            least_idle: if picture == Picture::Fresh { least_idle.min(idle) } else { idle },
            busy,
            starting: tally.in_service + tally.candidates - ready,
            leaving: tally.outgoing,
            headroom: self.follow.headroom,
        }
    }

    /// Starts so many workers, as far as the back-off permits; how many it did.
    fn start_wanted(&mut self, now: Moment, wanted: u32, out: &mut Effects) -> u32 {
        self.agenda.set(Due::Retry, None);
        self.start_permitted(now, wanted, true, out)
    }

    fn stop_wanted(&mut self, now: Moment, decision: Decision, picture: Picture, out: &mut Effects) {
        if decision.stop == 0 || self.exchange.is_some() || self.follow.asked == Question::Release {
            return;
        }
        if picture == Picture::Old {
            return self.survey(out);
        }
        match self.current.plan.intake {
            Intake::Gateway => {
                // It knows who is idle when this arrives, and whoever is stays so.
                self.follow.asked = Question::Release;
                out.push(Action::Release { pool: self.name.clone(), count: decision.stop });
            }
            Intake::Shared => self.ask_the_longest_idle(now, decision.stop, out),
        }
    }

    fn ask_the_longest_idle(&mut self, now: Moment, count: u32, out: &mut Effects) {
        let current = self.current.generation;
        let idle = self.workers.values().filter(|worker| {
            worker.generation() == current && matches!(worker.duty, Duty::Serving) && worker.is_executing()
        });
        let idle = idle.filter_map(|worker| Some((worker.id, worker.idle_since?)));
        let chosen: Vec<WorkerId> = longest_idle(idle, count);
        for id in chosen {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.ask_to_stop(out);
            }
        }
        // Whoever was found at work stays, which the next look shows.
        self.look_after_asking(now);
    }

    fn report_limit(&mut self, news: Option<Limit>, out: &mut Effects) {
        let text = match news {
            Some(Limit::MaxChildren) => {
                self.counters.max_children_reached += 1;
                let most = self.bounds().max_children;
                format!("server reached pm.max_children setting ({most}), consider raising it")
            }
            Some(Limit::ProcessMax) => {
                "wants more children than process_max allows beside those of other pools".to_owned()
            }
            Some(Limit::SpawnRate) | None => return,
        };
        out.log(log::Level::Warn, format!("[pool {}] {text}", self.name));
    }
}
