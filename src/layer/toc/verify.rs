//! Reading a whole TOC to see whether it is sound.

use super::format;
use super::layer::kind_of;
use super::tables::{Checked, Damage};
use super::{DiffId, TocLayer};
use crate::model::FileKind;
use crate::union::{Layer, LayerResult, LocalIno};

impl TocLayer {
    /// Checks the checksum, and that every record can be used. For fsck: reads the whole TOC, but nothing of the tar.
    ///
    /// `diff_id` is the digest of the tar as it was found to be.
    pub fn verify(&self, diff_id: &DiffId) -> LayerResult<()> {
        if self.diff_id() != *diff_id {
            return Err(self.damaged(Damage("it is that of another tar")));
        }
        if !self.tables.checksum_is_right() {
            return Err(self.damaged(Damage("its checksum is wrong")));
        }
        self.check_records()
    }

    /// Checks every record for itself, and that directories form a tree.
    pub(super) fn check_records(&self) -> LayerResult<()> {
        for ino in (1..=self.inode_count()).map(LocalIno) {
            match kind_of(self.record(ino)?) {
                None => drop(self.link_target(ino)?),
                Some(kind) => {
                    self.meta(ino)?;
                    self.check_kind(ino, kind)?;
                }
            }
            self.check_xattrs(ino)?;
        }
        self.implied_directories(&mut |_, _| {})
    }

    fn check_kind(&self, ino: LocalIno, kind: FileKind) -> LayerResult<()> {
        match kind {
            FileKind::Directory => {
                self.entries(ino, &mut |_| {})?;
                let check = || {
                    self.check_entries(ino)?;
                    self.check_place(ino)
                };
                check().map_err(|damage| self.damaged(damage))
            }
            FileKind::File => {
                let extents = self.extents(ino)?;
                let pieces = (0..extents.count()).try_for_each(|index| extents.piece(index).map(drop));
                pieces.map_err(|damage| self.damaged(damage))
            }
            FileKind::Symlink => self.read_link(ino).map(drop),
            FileKind::CharDevice | FileKind::BlockDevice | FileKind::Fifo | FileKind::Socket => Ok(()),
        }
    }

    /// That the entries of a directory say of their objects what these say themselves.
    fn check_entries(&self, dir: LocalIno) -> Checked<()> {
        let record = self.tables.inode(dir.0).ok_or(Damage("no such inode"))?;
        for entry in self.tables.entries(record)? {
            if entry.flags & format::ENTRY_WHITEOUT != 0 {
                continue;
            }
            let object = self.tables.inode(u64::from(entry.ino.get())).ok_or(Damage("an entry without inode"))?;
            if object.mode.get() & libc::S_IFMT != u32::from(entry.kind) << 12 {
                return Err(Damage("an entry of another type than its inode"));
            }
            if entry.prefix != format::name_prefix(self.tables.name(entry)?) {
                return Err(Damage("an entry whose prefix is not that of its name"));
            }
        }
        Ok(())
    }

    /// That the directory stands where it says.
    fn check_place(&self, dir: LocalIno) -> Checked<()> {
        if dir == self.root() {
            return Ok(());
        }
        let place = |dir: u64| self.tables.inode(dir).map(|record| (record, format::split_place(record.size.get())));
        let (_, (parent, entry)) = place(dir.0).ok_or(Damage("no such inode"))?;
        let (parent, _) = place(u64::from(parent)).ok_or(Damage("a directory without parent"))?;
        let first = parent.first.get();
        let in_parent = (first..first.saturating_add(u64::from(parent.count.get()))).contains(&u64::from(entry));
        if !in_parent || u64::from(self.tables.entry(entry)?.ino.get()) != dir.0 {
            return Err(Damage("a directory in the wrong place"));
        }
        Ok(())
    }

    fn check_xattrs(&self, ino: LocalIno) -> LayerResult<()> {
        let mut names = Vec::new();
        self.xattr_names(ino, &mut |name| names.push(name.to_vec()))?;
        names.iter().try_for_each(|name| self.xattr(ino, name).map(drop))
    }
}
