//! The shell lexer of variable expansion: quotes, escapes, `$x` and `${x…}`.

use super::pattern;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// How deep substitutions may stand in each other: each level takes stack.
const DEPTH_MAX: usize = 64;

/// Where a lexer looks variables up.
pub trait Variables {
    /// The value of `name`; none when it is not set.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Variables for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// No variables at all.
impl Variables for () {
    fn value(&self, _name: &str) -> Option<&str> {
        None
    }
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LexError {
    /// A quote or brace is not closed, or a substitution is malformed.
    #[error("{0}")]
    Syntax(String),
    /// Substitutions stand in each other without end.
    #[error("substitutions stand more than {DEPTH_MAX} deep in each other")]
    Depth,
    /// `${name:?message}` with nothing in `name`.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says about it.
        message: String,
    },
}

fn syntax<T>(message: impl Into<String>) -> Result<T, LexError> {
    Err(LexError::Syntax(message.into()))
}

/// How words are read.
#[derive(Debug, Clone, Copy)]
pub struct Lexer {
    /// The escape character of the Dockerfile.
    pub escape: char,
    /// Quotes stay in the result.
    pub raw_quotes: bool,
    /// Escape characters stay in the result.
    pub raw_escapes: bool,
    /// Quotes are ordinary characters (in heredocs).
    pub ignore_quotes: bool,
    /// References to variables that are not set stay as they are written.
    pub keep_unset: bool,
    /// Blanks after `<<` and `<<-` belong to the word.
    pub join_heredoc: bool,
}

impl Lexer {
    /// A lexer for arguments: quotes and escapes are removed, unset variables are empty.
    pub fn new(escape: char) -> Self {
        let off = false;
        Self { escape, raw_quotes: off, raw_escapes: off, ignore_quotes: off, keep_unset: off, join_heredoc: off }
    }

    /// `text` with variables expanded and quotes removed, blanks kept.
    pub fn word(&self, text: &str, variables: &dyn Variables) -> Result<String, LexError> {
        self.run(text, variables).map(|(word, _)| word)
    }

    /// The words of `text` after expansion: what a variable brings is split as well, what is quoted is not.
    pub fn words(&self, text: &str, variables: &dyn Variables) -> Result<Vec<String>, LexError> {
        self.run(text, variables).map(|(_, words)| words)
    }

    fn run(&self, text: &str, variables: &dyn Variables) -> Result<(String, Vec<String>), LexError> {
        let (rest, raw_escapes) = (text.chars().peekable(), self.raw_escapes);
        let mut run = Run { lexer: self, rest, variables, raw_escapes, depth: 0 };
        run.until(None, self.raw_escapes)
    }
}

/// Words as they are put together.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn push(&mut self, character: char) {
        if !character.is_whitespace() {
            self.current.push(character);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

struct Run<'a> {
    lexer: &'a Lexer,
    rest: Peekable<Chars<'a>>,
    variables: &'a dyn Variables,
    raw_escapes: bool,
    /// How many substitutions the current place is in.
    depth: usize,
}

impl Run<'_> {
    /// Reads up to `stop` or the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>), LexError> {
        if self.depth > DEPTH_MAX {
            return Err(LexError::Depth);
        }
        self.depth += 1;
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.read(stop);
        self.raw_escapes = before;
        self.depth -= 1;
        result
    }

    fn read(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), LexError> {
        let mut result = String::new();
        let mut words = Words::default();
        while let Some(&character) = self.rest.peek() {
            if stop == Some(character) {
                self.rest.next();
                return Ok((result, words.finish()));
            }
            match character {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|character| words.push(character));
                    result.push_str(&value);
                }
                '\'' | '"' if !self.lexer.ignore_quotes => {
                    let value = if character == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.current.push_str(&value);
                    result.push_str(&value);
                }
                '<' if self.lexer.join_heredoc => {
                    let value = self.possible_heredoc();
                    words.current.push_str(&value);
                    result.push_str(&value);
                }
                _ => self.plain(&mut result, &mut words),
            }
        }
        match stop {
            Some(stop) => syntax(format!("unexpected end of statement while looking for matching {stop}")),
            None => Ok((result, words.finish())),
        }
    }

    /// One character, or an escape and what it escapes.
    fn plain(&mut self, result: &mut String, words: &mut Words) {
        let Some(character) = self.rest.next() else { return };
        if character != self.lexer.escape {
            words.push(character);
            result.push(character);
            return;
        }
        if self.raw_escapes {
            words.current.push(character);
            result.push(character);
        }
        if let Some(escaped) = self.rest.next() {
            words.current.push(escaped);
            result.push(escaped);
        }
    }

    fn possible_heredoc(&mut self) -> String {
        let mut text = String::from("<");
        self.rest.next();
        if self.rest.next_if_eq(&'<').is_none() {
            return text;
        }
        text.push('<');
        text.extend(self.rest.next_if_eq(&'-'));
        while let Some(blank) = self.rest.next_if(|next| next.is_whitespace()) {
            text.push(blank);
        }
        text
    }

    /// Everything up to the next `'`, which cannot be escaped.
    fn single_quoted(&mut self) -> Result<String, LexError> {
        let mut result = String::new();
        let quote = self.rest.next();
        let raw = self.lexer.raw_quotes;
        result.extend(quote.filter(|_| raw));
        loop {
            match self.rest.next() {
                None => return syntax("unexpected end of statement while looking for matching single-quote"),
                Some('\'') => {
                    result.extend(quote.filter(|_| raw));
                    return Ok(result);
                }
                Some(character) => result.push(character),
            }
        }
    }

    /// Everything up to the next `"`; `$` works inside, and `"`, `$` and the escape character can be escaped.
    fn double_quoted(&mut self) -> Result<String, LexError> {
        let mut result = String::new();
        let quote = self.rest.next();
        let raw = self.lexer.raw_quotes;
        result.extend(quote.filter(|_| raw));
        loop {
            match self.rest.peek() {
                None => return syntax("unexpected end of statement while looking for matching double-quote"),
                Some('"') => {
                    self.rest.next();
                    result.extend(quote.filter(|_| raw));
                    return Ok(result);
                }
                Some('$') => result.push_str(&self.dollar()?),
                Some(_) => self.quoted_character(&mut result),
            }
        }
    }

    fn quoted_character(&mut self, result: &mut String) {
        let Some(mut character) = self.rest.next() else { return };
        let escape = self.lexer.escape;
        if character == escape {
            if self.raw_escapes {
                result.push(character);
            }
            match self.rest.peek() {
                None => return,
                Some(&next) if next == '"' || next == '$' || next == escape => {
                    character = next;
                    self.rest.next();
                }
                Some(_) => {}
            }
        }
        result.push(character);
    }

    fn dollar(&mut self) -> Result<String, LexError> {
        self.rest.next();
        if self.rest.next_if_eq(&'{').is_some() {
            return self.braces();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match self.variables.value(&name) {
            Some(value) => value.to_owned(),
            None if self.lexer.keep_unset => format!("${name}"),
            None => String::new(),
        })
    }

    /// What follows `${`.
    fn braces(&mut self) -> Result<String, LexError> {
        match self.rest.peek() {
            None => return syntax("syntax error: missing '}'"),
            Some('{' | '}' | ':') => return syntax("syntax error: bad substitution"),
            Some(_) => {}
        }
        let name = self.name();
        match self.rest.next() {
            Some('}') => Ok(match self.variables.value(&name) {
                Some(value) => value.to_owned(),
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some(':') => match self.rest.next() {
                Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => self.modified(&name, modifier, true),
                other => syntax(format!(
                    "unsupported modifier (:{}) in substitution",
                    other.map_or(String::new(), String::from)
                )),
            },
            Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => self.modified(&name, modifier, false),
            Some('/') => self.replaced(&name),
            Some(other) => syntax(format!("unsupported modifier ({other}) in substitution")),
            None => syntax("syntax error: missing '}'"),
        }
    }

    /// The text up to `stop`; a text that ends before it lacks `missing`.
    fn part(&mut self, stop: char, raw_escapes: bool, missing: &str) -> Result<String, LexError> {
        match self.until(Some(stop), raw_escapes) {
            Ok((word, _)) => Ok(word),
            Err(LexError::Syntax(_)) if self.rest.peek().is_none() => syntax(missing),
            Err(error) => Err(error),
        }
    }

    /// `${name-word}` and its kin; with a colon an empty value counts as unset.
    fn modified(&mut self, name: &str, modifier: char, colon: bool) -> Result<String, LexError> {
        let word = self.part('}', matches!(modifier, '#' | '%'), "syntax error: missing '}'")?;
        let value = self.variables.value(name);
        if value.is_none() && self.lexer.keep_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let present = value.is_some_and(|value| !(colon && value.is_empty()));
        let value = value.unwrap_or_default();
        match modifier {
            '-' => Ok(if present { value.to_owned() } else { word }),
            '+' => Ok(if present { word } else { String::new() }),
            '?' if present => Ok(value.to_owned()),
            '?' => {
                let fault = if colon { "is not allowed to be empty" } else { "is not allowed to be unset" };
                let message = if word.is_empty() { fault.to_owned() } else { word };
                Err(LexError::Required { name: name.to_owned(), message })
            }
            _ => {
                let greedy = word.starts_with(modifier);
                let pattern = word.strip_prefix(modifier).unwrap_or(&word);
                let trim = if modifier == '#' { pattern::trim_prefix } else { pattern::trim_suffix };
                trim(value, pattern, greedy).or_else(|fault| bad_pattern(pattern, &fault))
            }
        }
    }

    /// `${name/pattern/replacement}`, with two slashes for every match.
    fn replaced(&mut self, name: &str) -> Result<String, LexError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.part('/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.part('}', true, "syntax error: missing '}'")?;
        match self.variables.value(name) {
            None if self.lexer.keep_unset => {
                let slashes = if all { "//" } else { "/" };
                Ok(format!("${{{name}{slashes}{pattern}/{replacement}}}"))
            }
            value => pattern::replace(value.unwrap_or_default(), &pattern, &replacement, all)
                .or_else(|fault| bad_pattern(&pattern, &fault)),
        }
    }

    /// A name: letters, digits and `_`; digits alone; or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(&character) = self.rest.peek() {
            if name.is_empty() {
                if character.is_numeric() {
                    while let Some(digit) = self.rest.next_if(|next| next.is_numeric()) {
                        name.push(digit);
                    }
                    return name;
                }
                if "@*#?-$!0".contains(character) {
                    self.rest.next();
                    return character.to_string();
                }
            }
            if !character.is_alphanumeric() && character != '_' {
                break;
            }
            name.push(character);
            self.rest.next();
        }
        name
    }
}

fn bad_pattern<T>(pattern: &str, fault: &str) -> Result<T, LexError> {
    syntax(format!("invalid pattern ({pattern}) in substitution: {fault}"))
}
