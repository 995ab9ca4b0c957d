//! What objects that carry no `user.` attributes would carry there: a table beside the workdir.
//!
//! Symlinks, FIFOs, sockets and devices have no `user.` attributes. A mount that may only write those keeps their
//! owner and their inode number here. The file is a log: a line a change, the last one of an object counts; it is
//! rewritten when the mount starts.

use super::OverrideStat;
use crate::model::FileKind;
use crate::union::LocalIno;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What is kept of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SideRecord {
    /// Owner and mode, where the file system has others.
    pub owner: Option<OverrideStat>,
    /// The inode number in the mount, where it is not the one of the upper.
    pub ino: Option<u64>,
    /// How many names of it are in lower layers only.
    pub lower_names: Option<u32>,
}

/// The records of all objects, in memory and in the file.
#[derive(Debug)]
pub struct SideTable {
    path: PathBuf,
    /// Held while a line is written: lines must not mix.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    records: HashMap<LocalIno, SideRecord>,
    log: File,
}

impl SideTable {
    /// Opens the table at `path`, made when missing, without the lines that no longer count.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        match File::open(path) {
            Ok(mut file) => {
                file.read_to_string(&mut text)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let records = records_of(&text);
        let staged = path.with_extension("new");
        let mut file = File::create(&staged)?;
        let lines: String = records.iter().map(|(ino, record)| line(*ino, Some(record))).collect();
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&staged, path)?;
        let log = File::options().append(true).open(path)?;
        Ok(Self { path: path.to_owned(), state: Mutex::new(State { records, log }) })
    }

    /// Reads the table at `path`, and leaves it alone; none when there is none.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let log = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let records = records_of(&io::read_to_string(&log)?);
        Ok(Some(Self { path: path.to_owned(), state: Mutex::new(State { records, log }) }))
    }

    /// What is kept of `ino`.
    pub fn get(&self, ino: LocalIno) -> Option<SideRecord> {
        self.state.lock().records.get(&ino).copied()
    }

    /// Keeps `record` of `ino`.
    pub fn set(&self, ino: LocalIno, record: SideRecord) -> io::Result<()> {
        let mut state = self.state.lock();
        state.log.write_all(line(ino, Some(&record)).as_bytes())?;
        state.records.insert(ino, record);
        Ok(())
    }

    /// Drops what is kept of `ino`.
    pub fn remove(&self, ino: LocalIno) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.records.remove(&ino).is_some() {
            state.log.write_all(line(ino, None).as_bytes())?;
        }
        Ok(())
    }

    /// Writes what was kept to the disk.
    pub fn sync(&self) -> io::Result<()> {
        let log = self.state.lock().log.try_clone()?;
        log.sync_data()
    }

    /// Where the table is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The records that the lines of a log leave. The last line may be torn by a crash: then it never counted.
fn records_of(text: &str) -> HashMap<LocalIno, SideRecord> {
    let mut records = HashMap::new();
    for (ino, record) in text.lines().filter_map(parse_line) {
        match record {
            Some(record) => records.insert(ino, record),
            None => records.remove(&ino),
        };
    }
    records
}

/// `ino owner number names`, `-` for what is not kept; `ino -` alone drops the record. Ends with `;`, so that a torn line is
/// seen as one.
fn line(ino: LocalIno, record: Option<&SideRecord>) -> String {
    let Some(record) = record else { return format!("{} - ;\n", ino.0) };
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let owner = text(record.owner.map(|owner| owner.to_text(FileKind::File)));
    let number = text(record.ino.map(|ino| ino.to_string()));
    let names = text(record.lower_names.map(|names| names.to_string()));
    format!("{} {owner} {number} {names} ;\n", ino.0)
}

fn parse_line(line: &str) -> Option<(LocalIno, Option<SideRecord>)> {
    let fields: Vec<&str> = line.split(' ').collect();
    match *fields.as_slice() {
        [ino, "-", ";"] => Some((LocalIno(ino.parse().ok()?), None)),
        [ino, owner, number, names, ";"] => {
            let given = |text: &'static str, field: &str| (field != text).then_some(field.to_owned());
            let owner = given("-", owner).map(|text| OverrideStat::parse(text.as_bytes())).transpose().ok()?;
            let number = given("-", number).map(|text| text.parse()).transpose().ok()?;
            let lower_names = given("-", names).map(|text| text.parse()).transpose().ok()?;
            Some((LocalIno(ino.parse().ok()?), Some(SideRecord { owner, ino: number, lower_names })))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_a_torn_line_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("side");
        let owner = OverrideStat { uid: 1, gid: 2, permissions: 0o777, stands_for: None };
        let kept = SideRecord { owner: Some(owner), ino: Some(1 << 48 | 7), lower_names: None };
        {
            let table = SideTable::open(&path).unwrap();
            table.set(LocalIno(5), kept).unwrap();
            table.set(LocalIno(6), kept).unwrap();
            table.remove(LocalIno(6)).unwrap();
        }
        File::options().append(true).open(&path).unwrap().write_all(b"5 0:0:0777:file 12").unwrap();
        let table = SideTable::open(&path).unwrap();
        assert_eq!(table.get(LocalIno(5)), Some(kept));
        assert_eq!(table.get(LocalIno(6)), None);
    }
}
