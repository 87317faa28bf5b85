//! The programs that the tests let fpmd manage, as argument vectors. All FastCGI ones answer the same paths; the
//! fixtures say which.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A file of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// `target`, wherever it is.
pub fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// Every kind that answers all paths, by a name that is good for a pool.
pub const KINDS: [&str; 11] = [
    "php",
    "c",
    "perl",
    "fcgiwrap",
    "flup-single",
    "flup-threaded",
    "flup-forking",
    "flipflop",
    "ruby",
    "node",
    "go",
];

/// The program of one of `KINDS`.
pub fn of_kind(kind: &str) -> Vec<String> {
    match kind {
        "php" => php(),
        "c" => c(),
        "perl" => perl(),
        "fcgiwrap" => fcgiwrap(),
        "flup-single" => flup("single"),
        "flup-threaded" => flup("threaded"),
        "flup-forking" => flup("fork"),
        "flipflop" => flipflop(),
        "ruby" => ruby(),
        "node" => node(),
        "go" => go(),
        other => panic!("no kind of worker is called {other}"),
    }
}

/// SCRIPT_FILENAME for one of `KINDS`: fcgiwrap executes it, php-cgi reads it, the others do not look at it.
pub fn script_of(kind: &str) -> PathBuf {
    fixture(if kind == "fcgiwrap" { "cgi/app.cgi" } else { "php/app.php" })
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The light one: C with libfcgi, compiled on first use.
pub fn c() -> Vec<String> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (program, fresh) = (folder.join("worker"), folder.join(format!("worker-{}", std::process::id())));
        let made = Command::new("gcc")
            .args(["-O1", "-Wall", "-Werror", "-o"])
            .arg(&fresh)
            .arg(fixture("c/worker.c"))
            .arg("-lfcgi")
            .status();
        assert!(
            made.expect("gcc; tests/setup.sh installs it").success(),
            "tests/fixtures/c/worker.c does not compile"
        );
        // In one step, so that a test in another process never runs half a program.
        std::fs::rename(&fresh, &program).unwrap();
        program
    });
    words(&[program.to_str().unwrap()])
}

pub fn php() -> Vec<String> {
    words(&["/usr/bin/php-cgi"])
}

/// The tests' Python.
pub fn interpreter() -> PathBuf {
    let interpreter = target().join("test-python/bin/python");
    assert!(interpreter.exists(), "{} is missing; run tests/setup.sh", interpreter.display());
    interpreter
}

fn python(rest: &[&str]) -> Vec<String> {
    let interpreter = interpreter();
    // -B: no compiled files beside the fixtures.
    let mut command = words(&[interpreter.to_str().unwrap(), "-B"]);
    command.extend(words(rest));
    command
}

/// `kind`: `threaded`, `single` or `fork`.
pub fn flup(kind: &str) -> Vec<String> {
    python(&[fixture("python/flup_worker.py").to_str().unwrap(), kind])
}

pub fn flipflop() -> Vec<String> {
    python(&[fixture("python/flipflop_worker.py").to_str().unwrap()])
}

/// Speaks HTTP, not FastCGI.
pub fn uvicorn() -> Vec<String> {
    let folder = fixture("python");
    python(&[
        "-m",
        "uvicorn",
        "--fd",
        "0",
        "--app-dir",
        folder.to_str().unwrap(),
        "--log-level",
        "warning",
        "asgi:application",
    ])
}

pub fn perl() -> Vec<String> {
    words(&["/usr/bin/perl", fixture("perl/worker.pl").to_str().unwrap()])
}

/// fcgi's pure Ruby.
pub fn ruby() -> Vec<String> {
    words(&["/usr/bin/ruby", fixture("ruby/worker.rb").to_str().unwrap()])
}

/// node-fastcgi.
pub fn node() -> Vec<String> {
    let modules = target().join("test-node");
    assert!(modules.exists(), "{} is missing; run tests/setup.sh", modules.display());
    words(&["/usr/bin/node", fixture("node/worker.js").to_str().unwrap(), modules.to_str().unwrap()])
}

/// net/http/fcgi.
pub fn go() -> Vec<String> {
    let program = target().join("test-go/worker");
    assert!(program.exists(), "{} is missing; run tests/setup.sh", program.display());
    words(&[program.to_str().unwrap()])
}

pub fn fcgiwrap() -> Vec<String> {
    words(&["/usr/sbin/fcgiwrap", "-f"])
}

/// Never looks at its socket; ends on SIGTERM.
pub fn sleep() -> Vec<String> {
    words(&["/bin/sleep", "1000"])
}

/// A shell script as a worker.
pub fn shell(script: &str) -> Vec<String> {
    words(&["/bin/sh", "-c", script])
}
