//! `fpmctl import` with the real programs: what php-fpm's file says is what php-cgi under fpmd has.

use nix::unistd::{User, geteuid};

use crate::support::daemon::{Rig, fpmctl, run};
use crate::support::wait_until;

const GLOBAL: &str =
    "[global]\npid = {dir}/fpmd.pid\nerror_log = {dir}/error.log\ninclude = etc/pool.d/*.conf\n";

const POOL: &str = r#"[shop]
user = {user}
listen = {dir}/$pool.sock
listen.mode = 0666
pm = dynamic
pm.max_children = 4
pm.start_servers = 2
pm.min_spare_servers = 1
pm.max_spare_servers = 3
pm.status_path = /status
access.log = {dir}/$pool.access.log
access.format = "%m %r %s"
env[APP_NAME] = "the 'shop'; open"
env[FPMD_TEST_ID] = $FPMD_TEST_ID
php_admin_value[memory_limit] = 77M
php_value[error_reporting] = E_ALL & ~E_NOTICE
php_admin_value[sendmail_path] = "/bin/mail -f \"a;b\" (c)"
php_flag[html_errors] = on
php_value[auto_prepend_file] = none
"#;

const PAGE: &str = r#"<?php
foreach (['memory_limit', 'error_reporting', 'sendmail_path', 'html_errors', 'auto_prepend_file'] as $name) {
    echo $name, '=', ini_get($name), "\n";
}
echo getenv('APP_NAME');
"#;

#[test]
fn a_pool_of_php_fpm_is_one_of_fpmd() {
    let user = User::from_uid(geteuid()).unwrap().unwrap().name;
    let rig = Rig::new().arguments(&["--config", "{dir}/fpmd.toml"]);
    let filled =
        |text: &str| text.replace("{dir}", rig.dir.path().to_str().unwrap()).replace("{user}", &user);
    let main = rig.dir.write("etc/php-fpm.conf", &filled(GLOBAL));
    let pool = rig.dir.write("etc/pool.d/shop.conf", &filled(POOL));
    let script = rig.dir.write("page.php", PAGE);

    // The whole, tested as it is; then the pool alone, in a configuration of the test's.
    let whole = fpmctl(&["import", "php-fpm", "--command", "/usr/bin/php-cgi", main.to_str().unwrap()]);
    assert_eq!((whole.code, whole.err.as_str()), (Some(0), ""), "{}", whole.out);
    let file = rig.dir.write("whole.toml", &whole.out);
    let check = run(env!("CARGO_BIN_EXE_fpmd"), &["--check", "--config", file.to_str().unwrap()]);
    assert_eq!(check.code, Some(0), "{check:?}\n{}", whole.out);
    let one = fpmctl(&["import", "php-fpm", "-c", "/usr/bin/php-cgi", pool.to_str().unwrap()]);
    assert_eq!(one.code, Some(0), "{one:?}");

    let text = rig.text() + &one.out;
    rig.dir.write("imported.toml", &text);
    let mut fpmd = rig.arguments(&["--config", "{dir}/imported.toml"]).start();
    let socket = fpmd.socket("shop");
    fpmd.wait_pool("shop", "two workers", |pool| pool.idle_processes >= 2);
    let ask = |script: &str| {
        let root = format!("SCRIPT_FILENAME={script}");
        fpmctl(&["request", socket.to_str().unwrap(), "/page", "--param", &root])
    };
    let page = ask(script.to_str().unwrap());
    let expected = "memory_limit=77M\nerror_reporting=32759\nsendmail_path=/bin/mail -f \"a;b\" (c)\n\
                    html_errors=1\nauto_prepend_file=\nthe 'shop'; open";
    assert_eq!((page.code, page.out.as_str()), (Some(0), expected), "{}", page.err);
    let log = fpmd.rig.dir.join("shop.access.log");
    wait_until("a line in the access log", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text == "GET /page 200\n")
    });
    let status = fpmctl(&["request", socket.to_str().unwrap(), "/status"]).out;
    assert!(status.contains("process manager:      dynamic"), "{status}");
    fpmd.descriptors_may_change();
    fpmd.finish();
}

#[test]
fn what_this_machine_lacks_is_said_and_the_result_printed() {
    let rig = Rig::new();
    let text = "[www]\nuser = nobody-knows-me\nlisten = /run/x.sock\npm = static\npm.max_children = 1\n";
    let file = rig.dir.write("www.conf", text);
    let ran = fpmctl(&["import", "php-fpm", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.contains("user = \"nobody-knows-me\""), "{}", ran.out);
    assert!(ran.err.contains("nobody-knows-me") && ran.err.contains("does not pass --check"), "{}", ran.err);
    let missing = fpmctl(&["import", "php-fpm", "/nonexistent/php-fpm.conf"]);
    assert_eq!((missing.code, missing.out.as_str()), (Some(1), ""));
    assert!(missing.err.contains("/nonexistent/php-fpm.conf: cannot read"), "{}", missing.err);
}

#[test]
fn a_command_line_and_a_section_become_pools() {
    let user = User::from_uid(geteuid()).unwrap().unwrap().name;
    let rig = Rig::new();
    let dir = rig.dir.path().to_str().unwrap().to_owned();
    let section = format!(
        "[fcgi-program:app]\nsocket = unix://%(here)s/app.sock\ncommand = sleep 1000\nnumprocs = 3\nuser = {user}\n"
    );
    let file = rig.dir.write("supervisord.conf", &section);
    for words in [
        vec!["import", "supervisord", file.to_str().unwrap()],
        vec![
            "import",
            "spawn-fcgi",
            "--",
            "-s",
            &format!("{dir}/app.sock"),
            "-F",
            "3",
            "-n",
            "--",
            "/bin/sleep",
            "1000",
        ],
    ] {
        let ran = fpmctl(&words);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words:?}: {}", ran.out);
        assert!(ran.out.contains("max_children = 3"), "{}", ran.out);
        let made = rig.dir.write("made.toml", &ran.out);
        let check = run(env!("CARGO_BIN_EXE_fpmd"), &["--check", "--config", made.to_str().unwrap()]);
        assert_eq!(check.code, Some(0), "{check:?}");
    }
}
