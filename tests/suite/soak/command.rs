//! What fpmd can be told in a word while clients ask, also two words at once.

use std::thread::JoinHandle;

use nix::sys::signal::Signal;

use super::trouble::{POOLS, one_of};
use super::world::World;
use crate::support::bytes::Random;
use crate::support::daemon::{Ran, fpmctl};
use crate::support::process;

/// What fpmd can be told in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Reload,
    ReloadPool(&'static str),
    /// After a change that needs new workers.
    ReloadChanged(&'static str),
    Restart(&'static str),
    Drain(&'static str),
    Scale(&'static str, u32),
    Upgrade,
    Reopen,
    Hangup,
    Status,
}

impl Command {
    /// Any, of any pool.
    pub fn draw(random: &mut Random) -> Command {
        let pool = one_of(random, &POOLS);
        match random.below(11) {
            10 => Command::Scale(pool, 1 + random.below(8) as u32),
            0 => Command::Reload,
            1 => Command::ReloadPool(pool),
            2 => Command::ReloadChanged(pool),
            3 => Command::Restart(pool),
            4 => Command::Drain(pool),
            5 | 6 => Command::Upgrade,
            7 => Command::Reopen,
            8 => Command::Hangup,
            _ => Command::Status,
        }
    }

    /// Tells fpmd, and does not wait for the answer.
    pub fn begin(self, world: &mut World) -> JoinHandle<Ran> {
        let command = self;
        if let Command::ReloadChanged(pool) = command {
            world.shapes.get_mut(pool).unwrap().edition += 1;
            world.write();
        }
        if let Command::Scale(pool, _) = command {
            world.scaled.push(pool);
        }
        let drained = match command {
            Command::Drain(pool) => world.fpmd.workers(pool).first().copied(),
            _ => None,
        };
        let (socket, pid) = (world.fpmd.control(), world.fpmd.pid());
        std::thread::spawn(move || {
            let ctl = |words: &[&str]| fpmctl(&[&["--socket", socket.to_str().unwrap()], words].concat());
            let done = || Ran { code: Some(0), out: String::new(), err: String::new() };
            match command {
                Command::Reload => ctl(&["reload"]),
                Command::ReloadPool(pool) => ctl(&["reload", pool]),
                Command::ReloadChanged(_) => ctl(&["reload", "--changed"]),
                Command::Restart(pool) => ctl(&["restart", pool]),
                Command::Drain(_) => match drained {
                    // It may be gone by now; so it was to be.
                    Some(worker) => Ran { code: Some(0), ..ctl(&["drain", &worker.to_string()]) },
                    None => done(),
                },
                Command::Scale(pool, number) => ctl(&["scale", pool, &number.to_string()]),
                Command::Upgrade => ctl(&["upgrade"]),
                Command::Reopen => ctl(&["reopen"]),
                Command::Hangup => {
                    process::signal(pid, Signal::SIGHUP);
                    done()
                }
                Command::Status => ctl(&["status", "--full"]),
            }
        })
    }

    /// One of two at once may be refused for the other's sake, in words.
    #[track_caller]
    pub fn may_be_refused(self, ran: &Ran) {
        let refused = ran.code == Some(1) && !ran.err.is_empty();
        assert!(ran.code == Some(0) || refused, "{self:?}: {ran:?}");
    }
}

/// Two commands at once.
#[track_caller]
pub fn clash(world: &mut World, one: Command, other: Command) {
    let both = [(one, one.begin(world)), (other, other.begin(world))];
    for (command, thread) in both {
        command.may_be_refused(&thread.join().unwrap());
    }
    // Whichever came last: the file is in force.
    world.fpmd.ctl_done(&["reload", "--changed"]);
}
