//! Names of users and groups as the image itself has them.

use super::printable;
use crate::run::read_in;
use crate::union::Stack;
use std::collections::HashMap;

/// What the image's /etc/passwd and /etc/group call their numbers.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    /// The names in `stack`; none where the files are missing or cannot be read.
    pub(super) fn of(stack: &Stack) -> Self {
        let names = |path| read_in(stack, path).map(|text| parse(&text)).unwrap_or_default();
        Self { users: names("/etc/passwd"), groups: names("/etc/group") }
    }

    /// The name of a user.
    pub(super) fn user(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }

    /// The name of a group.
    pub(super) fn group(&self, gid: u32) -> Option<&str> {
        self.groups.get(&gid).map(String::as_str)
    }
}

/// The first name of every number: `NAME:…:NUMBER:…`.
fn parse(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (name, number) = (fields.next().unwrap_or_default(), fields.nth(1).and_then(|field| field.parse().ok()));
        if let Some(number) = number.filter(|_| !name.is_empty() && !name.contains(char::is_whitespace)) {
            names.entry(number).or_insert_with(|| printable(name.as_bytes()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let names = parse("root:x:0:0::/:/bin/sh\ntoor:x:0:0\n# no\nbroken\n:x:5:\nevil\u{1b}[31m:x:7:7\n");
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&7).map(String::as_str), Some("evil\\u{1b}[31m"));
        assert_eq!(names.len(), 2);
    }
}
