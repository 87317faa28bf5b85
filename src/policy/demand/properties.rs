//! What holds for every pool and every load: bounds, progress, rest. A small pool does as it is told, on an invented clock.

use proptest::prelude::*;

use super::*;

/// A pool whose workers do what the test says.
#[derive(Debug)]
struct World {
    scaling: Scaling,
    now: Moment,
    demand: Demand,
    look_again: Option<Moment>,
    /// When something was asked to start, and when something was ready.
    starts: Vec<Moment>,
    readies: Vec<Moment>,
    stops: u32,
}

/// What happens to it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Arrive(u32),
    Finish(u32),
    Ready(u32),
    Crash(u32),
    FailToStart(u32),
    Left(u32),
    Pass(u16),
    Bounds(u32),
    Headroom(u32),
}

impl World {
    fn new(bounds: Bounds) -> World {
        let demand = Demand {
            queued: 0,
            idle: 0,
            least_idle: u32::MAX,
            busy: 0,
            starting: 0,
            leaving: 0,
            headroom: u32::MAX,
        };
        let (starts, readies) = (Vec::new(), Vec::new());
        let now = Moment(Duration::from_secs(100));
        World { scaling: Scaling::new(bounds), now, demand, look_again: None, starts, readies, stops: 0 }
    }

    fn step(&mut self, step: Step) {
        let demand = &mut self.demand;
        match step {
            Step::Arrive(count) => demand.queued += count,
            Step::Finish(count) => {
                let count = count.min(demand.busy);
                demand.busy -= count;
                demand.idle += count;
            }
            Step::Ready(count) => {
                let count = count.min(demand.starting);
                demand.starting -= count;
                demand.idle += count;
                for _ in 0..count {
                    self.scaling.ready();
                    self.readies.push(self.now);
                }
            }
            Step::Crash(count) => demand.busy -= count.min(demand.busy),
            Step::FailToStart(count) => demand.starting -= count.min(demand.starting),
            Step::Left(count) => demand.leaving -= count.min(demand.leaving),
            Step::Pass(millis) => self.now = self.now.after(Duration::from_millis(millis.into())),
            Step::Bounds(max_children) => {
                let bounds = Bounds { max_children, ..self.scaling.bounds().clone() };
                self.scaling.set_bounds(bounds);
            }
            Step::Headroom(headroom) => demand.headroom = headroom,
        }
        self.dispatch();
    }

    /// Idle workers take what waits.
    fn dispatch(&mut self) {
        let taken = self.demand.idle.min(self.demand.queued);
        self.demand.idle -= taken;
        self.demand.queued -= taken;
        self.demand.busy += taken;
    }

    /// Decides, checks what must hold of each decision, and does it.
    fn decide(&mut self) -> Decision {
        let before = self.demand;
        let decision = self.scaling.decide(self.now, &before);
        let have = before.idle + before.busy + before.starting;
        assert!(decision.stop <= before.idle, "{before:?} {decision:?}");
        assert!(decision.start <= before.headroom, "{before:?} {decision:?}");
        assert!(decision.start == 0 || decision.stop == 0);
        let most = self.scaling.bounds().max_children;
        assert!(decision.start == 0 || have + before.leaving + decision.start <= most);
        assert!(decision.stop == 0 || before.queued == 0 || have > most, "{before:?} {decision:?}");
        assert!(decision.look_again.is_none_or(|moment| moment > self.now), "{decision:?} at {:?}", self.now);
        self.demand.starting += decision.start;
        self.demand.idle -= decision.stop;
        self.demand.leaving += decision.stop;
        self.stops += decision.stop;
        for _ in 0..decision.start {
            self.scaling.started(self.now);
            self.starts.push(self.now);
        }
        self.look_again = decision.look_again;
        decision
    }

    /// Lets a span pass, with all looks that fall into it.
    fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        while let Some(moment) = self.look_again.filter(|moment| *moment <= end) {
            self.now = moment;
            self.decide();
            self.step(Step::Left(u32::MAX));
        }
        self.now = end;
    }

    /// One turn in which all that can end does; as long as the slowest pace holds a start back.
    fn turn(&mut self) {
        self.step(Step::Finish(u32::MAX));
        self.step(Step::Ready(u32::MAX));
        self.step(Step::Left(u32::MAX));
        self.decide();
        self.pass(Duration::from_secs(1));
    }
}

fn any_mode() -> impl Strategy<Value = Mode> {
    let dynamic = (1_u32..6, 0_u32..6, 0_u32..6).prop_map(|(min_spare, more, start)| Mode::Dynamic {
        start_servers: min_spare + start.min(more),
        min_spare,
        max_spare: min_spare + more,
    });
    prop_oneof![Just(Mode::Static), dynamic, Just(Mode::Ondemand)]
}

fn any_bounds() -> impl Strategy<Value = Bounds> {
    (any_mode(), 1_u32..40, 1_u32..64, 1_u32..20, 0_u64..20_000).prop_map(
        |(mode, max_children, max_spawn_rate, at_once, idle)| Bounds {
            mode,
            max_children,
            concurrency: 1,
            max_spawn_rate,
            at_once,
            idle_timeout: Duration::from_millis(idle),
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u32..60).prop_map(Step::Arrive),
        (0_u32..30).prop_map(Step::Finish),
        (0_u32..30).prop_map(Step::Ready),
        (0_u32..5).prop_map(Step::Crash),
        (0_u32..5).prop_map(Step::FailToStart),
        (0_u32..30).prop_map(Step::Left),
        (0_u16..5_000).prop_map(Step::Pass),
        (1_u32..40).prop_map(Step::Bounds),
        (0_u32..40).prop_map(Step::Headroom),
    ]
}

proptest! {
    /// Whatever happens, no bound is broken (`decide` checks), and in the end the queue empties and the pool rests.
    #[test]
    fn bounds_hold_and_every_queue_empties(bounds in any_bounds(), steps in prop::collection::vec(any_step(), 0..120)) {
        let (mode, idle_timeout) = (bounds.mode, bounds.idle_timeout);
        let mut world = World::new(bounds);
        for step in steps {
            world.step(step);
            world.decide();
        }
        world.step(Step::Headroom(u32::MAX));
        // At worst one worker serves one request a turn.
        for _ in 0..=world.demand.queued + 10 {
            world.turn();
        }
        prop_assert_eq!((world.demand.queued, world.demand.busy), (0, 0));
        world.pass(idle_timeout);
        world.turn();
        prop_assert_eq!(world.look_again, None, "a pool at rest costs no wake-up");
        let most = world.scaling.bounds().max_children;
        let idle = world.demand.idle;
        match mode {
            Mode::Static => prop_assert_eq!(idle, most),
            Mode::Dynamic { min_spare, max_spare, .. } => {
                prop_assert!(idle >= min_spare.min(most) && idle <= max_spare.min(most));
            }
            Mode::Ondemand => prop_assert_eq!(idle, 0),
        }
    }

    /// A pool with something to do and nobody to do it always has a reason to come back, or starts somebody.
    #[test]
    fn nobody_waits_without_end(bounds in any_bounds(), steps in prop::collection::vec(any_step(), 0..120)) {
        let mut world = World::new(bounds);
        for step in steps {
            world.step(step);
            let before = world.demand;
            let decision = world.decide();
            let others = before.idle + before.busy + before.starting + before.leaving;
            if before.queued > 0 && others == 0 && before.headroom > 0 {
                prop_assert!(decision.start > 0 || decision.look_again.is_some(), "{:?} {:?}", before, decision);
            }
        }
    }

    /// Starts in one second: what may be under way at once, what a second lets in, and one for each that became ready.
    #[test]
    fn a_fork_storm_is_bounded(
        bounds in any_bounds().prop_filter("static pools have no pace", |bounds| bounds.mode != Mode::Static),
        steps in prop::collection::vec(any_step(), 0..160),
    ) {
        let allowed = (bounds.at_once.min(bounds.max_spawn_rate) + bounds.max_spawn_rate) as usize;
        let mut world = World::new(bounds);
        // The first fill is over.
        world.step(Step::Headroom(0));
        world.decide();
        world.demand.idle = 1;
        world.decide();
        for step in steps {
            world.step(step);
            world.decide();
        }
        for from in &world.starts {
            let within = |moments: &[Moment]| {
                moments.iter().filter(|at| *at >= from && at.since(*from) < Duration::from_secs(1)).count()
            };
            prop_assert!(within(&world.starts) <= allowed + within(&world.readies));
        }
    }

    /// A load that rises and falls within the idle timeout, however it does that, is a steady one: once the pool has seen a
    /// round of it, nobody is started or stopped any more.
    #[test]
    fn a_steady_load_is_met_by_a_steady_pool(
        mode in any_mode(),
        shape in prop::collection::vec(0_u32..30, 2..20),
        pause in 1_u64..500,
    ) {
        let round = Duration::from_millis(pause * shape.len() as u64);
        let bounds = Bounds {
            mode,
            max_children: 200,
            concurrency: 1,
            max_spawn_rate: 1_000,
            at_once: 1_000,
            idle_timeout: round + Duration::from_millis(1),
        };
        let mut world = World::new(bounds);
        let mut before = (0, 0);
        for number in 0..12 {
            for busy in &shape {
                follow(&mut world, *busy);
                world.pass(Duration::from_millis(pause));
            }
            let counts = (world.starts.len(), world.stops);
            // The first rounds may find workers beyond what it takes: `start_servers`.
            if number > 3 {
                prop_assert_eq!(counts, before, "round {}", number);
            }
            before = counts;
        }
    }
}

/// So many requests are being served from now on.
fn follow(world: &mut World, busy: u32) {
    let surplus = world.demand.busy.saturating_sub(busy);
    world.step(Step::Finish(surplus));
    world.step(Step::Arrive(busy.saturating_sub(world.demand.busy)));
    for _ in 0..2 {
        world.decide();
        world.step(Step::Ready(u32::MAX));
        world.step(Step::Left(u32::MAX));
    }
    world.decide();
}
