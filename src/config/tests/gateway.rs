//! Settings that need the gateway: what they mean there, what is wrong with them, and that direct mode refuses them.

use std::time::Duration;

use super::super::keys::{self, Section};
use super::super::model::{Dispatch, Gateway, Pool, SlowLog};
use super::super::{dump, gateway, load_text};
use super::{FakeHost, MAIN, OWN_POOL, POOL, config, mistake, mistakes, mistakes_on};

fn pool(text: &str) -> Pool {
    let (_, pool) = config(text).pools.into_iter().next().expect("a pool");
    pool
}

fn gateway_of(pool: &Pool) -> &Gateway {
    match &pool.dispatch {
        Dispatch::Gateway(gateway) => gateway,
        Dispatch::Direct => panic!("direct"),
    }
}

#[test]
fn a_warm_up_path_may_have_a_query_and_needs_a_gateway() {
    assert_eq!(
        gateway_of(&pool(&format!("{POOL}warmup_path = \"/w.php?x=1&y=%20\"\n"))).warmup_path.as_deref(),
        Some("/w.php?x=1&y=%20")
    );
    for bad in ["w.php", "", "/a b", "/a#b"] {
        assert!(mistake(&format!("warmup_path = {bad:?}")).contains("is not the path of a request"), "{bad}");
    }
    let refused = mistake("warmup_path = \"/w\"\ndispatch = \"direct\"");
    assert!(refused.contains("warmup_path: needs dispatch = \"gateway\""), "{refused}");
}

#[test]
fn a_gateway_s_settings_are_read() {
    let text = format!(
        "{POOL}allowed_clients = [\"127.0.0.1\", \"2001:db8::/32\"]\nconcurrency = 8\n\
         status_path = \"/status\"\nping_path = \"/ping\"\nping_response = \"hello\"\n\
         access_log = \"/var/log/access\"\naccess_format = \"%m %r\"\nslowlog = \"/var/log/slow\"\n\
         log_request_stderr = true\nrequest_slowlog_timeout = \"2s\"\nrequest_terminate_timeout = 30\n\
         input_timeout = \"5s\"\nbuffer_directory = \"/srv\"\nqueue_timeout = 0\nqueue_limit = 7\nrequest_buffer = \"1M\"\nresponse_buffer = 0\n\
         pm.max_requests = 9\npm.max_requests_jitter = 3\n"
    );
    let pool = pool(&text);
    let gateway = gateway_of(&pool);
    let clients: Vec<String> = gateway.allowed_clients.iter().map(ToString::to_string).collect();
    assert_eq!(clients, ["127.0.0.1", "2001:db8::/32"]);
    assert_eq!((gateway.concurrency, gateway.queue_limit), (8, 7));
    assert_eq!(
        (gateway.status_path.as_deref(), gateway.ping_path.as_deref()),
        (Some("/status"), Some("/ping"))
    );
    assert_eq!((gateway.ping_response.as_str(), gateway.access_format.as_str()), ("hello", "%m %r"));
    assert_eq!(gateway.access_log, Some("/var/log/access".into()));
    assert_eq!(gateway.slow, Some(SlowLog { path: "/var/log/slow".into(), after: Duration::from_secs(2) }));
    assert!(gateway.log_request_stderr);
    assert_eq!(gateway.request_terminate_timeout, Some(Duration::from_secs(30)));
    assert_eq!((gateway.input_timeout, gateway.queue_timeout), (Some(Duration::from_secs(5)), None));
    assert_eq!(gateway.buffer_directory, std::path::Path::new("/srv"));
    assert_eq!((gateway.request_buffer, gateway.response_buffer), (1 << 20, 0));
    assert_eq!((pool.pm.max_requests, gateway.max_requests_jitter), (9, 3));
}

#[test]
fn what_is_dumped_loads_again() {
    let text = format!(
        "[global]\ngateway_user = \"joe\"\n{POOL}slowlog = \"/var/log/slow\"\nrequest_slowlog_timeout = \"250ms\"\n\
         access_format = 'it''s'\nallowed_clients = [\"10.0.0.0/8\"]\n"
    )
    .replace("'it''s'", "\"it's \\\"%m\\\"\"");
    let first = config(&text);
    assert_eq!(config(&dump(&first)), first);
    let shown = dump(&config(POOL));
    assert!(shown.contains("access_format = '%R - %u %t \"%m %r\" %s'\n"), "{shown}");
}

#[test]
fn in_direct_mode_each_setting_is_refused_with_the_reason() {
    let values = |kind| match kind {
        keys::Kind::Strings => "[\"127.0.0.1\"]",
        keys::Kind::Text => "\"/x\"",
        keys::Kind::Path => "\"/var/log/x\"",
        keys::Kind::Bool => "true",
        _ => "1",
    };
    let needs = "needs dispatch = \"gateway\": in direct mode fpmd is not in the path of requests";
    let direct = POOL.replace("user =", "dispatch = \"direct\"\nuser =");
    for (section, prefix, names) in [
        (Section::Pool, "", gateway::POOL_ONLY.as_slice()),
        (Section::Pm, "pm.", gateway::PM_ONLY.as_slice()),
    ] {
        for name in names {
            let value = values(keys::find(section, name).expect("a setting").kind);
            let found = mistakes(&format!("{direct}{prefix}{name} = {value}\n"));
            let column = prefix.len() + name.len() + 4;
            assert_eq!(found, [format!("f:7:{column}: pool.www.{prefix}{name}: {needs}")]);
        }
    }
    let plain = load_text(MAIN, &direct, &FakeHost::root()).expect("it is valid");
    assert!(dump(&plain).contains("# queue_limit does not apply here\n"));
}

#[test]
fn every_setting_of_the_gateway_is_known_to_need_it() {
    let of = |section| keys::of(section).filter(|key| key.doc.contains("gateway") || is_routed(key)).count();
    fn is_routed(key: &keys::Key) -> bool {
        gateway::POOL_ONLY.contains(&key.name) || gateway::PM_ONLY.contains(&key.name)
    }
    // And `dispatch` itself.
    assert_eq!(of(Section::Pool), gateway::POOL_ONLY.len() + 1);
    assert_eq!(of(Section::Pm), gateway::PM_ONLY.len());
}

#[test]
fn pages_have_the_paths_that_php_fpm_allows() {
    let not = "is not the path of a page; write a path such as \"/status\"";
    assert_eq!(mistake("status_path = \"status\""), format!("f:6:15: pool.www.status_path: 'status' {not}"));
    assert_eq!(mistake("ping_path = \"/\""), format!("f:6:13: pool.www.ping_path: '/' {not}"));
    assert_eq!(
        mistake("ping_path = \"/a?b\""),
        "f:6:13: pool.www.ping_path: '/a?b' has more in it than letters, digits and any of / _ - . ~"
    );
    assert_eq!(
        mistake("status_path = \"/a\"\nping_path = \"/a\""),
        "f:7:13: pool.www.ping_path: is the path of the status page already"
    );
    assert_eq!(
        mistake("ping_response = \"\""),
        "f:6:17: pool.www.ping_response: is empty; write what the page says"
    );
}

#[test]
fn a_format_of_the_access_log_is_read_before_it_is_used() {
    for (format, fault) in [
        ("", "is empty; write php-fpm's letters, or \"json\""),
        ("%s %z", "'%z' is no letter of an access format"),
        ("%{ns}d", "%d has 'seconds', 'milliseconds' and 'microseconds', not 'ns'"),
        ("%{%Z}t", "%t: a time format has no zone's name (%Z); %z writes +0100"),
        ("a\\nb", "an access format is one line of text, without '\\n'"),
    ] {
        let found = mistake(&format!("access_format = \"{format}\""));
        assert_eq!(found, format!("f:6:17: pool.www.access_format: {fault}"));
    }
}

#[test]
fn the_slow_log_takes_two_settings() {
    assert_eq!(
        mistake("slowlog = \"/var/log/slow\""),
        "f:1:7: pool.www.request_slowlog_timeout: missing; slowlog says where slow requests are logged; write after how long a request is slow"
    );
    assert_eq!(
        mistake("request_slowlog_timeout = \"1s\""),
        "f:1:7: pool.www.slowlog: missing; request_slowlog_timeout says when a request is slow; write the file that is told"
    );
    assert_eq!(
        mistake("slowlog = \"/var/log/slow\"\nrequest_slowlog_timeout = 5\nrequest_terminate_timeout = 4"),
        "f:7:27: pool.www.request_slowlog_timeout: is longer than request_terminate_timeout, so that no request would ever be slow"
    );
    let off = pool(&format!("{POOL}slowlog = \"/var/log/slow\"\nrequest_slowlog_timeout = 0\n"));
    assert_eq!(gateway_of(&off).slow, None);
    assert_eq!(
        mistake("buffer_directory = \"/none\""),
        "f:6:20: pool.www.buffer_directory: there is no directory '/none'"
    );
    assert_eq!(
        mistake("access_log = \"/none/x\""),
        "f:6:14: pool.www.access_log: there is no directory '/none' for it"
    );
}

#[test]
fn clients_are_judged_by_address_over_tcp_only() {
    assert_eq!(
        mistake("allowed_clients = [\"127.0.0.1\", \"10.0.0.1/8\"]"),
        "f:6:33: pool.www.allowed_clients: '10.0.0.1/8' has bits beyond its prefix; write \"10.0.0.0/8\""
    );
    let unix = POOL.replace("9000", "\"/run/x.sock\"");
    assert_eq!(
        mistakes(&format!("{unix}allowed_clients = [\"127.0.0.1\"]\n")),
        [
            "f:6:19: pool.www.allowed_clients: is for TCP, and this pool has Unix sockets only; use listen_mode, listen_acl_users and listen_acl_groups"
        ]
    );
}

#[test]
fn what_a_gateway_cannot_be_told_is_refused() {
    let long = "x".repeat(5000);
    assert_eq!(
        mistake(&format!("ping_response = \"{long}\"")),
        "f:6:17: pool.www.ping_response: has 5000 bytes; 4096 are allowed"
    );
    let many = vec!["\"10.0.0.1\""; 1001].join(",");
    assert_eq!(
        mistake(&format!("allowed_clients = [{many}]")),
        "f:6:19: pool.www.allowed_clients: has 1001 entries; 1000 are allowed"
    );
}

#[test]
fn gateways_of_root_are_somebody_else() {
    let name = |text: &str| config(text).global.gateway_user.map(|user| user.name);
    assert_eq!(name(POOL).as_deref(), Some("nobody"));
    assert_eq!(name(&format!("global.gateway_user = \"joe\"\n{POOL}")).as_deref(), Some("joe"));
    let own = load_text(MAIN, OWN_POOL, &FakeHost::joe()).expect("it is valid");
    assert_eq!(own.global.gateway_user, None);
    assert_eq!(
        mistakes_on(&FakeHost::joe(), &format!("global.gateway_user = \"nobody\"\n{OWN_POOL}")),
        [
            "f:1:23: global.gateway_user: only root can run gateways as 'nobody'; start fpmd as root or leave it out"
        ]
    );
    assert_eq!(
        mistakes(&format!("global.gateway_user = 4711\n{POOL}")),
        [
            "f:1:23: global.gateway_user: user 4711 has no entry in the user database, which would name its group"
        ]
    );
}

#[test]
fn php_cgi_leaves_counting_to_the_gateway() {
    let php = POOL.replace("/usr/bin/app", "/usr/bin/php-cgi");
    let counted = pool(&format!("{php}pm.max_requests = 9\n"));
    let variable = |name: &str| counted.environment.set.get(name).map(String::as_str);
    assert_eq!((variable("PHP_FCGI_MAX_REQUESTS"), variable("PHP_FCGI_CHILDREN")), (Some("0"), Some("0")));
    assert_eq!(counted.pm.max_requests, 9);
    assert_eq!(
        mistakes(&format!("{php}env = {{ PHP_FCGI_MAX_REQUESTS = \"9\" }}\n")),
        [
            "f:6:7: pool.www.env: PHP_FCGI_MAX_REQUESTS is not needed: the gateway counts; write pm.max_requests instead"
        ]
    );
}

#[test]
fn sockets_of_slots_fit_into_an_address() {
    let dir = format!("/run/{}", "x".repeat(70));
    let found = mistakes(
        &format!("global.runtime_dir = \"{dir}\"\n{POOL}").replace(".www", &format!(".{}", "w".repeat(40))),
    );
    assert!(
        found[0].contains("a path of 143 bytes where 107 are allowed; shorten global.runtime_dir"),
        "{found:?}"
    );
}
