//! `global.include`: which files a pattern means, and their texts. Wildcards stand in the last part of a path only.

use std::path::{Path, PathBuf};

use super::error::Cause;
use super::host::{Host, ReadError};
use super::listen::normal;
use super::source::Source;
use super::walk::{Item, Report, Table};

/// The texts of all files that `include` in `table` names, each once, sorted within a pattern.
pub(super) fn sources(report: &mut Report, table: &Table<'_>, host: &dyn Host) -> Vec<Source> {
    let Some(item) = table.given("include") else { return Vec::new() };
    let Some(patterns) = item.items(report, "an array of strings such as [\"pool.d/*.toml\"]") else {
        return Vec::new();
    };
    let base = Path::new(&*table.source.name).parent().unwrap_or(Path::new("")).to_owned();
    let mut found: Vec<PathBuf> = Vec::new();
    let mut sources = Vec::new();
    for pattern in &patterns {
        for path in files(report, pattern, &base, host) {
            if found.iter().any(|seen| normal(seen) == normal(&path)) {
                continue;
            }
            match host.read(&path) {
                Ok(text) => sources.push(Source::new(sources.len() + 1, &path.to_string_lossy(), text)),
                Err(cause) => unreadable(report, pattern, "include", &path, &cause),
            }
            found.push(path);
        }
    }
    sources
}

fn unreadable(report: &mut Report, pattern: &Item<'_>, verb: &str, path: &Path, cause: &ReadError) {
    pattern.fail(report, Cause::Unreadable(format!("cannot {verb} '{}': {cause}", path.display())));
}

/// The files of one pattern, sorted by name. Without a wildcard it is one file, which has to exist.
fn files(report: &mut Report, item: &Item<'_>, base: &Path, host: &dyn Host) -> Vec<PathBuf> {
    let Some(text) = item.text(report) else { return Vec::new() };
    let (directory, name) = text.rsplit_once('/').map_or(("", text.as_str()), |(directory, name)| {
        (if directory.is_empty() { "/" } else { directory }, name)
    });
    if name.is_empty() {
        item.refuse::<()>(report, format!("'{text}' names no file; write \"{text}*.toml\""));
        return Vec::new();
    }
    if has_wildcard(directory) {
        item.refuse::<()>(
            report,
            format!("'{text}' has a wildcard before its last '/'; write a pattern for each"),
        );
        return Vec::new();
    }
    let directory = base.join(directory);
    if !has_wildcard(name) {
        return vec![directory.join(name)];
    }
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory.as_path() };
    match host.entries(listed) {
        Ok(mut names) => {
            names.retain(|entry| matches(name, entry));
            names.sort();
            names.iter().map(|entry| directory.join(entry)).collect()
        }
        // Nothing there is nothing to include: the directory comes with the first pool.
        Err(ReadError::NotFound) => Vec::new(),
        Err(cause) => {
            unreadable(report, item, "list", listed, &cause);
            Vec::new()
        }
    }
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether `name` has the form of `pattern`: `*` is any characters, `?` is one. A leading dot has to be written.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last `*` does not fit: one character later.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n + 1));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((after, from)) => {
                    (p, n) = (after, from);
                    retry = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_a_shell() {
        for (pattern, name) in
            [("*.toml", "a.toml"), ("*", "x"), ("a*b*c", "a--b-b-c"), ("?", "ä"), (".*", ".x"), ("**", "")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.toml", ".a.toml"), ("*.toml", "a.toml~"), ("?", ""), ("?", "ab"), ("a*b", "ac"), ("", "a")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)));
        assert!(!matches(&format!("{}b", "*a".repeat(50)), &"a".repeat(10_000)));
    }
}
