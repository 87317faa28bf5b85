//! `[pool.NAME.pm]`: the three modes, their defaults, and php-fpm's rules with the sentences of each mistake.

use std::time::Duration;

use super::super::model::{Pace, PmMode, Pool, Spares};
use super::{POOL, config, mistake, mistakes};

fn pm(lines: &str) -> Pool {
    let text = format!("{POOL}{lines}").replace("max_children = 2", "max_children = 8");
    let (_, pool) = config(&text).pools.into_iter().next().expect("a pool");
    pool
}

/// The mistakes of a dynamic pool of 8 with these lines, which begin at line 7.
fn dynamic(lines: &str) -> Vec<String> {
    let text =
        format!("{POOL}pm.mode = \"dynamic\"\n{lines}").replace("max_children = 2", "max_children = 8");
    mistakes(&text)
}

#[test]
fn a_dynamic_pool_has_spare_workers() {
    let spares = |start_servers, max_spawn_rate| Spares {
        start_servers,
        min_spare_servers: 2,
        max_spare_servers: 7,
        pace: Pace { max_spawn_rate, process_idle_timeout: Duration::from_secs(10) },
    };
    let lines = "pm.mode = \"dynamic\"\npm.min_spare_servers = 2\npm.max_spare_servers = 7\n";
    assert_eq!(pm(lines).pm.mode, PmMode::Dynamic(spares(4, 32)), "half way, rounded down, as in php-fpm");
    let more = format!("{lines}pm.start_servers = 7\npm.max_spawn_rate = 3\n");
    assert_eq!(pm(&more).pm.mode, PmMode::Dynamic(spares(7, 3)));
    assert_eq!((pm(lines).pm.max_children, pm(lines).pm.bounds(1, 1).reserved()), (8, 2));
}

#[test]
fn an_ondemand_pool_has_a_time() {
    let ondemand = |process_idle_timeout, max_spawn_rate| {
        PmMode::Ondemand(Pace { max_spawn_rate, process_idle_timeout })
    };
    let lines = "pm.mode = \"ondemand\"\n";
    assert_eq!(pm(lines).pm.mode, ondemand(Duration::from_secs(10), 32));
    let more = format!("{lines}pm.process_idle_timeout = \"250ms\"\npm.max_spawn_rate = 1\n");
    assert_eq!(pm(&more).pm.mode, ondemand(Duration::from_millis(250), 1));
    let reserved = |lines| pm(lines).pm.bounds(1, 1).reserved();
    assert_eq!((reserved(lines), reserved("")), (1, 8));
}

#[test]
fn spare_servers_have_to_be_given_and_to_fit() {
    assert_eq!(
        dynamic(""),
        [
            "f:2:1: pool.www.pm.min_spare_servers: missing; write how many idle workers there are at least, such as min_spare_servers = 1",
            "f:2:1: pool.www.pm.max_spare_servers: missing; write how many idle workers there are at most, such as max_spare_servers = 4",
        ]
    );
    let cases: [(&str, &[&str]); 5] = [
        (
            "pm.min_spare_servers = 3\npm.max_spare_servers = 2\n",
            &["f:8:24: pool.www.pm.max_spare_servers: 2 is less than min_spare_servers, which is 3"],
        ),
        (
            "pm.min_spare_servers = 1\npm.max_spare_servers = 9\n",
            &["f:8:24: pool.www.pm.max_spare_servers: 9 is more than max_children, which is 8"],
        ),
        (
            "pm.min_spare_servers = 9\npm.max_spare_servers = 9\n",
            &[
                "f:7:24: pool.www.pm.min_spare_servers: 9 is more than max_children, which is 8",
                "f:8:24: pool.www.pm.max_spare_servers: 9 is more than max_children, which is 8",
            ],
        ),
        (
            "pm.min_spare_servers = 0\npm.max_spare_servers = 2\n",
            &["f:7:24: pool.www.pm.min_spare_servers: 0 is out of range; it is 1 to 4194304"],
        ),
        (
            "pm.min_spare_servers = 1\npm.max_spare_servers = 2\npm.start_servers = 3\n",
            &[
                "f:9:20: pool.www.pm.start_servers: 3 is not between min_spare_servers and max_spare_servers, which are 1 and 2",
            ],
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(dynamic(lines), expected, "{lines}");
    }
}

#[test]
fn a_setting_of_another_mode_is_a_mistake() {
    assert_eq!(
        mistake("pm.max_spawn_rate = 3"),
        "f:6:21: pool.www.pm.max_spawn_rate: is for mode = \"dynamic\" and mode = \"ondemand\", and this pool is static; leave it out"
    );
    assert_eq!(
        mistake("pm.process_idle_timeout = 3"),
        "f:6:27: pool.www.pm.process_idle_timeout: is for mode = \"dynamic\" and mode = \"ondemand\", and this pool is static; leave it out"
    );
    assert_eq!(
        mistakes(&format!("{POOL}pm.mode = \"ondemand\"\npm.start_servers = 1\n")),
        [
            "f:7:20: pool.www.pm.start_servers: is for mode = \"dynamic\", and this pool is ondemand; leave it out"
        ]
    );
}

#[test]
fn a_wrong_mode_is_the_only_mistake() {
    assert_eq!(
        mistakes(&format!("{POOL}pm.mode = \"ondmand\"\npm.process_idle_timeout = 3\n")),
        [
            "f:6:11: pool.www.pm.mode: 'ondmand' is not one of static, dynamic, ondemand; did you mean \"ondemand\"?"
        ]
    );
    assert_eq!(
        mistakes(&format!("{POOL}pm.mode = \"ondemand\"\npm.process_idle_timeout = 0\n")),
        ["f:7:27: pool.www.pm.process_idle_timeout: 0s is too short; write a time such as \"10s\""]
    );
}

#[test]
fn several_addresses_need_a_worker_each_or_a_gateway() {
    let text = format!("{POOL}pm.mode = \"ondemand\"\ndispatch = \"direct\"\n")
        .replace("listen = 9000", "listen = [9000, 9001]");
    assert_eq!(
        mistakes(&text),
        [
            "f:3:10: pool.www.listen: several addresses need pm.mode = \"static\" or dispatch = \"gateway\": without a gateway each worker accepts on one address, and a pool that is ondemand may have none for some"
        ]
    );
    config(&text.replace("\"direct\"", "\"gateway\""));
    let one = text.replace("\"ondemand\"", "\"static\"").replace("max_children = 2", "max_children = 1");
    assert_eq!(mistakes(&one).len(), 1);
    config(&one.replace("\"direct\"", "\"gateway\""));
}

#[test]
fn an_ondemand_pool_lets_requests_wait() {
    let text = format!("{POOL}pm.mode = \"ondemand\"\nqueue_limit = 0\n");
    let said = "queue_limit: 0 leaves a pool with pm.mode = \"ondemand\" without a worker for ever: one is started for \
                a request that waits; write at least 1";
    assert_eq!(mistakes(&text), [format!("f:7:15: pool.www.{said}")]);
    config(&text.replace("= 0", "= 1"));
    config(&text.replace("pm.mode = \"ondemand\"\n", ""));
}

#[test]
fn process_max_has_to_hold_what_pools_are_sure_of() {
    let pools = "\
        [pool.a]\nlisten = 1\ncommand = [\"/usr/bin/app\"]\nuser = 33\npm.max_children = 3\n\
        [pool.b]\nlisten = 2\ncommand = [\"/usr/bin/app\"]\nuser = 33\n\
        pm = { mode = \"dynamic\", max_children = 9, min_spare_servers = 2, max_spare_servers = 5 }\n\
        [pool.c]\nlisten = 3\ncommand = [\"/usr/bin/app\"]\nuser = 33\n\
        pm = { mode = \"ondemand\", max_children = 9 }\n";
    config(&format!("global.process_max = 6\n{pools}"));
    assert_eq!(
        mistakes(&format!("global.process_max = 5\n{pools}")),
        [
            "f:1:22: global.process_max: 5 is less than the 6 workers that all pools together need at least; raise it, or lower max_children of static and min_spare_servers of dynamic pools"
        ]
    );
}
