//! `--change` of commit and import: instructions that change a configuration and nothing else.

use super::effect::Scope;
use super::environment::Environment;
use super::state::StageState;
use crate::build::dockerfile::{Command, Instruction, Source, parse};
use crate::oci::{ContainerConfig, ImageConfig, Platform};
use std::collections::BTreeMap;

/// An instruction that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid change {text:?}: {detail}")]
pub struct InvalidChange {
    /// The instruction.
    pub text: String,
    /// What is wrong with it.
    pub detail: String,
}

/// What `instructions` make of `config`, one after the other as in a Dockerfile: variables of the environment are expanded, and an
/// ENTRYPOINT drops the CMD that was there before, but not one of these instructions.
pub fn change(config: &ContainerConfig, instructions: &[String]) -> Result<ContainerConfig, InvalidChange> {
    let image = ImageConfig { config: config.clone(), ..ImageConfig::new(&Platform::host()) };
    let (mut state, triggers) = StageState::of_image(image);
    // No build begins here: triggers wait for one.
    state.config.config.on_build.clone_from(&config.on_build);
    drop(triggers);
    let scope = Scope { escape: '\\', globals: &Environment::default(), given: &BTreeMap::new() };
    for text in instructions {
        let invalid = |detail: String| InvalidChange { text: text.clone(), detail };
        let instruction = only(text).map_err(invalid)?;
        state.apply(&instruction.command, &scope).map_err(|fault| invalid(fault.message))?;
    }
    let path_set = state.path_set;
    let mut changed = state.config.config;
    if !path_set {
        changed.env = without_given_path(changed.env, config);
    }
    Ok(changed)
}

/// A build gives every image a PATH; a change does not.
fn without_given_path(env: Option<Vec<String>>, before: &ContainerConfig) -> Option<Vec<String>> {
    let names_path = |lines: &[String]| lines.iter().any(|line| line.starts_with("PATH="));
    if before.env.as_deref().is_some_and(names_path) {
        return env;
    }
    let mut given = Environment::default();
    given.ensure_path();
    let given = given.lines();
    let kept: Vec<String> = env.into_iter().flatten().filter(|line| !given.contains(line)).collect();
    (before.env.is_some() || !kept.is_empty()).then_some(kept)
}

/// The one instruction that `text` is, when it may stand here.
fn only(text: &str) -> Result<Instruction, String> {
    let source = Source::new("--change", format!("FROM scratch\n{text}"));
    let file = parse(&source).map_err(|diagnostic| diagnostic.message.clone())?;
    let mut instructions = file.stages.into_iter().flat_map(|stage| stage.instructions.into_iter().chain([stage.from]));
    let (Some(instruction), Some(_), None) = (instructions.next(), instructions.next(), instructions.next()) else {
        return Err("expected one instruction".to_owned());
    };
    match instruction.command {
        Command::Cmd(_)
        | Command::Entrypoint(_)
        | Command::Env(_)
        | Command::Expose(_)
        | Command::Healthcheck(_)
        | Command::Label(_)
        | Command::Onbuild(_)
        | Command::Shell(_)
        | Command::StopSignal(_)
        | Command::User(_)
        | Command::Volume(_)
        | Command::Workdir(_) => Ok(instruction),
        _ => {
            let name = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            Err(format!("{name} is not a valid change command"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn changed(config: &ContainerConfig, changes: &[&str]) -> ContainerConfig {
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        change(config, &changes).unwrap_or_else(|error| panic!("{error}"))
    }

    fn texts<const N: usize>(texts: [&str; N]) -> Option<Vec<String>> {
        (N > 0).then(|| texts.map(str::to_owned).to_vec())
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = changed(
            &ContainerConfig::default(),
            &[
                r#"CMD ["a", "b c"]"#,
                r#"ENV A=1 B="2 3" C=x\ y"#,
                "env A 4 5",
                "LABEL k=v 'l m'=n",
                "EXPOSE 80 53/UDP 8000-8002",
                "VOLUME /a /b",
                r#"VOLUME ["/c"]"#,
                "USER me:us",
                "WORKDIR /w",
                "WORKDIR x/../y",
                "STOPSIGNAL SIGINT",
                "ONBUILD RUN x",
                "HEALTHCHECK --interval=1m30s --retries=3 CMD curl x",
            ],
        );
        assert_eq!(config.cmd, texts(["a", "b c"]));
        assert_eq!(config.env, texts(["A=4 5", "B=2 3", "C=x y"]));
        assert_eq!(config.labels.unwrap().get("l m").map(String::as_str), Some("n"));
        let keys = |map: Option<BTreeMap<String, Value>>| map.unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(keys(config.exposed_ports), ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(keys(config.volumes), ["/a", "/b", "/c"]);
        assert_eq!(config.working_dir.as_deref(), Some("/w/y"));
        assert_eq!((config.stop_signal.as_deref(), config.on_build), (Some("SIGINT"), texts(["RUN x"])));
        let check = config.healthcheck.unwrap();
        assert_eq!((check.interval, check.test), (Some(90_000_000_000), texts(["CMD-SHELL", "curl x"])));
    }

    #[test]
    fn regression_variables_of_the_image_are_expanded() {
        let image = ContainerConfig {
            env: texts(["PATH=/bin", "HOME=/h"]),
            on_build: texts(["RUN first"]),
            ..ContainerConfig::default()
        };
        let config = changed(
            &image,
            &[
                "ENV PATH=$PATH:/x OLD=${HOME:-none}",
                "ENV NEW=$OLD NONE=$NOTHING",
                "WORKDIR $HOME",
                "CMD echo $HOME",
                "ONBUILD RUN y",
            ],
        );
        assert_eq!(config.env, texts(["PATH=/bin:/x", "HOME=/h", "OLD=/h", "NEW=/h", "NONE="]));
        assert_eq!(config.working_dir.as_deref(), Some("/h"));
        assert_eq!(config.cmd, texts(["/bin/sh", "-c", "echo $HOME"]));
        assert_eq!(config.on_build, texts(["RUN first", "RUN y"]));
    }

    #[test]
    fn regression_a_path_that_is_asked_for_is_kept_though_it_is_the_usual_one() {
        let mut given = Environment::default();
        given.ensure_path();
        let usual = given.lines().remove(0);
        let config = changed(&ContainerConfig::default(), &[&format!("ENV A=1 {usual}")]);
        assert_eq!(config.env, Some(vec![usual, "A=1".to_owned()]));
        assert_eq!(changed(&ContainerConfig::default(), &["ENV A=1"]).env, texts(["A=1"]));
    }

    #[test]
    fn regression_an_entry_point_drops_the_command_of_the_image_only() {
        let image = ContainerConfig { cmd: texts(["old"]), ..ContainerConfig::default() };
        let config = changed(&image, &[r#"ENTRYPOINT ["/e"]"#]);
        assert_eq!((config.cmd, config.entrypoint, config.env), (None, texts(["/e"]), None));
        let config = changed(&image, &["CMD [\"new\"]", r#"ENTRYPOINT ["/e"]"#]);
        assert_eq!(config.cmd, texts(["new"]));
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = [
            ("", "expected one instruction"),
            ("# nothing", "expected one instruction"),
            ("USER a\nUSER b", "expected one instruction"),
            ("FROM y", "FROM is not a valid change command"),
            ("RUN x", "RUN is not a valid change command"),
            ("copy a b", "COPY is not a valid change command"),
            ("STOPSIGNAL NOPE", "invalid signal: NOPE"),
        ];
        for (text, detail) in refused {
            let error = change(&ContainerConfig::default(), &[text.to_owned()]).expect_err(text);
            assert_eq!(error.detail, detail, "{text}");
        }
        for text in ["ENV", "ENV A", "EXPOSE x", "ENV A=\"x", "HEALTHCHECK x", "UNHEARD x"] {
            assert!(change(&ContainerConfig::default(), &[text.to_owned()]).is_err(), "{text:?}");
        }
    }
}
