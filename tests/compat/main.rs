//! Our spawn-fcgi against the texts in tests/golden/spawn-fcgi, always, and against Debian's spawn-fcgi 1.6.4, where it is installed: every
//! option, valid and invalid, as root and as somebody else. `BLESS=1 cargo test --test compat` writes the texts anew; then read the
//! difference. A difference between the two programs has to be in `spawn_fcgi::quirks`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]
#![allow(clippy::print_stdout, reason = "a test says what it skips")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cases::{Callers, Case, Original};
use fpmd::spawn_fcgi::quirks::{QUIRKS, Where};
use programs::Programs;
use run::{Caller, outcome};

mod cases;
mod man;
mod programs;
mod run;
mod scene;
mod supervise;

/// The program itself gives an application 100 ms to die; on a busy machine that is not always enough.
const TRIES: usize = 6;

#[test]
fn command_line() {
    compare("command-line", cases::COMMAND_LINE);
}

#[test]
fn sockets() {
    compare("sockets", cases::SOCKETS);
}

#[test]
fn applications() {
    compare("applications", cases::APPLICATIONS);
}

#[test]
fn pid_files() {
    compare("pid-files", cases::PID_FILES);
}

#[test]
fn identities() {
    compare("identities", cases::IDENTITIES);
}

#[test]
fn every_quirk_has_a_case_and_every_difference_a_quirk() {
    let known: BTreeSet<&str> =
        QUIRKS.iter().filter(|quirk| quirk.shown == Where::Compared).map(|q| q.name).collect();
    let shown: BTreeSet<&str> = all_cases()
        .filter_map(|case| match case.original {
            Original::Same => None,
            Original::Quirk(name) | Original::Hangs(name) => Some(name),
        })
        .collect();
    assert_eq!(known, shown);
}

#[test]
fn every_case_has_its_own_name() {
    let mut names = BTreeSet::new();
    for case in all_cases() {
        assert!(names.insert(case.name), "two cases are called '{}'", case.name);
    }
}

fn all_cases() -> impl Iterator<Item = &'static Case> {
    [cases::COMMAND_LINE, cases::SOCKETS, cases::APPLICATIONS, cases::PID_FILES, cases::IDENTITIES]
        .into_iter()
        .flatten()
}

/// Runs all cases of a group as everybody who may, and reports all that is wrong.
fn compare(group: &str, cases: &[Case]) {
    let programs = Programs::install();
    if programs.original.is_none() {
        println!("skipped the comparison: the original is not in /usr/bin (tests/setup.sh installs it)");
    }
    let mut faults = Vec::new();
    for caller in [Caller::Root, Caller::Ordinary] {
        if caller == Caller::Root && !nix::unistd::geteuid().is_root() {
            println!("skipped the cases of root: not run as root");
            continue;
        }
        let cases: Vec<&Case> = cases.iter().filter(|case| case.callers.include(caller)).collect();
        faults.extend(Golden::open(group, caller).compare(&cases, caller, &programs));
    }
    assert!(faults.is_empty(), "{} differences\n{}", faults.len(), faults.join("\n"));
}

impl Callers {
    fn include(self, caller: Caller) -> bool {
        match self {
            Callers::Everyone => true,
            Callers::Root => caller == Caller::Root,
            Callers::Ordinary => caller == Caller::Ordinary,
        }
    }
}

/// The expected outcomes of one group and caller: "== NAME" and the text.
struct Golden {
    path: PathBuf,
    text: String,
}

impl Golden {
    fn open(group: &str, caller: Caller) -> Golden {
        let who = match caller {
            Caller::Root => "root",
            Caller::Ordinary => "ordinary",
        };
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/spawn-fcgi");
        let path = directory.join(format!("{group}.{who}.txt"));
        Golden { text: fs::read_to_string(&path).unwrap_or_default(), path }
    }

    fn expected(&self, name: &str) -> &str {
        let sections = self.text.split("== ").filter_map(|section| section.split_once('\n'));
        let mut found = sections.filter(|(title, _)| *title == name).map(|(_, text)| text);
        found.next().unwrap_or_default()
    }

    fn compare(&self, cases: &[&Case], caller: Caller, programs: &Programs) -> Vec<String> {
        let bless = std::env::var_os("BLESS").is_some();
        let results = in_parallel(cases, |case| {
            let expected = self.expected(case.name);
            let mut made = String::new();
            for _ in 0..TRIES {
                made = outcome(case, caller, &programs.ours(), &programs.probe());
                if made == expected || bless {
                    break;
                }
            }
            let golden = (made != expected && !bless)
                .then(|| format!("== {} ({caller:?})\n-- golden\n{expected}-- ours\n{made}", case.name));
            let original = against_original(case, caller, programs, &made);
            (format!("== {}\n{made}", case.name), [golden, original])
        });
        if bless {
            let text: String = results.iter().map(|(section, _)| section.as_str()).collect();
            fs::create_dir_all(self.path.parent().unwrap()).unwrap();
            fs::write(&self.path, text).unwrap();
        }
        results.into_iter().flat_map(|(_, faults)| faults.into_iter().flatten()).collect()
    }
}

/// What is wrong between the original and `made`, which is ours.
fn against_original(case: &Case, caller: Caller, programs: &Programs, made: &str) -> Option<String> {
    let program = programs.original.as_ref()?;
    let (name, quirk) = (case.name, matches!(case.original, Original::Quirk(_)));
    if matches!(case.original, Original::Hangs(_)) {
        return None;
    }
    let mut theirs = String::new();
    for _ in 0..TRIES {
        theirs = outcome(case, caller, program, &programs.probe());
        if (theirs == made) != quirk {
            return None;
        }
    }
    Some(match quirk {
        true => format!("== {name} ({caller:?})\nno difference, although the table has a quirk\n{made}"),
        false => format!("== {name} ({caller:?})\n-- original\n{theirs}-- ours\n{made}"),
    })
}

/// Most of a run is waiting: several at once, in the order of `cases`.
fn in_parallel<R: Send>(cases: &[&Case], work: impl Fn(&Case) -> R + Sync) -> Vec<R> {
    let work = &work;
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let mine = cases.iter().enumerate().skip(lane).step_by(LANES);
                scope.spawn(move || mine.map(|(at, case)| (at, work(case))).collect::<Vec<_>>())
            })
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// How many cases of a group run at once.
const LANES: usize = 4;
