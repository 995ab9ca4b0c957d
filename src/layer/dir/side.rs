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
    /// The length of the log in bytes: nobody else writes to it.
    end: u64,
    /// Whether the log ends in the middle of a line: the next one must not become a part of it.
    torn: bool,
    /// Objects whose records are gone, which could not be written down: the disk was full.
    gone: Vec<LocalIno>,
}

impl State {
    fn new(records: HashMap<LocalIno, SideRecord>, log: File, text: &str) -> io::Result<Self> {
        let torn = !text.is_empty() && !text.ends_with('\n');
        let end = log.metadata()?.len();
        Ok(Self { records, log, end, torn, gone: Vec::new() })
    }

    /// Writes a line, behind those that could not be written before. When it fails nothing of it stays.
    fn append(&mut self, line: &str) -> io::Result<()> {
        let mut text = if self.torn { "\n".to_owned() } else { String::new() };
        text.extend(self.gone.iter().map(|&ino| self::line(ino, None)));
        text.push_str(line);
        if let Err(error) = self.log.write_all(text.as_bytes()) {
            // Shrinking needs no space; where even that fails, the end of the line that is missing is made up for.
            self.torn |= self.log.set_len(self.end).is_err();
            if let (true, Ok(metadata)) = (self.torn, self.log.metadata()) {
                self.end = metadata.len();
            }
            return Err(error);
        }
        self.end += text.len() as u64;
        self.torn = false;
        self.gone.clear();
        Ok(())
    }
}

impl SideTable {
    /// Opens the table at `path`, made when missing, without the lines that no longer count.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let records = records_of(&text);
        let lines: String = records.iter().map(|(ino, record)| line(*ino, Some(record))).collect();
        match replace(path, &lines) {
            // The log as it is says the same, at greater length: what is on a full disk can be mounted all the same.
            Err(error) if is_full(&error) && path.exists() => {}
            replaced => {
                replaced?;
                text = lines;
            }
        }
        let log = File::options().append(true).open(path)?;
        let state = State::new(records, log, &text)?;
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    /// Reads the table at `path`, and leaves it alone; none when there is none.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let log = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        (&log).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let state = State::new(records_of(&text), log, &text)?;
        Ok(Some(Self { path: path.to_owned(), state: Mutex::new(state) }))
    }

    /// What is kept of `ino`.
    pub fn get(&self, ino: LocalIno) -> Option<SideRecord> {
        self.state.lock().records.get(&ino).copied()
    }

    /// Keeps `record` of `ino`.
    pub fn set(&self, ino: LocalIno, record: SideRecord) -> io::Result<()> {
        let mut state = self.state.lock();
        state.append(&line(ino, Some(&record)))?;
        state.records.insert(ino, record);
        Ok(())
    }

    /// Drops what is kept of `ino`. On a full disk that is written down later, before anything else is: unlinking makes room, and must
    /// not fail for want of it.
    pub fn remove(&self, ino: LocalIno) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.records.remove(&ino).is_none() {
            return Ok(());
        }
        match state.append(&line(ino, None)) {
            Err(error) if is_full(&error) => {
                state.gone.push(ino);
                Ok(())
            }
            written => written,
        }
    }

    /// Writes what was kept to the disk.
    pub fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.gone.is_empty() {
            state.append("")?;
        }
        let log = state.log.try_clone()?;
        drop(state);
        log.sync_data()
    }

    /// Where the table is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Puts `lines` into the place of the file at `path`, as a whole or not at all.
fn replace(path: &Path, lines: &str) -> io::Result<()> {
    let staged = path.with_extension("new");
    let write = || {
        let mut file = File::create(&staged)?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&staged, path)
    };
    write().inspect_err(|_| {
        // What led here is the failure to tell.
        let _ = std::fs::remove_file(&staged);
    })
}

/// The records that the lines of a log leave. A line may be torn by a crash or a full disk: then it never counted.
fn records_of(text: &str) -> HashMap<LocalIno, SideRecord> {
    let mut records = HashMap::new();
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    for (ino, record) in whole.filter_map(parse_line) {
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

/// Whether there is no space, or none for this user.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
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
        for torn in ["5 0:0:0777:file 12", "5 - ;", "5"] {
            File::options().append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
            let read = SideTable::read(&path).unwrap().unwrap();
            let table = SideTable::open(&path).unwrap();
            for table in [&read, &table] {
                assert_eq!(table.get(LocalIno(5)), Some(kept), "{torn}");
                assert_eq!(table.get(LocalIno(6)), None);
            }
        }
    }

    /// The kernel writes as much as fits, so that a full disk leaves the beginning of a line.
    #[test]
    fn regression_a_torn_line_takes_no_other_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("side");
        let table = SideTable::open(&path).unwrap();
        let record = |ino| SideRecord { ino: Some(ino), ..SideRecord::default() };
        table.set(LocalIno(16), record(1)).unwrap();
        // As after a failed write whose beginning could not be taken back: with the next line it would drop 16.
        File::options().append(true).open(&path).unwrap().write_all(b"1").unwrap();
        table.state.lock().torn = true;
        table.set(LocalIno(6), record(2)).unwrap();
        table.remove(LocalIno(6)).unwrap();
        let again = SideTable::open(&path).unwrap();
        assert_eq!((again.get(LocalIno(16)), again.get(LocalIno(6))), (Some(record(1)), None));
    }

    #[test]
    fn what_could_not_be_dropped_is_dropped_by_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("side");
        let table = SideTable::open(&path).unwrap();
        let record = SideRecord { ino: Some(1), ..SideRecord::default() };
        table.set(LocalIno(1), record).unwrap();
        let whole = File::options().append(true).open(&path).unwrap();
        let full =
            std::mem::replace(&mut table.state.lock().log, File::options().write(true).open("/dev/full").unwrap());
        assert!(table.set(LocalIno(2), record).is_err() && table.get(LocalIno(2)).is_none());
        table.remove(LocalIno(1)).unwrap();
        assert!(table.get(LocalIno(1)).is_none());
        drop(full);
        let mut state = table.state.lock();
        state.log = whole;
        state.end = state.log.metadata().unwrap().len();
        drop(state);
        table.sync().unwrap();
        assert!(SideTable::open(&path).unwrap().get(LocalIno(1)).is_none());
    }
}
