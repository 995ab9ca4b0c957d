//! Who a command runs as: names and numbers looked up in the image's own /etc/passwd and /etc/group, as Docker does.

use super::spec::User;

/// Nobody of that name is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such {what} in the image: {name}")]
pub struct NoSuchAccount {
    what: &'static str,
    name: String,
}

/// A user with his home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub user: User,
    pub home: String,
}

/// The files an account is looked up in; empty where the image has none.
#[derive(Debug, Clone, Copy)]
pub struct Databases<'a> {
    pub passwd: &'a str,
    pub group: &'a str,
}

/// The account that `text` names: `user`, `user:group`, either as a name or a number; empty is root. A group that is named takes the place of all
/// the user's own.
pub fn resolve(files: Databases<'_>, text: &str) -> Result<Account, NoSuchAccount> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number: Option<u32> = user.parse().ok();
    let entry = lines(files.passwd).find(|fields| match number {
        // A user whose name is a number is meant by it first.
        Some(number) => fields.first() == Some(&user) || field(fields, 2) == Some(number),
        None => fields.first() == Some(&user),
    });
    let uid = entry.as_ref().and_then(|fields| field(fields, 2)).or(number);
    let uid = uid.ok_or_else(|| NoSuchAccount { what: "user", name: user.to_owned() })?;
    let name = entry.as_ref().and_then(|fields| fields.first().copied());
    let home = entry.as_ref().and_then(|fields| fields.get(5).copied()).filter(|home| !home.is_empty());
    let home = home.unwrap_or("/").to_owned();
    let (gid, groups) = if let Some(group) = group {
        (group_number(files.group, group)?, Vec::new())
    } else {
        let own = entry.as_ref().and_then(|fields| field(fields, 3)).unwrap_or(0);
        (own, name.map_or_else(Vec::new, |name| memberships(files.group, name)))
    };
    Ok(Account { user: User { uid, gid, groups }, home })
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn field(fields: &[&str], at: usize) -> Option<u32> {
    fields.get(at)?.parse().ok()
}

fn group_number(text: &str, name: &str) -> Result<u32, NoSuchAccount> {
    let entry = lines(text).find(|fields| fields.first() == Some(&name));
    let number = entry.and_then(|fields| field(&fields, 2)).or_else(|| name.parse().ok());
    number.ok_or_else(|| NoSuchAccount { what: "group", name: name.to_owned() })
}

/// The groups that list `name` as a member.
fn memberships(text: &str, name: &str) -> Vec<u32> {
    let member = |fields: &Vec<&str>| fields.get(3).is_some_and(|members| members.split(',').any(|one| one == name));
    lines(text).filter(member).filter_map(|fields| field(&fields, 2)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: Databases<'_> = Databases {
        passwd: "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n7:x:70:71::/seven:/bin/sh\n",
        group: "root:x:0:\nweb:x:33:\nadm:x:4:web,syslog\ntape:x:26:web\n",
    };

    #[test]
    fn accounts_as_docker_reads_them() {
        let user = |uid, gid, groups: &[u32], home: &str| Account {
            user: User { uid, gid, groups: groups.to_vec() },
            home: home.to_owned(),
        };
        let cases = [
            ("", user(0, 0, &[], "/root")),
            ("root", user(0, 0, &[], "/root")),
            ("web", user(33, 33, &[4, 26], "/var/www")),
            ("33", user(33, 33, &[4, 26], "/var/www")),
            ("web:adm", user(33, 4, &[], "/var/www")),
            ("web:", user(33, 33, &[4, 26], "/var/www")),
            ("1234", user(1234, 0, &[], "/")),
            ("1234:5678", user(1234, 5678, &[], "/")),
            (":26", user(0, 26, &[], "/root")),
            ("7", user(70, 71, &[], "/seven")),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(FILES, text).expect(text), expected, "{text:?}");
        }
    }

    #[test]
    fn who_is_not_there_is_named() {
        for text in ["nobody", "web:nogroup", "-1"] {
            assert!(matches!(resolve(FILES, text), Err(NoSuchAccount { .. })), "{text}");
        }
    }
}
