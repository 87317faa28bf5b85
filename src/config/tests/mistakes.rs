//! One test for each kind of mistake in the text alone, with the exact sentence.

use super::{OWN_POOL, POOL, mistake, mistakes};

#[test]
fn an_unknown_setting_names_the_nearest() {
    assert_eq!(
        mistake("listen_mod = 3"),
        "f:6:1: pool.www.listen_mod: unknown setting; did you mean 'listen_mode'?"
    );
    assert_eq!(mistake("colour = 3"), "f:6:1: pool.www.colour: unknown setting");
    assert_eq!(
        mistake("log_level = \"debug\""),
        "f:6:1: pool.www.log_level: unknown setting; 'log_level' belongs into [global]"
    );
    assert_eq!(
        mistakes("[global]\nerror_log = 3"),
        ["f:2:1: global.error_log: unknown setting; did you mean 'log'?"]
    );
}

#[test]
fn a_mistyped_setting_is_not_also_missing() {
    let text = POOL.replace("listen =", "listn =").replace("user =", "usr =").replace("command", "comand");
    assert_eq!(
        mistakes(&text),
        [
            "f:3:1: pool.www.listn: unknown setting; did you mean 'listen'?",
            "f:4:1: pool.www.comand: unknown setting; did you mean 'command'?",
            "f:5:1: pool.www.usr: unknown setting; did you mean 'user'?",
        ]
    );
    let text = "[pool.www]\nlisten = 9000\ncommand = [\"/usr/bin/app\"]\nuser = \"root\"\nmax_children = 3\n";
    assert_eq!(
        mistakes(text),
        ["f:5:1: pool.www.max_children: unknown setting; 'max_children' belongs into [pool.NAME.pm]"]
    );
}

#[test]
fn an_unknown_table_says_where_pools_go() {
    assert_eq!(
        mistakes("x = 1\n[globl]\n[www]\n"),
        [
            "f:1:1: x: unknown setting; settings are in [global], [pool.NAME] or [pool.NAME.pm]",
            "f:2:2: globl: unknown table; did you mean [global]?",
            "f:3:2: www: unknown table; a pool is written [pool.www]",
        ]
    );
}

#[test]
fn tables_have_to_be_tables() {
    assert_eq!(
        mistakes("global = 1\npool = true\n"),
        [
            "f:1:10: global: expected a table, found an integer",
            "f:2:8: pool: expected a table of pools, found true; a pool is written [pool.NAME]",
        ]
    );
    assert_eq!(
        mistakes("[pool]\nwww = \"x\"\n[[pool.api]]\n"),
        [
            "f:2:7: pool.www: expected a table, found a string; a pool is written [pool.NAME]",
            "f:3:1: pool.api: expected a table, found an array; a pool is written [pool.NAME]",
        ]
    );
    let text = POOL.replace("pm.max_children = 2\n", "") + "pm = \"static\"\n";
    assert_eq!(
        mistakes(&text),
        ["f:5:6: pool.www.pm: expected a table, found a string; write [pool.www.pm] with mode = \"static\""]
    );
}

#[test]
fn a_wrong_type_says_what_was_found() {
    let cases = [
        ("directory = 3", 13, "directory: expected a string, found an integer"),
        ("clear_env = \"yes\"", 13, "clear_env: expected true or false, found a string"),
        ("listen_backlog = 1.5", 18, "listen_backlog: expected a whole number, found a float"),
        (
            "stop_timeout = [1]",
            16,
            "stop_timeout: expected a time such as \"30s\", or whole seconds, found an array",
        ),
        ("cpu_max = 50", 11, "cpu_max: expected percents of one CPU such as \"50%\", found an integer"),
        ("rlimit_core = false", 15, "rlimit_core: expected a size such as \"64K\", or bytes, found false"),
        ("umask = 1979-05-27", 9, "umask: expected octal digits such as \"0660\", found a date"),
        ("stop_signal = {}", 15, "stop_signal: expected a signal such as \"SIGTERM\", found a table"),
        (
            "pass_env = \"PATH\"",
            12,
            "pass_env: expected an array of names such as [\"PATH\"], found a string",
        ),
        (
            "env = [\"A=b\"]",
            7,
            "env: expected a table of strings such as { LANG = \"C.UTF-8\" }, found an array",
        ),
        ("env = { N = 3 }", 13, "env.N: expected a string, found an integer"),
        ("group = true", 9, "group: expected a name or a number, found true"),
        (
            "supplementary_groups = \"adm\"",
            24,
            "supplementary_groups: expected an array of groups, found a string",
        ),
        ("dispatch = 1", 12, "dispatch: expected a string, found an integer"),
    ];
    for (line, column, sentence) in cases {
        assert_eq!(mistake(line), format!("f:6:{column}: pool.www.{sentence}"), "{line}");
    }
    let text = POOL.replace("[\"/usr/bin/app\"]", "\"/usr/bin/app\"");
    let sentence = "command: expected an array of strings such as [\"/usr/bin/php-cgi\"], found a string";
    assert_eq!(mistakes(&text), [format!("f:4:11: pool.www.{sentence}")]);
    let text = POOL.replace("9000", "[9000, 1.5]");
    assert_eq!(mistakes(&text), ["f:3:17: pool.www.listen: expected an address or a port, found a float"]);
}

#[test]
fn php_fpm_s_dotted_names_are_understood() {
    let text = POOL.replace("listen = 9000", "listen.mode = \"0660\"");
    let sentence = "expected an address or a port, found a table; did you mean 'pool.www.listen_mode'?";
    assert_eq!(mistakes(&text), [format!("f:3:1: pool.www.listen: {sentence}")]);
}

#[test]
fn impossible_limits_of_a_control_group() {
    let cases = [
        ("memory_max = \"64K\"", 14, "memory_max: is out of range; it is at least 1M"),
        ("cpu_weight = 0", 14, "cpu_weight: 0 is out of range; it is 1 to 10000"),
        ("cpu_max = \"0%\"", 11, "cpu_max: 0% is out of range; it is 1% to 1000000%"),
        (
            "cpu_max = \"50\"",
            11,
            "cpu_max: '50' is not a part of a CPU; write percents of one CPU, such as \"50%\" or \"200%\"",
        ),
        ("pids_max = 0", 12, "pids_max: 0 is out of range; it is 1 to 4194304"),
    ];
    for (line, column, sentence) in cases {
        assert_eq!(mistake(line), format!("f:6:{column}: pool.www.{sentence}"), "{line}");
    }
}

#[test]
fn a_throttle_beyond_the_limit_is_a_mistake() {
    for name in ["memory_high", "worker_memory_max"] {
        let text = POOL.replace("listen =", &format!("memory_max = \"64M\"\n{name} = \"65M\"\nlisten ="));
        let sentence = "is more than memory_max, so that it would never be reached";
        let column = name.len() + 4;
        assert_eq!(mistakes(&text), [format!("f:4:{column}: pool.www.{name}: {sentence}")]);
    }
}

#[test]
fn an_impossible_value_names_the_range() {
    let cases = [
        ("listen_backlog = 0", 18, "listen_backlog: 0 is out of range; it is 1 to 2147483647"),
        (
            "listen_backlog = 99999999999999999999",
            18,
            "listen_backlog: 99999999999999999999 is out of range; it is 1 to 2147483647",
        ),
        (
            "scheduling_policy = \"bach\"",
            21,
            "scheduling_policy: 'bach' is not one of other, batch, idle; did you mean \"batch\"?",
        ),
        ("process_priority = 20", 20, "process_priority: 20 is out of range; it is -20 to 19"),
        ("rlimit_files = 3", 16, "rlimit_files: 3 is out of range; it is 16 to 1073741816"),
        (
            "rlimit_core = \"1X\"",
            15,
            "rlimit_core: '1X' is not a size; write bytes or a whole number with K, M, G or T, such as \"64K\", or \"unlimited\"",
        ),
        ("rlimit_core = -1", 15, "rlimit_core: -1 is out of range; a size is not negative"),
        (
            "stop_timeout = \"30\"",
            16,
            "stop_timeout: '30' is not a time; write a whole number with ms, s, m, h or d, such as \"250ms\" or \"30s\"",
        ),
        ("stop_timeout = -1", 16, "stop_timeout: -1 is out of range; a time is 0 to 365d"),
        ("umask = 22", 9, "umask: 22 is a decimal number; write octal digits in quotes: \"022\""),
        ("umask = \"9\"", 9, "umask: '9' is not a mode; write octal digits from \"0000\" to \"0777\""),
        (
            "stop_signal = \"SIGTREM\"",
            15,
            "stop_signal: 'SIGTREM' is not a signal; write a name such as \"SIGTERM\"",
        ),
        ("stop_signal = 0", 15, "stop_signal: 0 is not a signal; write a name such as \"SIGTERM\""),
        (
            "stop_signal = \"STOP\"",
            15,
            "stop_signal: SIGSTOP does not end a process; SIGTERM is the usual signal",
        ),
        (
            "dispatch = \"dirct\"",
            12,
            "dispatch: 'dirct' is not one of gateway, direct; did you mean \"direct\"?",
        ),
        ("directory = \"srv\"", 13, "directory: 'srv' is not an absolute path; it has to begin with '/'"),
        ("directory = \"/a\\u0000\"", 13, "directory: has a NUL character"),
        ("pass_env = [\"A=B\"]", 13, "pass_env: 'A=B' cannot be the name of a variable"),
        ("env = { \"\" = \"x\" }", 14, "env.: '' cannot be the name of a variable"),
        ("user = \"\"", 8, "user: is empty; leave it out or write a name"),
        ("group = 4294967295", 9, "group: 4294967295 is out of range; an id is 0 to 4294967294"),
    ];
    for (line, column, sentence) in cases {
        let text = if line.starts_with("user") { OWN_POOL } else { POOL };
        let found = mistakes(&format!("{text}{line}\n"));
        let row = text.lines().count() + 1;
        assert_eq!(found, [format!("f:{row}:{column}: pool.www.{sentence}")], "{line}");
    }
}

#[test]
fn global_values_are_checked() {
    let text = "[global]\nlog = \"stdeer\"\nlog_level = \"warn\"\nlog_format = 1\npid_file = \"/none/x\"\n\
                control_group = \"nobodies\"\nruntime_dir = \"run\"\nprocess_max = -1\nprocess_control_timeout = \"x\"\n";
    assert_eq!(
        mistakes(text),
        [
            "f:2:7: global.log: 'stdeer' is not one of stderr, stdout, syslog, journal or an absolute path; did you mean \"stderr\"?",
            "f:3:13: global.log_level: 'warn' is not one of alert, error, warning, notice, debug; did you mean \"warning\"?",
            "f:4:14: global.log_format: expected a string, found an integer",
            "f:5:12: global.pid_file: there is no directory '/none' for it",
            "f:6:17: global.control_group: there is no group 'nobodies'; create it or write another",
            "f:7:15: global.runtime_dir: 'run' is not an absolute path; it has to begin with '/'",
            "f:8:15: global.process_max: -1 is out of range; it is 0 to 4194304",
            "f:9:27: global.process_control_timeout: 'x' is not a time; write a whole number with ms, s, m, h or d, such as \"250ms\" or \"30s\"",
        ]
    );
    assert_eq!(
        mistakes("[global]\nlog = \"/none/log\""),
        ["f:2:7: global.log: there is no directory '/none' for it"]
    );
}

#[test]
fn what_is_for_later_is_refused() {
    assert_eq!(mistake("prefork = \"on\""), "f:6:1: pool.www.prefork is not supported yet");
    let later =
        super::super::keys::KEYS.iter().filter(|key| key.support == super::super::keys::Support::NotYet);
    for key in later {
        let table = match key.section {
            super::super::keys::Section::Global => "global",
            super::super::keys::Section::Pool => "pool.www",
            super::super::keys::Section::Pm => "pool.www.pm",
        };
        let found = mistakes(&format!("[{table}]\n{} = 1\n", key.name));
        let sentence = format!("f:2:1: {table}.{} is not supported yet", key.name);
        assert!(found.contains(&sentence), "{found:?}");
    }
}

#[test]
fn what_a_pool_needs_is_missed_at_its_header() {
    assert_eq!(
        mistakes("\n[pool.www]\n"),
        [
            "f:2:7: pool.www.listen: missing; write where the pool listens, such as listen = \"/run/fpmd/www.sock\" or 9000",
            "f:2:7: pool.www.command: missing; write the worker's program and its arguments, such as command = [\"/usr/bin/php-cgi\"]",
            "f:2:7: pool.www.user: missing; fpmd runs as root; write the user that workers run as, or user = \"root\" if they really shall be root",
            "f:2:7: pool.www.pm.max_children: missing; write the number of workers, such as max_children = 4",
        ]
    );
}

#[test]
fn pools_have_names() {
    assert_eq!(
        mistakes("[pool.\"a b\"]\n[pool.\"\"]\n"),
        [
            "f:1:7: pool.a b: a pool name has letters, digits, '_', '.' and '-' only, not 'a b'",
            "f:2:7: pool.: a pool name has 1 to 64 characters, this one has 0",
        ]
    );
}

#[test]
fn requests_are_counted_by_workers_that_can() {
    assert_eq!(
        mistake("dispatch = \"direct\"\npm.max_requests = 5"),
        "f:7:19: pool.www.pm.max_requests: this worker does not count its requests, and fpmd does not see them in direct mode; only php-cgi has it so far"
    );
    let php = POOL.replace("/usr/bin/app", "/usr/bin/php-cgi").replace("user", "dispatch = \"direct\"\nuser");
    assert_eq!(
        mistakes(&format!("{php}env = {{ PHP_FCGI_MAX_REQUESTS = \"9\" }}\npm.max_requests = 5\n")),
        [
            "f:8:19: pool.www.pm.max_requests: is 5, but pool.www.env has PHP_FCGI_MAX_REQUESTS = \"9\"; leave one out"
        ]
    );
    assert_eq!(
        mistakes(&format!("{php}pass_env = [\"PHP_FCGI_MAX_REQUESTS\"]\npm.max_requests = 5\n")),
        [
            "f:8:19: pool.www.pm.max_requests: pool.www.pass_env has PHP_FCGI_MAX_REQUESTS, which says it, too; leave one out"
        ]
    );
    assert_eq!(
        mistakes(&format!("{php}env = {{ PHP_FCGI_MAX_REQUESTS = \"many\" }}\n")),
        ["f:7:7: pool.www.env: PHP_FCGI_MAX_REQUESTS = \"many\" is not a whole number"]
    );
}

#[test]
fn the_pools_fit_into_process_max() {
    assert_eq!(
        mistakes(&format!("global.process_max = 1\n{POOL}")),
        [
            "f:1:22: global.process_max: 1 is less than the 2 workers that all pools together need at least; raise it, or lower max_children of static and min_spare_servers of dynamic pools"
        ]
    );
}

#[test]
fn a_name_given_twice_names_both_places() {
    assert_eq!(mistake("user = \"root\""), "f:6:1: 'user' is there already; first at f:5:1");
    let twice = format!("{POOL}{}{POOL}", POOL.replace("www", "api"));
    assert_eq!(mistakes(&twice), ["f:11:7: 'www' is there already; first at f:1:7"]);
}

#[test]
fn text_that_is_no_toml_says_where() {
    assert_eq!(
        mistakes("[pool.a\n[pool.b]\nlisten = 08\nuser = \"abc\n"),
        [
            "f:1:8: not valid TOML: unclosed table, expected `]`",
            "f:3:10: not valid TOML: unexpected leading zero, expected nothing",
            "f:4:12: not valid TOML: invalid basic string, expected `\"`",
        ]
    );
}

#[test]
fn dotted_names_of_php_fpm_are_translated() {
    let mistake = |line: &str| mistakes(&format!("[pool.www]\nlisten = 9000\npm = \"static\"\n{line}\n"));
    let dotted = "f:4:1: not valid TOML: cannot extend value of type";
    for (line, said) in [
        ("listen.owner = \"www-data\"", "integer with a dotted key; write listen_owner"),
        ("listen.allowed_clients = \"::1\"", "integer with a dotted key; write allowed_clients"),
        ("listen.colour = 1", "integer with a dotted key"),
        (
            "pm.max_children = 4",
            "string with a dotted key; 'pm' is a table: write pm.mode for what php-fpm calls pm",
        ),
    ] {
        assert_eq!(mistake(line), [format!("{dotted} {said}")]);
    }
}

#[test]
fn every_address_needs_a_worker() {
    let text = POOL.replace("listen = 9000", "listen = [9000, \"@a\", \"@b\"]");
    assert_eq!(
        mistakes(&format!("{text}dispatch = \"direct\"\n")),
        [
            "f:3:10: pool.www.listen: 3 addresses need at least as many workers, and pm.max_children is 2: each worker \
             accepts on one address"
        ]
    );
}
