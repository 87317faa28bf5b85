//! How the number of workers is decided: `mode` in `[pool.NAME.pm]` and the settings that only some modes have.
//! Names, defaults and rules are php-fpm's (`fpm_conf.c`); a setting that the pool's mode does not have is a mistake here.

use std::time::Duration;

use super::error::Cause;
use super::model::{Pace, PmMode, Spares};
use super::values::show_duration;
use super::walk::{Item, Report, Table};

/// Settings that only some modes have, with these modes.
pub(super) const MODAL: [(&str, &[&str]); 5] = [
    ("start_servers", &["dynamic"]),
    ("min_spare_servers", &["dynamic"]),
    ("max_spare_servers", &["dynamic"]),
    ("max_spawn_rate", &["dynamic", "ondemand"]),
    ("process_idle_timeout", &["dynamic", "ondemand"]),
];

/// Reads `mode` and what belongs to it; `None` if something that it needs is missing or wrong, which is reported.
/// `max_children` is `None` where it is wrong.
pub(super) fn read(report: &mut Report, pm: &Table<'_>, max_children: Option<u32>) -> Option<PmMode> {
    let mode: String = pm.value(report, "mode", |report, item| item.choice(report));
    let is_known = pm.given("mode").is_none_or(|item| item.choice(&mut Report::default()).is_some());
    if is_known {
        refuse_others(report, pm, &mode);
    }
    match mode.as_str() {
        "dynamic" => spares(report, pm, max_children).map(PmMode::Dynamic),
        "ondemand" => Some(PmMode::Ondemand(pace(report, pm))),
        _ => Some(PmMode::Static),
    }
}

fn refuse_others(report: &mut Report, pm: &Table<'_>, mode: &str) {
    for (name, modes) in MODAL.iter().filter(|(_, modes)| !modes.contains(&mode)) {
        if pm.given(name).is_some() {
            let modes: Vec<String> = modes.iter().map(|mode| format!("mode = \"{mode}\"")).collect();
            let sentence = format!("is for {}, and this pool is {mode}; leave it out", modes.join(" and "));
            pm.fail(report, name, Cause::Value(sentence));
        }
    }
}

fn spares(report: &mut Report, pm: &Table<'_>, max_children: Option<u32>) -> Option<Spares> {
    let whole = |report: &mut Report, item: &Item<'_>| item.whole::<u32>(report);
    let advice = "write how many idle workers there are at least, such as min_spare_servers = 1";
    let least = pm.required(report, "min_spare_servers", advice, whole);
    let advice = "write how many idle workers there are at most, such as max_spare_servers = 4";
    let most = pm.required(report, "max_spare_servers", advice, whole);
    let start = pm.optional(report, "start_servers", whole);
    let pace = pace(report, pm);
    for (name, number) in [("min_spare_servers", least), ("max_spare_servers", most)] {
        let over = number.zip(max_children).filter(|(number, children)| number > children);
        if let Some((number, children)) = over {
            let sentence = format!("{number} is more than max_children, which is {children}");
            pm.fail(report, name, Cause::Value(sentence));
        }
    }
    let (least, most) = (least?, most?);
    if most < least {
        let sentence = format!("{most} is less than min_spare_servers, which is {least}");
        pm.fail(report, "max_spare_servers", Cause::Value(sentence));
        return None;
    }
    let start_servers = start.unwrap_or(least + (most - least) / 2);
    if !(least..=most).contains(&start_servers) {
        let sentence = format!(
            "{start_servers} is not between min_spare_servers and max_spare_servers, which are {least} and {most}"
        );
        pm.fail(report, "start_servers", Cause::Value(sentence));
    }
    Some(Spares { start_servers, min_spare_servers: least, max_spare_servers: most, pace })
}

fn pace(report: &mut Report, pm: &Table<'_>) -> Pace {
    Pace {
        max_spawn_rate: pm.value(report, "max_spawn_rate", |report, item| item.whole(report)),
        process_idle_timeout: pm.value(report, "process_idle_timeout", idle_timeout),
    }
}

/// php-fpm's least is a second; less is of use to nobody, but zero would end a worker before its first request.
fn idle_timeout(report: &mut Report, item: &Item<'_>) -> Option<Duration> {
    const LEAST: Duration = Duration::from_millis(1);
    let time = item.time(report)?;
    if time < LEAST {
        return item
            .refuse(report, format!("{} is too short; write a time such as \"10s\"", show_duration(time)));
    }
    Some(time)
}
