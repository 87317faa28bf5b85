//! What `--dump` prints loads again to the same configuration.

use proptest::prelude::*;

use super::super::{dump, load_text};
use super::{FakeHost, MAIN};

/// A TOML string of any characters but NUL, which no setting takes.
fn string() -> impl Strategy<Value = String> {
    "[^\0]{0,12}"
}

fn literal(text: &str) -> String {
    let escaped: String = text.chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect();
    format!("\"{escaped}\"")
}

fn line<T>(name: &'static str, value: impl Strategy<Value = T>) -> impl Strategy<Value = String>
where
    T: std::fmt::Display + std::fmt::Debug,
{
    proptest::option::of(value)
        .prop_map(move |value| value.map_or(String::new(), |value| format!("{name} = {value}\n")))
}

fn time() -> impl Strategy<Value = String> {
    (0u64..40_000_000).prop_map(|number| format!("\"{number}ms\""))
}

fn pool() -> impl Strategy<Value = String> {
    let first = (
        proptest::sample::select(vec![
            "\"/run/a b\"",
            "9001",
            "\"[::1]:0\"",
            "[\"@x\", \"systemd:x\", \"/srv/y\"]",
        ]),
        line("listen_backlog", 1u32..5000),
        line("rlimit_core", proptest::sample::select(vec!["\"unlimited\"", "0", "4096", "\"3M\""])),
        line("memory_max", proptest::sample::select(vec!["\"64M\"", "1048576", "\"3G\""])),
        line("cpu_max", proptest::sample::select(vec!["\"50%\"", "\"400%\""])),
        line("umask", proptest::sample::select(vec!["\"022\"", "0o77", "\"0\""])),
        line("group", proptest::sample::select(vec!["\"adm\"", "44", "4711"])),
    );
    let second = (
        line("stop_signal", proptest::sample::select(vec!["\"INT\"", "9", "40"])),
        line("stop_timeout", time()),
        line("start_timeout", 0u32..1000),
        (
            line("process_priority", -20i32..20),
            line("scheduling_policy", proptest::sample::select(vec!["\"other\"", "\"batch\"", "\"idle\""])),
        )
            .prop_map(|(priority, policy)| priority + &policy),
        line("clear_env", any::<bool>()),
        line("catch_workers_output", any::<bool>()),
        line("directory", proptest::sample::select(vec!["\"/srv\"", "\"/\""])),
    );
    let environment = proptest::collection::btree_map("[^\0=]{1,8}", string(), 0..4).prop_map(|variables| {
        let pairs: Vec<String> =
            variables.iter().map(|(name, value)| format!("{} = {}", literal(name), literal(value))).collect();
        format!("env = {{ {} }}\n", pairs.join(", "))
    });
    let command = (
        proptest::sample::select(vec!["/usr/bin/app", "/usr/bin/php-cgi"]),
        proptest::collection::vec(string(), 0..3),
        3u32..99,
        proptest::sample::select(vec![
            "",
            "pm.mode = \"ondemand\"\npm.process_idle_timeout = \"90ms\"\n",
            "pm.mode = \"dynamic\"\npm.min_spare_servers = 1\npm.max_spare_servers = 3\npm.max_spawn_rate = 7\n",
        ]),
    );
    (first, second, environment, command).prop_map(
        |(first, second, environment, (program, arguments, children, mode))| {
            let arguments: String = arguments.iter().map(|text| format!(", {}", literal(text))).collect();
            let (listen, a, c, d, e, l, m) = first;
            let (f, g, h, b, i, j, k) = second;
            // Without a gateway only a static pool has several addresses.
            let mode = if listen.contains(',') { "" } else { mode };
            format!(
                "listen = {listen}\n{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}{l}{m}{environment}user = 33\n\
             command = [\"{program}\"{arguments}]\npm.max_children = {children}\n{mode}"
            )
        },
    )
}

fn global() -> impl Strategy<Value = String> {
    let log = vec!["\"stdout\"", "\"syslog\"", "\"journal\"", "\"/var/log/f\""];
    (
        line("log", proptest::sample::select(log)),
        line("log_level", proptest::sample::select(vec!["\"alert\"", "\"debug\""])),
        line("pid_file", proptest::sample::select(vec!["\"/run/f.pid\"", "\"/run/fpmd/f.pid\""])),
        line("control_group", proptest::sample::select(vec!["\"adm\"", "4711"])),
        line("process_max", 100u32..200),
        line("process_control_timeout", time()),
    )
        .prop_map(|(a, b, c, d, e, f)| format!("[global]\n{a}{b}{c}{d}{e}{f}"))
}

proptest! {
    #[test]
    fn a_dump_loads_again(global in global(), name in "[a-z_][a-z0-9_.-]{0,12}", pool in pool()) {
        let text = format!("{global}[pool.\"{name}\"]\n{pool}");
        let config = match load_text(MAIN, &text, &FakeHost::root()) {
            Ok(config) => config,
            Err(errors) => return Err(TestCaseError::fail(format!("{text}\n{errors}"))),
        };
        let shown = dump(&config);
        match load_text(MAIN, &shown, &FakeHost::root()) {
            Ok(again) => prop_assert_eq!(again, config, "{}", shown),
            Err(errors) => return Err(TestCaseError::fail(format!("{shown}\n{errors}"))),
        }
    }
}
