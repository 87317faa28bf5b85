//! fpmd.toml(5) and the files of `etc` against the table of settings: neither side may know something that the other
//! does not, and every default is the same. Prose is not judged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fpmd::config::host::{Host, ReadError, Unusable};
use fpmd::config::keys::{Default, KEYS, Key, Kind, Section, Support};
use fpmd::config::model::{Group, User};
use fpmd::config::{Config, load, load_text};
use fpmd::ids::{Gid, Uid};

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// A machine where every user, program and directory exists, and no file but those of `etc`.
struct Anywhere;

impl Host for Anywhere {
    fn read(&self, path: &Path) -> Result<String, ReadError> {
        fs::read_to_string(path).map_err(|error| ReadError::Other(error.to_string()))
    }
    fn entries(&self, directory: &Path) -> Result<Vec<String>, ReadError> {
        let entries = fs::read_dir(directory).map_err(|error| ReadError::Other(error.to_string()))?;
        Ok(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
    }
    fn user(&self, name: &str) -> Result<Option<User>, String> {
        Ok(Some(User { name: name.to_owned(), uid: Uid(33), gid: Some(Gid(33)), home: None }))
    }
    fn group(&self, name: &str) -> Result<Option<Group>, String> {
        Ok(Some(Group { name: name.to_owned(), gid: Gid(33) }))
    }
    fn executable(&self, _: Option<&Path>, _: &Path) -> Result<(), Unusable> {
        Ok(())
    }
    fn is_directory(&self, _: Option<&Path>, _: &Path) -> bool {
        true
    }
    fn uid(&self) -> Uid {
        Uid(0)
    }
    fn default_runtime_dir(&self) -> PathBuf {
        PathBuf::from("/run/fpmd")
    }
}

fn supported(section: Section) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section && key.support == Support::Supported)
}

/// The settings of a page, by the heading they are under: name, what stands for the value, and the text.
fn documented(page: &str) -> BTreeMap<String, Vec<(String, String, String)>> {
    let mut found: BTreeMap<String, Vec<(String, String, String)>> = BTreeMap::new();
    let mut heading = String::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix(".Sh ") {
            title.clone_into(&mut heading);
        }
        let entries = found.entry(heading.clone()).or_default();
        match line.strip_prefix(".It Va ").and_then(|item| item.split_once(" No = Ar ")) {
            Some((name, word)) => entries.push((name.to_owned(), word.to_owned(), String::new())),
            None => {
                if let Some((_, _, text)) = entries.last_mut() {
                    *text += &line.replace("\\(dq", "\"");
                    text.push('\n');
                }
            }
        }
    }
    found
}

#[test]
fn the_page_has_every_setting_in_the_table_s_order() {
    let found = documented(&file("man/fpmd.toml.5"));
    for (heading, section) in [
        ("GLOBAL SETTINGS", Section::Global),
        ("POOL SETTINGS", Section::Pool),
        ("PROCESS SETTINGS", Section::Pm),
    ] {
        let names: Vec<(&str, &str)> =
            found[heading].iter().map(|(name, word, _)| (name.as_str(), word.as_str())).collect();
        let expected: Vec<(&str, &str)> = supported(section).map(|key| (key.name, key.kind.word())).collect();
        assert_eq!(names, expected, "{heading}");
    }
}

#[test]
fn the_page_has_every_default_range_and_word() {
    let found = documented(&file("man/fpmd.toml.5"));
    let text = |key: &Key| {
        let entries = found.values().flatten();
        entries.filter(|(name, ..)| name == key.name).map(|(_, _, text)| text.as_str()).collect::<String>()
    };
    for key in KEYS.iter().filter(|key| key.support == Support::Supported) {
        let text = text(key);
        let default = match key.default {
            Default::Value(words) | Default::Derived(words) | Default::Unset(words) => {
                format!("Default: {words}.\n")
            }
            Default::Required => "It has no default.\n".to_owned(),
        };
        assert!(text.contains(&default), "{}: {default}", key.name);
        let reload = format!("Reload: {}.\n", key.applies);
        assert!(text.contains(&reload), "{}: {reload}", key.name);
        match key.kind {
            Kind::Whole(least, most) => assert!(text.contains(&format!("{least} to {most}")), "{}", key.name),
            Kind::Choice(words) => {
                for word in words {
                    let quoted = |line: &str| {
                        line == format!(".Ql {word}") || line.starts_with(&format!(".Ql {word} "))
                    };
                    assert!(text.lines().any(quoted), "{}: {word}", key.name);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn the_page_says_what_is_not_supported_yet() {
    let page = file("man/fpmd.toml.5");
    let (_, section) = page.split_once(".Sh NOT SUPPORTED YET\n").unwrap();
    let section = section.split(".Sh ").next().unwrap();
    let listed: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix(".Va "))
        .map(|line| line.trim_end_matches([' ', ',', '.']))
        .collect();
    let later: Vec<&str> =
        KEYS.iter().filter(|key| key.support == Support::NotYet).map(|key| key.name).collect();
    assert_eq!(listed, later);
}

/// The settings of a sample, given or as `#name = value`, with their tables.
fn shown(text: &str) -> Vec<(Section, &str, &str)> {
    let mut section = None;
    let mut found = Vec::new();
    for line in text.lines() {
        section = match line {
            "[global]" => Some(Section::Global),
            "[pool.www]" => Some(Section::Pool),
            "[pool.www.pm]" => Some(Section::Pm),
            _ => section,
        };
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some((name, value)) = line.split_once(" = ").filter(|(name, _)| !name.starts_with(' ')) {
            found.push((section.expect("a table before its settings"), name, value));
        }
    }
    found
}

const MAIN: &str = "etc/fpmd.toml";
const POOL: &str = "etc/pool.d/www.toml.example";

#[test]
fn the_samples_show_every_setting_with_its_default() {
    let (main, pool) = (file(MAIN), file(POOL));
    let found: Vec<_> = shown(&main).into_iter().chain(shown(&pool)).collect();
    let names: Vec<_> = found.iter().map(|(section, name, _)| (*section, *name)).collect();
    let all = [Section::Global, Section::Pool, Section::Pm].into_iter().flat_map(supported);
    assert_eq!(names, all.map(|key| (key.section, key.name)).collect::<Vec<_>>());
    for (section, name, value) in found {
        let key = fpmd::config::keys::find(section, name).unwrap();
        if let (Default::Value(default), false) = (key.default, name == "include") {
            assert_eq!(value, default, "{name}");
        }
    }
}

fn loaded(name: &str, text: &str) -> Config {
    load_text(name, text, &Anywhere).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_samples_load() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = load(&root.join(MAIN), &Anywhere).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.pools.is_empty(), "the example is no pool before it is renamed");
    assert_eq!(loaded(POOL, &file(POOL)).pools.len(), 1);
}

#[test]
fn the_samples_load_with_everything_in_them_given() {
    const MODES: [(&str, &str); 3] = [
        ("static", "start_servers min_spare_servers max_spare_servers max_spawn_rate process_idle_timeout"),
        ("dynamic", "nothing"),
        ("ondemand", "start_servers min_spare_servers max_spare_servers"),
    ];
    for (name, (mode, others)) in [MAIN, POOL].into_iter().flat_map(|name| MODES.map(|mode| (name, mode))) {
        let text = file(name);
        let is_other = |line: &str| others.split(' ').any(|other| line.starts_with(&format!("{other} = ")));
        let given: String = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .filter(|line| !is_other(line))
            .map(|line| format!("{line}\n").replace("mode = \"static\"", &format!("mode = \"{mode}\"")))
            .collect();
        assert!(given.len() < text.len(), "{name}");
        // The name is that of the real file, so that the include pattern finds its directory.
        loaded(&format!("{}/{name}", env!("CARGO_MANIFEST_DIR")), &given);
    }
}

#[test]
fn the_page_s_examples_load() {
    let page = file("man/fpmd.toml.5");
    let examples: Vec<&str> = page
        .split(".Bd -literal -offset indent\n")
        .skip(1)
        .map(|rest| rest.split(".Ed\n").next().unwrap())
        .filter(|example| example.contains("[pool."))
        .collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        loaded("example", example);
    }
}
