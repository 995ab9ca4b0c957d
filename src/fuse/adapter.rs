//! One handler a request: log, one call into the filesystem, one reply.

use super::attr::{FOREVER, file_attr, file_type, negative};
use super::capabilities::{OpenMode, Wishes, negotiate};
use super::counters::{Counters, Operation};
use super::errno::errno;
use super::spin::Spinner;
use crate::fs::{FsError, FsResult, LayerFs};
use crate::union::Ino;
use fuser::{
    AccessFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyXattr, Request,
};
use log::{debug, error};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A number is never used for two objects, so one generation is enough.
const GENERATION: Generation = Generation(0);

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
}

impl Adapter {
    /// Counts and logs a request and makes the call that answers it.
    fn call<T>(&self, operation: Operation, ino: u64, answer: impl FnOnce() -> FsResult<T>) -> Result<T, Errno> {
        self.counters.count(operation);
        match catch_unwind(AssertUnwindSafe(answer)) {
            Ok(Ok(value)) => {
                debug!("{operation:?} {ino:#x}: ok");
                Ok(value)
            }
            Ok(Err(failure)) => {
                debug!("{operation:?} {ino:#x}: {failure}");
                Err(errno(&failure))
            }
            Err(_) => {
                error!("{operation:?} {ino:#x}: a defect of layerfs, answered with EIO");
                Err(Errno::EIO)
            }
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
        self.open_mode = negotiate(config, self.wishes);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.call(Operation::Lookup, parent.0, || self.fs.lookup(Ino(parent.0), name.as_bytes())) {
            Ok(Some(attr)) => reply.entry(&FOREVER, &file_attr(&attr), GENERATION),
            Ok(None) => reply.entry(&FOREVER, &negative(), GENERATION),
            Err(errno) => reply.error(errno),
        }
        self.spinner.wait();
    }

    fn forget(&self, _request: &Request, ino: INodeNo, lookups: u64) {
        self.counters.count(Operation::Forget);
        self.fs.forget(Ino(ino.0), lookups);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.call(Operation::Getattr, ino.0, || self.fs.getattr(Ino(ino.0))) {
            Ok(attr) => reply.attr(&FOREVER, &file_attr(&attr)),
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
            match self.call(Operation::Read, ino.0, || self.fs.read(Ino(ino.0), offset, wanted)) {
                Ok(length) => reply.data(wanted.get(..length).unwrap_or_default()),
                Err(errno) => reply.error(errno),
            }
        });
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
                full(reply.add(number, entry.next, name, &FOREVER, &file_attr(attr), GENERATION))
            })
        });
        match answer {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
        self.spinner.wait();
    }

    fn statfs(&self, _request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.call(Operation::Statfs, ino.0, || Ok(self.fs.statfs())) {
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

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.call(Operation::Listxattr, ino.0, || self.fs.listxattr(Ino(ino.0))) {
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

/// Answers with the size when nothing else is asked for, with the value when it fits.
fn reply_xattr(reply: ReplyXattr, value: &[u8], size: u32) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}
