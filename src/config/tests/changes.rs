//! What a reload has to do about changed settings.

use super::super::changes::{Change, needing_restart, of_pool};
use super::super::model::Pool;
use super::{POOL, config};

fn pool(lines: &str) -> Pool {
    let text = format!("{POOL}{lines}\n");
    config(&text).pools.into_values().next().expect("a pool")
}

fn change(before: &str, after: &str) -> Change {
    of_pool(&pool(before), &pool(after))
}

const GATEWAY: &str = "dispatch = \"gateway\"";

#[test]
fn each_setting_is_applied_as_the_table_says() {
    assert_eq!(change("umask = \"022\"", "umask = \"022\""), Change::None);
    assert_eq!(change("", "listen_backlog = 7"), Change::Live(vec!["listen_backlog"]));
    assert_eq!(
        change("", "stop_timeout = 7\nstart_timeout = 7"),
        Change::Live(vec!["stop_timeout", "start_timeout"])
    );
    assert_eq!(change("", "umask = \"077\"\nlisten_backlog = 7"), Change::Generation(vec!["umask"]));
    assert_eq!(change("dispatch = \"direct\"", GATEWAY), Change::Generation(vec!["dispatch"]));
    let (before, after) = (format!("{GATEWAY}\nqueue_limit = 1"), format!("{GATEWAY}\nstatus_path = \"/s\""));
    assert_eq!(change(&before, &after), Change::Live(vec!["status_path", "queue_limit"]));
}

#[test]
fn an_address_is_for_new_workers_only_where_they_accept_on_it() {
    let at = |port: &str, dispatch: &str| {
        let text = POOL.replace("9000", port);
        let text = format!("{text}dispatch = \"{dispatch}\"\n");
        config(&text).pools.into_values().next().expect("a pool")
    };
    assert_eq!(of_pool(&at("1", "gateway"), &at("2", "gateway")), Change::Live(vec!["listen"]));
    assert_eq!(of_pool(&at("1", "direct"), &at("2", "direct")), Change::Generation(vec!["listen"]));
}

#[test]
fn a_name_that_means_another_user_by_now_is_a_change() {
    let before = pool("");
    let mut after = before.clone();
    after.user.as_mut().expect("a user").uid.0 += 1;
    assert_eq!(of_pool(&before, &after), Change::Generation(vec!["user"]));
}

#[test]
fn settings_that_need_a_restart_are_named_with_both_values_and_the_reason() {
    let before = config("");
    let after = config("[global]\nlog_level = \"debug\"\npid_file = \"/run/x\"\ngateway_user = \"joe\"\n");
    let lines = needing_restart(&before.global, &after.global);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("global.gateway_user has changed from"), "{}", lines[0]);
    assert!(lines[0].contains("to \"joe\": that needs a restart of fpmd, as "), "{}", lines[0]);
    assert!(needing_restart(&before.global, &before.global).is_empty());
}
