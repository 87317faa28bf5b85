//! Completion in real shells, each with the script that fpmctl prints for it: commands, options, values, and pools of a running fpmd.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::daemon::{Fpmd, Pool, Rig, fpmctl};
use crate::support::workers;

/// A line up to the cursor, and what has to be offered there; `{dir}` is the test's directory, with the control socket.
const LINES: [(&str, &str); 8] = [
    ("fpmctl stat", "status"),
    ("fpmctl --socket {dir}/control status ww", "www"),
    ("fpmctl --socket {dir}/control reload www wi", "wiki"),
    ("fpmctl status --fu", "--full"),
    ("fpmctl import super", "supervisord"),
    ("fpmd --chec", "--check"),
    ("fpmd --config {dir}/fpmd.to", "{dir}/fpmd.toml"),
    ("spawn-fcgi --sup", "--supervise"),
];

fn started() -> Fpmd {
    let pools = ["www", "wiki"].map(|name| Pool::new(name, &workers::c()));
    pools.into_iter().fold(Rig::new(), Rig::pool).start()
}

/// The script for a shell in a file.
fn script(fpmd: &Fpmd, shell: &str) -> String {
    let ran = fpmctl(&["completions", shell]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    fpmd.rig.dir.write(&format!("completion.{shell}"), &ran.out).to_str().unwrap().to_owned()
}

/// Runs a shell with our programs in its path, in a home of its own.
fn run(fpmd: &Fpmd, words: &[&str]) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_fpmctl")).parent().unwrap().display();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout")
        .arg("60")
        .arg(words[0])
        .args(&words[1..])
        .env("PATH", path)
        .env("HOME", fpmd.rig.dir.path())
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; run tests/setup.sh", words[0]));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn lines(fpmd: &Fpmd) -> Vec<(String, String)> {
    let filled = |text: &str| text.replace("{dir}", fpmd.rig.dir.path().to_str().unwrap());
    LINES.iter().map(|(line, word)| (filled(line), filled(word))).collect()
}

#[test]
fn bash_completes() {
    let fpmd = started();
    let script = script(&fpmd, "bash");
    for (line, word) in lines(&fpmd) {
        let ask = format!(
            "source {script}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _fpmd; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p fpmd fpmctl spawn-fcgi >/dev/null"
        );
        let said = run(&fpmd, &["bash", "--norc", "-c", &ask]);
        assert!(said.lines().any(|offered| offered == word), "{line}: {said}");
    }
    fpmd.finish();
}

#[test]
fn fish_completes() {
    let fpmd = started();
    let script = script(&fpmd, "fish");
    for (line, word) in lines(&fpmd) {
        let said =
            run(&fpmd, &["fish", "--no-config", "-c", &format!("source {script}; complete -C '{line}'")]);
        let offered = |offered: &str| offered.split('\t').next() == Some(&*word);
        assert!(said.lines().any(offered), "{line}: {said}");
    }
    fpmd.finish();
}

/// A zsh in a terminal, whose line is shown as it is when the word has been completed.
#[test]
fn zsh_completes() {
    let fpmd = started();
    let script = script(&fpmd, "zsh");
    let typed: String =
        lines(&fpmd).iter().map(|(line, _)| format!("zpty -w -n z '{line}'$'\\t\\x18'; answer\n")).collect();
    // Read from a file, so that the terminal does not echo what is waited for.
    let setup = format!(
        "PS1=; PROMPT_EOL_MARK=; unsetopt zle_bracketed_paste beep; autoload -U compinit; compinit -u -D; source {script}
        show() {{ print -r -- \"<$BUFFER>\"; BUFFER=; }}; zle -N show; bindkey '^X' show; print '<ready>'\n"
    );
    let setup = fpmd.rig.dir.write("setup.zsh", &setup);
    let ask = format!(
        "zmodload zsh/zpty
        answer() {{ local line; while zpty -r z line; do [[ $line == *'<'*'>'* ]] && print -r -- $line && return; done }}
        zpty z zsh -f -i
        zpty -w z 'source {}'
        answer\n{typed}",
        setup.display()
    );
    let said = run(&fpmd, &["zsh", "-f", "-c", &ask]);
    for (line, word) in lines(&fpmd) {
        let start = line.rsplit_once(' ').unwrap().0;
        assert!(said.contains(&format!("<{start} {word} >")), "{line}: {said}");
    }
    fpmd.finish();
}
