//! Where an object lies, and the one number that says so in a mount.

use super::LocalIno;

/// Bits of an [`Ino`] that hold the number inside the layer.
const LOCAL_BITS: u32 = 48;
const LOCAL_MASK: u64 = (1 << LOCAL_BITS) - 1;
/// Bits above them that hold the lower layer, of which a stack has 500 at the most; the generation lies above these.
const LAYER_BITS: u32 = 9;
const LAYER_MASK: u16 = (1 << LAYER_BITS) - 1;

/// The position of a layer in a stack: 0 is the bottom layer, [`LayerIndex::UPPER`] the writable one on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerIndex(u16);

impl LayerIndex {
    /// The writable layer, whatever the number of layers below it.
    pub const UPPER: Self = Self(u16::MAX - 1);

    /// The lower layer number `index`, counted from the bottom; none beyond what an [`Ino`] can hold.
    pub fn lower(index: usize) -> Option<Self> {
        u16::try_from(index).ok().map(Self).filter(|&index| index < Self::UPPER)
    }

    /// The number of a lower layer, counted from the bottom; none for the writable one.
    pub fn as_lower(self) -> Option<usize> {
        (self != Self::UPPER).then_some(usize::from(self.0))
    }
}

/// An object of a stack: its layer and its inode there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The layer.
    pub layer: LayerIndex,
    /// The inode in that layer.
    pub ino: LocalIno,
}

/// An inode number of a mount: `(layer + 1) << 48 | local inode` of the topmost source, and 1 for the root.
///
/// Nothing has to be remembered to get from the number to the object, and the number is the same in every mount of
/// the same layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount.
    pub const ROOT: Self = Self(1);

    /// The number of `source`.
    pub fn of(source: Source) -> Self {
        Self((u64::from(source.layer.0) + 1) << LOCAL_BITS | (source.ino.0 & LOCAL_MASK))
    }

    /// Where the object lies; none for the root, which lies in all layers, and for numbers that nothing has.
    pub fn source(self) -> Option<Source> {
        let ino = LocalIno(self.0 & LOCAL_MASK);
        let layer = match u16::try_from(self.0 >> LOCAL_BITS).ok()? {
            u16::MAX => LayerIndex::UPPER,
            layer => LayerIndex((layer & LAYER_MASK).checked_sub(1)?),
        };
        Some(Source { layer, ino })
    }

    /// How many generations there are, the first one, which is no other, included.
    pub const GENERATIONS: u8 = 127;

    /// Another number of the same object of a lower layer, for where the mount shows it as one more object than the layer has: in
    /// a second place that changes by itself, or beside an object that has its number. Below [`Self::GENERATIONS`]; others, and
    /// numbers of the upper, change nothing.
    #[must_use]
    pub fn in_generation(self, generation: u8) -> Self {
        if self.is_upper() || generation >= Self::GENERATIONS {
            return self;
        }
        let plain = self.0 & (u64::from(LAYER_MASK) << LOCAL_BITS | LOCAL_MASK);
        Self(plain | u64::from(generation) << (LOCAL_BITS + LAYER_BITS))
    }

    /// Which of the numbers of its object it is: 0 but for those made by [`Self::in_generation`].
    pub fn generation(self) -> u8 {
        if self.is_upper() { 0 } else { (self.0 >> (LOCAL_BITS + LAYER_BITS)) as u8 }
    }

    fn is_upper(self) -> bool {
        self.0 >> LOCAL_BITS == u64::from(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_their_source() {
        for (layer, local) in [(0, 0), (0, 1), (7, LOCAL_MASK), (499, 12)] {
            let source = Source { layer: LayerIndex::lower(layer).unwrap(), ino: LocalIno(local) };
            assert_eq!(Ino::of(source).source(), Some(source));
            assert_ne!(Ino::of(source), Ino::ROOT);
            for generation in [0, 1, Ino::GENERATIONS - 1] {
                let other = Ino::of(source).in_generation(generation);
                assert_eq!((other.source(), other.generation()), (Some(source), generation));
                assert_eq!(other == Ino::of(source), generation == 0);
                assert_eq!(other.in_generation(0), Ino::of(source));
            }
        }
        let upper = Source { layer: LayerIndex::UPPER, ino: LocalIno(5) };
        assert_eq!(Ino::of(upper).0, 0xffff << 48 | 5);
        assert_eq!(Ino::of(upper).source(), Some(upper));
        assert_eq!((Ino::of(upper).in_generation(3), Ino::of(upper).generation()), (Ino::of(upper), 0));
        assert_eq!(Ino::ROOT.source(), None);
        assert_eq!(LayerIndex::lower(0xfffe), None);
    }
}
