//! Who the processes of the container pretend to be.
//!
//! Owns the rules of setuid(2) and its family, as credentials(7) has them, and the book of processes that are somebody else than the
//! command was at its start. A process not in the book is what its parent was when it was started.

use crate::sandbox::spec::User;
use rustix::io::{Errno, Result};
use std::collections::HashMap;

/// The numbers of a process. Privileged is who has the effective user 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: Ids,
    pub(super) group: Ids,
    pub(super) groups: Vec<u32>,
}

/// Real, effective, saved and file system number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) file_system: u32,
}

impl Ids {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, file_system: id }
    }

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setuid(2), setgid(2).
    pub(super) fn set(&mut self, id: u32, privileged: bool) -> Result<()> {
        if privileged {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            self.effective = id;
            self.file_system = id;
        } else {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// setreuid(2), setregid(2); `None` leaves a number.
    pub(super) fn set_real_effective(
        &mut self,
        real: Option<u32>,
        effective: Option<u32>,
        privileged: bool,
    ) -> Result<()> {
        let old = *self;
        let allowed_real = real.is_none_or(|id| id == old.real || id == old.effective);
        let allowed_effective = effective.is_none_or(|id| old.has(id));
        if !(privileged || allowed_real && allowed_effective) {
            return Err(Errno::PERM);
        }
        self.real = real.unwrap_or(old.real);
        self.effective = effective.unwrap_or(old.effective);
        if real.is_some() || effective.is_some_and(|id| id != old.real) {
            self.saved = self.effective;
        }
        self.file_system = self.effective;
        Ok(())
    }

    /// setresuid(2), setresgid(2); `None` leaves a number.
    pub(super) fn set_three(&mut self, [real, effective, saved]: [Option<u32>; 3], privileged: bool) -> Result<()> {
        let old = *self;
        if !privileged && [real, effective, saved].into_iter().flatten().any(|id| !old.has(id)) {
            return Err(Errno::PERM);
        }
        self.real = real.unwrap_or(old.real);
        self.effective = effective.unwrap_or(old.effective);
        self.saved = saved.unwrap_or(old.saved);
        self.file_system = self.effective;
        Ok(())
    }

    /// setfsuid(2), setfsgid(2): returns the number before, and fails silently.
    pub(super) fn set_file_system(&mut self, id: u32, privileged: bool) -> u32 {
        let before = self.file_system;
        if privileged || self.has(id) || id == before {
            self.file_system = id;
        }
        before
    }
}

impl Credentials {
    pub(super) fn of(user: &User) -> Self {
        Self { user: Ids::all(user.uid), group: Ids::all(user.gid), groups: user.groups.clone() }
    }

    pub(super) fn privileged(&self) -> bool {
        self.user.effective == 0
    }

    /// The owner of what this process makes.
    pub(super) fn file_owner(&self) -> (u32, u32) {
        (self.user.file_system, self.group.file_system)
    }

    pub(super) fn in_group(&self, gid: u32) -> bool {
        self.group.file_system == gid || self.groups.contains(&gid)
    }
}

/// One process in the book.
#[derive(Debug)]
struct Entry {
    /// When the process was started, in ticks since boot: tells it from a later one of the same number.
    started: u64,
    now: Credentials,
    /// What it was before its last change, and when that was: what children from before the change have inherited.
    before: Credentials,
    changed: u64,
}

/// Where /proc tells about processes; replaced in tests.
pub(super) trait Processes {
    /// The process of a thread, its parent and its start.
    fn about(&self, thread: i32) -> Option<About>;
    /// Ticks since boot.
    fn now(&self) -> u64;
}

/// What the kernel says of a thread's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct About {
    pub(super) process: i32,
    pub(super) parent: i32,
    pub(super) started: u64,
}

/// The processes that are not what the command was at its start.
#[derive(Debug)]
pub(super) struct Book {
    initial: Credentials,
    entries: HashMap<i32, Entry>,
}

impl Book {
    pub(super) fn new(initial: Credentials) -> Self {
        Self { initial, entries: HashMap::new() }
    }

    /// Who the process of `thread` pretends to be. As long as nobody has changed, nobody has to be asked.
    pub(super) fn look_up(&mut self, thread: i32, processes: &impl Processes) -> Credentials {
        if self.entries.is_empty() {
            return self.initial.clone();
        }
        let Some(about) = processes.about(thread) else { return self.initial.clone() };
        self.inherit(about, processes, 0)
    }

    fn inherit(&mut self, about: About, processes: &impl Processes, depth: usize) -> Credentials {
        if let Some(entry) = self.entries.get(&about.process) {
            if entry.started == about.started {
                return entry.now.clone();
            }
            self.entries.remove(&about.process);
        }
        // A chain of ancestors cannot be longer than there are processes; a race with reparenting must not make it endless.
        let parent = (depth < 4096 && about.parent > 1).then(|| processes.about(about.parent)).flatten();
        let Some(parent) = parent else { return self.initial.clone() };
        let now = self.inherit(parent, processes, depth + 1);
        let inherited = match self.entries.get(&parent.process) {
            Some(entry) if about.started < entry.changed => entry.before.clone(),
            _ => now,
        };
        if inherited != self.initial {
            // Remembered, since the parent may change or end before the process is seen again.
            let entry = Entry { started: about.started, now: inherited.clone(), before: inherited.clone(), changed: 0 };
            self.entries.insert(about.process, entry);
        }
        inherited
    }

    /// Notes what the process of `thread` is from now on.
    pub(super) fn change(&mut self, thread: i32, before: Credentials, now: Credentials, processes: &impl Processes) {
        if before == now {
            return;
        }
        let Some(About { process, started, .. }) = processes.about(thread) else { return };
        self.entries.retain(|known, entry| processes.about(*known).is_some_and(|about| about.started == entry.started));
        self.entries.insert(process, Entry { started, now, before, changed: processes.now() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes: number, parent, start.
    struct Table(Vec<(i32, i32, u64)>, u64);

    impl Processes for Table {
        fn about(&self, thread: i32) -> Option<About> {
            let found = self.0.iter().find(|(number, ..)| *number == thread)?;
            Some(About { process: found.0, parent: found.1, started: found.2 })
        }

        fn now(&self) -> u64 {
            self.1
        }
    }

    fn root() -> Credentials {
        Credentials::of(&User::default())
    }

    fn user(uid: u32) -> Credentials {
        Credentials::of(&User { uid, gid: uid, groups: Vec::new() })
    }

    #[test]
    fn children_inherit_what_the_parent_was_when_they_were_started() {
        let table = Table(vec![(10, 1, 5), (11, 10, 50), (12, 10, 500), (13, 12, 600)], 100);
        let mut book = Book::new(root());
        book.change(10, root(), user(33), &table);
        assert_eq!(book.look_up(10, &table), user(33));
        assert_eq!(book.look_up(11, &table), root(), "started before the change");
        assert_eq!(book.look_up(13, &table), user(33), "through a parent never seen");
    }

    #[test]
    fn a_number_used_again_is_somebody_else() {
        let mut table = Table(vec![(10, 1, 5)], 100);
        let mut book = Book::new(root());
        book.change(10, root(), user(33), &table);
        table.0 = vec![(10, 1, 900)];
        assert_eq!(book.look_up(10, &table), root());
    }

    #[test]
    fn a_user_cannot_become_root_again() {
        let mut ids = Ids::all(0);
        ids.set_three([Some(33), Some(33), Some(33)], true).expect("root may");
        assert_eq!(ids.set(0, false), Err(Errno::PERM));
        assert_eq!(ids.set_three([None, Some(0), None], false), Err(Errno::PERM));
        assert_eq!(ids.set_file_system(0, false), 33);
        assert_eq!(ids, Ids::all(33));
    }

    #[test]
    fn a_saved_number_allows_the_way_back() {
        let mut ids = Ids::all(0);
        ids.set_real_effective(None, Some(33), true).expect("root may");
        assert_eq!((ids.real, ids.effective, ids.saved), (0, 33, 33));
        ids = Ids::all(0);
        ids.set_three([None, Some(33), None], true).expect("root may");
        assert_eq!(ids.saved, 0);
        ids.set(0, false).expect("saved");
        assert_eq!(ids.effective, 0);
    }
}
