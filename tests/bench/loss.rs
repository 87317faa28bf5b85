//! What is lost while things happen to a pool of PHP, side by side with Debian's php-fpm: `cargo bench --bench loss`. nginx in
//! front, 32 clients, requests of 1, 50 and 500 ms and bodies of 5 MB; each thing is done and then left alone for a while.
//! The suite's loss test has all kinds of workers and more troubles, and demands that nothing is lost.
#![allow(missing_docs, reason = "a program, not a library")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

use std::cell::RefCell;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use fpm::PhpFpm;
use support::daemon::{Dispatch, Pool, Rig};
use support::dir::Dir;
use support::process;
use support::traffic::{Ask, Sample, Traffic, quantile};
use support::trouble::{Kill, Victim, WARNINGS};
use support::web::Nginx;
use support::workers;

mod fpm;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/support/mod.rs"]
mod support;

const WORKERS: u32 = 8;
const CLIENTS: usize = 32;
const ASKS: [Ask; 4] = [Ask::Wait(1), Ask::Wait(50), Ask::Wait(500), Ask::Upload(5 << 20)];

/// How long each thing is left alone.
const AFTER: Duration = Duration::from_secs(3);

/// What is done, and what the table calls it.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Nothing,
    Reload,
    Mistake,
    Rotation,
    WorkerKilled,
    Scale,
    Upgrade,
    GatewayKilled,
}

/// In this order. php-fpm has no equal of the last ones.
const DEEDS: [(Deed, &str); 8] = [
    (Deed::Nothing, "nothing"),
    (Deed::Reload, "reload"),
    (Deed::Mistake, "reload with a mistake in the file"),
    (Deed::Rotation, "log rotation"),
    (Deed::WorkerKilled, "a worker killed"),
    (Deed::Scale, "another number of workers"),
    (Deed::Upgrade, "upgrade in place"),
    (Deed::GatewayKilled, "the gateway killed"),
];

/// Does one of the deeds; `Err` where there is no such thing.
type Doer<'a> = &'a dyn Fn(Deed) -> Result<Option<Kill>, ()>;

/// What one contestant has lost.
struct Column {
    name: String,
    /// For each deed, how many requests there were, and how many were lost outside and inside a killed process.
    cells: Vec<Option<[usize; 3]>>,
    p99: Duration,
}

fn main() {
    let mut columns = vec![ours()];
    match fpm::program() {
        None => println!("skipped: php-fpm is not installed"),
        Some(program) => columns.extend([0, 10].map(|timeout| theirs(program, timeout))),
    }
    print!("{:<40}", "lost of all (and inside what was killed)");
    columns.iter().for_each(|column| print!(" {:>24}", column.name));
    for (row, (_, words)) in DEEDS.iter().enumerate() {
        print!("\n{words:<40}");
        for column in &columns {
            let cell = column.cells[row].map_or("-".to_owned(), |[all, outside, inside]| {
                let killed = if inside > 0 { format!(" (+{inside})") } else { String::new() };
                format!("{outside} of {all}{killed}")
            });
            print!(" {cell:>24}");
        }
    }
    print!("\n{:<40}", "p99 of 1-ms requests");
    columns.iter().for_each(|column| print!(" {:>21.0} ms", column.p99.as_secs_f64() * 1000.0));
    println!();
}

fn ours() -> Column {
    let pool = |workers| Pool::new("www", &workers::php()).workers(workers).dispatch(Dispatch::Gateway);
    let log = |pool: Pool| pool.key("access_log", "\"{dir}/www.access\"");
    let rig = WARNINGS.into_iter().fold(Rig::new().pool(log(pool(WORKERS))), |rig, piece| rig.expect(piece));
    let mut fpmd = rig.start();
    fpmd.descriptors_may_change();
    let socket = fpmd.socket("www");
    let fpmd = RefCell::new(fpmd);
    let kill = |victim, pid| Ok(Kill::make(0, victim, pid));
    let column = play("fpmd", &socket, &|deed| {
        let mut fpmd = fpmd.borrow_mut();
        match deed {
            Deed::Nothing => {}
            Deed::Reload => drop(fpmd.ctl_done(&["reload"])),
            Deed::Mistake => {
                fpmd.rig.dir.write("fpmd.toml", "[pool.www\nthis is no TOML");
                assert_eq!(fpmd.ctl(&["reload"]).code, Some(1));
                fpmd.rewrite(&[log(pool(WORKERS))]);
            }
            Deed::Rotation => {
                let file = fpmd.rig.dir.join("www.access");
                std::fs::rename(&file, file.with_extension("access.1")).unwrap();
                fpmd.ctl_done(&["reopen"]);
            }
            Deed::WorkerKilled => return kill(Victim::Worker, fpmd.workers("www")[0]),
            Deed::Scale => {
                for workers in [WORKERS * 2, 1, WORKERS] {
                    fpmd.ctl_done(&["scale", "www", &workers.to_string()]);
                }
            }
            Deed::Upgrade => drop(fpmd.ctl_done(&["upgrade"])),
            Deed::GatewayKilled => {
                return kill(Victim::Gateway, fpmd.pool("www").gateway.unwrap().pid.as_raw());
            }
        }
        Ok(None)
    });
    fpmd.into_inner().finish();
    column
}

/// With this `process_control_timeout`, seconds. Debian's is 0.
fn theirs(program: &'static str, timeout: u32) -> Column {
    let dir = Dir::new();
    let management = format!(
        "pm = static\npm.max_children = {WORKERS}\naccess.log = {}\n",
        dir.join("www.access").display()
    );
    let fpm = PhpFpm::managed(program, &management, &format!("process_control_timeout = {timeout}"));
    let socket = fpm.socket();
    let fpm = RefCell::new(fpm);
    play(&format!("php-fpm, {timeout} s"), &socket, &|deed| {
        let mut fpm = fpm.borrow_mut();
        match deed {
            Deed::Nothing => {}
            Deed::Reload => process::signal(fpm.pid(), Signal::SIGUSR2),
            Deed::Mistake => fpm.reload_with_mistake(),
            Deed::Rotation => process::signal(fpm.pid(), Signal::SIGUSR1),
            Deed::WorkerKilled => {
                return Ok(process::children(fpm.pid())
                    .first()
                    .and_then(|pid| Kill::make(0, Victim::Worker, *pid)));
            }
            Deed::Scale | Deed::Upgrade | Deed::GatewayKilled => return Err(()),
        }
        Ok(None)
    })
}

fn play(name: &str, socket: &Path, perform: Doer<'_>) -> Column {
    let dir = Dir::new();
    let nginx = Nginx::start(&dir, &[("www", format!("unix:{}", socket.display()))]);
    let traffic = Traffic::start(nginx.socket(), &["www"], CLIENTS, &ASKS);
    let (mut kills, mut begun) = (Vec::new(), Vec::new());
    for (deed, _) in DEEDS {
        let at = Instant::now();
        let done = perform(deed);
        kills.extend(done.iter().flatten().cloned());
        if done.is_ok() {
            sleep(AFTER);
        }
        begun.push((at, done.is_ok()));
    }
    let samples = traffic.stop();
    let cells = (0..DEEDS.len()).map(|row| {
        let (from, done) = begun[row];
        let to = begun.get(row + 1).map(|(at, _)| *at);
        let of = |sample: &&Sample| from <= sample.ended && to.is_none_or(|to| sample.ended < to);
        let lost = || samples.iter().filter(of).filter(|sample| sample.failure.is_some());
        let inside = lost().filter(|sample| kills.iter().any(|kill| kill.explains(sample))).count();
        done.then(|| [samples.iter().filter(of).count(), lost().count() - inside, inside])
    });
    let quick = samples.iter().filter(|sample| sample.ask == Ask::Wait(1)).map(Sample::took).collect();
    Column { name: name.to_owned(), cells: cells.collect(), p99: quantile(quick, 0.99) }
}
