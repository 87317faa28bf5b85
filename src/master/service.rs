//! What the service manager shows and allows (sd_notify(3)): how the daemon is doing, and how long a stop may take.

use std::time::Duration;

use super::Master;
use super::run::Timer;
use crate::os::clock;
use crate::supervise::PoolState;

/// A changed state may wait for so long to be told: a thousand starts are one sentence.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// What a stop may take beyond the pools' own times.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// How long a reload may go on from each time that the service manager hears of it, and how often that is.
const RELOAD_SPAN: Duration = Duration::from_secs(30);
const RELOAD_PAUSE: Duration = Duration::from_secs(2);

/// What the service manager was told last.
#[derive(Debug, Default)]
pub struct Service {
    status: String,
    status_due: bool,
}

impl Master {
    /// The daemon stops: it may take as long as its pools may.
    pub(super) fn tell_stop(&mut self) {
        let pools = self.settings.newest().map(|pool| pool.stop_timeout).max().unwrap_or_default();
        self.notifier.stopping("Stopping");
        self.notifier.extend_timeout(pools + self.global.process_control_timeout + STOP_MARGIN);
    }

    /// A reload that the service manager waits for goes on, and may for longer than it would wait by itself
    /// (`Type=notify-reload`): each of its steps has a time of its own, and nobody knows how many there will be.
    pub(super) fn extend_reload(&mut self) {
        if self.reload_by_signal.is_some() && self.notifier.is_connected() {
            self.notifier.extend_timeout(RELOAD_SPAN);
            self.timers.set(Timer::Reload, Some(clock::monotonic().after(RELOAD_PAUSE)));
        }
    }

    /// Pools or workers have changed.
    pub(super) fn status_changed(&mut self) {
        if self.notifier.is_connected() && !self.service.status_due && self.is_serving() {
            self.service.status_due = true;
            self.timers.set(Timer::Status, Some(clock::monotonic().after(STATUS_PAUSE)));
        }
    }

    /// Tells how it is, unless a reload is to have the last word.
    pub(super) fn tell_status(&mut self) {
        self.service.status_due = false;
        let text = self.status_text();
        if text != self.service.status && self.reload_by_signal.is_none() {
            self.notifier.status(&text);
            self.service.status = text;
        }
    }

    fn status_text(&self) -> String {
        let (mut pools, mut workers, mut ill) = (0, 0, Vec::new());
        for view in self.supervisor.pools() {
            pools += 1;
            workers += view.workers.len();
            match view.state {
                PoolState::Failed | PoolState::BackingOff => {
                    ill.push(format!("; {} is {}", view.name, view.state));
                }
                PoolState::Starting
                | PoolState::Running
                | PoolState::Reloading
                | PoolState::Stopping
                | PoolState::Stopped => {}
            }
        }
        format!("Ready to handle connections: pools {pools}, workers {workers}{}", ill.concat())
    }
}
