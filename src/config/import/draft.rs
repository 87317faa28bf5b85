//! A configuration in the making: settings in the order of the table of settings, each with the comment that it needs, and
//! comments for what has no equal. Owns the layout of the text, not what is in it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::dump::{array, key_text, quote};
use super::super::keys::{self, KEYS, Section, Support};
use crate::ids::PoolName;

/// Longest line that is not broken.
const WIDTH: usize = 100;

/// What stands before everything that could not be translated.
const NO_EQUAL: &str = "No equal: ";

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Comments at the top, a paragraph each.
    pub head: Vec<String>,
    /// `[global]`; left out where there is nothing in it.
    pub global: Part,
    /// The pools, in the order in which they were found.
    pub pools: Vec<PoolDraft>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolDraft {
    /// Its name here.
    pub name: PoolName,
    /// `[pool.NAME]`
    pub own: Part,
    /// `[pool.NAME.pm]`
    pub pm: Part,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    section: Section,
    settings: Vec<Setting>,
    notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    name: &'static str,
    value: Value,
    comment: String,
}

/// A value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A truth.
    Flag(bool),
    /// An array of strings.
    List(Vec<String>),
    /// A table of strings.
    Variables(BTreeMap<String, String>),
}

impl Draft {
    /// Nothing yet.
    pub fn new(head: Vec<String>) -> Draft {
        Draft { head, global: Part::new(Section::Global), pools: Vec::new() }
    }

    /// A name that no pool of this draft has, as near to `wanted` as a pool's name can be.
    pub fn free_name(&self, wanted: &str) -> PoolName {
        let legal = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
        let clean: String = wanted.chars().map(legal).collect();
        let base = clean.trim_start_matches(['.', '-']);
        let base = if base.is_empty() { "pool" } else { base };
        let mut name = named(base, "");
        for number in 2.. {
            if !self.pools.iter().any(|pool| pool.name == name) {
                break;
            }
            name = named(base, &format!("-{number}"));
        }
        name
    }

    /// The whole as TOML.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (index, paragraph) in self.head.iter().enumerate() {
            if index > 0 {
                out.push_str("#\n");
            }
            comment(&mut out, paragraph);
        }
        if !self.global.is_empty() {
            out.push_str("\n[global]\n");
            self.global.write(&mut out, "global");
        }
        for pool in &self.pools {
            let path = format!("pool.{}", key_text(pool.name.as_str()));
            let _ = write!(out, "\n[{path}]\n");
            pool.own.write(&mut out, &path);
            let _ = write!(out, "\n[{path}.pm]\n");
            pool.pm.write(&mut out, &format!("{path}.pm"));
        }
        out
    }
}

/// `base` with `ending`, cut to the length that a pool's name may have.
#[allow(
    clippy::expect_used,
    reason = "legal characters only, the first one neither '.' nor '-', at most 64 of them"
)]
fn named(base: &str, ending: &str) -> PoolName {
    let kept = base.len().min(64 - ending.len());
    PoolName::new(&format!("{}{ending}", &base[..kept])).expect("a legal name")
}

impl PoolDraft {
    /// An empty one.
    pub fn new(name: PoolName) -> PoolDraft {
        PoolDraft { name, own: Part::new(Section::Pool), pm: Part::new(Section::Pm) }
    }
}

impl Part {
    fn new(section: Section) -> Part {
        Part { section, settings: Vec::new(), notes: Vec::new() }
    }

    /// Writes a setting; a value that was there is replaced.
    pub fn set(&mut self, name: &'static str, value: Value) {
        self.set_with(name, value, "");
    }

    /// Writes a setting with a comment above it. One that this version does not have becomes a note.
    pub fn set_with(&mut self, name: &'static str, value: Value, comment: &str) {
        let key = keys::find(self.section, name);
        debug_assert!(key.is_some(), "{name} is no setting of {}", self.section);
        if key.is_none_or(|key| key.support == Support::NotYet) {
            self.note(&format!("{name} = {}", value.text()), "this version of fpmd does not have it yet");
            return;
        }
        self.settings.retain(|setting| setting.name != name);
        self.settings.push(Setting { name, value, comment: comment.to_owned() });
    }

    /// Says that `what` has no equal, and why.
    pub fn note(&mut self, what: &str, why: &str) {
        self.notes.push(format!("{NO_EQUAL}{what}: {why}."));
    }

    /// A comment at the end of the table.
    pub fn remark(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    /// The value of a setting, if it has been written.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.settings.iter().find(|setting| setting.name == name).map(|setting| &setting.value)
    }

    fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.notes.is_empty()
    }

    /// The settings in the order of the table, then the notes, then tables of their own.
    fn write(&self, out: &mut String, path: &str) {
        let mut sorted: Vec<&Setting> = self.settings.iter().collect();
        sorted.sort_by_key(|setting| {
            KEYS.iter().position(|key| key.section == self.section && key.name == setting.name)
        });
        let (tables, lines): (Vec<&Setting>, Vec<&Setting>) =
            sorted.into_iter().partition(|setting| setting.needs_table());
        for setting in lines {
            comment(out, &setting.comment);
            setting.write(out);
        }
        self.notes.iter().for_each(|note| comment(out, note));
        for setting in tables {
            let _ = write!(out, "\n[{path}.{}]\n", setting.name);
            comment(out, &setting.comment);
            if let Value::Variables(variables) = &setting.value {
                for (name, value) in variables {
                    let _ = writeln!(out, "{} = {}", key_text(name), quote(value));
                }
            }
        }
    }
}

impl Setting {
    fn is_long(&self) -> bool {
        self.name.len() + 3 + self.value.text().chars().count() > WIDTH
    }

    fn needs_table(&self) -> bool {
        matches!(self.value, Value::Variables(_)) && self.is_long()
    }

    fn write(&self, out: &mut String) {
        match &self.value {
            Value::List(items) if self.is_long() => {
                let lines: String = items.iter().map(|item| format!("    {},\n", quote(item))).collect();
                let _ = write!(out, "{} = [\n{lines}]\n", self.name);
            }
            value => {
                let _ = writeln!(out, "{} = {}", self.name, value.text());
            }
        }
    }
}

impl Value {
    /// A string.
    pub fn of(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// On one line.
    fn text(&self) -> String {
        match self {
            Value::Text(text) => quote(text),
            Value::Number(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::List(items) => array(items.iter().map(|item| quote(item))),
            Value::Variables(variables) if variables.is_empty() => "{}".to_owned(),
            Value::Variables(variables) => {
                let pair =
                    |(name, value): (&String, &String)| format!("{} = {}", key_text(name), quote(value));
                format!("{{ {} }}", variables.iter().map(pair).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A paragraph of comment, broken between words. What another file said must not become a line of its own.
fn comment(out: &mut String, text: &str) {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = String::from("#");
    for word in clean.split(' ').filter(|word| !word.is_empty()) {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > 1 {
            let _ = writeln!(out, "{line}");
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    if line.len() > 1 {
        let _ = writeln!(out, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_in_the_table_s_order_and_notes_behind_them() {
        let mut draft = Draft::new(vec!["First.".into(), "Second.".into()]);
        let mut pool = PoolDraft::new(draft.free_name("www"));
        pool.own.set("user", Value::of("www-data"));
        pool.own.set_with("listen", Value::Number(9000), "Why so.");
        pool.own.note("x = 1\ny", "it is odd");
        pool.pm.set("max_children", Value::Number(4));
        draft.pools.push(pool);
        let expected = "# First.\n#\n# Second.\n\n[pool.www]\n# Why so.\nlisten = 9000\nuser = \"www-data\"\n\
                        # No equal: x = 1 y: it is odd.\n\n[pool.www.pm]\nmax_children = 4\n";
        assert_eq!(draft.text(), expected);
    }

    #[test]
    fn long_lists_and_tables_are_broken() {
        let mut draft = Draft::new(vec![]);
        let mut pool = PoolDraft::new(draft.free_name("a"));
        pool.own.set("command", Value::List(vec!["/bin/x".into(), "y".repeat(100)]));
        let long = BTreeMap::from([("A".to_owned(), "a".repeat(60)), ("B c".to_owned(), "b".repeat(60))]);
        pool.own.set("env", Value::Variables(long));
        draft.pools.push(pool);
        let (y, a, b) = ("y".repeat(100), "a".repeat(60), "b".repeat(60));
        let expected = format!(
            "\n[pool.a]\ncommand = [\n    \"/bin/x\",\n    \"{y}\",\n]\n\n[pool.a.env]\nA = \"{a}\"\n\"B c\" = \"{b}\"\n\n[pool.a.pm]\n"
        );
        assert_eq!(draft.text(), expected);
    }

    #[test]
    fn names_become_legal_and_stay_apart() {
        let mut draft = Draft::new(vec![]);
        for (wanted, given) in [
            ("www", "www"),
            ("www", "www-2"),
            ("a b/ä", "a-b--"),
            ("", "pool"),
            ("-.x", "x"),
            ("example.org", "example.org"),
        ] {
            let name = draft.free_name(wanted);
            assert_eq!(name.as_str(), given);
            draft.pools.push(PoolDraft::new(name));
        }
        let long = "x".repeat(80);
        assert_eq!(draft.free_name(&long).as_str().len(), 64);
        draft.pools.push(PoolDraft::new(draft.free_name(&long)));
        assert!(draft.free_name(&long).as_str().ends_with("x-2"));
    }
}
