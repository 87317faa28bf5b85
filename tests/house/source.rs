//! Reads Rust just well enough for the house rules: words outside of comments and strings, paths, inline modules,
//! the length of functions. No grammar; what it cannot tell it leaves out.

/// A word, `::` or a single sign.
pub struct Token {
    pub text: String,
    pub line: usize,
    /// How many inline `mod NAME { … }` surround it.
    inline_modules: usize,
}

/// One file of Rust.
pub struct Source {
    /// Relative to the root, with `/`.
    pub name: String,
    pub text: String,
    pub tokens: Vec<Token>,
}

/// A path as written, `crate::a::b`, generic arguments left out.
pub struct CodePath {
    pub line: usize,
    pub text: String,
    /// How many inline `mod NAME { … }` surround it.
    inline_modules: usize,
}

impl Source {
    pub fn parse(name: String, text: String) -> Source {
        let tokens = mark_inline_modules(lex(&text));
        Source { name, text, tokens }
    }

    /// The top-level module that the file belongs to; none for `lib.rs` and programs.
    pub fn module(&self) -> Option<String> {
        let path = self.name.strip_prefix("src/")?;
        let first = path.split('/').next()?;
        (first != "bin" && first != "prefork" && first != "lib.rs")
            .then(|| first.trim_end_matches(".rs").to_owned())
    }

    pub fn is_module_root(&self) -> bool {
        let path = self.name.trim_start_matches("src/");
        !path.contains('/') || path.split('/').nth(1) == Some("mod.rs")
    }

    /// How many `super` lead from the file's own module to the crate's root.
    fn depth(&self) -> usize {
        let path = self.name.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').count()
    }

    /// Every path of two or more segments, groups of `use` spelled out.
    pub fn paths(&self) -> Vec<CodePath> {
        let mut paths = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let next = read_path(&self.tokens, at, "", &mut paths);
            at = next.max(at + 1);
        }
        paths
    }

    /// Top-level modules named by `crate::x`, or by enough `super::` to leave the module.
    pub fn imports(&self, own: &str) -> Vec<(usize, String)> {
        let mut imports = Vec::new();
        for path in self.paths() {
            let segments: Vec<&str> = path.text.split("::").collect();
            let supers = segments.iter().take_while(|segment| **segment == "super").count();
            if segments[0] == "crate" {
                imports.push((path.line, segments[1].to_owned()));
            } else if supers > 0 && supers >= self.depth() + path.inline_modules {
                imports.extend(segments.get(supers).map(|segment| (path.line, (*segment).to_owned())));
            } else if supers > 0 {
                imports.push((path.line, own.to_owned()));
            }
        }
        imports
    }

    /// 0 for a file that is all tests.
    pub fn lines_before_tests(&self) -> usize {
        if self.name.contains("/tests/") || self.name.ends_with("/tests.rs") {
            return 0;
        }
        self.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count()
    }

    /// Line, name and length of each function with a body, outside of tests.
    pub fn functions(&self) -> Vec<(usize, String, usize)> {
        let end = self.lines_before_tests();
        let mut found = Vec::new();
        for (index, pair) in self.tokens.windows(2).enumerate() {
            let is_name = pair[1].text.starts_with(|c: char| c.is_alphabetic() || c == '_');
            if pair[0].text == "fn" && is_name && pair[0].line <= end {
                let body = body_end(&self.tokens[index..]);
                found.extend(body.map(|last| (pair[0].line, pair[1].text.clone(), last - pair[0].line + 1)));
            }
        }
        found
    }
}

/// The line of the brace that closes the first block after a signature; none for a declaration.
fn body_end(tokens: &[Token]) -> Option<usize> {
    let (mut braces, mut brackets) = (0, 0);
    for token in tokens {
        match token.text.as_str() {
            "[" | "(" => brackets += 1,
            "]" | ")" => brackets -= 1,
            ";" if braces == 0 && brackets == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if braces == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

/// Reads one path or `use` tree at `at`, appends its leaves to `out`, returns the position after it.
fn read_path(tokens: &[Token], at: usize, prefix: &str, out: &mut Vec<CodePath>) -> usize {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let (mut at, mut path) = (at, prefix.to_owned());
    if !text(at).starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return at;
    }
    let (line, inline_modules) = (tokens[at].line, tokens[at].inline_modules);
    loop {
        path.push_str(text(at));
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
        path.push_str("::");
        if text(at) == "{" {
            at += 1;
            while !matches!(text(at), "}" | "") {
                let next = read_path(tokens, at, &path, out);
                at = next.max(at + 1);
            }
            return at + 1;
        }
        if !text(at).starts_with(|c: char| c.is_alphabetic() || c == '_') {
            break;
        }
    }
    if path.contains("::") {
        out.push(CodePath { line, inline_modules, text: path.trim_end_matches("::").to_owned() });
    }
    at
}

fn mark_inline_modules(mut tokens: Vec<Token>) -> Vec<Token> {
    let mut open: Vec<bool> = Vec::new();
    for index in 0..tokens.len() {
        match tokens[index].text.as_str() {
            "{" => open.push(index >= 2 && tokens[index - 2].text == "mod"),
            "}" => drop(open.pop()),
            _ => {}
        }
        tokens[index].inline_modules = open.iter().filter(|is_module| **is_module).count();
    }
    tokens
}

/// Words, `::` and single signs; comments, strings and character literals are left out.
fn lex(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => skip_until(&chars, at, |rest| rest[0] == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => skip_block_comment(&chars, at),
            '"' => skip_string(&chars, at),
            'r' | 'b' | 'c' if string_prefix(&chars, at).is_some() => {
                let (hashes, quote) = string_prefix(&chars, at).unwrap_or((0, at));
                if chars[at..quote].contains(&'r') {
                    skip_raw_string(&chars, quote, hashes)
                } else {
                    skip_string(&chars, quote)
                }
            }
            '\'' => skip_char_or_lifetime(&chars, at),
            c if c.is_alphanumeric() || c == '_' => {
                let end = skip_until(&chars, at, |rest| !(rest[0].is_alphanumeric() || rest[0] == '_'));
                tokens.push(Token { text: chars[at..end].iter().collect(), line, inline_modules: 0 });
                end
            }
            c if c.is_whitespace() => at + 1,
            ':' if chars.get(at + 1) == Some(&':') => {
                tokens.push(Token { text: "::".into(), line, inline_modules: 0 });
                at + 2
            }
            c => {
                tokens.push(Token { text: c.into(), line, inline_modules: 0 });
                at + 1
            }
        };
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

fn skip_until(chars: &[char], from: usize, stop: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|at| stop(&chars[*at..])).unwrap_or(chars.len())
}

fn skip_block_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match chars.get(at..at + 2) {
            Some(['/', '*']) => (depth, at) = (depth + 1, at + 2),
            Some(['*', '/']) if depth == 1 => return at + 2,
            Some(['*', '/']) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn skip_string(chars: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The number of `#` and the place of the quote of `r"`, `r#"`, `b"`, `br#"`, `c"` …
fn string_prefix(chars: &[char], at: usize) -> Option<(usize, usize)> {
    if at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') {
        return None;
    }
    let letters = chars[at..].iter().take(2).take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
    let hashes = chars[at + letters..].iter().take_while(|c| **c == '#').count();
    let quote = at + letters + hashes;
    (chars.get(quote) == Some(&'"')).then_some((hashes, quote))
}

fn skip_raw_string(chars: &[char], quote: usize, hashes: usize) -> usize {
    let closes =
        |rest: &[char]| rest[0] == '"' && rest.len() > hashes && rest[1..=hashes].iter().all(|c| *c == '#');
    skip_until(chars, quote + 1, closes) + 1 + hashes
}

fn skip_char_or_lifetime(chars: &[char], at: usize) -> usize {
    match chars.get(at + 1..at + 3) {
        Some(['\\', _]) => skip_until(chars, at + 3, |rest| rest[0] == '\'') + 1,
        Some([_, '\'']) => at + 3,
        _ => at + 1,
    }
}
