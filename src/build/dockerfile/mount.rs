//! `RUN --mount=…`: its fields and their rules.

use super::suggest::nearest;
use std::str::FromStr;

/// A mount of a RUN.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// `type`.
    pub kind: MountKind,
    /// `from`: stage or image.
    pub from: Option<String>,
    /// `source`, `src`.
    pub source: Option<String>,
    /// `target`, `dst`, `destination`.
    pub target: Option<String>,
    /// Whether writing is refused.
    pub read_only: bool,
    /// `id` of a cache or secret.
    pub id: Option<String>,
    /// `sharing` of a cache.
    pub sharing: Sharing,
    /// `required`: a missing secret is an error.
    pub required: bool,
    /// `mode` of a secret's file or a cache's directory.
    pub mode: Option<u32>,
    /// Owner of a secret's file or a cache's directory.
    pub uid: Option<u32>,
    /// Group of a secret's file or a cache's directory.
    pub gid: Option<u32>,
    /// `size` of a tmpfs, in bytes.
    pub size: Option<u64>,
    /// `env` of a secret: the variable to put it into.
    pub env: Option<String>,
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountKind {
    /// A directory or file of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory kept between builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the caller.
    Secret,
    /// An agent socket.
    Ssh,
}

impl MountKind {
    const NAMES: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    /// The name in `type=`.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("bind", |(name, _)| name)
    }
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Everyone.
    #[default]
    Shared,
    /// Each user gets one of its own.
    Private,
    /// One after the other.
    Locked,
}

/// A mount that cannot be: message and, maybe, what was meant.
pub(super) type MountFault = (String, Option<String>);

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "ro",
    "rw",
    "readwrite",
    "size",
    "env",
    "destination",
];

/// Parses the value of `--mount`. Before expansion (`complete` false) only `from` is read, since other values may hold
/// variables.
pub(super) fn parse(
    text: &str,
    complete: bool,
    expand: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Mount, MountFault> {
    let mut mount = Mount::default();
    let mut read_only = None;
    for field in split_fields(text).map_err(plain)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        if !complete {
            match value {
                Some(value) if key == "from" && holds_variable(value) => {
                    return Err(plain("'from' doesn't support variable expansion, define alias stage instead".into()));
                }
                Some(value) if key == "from" => mount.from = Some(value.to_owned()),
                Some(value) if key == "type" => {
                    mount.kind = kind(value).unwrap_or_default();
                }
                _ => {}
            }
            continue;
        }
        let value = value.map(expand).transpose().map_err(plain)?;
        set(&mut mount, &mut read_only, &field, &key, value.as_deref())?;
    }
    mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
    if complete {
        validate(&mount).map_err(plain)?;
    }
    Ok(mount)
}

fn plain(message: String) -> MountFault {
    (message, None)
}

fn holds_variable(value: &str) -> bool {
    value.find('$').is_some_and(|at| at + 1 < value.len())
}

fn kind(value: &str) -> Option<MountKind> {
    let value = value.to_lowercase();
    MountKind::NAMES.iter().find(|(name, _)| *name == value).map(|(_, kind)| *kind)
}

fn set(
    mount: &mut Mount,
    read_only: &mut Option<bool>,
    field: &str,
    key: &str,
    value: Option<&str>,
) -> Result<(), MountFault> {
    let Some(value) = value else {
        match key {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" => mount.required = allowed_for_secrets(mount, key)?,
            _ => return Err(plain(format!("invalid field '{field}' must be a key=value pair"))),
        }
        return Ok(());
    };
    match key {
        "type" => {
            mount.kind = kind(value).ok_or_else(|| {
                let near = nearest(value, MountKind::NAMES.iter().map(|(name, _)| *name));
                (format!("unsupported mount type {value:?}"), near.map(str::to_owned))
            })?;
        }
        "from" => mount.from = Some(value.to_owned()),
        "source" | "src" => mount.source = Some(value.to_owned()),
        "target" | "dst" | "destination" => mount.target = Some(value.to_owned()),
        "readonly" | "ro" => *read_only = Some(boolean(key, value)?),
        "readwrite" | "rw" => *read_only = Some(!boolean(key, value)?),
        "required" => mount.required = allowed_for_secrets(mount, key)? && boolean(key, value)?,
        "env" if mount.kind == MountKind::Secret => mount.env = Some(value.to_owned()),
        "size" if mount.kind == MountKind::Tmpfs => mount.size = Some(size(value)?),
        "size" | "env" => {
            return Err(plain(format!("unexpected key '{key}' for mount type '{}'", mount.kind.name())));
        }
        "id" => mount.id = Some(value.to_owned()),
        "sharing" => mount.sharing = sharing(value)?,
        "mode" => {
            let mode = u32::from_str_radix(value, 8).map_err(|_| plain(format!("invalid value {value} for mode")))?;
            mount.mode = Some(mode);
        }
        "uid" => mount.uid = Some(number(key, value)?),
        "gid" => mount.gid = Some(number(key, value)?),
        _ => {
            let near = nearest(key, KEYS).map(str::to_owned);
            return Err((format!("unexpected key '{key}' in '{field}'"), near));
        }
    }
    Ok(())
}

fn allowed_for_secrets(mount: &Mount, key: &str) -> Result<bool, MountFault> {
    if matches!(mount.kind, MountKind::Secret | MountKind::Ssh) {
        return Ok(true);
    }
    Err(plain(format!("unexpected key '{key}' for mount type '{}'", mount.kind.name())))
}

fn boolean(key: &str, value: &str) -> Result<bool, MountFault> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(plain(format!("invalid value for {key}: {value}"))),
    }
}

fn number(key: &str, value: &str) -> Result<u32, MountFault> {
    u32::from_str(value).map_err(|_| plain(format!("invalid value {value} for {key}")))
}

fn sharing(value: &str) -> Result<Sharing, MountFault> {
    match value.to_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => {
            let near = nearest(value, ["shared", "private", "locked"]).map(str::to_owned);
            Err((format!("unsupported sharing value {value:?}"), near))
        }
    }
}

/// A size such as `64m`, `1.5GiB` or `4096`, in powers of 1024.
fn size(value: &str) -> Result<u64, MountFault> {
    let fault = || plain(format!("invalid value for size: {value}"));
    let lower = value.trim().to_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (amount, unit) = lower.split_at(digits);
    let amount: f64 = amount.parse().map_err(|_| fault())?;
    let unit = unit.trim().trim_end_matches("ib").trim_end_matches('b');
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(fault()),
    };
    Ok((amount * 1024_f64.powi(power)) as u64)
}

fn validate(mount: &Mount) -> Result<(), String> {
    let name = mount.kind.name();
    if matches!(mount.kind, MountKind::Bind | MountKind::Tmpfs) {
        let given = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)];
        if let Some((key, _)) = given.iter().find(|(_, value)| value.is_some()) {
            return Err(format!("{key} not allowed for \"{name}\" type mounts"));
        }
    }
    if mount.kind == MountKind::Secret {
        if mount.from.is_some() {
            return Err("secret mount should not have a from".to_owned());
        }
        if mount.source.is_none() && mount.target.is_none() && mount.id.is_none() && mount.env.is_none() {
            return Err("invalid secret mount. one of source, target required".to_owned());
        }
        if mount.source.is_some() && mount.id.is_some() {
            return Err("both source and id can't be set".to_owned());
        }
    } else if mount.target.as_deref().unwrap_or_default().is_empty() && mount.kind != MountKind::Ssh {
        return Err(format!("{name} mount requires a target"));
    }
    if mount.sharing != Sharing::Shared && mount.kind != MountKind::Cache {
        return Err(format!("invalid cache sharing set for {name} mount"));
    }
    Ok(())
}

/// The fields of a line of comma-separated values; a field in double quotes may hold commas, `""` is a quote.
fn split_fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let empty = fields.last().is_none_or(String::is_empty);
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => fields.last_mut().map(|field| field.push('"')),
            '"' if quoted => {
                quoted = false;
                None
            }
            '"' if empty => {
                quoted = true;
                None
            }
            ',' if !quoted => {
                fields.push(String::new());
                None
            }
            other => fields.last_mut().map(|field| field.push(other)),
        };
    }
    if quoted { Err(format!("a quote is not closed in {text:?}")) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(text: &str) -> Result<Mount, String> {
        parse(text, true, &|value| Ok(value.replace("$T", "/x"))).map_err(|(message, near)| match near {
            Some(near) => format!("{message} ({near})"),
            None => message,
        })
    }

    #[test]
    fn fields_and_defaults() {
        let bind = mount("target=$T,from=base,source=/s").unwrap();
        assert_eq!((bind.kind, bind.target.as_deref(), bind.read_only), (MountKind::Bind, Some("/x"), true));
        assert!(!mount("type=cache,target=/c").unwrap().read_only);
        assert!(mount("type=cache,target=/c,ro").unwrap().read_only);
        assert!(!mount("type=bind,target=/c,rw=true").unwrap().read_only);
        assert_eq!(mount("type=tmpfs,target=/t,size=1.5m").unwrap().size, Some(1_572_864));
        assert_eq!(mount("type=secret,id=k,mode=0400,uid=3").unwrap().mode, Some(0o400));
        assert_eq!(mount("\"target=/a,b\"").unwrap().target.as_deref(), Some("/a,b"));
    }

    #[test]
    fn faults_name_the_field() {
        for (text, message) in [
            ("type=cahe,target=/x", "unsupported mount type \"cahe\" (cache)"),
            ("targt=/x", "unexpected key 'targt' in 'targt=/x' (target)"),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("type=bind,target=/x,uid=1", "uid not allowed for \"bind\" type mounts"),
            ("type=secret", "invalid secret mount. one of source, target required"),
            ("type=cache,target=/x,sharing=lockd", "unsupported sharing value \"lockd\" (locked)"),
            ("type=bind,required,target=/x", "unexpected key 'required' for mount type 'bind'"),
            ("type=cache", "cache mount requires a target"),
            ("type=tmpfs,target=/t,size=many", "invalid value for size: many"),
        ] {
            assert_eq!(mount(text).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn a_variable_in_from_is_refused_early() {
        let result = parse("from=$STAGE,target=/x", false, &|value| Ok(value.to_owned()));
        assert!(result.unwrap_err().0.starts_with("'from' doesn't support"));
    }
}
