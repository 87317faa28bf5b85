//! What can happen to fpmd while clients ask: each kind of trouble with its particulars, drawn at random, made so that it
//! is over when `make` returns.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::command::{self, Command};
use super::pressure;
use super::world::{GUEST, Mode, Second, Shape, World};
use crate::support::bytes::Random;
use crate::support::crowd::{ask, ask_at_once};
use crate::support::daemon::Dispatch;
use crate::support::fastcgi::Address;
use crate::support::{process, wait_until, workers};

/// Pieces of the warnings that belong to troubles.
pub const WARNINGS: [&str; 20] = [
    "exited on signal 9",
    "exited with code 3",
    "no such database",
    "cannot reload",
    "cannot start pool",
    "reload refused",
    "closed its connection before its answer was complete",
    "closed the connection from unix",
    "its parameters exceed",
    "executing too slow",
    "timed out after",
    "server reached pm.max_children setting",
    "still busy",
    "SIGKILL",
    "cannot upgrade",
    "an upgrade is in progress",
    "exited on signal 15",
    "after SIGTERM",
    "is stopped",
    "young",
];

/// One trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// One command of fpmctl, or a signal of the same meaning.
    Command(Command),
    /// Two at once.
    Clash(Command, Command),
    BadFile,
    BadWorker(&'static str),
    /// Rename the logs and have them opened again.
    Rotate,
    /// To so many, and back.
    Scale(&'static str, u32),
    StopAndStart(&'static str),
    KillWorkers(&'static str),
    KillGateway(&'static str),
    /// A gateway is killed while something else is done.
    KillGatewayDuring(&'static str, Command),
    /// A worker is suspended for a while, in which something else is done.
    Suspend(&'static str, Command),
    SuspendGateway(&'static str),
    Recycle(&'static str, Reason),
    /// More requests at once than there are workers.
    Burst(&'static str),
    /// More than may wait.
    Crush(&'static str),
    /// Requests that wait for longer than they may.
    Impatience(&'static str),
    /// Requests that take too long.
    Timeout(&'static str),
    /// Workers that go on after their answers.
    Finish(&'static str),
    /// One that is there goes, one that is not comes.
    SecondAddress(&'static str, Second),
    GuestComes(Mode, Dispatch),
    GuestLeaves,
    Mode(&'static str, Mode),
    /// From direct mode to a gateway, or back.
    Dispatch(&'static str),
    /// Everything that can be looked at is.
    Look,
}

/// Why workers are replaced although nothing is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Requests,
    Lifetime,
    Memory,
}

pub const POOLS: [&str; 3] = ["c", "php", "direct"];
const ROUTED: [&str; 2] = ["c", "php"];

pub fn one_of<T: Copy>(random: &mut Random, all: &[T]) -> T {
    all[random.below(all.len())]
}

impl Trouble {
    /// One that makes sense with the pools that there are.
    pub fn draw(random: &mut Random, world: &World) -> Trouble {
        let (any, routed) = (one_of(random, &POOLS), one_of(random, &ROUTED));
        let command = Command::draw(random);
        match random.below(30) {
            0..=2 => Trouble::Command(command),
            3 | 4 => Trouble::Clash(command, Command::draw(random)),
            5 => Trouble::BadFile,
            6 if world.shapes[any].mode != Mode::Ondemand => Trouble::BadWorker(any),
            6 | 7 => Trouble::Rotate,
            8 => Trouble::Scale(any, 1 + random.below(8) as u32),
            9 => Trouble::StopAndStart(any),
            10 => Trouble::KillWorkers(any),
            11 => Trouble::KillGateway(routed),
            12 => Trouble::KillGatewayDuring(routed, command),
            13 | 14 => Trouble::Suspend(any, command),
            15 => Trouble::SuspendGateway(routed),
            16 => Trouble::Recycle(routed, Reason::Requests),
            17 => Trouble::Recycle(any, Reason::Lifetime),
            // In direct mode it is looked for one that is idle, every five seconds.
            18 => Trouble::Recycle("c", Reason::Memory),
            19 => Trouble::Burst(any),
            20 => Trouble::Crush(routed),
            21 => Trouble::Impatience(routed),
            22 => Trouble::Timeout(routed),
            23 => Trouble::Finish("c"),
            24 => Trouble::SecondAddress(routed, one_of(random, &Second::ALL)),
            25 if world.shapes.contains_key(GUEST) => Trouble::GuestLeaves,
            25 => {
                let dispatch = one_of(random, &[Dispatch::Gateway, Dispatch::Direct]);
                Trouble::GuestComes(one_of(random, &Mode::ALL), dispatch)
            }
            26 => Trouble::Look,
            27 => Trouble::Dispatch("direct"),
            _ => Trouble::Mode(any, one_of(random, &Mode::ALL)),
        }
    }

    /// Makes it, and takes back what does not take itself back.
    #[track_caller]
    pub fn make(&self, world: &mut World) {
        self.begin(world);
        let_reload_end(world);
        for pool in std::mem::take(&mut world.scaled) {
            world.fpmd.ctl_done(&["scale", pool, &world.shapes[pool].mode.most().to_string()]);
        }
    }

    #[track_caller]
    fn begin(&self, world: &mut World) {
        match self {
            Trouble::Command(command) => {
                let ran = command.begin(world).join().unwrap();
                assert_eq!(ran.code, Some(0), "{command:?}: {ran:?}");
            }
            Trouble::Clash(one, other) => command::clash(world, *one, *other),
            Trouble::BadFile => bad_file(world),
            Trouble::BadWorker(pool) => bad_worker(world, pool),
            Trouble::Rotate => rotate(world),
            Trouble::Scale(pool, workers) => scale(world, pool, *workers),
            Trouble::StopAndStart(pool) => stop_and_start(world, pool),
            Trouble::KillWorkers(pool) => kill_workers(world, pool),
            Trouble::KillGateway(pool) => kill_gateway(world, pool),
            Trouble::KillGatewayDuring(pool, command) => {
                let during = command.begin(world);
                kill_gateway(world, pool);
                command.may_be_refused(&during.join().unwrap());
            }
            Trouble::Suspend(pool, command) => suspend(world, pool, *command),
            Trouble::SuspendGateway(pool) => suspend_gateway(world, pool),
            Trouble::Recycle(pool, reason) => recycle(world, pool, *reason),
            Trouble::Burst(pool) => pressure::burst(world, pool),
            Trouble::Crush(pool) => pressure::crush(world, pool),
            Trouble::Impatience(pool) => pressure::impatience(world, pool),
            Trouble::Timeout(pool) => pressure::timeout(world, pool),
            Trouble::Finish(pool) => drop(ask_at_once(&world.fpmd.address(pool), "/finish/200", 4)),
            Trouble::SecondAddress(pool, second) => second_address(world, pool, *second),
            Trouble::GuestComes(mode, dispatch) => guest_comes(world, *mode, *dispatch),
            Trouble::GuestLeaves => guest_leaves(world),
            Trouble::Mode(pool, mode) => {
                world.shapes.get_mut(pool).unwrap().mode = *mode;
                world.change_back();
            }
            Trouble::Dispatch(pool) => change_dispatch(world, pool),
            Trouble::Look => look(world),
        }
    }
}

fn bad_file(world: &mut World) {
    world.fpmd.rig.dir.write("fpmd.toml", "[pool.c\nthis is no TOML");
    let ran = world.fpmd.ctl(&["reload"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    world.write();
}

fn bad_worker(world: &mut World, pool: &str) {
    let broken = format!("{:?}", workers::shell("echo 'no such database' >&2; exit 3"));
    world.write_but(|name, other| if name == pool { other.key("command", &broken) } else { other });
    let ran = world.fpmd.ctl(&["reload", pool]);
    world.write();
    assert!(ran.code == Some(1) && ran.err.contains("no such database"), "{ran:?}");
}

fn rotate(world: &mut World) {
    world.rotations += 1;
    let number = world.rotations;
    let logs: Vec<_> = world
        .shapes
        .values()
        .filter(|shape| shape.dispatch == Dispatch::Gateway)
        .flat_map(|shape| {
            ["access", "slow"].map(|kind| world.fpmd.rig.dir.join(&format!("{}.{kind}", shape.name)))
        })
        .collect();
    for log in &logs {
        let kind = log.extension().unwrap().to_str().unwrap();
        std::fs::rename(log, log.with_extension(format!("{kind}.{number}"))).unwrap();
    }
    world.fpmd.ctl_done(&["reopen"]);
    assert!(logs.iter().all(|log| log.exists()), "a log was not opened again");
}

fn scale(world: &mut World, pool: &'static str, workers: u32) {
    let usual = world.shapes[pool].mode.most();
    for number in [workers, usual] {
        world.fpmd.ctl_done(&["scale", pool, &number.to_string()]);
        assert_eq!(world.fpmd.pool(pool).max_children, number);
    }
}

fn stop_and_start(world: &mut World, pool: &'static str) {
    let from = Instant::now();
    world.fpmd.ctl_done(&["stop", pool]);
    let stopped = world.fpmd.pool(pool);
    assert_eq!((stopped.state.as_str(), stopped.total_processes), ("stopped", 0), "{stopped:?}");
    assert!(!world.fpmd.socket(pool).exists(), "the socket of a pool that is stopped");
    world.fpmd.ctl_done(&["start", pool]);
    world.excuse(pool, from, "it was stopped", usize::MAX);
    world.recount.push(pool);
}

fn kill_workers(world: &mut World, pool: &'static str) {
    for pid in world.fpmd.workers(pool).into_iter().take(2) {
        kill(world, pool, pid, 1, "a worker was killed");
    }
}

fn kill(world: &mut World, pool: &'static str, pid: i32, most: usize, why: &'static str) {
    let from = Instant::now();
    // It may have ended by itself.
    if nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
        // Until then it may be sent something.
        wait_until("its end", || !process::is_alive(pid));
        world.excuse(pool, from, why, most);
    }
}

fn kill_gateway(world: &mut World, pool: &'static str) {
    // One that is being exchanged may not answer at this moment.
    if let Some(gateway) = world.fpmd.pool(pool).gateway {
        kill(world, pool, gateway.pid.as_raw(), usize::MAX, "a gateway was killed");
        world.recount.push(pool);
    }
}

/// While it is suspended, the command goes on as long as it likes.
fn suspend(world: &mut World, pool: &'static str, command: Command) {
    let worker = world.fpmd.workers(pool).first().copied();
    let send = |signal| worker.map(|pid| nix::sys::signal::kill(Pid::from_raw(pid), signal));
    send(Signal::SIGSTOP);
    let during = command.begin(world);
    std::thread::sleep(Duration::from_millis(200));
    send(Signal::SIGCONT);
    command.may_be_refused(&during.join().unwrap());
}

fn suspend_gateway(world: &mut World, pool: &'static str) {
    let Some(gateway) = world.fpmd.pool(pool).gateway else { return };
    process::signal(gateway.pid.as_raw(), Signal::SIGSTOP);
    world.fpmd.ctl_done(&["status"]);
    process::signal(gateway.pid.as_raw(), Signal::SIGCONT);
}

fn recycle(world: &mut World, pool: &'static str, reason: Reason) {
    let (key, value) = match reason {
        Reason::Requests => ("max_requests", "5"),
        Reason::Lifetime => ("max_lifetime", "\"300ms\""),
        Reason::Memory => ("max_memory", "\"20M\""),
    };
    world.change(pool, |shape| shape.pm(key, value));
    let count = |world: &World| {
        let pool = world.fpmd.pool(pool);
        match reason {
            Reason::Requests => pool.recycled_requests,
            Reason::Lifetime => pool.recycled_lifetime,
            Reason::Memory => pool.recycled_memory,
        }
    };
    let (before, address) = (count(world), world.fpmd.address(pool));
    wait_until(&format!("recycled workers, {reason:?}"), || {
        let path = if reason == Reason::Memory { "/hold/40000000" } else { "/slow/1" };
        ask(&address, path).unwrap();
        count(world) > before
    });
    world.change_back();
}

fn second_address(world: &mut World, pool: &'static str, second: Second) {
    let addresses = |world: &World| {
        let listeners = world.fpmd.pool(pool).listeners.into_iter();
        listeners.map(|listener| listener.address).collect::<Vec<_>>()
    };
    let before = addresses(world);
    let shape = world.shapes.get_mut(pool).unwrap();
    shape.second = if shape.second.is_some() { None } else { Some(second) };
    world.change_back();
    let now = addresses(world);
    assert_ne!(before.len(), now.len(), "{before:?} {now:?}");
    for address in before.iter().chain(&now) {
        let answer = ask(&address_of(address), "/slow/1");
        assert_eq!(answer.is_ok(), now.contains(address), "{address}: {answer:?}");
    }
}

/// From the words of the status.
fn address_of(words: &str) -> Address {
    match (words.strip_prefix('@'), words.parse()) {
        (Some(name), _) => Address::Abstract(name.to_owned()),
        (None, Ok(tcp)) => Address::Tcp(tcp),
        (None, Err(_)) => Address::Unix(words.into()),
    }
}

fn change_dispatch(world: &mut World, pool: &'static str) {
    let shape = world.shapes.get_mut(pool).unwrap();
    shape.dispatch = match shape.dispatch {
        Dispatch::Direct => Dispatch::Gateway,
        Dispatch::Gateway => Dispatch::Direct,
    };
    world.recount.push(pool);
    world.change_back();
}

fn guest_comes(world: &mut World, mode: Mode, dispatch: Dispatch) {
    world.shapes.insert(GUEST, Shape::guest(mode, dispatch));
    world.recount.push(GUEST);
    world.change_back();
    pressure::burst(world, GUEST);
}

fn guest_leaves(world: &mut World) {
    world.shapes.remove(GUEST);
    world.change_back();
    assert!(!world.fpmd.socket(GUEST).exists());
}

/// A reload by SIGHUP may have been part of it: nobody says when that is done, and until then fpmd refuses an upgrade. When
/// fpmd has answered once, it has seen the signal.
fn let_reload_end(world: &World) {
    world.fpmd.snapshot();
    wait_until("the end of a reload by SIGHUP", || {
        world.fpmd.snapshot().pools.iter().all(|pool| pool.state != "reloading")
    });
}

fn look(world: &World) {
    for words in [&["status"][..], &["status", "--full"], &["--json", "status"], &["list"], &["dump"]] {
        assert!(!world.fpmd.ctl_done(words).is_empty(), "{words:?}");
    }
    // Where a gateway has just been killed that was young, there is none for a moment.
    wait_until("health", || world.fpmd.ctl(&["health"]).code == Some(0));
    for pool in ROUTED {
        let socket = world.fpmd.socket(pool).display().to_string();
        for form in ["", "?full", "?json&full", "?xml", "?html&full", "?openmetrics"] {
            let page = world.fpmd.ctl_done(&["request", &socket, &format!("/fpm-status{form}")]);
            assert!(page.contains(pool), "{form}: {page}");
        }
        assert_eq!(world.fpmd.ctl_done(&["request", &socket, "/fpm-ping"]), "pong");
    }
}
