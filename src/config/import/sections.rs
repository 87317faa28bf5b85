//! supervisord's configuration files: sections of names and values as Python's ConfigParser reads them, with what they include
//! and with `%(...)s` filled in. Does not know what a name means.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::error::{Cause, Error, Place};
use super::super::host::Host;
use super::files::error;
use super::glob;
use super::ini::Variables;

/// `[name]`
#[derive(Debug)]
pub(super) struct Section {
    pub name: String,
    pub place: Place,
    /// The directory of its file, absolute.
    pub here: PathBuf,
    pub options: Vec<Entry>,
}

/// `name = value`, the value as it was written.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub name: String,
    pub value: String,
    pub place: Place,
}

/// Reads files and what their `[include]` names.
pub(super) fn read(files: &[PathBuf], directory: &Path, host: &dyn Host) -> (Vec<Section>, Vec<Error>) {
    let (mut sections, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        let mut found = one(file, directory, host, &mut errors);
        let included: Vec<PathBuf> = found
            .iter()
            .filter(|section| section.name == "include")
            .flat_map(|section| includes(section, host, &mut errors))
            .collect();
        sections.append(&mut found);
        // supervisord includes one level deep.
        for file in included {
            sections.append(&mut one(&file, directory, host, &mut errors));
        }
    }
    (sections, errors)
}

fn includes(section: &Section, host: &dyn Host, errors: &mut Vec<Error>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for option in section.options.iter().filter(|option| option.name == "files") {
        for pattern in option.value.replace("%(here)s", &section.here.to_string_lossy()).split_whitespace() {
            match glob::paths(&section.here.join(pattern), host) {
                Ok(paths) => found.extend(paths),
                Err((directory, cause)) => {
                    let sentence = format!("cannot list '{}': {cause}", directory.display());
                    errors.push(error(&option.place, "files", Cause::Unreadable(sentence)));
                }
            }
        }
    }
    found
}

fn one(path: &Path, directory: &Path, host: &dyn Host, errors: &mut Vec<Error>) -> Vec<Section> {
    let file: Arc<str> = Arc::from(&*path.to_string_lossy());
    let absolute = directory.join(path);
    let here = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    let text = match host.read(&absolute) {
        Ok(text) => text,
        Err(cause) => {
            let place = Place { file, position: None };
            errors.push(error(&place, "", Cause::Unreadable(format!("cannot read it: {cause}"))));
            return Vec::new();
        }
    };
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let place = Place { file: file.clone(), position: Some((number, 1)) };
        if let Err(sentence) = take(line, &place, &here, &mut sections) {
            errors.push(error(&place, "", Cause::Syntax(sentence)));
        }
    }
    sections
}

/// One line: a comment, a section, a value, or more of the last value where it begins with a blank.
fn take(line: &str, place: &Place, here: &Path, sections: &mut Vec<Section>) -> Result<(), String> {
    let text = without_comment(line);
    if text.trim().is_empty() {
        return Ok(());
    }
    if let Some(name) = text.strip_prefix('[') {
        let name = name.split_once(']').ok_or("a section has no ']'")?.0.trim().to_owned();
        sections.push(Section { name, place: place.clone(), here: here.to_owned(), options: Vec::new() });
        return Ok(());
    }
    let section = sections.last_mut().ok_or("a value has no [section] above it")?;
    if text.starts_with(char::is_whitespace) {
        let option = section.options.last_mut().ok_or("a line that goes on has none above it")?;
        option.value.push('\n');
        option.value.push_str(text.trim());
        return Ok(());
    }
    let at = text
        .find(['=', ':'])
        .ok_or_else(|| format!("'{}' is neither [section] nor name = value", text.trim()))?;
    let (name, value) = (text[..at].trim().to_lowercase(), text[at + 1..].trim().to_owned());
    section.options.push(Entry { name, value, place: place.clone() });
    Ok(())
}

/// `;` and `#` at the beginning, and ` ;` anywhere.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with([';', '#']) {
        return "";
    }
    let cut = line.find(" ;").or_else(|| line.find("\t;"));
    cut.map_or(line, |at| &line[..at])
}

impl Section {
    /// The last option of this name.
    pub(super) fn last(&self, name: &str) -> Option<&Entry> {
        self.options.iter().rfind(|option| option.name == name)
    }
}

impl Entry {
    pub(super) fn wrong(&self, sentence: impl Into<String>) -> Error {
        error(&self.place, &self.name, Cause::Value(sentence.into()))
    }

    /// As comments show it.
    pub(super) fn line(&self) -> String {
        format!("{} = {}", self.name, self.value)
    }
}

/// Fills in `%(name)s` and `%(name)02d`: `names` first, then `ENV_NAME` from the environment. `%%` is a percent sign.
///
/// # Errors
/// A sentence that says what cannot be filled in.
pub(super) fn fill(text: &str, names: &[(&str, &str)], variables: Variables<'_>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let inside = after.strip_prefix('(').and_then(|inside| inside.split_once(')'));
        let (name, behind) = inside.ok_or("a '%' is neither '%%' nor the beginning of '%(name)s'")?;
        let width: String = behind.chars().take_while(char::is_ascii_digit).collect();
        let behind = &behind[width.len()..];
        let known = names.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let value = known.or_else(|| name.strip_prefix("ENV_").and_then(variables));
        let value = value.ok_or_else(|| format!("'%({name})' is not known here"))?;
        match behind.chars().next() {
            Some('d') => {
                out.push_str(&format!("{value:0>width$}", width = width.parse().unwrap_or(0).min(20)))
            }
            Some('s') => out.push_str(&value),
            _ => return Err(format!("'%({name})' has neither s nor d behind it")),
        }
        rest = &behind[1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::FakeHost;
    use super::*;

    #[test]
    fn sections_are_read_as_python_reads_them() {
        let text = "; c\n[a]\nX=1 ; c\ny : 2;3\nlong = a\n  b\n\n[include]\nfiles = sub/*.ini\n";
        let host =
            FakeHost::root().with_file("/etc/s.conf", text).with_file("/etc/sub/b.ini", "[b]\nz=%(here)s\n");
        let (sections, errors) = read(&["s.conf".into()], Path::new("/etc"), &host);
        assert!(errors.is_empty(), "{errors:?}");
        let value =
            |section: usize, name: &str| sections[section].last(name).map(|option| option.value.as_str());
        assert_eq!([value(0, "x"), value(0, "y"), value(0, "long")], [Some("1"), Some("2;3"), Some("a\nb")]);
        assert_eq!((sections[2].name.as_str(), sections[2].here.to_str()), ("b", Some("/etc/sub")));
    }

    #[test]
    fn expressions_are_filled_in() {
        let filled = |text: &str| {
            let variables = |name: &str| (name == "HOME").then(|| "/root".to_owned());
            fill(text, &[("here", "/etc"), ("process_num", "7")], &variables)
        };
        assert_eq!(filled("unix://%(here)s/a%%_%(process_num)02d"), Ok("unix:///etc/a%_07".into()));
        assert_eq!(filled("%(ENV_HOME)s"), Ok("/root".into()));
        for text in ["%", "%(here)x", "%(here", "%(ENV_NO)s", "%(what)s"] {
            assert!(filled(text).is_err(), "{text}");
        }
    }
}
