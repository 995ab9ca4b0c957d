//! One handler a request: log, one call into the filesystem, one reply.

use super::apart::Apart;
use super::attr::{GENERATION, View, file_type, negative};
use super::capabilities::{OpenMode, Wishes, negotiate};
use super::change::{attributes, empty, outcome, reply_xattr};
use super::counters::{Counters, Operation};
use super::incoming::{caller, changes, creator, new_node, rename_mode, timestamp, unprivileged, xattr_mode};
use super::ioctl;
use super::lost::Lost;
use super::push::Pushes;
use super::spin::Spinner;
use super::walk::{Step, Steps};
use crate::fs::{Attr, FsError, FsResult, LayerFs, Write};
use crate::layer::upper::{Changes, NewKind, NewObject};
use crate::union::Ino;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use log::error;
use rustix::fs::FallocateFlags;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

/// The most bytes copied in one request, so that it does not take for ever.
const MOST_COPIED: u64 = 1 << 28;

/// The longest name, for statfs.
const NAME_MAX: u32 = 255;

thread_local! {
    /// What a thread reads into before it replies.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Answers the kernel's requests from a filesystem.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) fs: Arc<LayerFs>,
    pub(super) counters: Arc<Counters>,
    pub(super) wishes: Wishes,
    pub(super) open_mode: OpenMode,
    pub(super) spinner: Spinner,
    /// Files that will be read soon; none where files must not be pushed.
    pub(super) pushes: Option<Pushes>,
    /// What somebody has come to; none where nothing has to be read from a disk before.
    pub(super) steps: Option<Steps>,
    /// Files whose cached pages have to go because writing them failed.
    pub(super) failed_writes: Sender<u64>,
    /// Why they failed.
    pub(super) lost: Arc<Lost>,
    /// How the kernel is to see what there is.
    pub(super) view: View,
    /// Where requests wait for data.
    pub(super) apart: Apart,
}

impl Adapter {
    /// Counts and logs a request and makes the call that answers it.
    pub(super) fn call<T>(
        &self,
        operation: Operation,
        ino: u64,
        answer: impl FnOnce() -> FsResult<T>,
    ) -> Result<T, Errno> {
        self.spinner.begin();
        self.counters.count(operation);
        outcome(operation, ino, answer)
    }

    /// How long the kernel may keep the entry of an object.
    fn timeout_of(&self, attr: &Attr) -> Duration {
        if self.fs.name_matters(attr) { Duration::ZERO } else { self.view.timeout }
    }

    fn reply_entry(&self, made: Result<Attr, Errno>, reply: ReplyEntry) {
        self.view.reply_entry(made, reply);
        self.spinner.wait();
    }

    fn reply_empty(&self, done: Result<(), Errno>, reply: ReplyEmpty) {
        empty(reply)(done);
        self.spinner.wait();
    }

    /// Reads; before it waits for a disk, another thread is called to answer meanwhile.
    fn read_answer(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> FsResult<usize> {
        if self.spinner.parks() {
            if let Some(length) = self.fs.read_resident(ino, offset, buffer)? {
                return Ok(length);
            }
            self.spinner.hand_over();
        }
        self.fs.read(ino, offset, buffer)
    }

    fn open_flags(&self) -> FopenFlags {
        match self.open_mode {
            OpenMode::ZeroMessage => FopenFlags::empty(),
            OpenMode::Answered => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
        }
    }

    fn seek_answer(&self, ino: Ino, offset: i64, whence: i32) -> FsResult<u64> {
        let offset = u64::try_from(offset).map_err(|_| FsError::BeyondEnd)?;
        match whence {
            libc::SEEK_DATA => self.fs.seek(ino, offset, false),
            libc::SEEK_HOLE => self.fs.seek(ino, offset, true),
            _ => Err(FsError::WrongKind),
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let agreed = negotiate(config, self.wishes);
        self.open_mode = agreed.open_mode;
        self.fs.set_kernel_keeps_times(agreed.writeback);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.call(Operation::Lookup, parent.0, || self.fs.lookup(Ino(parent.0), name.as_bytes())) {
            Ok(Some(attr)) => reply.entry(&self.timeout_of(&attr), &self.view.of(&attr), GENERATION),
            Ok(None) => reply.entry(&self.view.timeout, &negative(), GENERATION),
            Err(errno) => reply.error(errno),
        }
        self.spinner.wait();
    }

    fn forget(&self, _request: &Request, ino: INodeNo, lookups: u64) {
        self.counters.count(Operation::Forget);
        self.lost.take(ino.0);
        self.fs.forget(Ino(ino.0), lookups);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let found = match handle.and_then(|_| self.lost.take(ino.0)) {
            Some(errno) => Err(errno),
            None => self.call(Operation::Getattr, ino.0, || self.fs.getattr(Ino(ino.0))),
        };
        match found {
            Ok(attr) => reply.attr(&self.view.timeout, &self.view.of(&attr)),
            Err(errno) => reply.error(errno),
        }
        self.spinner.wait();
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        match self.call(Operation::Readlink, ino.0, || self.fs.readlink(Ino(ino.0))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
        self.spinner.wait();
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.counters.count(Operation::Open);
        match self.open_mode {
            OpenMode::ZeroMessage => reply.error(Errno::ENOSYS),
            OpenMode::Answered => {
                reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
            }
        }
        self.spinner.wait();
    }

    fn flush(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        self.counters.count(Operation::Flush);
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.counters.count(Operation::Release);
        reply.ok();
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.counters.count(Operation::Opendir);
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let wanted = buffer.get_mut(..size).unwrap_or_default();
            match self.call(Operation::Read, ino.0, || self.read_answer(Ino(ino.0), offset, wanted)) {
                Ok(length) => reply.data(wanted.get(..length).unwrap_or_default()),
                Err(errno) => reply.error(errno),
            }
        });
        if offset == 0 {
            self.push_after(Ino(ino.0));
        }
        self.goes_on(Step::Read(Ino(ino.0)), offset);
        self.spinner.wait();
    }

    fn readdir(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let answer = self.call(Operation::Readdir, ino.0, || {
            self.fs.readdir(Ino(ino.0), offset, &mut |entry| {
                let name = OsStr::from_bytes(entry.name);
                full(reply.add(INodeNo(entry.ino.0), entry.next, file_type(entry.kind), name))
            })
        });
        match answer {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
        self.goes_on(Step::Listed(Ino(ino.0)), offset);
        self.spinner.wait();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let answer = self.call(Operation::Readdirplus, ino.0, || {
            self.fs.readdirplus(Ino(ino.0), offset, &mut |entry, attr| {
                let name = OsStr::from_bytes(entry.name);
                let number = INodeNo(entry.ino.0);
                full(reply.add(number, entry.next, name, &self.timeout_of(attr), &self.view.of(attr), GENERATION))
            })
        });
        match answer {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
        self.goes_on(Step::Listed(Ino(ino.0)), offset);
        self.spinner.wait();
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if size.is_some() {
            // Whoever begins anew has nothing to do with what was lost before.
            self.lost.take(ino.0);
        }
        let changes = changes(mode, (uid, gid), size, (atime, mtime));
        let (caller, unprivileged) = (caller(request), unprivileged(request));
        let (told, begins) = (ctime.map(timestamp), changes == Changes::default());
        let set = move |fs: &LayerFs| {
            if begins {
                // How the kernel says that a write or a change of owner is about to take setuid and setgid away; the bit that
                // says so is not handed on (fuse_setattr in fs/fuse/dir.c). It keeps the mode of the answer.
                return fs.drop_set_ids(Ino(ino.0), caller, told);
            }
            fs.setattr(Ino(ino.0), &changes, told, unprivileged)
        };
        // What has only begun is not to be kept.
        let timeout = if begins { Duration::ZERO } else { self.view.timeout };
        self.change(Operation::Setattr, ino.0, set, attributes(View { timeout, ..self.view }, reply));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let made = self.call(Operation::Mknod, parent.0, || {
            let new = new_node(request, mode, umask, device).ok_or(FsError::WrongKind)?;
            self.fs.create(Ino(parent.0), name.as_bytes(), &new)
        });
        self.reply_entry(made, reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let new = NewObject { kind: NewKind::Directory, permissions: mode & 0o7777, creator: creator(request, umask) };
        let made = self.call(Operation::Mkdir, parent.0, || self.fs.create(Ino(parent.0), name.as_bytes(), &new));
        self.reply_entry(made, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let kind = NewKind::Symlink(target.as_os_str().as_bytes());
        let new = NewObject { kind, permissions: 0o777, creator: creator(request, 0) };
        let made = self.call(Operation::Symlink, parent.0, || self.fs.create(Ino(parent.0), name.as_bytes(), &new));
        self.reply_entry(made, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        if self.open_mode == OpenMode::ZeroMessage {
            // Asked once: from then on the kernel makes files by MKNOD, and has nothing to release when they are closed.
            self.counters.count(Operation::Create);
            reply.error(Errno::ENOSYS);
            return self.spinner.wait();
        }
        let new = NewObject { kind: NewKind::File, permissions: mode & 0o7777, creator: creator(request, umask) };
        match self.call(Operation::Create, parent.0, || self.fs.create(Ino(parent.0), name.as_bytes(), &new)) {
            Ok(attr) => {
                reply.created(&self.view.timeout, &self.view.of(&attr), GENERATION, FileHandle(0), self.open_flags());
            }
            Err(errno) => reply.error(errno),
        }
        self.spinner.wait();
    }

    fn link(&self, _request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (name, view) = (name.to_owned(), self.view);
        let link = move |fs: &LayerFs| fs.link(Ino(ino.0), Ino(parent.0), name.as_bytes());
        self.change(Operation::Link, ino.0, link, move |made| view.reply_entry(made, reply));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.call(Operation::Unlink, parent.0, || self.fs.unlink(Ino(parent.0), name.as_bytes()));
        self.reply_empty(done, reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.call(Operation::Rmdir, parent.0, || self.fs.rmdir(Ino(parent.0), name.as_bytes()));
        self.reply_empty(done, reply);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        let rename = move |fs: &LayerFs| {
            let mode = rename_mode(flags).ok_or(FsError::WrongKind)?;
            fs.rename(Ino(parent.0), name.as_bytes(), Ino(new_parent.0), new_name.as_bytes(), mode)
        };
        self.change(Operation::Rename, parent.0, rename, empty(reply));
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        open_flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written_back = flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let write = Write {
            unprivileged: flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID).then(|| caller(request)),
            // To setuid files it writes at once, and has set their time all the same.
            cached: written_back || open_flags.0 & libc::O_DIRECT == 0,
        };
        let (length, failed_writes, lost) = (data.len() as u32, self.failed_writes.clone(), Arc::clone(&self.lost));
        let answer = move |done| match done {
            Ok(()) => {
                lost.take(ino.0);
                reply.written(length);
            }
            Err(errno) => {
                if written_back {
                    lost.failed(ino.0, errno);
                    if failed_writes.send(ino.0).is_err() {
                        error!("nobody invalidates {:#x} after its write failed", ino.0);
                    }
                }
                reply.error(errno);
            }
        };
        if let Some(done) = self.attempt(Operation::Write, ino.0, || self.fs.write(Ino(ino.0), offset, data, write)) {
            answer(done);
        } else {
            let data = data.to_vec();
            let again = move |fs: &LayerFs| fs.write(Ino(ino.0), offset, &data, write);
            self.set_apart(Operation::Write, ino.0, again, answer);
        }
        self.spinner.wait();
    }

    fn fsync(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        // The kernel reports it now.
        self.lost.take(ino.0);
        self.change(Operation::Fsync, ino.0, move |fs| fs.fsync(Ino(ino.0), data_only), empty(reply));
    }

    fn fsyncdir(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        self.change(Operation::Fsyncdir, ino.0, move |fs| fs.fsync(Ino(ino.0), data_only), empty(reply));
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (name, value, unprivileged) = (name.to_owned(), value.to_vec(), unprivileged(request));
        let set =
            move |fs: &LayerFs| fs.setxattr(Ino(ino.0), (name.as_bytes(), &value), xattr_mode(flags), unprivileged);
        self.change(Operation::Setxattr, ino.0, set, empty(reply));
    }

    fn removexattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        let remove = move |fs: &LayerFs| fs.removexattr(Ino(ino.0), name.as_bytes());
        self.change(Operation::Removexattr, ino.0, remove, empty(reply));
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = FallocateFlags::from_bits_retain(mode as u32);
        let unprivileged = unprivileged(request);
        let allocate = move |fs: &LayerFs| fs.fallocate(Ino(ino.0), mode, (offset, length), unprivileged);
        self.change(Operation::Fallocate, ino.0, allocate, empty(reply));
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _from_handle: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_handle: FileHandle,
        to_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let length = usize::try_from(length.min(MOST_COPIED)).unwrap_or(0);
        let unprivileged = unprivileged(request);
        let copy = move |fs: &LayerFs| {
            fs.copy_file_range((Ino(from.0), from_offset), (Ino(to.0), to_offset), length, unprivileged)
        };
        self.change(Operation::CopyFileRange, to.0, copy, move |copied| match copied {
            Ok(length) => reply.written(length as u32),
            Err(errno) => reply.error(errno),
        });
    }

    fn ioctl(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        input: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let input = input.to_vec();
        let answer = move |fs: &LayerFs| ioctl::answer(fs, Ino(ino.0), command, &input);
        self.change(Operation::Ioctl, ino.0, answer, move |answer| match answer {
            Ok(value) => reply.ioctl(0, &value),
            Err(errno) => reply.error(errno),
        });
    }

    fn statfs(&self, _request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.call(Operation::Statfs, ino.0, || self.fs.statfs()) {
            Ok(all) => reply.statfs(
                all.blocks,
                all.blocks_free,
                all.blocks_available,
                all.files,
                all.files_free,
                all.block_size,
                NAME_MAX,
                all.block_size,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.call(Operation::Getxattr, ino.0, || self.fs.getxattr(Ino(ino.0), name.as_bytes())) {
            Ok(value) => reply_xattr(reply, &value, size),
            Err(errno) => reply.error(errno),
        }
        self.spinner.wait();
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.call(Operation::Listxattr, ino.0, || self.fs.listxattr(Ino(ino.0), unprivileged(request).is_some()))
        {
            Ok(names) => reply_xattr(reply, &names, size),
            Err(errno) => reply.error(errno),
        }
        self.spinner.wait();
    }

    /// Only asked without `default_permissions`. Then the mount is its owner's alone, and may show everything; being told
    /// that once is enough for the kernel.
    fn access(&self, _request: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        self.counters.count(Operation::Access);
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        if self.wishes.writable {
            // The kernel does not write back before it asks, so the answer would be wrong. To this one it takes the
            // whole file as data, and does not ask again.
            return reply.error(Errno::ENOSYS);
        }
        match self.call(Operation::Lseek, ino.0, || self.seek_answer(Ino(ino.0), offset, whence)) {
            Ok(offset) => reply.offset(i64::try_from(offset).unwrap_or(i64::MAX)),
            Err(errno) => reply.error(errno),
        }
        self.spinner.wait();
    }
}

fn full(is_full: bool) -> ControlFlow<()> {
    if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
