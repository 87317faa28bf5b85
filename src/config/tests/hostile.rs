//! Texts that mean harm, or that an editor broke: an answer in little time, never a panic.

use proptest::prelude::*;

use super::super::load_text;
use super::{FakeHost, config, mistakes};

#[test]
fn an_empty_file_is_a_daemon_without_pools() {
    for text in ["", "\n", "# nothing", "\u{feff}", "[global]", "[pool]"] {
        assert!(config(text).pools.is_empty(), "{text:?}");
    }
}

#[test]
fn a_byte_order_mark_and_dos_lines_are_harmless() {
    assert_eq!(mistakes("\u{feff}[globl]\r\n[global]\r\nlog = 3\r\n").len(), 2);
    assert_eq!(mistakes("\u{feff}x = 3"), mistakes("x = 3"));
    assert_eq!(
        mistakes("[global]\r\nlog = 3\r\n"),
        ["f:2:7: global.log: expected a string, found an integer"]
    );
}

#[test]
fn nul_and_control_characters_are_refused_and_not_repeated() {
    assert_eq!(mistakes("\0").len(), 1);
    assert_eq!(
        mistakes("\"\\u001b[31m\\n\" = 1"),
        ["f:1:1: \\u{1b}[31m\\n: unknown setting; settings are in [global], [pool.NAME] or [pool.NAME.pm]"]
    );
}

#[test]
fn a_megabyte_of_garbage_ends_with_a_few_lines() {
    let megabyte = 1_000_000;
    for unit in ["\0", "[", "a.", "a = [", "\"", "= =\n", "ä", "[a.b]\n"] {
        let text = unit.repeat(megabyte / unit.len());
        assert!(mistakes(&text).len() <= 10, "{unit:?}");
    }
}

#[test]
fn a_long_table_given_twice_is_one_mistake() {
    let table: String =
        std::iter::once("[pool.a]\n".to_owned()).chain((0..20_000).map(|n| format!("x{n} = 1\n"))).collect();
    assert_eq!(mistakes(&format!("{table}{table}")), ["f:20002:7: 'a' is there already; first at f:1:7"]);
}

#[test]
fn deep_nesting_is_refused() {
    let arrays = format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(
        mistakes(&arrays),
        ["f:1:85: not valid TOML: cannot recurse further; max recursion depth met"]
    );
    let tables = format!("[{}a]", "a.".repeat(10_000));
    assert_eq!(mistakes(&tables).len(), 1);
}

#[test]
fn many_mistakes_are_all_told() {
    let text: String = (0..500).map(|number| format!("listen_mode{number} = 1\n")).collect();
    assert_eq!(mistakes(&format!("[pool.www]\n{text}")).len(), 500 + 4);
}

proptest! {
    #[test]
    fn no_text_breaks_it(text in "(\\PC|[\\[\\]=.\"'\n{}#,0-9a-z]){0,200}") {
        let _ = load_text("f", &text, &FakeHost::root());
    }

    #[test]
    fn no_value_of_any_setting_breaks_it(
        key in proptest::sample::select(super::super::keys::KEYS),
        value in "([0-9]{1,20}|-[0-9]{1,20}|true|\"[^\"\\\\\\pC]{0,20}\"|\\[\"[a-z/]{0,9}\"\\]|\\{\\}|1\\.5|\\[[0-9, ]{0,9}\\])",
    ) {
        let table = match key.section {
            super::super::keys::Section::Global => "global",
            super::super::keys::Section::Pool => "pool.p",
            super::super::keys::Section::Pm => "pool.p.pm",
        };
        let text = format!("[{table}]\n{} = {value}\n", key.name);
        if let Err(errors) = load_text("f", &text, &FakeHost::root()) {
            let bare = |text: &String| text.contains(":1:") || text.contains(":2:") || text.starts_with("f: ");
            prop_assert!(errors.iter().map(ToString::to_string).all(|text| bare(&text)));
        }
    }
}
