//! What `ls` leaves out: tests of find(1) with find's meaning.

use crate::cli::printable;
use crate::model::{FileKind, Meta, Timestamp};
use crate::union::Stack;
use anyhow::Context;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

/// The tests.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Tests {
    /// Only what was modified after TIME: 2026-01-31, "2026-01-31 12:00" (UTC), 2026-01-31T12:00:00+01:00, @SECONDS, "3 days ago", or
    /// /PATH for the time of something in the image; as find's -newermt and -newer
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    newer: Option<Moment>,
    /// Only what has this size in units, rounded up, as find's -size: [+-]N[cwbkMG]; + for more, - for less; c bytes, k KiB, M MiB,
    /// G GiB, w 2 bytes, b or nothing blocks of 512
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_hyphen_values = true)]
    size: Option<SizeTest>,
    /// Only objects of these types, as find's -type: f, d, l, c, b, p, s, several joined by commas
    #[arg(long = "type", value_name = "TYPES", value_parser = parse_kinds)]
    kinds: Option<Kinds>,
}

/// A point in time, or something whose time is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moment {
    At(Timestamp),
    Of(String),
}

/// A comparison of a size in units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SizeTest {
    comparison: std::cmp::Ordering,
    units: u64,
    unit: u64,
}

/// Types that are let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kinds(Vec<FileKind>);

impl Tests {
    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        self.newer.is_some() || self.size.is_some() || self.kinds.is_some()
    }

    /// The tests with what they refer to in the image looked up.
    pub(super) fn in_image(&self, stack: &Stack) -> anyhow::Result<Filter> {
        let newer = match &self.newer {
            None => None,
            Some(Moment::At(time)) => Some(*time),
            Some(Moment::Of(path)) => {
                let node = stack.resolve_following(path.as_bytes(), true)?;
                let node = node.with_context(|| format!("--newer {}: not in the image", printable(path.as_bytes())))?;
                Some(crate::diff::meta(stack, &node)?.mtime)
            }
        };
        Ok(Filter { newer, size: self.size, kinds: self.kinds.clone() })
    }
}

/// Tests as they apply to one image.
#[derive(Debug)]
pub(super) struct Filter {
    newer: Option<Timestamp>,
    size: Option<SizeTest>,
    kinds: Option<Kinds>,
}

impl Filter {
    /// Whether an object passes.
    pub(super) fn passes(&self, kind: FileKind, meta: &Meta) -> bool {
        self.newer.is_none_or(|time| meta.mtime > time)
            && self.size.is_none_or(|size| size.passes(meta.size))
            && self.kinds.as_ref().is_none_or(|kinds| kinds.0.contains(&kind))
    }
}

impl SizeTest {
    fn passes(self, bytes: u64) -> bool {
        bytes.div_ceil(self.unit).cmp(&self.units) == self.comparison
    }
}

fn parse_size(text: &str) -> Result<SizeTest, String> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (comparison, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (Greater, rest),
        Some(("-", rest)) => (Less, rest),
        _ => (Equal, text),
    };
    let digits = rest.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = match rest.get(digits.len()..).unwrap_or_default() {
        "c" => 1,
        "w" => 2,
        "" | "b" => 512,
        "k" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err("expected a unit of c, w, b, k, M or G".to_owned()),
    };
    let units = digits.parse().map_err(|_| "expected a number such as +10M or -4k".to_owned())?;
    Ok(SizeTest { comparison, units, unit })
}

fn parse_kinds(text: &str) -> Result<Kinds, String> {
    let kind = |letter: &str| {
        Ok(match letter {
            "f" => FileKind::File,
            "d" => FileKind::Directory,
            "l" => FileKind::Symlink,
            "c" => FileKind::CharDevice,
            "b" => FileKind::BlockDevice,
            "p" => FileKind::Fifo,
            "s" => FileKind::Socket,
            _ => return Err(format!("{letter:?} is none of f, d, l, c, b, p, s")),
        })
    };
    text.split(',').map(kind).collect::<Result<_, _>>().map(Kinds)
}

fn parse_moment(text: &str) -> Result<Moment, String> {
    if text.starts_with('/') {
        return Ok(Moment::Of(text.to_owned()));
    }
    let at =
        |time: OffsetDateTime| Moment::At(Timestamp { seconds: time.unix_timestamp(), nanoseconds: time.nanosecond() });
    if let Some(time) = seconds(text).or_else(|| ago(text)).or_else(|| written(text)) {
        return Ok(at(time));
    }
    Err("expected a time such as 2026-01-31, \"2026-01-31 12:00\", @1700000000, \"3 days ago\" or /PATH".to_owned())
}

fn seconds(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(text.strip_prefix('@')?.parse().ok()?).ok()
}

fn ago(text: &str) -> Option<OffsetDateTime> {
    let mut words = text.split_whitespace();
    let (number, unit, ago) = (words.next()?, words.next()?, words.next()?);
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        "week" => 7 * 86_400,
        _ => return None,
    };
    let seconds =
        number.parse::<u32>().ok()?.checked_mul(seconds).filter(|_| ago == "ago" && words.next().is_none())?;
    OffsetDateTime::now_utc().checked_sub(time::Duration::seconds(seconds.into()))
}

fn written(text: &str) -> Option<OffsetDateTime> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok();
    let minute = PrimitiveDateTime::parse(text, format_description!("[year]-[month]-[day] [hour]:[minute]")).ok();
    let second =
        PrimitiveDateTime::parse(text, format_description!("[year]-[month]-[day] [hour]:[minute]:[second]")).ok();
    let whole = date.map(Date::midnight).or(minute).or(second).map(PrimitiveDateTime::assume_utc);
    whole.or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_compared_as_find_does() {
        let cases = [
            ("1", 1, true),
            ("1", 0, false),
            ("0", 0, true),
            ("1", 513, false),
            ("2", 513, true),
            ("-1M", 0, true),
            ("-1M", 1, false),
            ("+1k", 1024, false),
            ("+1k", 1025, true),
            ("10c", 10, true),
            ("+10c", 10, false),
            ("-2w", 2, true),
            ("1G", 1 << 30, true),
        ];
        for (text, bytes, passes) in cases {
            assert_eq!(parse_size(text).unwrap().passes(bytes), passes, "{text} {bytes}");
        }
        for wrong in ["", "+", "x", "1T", "M", "--1", "1 k"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read() {
        let seconds = |text: &str| match parse_moment(text) {
            Ok(Moment::At(time)) => Some(time.seconds),
            _ => None,
        };
        assert_eq!(seconds("1970-01-02"), Some(86_400));
        assert_eq!(seconds("1970-01-01 01:00"), Some(3600));
        assert_eq!(seconds("1970-01-01 01:00:01"), Some(3601));
        assert_eq!(seconds("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(seconds("@-5"), Some(-5));
        assert!(seconds("2 days ago") < seconds("47 hours ago"));
        assert_eq!(parse_moment("/etc/x"), Ok(Moment::Of("/etc/x".to_owned())));
        for wrong in ["", "yesterday-ish", "3 days", "3 moons ago", "@x", "1970-13-01"] {
            assert!(parse_moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn types_are_read() {
        assert_eq!(parse_kinds("f,l"), Ok(Kinds(vec![FileKind::File, FileKind::Symlink])));
        assert!(parse_kinds("x").is_err() && parse_kinds("").is_err());
    }
}
