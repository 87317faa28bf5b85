//! The files of a php-fpm configuration: read, with what they include, and sorted into `[global]` and pools. Knows the rules
//! that are about files and sections, not what a directive means.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::error::{Cause, Error, Place};
use super::super::host::{Host, ReadError};
use super::ini::{self, Line, Value, Variables};
use super::{glob, words};

/// How deep php-fpm includes.
const DEEPEST: usize = 5;

/// A directive as it was given.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub place: Place,
    pub name: String,
    /// `KEY` of `env[KEY]`, empty for `access.suppress_path[]`.
    pub index: Option<String>,
    pub value: Value,
}

/// A section that is not `[global]`.
#[derive(Debug)]
pub(super) struct Section {
    /// As it was written first.
    pub name: String,
    pub place: Place,
    pub given: Vec<Given>,
}

/// Everything that the files say.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub global: Vec<Given>,
    pub pools: Vec<Section>,
    /// What php-fpm would warn of.
    pub warnings: Vec<String>,
    pub errors: Vec<Error>,
}

/// What is needed to read them.
pub(super) struct Reader<'a> {
    pub host: &'a dyn Host,
    pub variables: Variables<'a>,
    /// Where relative file names start.
    pub directory: &'a Path,
    /// php-fpm's prefix, where relative includes start.
    pub prefix: &'a Path,
    /// Whether `prefix` is a guess, which what is there may correct.
    pub guessed: bool,
}

impl Reader<'_> {
    pub(super) fn read(&self, files: &[PathBuf]) -> Files {
        let mut found = Files::default();
        // As in php-fpm, a section goes on through the end of a file, and of an included one.
        let mut section = None;
        for file in files {
            self.file(file, 1, &mut section, &mut found);
        }
        found
    }

    fn file(&self, path: &Path, depth: usize, section: &mut Option<usize>, found: &mut Files) {
        let file: Arc<str> = Arc::from(&*path.to_string_lossy());
        let text = match self.host.read(&self.directory.join(path)) {
            Ok(text) => text,
            Err(cause) => {
                let place = Place { file, position: None };
                found.errors.push(error(&place, "", Cause::Unreadable(format!("cannot read it: {cause}"))));
                return;
            }
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for (number, line) in (1..).zip(text.lines()) {
            let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
            let place = Place { file: file.clone(), position: Some((number, column)) };
            match ini::line(line, self.variables) {
                Err(sentence) => found.errors.push(error(&place, "", Cause::Syntax(sentence))),
                Ok(Line::Nothing) => {}
                Ok(Line::Section(name)) => *section = found.section(&name, place),
                Ok(Line::Entry { name, index: None, value }) if name == "include" => {
                    for path in self.included(&value.text, path, &place, found) {
                        if depth == DEEPEST {
                            let sentence = format!("files include each other more than {DEEPEST} deep");
                            found.errors.push(error(&place, "include", Cause::Value(sentence)));
                            return;
                        }
                        self.file(&path, depth + 1, section, found);
                    }
                }
                Ok(Line::Entry { name, index, value }) => {
                    let given = Given { place, name, index, value };
                    match section {
                        None => found.global.push(given),
                        Some(index) => found.pools[*index].given.push(given),
                    }
                }
            }
        }
    }

    /// The files that a pattern means. php-fpm takes relative ones from its prefix, which is known to whoever built it: where
    /// nothing is there, they are looked for above the file that includes them.
    fn included(&self, pattern: &str, from: &Path, place: &Place, found: &mut Files) -> Vec<PathBuf> {
        let is_file = |path: &PathBuf| {
            !matches!(self.host.read(path), Err(ReadError::NotFound | ReadError::IsDirectory))
        };
        for start in self.starts(pattern, from) {
            match glob::paths(&start.join(pattern), self.host) {
                Err((directory, cause)) => {
                    let sentence = format!("cannot list '{}': {cause}", directory.display());
                    found.errors.push(error(place, "include", Cause::Unreadable(sentence)));
                    return Vec::new();
                }
                Ok(mut paths) => {
                    paths.retain(is_file);
                    if !paths.is_empty() {
                        return paths;
                    }
                }
            }
        }
        found.warnings.push(format!("{place}: include = {pattern} finds nothing."));
        Vec::new()
    }

    fn starts(&self, pattern: &str, from: &Path) -> Vec<PathBuf> {
        let mut starts = vec![self.prefix.to_owned()];
        if self.guessed && !pattern.starts_with('/') {
            starts.extend(self.directory.join(from).ancestors().skip(1).map(Path::to_owned));
        }
        starts
    }
}

impl Files {
    /// The pool's number, or `None` for `[global]`. A name that is there already, in capitals or not, is the same pool.
    fn section(&mut self, name: &str, place: Place) -> Option<usize> {
        if name.eq_ignore_ascii_case("global") {
            return None;
        }
        let known = self.pools.iter().position(|pool| pool.name.eq_ignore_ascii_case(name));
        Some(known.unwrap_or_else(|| {
            self.pools.push(Section { name: name.to_owned(), place, given: Vec::new() });
            self.pools.len() - 1
        }))
    }
}

impl Given {
    /// `env[HOME]`
    pub(super) fn key(&self) -> String {
        match &self.index {
            Some(index) => format!("{}[{index}]", self.name),
            None => self.name.clone(),
        }
    }

    /// `pm = dynamic`, as it will stand in comments.
    pub(super) fn line(&self) -> String {
        format!("{} = {}", self.key(), self.value.written)
    }

    pub(super) fn wrong(&self, sentence: impl Into<String>) -> Error {
        error(&self.place, &self.key(), Cause::Value(sentence.into()))
    }

    /// php-fpm's truths.
    pub(super) fn flag(&self) -> Result<bool, Error> {
        words::flag(&self.value.text).map_err(|sentence| self.wrong(sentence))
    }

    /// A whole number.
    pub(super) fn number(&self) -> Result<i64, Error> {
        words::number(&self.value.text).map_err(|sentence| self.wrong(sentence))
    }

    /// Seconds.
    pub(super) fn time(&self) -> Result<i64, Error> {
        words::time(&self.value.text).map_err(|sentence| self.wrong(sentence))
    }
}

pub(super) fn error(place: &Place, key: &str, cause: Cause) -> Error {
    Error { place: place.clone(), key: key.to_owned(), cause }
}
