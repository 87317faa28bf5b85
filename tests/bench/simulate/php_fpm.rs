//! php-fpm 8.2's `dynamic` and `ondemand`, after fpm_pctl_perform_idle_server_maintenance and fpm_pctl_on_socket_accept
//! of sapi/fpm/fpm/fpm_process_ctl.c. Held against figures measured of the real one: see `calibration`.

use crate::trace::{MILLI, SECOND};
use crate::world::{Cause, Manager, Order, Orders, View};

/// From a connection to the master's awakening.
const AWAKENING: u64 = 50;
/// How long the master is at work for one fork, and blind to what connects meanwhile.
pub const FORK: u64 = MILLI;

#[derive(Debug, Clone, Copy)]
pub enum Mode {
    Dynamic { start_servers: usize, min_spare: usize, max_spare: usize },
    Ondemand { idle_timeout: u64 },
}

pub struct PhpFpm {
    mode: Mode,
    max_children: usize,
    max_spawn_rate: usize,
    spawn_rate: usize,
    tick: u64,
    /// The master's work until then.
    at_work: u64,
    /// When it looks at the listening socket because something has connected; once, however many do until then.
    woken: Option<u64>,
}

impl PhpFpm {
    /// `phase` is how long after the start the first tick comes: the timer is as old as the master.
    pub fn new(mode: Mode, max_children: usize, phase: u64) -> PhpFpm {
        PhpFpm { mode, max_children, max_spawn_rate: 32, spawn_rate: 1, tick: phase, at_work: 0, woken: None }
    }

    fn fork(&mut self, now: u64, count: usize, orders: &mut Orders) {
        orders.start += count;
        self.at_work = self.at_work.max(now) + FORK * count as u64;
    }

    fn maintain(&mut self, now: u64, view: &View, orders: &mut Orders) {
        // "The oldest-started idle one", whatever it did since.
        let last_idle = view.idle.iter().min_by_key(|idle| idle.started);
        match self.mode {
            Mode::Ondemand { idle_timeout } => {
                // If that one is fresh, nobody is stopped.
                let old = last_idle.filter(|idle| idle.since + idle_timeout < now);
                orders.stop.extend(old.map(|idle| idle.worker));
            }
            Mode::Dynamic { max_spare, .. } if view.idle.len() > max_spare => {
                orders.stop.extend(last_idle.map(|idle| idle.worker));
                self.spawn_rate = 1;
            }
            Mode::Dynamic { min_spare, .. } if view.idle.len() < min_spare => {
                self.grow(now, min_spare - view.idle.len(), view.running(), orders);
            }
            Mode::Dynamic { .. } => self.spawn_rate = 1,
        }
    }

    fn grow(&mut self, now: u64, missing: usize, running: usize, orders: &mut Orders) {
        if running >= self.max_children {
            self.spawn_rate = 1;
            return;
        }
        let count = self.spawn_rate.min(missing).min(self.max_children - running);
        self.fork(now, count, orders);
        if self.spawn_rate < self.max_spawn_rate {
            self.spawn_rate *= 2;
        }
    }

    fn on_socket_event(&mut self, now: u64, view: &View, orders: &mut Orders) {
        if view.running() < self.max_children && view.idle.is_empty() {
            self.fork(now, 1, orders);
        }
    }

    fn timer(&mut self, now: u64, view: &View, orders: &mut Orders) {
        if self.woken.is_some_and(|at| at <= now) {
            self.woken = None;
            self.on_socket_event(now, view, orders);
        }
        if self.tick <= now {
            self.tick += SECOND;
            self.maintain(now, view, orders);
        }
    }
}

impl Manager for PhpFpm {
    fn act(&mut self, now: u64, cause: Cause, view: &View) -> Orders {
        let mut orders = Orders::default();
        match (cause, self.mode) {
            (Cause::Begin, Mode::Dynamic { start_servers, .. }) => self.fork(now, start_servers, &mut orders),
            (Cause::Arrived, Mode::Ondemand { .. }) => {
                self.woken.get_or_insert((now + AWAKENING).max(self.at_work));
            }
            // Replaced at once, whatever it died of and whether anybody waits.
            (Cause::Died { .. }, _) => self.fork(now, 1, &mut orders),
            (Cause::Timer, _) => self.timer(now, view, &mut orders),
            (Cause::Begin | Cause::Arrived | Cause::Served | Cause::Ready | Cause::Left, _) => {}
        }
        orders.timer = Some(self.woken.map_or(self.tick, |at| at.min(self.tick)));
        orders
    }

    fn order(&self) -> Order {
        Order::LongestIdle
    }
}
