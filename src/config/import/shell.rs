//! supervisord's command lines and environments: what stands between blanks and between commas, with quotes.

/// Words between blanks, with quotes and backslashes as Python's shlex has them.
pub(super) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("ends in a backslash")?),
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("has a quote without an end")? {
                        end if end == c => break,
                        '\\' if c == '"' => match chars.next().ok_or("ends in a backslash")? {
                            plain @ ('"' | '\\') => word.push(plain),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// `A="1",B=2`: between commas outside of quotes.
pub(super) fn assignments(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=').ok_or_else(|| format!("'{rest}' is not NAME=value"))?;
        let behind = behind.trim_start();
        let (value, behind) = match behind.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            Some(quote) => {
                let (value, behind) = behind[1..].split_once(quote).ok_or("has a quote without an end")?;
                (value, behind.trim_start().trim_start_matches(','))
            }
            None => behind.split_once([',', '\n']).unwrap_or((behind, "")),
        };
        pairs.push((name.trim().to_owned(), value.trim().to_owned()));
        rest = behind.trim_start();
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_as_by_a_shell() {
        for (text, cut) in [
            ("/bin/a -b  c", vec!["/bin/a", "-b", "c"]),
            (r#"a "b c" 'd "e' f\ g "" "\"x\n""#, vec!["a", "b c", "d \"e", "f g", "", "\"x\\n"]),
            ("", vec![]),
        ] {
            assert_eq!(words(text).unwrap(), cut, "{text}");
        }
        assert!(words("a \"b").is_err() && words("a\\").is_err());
    }

    #[test]
    fn environments_are_pairs() {
        let read = |text: &str| {
            assignments(text)
                .map(|pairs| pairs.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>())
        };
        assert_eq!(read("A=\"1,2\", B=x y ,C=''\n,D=4").unwrap(), ["A:1,2", "B:x y", "C:", "D:4"]);
        assert_eq!(read("").unwrap(), Vec::<String>::new());
        assert!(read("A").is_err() && read("A=\"x").is_err());
    }
}
