//! What a mistyped name probably meant.

use super::keys::{self, Key, Section};

/// Names longer than this are not typing mistakes, and comparing them would take long.
const LONGEST: usize = 64;

/// Names of php-fpm and habit that no edit distance finds.
const ALIASES: [(&str, &str); 11] = [
    ("CPUSchedulingPolicy", "scheduling_policy"),
    ("chdir", "directory"),
    ("cwd", "directory"),
    ("error_log", "log"),
    ("exec", "command"),
    ("nice", "process_priority"),
    ("pid", "pid_file"),
    ("processes", "max_children"),
    ("scheduler", "scheduling_policy"),
    ("socket", "listen"),
    ("workers", "max_children"),
];

/// How many characters have to be put in, taken out, exchanged or swapped with their neighbour to make `b` of `a`
/// (optimal string alignment).
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let exchange = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = exchange.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// The nearest of `names`, if it is near: at most a third of the name is wrong, and at least one mistake is allowed;
/// or the name is the beginning of it, four characters at least. The first of several wins.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if length > LONGEST {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('-', "_");
    let begins = |candidate: &str| length >= 4 && candidate.starts_with(&name);
    let allowed = |candidate: &str| (length.max(candidate.len()) / 3).max(1);
    names
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(length) <= allowed(candidate) || begins(candidate))
        .map(|candidate| (distance(&name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(candidate) || begins(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The setting that a name which `section` does not have probably stands for, in this section or in another.
fn meant(section: Section, name: &str) -> Option<&'static Key> {
    let anywhere = |meant: &str| keys::KEYS.iter().find(|key| key.name == meant);
    let names = || keys::KEYS.iter().map(|key| key.name);
    anywhere(name)
        .or_else(|| ALIASES.iter().find(|(alias, _)| *alias == name).and_then(|(_, meant)| anywhere(meant)))
        .or_else(|| {
            nearest(name, keys::of(section).map(|key| key.name)).and_then(|near| keys::find(section, near))
        })
        .or_else(|| nearest(name, names()).and_then(anywhere))
}

/// Whether a name that `section` does not have probably stands for this setting.
pub(super) fn means(section: Section, name: &str, setting: &str) -> bool {
    // Most names are far off, and comparing with every setting takes long.
    let alias = || ALIASES.contains(&(name, setting));
    (nearest(name, [setting]).is_some() || alias())
        && meant(section, name).is_some_and(|key| key.name == setting)
}

/// "did you mean 'listen_mode'?" for a name that `section` does not have; names the right table where the setting
/// is in another one.
pub(super) fn hint(section: Section, name: &str) -> Option<String> {
    if matches!(name, "php_value" | "php_flag" | "php_admin_value" | "php_admin_flag") {
        return Some(
            "PHP's own settings are arguments of php-cgi in 'command': \"-d\", \"NAME=VALUE\"".to_owned(),
        );
    }
    meant(section, name).map(|key| match key {
        key if key.name == name => format!("'{name}' belongs into {}", key.section),
        key if key.section == section => format!("did you mean '{}'?", key.name),
        key => format!("did you mean '{}' in {}?", key.name, key.section),
    })
}

/// What to write for a dotted key whose first part is a setting with a value, as in php-fpm's `listen.owner`.
pub(super) fn undotted(key: &str) -> Option<String> {
    let key = key.trim();
    match key.split_once('.')? {
        ("pm", _) => Some("'pm' is a table: write pm.mode for what php-fpm calls pm".to_owned()),
        ("listen", "allowed_clients") => Some("write allowed_clients".to_owned()),
        _ => keys::find(Section::Pool, &key.replace('.', "_")).map(|key| format!("write {}", key.name)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let cases = [
            ("listen_mod", "did you mean 'listen_mode'?"),
            ("lsiten", "did you mean 'listen'?"),
            ("Listen", "did you mean 'listen'?"),
            ("stop-signal", "did you mean 'stop_signal'?"),
            ("max_children", "'max_children' belongs into [pool.NAME.pm]"),
            ("max_childs", "did you mean 'max_children' in [pool.NAME.pm]?"),
            ("log_level", "'log_level' belongs into [global]"),
            ("chdir", "did you mean 'directory'?"),
            ("workers", "did you mean 'max_children' in [pool.NAME.pm]?"),
            (
                "php_admin_value",
                "PHP's own settings are arguments of php-cgi in 'command': \"-d\", \"NAME=VALUE\"",
            ),
        ];
        for (name, said) in cases {
            assert_eq!(hint(Section::Pool, name).as_deref(), Some(said), "{name}");
        }
        assert_eq!(hint(Section::Pool, "colour"), None);
        assert_eq!(hint(Section::Pool, &"x".repeat(1_000_000)), None);
    }

    proptest! {
        #[test]
        fn distance_is_a_measure(a in "[a-d]{0,8}", b in "[a-d]{0,8}") {
            let (long, short) = (a.len().max(b.len()), a.len().min(b.len()));
            let between = distance(&a, &b);
            prop_assert_eq!(between, distance(&b, &a));
            prop_assert_eq!(between == 0, a == b);
            prop_assert!((long - short..=long).contains(&between));
        }

        #[test]
        fn one_mistake_is_one_step(text in "[a-z]{2,10}", at in 0usize..10, c in "[A-Z]") {
            let at = at % text.len();
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, "");
            prop_assert_eq!(distance(&text, &wrong), 1);
            let mut wrong = text.clone();
            wrong.insert_str(at, &c);
            prop_assert_eq!(distance(&text, &wrong), 1);
        }
    }
}
