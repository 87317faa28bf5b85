//! The whole road: curl, nginx, a pool over Unix socket or TCP, php-cgi or flup. Pages, bodies, 20 MB both ways,
//! workers killed and exchanged under load.

use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::support::daemon::{Fpmd, Pool, Rig};
use crate::support::web::Nginx;
use crate::support::{Load, process, wait_until, workers};

const MEGABYTES_20: usize = 20 * 1024 * 1024;

/// Two pools of each kind, over Unix socket and TCP, with nginx in front.
fn site(workers_each: u32) -> (Fpmd, Nginx) {
    let flup = workers::flup("threaded");
    let pool = |name: &str, command: &[String], listen: &str| {
        // What fpmd.toml(5) advises for each.
        let stop = if name.starts_with("flup") { "\"SIGKILL\"" } else { "\"SIGTERM\"" };
        let pool = Pool::new(name, command).workers(workers_each).listen(&[listen]);
        pool.key("stop_timeout", "\"20s\"").key("stop_signal", stop)
    };
    let fpmd = Rig::new()
        .for_python()
        .pool(pool("php-unix", &workers::php(), "{dir}/php-unix.sock"))
        .pool(pool("php-tcp", &workers::php(), "127.0.0.1:0"))
        .pool(pool("flup-unix", &flup, "{dir}/flup-unix.sock"))
        .pool(pool("flup-tcp", &flup, "127.0.0.1:0"))
        .start();
    let upstream = |name: &'static str| {
        let address = fpmd.pool(name).listeners.remove(0).address;
        (name, if address.starts_with('/') { format!("unix:{address}") } else { address })
    };
    let upstreams = POOLS.map(upstream);
    let nginx = Nginx::start(&fpmd.rig.dir, &upstreams);
    (fpmd, nginx)
}

const POOLS: [&str; 4] = ["php-unix", "php-tcp", "flup-unix", "flup-tcp"];

#[test]
fn pages_and_bodies_of_every_size() {
    let (fpmd, nginx) = site(2);
    // Not a round number, and not all alike.
    let upload: Vec<u8> = (0..MEGABYTES_20 + 7).map(|index| (index % 251) as u8).collect();
    let file = fpmd.rig.dir.join("upload");
    std::fs::write(&file, &upload).unwrap();
    let sum = crate::support::daemon::run("/usr/bin/md5sum", &[file.to_str().unwrap()]).out;
    let sum = sum.split(' ').next().unwrap();
    for pool in POOLS {
        let pid: i32 = nginx.page(&format!("/{pool}/pid"), &[]).unwrap().parse().unwrap();
        assert!(fpmd.workers(pool).contains(&pid), "{pool}");
        let small = nginx.page(&format!("/{pool}/body"), &["--data", "hello"]).unwrap();
        assert_eq!(small, "5 5d41402abc4b2a76b9719d911017c592", "{pool}");
        let data = format!("@{}", file.display());
        let large = nginx.page(&format!("/{pool}/body"), &["--data-binary", &data]).unwrap();
        assert_eq!(large, format!("{} {sum}", upload.len()), "{pool}");
        let down = nginx.curl(&format!("/{pool}/big/{MEGABYTES_20}"), &[]).unwrap();
        assert!(
            down.len() == MEGABYTES_20 && down.iter().all(|byte| *byte == b'x'),
            "{pool}: {}",
            down.len()
        );
        let missing = nginx.page(&format!("/{pool}/nothing"), &[]).unwrap_err();
        assert!(missing.contains("404"), "{pool}: {missing}");
    }
    drop(nginx);
    fpmd.finish();
}

#[test]
fn a_reload_under_load_loses_nothing() {
    let (fpmd, nginx) = site(3);
    let nginx = Arc::new(nginx);
    let loads = POOLS.map(|pool| {
        let nginx = nginx.clone();
        Load::start(1, move || nginx.page(&format!("/{pool}/slow/10"), &[]).map(drop))
    });
    for _ in 0..3 {
        let before: Vec<i32> = POOLS.iter().flat_map(|pool| fpmd.workers(pool)).collect();
        fpmd.ctl_done(&["reload"]);
        wait_until("the old workers to be gone", || !before.iter().any(|pid| process::is_alive(*pid)));
    }
    for (pool, load) in POOLS.iter().zip(loads) {
        let (good, bad) = load.stop();
        assert!(good > 10, "{pool}: {good}");
        assert_eq!(bad, [""; 0], "{pool}: of {good}");
        assert_eq!(fpmd.pool(pool).crashed, 0, "{:?}", fpmd.pool(pool));
    }
    drop(nginx);
    fpmd.finish();
}

#[test]
fn workers_killed_under_load_cost_their_own_request_at_most() {
    const KILLS: usize = 10;
    let (mut fpmd, nginx) = site(3);
    fpmd.expect("end young");
    fpmd.expect("ending young");
    let nginx = Arc::new(nginx);
    let loads = POOLS.map(|pool| {
        let nginx = nginx.clone();
        Load::start(2, move || nginx.page(&format!("/{pool}/slow/10"), &[]).map(drop))
    });
    for round in 0..KILLS {
        for pool in POOLS {
            let worker = fpmd.workers(pool)[round % 3];
            fpmd.expect(&worker.to_string());
            process::signal(worker, Signal::SIGKILL);
            fpmd.wait_pool(pool, "a replacement", |pool| {
                pool.total_processes == 3 && !pool.workers.iter().any(|other| other.pid.as_raw() == worker)
            });
        }
    }
    for (name, load) in POOLS.iter().zip(loads) {
        let (good, bad) = load.stop();
        // A threaded worker has as many requests in it as there are clients.
        assert!(bad.len() <= KILLS * 2, "{name}: {} of {good} failed: {bad:?}", bad.len());
        let pool = fpmd.pool(name);
        assert_eq!(pool.crashed as usize, KILLS, "{pool:?}");
        nginx.page(&format!("/{name}/pid"), &[]).unwrap();
    }
    drop(nginx);
    fpmd.finish();
}

#[test]
fn a_request_that_kills_its_worker_is_an_error_page_and_nothing_more() {
    let (mut fpmd, nginx) = site(1);
    for pool in POOLS {
        let worker = fpmd.workers(pool)[0];
        fpmd.expect(&format!("[pool {pool}]"));
        let error = nginx.page(&format!("/{pool}/die"), &[]).unwrap_err();
        assert!(error.contains("502"), "{pool}: {error}");
        let pid: i32 = nginx.page(&format!("/{pool}/pid"), &[]).unwrap().parse().unwrap();
        assert_ne!(pid, worker, "{pool}");
        // A GET may be repeated: its second worker died of it, too, and there is no third.
        fpmd.wait_pool(pool, "two crashes", |pool| pool.crashed == 2);
    }
    drop(nginx);
    fpmd.finish();
}
