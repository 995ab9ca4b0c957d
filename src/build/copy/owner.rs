//! `--chown` and USER: names found in the image's own files.

use super::error::{CopyError, CopyResult, reading};
use super::resolve::resolve;
use super::tree::Tree;
use crate::model::FileKind;
use std::io::Read;

/// The user file of an image.
const PASSWD: &str = "/etc/passwd";
/// The group file of an image.
const GROUP: &str = "/etc/group";
/// Larger user and group files are not read: a sane one is far below.
const MAX_FILE: u64 = 16 << 20;

/// An owner and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The owner `text` (`user`, `user:group`, `:group`, names or numbers) names in the image `tree`. A number alone is the group as
/// well; the group of a name alone is its primary one.
pub fn resolve_owner(tree: &dyn Tree, text: &str) -> CopyResult<Owner> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let mut owner = match user.parse::<u32>() {
        Ok(number) => Owner { uid: number, gid: number },
        Err(_) if user.is_empty() => Owner::default(),
        Err(_) => passwd_entry(tree, |fields| fields.first().is_some_and(|name| *name == user))?
            .ok_or(CopyError::NoSuchOwner { what: "user", name: user.to_owned(), file: PASSWD })?,
    };
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        owner.gid = group_number(tree, group)?;
    }
    Ok(owner)
}

/// The user and group a command runs as (USER): like [`resolve_owner`], but a number that the image knows brings its primary
/// group, and one it does not know the group 0.
pub fn resolve_user(tree: &dyn Tree, text: &str) -> CopyResult<Owner> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let mut owner = match user.parse::<u32>() {
        Ok(number) => passwd_entry(tree, |fields| fields.get(2).and_then(|uid| uid.parse().ok()) == Some(number))?
            .unwrap_or(Owner { uid: number, gid: 0 }),
        Err(_) => resolve_owner(tree, user)?,
    };
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        owner.gid = group_number(tree, group)?;
    }
    Ok(owner)
}

/// Who a command runs as, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User and group.
    pub owner: Owner,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: String,
}

/// The account USER names in the image `tree`; root's for an empty text. A group that is named takes the place of all others.
pub fn resolve_account(tree: &dyn Tree, text: &str) -> CopyResult<Account> {
    let text = if text.is_empty() { "0" } else { text };
    let owner = resolve_user(tree, text)?;
    let passwd = read(tree, PASSWD)?;
    let wanted = text.split(':').next().filter(|user| !user.is_empty()).unwrap_or("0");
    // By its name or its number, as Docker takes the first line that fits.
    let lines = || passwd.lines().map(|line| line.split(':').collect::<Vec<&str>>());
    let is_meant = |fields: &Vec<&str>| {
        fields.first() == Some(&wanted)
            || wanted.parse().is_ok_and(|uid: u32| fields.get(2).and_then(|field| field.parse().ok()) == Some(uid))
    };
    let entry = lines().find(is_meant);
    let name = entry.as_ref().and_then(|fields| fields.first()).map(|name| (*name).to_owned());
    let home = entry.as_ref().and_then(|fields| fields.get(5)).filter(|home| !home.is_empty());
    let home = home.map(|home| (*home).to_owned());
    let mut groups = Vec::new();
    if let Some(name) = name.filter(|_| !text.contains(':')) {
        for line in read(tree, GROUP)?.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let member = fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name));
            groups.extend(fields.get(2).and_then(|gid| gid.parse::<u32>().ok()).filter(|_| member));
        }
    }
    let home = home.unwrap_or_else(|| if owner.uid == 0 { "/root" } else { "/" }.to_owned());
    Ok(Account { owner, groups, home })
}

fn passwd_entry(tree: &dyn Tree, wanted: impl Fn(&[&str]) -> bool) -> CopyResult<Option<Owner>> {
    let text = read(tree, PASSWD)?;
    Ok(text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok());
        wanted(&fields).then(|| Some(Owner { uid: number(2)?, gid: number(3)? })).flatten()
    }))
}

fn group_number(tree: &dyn Tree, name: &str) -> CopyResult<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = read(tree, GROUP)?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    found.ok_or(CopyError::NoSuchOwner { what: "group", name: name.to_owned(), file: GROUP })
}

/// A small text file of the image; empty when there is none.
fn read(tree: &dyn Tree, path: &str) -> CopyResult<String> {
    let real = resolve(tree, path.as_bytes(), true)?;
    let stat = tree.stat(&real).map_err(reading(&real))?;
    if stat.is_none_or(|stat| stat.kind != FileKind::File) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    tree.open(&real).and_then(|data| data.take(MAX_FILE).read_to_end(&mut bytes)).map_err(reading(&real))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
