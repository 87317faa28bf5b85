//! getopt(3) as the GNU C library has it, for short options: permutation, combined letters, `--`, POSIXLY_CORRECT.
//! Pure: takes the arguments, hands out one item a call. Does not know what an option means and prints nothing.
//! One extension: exact names of long options without an argument, which getopt(3) would take for an unknown `-`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What to do at an argument that is no option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// Remember it and look for options behind it: GNU's default.
    Permute,
    /// Stop there: the environment has POSIXLY_CORRECT.
    RequireOrder,
}

/// Which options exist.
#[derive(Debug, Clone, Copy)]
pub struct Grammar {
    /// getopt(3)'s option string: letters, each with `:` behind it if it takes an argument.
    pub letters: &'static [u8],
    /// Long options without an argument, without their `--`.
    pub words: &'static [&'static str],
}

/// One option of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A letter of the grammar, with its argument if it takes one.
    Letter(u8, Option<OsString>),
    /// A word of the grammar.
    Word(&'static str),
    /// A letter that the grammar has not.
    Unknown(u8),
    /// A letter that wants an argument, at the end of the command line.
    WithoutArgument(u8),
}

/// Walks over the arguments behind the program's name.
#[derive(Debug)]
pub struct Options<'a> {
    grammar: Grammar,
    ordering: Ordering,
    /// What has not been looked at.
    rest: std::slice::Iter<'a, OsString>,
    /// The unread letters of the current argument.
    letters: &'a [u8],
    /// Arguments that are no options, so far.
    operands: Vec<OsString>,
}

impl<'a> Options<'a> {
    /// Starts at the first of `arguments`, which do not include the program's name.
    pub fn new(arguments: &'a [OsString], grammar: Grammar, ordering: Ordering) -> Options<'a> {
        Options { grammar, ordering, rest: arguments.iter(), letters: &[], operands: Vec::new() }
    }

    /// The arguments that are no options, in their order; asked after the last item.
    pub fn into_operands(self) -> Vec<OsString> {
        self.operands
    }

    /// Goes to the next argument with options in it; `None` at the end of all options.
    fn next_cluster(&mut self) -> Option<&'a [u8]> {
        loop {
            let unread = self.rest.clone();
            let argument = self.rest.next()?.as_bytes();
            if argument == b"--" {
                self.operands.extend(self.rest.by_ref().cloned());
                return None;
            }
            match argument.strip_prefix(b"-") {
                Some(letters) if !letters.is_empty() => return Some(letters),
                _ if self.ordering == Ordering::Permute => {
                    self.operands.push(OsStr::from_bytes(argument).into())
                }
                _ => {
                    self.operands.extend(unread.cloned());
                    self.rest = [].iter();
                    return None;
                }
            }
        }
    }

    fn word(&self, letters: &[u8]) -> Option<&'static str> {
        let word = letters.strip_prefix(b"-")?;
        self.grammar.words.iter().find(|known| known.as_bytes() == word).copied()
    }

    fn argument_of(&mut self, letter: u8) -> Item {
        let glued = std::mem::take(&mut self.letters);
        if !glued.is_empty() {
            return Item::Letter(letter, Some(OsString::from_vec(glued.to_vec())));
        }
        match self.rest.next() {
            Some(argument) => Item::Letter(letter, Some(argument.clone())),
            None => Item::WithoutArgument(letter),
        }
    }
}

impl Iterator for Options<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.letters.is_empty() {
            self.letters = self.next_cluster()?;
            if let Some(word) = self.word(self.letters) {
                self.letters = &[];
                return Some(Item::Word(word));
            }
        }
        let (&letter, behind) = self.letters.split_first()?;
        self.letters = behind;
        let known = self.grammar.letters.iter().position(|&known| known == letter && letter != b':');
        Some(match known {
            None => Item::Unknown(letter),
            Some(at) if self.grammar.letters.get(at + 1) == Some(&b':') => self.argument_of(letter),
            Some(_) => Item::Letter(letter, None),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAMMAR: Grammar = Grammar { letters: b"a:b?n", words: &["stay"] };

    /// Items and operands in one line, for tables.
    fn walk(line: &str, ordering: Ordering) -> String {
        let arguments: Vec<OsString> =
            line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
        let mut options = Options::new(&arguments, GRAMMAR, ordering);
        let mut said: Vec<String> = Vec::new();
        for item in options.by_ref() {
            said.push(match item {
                Item::Letter(letter, None) => format!("{}", char::from(letter)),
                Item::Letter(letter, Some(value)) => format!("{}={}", char::from(letter), value.display()),
                Item::Word(word) => format!("word:{word}"),
                Item::Unknown(letter) => format!("unknown:{}", char::from(letter)),
                Item::WithoutArgument(letter) => format!("without:{}", char::from(letter)),
            });
        }
        let operands: Vec<String> = options.into_operands().iter().map(|o| o.display().to_string()).collect();
        format!("{} | {}", said.join(" "), operands.join(" "))
    }

    #[test]
    fn reads_what_gnu_getopt_reads() {
        let cases = [
            ("", " | "),
            ("-a 1 -b", "a=1 b | "),
            ("-a1 -bn", "a=1 b n | "),
            ("-bna1", "b n a=1 | "),
            ("-bna 1 x", "b n a=1 | x"),
            ("app -a 1 x -b y", "a=1 b | app x y"),
            ("app -a 1 -- -b -- x", "a=1 | app -b -- x"),
            ("-a -- -b", "a=-- b | "),
            ("-a -b", "a=-b | "),
            ("-b -a", "b without:a | "),
            ("-ba", "b without:a | "),
            ("-b -a --", "b a=-- | "),
            ("-x", "unknown:x | "),
            ("-bxn", "b unknown:x n | "),
            ("-:", "unknown:: | "),
            ("-?", "? | "),
            ("- -b", "b | -"),
            ("--stay -b", "word:stay b | "),
            ("-a --stay", "a=--stay | "),
            ("-- --stay", " | --stay"),
            ("--", " | "),
            ("-b-stay", "b unknown:- unknown:s unknown:t a=y | "),
        ];
        for (line, expected) in cases {
            assert_eq!(walk(line, Ordering::Permute), expected, "{line}");
        }
    }

    #[test]
    fn an_unknown_word_is_letters_after_an_unknown_dash() {
        assert_eq!(walk("--by", Ordering::Permute), "unknown:- b unknown:y | ");
        assert_eq!(walk("--stayed", Ordering::Permute), "unknown:- unknown:s unknown:t a=yed | ");
    }

    #[test]
    fn posixly_correct_stops_at_the_first_operand() {
        assert_eq!(walk("-b app -a 1 -- x", Ordering::RequireOrder), "b | app -a 1 -- x");
        assert_eq!(walk("-b -- app -n", Ordering::RequireOrder), "b | app -n");
        assert_eq!(walk("- -b", Ordering::RequireOrder), " | - -b");
    }
}
