//! Content digests.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// The digest of a blob: SHA-256, the one algorithm that every registry and tool writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// Not `algorithm:hex`.
    #[error("invalid checksum digest format: {0:?}")]
    Format(String),
    /// The hexadecimal part has another length than 64.
    #[error("invalid checksum digest length: {0:?}")]
    Length(String),
    /// A valid digest of an algorithm other than SHA-256.
    #[error("unsupported digest algorithm {0:?}: only sha256 is supported")]
    Algorithm(String),
}

/// Content that is not what its descriptor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The bytes hash to something else.
    #[error("digest mismatch: expected {expected}, the content has {actual}")]
    Digest {
        /// What the descriptor says.
        expected: Digest,
        /// What the bytes give.
        actual: Digest,
    },
    /// There are more or fewer bytes.
    #[error("size mismatch for {digest}: expected {expected} bytes, the content has {actual}")]
    Size {
        /// The blob.
        digest: Digest,
        /// What the descriptor says, in bytes.
        expected: u64,
        /// How many bytes there are.
        actual: u64,
    },
}

impl Mismatch {
    /// The digest of what was expected.
    pub fn expected(&self) -> &Digest {
        match self {
            Self::Digest { expected: digest, .. } | Self::Size { digest, .. } => digest,
        }
    }
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest whose bytes are `bytes`.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits, without the algorithm: the name of the blob's file.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// The first twelve digits, as listings show them.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }

    /// Parses 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Result<Self, InvalidDigest> {
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidDigest::Format(hex.to_owned()));
        }
        let value = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
        let mut bytes = [0; 32];
        if hex.len() != 64 {
            return Err(InvalidDigest::Length(hex.to_owned()));
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            if let [high, low] = pair {
                *byte = value(*high) << 4 | value(*low);
            }
        }
        Ok(Self(bytes))
    }

    /// Fails unless `bytes` are what this digest and `size` promise.
    pub fn verify(&self, size: u64, bytes: &[u8]) -> Result<(), Mismatch> {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.verify(self, Some(size)).map(|_| ())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(InvalidDigest::Format(text.to_owned()));
        };
        let valid = algorithm
            .split(['+', '.', '_', '-'])
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        if !valid || hex.is_empty() {
            return Err(InvalidDigest::Format(text.to_owned()));
        }
        if algorithm != "sha256" {
            return Err(InvalidDigest::Algorithm(algorithm.to_owned()));
        }
        Self::from_hex(hex).map_err(|error| match error {
            InvalidDigest::Length(_) => InvalidDigest::Length(text.to_owned()),
            _ => InvalidDigest::Format(text.to_owned()),
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Hashes a stream and counts its bytes.
#[derive(Clone, Default)]
pub struct Hasher {
    state: Sha256,
    size: u64,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// How many bytes were taken in.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Digest and size in bytes of what was taken in.
    pub fn finish(self) -> (Digest, u64) {
        (Digest(self.state.finalize().into()), self.size)
    }

    /// As [`Self::finish`], but fails when the result is not what was `expected`. The size is told first: it is the
    /// likelier cause of both.
    pub fn verify(self, expected: &Digest, size: Option<u64>) -> Result<(Digest, u64), Mismatch> {
        let (actual, length) = self.finish();
        if let Some(size) = size.filter(|&size| size != length) {
            return Err(Mismatch::Size { digest: *expected, expected: size, actual: length });
        }
        if actual != *expected {
            return Err(Mismatch::Digest { expected: *expected, actual });
        }
        Ok((actual, length))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_are_read_as_they_are_written() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
        let json = serde_json::to_string(&Digest::of(b"")).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), Digest::of(b""));
    }

    #[test]
    fn what_is_no_digest_is_told_apart() {
        let parse = |text: &str| text.parse::<Digest>().unwrap_err();
        assert!(matches!(parse("abc"), InvalidDigest::Format(_)));
        assert!(matches!(parse("sha256:"), InvalidDigest::Format(_)));
        assert!(matches!(parse("sha256:abc"), InvalidDigest::Length(_)));
        assert!(matches!(parse(&EMPTY.to_uppercase().replace("SHA", "sha")), InvalidDigest::Format(_)));
        assert!(matches!(parse(&format!("sha512:{}", "0".repeat(128))), InvalidDigest::Algorithm(_)));
        assert!(matches!(parse("../x:00"), InvalidDigest::Format(_)));
    }

    #[test]
    fn a_stream_is_verified_by_size_and_digest() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.verify(3, b"abc"), Ok(()));
        assert!(matches!(digest.verify(4, b"abc"), Err(Mismatch::Size { actual: 3, .. })));
        assert!(matches!(digest.verify(3, b"abd"), Err(Mismatch::Digest { .. })));
    }
}
