//! More than a pool can do: what must be answered later, and what must be refused, but in words.

use std::time::Instant;

use super::world::World;
use crate::support::crowd::ask_at_once;

/// More requests at once than there are workers.
pub fn burst(world: &mut World, pool: &str) {
    let answers = ask_at_once(&world.fpmd.address(pool), "/slow/20", 40);
    assert!(answers.iter().all(|one| one.as_ref().is_ok_and(|head| !head.contains("Status"))), "{answers:?}");
}

/// Answered or refused, but not dropped.
#[track_caller]
fn refusals(answers: Vec<Result<String, String>>, status: &str) -> usize {
    let bad: Vec<_> = answers.iter().filter(|one| one.is_err()).collect();
    assert!(bad.is_empty(), "{bad:?}");
    answers.iter().flatten().filter(|head| head.starts_with(status)).count()
}

/// More than may wait.
pub fn crush(world: &mut World, pool: &'static str) {
    overload(world, pool, ("queue_limit", "2"), ("/slow/100", 40), "the queue was full");
}

/// Requests that wait for longer than they may.
pub fn impatience(world: &mut World, pool: &'static str) {
    overload(world, pool, ("queue_timeout", "\"50ms\""), ("/slow/300", 20), "the queue was slow");
}

/// So many requests at once, some of which are refused with this setting.
fn overload(
    world: &mut World,
    pool: &'static str,
    (key, value): (&str, &str),
    (path, number): (&str, usize),
    why: &'static str,
) {
    let from = Instant::now();
    world.change(pool, |shape| shape.key(key, value));
    let refused = refusals(ask_at_once(&world.fpmd.address(pool), path, number), "Status: 503");
    assert!(refused > 0, "nobody was refused");
    world.change_back();
    world.excuse(pool, from, why, usize::MAX);
}

/// Requests that take too long.
pub fn timeout(world: &mut World, pool: &'static str) {
    let from = Instant::now();
    world.change(pool, |shape| {
        shape.key("request_slowlog_timeout", "\"100ms\"").key("request_terminate_timeout", "\"400ms\"")
    });
    let ended = refusals(ask_at_once(&world.fpmd.address(pool), "/slow/20000", 3), "Status: 504");
    assert_eq!(ended, 3, "not everybody was ended");
    world.change_back();
    world.excuse(pool, from, "requests were ended", usize::MAX);
}
