//! What is agreed upon with the kernel when a session begins.

use super::kernel::KernelVersion;
use fuser::{InitFlags, KernelConfig};
use log::{debug, info};

/// Whether the kernel asks about opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// OPEN, FLUSH and RELEASE are never sent: reads go by inode. Halves the cost of a small file, and more.
    ZeroMessage,
    /// Each open is asked about; what is cached stays cached. For kernels where the other can deadlock.
    Answered,
}

impl OpenMode {
    /// The better mode that is safe on the running kernel.
    pub fn for_running_kernel() -> Self {
        match KernelVersion::running() {
            Some(version) if version.zero_message_opens_can_deadlock() => {
                info!("kernel {version} can deadlock with zero-message opens: answering each open instead");
                Self::Answered
            }
            _ => Self::ZeroMessage,
        }
    }
}

/// Every feature that makes a mount faster or more right, asked for one by one: a set with one unknown bit is refused
/// as a whole. Not asked for: `ATOMIC_O_TRUNC` (would reach nobody without opens), the lock bits (the kernel's local locks
/// work), `SETXATTR_EXT` and `OVER_IO_URING` (the protocol library misreads the one and hangs with the other), `READDIRPLUS_AUTO`:
/// the attributes of an entry cost one system call where it lies on disk and none in a table of contents, but a request, twenty
/// times as much, when they are asked for later; and who lists nearly always asks for them.
const WANTED: &[InitFlags] = &[
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_SPLICE_READ,
];

/// What a writable mount asks for besides: writes gathered in the page cache; the umask left to the file system that also
/// knows the default ACLs; setuid and setgid taken away by the server, or each write would first ask for capabilities.
const WANTED_TO_WRITE: &[InitFlags] =
    &[InitFlags::FUSE_WRITEBACK_CACHE, InitFlags::FUSE_DONT_MASK, InitFlags::FUSE_HANDLE_KILLPRIV_V2];

/// Requests that the kernel may have under way for read-ahead.
const MAX_BACKGROUND: u16 = 64;

/// The largest read or write, in bytes: 256 pages, the most that kernels before 6.13 take.
pub(super) const MAX_TRANSFER: u32 = 1 << 20;

/// What a mount wants of the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    pub(super) open_mode: OpenMode,
    /// The kernel checks ACLs; it then checks permissions too.
    pub(super) acl: bool,
    /// Changes are taken.
    pub(super) writable: bool,
    /// Writes may be gathered.
    pub(super) writeback: bool,
}

/// What was agreed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreed {
    /// How opens are answered after all.
    pub(super) open_mode: OpenMode,
    /// Writes are gathered: the kernel keeps the times of changes.
    pub(super) writeback: bool,
}

/// Agrees on what both sides can do.
pub(super) fn negotiate(config: &mut KernelConfig, wishes: Wishes) -> Agreed {
    let mut writeback = false;
    for &capability in WANTED {
        ask(config, capability);
    }
    for &capability in WANTED_TO_WRITE.iter().filter(|_| wishes.writable) {
        if wishes.writeback || capability != InitFlags::FUSE_WRITEBACK_CACHE {
            let granted = ask(config, capability);
            writeback |= granted && capability == InitFlags::FUSE_WRITEBACK_CACHE;
        }
    }
    if wishes.acl {
        ask(config, InitFlags::FUSE_POSIX_ACL);
    }
    // Each of these answers with the nearest possible value when it refuses.
    if let Err(nearest) = config.set_max_write(MAX_TRANSFER) {
        debug!("largest write is {nearest}");
    }
    if let Err(nearest) = config.set_max_readahead(MAX_TRANSFER)
        && config.set_max_readahead(nearest).is_err()
    {
        debug!("read-ahead stays as the kernel has it");
    }
    if config.set_max_background(MAX_BACKGROUND).is_err() {
        debug!("background requests stay as the kernel has them");
    }
    let supported = config.capabilities().contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
    Agreed { open_mode: if supported { wishes.open_mode } else { OpenMode::Answered }, writeback }
}

/// Asks for `capability`; returns whether the kernel has it.
fn ask(config: &mut KernelConfig, capability: InitFlags) -> bool {
    let granted = config.add_capabilities(capability).is_ok();
    if !granted {
        debug!("the kernel does not have {capability:?}");
    }
    granted
}
