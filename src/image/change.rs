//! Dockerfile instructions that change a configuration: `--change` of `import` and `commit`.

use super::error::{ImageError, ImageResult};
use crate::oci::{ContainerConfig, HealthCheck};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The shell of shell forms, where the image names none (Docker's default).
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Applies one instruction, `CMD ["sh"]`, `ENV A=b`, to a configuration.
///
/// # Errors
/// [`ImageError::Change`] when the instruction is none of those that change a configuration, or makes no sense.
pub fn apply_change(config: &mut ContainerConfig, text: &str) -> ImageResult<()> {
    let invalid = |detail: String| ImageError::Change { text: text.to_owned(), detail };
    let trimmed = text.trim();
    let (name, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
    apply(config, &name.to_ascii_uppercase(), rest.trim()).map_err(invalid)
}

fn apply(config: &mut ContainerConfig, name: &str, rest: &str) -> Result<(), String> {
    if rest.is_empty() && !matches!(name, "CMD" | "ENTRYPOINT") {
        return Err(format!("{name} needs an argument"));
    }
    match name {
        "CMD" => config.cmd = Some(command(config, rest)),
        "ENTRYPOINT" => {
            config.entrypoint = Some(command(config, rest));
            // As in a Dockerfile, a new entry point does not take the arguments of the old one.
            config.cmd = None;
        }
        "ENV" => pairs(rest)?.into_iter().for_each(|(key, value)| set_variable(config, &key, &value)),
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(rest)?),
        "EXPOSE" => expose(config, rest)?,
        "VOLUME" => {
            let paths = json_list(rest).map_or_else(|| words(rest), Ok)?;
            add_keys(&mut config.volumes, paths);
        }
        "USER" => config.user = Some(one_word(name, rest)?),
        "WORKDIR" => config.working_dir = Some(working_dir(config.working_dir.as_deref(), rest)),
        "STOPSIGNAL" => config.stop_signal = Some(one_word(name, rest)?),
        "SHELL" => config.shell = Some(json_list(rest).ok_or("SHELL takes a JSON list")?),
        "HEALTHCHECK" => config.healthcheck = Some(health_check(rest)?),
        "ONBUILD" => config.on_build.get_or_insert_default().push(trigger(rest)?),
        _ => return Err(format!("{name} is not an instruction that changes a configuration")),
    }
    Ok(())
}

/// The exec form as it stands, the shell form behind a shell.
fn command(config: &ContainerConfig, rest: &str) -> Vec<String> {
    if let Some(list) = json_list(rest) {
        return list;
    }
    if rest.is_empty() {
        return Vec::new();
    }
    let mut command = config.shell.clone().unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
    command.push(rest.to_owned());
    command
}

fn json_list(rest: &str) -> Option<Vec<String>> {
    rest.starts_with('[').then(|| serde_json::from_str(rest).ok()).flatten()
}

/// Sets a variable in its place, or appends it.
fn set_variable(config: &mut ContainerConfig, key: &str, value: &str) {
    let env = config.env.get_or_insert_default();
    let entry = format!("{key}={value}");
    match env.iter_mut().find(|other| other.split('=').next() == Some(key)) {
        Some(other) => *other = entry,
        None => env.push(entry),
    }
}

fn expose(config: &mut ContainerConfig, rest: &str) -> Result<(), String> {
    let mut ports = Vec::new();
    for word in words(rest)? {
        let (port, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let number = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
        let valid = port.split('-').all(number) && port.split('-').count() <= 2;
        if !valid || !matches!(protocol.to_ascii_lowercase().as_str(), "tcp" | "udp" | "sctp") {
            return Err(format!("invalid containerPort: {word}"));
        }
        ports.push(format!("{port}/{}", protocol.to_ascii_lowercase()));
    }
    add_keys(&mut config.exposed_ports, ports);
    Ok(())
}

fn add_keys(map: &mut Option<BTreeMap<String, Value>>, keys: Vec<String>) {
    map.get_or_insert_default().extend(keys.into_iter().map(|key| (key, Value::Object(Map::new()))));
}

fn working_dir(old: Option<&str>, new: &str) -> String {
    if new.starts_with('/') {
        return new.to_owned();
    }
    format!("{}/{new}", old.unwrap_or_default().trim_end_matches('/'))
}

fn one_word(name: &str, rest: &str) -> Result<String, String> {
    match words(rest)?.as_slice() {
        [word] => Ok(word.clone()),
        _ => Err(format!("{name} requires exactly one argument")),
    }
}

fn trigger(rest: &str) -> Result<String, String> {
    let name = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match name.as_str() {
        "ONBUILD" => Err("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()),
        "FROM" | "MAINTAINER" => Err(format!("{name} isn't allowed as an ONBUILD trigger")),
        _ => Ok(rest.to_owned()),
    }
}

fn health_check(rest: &str) -> Result<HealthCheck, String> {
    let mut check = HealthCheck::default();
    let mut rest = rest;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).ok_or("HEALTHCHECK needs CMD or NONE")?;
        let (key, value) = option.split_once('=').ok_or_else(|| format!("--{option} needs a value"))?;
        match key {
            "interval" => check.interval = Some(nanoseconds(value)?),
            "timeout" => check.timeout = Some(nanoseconds(value)?),
            "start-period" => check.start_period = Some(nanoseconds(value)?),
            "start-interval" => check.start_interval = Some(nanoseconds(value)?),
            "retries" => check.retries = Some(value.parse().map_err(|_| format!("invalid retries {value:?}"))?),
            _ => return Err(format!("unknown flag: {key}")),
        }
        rest = after.trim_start();
    }
    let (kind, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = Some(match kind.to_ascii_uppercase().as_str() {
        "NONE" => vec!["NONE".to_owned()],
        "CMD" => match json_list(after.trim()) {
            Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
            None if after.trim().is_empty() => return Err("missing command after HEALTHCHECK CMD".to_owned()),
            None => vec!["CMD-SHELL".to_owned(), after.trim().to_owned()],
        },
        _ => return Err(format!("unknown type {kind:?} in HEALTHCHECK (try CMD)")),
    });
    Ok(check)
}

/// A duration as Go writes it, `1m30s`, in nanoseconds.
fn nanoseconds(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration {text:?}");
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let factor = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        total += number.parse::<f64>().map_err(|_| invalid())? * factor;
        rest = after;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(total as i64) }
}

/// `KEY=VALUE …` with quotes and backslashes, or the old `KEY VALUE`.
fn pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let first = rest.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) =
            rest.split_once(char::is_whitespace).ok_or_else(|| format!("{rest} must have two arguments"))?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("can't find = in {word:?}: must be of the form name=value")),
    };
    words(rest)?.into_iter().map(pair).collect()
}

/// Words separated by blanks; quotes keep blanks, a backslash keeps the next character.
fn words(rest: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = rest.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(characters.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("unexpected end of statement while looking for matching quote".to_owned());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> ContainerConfig {
        let mut config = ContainerConfig::default();
        for change in changes {
            apply_change(&mut config, change).unwrap_or_else(|error| panic!("{change}: {error}"));
        }
        config
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = changed(&[
            r#"CMD ["a", "b c"]"#,
            r#"ENV A=1 B="2 3" C=x\ y"#,
            "env A 4 5",
            "LABEL k=v 'l m'=n",
            "EXPOSE 80 53/UDP 8000-8010",
            "VOLUME /a /b",
            r#"VOLUME ["/c"]"#,
            "USER me:us",
            "WORKDIR /w",
            "WORKDIR x",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl x",
        ]);
        assert_eq!(config.cmd, Some(vec!["a".to_owned(), "b c".to_owned()]));
        assert_eq!(config.env, Some(["A=4 5", "B=2 3", "C=x y"].map(str::to_owned).to_vec()));
        assert_eq!(config.labels.unwrap().get("l m").map(String::as_str), Some("n"));
        let keys = |map: Option<BTreeMap<String, Value>>| map.unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(keys(config.exposed_ports), ["53/udp", "80/tcp", "8000-8010/tcp"]);
        assert_eq!(keys(config.volumes), ["/a", "/b", "/c"]);
        assert_eq!(config.working_dir.as_deref(), Some("/w/x"));
        let check = config.healthcheck.unwrap();
        assert_eq!(check.interval, Some(90_000_000_000));
        assert_eq!(check.test, Some(vec!["CMD-SHELL".to_owned(), "curl x".to_owned()]));
    }

    #[test]
    fn shell_forms_go_through_a_shell() {
        let config = changed(&["CMD echo hi"]);
        assert_eq!(config.cmd, Some(["/bin/sh", "-c", "echo hi"].map(str::to_owned).to_vec()));
        let config = changed(&["CMD x", "ENTRYPOINT [\"/e\"]"]);
        assert_eq!((config.cmd, config.entrypoint), (None, Some(vec!["/e".to_owned()])));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "RUN x", "FROM y", "ENV", "ENV A", "EXPOSE x", "EXPOSE 0", "USER a b", "ENV A=\"x", "HEALTHCHECK x"]
        {
            assert!(apply_change(&mut ContainerConfig::default(), text).is_err(), "{text:?}");
        }
    }
}
