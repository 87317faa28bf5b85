//! Files that include others.

use std::path::Path;

use super::super::host::ReadError;
use super::super::load;
use super::{FakeHost, MAIN, POOL};

const INCLUDE: &str = "[global]\ninclude = [\"pool.d/*.toml\"]\n";

fn pool(name: &str, port: u16) -> String {
    POOL.replace("www.", &format!("{name}."))
        .replace("www]", &format!("{name}]"))
        .replace("9000", &port.to_string())
}

fn mistakes(host: &FakeHost) -> Vec<String> {
    load(Path::new(MAIN), host).expect_err("mistakes").iter().map(ToString::to_string).collect()
}

#[test]
fn included_files_are_relative_and_sorted() {
    let host = FakeHost::root()
        .with_file(MAIN, INCLUDE)
        .with_file("/etc/fpmd/pool.d/b.toml", &pool("b", 2))
        .with_file("/etc/fpmd/pool.d/a.toml", &pool("a", 1))
        .with_file("/etc/fpmd/pool.d/.hidden.toml", "= no TOML")
        .with_file("/etc/fpmd/pool.d/c.toml~", "= no TOML");
    let config = load(Path::new(MAIN), &host).expect("valid");
    assert_eq!(config.pools.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_pool_has_one_place_in_all_files() {
    let host = FakeHost::root()
        .with_file(MAIN, &format!("{}[global]\ninclude = [\"pool.d/*.toml\"]\n", pool("www", 1)))
        .with_file("/etc/fpmd/pool.d/a.toml", &pool("www", 2))
        .with_file("/etc/fpmd/pool.d/b.toml", &pool("b", 1));
    assert_eq!(
        mistakes(&host),
        [
            "/etc/fpmd/pool.d/a.toml:1:7: pool.www: there is a pool 'www' already; first at /etc/fpmd/fpmd.toml:1:7",
            "/etc/fpmd/pool.d/b.toml:3:10: pool.b.listen: 1 is already the socket of pool 'www'; first at /etc/fpmd/fpmd.toml:3:10",
        ]
    );
}

#[test]
fn one_bad_file_does_not_hide_the_mistakes_of_the_next() {
    let host = FakeHost::root()
        .with_file(MAIN, INCLUDE)
        .with_file("/etc/fpmd/pool.d/a.toml", "[pool.a\n")
        .with_file("/etc/fpmd/pool.d/b.toml", &(pool("b", 1) + "x = 1\n"))
        .with_file("/etc/fpmd/pool.d/c.toml", "[global]\nlog = \"stdout\"\n");
    assert_eq!(
        mistakes(&host),
        [
            "/etc/fpmd/pool.d/a.toml:1:8: not valid TOML: unclosed table, expected `]`",
            "/etc/fpmd/pool.d/b.toml:6:1: pool.b.x: unknown setting",
            "/etc/fpmd/pool.d/c.toml:1:2: global: an included file has [pool.NAME] tables only; move this to /etc/fpmd/fpmd.toml",
        ]
    );
}

#[test]
fn only_a_wildcard_may_find_nothing() {
    let text = "[global]\ninclude = [\"pool.d/*.toml\", \"none.toml\", \"/etc/*/x\", \"pool.d/\", 3]\n";
    let host = FakeHost::root().with_file(MAIN, text);
    assert_eq!(
        mistakes(&host),
        [
            "/etc/fpmd/fpmd.toml:2:29: global.include: cannot include '/etc/fpmd/none.toml': No such file or directory",
            "/etc/fpmd/fpmd.toml:2:42: global.include: '/etc/*/x' has a wildcard before its last '/'; write a pattern for each",
            "/etc/fpmd/fpmd.toml:2:54: global.include: 'pool.d/' names no file; write \"pool.d/*.toml\"",
            "/etc/fpmd/fpmd.toml:2:65: global.include: expected a string, found an integer",
        ]
    );
}

#[test]
fn what_cannot_be_read_is_a_mistake_with_a_place() {
    for (cause, words) in [
        (ReadError::IsDirectory, "Is a directory"),
        (ReadError::Permission, "Permission denied"),
        (ReadError::NotUtf8(7), "not UTF-8 text (byte 7)"),
        (ReadError::TooLong(9), "longer than 9 bytes"),
    ] {
        let host = FakeHost::root()
            .with_file(MAIN, INCLUDE)
            .with_unreadable("/etc/fpmd/pool.d/a.toml", cause.clone());
        let sentence = format!("global.include: cannot include '/etc/fpmd/pool.d/a.toml': {words}");
        assert_eq!(mistakes(&host), [format!("/etc/fpmd/fpmd.toml:2:12: {sentence}")]);

        let host = FakeHost::root().with_unreadable(MAIN, cause);
        assert_eq!(mistakes(&host), [format!("/etc/fpmd/fpmd.toml: cannot read the configuration: {words}")]);
    }
    let host =
        FakeHost::root().with_file(MAIN, INCLUDE).with_unreadable("/etc/fpmd/pool.d", ReadError::Permission);
    assert_eq!(
        mistakes(&host),
        ["/etc/fpmd/fpmd.toml:2:12: global.include: cannot list '/etc/fpmd/pool.d': Permission denied"]
    );
}

#[test]
fn a_file_named_twice_is_read_once() {
    let text = "[global]\ninclude = [\"pool.d/*.toml\", \"./pool.d/../pool.d/a.toml\"]\n";
    let host = FakeHost::root().with_file(MAIN, text).with_file("/etc/fpmd/pool.d/a.toml", &pool("a", 1));
    assert_eq!(load(Path::new(MAIN), &host).expect("valid").pools.len(), 1);
}
