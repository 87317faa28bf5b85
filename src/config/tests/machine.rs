//! Mistakes about the machine: programs, users, directories and sockets, one test for each kind.

use super::super::host::Unusable;
use super::{FakeHost, OWN_POOL, POOL, mistake, mistakes, mistakes_on};

#[test]
fn a_command_has_to_be_there() {
    let with = |command: &str| mistakes(&POOL.replace("[\"/usr/bin/app\"]", command));
    assert_eq!(with("[]"), ["f:4:11: pool.www.command: is empty; write the path of a program"]);
    assert_eq!(
        with("[\"app\", 3]"),
        [
            "f:4:12: pool.www.command: 'app' is not an absolute path; PATH is not searched",
            "f:4:19: pool.www.command: expected a string, found an integer",
        ]
    );
    assert_eq!(
        with("[\"/usr/bin/ap\"]"),
        ["f:4:12: pool.www.command: cannot execute '/usr/bin/ap': No such file or directory"]
    );
    let mut host = FakeHost::root();
    host.programs.insert("/usr/bin/app".into(), Err(Unusable::NotExecutable));
    assert_eq!(
        mistakes_on(&host, POOL),
        ["f:4:12: pool.www.command: cannot execute '/usr/bin/app': not executable; chmod +x it"]
    );
}

#[test]
fn a_chroot_holds_command_and_directory() {
    assert_eq!(
        mistakes(&format!("{POOL}chroot = \"/srv\"\ndirectory = \"/www\"\n")),
        ["f:4:12: pool.www.command: cannot execute '/usr/bin/app' inside '/srv': No such file or directory"]
    );
    assert_eq!(
        mistake("chroot = \"/none\"\ndirectory = \"/www\""),
        "f:6:10: pool.www.chroot: there is no directory '/none'"
    );
    let text = POOL.replace("/usr/bin/app", "/bin/app") + "chroot = \"/srv\"\ndirectory = \"/srv\"\n";
    assert_eq!(mistakes(&text), ["f:7:13: pool.www.directory: there is no directory '/srv' inside '/srv'"]);
    assert_eq!(mistake("directory = \"/none\""), "f:6:13: pool.www.directory: there is no directory '/none'");
}

#[test]
fn users_and_groups_have_to_exist() {
    let with = |user: &str| mistakes(&POOL.replace("\"www-data\"", user));
    assert_eq!(
        with("\"wwwdata\""),
        ["f:5:8: pool.www.user: there is no user 'wwwdata'; create it or write another"]
    );
    assert_eq!(
        with("4711"),
        [
            "f:1:7: pool.www.group: missing; user 4711 has no entry in the user database, which would name its group"
        ]
    );
    assert_eq!(
        mistake("group = \"nope\""),
        "f:6:9: pool.www.group: there is no group 'nope'; create it or write another"
    );
    assert_eq!(
        mistake("group = \"broken\""),
        "f:6:9: pool.www.group: cannot look up group 'broken': Input/output error"
    );
    assert_eq!(
        mistakes(&format!("{POOL}supplementary_groups = [\"adm\", \"nope\", \"neither\"]\n")),
        [
            "f:6:32: pool.www.supplementary_groups: there is no group 'nope'; create it or write another",
            "f:6:40: pool.www.supplementary_groups: there is no group 'neither'; create it or write another",
        ]
    );
}

#[test]
fn only_root_takes_another_identity() {
    let text = format!(
        "{OWN_POOL}user = \"www-data\"\ngroup = \"www-data\"\nsupplementary_groups = []\nchroot = \"/\"\n"
    )
    .replace("9000", "\"/run/x.sock\"")
        + "listen_owner = \"www-data\"\n";
    assert_eq!(
        mistakes_on(&FakeHost::joe(), &text),
        [
            "f:5:8: pool.www.user: only root can run workers as 'www-data'; start fpmd as root or leave it out",
            "f:6:9: pool.www.group: only root can run workers in group 'www-data'; start fpmd as root or leave it out",
            "f:7:24: pool.www.supplementary_groups: only root can set it; start fpmd as root or leave it out",
            "f:8:10: pool.www.chroot: only root can set it; start fpmd as root or leave it out",
            "f:9:16: pool.www.listen_owner: only root can give a socket to 'www-data'; start fpmd as root or leave it out",
        ]
    );
}

#[test]
fn two_pools_on_one_socket_are_found_in_every_spelling() {
    let second = |listen: &str| {
        format!(
            "{POOL}[pool.api]\nlisten = {listen}\ncommand = [\"/usr/bin/app\"]\nuser = \"root\"\npm.max_children = 1\n"
        )
    };
    for listen in ["9000", "\"9000\"", "\"[::]:9000\"", "\"0.0.0.0:9000\"", "\"127.0.0.1:9000\""] {
        let found = mistakes(&second(listen));
        let shown = listen.trim_matches('"');
        let also = if shown == "9000" { "" } else { " as 9000" };
        let sentence = format!("{shown} is already the socket of pool 'www'{also}; first at f:3:10");
        assert_eq!(found, [format!("f:7:10: pool.api.listen: {sentence}")]);
    }
    assert_eq!(
        mistakes(&POOL.replace("9000", "[\"/run/a\", \"/run/../run/a\"]")),
        [
            "f:3:21: pool.www.listen: /run/../run/a is already the socket of pool 'www' as /run/a; first at f:3:11"
        ]
    );
}

#[test]
fn the_control_socket_is_no_pool_s() {
    let text = POOL.replace("9000", "\"/run/fpmd/fpmd.sock\"");
    let sentence = "/run/fpmd/fpmd.sock is already the socket of fpmctl (control_socket); first at f";
    assert_eq!(mistakes(&text), [format!("f:3:10: pool.www.listen: {sentence}")]);
    let long = "/run/".to_owned() + &"x".repeat(100);
    assert_eq!(
        mistakes(&format!("[global]\nruntime_dir = \"{long}\"\n")),
        [format!(
            "f:2:15: global.runtime_dir: the control socket '{long}/fpmd.sock' has 115 bytes; a Unix socket has at most 107"
        )]
    );
}

#[test]
fn wrong_addresses_are_refused_at_their_place() {
    let with = |listen: &str| mistakes(&POOL.replace("9000", listen));
    assert_eq!(with("[]"), ["f:3:10: pool.www.listen: is empty; a pool needs one address at least"]);
    assert_eq!(with("70000"), ["f:3:10: pool.www.listen: 70000 is out of range; a port is 1 to 65535"]);
    assert_eq!(
        with("\"/none/x\""),
        ["f:3:10: pool.www.listen: there is no directory '/none' for the socket"]
    );
    assert_eq!(
        with("[\"localhost:1\", -1]"),
        [
            "f:3:11: pool.www.listen: 'localhost:1' is not an address; 'localhost' is not an IP address, and names are not looked up",
            "f:3:26: pool.www.listen: -1 is out of range; a port is 1 to 65535",
        ]
    );
}

#[test]
fn settings_of_unix_sockets_need_one() {
    for name in ["listen_owner = \"root\"", "listen_mode = \"0600\"", "listen_acl_users = []"] {
        let (key, column) = (name.split(' ').next().unwrap_or(""), name.find('=').unwrap_or(0) + 3);
        let sentence = "is for Unix sockets with a path, and this pool has none; leave it out";
        assert_eq!(mistake(name), format!("f:6:{column}: pool.www.{key}: {sentence}"));
    }
}
