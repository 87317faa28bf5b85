//! The paths that a pattern of `include` means, as glob(7) says: `*`, `?` and `[...]` in any part of it.

use std::path::{Path, PathBuf};

use super::super::host::{Host, ReadError};

/// Paths that exist and fit, sorted. A pattern without wildcards is itself, whether there is such a file or not.
///
/// # Errors
/// A directory that cannot be listed, but not one that does not exist.
pub(super) fn paths(pattern: &Path, host: &dyn Host) -> Result<Vec<PathBuf>, (PathBuf, ReadError)> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str().to_string_lossy();
        if !part.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| path.push(&*part));
            continue;
        }
        let mut next = Vec::new();
        for directory in found {
            let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
            match host.entries(listed) {
                Ok(names) => {
                    let fitting = names.iter().filter(|name| matches(&part, name));
                    next.extend(fitting.map(|name| directory.join(name)));
                }
                Err(ReadError::NotFound | ReadError::NotDirectory) => {}
                Err(cause) => return Err((directory, cause)),
            }
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

/// Whether `name` has the form of `pattern`. A dot at the beginning has to be written.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, letters): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    (!name.starts_with('.') || pattern.first() == Some(&'.')) && fits(&pattern, &letters)
}

fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last `*` does not fit: one character later.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n + 1));
                p += 1;
                continue;
            }
            Some('[') => class(&pattern[p..], name[n]),
            Some(c) => (*c == '?' || *c == name[n]).then_some(1),
            None => None,
        };
        match (step, retry) {
            (Some(length), _) => (p, n) = (p + length, n + 1),
            (None, Some((after, from))) => {
                (p, n) = (after, from);
                retry = Some((after, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// `[a-z]` and `[!a-z]`: how long it is, if `c` is in it. Without an end it is a bracket.
fn class(pattern: &[char], c: char) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    // A `]` at the very beginning is a member.
    let Some(end) = pattern.iter().skip(start + 1).position(|c| *c == ']').map(|at| at + start + 1) else {
        return (c == '[').then_some(1);
    };
    let (members, mut at, mut found) = (&pattern[start..end], 0, false);
    while at < members.len() {
        if at + 2 < members.len() && members[at + 1] == '-' {
            found |= (members[at]..=members[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= members[at] == c;
            at += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::FakeHost;
    use super::*;

    #[test]
    fn wildcards_match_as_in_a_shell() {
        for (pattern, name) in [
            ("*.conf", "a.conf"),
            ("*", "x"),
            ("a*b*c", "a--b-b-c"),
            ("?", "ä"),
            (".*", ".x"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]x]", "]"),
            ("www[0-9].conf", "www7.conf"),
            ("[", "["),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.conf", ".a.conf"),
            ("*.conf", "a.conf~"),
            ("?", ""),
            ("[a-c]x", "dx"),
            ("[^b]", "b"),
            ("[a", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(!matches(&format!("{}b", "*a".repeat(50)), &"a".repeat(10_000)));
    }

    #[test]
    fn what_is_there_is_found_in_order() {
        let host = ["/etc/p/b.conf", "/etc/p/a.conf", "/etc/p/.c.conf", "/etc/p/d.txt"]
            .iter()
            .fold(FakeHost::root(), |host, path| host.with_file(path, ""));
        let found = |pattern: &str| paths(Path::new(pattern), &host).unwrap();
        assert_eq!(found("/etc/p/*.conf"), [Path::new("/etc/p/a.conf"), Path::new("/etc/p/b.conf")]);
        assert_eq!(found("/etc/p/x.conf"), [Path::new("/etc/p/x.conf")]);
        assert!(found("/etc/q/*.conf").is_empty());
    }
}
