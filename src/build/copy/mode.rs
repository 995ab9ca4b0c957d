//! `--chmod`: octal and symbolic.

use super::error::{CopyError, CopyResult};

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChange(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Exactly these bits.
    Octal(u16),
    /// One clause after the other.
    Symbolic(Vec<Clause>),
}

/// Whom a clause is about: bits for user, group, others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    user: bool,
    group: bool,
    others: bool,
    operations: Vec<(char, String)>,
}

impl ModeChange {
    /// Parses `755`, `u=rwX,go-w` and the like, as chmod(1) takes them. Where a clause names nobody, all are meant.
    pub fn parse(text: &str) -> CopyResult<Self> {
        let bad = || CopyError::Mode { text: text.to_owned() };
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let mode = u16::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(|mode| Self(Kind::Octal(mode))).ok_or_else(bad);
        }
        let clauses = text.split(',').map(|clause| parse_clause(clause).ok_or_else(bad));
        clauses.collect::<CopyResult<_>>().map(|clauses| Self(Kind::Symbolic(clauses)))
    }

    /// The bits that `permissions` become.
    pub fn apply(&self, permissions: u16, directory: bool) -> u16 {
        match &self.0 {
            Kind::Octal(mode) => *mode,
            Kind::Symbolic(clauses) => clauses.iter().fold(permissions, |mode, clause| clause.apply(mode, directory)),
        }
    }
}

fn parse_clause(text: &str) -> Option<Clause> {
    let start = text.find(['+', '-', '='])?;
    let (who, mut rest) = text.split_at(start);
    if !who.chars().all(|c| "ugoa".contains(c)) {
        return None;
    }
    let named = |letter: char| who.is_empty() || who.contains(['a', letter]);
    let mut operations = Vec::new();
    while let Some(operator) = rest.chars().next() {
        rest = rest.get(1..)?;
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let (what, tail) = rest.split_at(end);
        let copies = what.len() == 1 && "ugo".contains(what);
        if !copies && !what.chars().all(|c| "rwxXst".contains(c)) {
            return None;
        }
        operations.push((operator, what.to_owned()));
        rest = tail;
    }
    Some(Clause { user: named('u'), group: named('g'), others: named('o'), operations })
}

impl Clause {
    fn apply(&self, mut mode: u16, directory: bool) -> u16 {
        for (operator, what) in &self.operations {
            let bits = self.bits(what, mode, directory);
            mode = match operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => (mode & !self.reach(directory)) | bits,
            };
        }
        mode
    }

    fn shifts(&self) -> impl Iterator<Item = u16> + use<> {
        [(self.user, 6), (self.group, 3), (self.others, 0)]
            .into_iter()
            .filter_map(|(named, shift)| named.then_some(shift))
    }

    /// The set-user-ID and set-group-ID bits of whom the clause is about.
    fn set_id(&self) -> u16 {
        (u16::from(self.user) * 0o4000) | (u16::from(self.group) * 0o2000)
    }

    /// What `=` replaces. The set-id bits of directories survive it, as in chmod(1).
    fn reach(&self, directory: bool) -> u16 {
        let mut reach = self.shifts().fold(0, |bits, shift| bits | (0o7 << shift));
        if !directory {
            reach |= self.set_id();
        }
        if self.others {
            reach |= 0o1000;
        }
        reach
    }

    fn bits(&self, what: &str, mode: u16, directory: bool) -> u16 {
        let everyone = |bits: u16| self.shifts().fold(0, |all, shift| all | (bits << shift));
        what.chars().fold(0, |bits, letter| {
            bits | match letter {
                'r' => everyone(4),
                'w' => everyone(2),
                'x' => everyone(1),
                'X' if directory || mode & 0o111 != 0 => everyone(1),
                's' => self.set_id(),
                't' => 0o1000,
                'u' => everyone(mode >> 6 & 7),
                'g' => everyone(mode >> 3 & 7),
                'o' => everyone(mode & 7),
                _ => 0,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_with_chmod() {
        for (text, before, directory, expected) in [
            ("755", 0o600, false, 0o755),
            ("0", 0o777, false, 0),
            ("04755", 0o600, false, 0o4755),
            ("7777", 0o600, true, 0o7777),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("u=rwX,go=rX", 0o644, false, 0o644),
            ("u=rwX,go=rX", 0o640, true, 0o755),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("go=", 0o777, false, 0o700),
            ("g=u", 0o740, false, 0o770),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
            ("u=rx", 0o4755, false, 0o555),
            ("g=rx", 0o2755, true, 0o2755),
            ("u+x-w", 0o644, false, 0o544),
            ("ug+rw,o-rwx", 0o055, false, 0o670),
        ] {
            assert_eq!(ModeChange::parse(text).unwrap().apply(before, directory), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "8", "10000", "17777777", "x", "u", "u*x", "u+z", "z+x", "+ux", "755x", "u+x,"] {
            assert!(ModeChange::parse(text).is_err(), "{text}");
        }
    }
}
