//! Which parts of which instruction are expanded.

use super::heredoc::Heredoc;
use super::instruction::{Command, CopySource, KeyValue, Run, Transfer};
use super::lexer::{LexError, Lexer, Variables};
use super::mount;

/// A word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandError {
    /// The word as written.
    pub word: String,
    /// What is wrong with it.
    pub message: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
}

struct Expander<'a> {
    lexer: Lexer,
    variables: &'a dyn Variables,
}

impl Expander<'_> {
    fn word(&self, word: &str) -> Result<String, ExpandError> {
        self.lexer.word(word, self.variables).map_err(|error| fault(word, &error))
    }

    fn words(&self, words: &[String]) -> Result<Vec<String>, ExpandError> {
        words.iter().map(|word| self.word(word)).collect()
    }

    fn optional(&self, word: Option<&String>) -> Result<Option<String>, ExpandError> {
        word.map(|word| self.word(word)).transpose()
    }

    fn pairs(&self, pairs: &[KeyValue]) -> Result<Vec<KeyValue>, ExpandError> {
        let pair = |pair: &KeyValue| Ok(KeyValue { key: self.word(&pair.key)?, value: self.word(&pair.value)? });
        pairs.iter().map(pair).collect()
    }

    /// The body of a heredoc: variables only, quotes are text; the escape is always the backslash.
    fn heredoc(&self, heredoc: &Heredoc) -> Result<Heredoc, ExpandError> {
        let mut heredoc = Heredoc { content: heredoc.body(), strip_tabs: false, ..heredoc.clone() };
        if heredoc.expand {
            let lexer = Lexer { ignore_quotes: true, ..Lexer::new('\\') };
            heredoc.content = lexer
                .word(&heredoc.content, self.variables)
                .map_err(|error| fault(&format!("<<{}", heredoc.name), &error))?;
        }
        Ok(heredoc)
    }

    fn transfer(&self, transfer: &Transfer) -> Result<Transfer, ExpandError> {
        let source = |source: &CopySource| match source {
            CopySource::Path(path) => self.word(path).map(CopySource::Path),
            CopySource::Inline(heredoc) => self.heredoc(heredoc).map(CopySource::Inline),
        };
        Ok(Transfer {
            sources: transfer.sources.iter().map(source).collect::<Result<_, _>>()?,
            destination: self.word(&transfer.destination)?,
            chown: self.optional(transfer.chown.as_ref())?,
            chmod: self.optional(transfer.chmod.as_ref())?,
            checksum: self.optional(transfer.checksum.as_ref())?,
            exclude: self.words(&transfer.exclude)?,
            ..transfer.clone()
        })
    }

    fn run(&self, run: &Run) -> Result<Run, ExpandError> {
        let expand = |word: &str| self.lexer.word(word, self.variables).map_err(|error| error.to_string());
        let parse = |text: &String| {
            mount::parse(text, true, &expand).map_err(|(message, suggestion)| ExpandError {
                word: text.clone(),
                message,
                suggestion,
            })
        };
        Ok(Run { mounts: run.mount_texts.iter().map(parse).collect::<Result<_, _>>()?, ..run.clone() })
    }
}

fn fault(word: &str, error: &LexError) -> ExpandError {
    ExpandError { word: word.to_owned(), message: error.to_string(), suggestion: None }
}

impl Command {
    /// The command with its variables replaced. All of it sees the same variables: `ENV a=1 b=$a` gives `b` the value
    /// `a` had before. The commands of RUN, CMD, ENTRYPOINT, HEALTHCHECK and ONBUILD are left to the shell that runs
    /// them; ARG is expanded where its value is chosen.
    pub fn expanded(&self, escape: char, variables: &dyn Variables) -> Result<Self, ExpandError> {
        let expander = Expander { lexer: Lexer::new(escape), variables };
        Ok(match self {
            Self::Add(transfer) => Self::Add(expander.transfer(transfer)?),
            Self::Copy(transfer) => Self::Copy(expander.transfer(transfer)?),
            Self::Env(pairs) => Self::Env(expander.pairs(pairs)?),
            Self::Label(pairs) => Self::Label(expander.pairs(pairs)?),
            Self::Expose(ports) => {
                let words = |port: &String| expander.lexer.words(port, variables).map_err(|error| fault(port, &error));
                let ports: Vec<Vec<String>> = ports.iter().map(words).collect::<Result<_, _>>()?;
                Self::Expose(ports.into_iter().flatten().collect())
            }
            Self::Run(run) => Self::Run(expander.run(run)?),
            Self::StopSignal(signal) => Self::StopSignal(expander.word(signal)?),
            Self::User(user) => Self::User(expander.word(user)?),
            Self::Volume(volumes) => Self::Volume(expander.words(volumes)?),
            Self::Workdir(path) => Self::Workdir(expander.word(path)?),
            Self::Arg(_)
            | Self::Cmd(_)
            | Self::Entrypoint(_)
            | Self::From
            | Self::Healthcheck(_)
            | Self::Maintainer(_)
            | Self::Onbuild(_)
            | Self::Shell(_) => self.clone(),
        })
    }
}
