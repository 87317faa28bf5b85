//! The house rules that no compiler checks: which module may import which, where `unsafe` lives, how long things may
//! get, what lies at the top level, what no committed file may say. The ladder is read from `src/lib.rs`.
//!
//! A broken rule prints `FILE:LINE: what is wrong; what to do`. Formatting and lints are rustfmt's and clippy's part.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

#[path = "house/source.rs"]
mod source;

/// Longest file, in lines before its tests.
const FILE_LINES: usize = 400;
/// Longest function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 60;
/// Longest program in `src/bin`: it only calls the library.
const BIN_LINES: usize = 40;
/// What may lie at the top level besides dotfiles; `target` is never committed.
const TOP_LEVEL: [&str; 10] =
    ["Cargo.toml", "Cargo.lock", "src", "etc", "tests", "packaging", "man", "README.md", "LICENSE", "target"];
/// A program that the other programs may import.
const SHARED_PROGRAM: &str = "cli";
/// Paths that pure code may not name: they reach a clock, a descriptor, a file, a process or the environment.
const IMPURE: [&str; 13] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::os",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "time::Instant",
    "time::SystemTime",
    "nix",
    "mio",
    "libc",
];

/// Who reads the wall clock, which people and NTP set: for log lines, access logs and the status. What waits or measures
/// has `Moment`, of the monotonic clock; there is no way from one to the other.
const WALL_CLOCK: [&str; 5] = [
    "src/gateway/core.rs",
    "src/gateway/journal.rs",
    "src/log/mod.rs",
    "src/master/passage.rs",
    "src/master/snapshot.rs",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ring {
    Pure,
    System,
    Program,
}

#[test]
fn modules_import_only_what_the_ladder_allows() {
    let ladder = ladder();
    let mut faults = Vec::new();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources("src") {
        let Some(from) = source.module() else { continue };
        let Some(&ring) = ladder.get(&from) else {
            faults.push(format!("{}: module '{from}' is not on the map; add it to src/lib.rs", source.name));
            continue;
        };
        for (line, to) in source.imports(&from) {
            let at = format!("{}:{line}", source.name);
            let Some(&target) = ladder.get(&to) else {
                faults.push(format!("{at}: 'crate::{to}' is not a module of the map in src/lib.rs"));
                continue;
            };
            if target > ring {
                faults.push(format!(
                    "{at}: '{from}' ({ring:?} ring) imports '{to}' ({target:?} ring) below it; pass the value in, or move the code down"
                ));
            } else if ring == Ring::Program && target == ring && to != from && to != SHARED_PROGRAM {
                faults.push(format!(
                    "{at}: program '{from}' imports program '{to}'; move what both need to a ring above"
                ));
            }
            if to != from {
                graph.entry(from.clone()).or_default().insert(to);
            }
        }
    }
    for (from, to) in graph.iter().flat_map(|(from, tos)| tos.iter().map(move |to| (from, to))) {
        if from < to && reaches(&graph, to, from) {
            faults.push(format!(
                "src/{from} and src/{to} import each other, perhaps by a third; cut one of the two directions"
            ));
        }
    }
    report(faults);
}

#[test]
fn pure_modules_stay_pure() {
    let ladder = ladder();
    let mut faults = Vec::new();
    for source in sources("src") {
        let pure = source.module().and_then(|module| ladder.get(&module).copied()) == Some(Ring::Pure);
        if !pure {
            continue;
        }
        if source.is_module_root() && !source.text.contains("#![forbid(unsafe_code)]") {
            faults.push(format!(
                "{}: pure ring without #![forbid(unsafe_code)]; add it under the head",
                source.name
            ));
        }
        let end = source.lines_before_tests();
        for path in source.paths().into_iter().filter(|path| path.line <= end) {
            if let Some(impure) = IMPURE.iter().find(|impure| starts_or_holds(&path.text, impure)) {
                faults.push(format!(
                    "{}:{}: pure code names '{impure}'; take the value as an argument (`now`, a `Host`), or move this to the system ring",
                    source.name, path.line
                ));
            }
        }
    }
    report(faults);
}

#[test]
fn unsafe_and_libc_stay_in_os() {
    let mut faults = Vec::new();
    for source in sources("src") {
        if source.module().as_deref() == Some("os") {
            continue;
        }
        for token in &source.tokens {
            if matches!(token.text.as_str(), "unsafe" | "libc") {
                faults.push(format!(
                    "{}:{}: '{}' outside src/os; wrap the call there in a safe function",
                    source.name, token.line, token.text
                ));
            }
        }
        if source.text.contains("allow(unsafe_code)") {
            faults.push(format!("{}: allows unsafe code outside src/os; wrap the call there", source.name));
        }
    }
    report(faults);
}

#[test]
fn only_what_people_read_has_the_wall_clock() {
    let mut faults = Vec::new();
    for source in sources("src") {
        let end = source.lines_before_tests();
        let may_read = WALL_CLOCK.contains(&source.name.as_str());
        for path in source.paths().into_iter().filter(|path| path.line <= end) {
            let reads =
                ["clock::wall", "time::SystemTime"].iter().any(|clock| starts_or_holds(&path.text, clock));
            if reads && !may_read {
                faults.push(format!(
                    "{}:{}: '{}'; people set that clock: use clock::monotonic, or add the file to WALL_CLOCK if it only writes the time down",
                    source.name, path.line, path.text
                ));
            }
        }
    }
    report(faults);
}

#[test]
fn no_threads_in_long_running_programs() {
    let threads = |source: &Source| -> Vec<String> {
        let end = source.lines_before_tests();
        let paths = source.paths().into_iter();
        let paths = paths.filter(|path| path.line <= end && path.text.contains("thread::"));
        let fault =
            |line, path| format!("{}:{line}: '{path}'; fpmd has one thread, use the event loop", source.name);
        paths.map(|path| fault(path.line, path.text)).collect()
    };
    report(sources("src").iter().flat_map(threads).collect());
}

#[test]
fn files_and_functions_stay_short() {
    let mut faults = Vec::new();
    for source in sources("src") {
        let lines = source.lines_before_tests();
        let limit = if source.name.starts_with("src/bin/") { BIN_LINES } else { FILE_LINES };
        if lines > limit {
            faults.push(format!(
                "{}: {lines} lines before its tests, {limit} allowed; split it by subject",
                source.name
            ));
        }
        for (line, name, length) in source.functions() {
            if length > FUNCTION_LINES {
                faults.push(format!(
                    "{}:{line}: fn {name} has {length} lines, {FUNCTION_LINES} allowed; give its parts names",
                    source.name
                ));
            }
        }
    }
    report(faults);
}

#[test]
fn every_file_says_what_it_owns() {
    let mut faults = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        if !source.text.starts_with("//! ") {
            faults.push(format!(
                "{}: no head; begin with `//!` lines: what it owns, what it does not",
                source.name
            ));
        }
    }
    report(faults);
}

#[test]
fn names_say_what_things_are() {
    let mut faults = Vec::new();
    for source in sources("src") {
        for pair in source.tokens.windows(2) {
            let (keyword, name) = (pair[0].text.as_str(), pair[1].text.as_str());
            let at = format!("{}:{}", source.name, pair[1].line);
            if matches!(keyword, "struct" | "enum" | "trait" | "mod" | "type")
                && ["Manager", "Helper", "Util", "manager", "helper", "util"]
                    .iter()
                    .any(|word| name.contains(word))
            {
                faults.push(format!("{at}: '{name}' says nothing; name it after its subject"));
            }
            if keyword == "fn" && name.starts_with("get_") && name != "get_mut" {
                faults.push(format!("{at}: '{name}'; drop the 'get_'"));
            }
        }
    }
    report(faults);
}

#[test]
fn the_top_level_is_short() {
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stray = names.filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()));
    report(
        stray
            .map(|name| format!("{name}: does not belong at the top level; put it into one of {TOP_LEVEL:?}"))
            .collect(),
    );
}

#[test]
fn committed_files_name_no_machine() {
    let paths = machine_paths();
    let mut faults = Vec::new();
    for file in committed_files() {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let name = relative(&file);
        for (number, line) in text.lines().enumerate() {
            let at = format!("{name}:{}", number + 1);
            if let Some(path) = paths.iter().find(|path| line.contains(path.as_str())) {
                faults.push(format!(
                    "{at}: names '{path}', a path of this machine; make it relative or configurable"
                ));
            }
            if let Some(host) = hosts(line).into_iter().find(|host| !is_public(host)) {
                faults.push(format!(
                    "{at}: names the host '{host}', which not everyone can reach; leave it out"
                ));
            }
        }
    }
    report(faults);
}

#[test]
fn the_reader_of_sources_reads_rust() {
    let text = "//! Head.\nuse crate::{ids::Pid, os::{self, wait}};\nfn f<'a>(x: &'a str) -> char {\n '\"' // crate::no\n}\n\
                const S: &str = r#\"crate::no \"quoted\" \"#;\n#[cfg(test)]\nmod tests { use super::super::master; use super::f; }\n";
    let source = Source::parse("src/fcgi/mod.rs".into(), text.into());
    let imports: Vec<String> = source.imports("fcgi").into_iter().map(|(_, to)| to).collect();
    assert_eq!(imports, ["ids", "os", "os", "master", "fcgi"]);
    assert_eq!(source.functions(), [(3, "f".to_owned(), 3)]);
    assert_eq!(source.lines_before_tests(), 6);
    assert_eq!(hosts("see https://example.org/x and http://127.0.0.1:80/"), ["example.org", "127.0.0.1"]);
    assert!(
        is_public("docs.rs")
            && !is_public("10.1.2.3")
            && !is_public("mirror.internal")
            && !is_public("proxy")
    );
}

fn starts_or_holds(path: &str, impure: &str) -> bool {
    let held = format!("::{path}::");
    if impure.contains("::") {
        held.contains(&format!("::{impure}::"))
    } else {
        held.starts_with(&format!("::{impure}::"))
    }
}

// -- the tree --

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).to_string_lossy().into_owned()
}

/// Module and ring, from the sections of `src/lib.rs`.
fn ladder() -> BTreeMap<String, Ring> {
    let mut ring = None;
    let mut ladder = BTreeMap::new();
    for line in fs::read_to_string(root().join("src/lib.rs")).unwrap().lines() {
        ring = match line.strip_prefix("// -- ").and_then(|title| title.split(' ').next()) {
            Some("pure") => Some(Ring::Pure),
            Some("system") => Some(Ring::System),
            Some("program") => Some(Ring::Program),
            Some(other) => panic!("src/lib.rs: unknown ring '{other}'"),
            None => ring,
        };
        if let Some((name, _)) = line.strip_prefix("pub mod ").and_then(|rest| rest.split_once(';')) {
            ladder.insert(name.to_owned(), ring.expect("src/lib.rs: a module before the first ring"));
        }
    }
    assert!(ladder.len() > 5, "src/lib.rs: the map was not understood: {ladder:?}");
    ladder
}

fn reaches(graph: &BTreeMap<String, BTreeSet<String>>, from: &str, goal: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = next.pop() {
        if module == goal {
            return true;
        }
        if seen.insert(module.clone()) {
            next.extend(graph.get(&module).into_iter().flatten().cloned());
        }
    }
    false
}

fn sources(folder: &str) -> Vec<Source> {
    let rust =
        walk(&root().join(folder)).into_iter().filter(|file| file.extension().is_some_and(|ext| ext == "rs"));
    let read = |file: PathBuf| Source::parse(relative(&file), fs::read_to_string(&file).unwrap());
    rust.map(read).collect()
}

fn committed_files() -> Vec<PathBuf> {
    walk(&root()).into_iter().filter(|file| !relative(file).starts_with("Cargo.lock")).collect()
}

/// Every file below `folder`, without what is never committed.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if !matches!(name.as_str(), "target" | ".git" | "corpus" | "artifacts" | "__pycache__") {
                files.extend(walk(&path));
            }
        } else if name != ".git" {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Where this checkout lies, and the first folder of that path unless every Linux has it.
fn machine_paths() -> Vec<String> {
    let here = root().to_string_lossy().into_owned();
    let first = here.split('/').nth(1).unwrap_or_default().to_owned();
    let everywhere =
        ["", "home", "root", "tmp", "usr", "var", "opt", "srv", "mnt", "run", "dev", "build", "app", "src"];
    let mut paths = vec![format!("{here}/")];
    if !everywhere.contains(&first.as_str()) {
        paths.push(format!("/{first}/"));
    }
    paths
}

/// The hosts of the URLs in a line, without user and port.
fn hosts(line: &str) -> Vec<String> {
    let after_scheme = line.split("://").zip(line.split("://").skip(1));
    let after_scheme =
        after_scheme.filter(|(before, _)| before.ends_with("http") || before.ends_with("https"));
    let host = |rest: &str| -> String {
        let authority = rest
            .split(|c: char| c == '/' || c.is_whitespace() || "\"'`)>,;{".contains(c))
            .next()
            .unwrap_or("");
        let host = authority.rsplit('@').next().unwrap_or("");
        host.split(':').next().unwrap_or("").to_owned()
    };
    after_scheme
        .map(|(_, rest)| host(rest))
        .filter(|host| host.starts_with(|c: char| c.is_ascii_alphanumeric()))
        .collect()
}

/// A name that anyone may resolve, or the loopback.
fn is_public(host: &str) -> bool {
    if matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0" | "fd" | "unix") {
        return true;
    }
    let private = [".internal", ".local", ".lan", ".corp", ".intranet", ".home"];
    let number = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    host.contains('.') && !number && !private.iter().any(|suffix| host.ends_with(suffix))
}

fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} broken house rules:\n{}", faults.len(), faults.join("\n"));
}
