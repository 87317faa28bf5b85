//! What a pool with a gateway writes down, through the whole of fpmd: the slow log with what only the master may see, the
//! access log, the status page beside fpmctl's.

use std::fs;

use crate::gateway_life::{routed, serving};
use crate::support::daemon::Rig;
use crate::support::{wait_until, workers};

#[test]
fn a_slow_request_is_written_down_with_what_its_worker_does() {
    let pool = routed("www", &workers::php())
        .key("slowlog", "\"{dir}/slow\"")
        .key("request_slowlog_timeout", "\"100ms\"")
        .key("access_log", "\"{dir}/access\"")
        .key("access_format", "\"json\"");
    let fpmd = serving(Rig::new().pool(pool).expect("executing too slow"));
    let pid = fpmd.address("www").get("/slow/500").unwrap().text();
    let read = |name: &str| fs::read_to_string(fpmd.rig.dir.join(name)).unwrap_or_default();
    wait_until("a block", || read("slow").contains("memory = "));
    let block = read("slow");
    assert!(block.contains(&format!("]  [pool www] pid {pid}\nscript_filename = /")), "{block}");
    assert!(block.contains("\nrequest = \"GET /slow/500\"\nage = 0."), "{block}");
    assert!(block.contains("\nstate = S (sleeping)\n"), "{block}");
    let sleeps = |line: &str| line.starts_with("system_call = ") && line.ends_with("nanosleep()");
    assert!(block.lines().any(sleeps), "the master sees what the gateway may not: {block}");
    fpmd.wait_log(&format!("[pool www] child {pid}, script '/"));
    assert!(fpmd.log().contains(" (request: \"GET /slow/500\") executing too slow (0."), "{}", fpmd.log());

    wait_until("a line", || read("access").ends_with('\n'));
    let line: serde_json::Value = serde_json::from_str(&read("access")).unwrap();
    assert_eq!((line["pid"].to_string(), line["outcome"].as_str()), (pid, Some("answered")));
    let gateway = fpmd.pool("www").gateway.unwrap();
    assert_eq!((gateway.slow_requests, gateway.duration.count, gateway.queue_wait.count), (1, 1, 1));
    assert!(gateway.duration.max >= 500_000 && gateway.duration.p99 >= 500_000);
    fpmd.finish();
}
