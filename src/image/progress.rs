//! Telling how far something is.

/// Someone who wants to know how far the layers are.
pub trait Progress: Sync {
    /// A layer begins: what it is called, and how many bytes will be read of it where that is known.
    fn layer(&self, label: &str, size: Option<u64>) -> Box<dyn LayerProgress>;
}

/// One layer's progress; dropped when it is through.
pub trait LayerProgress: Send {
    /// More bytes were read.
    fn advance(&self, bytes: u64);
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn layer(&self, _label: &str, _size: Option<u64>) -> Box<dyn LayerProgress> {
        Box::new(Self)
    }
}

impl LayerProgress for NoProgress {
    fn advance(&self, _bytes: u64) {}
}
