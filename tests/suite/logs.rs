//! What is logged and how: php-fpm's lines, JSON, files that are reopened, workers' output that never blocks them.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::{Fpmd, Pool, Rig};
use crate::support::{process, wait_until, workers};

fn file(fpmd: &Fpmd, name: &str) -> String {
    fs::read_to_string(fpmd.rig.dir.join(name)).unwrap_or_default()
}

#[test]
fn lines_have_php_fpms_form() {
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c())).start();
    let log = fpmd.log();
    for line in log.lines() {
        // [20-Nov-2026 08:15:35] NOTICE: text
        let (time, rest) = line.strip_prefix('[').and_then(|line| line.split_once("] ")).expect(line);
        assert_eq!(time.len(), "20-Nov-2026 08:15:35".len(), "{line}");
        assert!(["NOTICE: ", "WARNING: ", "DEBUG: "].iter().any(|level| rest.starts_with(level)), "{line}");
    }
    assert!(log.contains("ready to handle connections"), "{log}");
    fpmd.finish();
}

#[test]
fn a_log_file_is_reopened_and_workers_never_notice() {
    let rig = Rig::new()
        .pool(Pool::new("www", &workers::c()))
        .global("log", "\"{dir}/fpmd.log\"")
        .expect("SIGKILL");
    let fpmd = rig.start();
    let (path, old) = (fpmd.rig.dir.join("fpmd.log"), fpmd.rig.dir.join("fpmd.log.1"));
    assert!(file(&fpmd, "fpmd.log").contains("fpmd"), "it logs into the file");
    for reopen in ["SIGUSR1", "fpmctl"] {
        let before = fpmd.workers("www");
        fs::rename(&path, &old).unwrap();
        match reopen {
            "SIGUSR1" => fpmd.signal(Signal::SIGUSR1),
            _ => drop(fpmd.ctl_done(&["reopen"])),
        }
        wait_until("a new file", || path.exists());
        assert_eq!(fpmd.workers("www"), before);
        let length = fs::metadata(&old).unwrap().len();
        process::signal(before[0], Signal::SIGKILL);
        fpmd.wait_pool("www", "a new worker", |pool| {
            pool.total_processes == 1 && pool.workers[0].pid.as_raw() != before[0]
        });
        wait_until("lines in the new file", || file(&fpmd, "fpmd.log").contains(&before[0].to_string()));
        assert_eq!(fs::metadata(&old).unwrap().len(), length, "nothing more goes into the old file");
    }
    fpmd.finish();
}

#[test]
fn json_lines_are_json() {
    let script = "printf 'a \"quoted\" \\001 line\\n' >&2; exec sleep 1000";
    let pool = Pool::new("www", &workers::shell(script)).hasty();
    let fpmd = Rig::new().pool(pool).global("log_format", "\"json\"").start();
    fpmd.wait_log("quoted");
    for line in fpmd.log().lines() {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value.is_object(), "{line}");
    }
    fpmd.finish();
}

#[test]
fn output_is_captured_and_decorated_or_not_or_dropped() {
    let script = "echo from stdout; echo from stderr >&2; printf 'no newline' >&2; exec sleep 1000";
    let pool = |name: &str| Pool::new(name, &workers::shell(script)).hasty();
    let fpmd = Rig::new()
        .pool(pool("decorated"))
        .pool(pool("plain").key("decorate_workers_output", "false"))
        .pool(pool("silent").key("catch_workers_output", "false"))
        .expect("[pool decorated]")
        .start();
    let pid = fpmd.workers("decorated")[0];
    for stream in ["stdout", "stderr"] {
        fpmd.wait_log(&format!("[pool decorated] child {pid} said into {stream}: \"from {stream}\""));
    }
    wait_until("the plain line", || fpmd.log().lines().any(|line| line == "from stderr"));
    let silent = process::descriptors(fpmd.workers("silent")[0]);
    assert_eq!((silent[&1].as_str(), silent[&2].as_str()), ("/dev/null", "/dev/null"));
    assert!(!fpmd.log().contains("[pool silent] child"));
    process::signal(pid, Signal::SIGTERM);
    // A last line without an end is not lost with the worker.
    fpmd.wait_log(&format!("child {pid} said into stderr: \"no newline\""));
    fpmd.finish();
}

#[test]
fn a_flood_blocks_no_worker_and_fills_no_disk() {
    // 50 MB, then a mark that it got through.
    let rig = Rig::new();
    let script = format!(
        "[ -e {through} ] || head -c 50000000 /dev/zero | tr '\\0' 'x' | fold -w 100 >&2; touch {through}; exec sleep 1000",
        through = rig.dir.join("through").display()
    );
    let flood = Pool::new("flood", &workers::shell(&script)).hasty();
    let fpmd = rig.pool(flood).pool(Pool::new("good", &workers::c())).expect("[pool flood]").start();
    let (since, through) = (Instant::now(), fpmd.rig.dir.join("through"));
    fpmd.address("good").get("/pid").unwrap();
    wait_until("the flood to pass", || through.exists());
    let taken = since.elapsed();
    let size = fpmd.log().len();
    // 1 MB at once and 256 kB a second are let through, with what decoration adds to each line.
    let allowed = (1024.0 + 256.0 * (taken + Duration::from_secs(1)).as_secs_f64()) * 1024.0 * 3.0;
    assert!((size as f64) < allowed, "{size} bytes of log in {taken:?}");
    fpmd.wait_log("says too much into stderr: dropping lines");
    assert_eq!(fpmd.ctl(&["health"]).code, Some(0));
    process::signal(fpmd.workers("flood")[0], Signal::SIGTERM);
    // How much it was is known when it is over.
    wait_until("the count of what was dropped", || fpmd.log().contains("said too much into stderr: dropped"));
    fpmd.finish();
}

#[test]
fn a_worker_cannot_forge_a_line() {
    let script = "printf 'x\\r[20-Nov-2026 08:15:35] NOTICE: forged\\n' >&2; exec sleep 1000";
    let pool = Pool::new("www", &workers::shell(script)).hasty();
    let fpmd = Rig::new().pool(pool).expect("forged").start();
    fpmd.wait_log("forged");
    let log = fpmd.log();
    let line = log.lines().find(|line| line.contains("forged")).unwrap();
    assert!(!line.contains('\r') && line.contains("said into stderr"), "{line:?}");
    fpmd.finish();
}

#[test]
fn a_log_that_cannot_be_written_does_not_stop_the_service() {
    let rig = Rig::new().pool(Pool::new("www", &workers::c())).global("log", "\"/dev/full\"");
    let fpmd = rig.start();
    let before = fpmd.workers("www")[0];
    process::signal(before, Signal::SIGKILL);
    fpmd.wait_pool("www", "a new worker", |pool| {
        pool.total_processes == 1 && pool.workers[0].pid.as_raw() != before
    });
    fpmd.address("www").get("/pid").unwrap();
    fpmd.finish();
}
