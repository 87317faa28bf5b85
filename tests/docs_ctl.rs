//! The manual pages of fpmd and fpmctl against the command lines that the programs accept, the exit codes and the JSON
//! that they give: neither side may know something that the other does not. Prose is not judged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use fpmd::cli::exit::{Ctl, Daemon};
use fpmd::cli::{fpmctl, fpmd as daemon};

/// Options and operands as words, under the command that they belong to; the program's own under "".
type Known = BTreeMap<String, BTreeSet<String>>;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// What clap accepts. Hidden commands are nobody's business.
fn accepted(mut grammar: clap::Command) -> Known {
    grammar.build();
    let mut known = Known::from([(String::new(), words(&grammar, true))]);
    for command in grammar.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        for inner in command.get_subcommands() {
            known.insert(format!("{name} {}", inner.get_name()), words(inner, false));
        }
        if !command.has_subcommands() {
            known.insert(name.to_owned(), words(command, false));
        }
    }
    known
}

fn words(command: &clap::Command, is_program: bool) -> BTreeSet<String> {
    // Every command takes the global options, and --help; the page says that once.
    let inherited = |arg: &&clap::Arg| is_program || !(arg.is_global_set() || arg.get_id() == "help");
    let mut words = BTreeSet::new();
    for arg in command.get_arguments().filter(inherited) {
        words.extend(arg.get_long().map(|long| format!("--{long}")));
        words.extend(arg.get_short().map(|short| format!("-{short}")));
        if arg.is_positional() {
            let names = arg.get_value_names().unwrap_or_default();
            words.extend(names.iter().flat_map(|name| name.split('|')).map(str::to_owned));
        }
    }
    words
}

/// What the item lines of the page list: `.It Fl c Ar FILE , Fl -config Ar FILE`, `.It Ic status Op Ar POOL`.
fn documented(page: &str, accepted: &Known) -> Known {
    let mut known = Known::from([(String::new(), BTreeSet::new())]);
    let mut command = String::new();
    for line in page.lines() {
        if line.starts_with(".Sh") || line.starts_with(".Ss") {
            command.clear();
        }
        let Some(item) = line.strip_prefix(".It ") else { continue };
        let item: Vec<&str> = item.split(' ').collect();
        if let ["Ic" | "Cm", name, ref rest @ ..] = item[..] {
            let both = rest.first().map(|inner| format!("{name} {inner}"));
            command = both.filter(|both| accepted.contains_key(both)).unwrap_or_else(|| name.to_owned());
        }
        let listed = known.entry(command.clone()).or_default();
        let operands = accepted.get(&command).into_iter().flatten();
        listed.extend(operands.filter(|operand| is_operand(&item, operand)).cloned());
        listed.extend(flags(&item));
    }
    known
}

/// In an item of its own, or beside the command's name, but not as the value of an option.
fn is_operand(item: &[&str], operand: &str) -> bool {
    item.contains(&operand) && (item[0] == "Ar" || item[0] == "Ic" || item[0] == "Cm")
}

/// The arguments of each `Fl` macro: `Fl f | -full` are `-f` and `--full`.
fn flags(item: &[&str]) -> Vec<String> {
    let mut flags = Vec::new();
    let mut in_flags = false;
    for &word in item {
        match word {
            "Fl" => in_flags = true,
            "|" | "," => {}
            _ if word.starts_with(char::is_uppercase) && word.len() == 2 => in_flags = false,
            _ if in_flags => flags.push(format!("-{word}")),
            _ => {}
        }
    }
    flags
}

fn agree(page_name: &str, grammar: clap::Command) {
    let accepted = accepted(grammar);
    let documented = documented(&page(page_name), &accepted);
    assert_eq!(documented, accepted, "man/{page_name} (left) and --help (right) differ");
}

/// The codes of the list in EXIT STATUS.
fn exit_codes(page: &str) -> Vec<u8> {
    let section = page.split(".Sh EXIT STATUS").nth(1).expect("a section EXIT STATUS");
    let section = section.split(".Sh ").next().unwrap_or_default();
    section.lines().filter_map(|line| line.strip_prefix(".It ")?.parse().ok()).collect()
}

#[test]
fn fpmctl_accepts_what_its_page_lists() {
    agree("fpmctl.8", fpmctl::grammar());
}

#[test]
fn fpmd_accepts_what_its_page_lists() {
    agree("fpmd.8", daemon::grammar());
}

#[test]
fn exit_codes_are_listed() {
    let ctl = [Ctl::Done, Ctl::Refused, Ctl::Usage, Ctl::Unreachable].map(|exit| exit as u8);
    assert_eq!(exit_codes(&page("fpmctl.8")), ctl);
    let daemon =
        [Daemon::Done, Daemon::Usage, Daemon::Bug, Daemon::System, Daemon::Permission, Daemon::Config];
    assert_eq!(exit_codes(&page("fpmd.8")), daemon.map(|exit| exit as u8));
}

#[test]
fn default_paths_are_listed() {
    for name in ["fpmctl.8", "fpmd.8"] {
        let page = page(name);
        let default_config = format!(".It Pa {}", daemon::DEFAULT_CONFIG);
        for line in [&default_config, ".It Pa /run/fpmd/fpmd.sock", ".It Pa $XDG_RUNTIME_DIR/fpmd/fpmd.sock"]
        {
            assert!(page.lines().any(|listed| listed == line), "{name} has no line '{line}'");
        }
    }
}

#[test]
fn every_field_of_the_json_is_listed() {
    let mut fields = BTreeSet::new();
    for name in ["status.json", "status-gateway.json"] {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let snapshot = serde_json::from_str(&fs::read_to_string(golden).unwrap()).expect("JSON");
        collect(&snapshot, &mut fields);
    }
    assert!(fields.len() > 30, "the golden snapshot was not understood: {fields:?}");
    let page = page("fpmctl.8");
    let section = page.split("\n.Sh JSON\n").nth(1).expect("a section JSON");
    let section = section.split("\n.Sh ").next().unwrap_or_default();
    let listed: BTreeSet<&str> = section
        .lines()
        .filter(|line| line.starts_with(".It Va ") || line.starts_with(".Va "))
        .flat_map(str::split_whitespace)
        .collect();
    let missing: Vec<_> = fields.iter().filter(|field| !listed.contains(field.as_str())).collect();
    assert!(missing.is_empty(), "fpmctl(8) does not list {missing:?}");
}

fn collect(value: &serde_json::Value, fields: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, fields)),
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                fields.insert(name.clone());
                collect(member, fields);
            }
        }
        _ => {}
    }
}
