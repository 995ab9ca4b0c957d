//! Texts as Go prints them: the history of images is full of them.

use crate::build::dockerfile::Healthcheck;
use std::time::Duration;

/// A string in double quotes with Go's escapes (`%q`).
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            control if control.is_control() && (control as u32) < 0x80 => {
                quoted.extend(format!("\\x{:02x}", control as u32).chars());
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A list of quoted strings (`%q`).
pub(super) fn quoted_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(" "))
}

/// A list (`%v`).
pub(super) fn list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// A duration: `1h2m3.5s`, `300ms`, `0s`.
pub(super) fn duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let decimal = |amount: u128, unit: u128| {
        let fraction = format!("{:0width$}", amount % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let whole = amount / unit;
        if fraction.is_empty() || unit == 1 { whole.to_string() } else { format!("{whole}.{fraction}") }
    };
    match nanoseconds {
        ..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanoseconds, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanoseconds, 1_000_000)),
        _ => {
            let minutes = nanoseconds / 60_000_000_000;
            let seconds = decimal(nanoseconds % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// A health check as a structure (`%+v`).
pub(super) fn healthcheck(healthcheck: &Healthcheck) -> String {
    let zero = Duration::ZERO;
    let none = vec!["NONE".to_owned()];
    let (test, times, retries) = match healthcheck {
        Healthcheck::Disabled => (&none, [zero; 4], 0),
        Healthcheck::Command { test, interval, timeout, start_period, start_interval, retries } => {
            (test, [*interval, *timeout, *start_period, *start_interval], *retries)
        }
    };
    let [interval, timeout, start_period, start_interval] = times.map(duration);
    let test = list(test);
    format!(
        "{{Test:{test} Interval:{interval} Timeout:{timeout} StartPeriod:{start_period} StartInterval:{start_interval} Retries:{retries}}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_prints_them() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (300_000_000, "300ms"),
            (1_000_000_000, "1s"),
            (1_250_000_000, "1.25s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (5_400_500_000_000, "1h30m0.5s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanoseconds)), expected);
        }
    }

    #[test]
    fn strings_as_go_quotes_them() {
        assert_eq!(quote("a \"b\" \\ \n\té\u{1}"), "\"a \\\"b\\\" \\\\ \\n\\té\\x01\"");
        assert_eq!(quoted_list(&["/bin/sh".into(), "-c".into()]), "[\"/bin/sh\" \"-c\"]");
    }
}
