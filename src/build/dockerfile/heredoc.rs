//! Heredocs: found in a line, named, read.

use super::lexer::{LexError, Lexer};

/// A heredoc of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, quotes removed; of a COPY also the name of the file.
    pub name: String,
    /// Whether variables are expanded inside: nothing of the word is quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are removed from the body.
    pub strip_tabs: bool,
    /// The body as it stands in the file.
    pub content: String,
}

impl Heredoc {
    /// The body as a COPY writes it: without leading tabs after `<<-`.
    pub fn body(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

fn lexer() -> Lexer {
    Lexer { keep_unset: true, ..Lexer::new('\\') }
}

/// The heredoc that the word `text` opens (`<<EOF`, `3<<-'EOF'`); none when it opens none.
pub(super) fn from_word(text: &str) -> Result<Option<Heredoc>, LexError> {
    let rest = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let strip_tabs = rest.starts_with('-');
    let rest = rest.strip_prefix('-').unwrap_or(rest).trim_start();
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let plain = lexer().words(rest, &())?;
    let quoted = Lexer { raw_quotes: true, ..lexer() }.words(rest, &())?;
    let ([name], [raw]) = (plain.as_slice(), quoted.as_slice()) else { return Ok(None) };
    let quotes = |word: &str| word.matches(['\'', '"']).count();
    let expand = quotes(name) == quotes(raw);
    Ok(Some(Heredoc { name: name.clone(), expand, strip_tabs, content: String::new() }))
}

/// The heredocs that the words of a line open, in order.
pub(super) fn in_line(line: &str) -> Result<Vec<Heredoc>, LexError> {
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, join_heredoc: true, ..lexer() };
    // A line the lexer does not understand (an apostrophe in a shell comment) opens none.
    let words = lexer.words(line, &()).unwrap_or_default();
    words.iter().filter_map(|word| from_word(word).transpose()).collect()
}

/// Whether `text` is a heredoc's opening and nothing else.
pub fn is_heredoc(text: &str) -> bool {
    matches!(from_word(text), Ok(Some(_)))
}
