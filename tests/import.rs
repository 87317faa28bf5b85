//! `fpmctl import` on configurations as people have them, each in a file of tests/golden/import with what comes out behind it:
//! a command line, the files that it reads, the result. Every result is right for fpmd, too. Nothing runs here.
//! `BLESS=1 cargo test --test import` writes the results anew; then read the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use fpmd::cli::fpmctl::{Action, parse};
use fpmd::config::host::{Host, ReadError, Unusable};
use fpmd::config::load_text;
use fpmd::config::model::{Group, User};
use fpmd::ctl::import::translate;
use fpmd::ids::{Gid, Uid};

/// Between the files and the result.
const RESULT: &str = "== fpmd.toml\n";

/// A machine with these files, where every user, program and directory exists.
struct Machine {
    files: BTreeMap<PathBuf, String>,
}

impl Host for Machine {
    fn read(&self, path: &Path) -> Result<String, ReadError> {
        self.files.get(path).cloned().ok_or(ReadError::NotFound)
    }
    fn entries(&self, directory: &Path) -> Result<Vec<String>, ReadError> {
        let below = self.files.keys().filter_map(|path| path.strip_prefix(directory).ok());
        let mut names: Vec<String> =
            below.filter_map(|path| Some(path.iter().next()?.to_str()?.to_owned())).collect();
        names.sort();
        names.dedup();
        if names.is_empty() { Err(ReadError::NotFound) } else { Ok(names) }
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
    fn is_directory(&self, _: Option<&Path>, path: &Path) -> bool {
        !self.files.contains_key(path)
    }
    fn uid(&self) -> Uid {
        Uid(0)
    }
    fn default_runtime_dir(&self) -> PathBuf {
        PathBuf::from("/run/fpmd")
    }
}

/// One file of tests/golden/import.
struct Case {
    variables: BTreeMap<String, String>,
    line: Vec<OsString>,
    machine: Machine,
    /// Everything before the result.
    given: String,
    result: String,
}

impl Case {
    fn read(path: &Path) -> Case {
        let text = fs::read_to_string(path).unwrap();
        let (given, result) = text.split_once(RESULT).unwrap_or((&text, ""));
        let (line, files) = given.split_once('\n').unwrap();
        let mut words = words(line.strip_prefix("$ ").expect("a command line"));
        let mut variables = BTreeMap::new();
        while let Some((name, value)) = words[0].split_once('=') {
            variables.insert(name.to_owned(), value.to_owned());
            words.remove(0);
        }
        let files = files.split("-- /").skip(1).map(|file| {
            let (name, text) = file.split_once('\n').unwrap();
            (PathBuf::from(format!("/{name}")), text.to_owned())
        });
        Case {
            variables,
            line: words.into_iter().map(OsString::from).collect(),
            machine: Machine { files: files.collect() },
            given: given.to_owned(),
            result: result.to_owned(),
        }
    }

    fn made(&self) -> Result<String, String> {
        let invocation = parse(self.line.iter().cloned()).unwrap_or_else(|ended| panic!("{}", ended.text()));
        let Action::Import(what) = invocation.action else { panic!("{:?} is no import", self.line) };
        let variable = |name: &str| self.variables.get(name).cloned();
        translate(&what, Path::new("/etc/fpmd"), &variable, &self.machine).map(|draft| draft.text())
    }
}

/// Cut at blanks, but for what is in single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, piece) in line.split('\'').enumerate() {
        let mut parts = if index % 2 == 0 { piece.split(' ').collect() } else { vec![piece] }.into_iter();
        words.last_mut().unwrap().push_str(parts.next().unwrap());
        words.extend(parts.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    words
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/import");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_configuration_is_translated_as_before_and_right_for_fpmd() {
    let mut wrong = Vec::new();
    let mut translated = 0;
    for path in cases() {
        let case = Case::read(&path);
        let made = case.made();
        match &made {
            Ok(text) => {
                translated += 1;
                let loaded = load_text(&path.to_string_lossy(), text, &case.machine);
                wrong.extend(loaded.err().map(|errors| errors.to_string()));
            }
            Err(errors) => {
                if !path.to_string_lossy().ends_with("-mistakes.txt") {
                    wrong.push(format!("{}: {errors}", path.display()));
                }
            }
        }
        let made = made.unwrap_or_else(|errors| format!("{errors}\n"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, format!("{}{RESULT}{made}", case.given)).unwrap();
        } else if case.result != made {
            wrong.push(format!("{}\n--- golden\n{}\n--- made\n{made}", path.display(), case.result));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(translated > 25, "{translated} configurations");
}
