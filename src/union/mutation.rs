//! Which steps on the upper a mutation of the union takes.
//!
//! Pure: from what stands under the names involved to a list of [`Step`]s. The order of the steps is the order of the
//! guarantees: whatever happens between two of them, the union shows the old or the new state of the operation, or, where a
//! file system cannot do better, both names of one object; never something that was deleted.
//!
//! The rules are those of the kernel (fs/overlayfs/dir.c), so that it reads the result back:
//!
//! 1. A whiteout is written only where something below would show through.
//! 2. A directory made or moved to where something was deleted or is hidden is opaque.
//! 3. A directory that lies in lower layers too is found under its new name by a redirect.

/// What the upper has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUpper {
    /// Nothing.
    Nothing,
    /// A whiteout.
    Whiteout,
    /// An object.
    Object,
}

/// What lower layers would show under a name if the upper had nothing there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// Nothing.
    Nothing,
    /// A directory, which would merge with one above.
    Directory,
    /// Something else.
    Other,
}

/// A name of a directory of the union.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// What the upper has there.
    pub upper: InUpper,
    /// What lower layers have there.
    pub below: Below,
}

impl Spot {
    /// A name in a directory that no lower layer has, with nothing there.
    pub const EMPTY: Self = Self { upper: InUpper::Nothing, below: Below::Nothing };

    /// Whether the name would be seen if the upper's object went.
    fn shows_through(self) -> bool {
        self.below != Below::Nothing
    }
}

/// Which of the two names of a mutation a step is about; mutations of one name call it the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The old name.
    Source,
    /// The new, or only, name.
    Target,
}

/// How the object at the source gets to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// `rename(2)`: what was at the target is gone.
    Replace,
    /// The two change places (`RENAME_EXCHANGE`).
    Exchange,
    /// As `Replace`, and a whiteout stands at the source from the same instant on (`RENAME_WHITEOUT`).
    LeaveWhiteout,
}

/// One atomic change of the upper, or one that nobody sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The new object appears at the target, where the upper has nothing.
    Publish,
    /// The new object takes the place of the whiteout at the target.
    PublishOverWhiteout {
        /// It is a directory that hides what lies below.
        opaque: bool,
    },
    /// The object of the upper at the target goes to the workdir.
    Detach,
    /// The same, and a whiteout stands in its place from the same instant on.
    DetachLeavingWhiteout,
    /// A whiteout appears at the target, where the upper has nothing.
    Whiteout,
    /// The whiteout at the side goes.
    RemoveWhiteout(Side),
    /// The directory at the side hides what lies below its name.
    MarkOpaque(Side),
    /// The directory at the side remembers where lower layers have it.
    MarkRedirect(Side),
    /// The file at the target, about to be replaced, gets a name in the workdir, so that it lives on for those who
    /// have it open.
    KeepAside,
    /// The directory at the target, empty in the union, goes to the workdir; an empty opaque one takes its place.
    ReplaceByEmpty,
    /// The object at the source moves to the target.
    Move(Move),
}

/// The steps that make a new object, or a further link to one, under a free name.
pub fn create(target: Spot, is_directory: bool) -> Vec<Step> {
    match target.upper {
        InUpper::Whiteout => vec![Step::PublishOverWhiteout { opaque: is_directory }],
        InUpper::Nothing | InUpper::Object => vec![Step::Publish],
    }
}

/// The steps that remove a name: of a file, or of a directory that is empty in the union.
pub fn remove(target: Spot) -> Vec<Step> {
    match (target.upper, target.shows_through()) {
        (InUpper::Object, true) => vec![Step::DetachLeavingWhiteout],
        (InUpper::Object, false) => vec![Step::Detach],
        (InUpper::Nothing, true) => vec![Step::Whiteout],
        (InUpper::Nothing, false) | (InUpper::Whiteout, _) => Vec::new(),
    }
}

/// What is renamed. It has been copied up: the upper has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// No directory.
    File,
    /// A directory that only the upper has.
    PureDirectory,
    /// A directory that lower layers have too.
    MergedDirectory,
}

impl Moved {
    fn is_directory(self) -> bool {
        self != Self::File
    }

    /// What the directory at `side` must say to be the same at a name where `there` is.
    fn mark(self, side: Side, there: Spot) -> Option<Step> {
        match self {
            Self::MergedDirectory => Some(Step::MarkRedirect(side)),
            Self::PureDirectory if there.below == Below::Directory => Some(Step::MarkOpaque(side)),
            Self::PureDirectory | Self::File => None,
        }
    }
}

/// What a rename replaces: the object that the union shows at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// Nothing.
    Nothing,
    /// No directory.
    File,
    /// An empty directory.
    Directory,
}

/// The steps that rename `moved` from `source` to `target`, where the union shows `replaced`.
pub fn rename(moved: Moved, source: Spot, target: Spot, replaced: Replaced) -> Vec<Step> {
    let mut steps = Vec::new();
    if target.upper == InUpper::Object {
        match replaced {
            Replaced::Directory => steps.push(Step::ReplaceByEmpty),
            Replaced::File => steps.push(Step::KeepAside),
            Replaced::Nothing => {}
        }
    }
    steps.extend(moved.mark(Side::Source, target));
    match (target.upper, source.shows_through()) {
        (InUpper::Whiteout, true) => steps.push(Step::Move(Move::Exchange)),
        // A directory cannot replace a whiteout, which is none.
        (InUpper::Whiteout, false) if moved.is_directory() => {
            steps.extend([Step::Move(Move::Exchange), Step::RemoveWhiteout(Side::Source)]);
        }
        (_, true) => steps.push(Step::Move(Move::LeaveWhiteout)),
        (_, false) => steps.push(Step::Move(Move::Replace)),
    }
    steps
}

/// The steps that make two objects, both in the upper, change places.
pub fn exchange(left: (Moved, Spot), right: (Moved, Spot)) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(left.0.mark(Side::Source, right.1));
    steps.extend(right.0.mark(Side::Target, left.1));
    steps.push(Step::Move(Move::Exchange));
    steps
}

#[cfg(test)]
#[path = "mutation_tests.rs"]
mod tests;
