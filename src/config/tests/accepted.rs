//! What valid texts mean.

use std::path::PathBuf;
use std::time::Duration;

use super::super::keys::{self, Default};
use super::super::model::{KnownWorker, ListenAddress, LogLevel, LogTarget, PmMode, Pool, Resources};
use super::super::{dump, load_text};
use super::{FakeHost, MAIN, OWN_POOL, POOL, config};
use crate::ids::{SchedulingPolicy, Signal};

fn pool(text: &str) -> Pool {
    let pools = config(text).pools;
    let (_, pool) = pools.into_iter().next().expect("a pool");
    pool
}

/// To a static pool without a Unix path.
fn does_not_apply(name: &str) -> bool {
    use super::super::{pool, scaling};
    pool::UNIX_ONLY.contains(&name) || scaling::MODAL.iter().any(|(modal, _)| *modal == name)
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = config(POOL);
    let pool = config.pools.values().next().expect("a pool");
    assert_eq!(config.global.log, LogTarget::Stderr);
    assert_eq!(config.global.log_level, LogLevel::Notice);
    assert_eq!(config.global.control_socket, PathBuf::from("/run/fpmd/fpmd.sock"));
    assert_eq!(config.global.process_control_timeout, Duration::from_secs(5));
    assert_eq!((pool.socket.backlog, pool.socket.mode), (4096, 0o660));
    assert_eq!((pool.dispatch.as_str(), pool.pm.mode), ("gateway", PmMode::Static));
    assert_eq!((pool.stop_timeout, pool.start_timeout), (Duration::from_secs(30), Duration::from_secs(10)));
    assert_eq!(pool.stop_signal, Signal::TERM);
    assert!(pool.environment.clear && pool.catch_workers_output && pool.decorate_workers_output);
    assert_eq!((pool.known_worker, pool.environment.set.len()), (None, 0));

    let shown = dump(&config);
    for key in keys::KEYS.iter().filter(|key| key.support == keys::Support::Supported) {
        let line = match key.default {
            Default::Value(_) if does_not_apply(key.name) => {
                format!("# {} does not apply here\n", key.name)
            }
            Default::Value(value) => format!("{} = {value}\n", key.name),
            Default::Unset(_) | Default::Derived(_) | Default::Required => key.name.to_owned(),
        };
        assert!(shown.contains(&line), "{line} in\n{shown}");
    }
}

#[test]
fn every_form_of_a_value_is_read() {
    let text = format!(
        "{POOL}group = 4\nsupplementary_groups = [\"video\", 4]\ndirectory = \"/srv\"\numask = 0o027\n\
         process_priority = -5\nscheduling_policy = \"batch\"\nrlimit_files = 65536\nrlimit_core = \"unlimited\"\nclear_env = false\n\
         env = {{ LANG = \"C.UTF-8\" }}\npass_env = [\"PATH\"]\nstop_signal = \"usr1\"\nstop_timeout = 90\n\
         start_timeout = \"250ms\"\nlisten_backlog = 16\nmemory_max = \"512M\"\nmemory_high = \"384M\"\n\
         worker_memory_max = \"128M\"\ncpu_weight = 50\ncpu_max = \"150%\"\npids_max = 64\n"
    )
    .replace("max_children = 2", "max_children = 4")
    .replace("9000", "[\"/run/www.sock\", \"127.0.0.1:9000\", \"systemd:www\", \"@www\"]")
        + "listen_owner = \"www-data\"\nlisten_group = 33\nlisten_mode = \"600\"\nlisten_acl_users = [33]\n";
    let pool = pool(&text);
    assert_eq!(pool.listen.len(), 4);
    assert_eq!(pool.listen[0], ListenAddress::Unix(PathBuf::from("/run/www.sock")));
    assert_eq!(pool.group.map(|group| group.name).as_deref(), Some("adm"));
    assert_eq!(pool.supplementary_groups.map(|groups| groups.len()), Some(2));
    assert_eq!((pool.umask, pool.process_priority), (Some(0o27), Some(-5)));
    assert_eq!(pool.scheduling_policy, Some(SchedulingPolicy::Batch));
    assert_eq!((pool.rlimit_files, pool.rlimit_core), (Some(65536), Some(u64::MAX)));
    let resources = Resources {
        memory_max: Some(512 << 20),
        memory_high: Some(384 << 20),
        worker_memory_max: Some(128 << 20),
        cpu_weight: Some(50),
        cpu_max: Some(150),
        pids_max: Some(64),
    };
    assert_eq!(pool.resources, resources);
    assert_eq!(pool.stop_signal, Signal::parse("SIGUSR1").expect("a signal"));
    assert_eq!(
        (pool.stop_timeout, pool.start_timeout),
        (Duration::from_secs(90), Duration::from_millis(250))
    );
    assert_eq!((pool.socket.backlog, pool.socket.mode), (16, 0o600));
    assert_eq!(pool.socket.acl_users.len(), 1);
}

#[test]
fn php_cgi_is_known_by_its_name() {
    let mut host = FakeHost::root();
    for (name, known) in [
        ("php-cgi", true),
        ("php-cgi8.2", true),
        ("php-cgi7.4", true),
        ("php-cgi82", true),
        ("php8.2-cgi", true),
        ("php-cgix", false),
        ("my-php-cgi", false),
        ("php", false),
    ] {
        let path = format!("/opt/{name}");
        host.programs.insert(PathBuf::from(&path), Ok(()));
        let text = POOL.replace("/usr/bin/app", &path);
        let config = load_text(MAIN, &text, &host).expect(name);
        let found = config.pools.values().next().and_then(|pool| pool.known_worker);
        assert_eq!(found, known.then_some(KnownWorker::PhpCgi), "{name}");
    }
}

#[test]
fn php_cgi_gets_its_right_defaults_and_env_wins() {
    let php = POOL.replace("/usr/bin/app", "/usr/bin/php-cgi") + "dispatch = \"direct\"\n";
    let set = |more: &str| {
        let pool = pool(&format!("{php}{more}\n"));
        let value = |name: &str| pool.environment.set.get(name).cloned().unwrap_or_default();
        (value("PHP_FCGI_CHILDREN"), value("PHP_FCGI_MAX_REQUESTS"), pool.pm.max_requests)
    };
    let text = |children: &str, requests: &str, number| (children.to_owned(), requests.to_owned(), number);
    assert_eq!(set(""), text("0", "0", 0));
    assert_eq!(set("pm.max_requests = 500"), text("0", "500", 500));
    assert_eq!(set("env = { PHP_FCGI_CHILDREN = \"3\" }"), text("3", "0", 0));
    assert_eq!(set("env.PHP_FCGI_MAX_REQUESTS = \"9\""), text("0", "9", 9));
    assert_eq!(set("env.PHP_FCGI_MAX_REQUESTS = \"9\"\npm.max_requests = 9"), text("0", "9", 9));
    assert_eq!(set("pass_env = [\"PHP_FCGI_CHILDREN\", \"PHP_FCGI_MAX_REQUESTS\"]"), text("", "", 0));
}

#[test]
fn a_chroot_begins_at_its_root() {
    let text = POOL.replace("/usr/bin/app", "/bin/app") + "chroot = \"/srv\"\n";
    let pool = pool(&text);
    assert_eq!((pool.chroot, pool.directory), (Some(PathBuf::from("/srv")), Some(PathBuf::from("/"))));
}

#[test]
fn others_than_root_need_no_user_and_may_name_themselves() {
    for text in [OWN_POOL.to_owned(), format!("{OWN_POOL}user = \"joe\"\ngroup = \"joe\"\n")] {
        let config = load_text(MAIN, &text, &FakeHost::joe()).expect("valid");
        assert_eq!(config.global.runtime_dir, PathBuf::from("/run/user/1000/fpmd"));
    }
}

#[test]
fn sockets_in_the_runtime_directory_need_no_directory_yet() {
    let pool = pool(&POOL.replace("9000", "\"/run/fpmd/www.sock\""));
    assert_eq!(pool.listen, [ListenAddress::Unix(PathBuf::from("/run/fpmd/www.sock"))]);
}

#[test]
fn process_max_may_be_just_enough() {
    assert_eq!(config(&format!("global.process_max = 2\n{POOL}")).global.process_max, 2);
}
