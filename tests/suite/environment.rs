//! What a worker finds when it starts: environment, user, folders, limits, descriptors, signals. Read from outside,
//! in /proc, so that the worker's language plays no part.

use std::collections::BTreeMap;
use std::fs;

use crate::support::daemon::{Dispatch, MARK, Pool, Rig};
use crate::support::{as_root, process, wait_until, workers};

/// Ends at once when it is stopped: nothing to wait for.
fn sleeper(name: &str) -> Pool {
    Pool::new(name, &workers::sleep()).hasty()
}

/// Starts the pools with a known environment of fpmd's own, returns what the first worker of each got.
fn environments(pools: &[Pool]) -> Vec<BTreeMap<String, String>> {
    // php-cgi leaves its own children behind when it ends.
    let mut rig =
        Rig::new().environment("SECRET", "hidden").environment("LANG_TEST", "yes").expect("leftover");
    for pool in pools {
        rig = rig.pool(pool.clone());
    }
    let fpmd = rig.start();
    let names: Vec<String> = fpmd.snapshot().pools.iter().map(|pool| pool.name.to_string()).collect();
    let found = names.iter().map(|name| process::environment(fpmd.workers(name)[0]).unwrap()).collect();
    fpmd.finish();
    found
}

#[test]
fn the_environment_is_what_the_configuration_names() {
    let pass = format!("[\"LANG_TEST\", \"NOT_THERE\", {MARK:?}]");
    let found = environments(&[
        sleeper("a-clear").key("pass_env", &pass).key("env", "{ ONE = \"1\", TWO = \"a b=c\" }"),
        sleeper("b-kept").key("clear_env", "false").key("env", "{ SECRET = \"replaced\" }"),
    ]);
    let [clear, kept] = &found[..] else { panic!("{found:?}") };
    let mut names: Vec<&str> = clear.keys().map(String::as_str).filter(|name| *name != MARK).collect();
    names.retain(|name| !matches!(*name, "USER" | "HOME"));
    assert_eq!(names, ["LANG_TEST", "ONE", "TWO"]);
    assert_eq!((clear["LANG_TEST"].as_str(), clear["TWO"].as_str()), ("yes", "a b=c"));
    assert_eq!((kept["SECRET"].as_str(), kept["LANG_TEST"].as_str()), ("replaced", "yes"));
    assert!(!kept.contains_key("NOTIFY_SOCKET"), "a worker could speak to the service manager in our name");
}

#[test]
fn php_cgi_gets_its_right_defaults_unless_told_otherwise() {
    let php = |name: &str| Pool::new(name, &workers::php());
    let found = environments(&[
        php("a"),
        php("b").pm("max_requests", "7"),
        php("c").dispatch(Dispatch::Direct).pm("max_requests", "7"),
        php("d")
            .dispatch(Dispatch::Direct)
            .key("env", "{ PHP_FCGI_CHILDREN = \"2\", PHP_FCGI_MAX_REQUESTS = \"9\" }"),
    ]);
    let of = |index: usize| -> (&str, &str) {
        (&found[index]["PHP_FCGI_CHILDREN"], &found[index]["PHP_FCGI_MAX_REQUESTS"])
    };
    // A gateway counts itself.
    assert_eq!((of(0), of(1)), (("0", "0"), ("0", "0")));
    assert_eq!((of(2), of(3)), (("0", "7"), ("2", "9")));
}

#[test]
fn a_worker_runs_as_its_user_with_the_users_groups() {
    if !as_root("another user") {
        return;
    }
    let rig = Rig::new()
        .pool(sleeper("a-user").key("user", "\"www-data\""))
        .pool(sleeper("b-group").key("user", "\"www-data\"").key("group", "\"daemon\""))
        .pool(sleeper("c-more").key("user", "\"www-data\"").key("supplementary_groups", "[\"bin\", \"sys\"]"))
        .pool(sleeper("d-number").key("user", "54321").key("group", "54321"));
    let fpmd = rig.start();
    let found = |pool: &str, line: &str| process::status_line(fpmd.workers(pool)[0], line).unwrap();
    let group = |name: &str| {
        crate::support::daemon::run("/usr/bin/getent", &["group", name])
            .out
            .split(':')
            .nth(2)
            .unwrap()
            .to_owned()
    };
    let all = |id: &str| [id; 4].join("\t");
    let www = group("www-data");
    assert_eq!(found("a-user", "Uid"), all("33"));
    assert_eq!((found("a-user", "Gid"), found("a-user", "Groups")), (all(&www), www));
    assert_eq!((found("b-group", "Uid"), found("b-group", "Gid")), (all("33"), all(&group("daemon"))));
    assert_eq!(found("c-more", "Groups"), format!("{} {}", group("bin"), group("sys")));
    assert_eq!((found("d-number", "Uid"), found("d-number", "Gid")), (all("54321"), all("54321")));
    assert_eq!(found("d-number", "Groups").replace("54321", "").trim(), "", "no group of root's is kept");
    assert_eq!(found("a-user", "CapEff"), "0000000000000000");
    let environment = process::environment(fpmd.workers("a-user")[0]).unwrap();
    assert_eq!((environment["USER"].as_str(), environment["HOME"].as_str()), ("www-data", "/var/www"));
    fpmd.finish();
}

#[test]
fn a_changed_root() {
    if !as_root("chroot") {
        return;
    }
    let rig = Rig::new();
    let root = rig.dir.join("root");
    fs::create_dir_all(root.join("inner")).unwrap();
    let source = workers::fixture("c/pause.c");
    let made = crate::support::daemon::run(
        "/usr/bin/gcc",
        &["-O1", "-static", "-o", root.join("pause").to_str().unwrap(), source.to_str().unwrap()],
    );
    assert_eq!(made.code, Some(0), "{made:?}");
    let rooted = |name: &str| {
        Pool::new(name, &["/pause".to_owned()])
            .key("chroot", "\"{dir}/root\"")
            .hasty()
            .key("user", "\"www-data\"")
    };
    let fpmd = rig.pool(rooted("a")).pool(rooted("b").key("directory", "\"/inner\"")).start();
    for (pool, folder) in [("a", root.clone()), ("b", root.join("inner"))] {
        let pid = fpmd.workers(pool)[0];
        wait_until("the program to run", || process::arguments(pid) == ["/pause"]);
        assert_eq!(fs::read_link(format!("/proc/{pid}/root")).unwrap(), root);
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), folder);
    }
    fpmd.finish();
}

#[test]
fn folder_umask_priority_and_limits() {
    let pool = sleeper("www")
        .key("directory", "\"/usr/share\"")
        .key("umask", "\"027\"")
        .key("process_priority", "7")
        .key("scheduling_policy", "\"batch\"")
        .key("rlimit_files", "99")
        .key("rlimit_core", "4096");
    let fpmd = Rig::new().pool(pool).start();
    let pid = fpmd.workers("www")[0];
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/usr/share"));
    assert_eq!(process::status_line(pid, "Umask").unwrap(), "0027");
    let worker = process::process(pid).unwrap();
    assert_eq!((worker.nice, worker.policy), (7, 3));
    assert_eq!(process::limits(pid, "Max open files"), Some(("99".into(), "99".into())));
    assert_eq!(process::limits(pid, "Max core file size"), Some(("4096".into(), "4096".into())));
    let own = process::process(fpmd.pid()).unwrap();
    assert_eq!((own.nice, own.policy), (0, 0), "fpmd itself keeps its priority and policy");
    fpmd.finish();
}

#[test]
fn three_descriptors_a_session_of_its_own_and_untouched_signals() {
    // fpmd itself is started with an open file too many and with signals ignored.
    let start = "trap '' HUP PIPE USR1 USR2 INT; exec \"$@\" 7</etc/passwd";
    let rig = Rig::new()
        .pool(sleeper("www"))
        .pool(sleeper("more").workers(3))
        .wrapper(&["/bin/sh", "-c", start, "sh"]);
    let fpmd = rig.start();
    for pid in fpmd.workers("www").into_iter().chain(fpmd.workers("more")) {
        let open = process::descriptors(pid);
        let kinds: Vec<(i32, &str)> =
            open.iter().map(|(fd, what)| (*fd, what.split(':').next().unwrap())).collect();
        assert_eq!(kinds, [(0, "socket"), (1, "pipe"), (2, "pipe")], "{open:?}");
        assert_eq!(process::process(pid).unwrap().session, pid, "its own session");
        for line in ["SigIgn", "SigBlk", "SigCgt"] {
            assert_eq!(process::status_line(pid, line).unwrap(), "0000000000000000", "{line}");
        }
    }
    fpmd.finish();
}

#[test]
fn a_step_that_fails_names_itself_the_object_and_the_cause() {
    let rig = Rig::new();
    rig.dir.program("no-interpreter", "#!/no/such/interpreter\n");
    rig.dir.program("no-format", "this is no program\n");
    let program = |name: &str| vec![rig.dir.join(name).to_str().unwrap().to_owned()];
    let pools = [
        (
            Pool::new("interpreter", &program("no-interpreter")),
            "cannot execute '{dir}/no-interpreter': its interpreter '/no/such/interpreter' does not exist",
        ),
        (Pool::new("format", &program("no-format")), "cannot execute '{dir}/no-format': Exec format error"),
    ];
    let mut rig = rig.pool(Pool::new("good", &workers::c())).expect("cannot execute");
    for (pool, _) in &pools {
        rig = rig.pool(pool.clone());
    }
    let mut fpmd = rig.start();
    fpmd.descriptors_may_change();
    for (name, (_, reason)) in ["interpreter", "format"].iter().zip(&pools) {
        let reason = reason.replace("{dir}", fpmd.rig.dir.path().to_str().unwrap());
        let pool = fpmd.wait_pool(name, "failed to start", |pool| pool.start_failures > 0);
        assert!(pool.reason.as_ref().unwrap().contains(&reason), "{pool:?}");
        assert_eq!(pool.crashed, 0, "a start that failed is no crash: {pool:?}");
        fpmd.wait_log(&reason);
        assert!(fpmd.log().contains(&format!("pool {name}")));
    }
    fpmd.address("good").get("/pid").unwrap();
    fpmd.finish();
}
