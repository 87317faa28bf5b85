//! The wall clock leaps, as it does after a suspend, a wrong battery or a correction by hand: fpmd waits and measures by
//! another one. The leaps are libfaketime's, for the master and the gateway only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::gateway_life::routed;
use crate::support::daemon::{Fpmd, Rig};
use crate::support::{Load, wait_until, workers};
use crate::upgrade::good;

/// Of Debian's package libfaketime.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// The clock is so far from the right time: `+1d`.
fn leap(dir: &Path, by: &str) {
    // In one step, as it is read at every look at the clock.
    let draft = dir.join("clock.new");
    std::fs::write(&draft, by).unwrap();
    std::fs::rename(draft, dir.join("clock")).unwrap();
}

/// fpmd and its gateway as scripts that look at such a clock.
fn rig_with_clock(library: &Path) -> Rig {
    let rig = Rig::new();
    leap(rig.dir.path(), "+0d");
    let built = Path::new(env!("CARGO_BIN_EXE_fpmd"));
    for name in ["fpmd", "fpmd-gateway"] {
        let text = format!(
            "#!/bin/sh\nexport LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1\n\
             export FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1 TZ=UTC\n\
             exec {} \"$@\"\n",
            library.display(),
            rig.dir.join("clock").display(),
            rig.dir.join("real").join(name).display()
        );
        rig.dir.program(name, &text);
        std::fs::create_dir_all(rig.dir.join("real")).unwrap();
        std::os::unix::fs::symlink(built.with_file_name(name), rig.dir.join("real").join(name)).unwrap();
    }
    let program = rig.dir.join("fpmd");
    rig.program(&program)
}

/// Today as the log has it, so far from the right time.
fn day(by: &str) -> String {
    let words = ["-u", "-d", by, "+%d-%b-%Y"];
    let date = Command::new("date").env("LC_ALL", "C").args(words).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

/// Ages, which no leap may make absurd, and counts.
#[track_caller]
fn assert_sane(fpmd: &Fpmd, since: Instant) {
    let most = since.elapsed().as_secs() + 1;
    let snapshot = fpmd.snapshot();
    assert!(snapshot.start_since <= most, "{snapshot:?}");
    for pool in &snapshot.pools {
        assert!(pool.start_since <= most, "{pool:?}");
        assert_eq!((pool.recycled, pool.crashed, pool.killed), (0, 0, 0), "{pool:?}");
        let ages = pool.workers.iter().map(|worker| worker.start_since);
        assert!(ages.into_iter().all(|age| age <= most), "{pool:?}");
        let longest = pool.gateway.as_ref().map_or(0, |gateway| gateway.duration.max);
        assert!(longest <= most * 1_000_000, "{pool:?}");
    }
}

#[test]
fn leaps_of_the_wall_clock_end_no_worker_and_no_request() {
    let Some(library) = library() else {
        return eprintln!("skipped: no libfaketime here; tests/setup.sh installs it");
    };
    let since = Instant::now();
    let hourly = routed("www", &workers::c()).workers(3).pm("max_lifetime", "\"1h\"");
    let pool = hourly.key("request_terminate_timeout", "\"10s\"").key("queue_timeout", "\"10s\"");
    let ondemand = routed("idle", &workers::c()).mode("ondemand").pm("process_idle_timeout", "\"1h\"");
    let timed = routed("timed", &workers::c()).key("request_terminate_timeout", "\"2s\"");
    let rig = rig_with_clock(&library).pool(pool).pool(ondemand).pool(timed);
    let mut fpmd = rig.expect("timed").start();
    // An ondemand pool gets its first worker.
    fpmd.descriptors_may_change();
    good(fpmd.address("idle").get("/pid")).unwrap();
    let before = [fpmd.workers("www"), fpmd.workers("idle")];
    let address = fpmd.address("www");
    let load = Load::start(2, move || good(address.get("/slow/5")));
    for (by, date) in
        [("+1d", "1 day"), ("-1d", "-1 day"), ("+0d", "0 day"), ("+400d", "400 day"), ("-1d", "-1 day")]
    {
        let mut slow = fpmd.address("www").connect().unwrap();
        slow.send("GET", "/slow/300", b"").unwrap();
        fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes > 0);
        let expected = day(date);
        leap(fpmd.rig.dir.path(), by);
        // The next line has the new time.
        wait_until(&format!("a log line of {expected}"), || {
            fpmd.ctl_done(&["reopen"]);
            let log = fpmd.log();
            let last = log.lines().rfind(|line| line.contains("log re-opened")).unwrap_or_default();
            [&expected, &day(date)].iter().any(|day| last.contains(day.as_str()))
        });
        assert_sane(&fpmd, since);
        good(slow.answer()).unwrap();
        load.wait_for_more(20);
    }
    assert_eq!([fpmd.workers("www"), fpmd.workers("idle")], before);
    let (_, bad) = load.stop();
    assert_eq!(bad, [""; 0]);
    assert_sane(&fpmd, since);
    // A limit is as long as it was, whichever way the clock leaps meanwhile.
    for by in ["+1d", "-1d"] {
        fpmd.wait_pool("timed", "an idle worker", |pool| pool.idle_processes == 1);
        let begun = Instant::now();
        let mut late = fpmd.address("timed").connect().unwrap();
        late.send("GET", "/slow/60000", b"").unwrap();
        fpmd.wait_pool("timed", "a busy worker", |pool| pool.active_processes == 1);
        leap(fpmd.rig.dir.path(), by);
        let answer = late.answer().unwrap();
        assert!(answer.head.contains("Status: 504"), "{answer:?}");
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(20), "{took:?}");
    }
    fpmd.finish();
}
