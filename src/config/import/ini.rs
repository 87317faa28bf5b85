//! One line of a php-fpm configuration, as PHP's own ini scanner reads it: php-fpm hands it every line by itself, so that
//! no value goes over several. The keywords and quotes are those of zend_ini_scanner.l in its normal mode.

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// A comment, or nothing.
    Nothing,
    /// `[name]`
    Section(String),
    /// `name = value`, `name[index] = value`
    Entry {
        /// What stands before the `=` or the bracket.
        name: String,
        /// What stands in the brackets; `None` without any.
        index: Option<String>,
        /// What stands behind the `=`.
        value: Value,
    },
}

/// A value, with its quotes removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// The text that php-fpm gets.
    pub text: String,
    /// As it stands in the file.
    pub written: String,
    /// Whether it had quotes.
    pub form: Form,
    /// The variables of the environment that are in it.
    pub variables: Vec<String>,
}

/// How a value was written. Only a bare one may be a keyword or an expression of constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Bare,
    Quoted,
}

/// Looks up a variable of the environment that php-fpm is started in.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a line.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(super) fn line(text: &str, variables: Variables<'_>) -> Result<Line, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with([';', '#']) {
        return Ok(Line::Nothing);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (name, _) = rest.split_once(']').ok_or("a section has no ']'")?;
        return Ok(Line::Section(name.trim().trim_matches(['"', '\'']).to_owned()));
    }
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("'{text}' is neither [section] nor name = value"))?;
    let value = value_of(value, variables)?;
    let name = name.trim();
    match name.split_once('[') {
        None => Ok(Line::Entry { name: name.to_owned(), index: None, value }),
        Some((name, index)) => {
            let index = index.strip_suffix(']').ok_or_else(|| format!("'{name}[{index}' has no ']'"))?;
            let (name, index) = (name.trim().to_owned(), index.trim().trim_matches(['"', '\'']).to_owned());
            Ok(Line::Entry { name, index: Some(index), value })
        }
    }
}

/// Quoted and bare pieces one behind the other, up to a `;` outside of quotes.
fn value_of(text: &str, variables: Variables<'_>) -> Result<Value, String> {
    let text = text.trim();
    let mut value =
        Value { text: String::new(), written: String::new(), form: Form::Bare, variables: Vec::new() };
    let mut rest = text;
    // Bare blanks count only where something follows them.
    let mut blanks = String::new();
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c.is_whitespace() {
            blanks.push(c);
            continue;
        }
        if c == ';' {
            value.written = text[..text.len() - rest.len() - 1].trim_end().to_owned();
            break;
        }
        if !value.text.is_empty() {
            value.text.push_str(&blanks);
        }
        blanks.clear();
        match c {
            '"' => {
                value.form = Form::Quoted;
                rest = value.take_quoted(rest, variables)?;
            }
            '\'' => {
                value.form = Form::Quoted;
                let (inside, behind) = rest.split_once('\'').ok_or("a quote \"'\" has no end on its line")?;
                value.text.push_str(inside);
                rest = behind;
            }
            '$' if rest.starts_with('{') => rest = value.take_variable(&rest[1..], variables)?,
            c => value.text.push(c),
        }
    }
    if rest.is_empty() && value.written.is_empty() {
        text.clone_into(&mut value.written);
    }
    if value.form == Form::Bare {
        value.text = keyword(value.text);
    }
    Ok(value)
}

impl Value {
    /// Up to the closing `"`: `\"`, `\'` and `\\` stand for the second character, and `${NAME}` for a variable.
    fn take_quoted<'a>(&mut self, text: &'a str, variables: Variables<'_>) -> Result<&'a str, String> {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '"' => return Ok(rest),
                '\\' if rest.starts_with(['"', '\'', '\\']) => {
                    self.text.push_str(&rest[..1]);
                    rest = &rest[1..];
                }
                '$' if rest.starts_with('{') => rest = self.take_variable(&rest[1..], variables)?,
                c => self.text.push(c),
            }
        }
        Err("a quote '\"' has no end on its line".to_owned())
    }

    /// `NAME}` or, since PHP 8.3, `NAME:-otherwise}`. A variable that is not there is empty.
    fn take_variable<'a>(&mut self, text: &'a str, variables: Variables<'_>) -> Result<&'a str, String> {
        let (inside, rest) = text.split_once('}').ok_or("a '${' has no '}'")?;
        let (name, otherwise) = inside.split_once(":-").unwrap_or((inside, ""));
        let text = variables(name).filter(|text| !text.is_empty());
        self.text.push_str(text.as_deref().unwrap_or(otherwise));
        self.variables.push(name.to_owned());
        Ok(rest)
    }
}

/// What PHP makes of a bare word.
pub(super) fn keyword(text: String) -> String {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" => "1".to_owned(),
        "false" | "off" | "no" | "none" | "null" => String::new(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn entry(text: &str) -> (String, Option<String>, String) {
        let known = |name: &str| (name == "PORT").then(|| "9001".to_owned());
        match line(text, &known) {
            Ok(Line::Entry { name, index, value }) => (name, index, value.text),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn value(text: &str) -> String {
        entry(&format!("x = {text}")).2
    }

    #[test]
    fn lines_of_every_kind() {
        for text in ["", "  \t", "; x = 1", "# x = 1", "\r"] {
            assert_eq!(line(text, &nothing), Ok(Line::Nothing), "{text:?}");
        }
        assert_eq!(line(" [www] ; the site", &nothing), Ok(Line::Section("www".into())));
        assert_eq!(entry("pm.max_children=5"), ("pm.max_children".into(), None, "5".into()));
        assert_eq!(
            entry("php_admin_value[error_log] = /x\r"),
            ("php_admin_value".into(), Some("error_log".into()), "/x".into())
        );
        assert_eq!(entry("access.suppress_path[]=/a").1.as_deref(), Some(""));
    }

    #[test]
    fn values_as_php_reads_them() {
        for (written, read) in [
            ("a b  c ", "a b  c"),
            ("a ; comment", "a"),
            ("/run/x.sock;comment", "/run/x.sock"),
            ("\"a;b\"", "a;b"),
            ("'a;b' ; c", "a;b"),
            (r#""%t \"%m %r\" \\ \n""#, r#"%t "%m %r" \ \n"#),
            (r#"/usr/bin/x "a b" c"#, "/usr/bin/x a b c"),
            ("yes", "1"),
            ("Off", ""),
            ("\"off\"", "off"),
            ("none", ""),
            ("E_ALL & ~E_NOTICE", "E_ALL & ~E_NOTICE"),
            ("0.0.0.0:${PORT}", "0.0.0.0:9001"),
            ("\"${PORT}\"", "9001"),
            ("'${PORT}'", "${PORT}"),
            ("${NOBODY}", ""),
            ("${NOBODY:-9000}", "9000"),
            ("$HOSTNAME", "$HOSTNAME"),
            ("", ""),
        ] {
            assert_eq!(value(written), read, "{written}");
        }
    }

    #[test]
    fn what_is_no_line_is_said() {
        for (text, said) in [
            ("[www", "no ']'"),
            ("listen", "neither"),
            ("x = \"a", "no end"),
            ("x = 'a", "no end"),
            ("x = ${A", "no '}'"),
            ("env[A = 1", "no ']'"),
        ] {
            let sentence = line(text, &nothing).expect_err(text);
            assert!(sentence.contains(said), "{text}: {sentence}");
        }
    }

    proptest! {
        #[test]
        fn no_line_breaks_it(text in "(.{0,40}|[a-z\\[\\]=\"'$\\{\\};\\\\ ]{0,30})") {
            let _ = line(&text, &nothing);
        }
    }
}
