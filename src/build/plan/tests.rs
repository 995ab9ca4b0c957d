//! Tables: what instructions do to a configuration, which stages are needed, what is said about wrong graphs.

use super::*;
use crate::build::dockerfile::{Source, parse};
use crate::oci::{ImageConfig, Platform};
use std::collections::BTreeMap;

struct Store(BTreeMap<&'static str, ImageConfig>);

impl Images for Store {
    fn config(&self, reference: &str) -> Result<ImageConfig, String> {
        self.0.get(reference).cloned().ok_or_else(|| format!("image {reference} not found"))
    }
}

fn platform() -> Platform {
    Platform::new("linux", "amd64", "")
}

fn store() -> Store {
    let mut base = ImageConfig::new(&platform());
    base.config.env = Some(vec!["PATH=/bin".into(), "LANG=C".into()]);
    base.config.cmd = Some(vec!["sh".into()]);
    base.config.entrypoint = Some(vec!["/init".into()]);
    base.config.user = Some("app".into());
    base.config.working_dir = Some("/srv".into());
    let mut trigger = ImageConfig::new(&platform());
    trigger.config.on_build = Some(vec!["COPY . /app".into(), "RUN make \\\n  all".into()]);
    let mut from_trigger = ImageConfig::new(&platform());
    from_trigger.config.on_build = Some(vec!["COPY --from=builder /x /".into()]);
    Store(BTreeMap::from([
        ("base", base),
        ("trigger", trigger),
        ("from-trigger", from_trigger),
        ("a:2", ImageConfig::new(&platform())),
    ]))
}

fn settings(arguments: &[(&str, &str)]) -> Settings {
    Settings {
        arguments: arguments.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        labels: Vec::new(),
        target: None,
        platform: platform(),
        allow_insecure: false,
        contexts: std::collections::BTreeMap::new(),
    }
}

fn planned(text: &str, settings: &Settings) -> Plan {
    let file = parse(&Source::new("D", text)).unwrap_or_else(|error| panic!("{error}"));
    plan(&file, settings, &store()).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn failure(text: &str, settings: &Settings) -> String {
    let file = parse(&Source::new("D", text)).unwrap_or_else(|error| panic!("{error}"));
    plan(&file, settings, &store()).expect_err(text).to_string()
}

/// The target's configuration as JSON text (without the history), and its own history.
fn result(text: &str, arguments: &[(&str, &str)]) -> (serde_json::Value, Vec<String>) {
    let plan = planned(text, &settings(arguments));
    let stage = &plan.stages[&plan.target];
    let config = serde_json::to_value(&stage.state.config.config).unwrap();
    let history = stage.state.config.history[stage.inherited_history..]
        .iter()
        .map(|entry| {
            format!("{}{}", entry.created_by.as_deref().unwrap(), if entry.empty_layer { " (empty)" } else { "" })
        })
        .collect();
    (config, history)
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn instructions_change_the_configuration() {
    for (text, pointer, expected) in [
        ("ENV a=1 b=$a", "/Env", serde_json::json!([PATH, "a=1", "b="])),
        ("ENV a=1\nENV b=$a a=2", "/Env", serde_json::json!([PATH, "a=2", "b=1"])),
        ("ENV PATH=$PATH:/x", "/Env", serde_json::json!([format!("{PATH}:/x")])),
        ("ARG v=3\nENV a=$v", "/Env", serde_json::json!([PATH, "a=3"])),
        ("LABEL a=b \"c d\"=e\nLABEL a=x", "/Labels", serde_json::json!({"a": "x", "c d": "e"})),
        ("EXPOSE 80 90-91/udp", "/ExposedPorts", serde_json::json!({"80/tcp": {}, "90/udp": {}, "91/udp": {}})),
        ("VOLUME /a /b", "/Volumes", serde_json::json!({"/a": {}, "/b": {}})),
        ("USER 1:2", "/User", serde_json::json!("1:2")),
        ("WORKDIR /a\nWORKDIR b\nWORKDIR ../c", "/WorkingDir", serde_json::json!("/a/c")),
        ("WORKDIR a", "/WorkingDir", serde_json::json!("/a")),
        ("ENV D=/d\nWORKDIR $D/${E:-e}", "/WorkingDir", serde_json::json!("/d/e")),
        ("STOPSIGNAL SIGRTMIN+3", "/StopSignal", serde_json::json!("SIGRTMIN+3")),
        ("SHELL [\"/bin/bash\", \"-ec\"]\nCMD a b", "/Cmd", serde_json::json!(["/bin/bash", "-ec", "a b"])),
        ("SHELL [\"/bin/bash\"]", "/Shell", serde_json::json!(["/bin/bash"])),
        ("CMD a $b", "/Cmd", serde_json::json!(["/bin/sh", "-c", "a $b"])),
        ("CMD [\"a\"]\nCMD [\"b\"]", "/Cmd", serde_json::json!(["b"])),
        ("CMD [\"a\"]\nENTRYPOINT [\"e\"]", "/Cmd", serde_json::json!(["a"])),
        ("ENTRYPOINT e", "/Entrypoint", serde_json::json!(["/bin/sh", "-c", "e"])),
        ("ENTRYPOINT [\"a\"]\nENTRYPOINT []", "/Entrypoint", serde_json::Value::Null),
        ("HEALTHCHECK NONE", "/Healthcheck", serde_json::json!({"Test": ["NONE"]})),
        (
            "HEALTHCHECK --interval=1s --retries=2 CMD x",
            "/Healthcheck",
            serde_json::json!({"Test": ["CMD-SHELL", "x"], "Interval": 1_000_000_000, "Retries": 2}),
        ),
        ("ONBUILD RUN x\nONBUILD COPY . /", "/OnBuild", serde_json::json!(["RUN x", "COPY . /"])),
    ] {
        let (config, _) = result(&format!("FROM scratch\n{text}"), &[]);
        assert_eq!(config.pointer(pointer).cloned().unwrap_or_default(), expected, "{text}");
    }
}

#[test]
fn the_base_images_configuration_is_inherited() {
    let (config, _) = result("FROM base\nENV LANG=de", &[]);
    assert_eq!(config["Env"], serde_json::json!(["PATH=/bin", "LANG=de"]));
    assert_eq!((&config["User"], &config["WorkingDir"]), (&"app".into(), &"/srv".into()));
    assert_eq!((&config["Cmd"], &config["Entrypoint"]), (&serde_json::json!(["sh"]), &serde_json::json!(["/init"])));
    let (config, _) = result("FROM base\nENTRYPOINT [\"/x\"]", &[]);
    assert_eq!(config["Cmd"], serde_json::Value::Null, "a new entry point drops the CMD of the base");
    let (config, _) = result("FROM base\nCMD [\"y\"]\nENTRYPOINT [\"/x\"]", &[]);
    assert_eq!(config["Cmd"], serde_json::json!(["y"]));
    let (config, _) = result("FROM base AS a\nCMD [\"y\"]\nFROM a\nENTRYPOINT [\"/x\"]", &[]);
    assert_eq!(config["Cmd"], serde_json::Value::Null, "the CMD of a base stage is one of the base");
}

#[test]
fn history_reads_as_buildkit_writes_it() {
    let text = "FROM scratch\nMAINTAINER me <a@b>\nARG A=1\nARG B\nENV x=y z=\"a b\"\nLABEL l=\"m n\"\nRUN make  all\nRUN [\"/x\", \"y\"]\nCOPY --chown=1:2 \
                --chmod=755 a b /c/\nADD --link a d\nCOPY <<E <<F /h\nE\nF\nWORKDIR /w\nWORKDIR /\nUSER u\nEXPOSE 1 2\nVOLUME /v /w\nCMD \
                [\"a\", \"b \\\"c\"]\nENTRYPOINT e\nSHELL [\"s\", \"-c\"]\nSTOPSIGNAL 9\nHEALTHCHECK --timeout=90s CMD a b\nONBUILD RUN x";
    let (_, history) = result(text, &[("B", "2")]);
    assert_eq!(
        history,
        [
            "MAINTAINER me <a@b> (empty)",
            "ARG A=1 (empty)",
            "ARG B=2 (empty)",
            "ENV x=y z=a b (empty)",
            "LABEL l=m n (empty)",
            "RUN |2 A=1 B=2 /bin/sh -c make  all # buildkit",
            "RUN |2 A=1 B=2 /x y # buildkit",
            "COPY --chown=1:2 --chmod=755 a b /c/ # buildkit",
            "ADD a d # buildkit",
            "COPY <<E <<F /h # buildkit",
            "WORKDIR /w",
            "WORKDIR / (empty)",
            "USER u (empty)",
            "EXPOSE [1/tcp 2/tcp] (empty)",
            "VOLUME [/v /w] (empty)",
            "CMD [\"a\" \"b \\\"c\"] (empty)",
            "ENTRYPOINT [\"/bin/sh\" \"-c\" \"e\"] (empty)",
            "SHELL [s -c] (empty)",
            "STOPSIGNAL 9 (empty)",
            "HEALTHCHECK {Test:[CMD-SHELL a b] Interval:0s Timeout:1m30s StartPeriod:0s StartInterval:0s Retries:0} (empty)",
        ]
    );
}

/// The environment of the last RUN.
fn run_environment(text: &str, arguments: &[(&str, &str)]) -> Vec<String> {
    let plan = planned(text, &settings(arguments));
    let step = plan.stages[&plan.target].steps.iter().rfind(|step| matches!(step.action, Action::Run(_))).unwrap();
    let Action::Run(run) = &step.action else { unreachable!() };
    run.environment.iter().filter(|line| !line.starts_with("PATH=")).cloned().collect()
}

#[test]
fn arguments_have_scopes() {
    for (text, given, expected) in [
        ("ARG a=1\nFROM scratch\nRUN x", vec![], vec![]),
        ("ARG a=1\nFROM scratch\nARG a\nRUN x", vec![], vec!["a=1"]),
        ("ARG a=1\nFROM scratch\nARG a=2\nRUN x", vec![], vec!["a=2"]),
        ("ARG a=1\nFROM scratch\nARG a=2\nRUN x", vec![("a", "3")], vec!["a=3"]),
        ("ARG a=1\nARG b=$a$c\nFROM scratch\nARG b\nRUN x", vec![], vec!["b=1"]),
        ("FROM scratch\nARG a\nRUN x", vec![], vec![]),
        ("FROM scratch\nARG a\nRUN x", vec![("a", "")], vec!["a="]),
        ("FROM scratch\nRUN x", vec![("a", "1")], vec![]),
        ("FROM scratch\nARG a=1\nENV a=2\nRUN x", vec![("a", "3")], vec!["a=2"]),
        ("FROM scratch\nENV a=2\nARG a=1\nRUN x", vec![], vec!["a=1"]),
        ("FROM scratch AS s\nARG a=1\nFROM s\nRUN x", vec![], vec!["a=1"]),
        ("FROM scratch AS s\nARG a=1\nFROM scratch\nRUN x", vec![], vec![]),
        (
            "FROM scratch\nARG TARGETARCH\nARG TARGETPLATFORM\nARG BUILDOS\nRUN x",
            vec![],
            vec!["TARGETARCH=amd64", "TARGETPLATFORM=linux/amd64", "BUILDOS=linux"],
        ),
        ("FROM scratch\nARG a=1 b=${a}2\nRUN x", vec![], vec!["a=1", "b=12"]),
        ("FROM scratch AS final\nARG TARGETSTAGE\nRUN x", vec![], vec!["TARGETSTAGE=final"]),
    ] {
        assert_eq!(run_environment(text, &given), expected, "{text} {given:?}");
    }
    let plan = planned("FROM scratch\nRUN x", &settings(&[("HTTP_PROXY", "p"), ("other", "1")]));
    assert_eq!(plan.unused_arguments, ["other"]);
    let Action::Run(run) = &plan.stages[&0].steps[0].action else { panic!() };
    assert_eq!(run.proxies, [("HTTP_PROXY".into(), "p".into()), ("http_proxy".into(), "p".into())]);
    assert_eq!(planned("ARG V=2\nFROM a:$V", &settings(&[])).stages[&0].base, Origin::Image("a:2".into()));
}

#[test]
fn runs_with_heredocs() {
    let run = |text: &str| {
        let plan = planned(&format!("FROM scratch\n{text}"), &settings(&[]));
        let Action::Run(run) = plan.stages[&0].steps[0].action.clone() else { panic!() };
        (run.arguments.last().cloned().unwrap(), run.script)
    };
    assert_eq!(run("RUN <<E\necho a\necho b\nE"), ("echo a\necho b\n".into(), None));
    assert_eq!(run("RUN <<-E\n\techo a\n\tE"), ("echo a\n".into(), None));
    assert_eq!(run("RUN cat <<E > x\na $b\nE"), ("cat <<E > x\na $b\nE".into(), None));
    assert_eq!(
        run("RUN <<E\n#!/bin/x\na\nE"),
        ("/dev/pipes/E".into(), Some(("/dev/pipes/E".into(), "#!/bin/x\na\n".into())))
    );
}

#[test]
fn copies_have_absolute_destinations() {
    for (text, expected) in [
        ("COPY a b", "/b"),
        ("WORKDIR /w\nCOPY a b", "/w/b"),
        ("WORKDIR /w\nCOPY a b/", "/w/b/"),
        ("WORKDIR /w\nCOPY a .", "/w/"),
        ("WORKDIR /w\nCOPY a ./", "/w/"),
        ("WORKDIR /w\nCOPY a ../../x/.", "/x/"),
        ("COPY a /", "/"),
        ("COPY a .", "/"),
        ("ENV D /x y\nCOPY a $D/", "/x y/"),
    ] {
        let plan = planned(&format!("FROM scratch\n{text}"), &settings(&[]));
        let Action::Copy(copy) = plan.stages[&0].steps.last().unwrap().action.clone() else { panic!() };
        assert_eq!(copy.destination, expected, "{text}");
    }
}

#[test]
fn only_what_the_target_needs_is_planned() {
    let text = "FROM scratch AS a\nRUN 1\nFROM missing AS b\nFROM scratch AS c\nCOPY --from=a / /\nFROM c\nRUN --mount=type=bind,from=0,target=/m 2";
    let plan = planned(text, &settings(&[]));
    assert_eq!(plan.stages.keys().copied().collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(plan.stages[&3].needs.iter().copied().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(plan.stages[&3].base, Origin::Stage(2));
    let target = |name: &str| Settings { target: Some(name.to_owned()), ..settings(&[]) };
    assert_eq!(planned(text, &target("A")).stages.len(), 1);
    assert_eq!(planned(text, &target("2")).target, 2);
    assert!(failure(text, &target("d")).contains("target stage \"d\" could not be found (did you mean a?)"));
    assert_eq!(planned("FROM scratch AS x\nFROM x AS x\nFROM x", &settings(&[])).stages[&2].base, Origin::Stage(1));
}

#[test]
fn triggers_of_the_base_come_first() {
    let plan = planned("FROM trigger\nRUN own", &settings(&[]));
    let titles: Vec<_> = plan.stages[&0].steps.iter().map(|step| step.title.as_str()).collect();
    assert_eq!(titles, ["[2/4] ONBUILD COPY . /app", "[3/4] ONBUILD RUN make   all", "[4/4] RUN own"]);
    assert_eq!(plan.stages[&0].state.config.config.on_build, None, "triggers run once");
    let plan = planned("FROM scratch AS a\nONBUILD ENV x=1\nFROM a AS b\nFROM b", &settings(&[]));
    assert!(plan.stages[&1].state.config.config.env.as_ref().unwrap().contains(&"x=1".to_owned()));
    assert_eq!(plan.stages[&2].steps.len(), 0, "a trigger does not reach grandchildren");
    let plan = planned("FROM scratch AS builder\nFROM from-trigger", &settings(&[]));
    assert_eq!(plan.stages.len(), 2, "a trigger may need a stage");
}

#[test]
fn wrong_graphs_are_told() {
    let none = settings(&[]);
    for (text, expected) in [
        ("FROM missing", "D:1:6: image missing not found\n1 | FROM missing\n  |      ^^^^^^^"),
        ("FROM scratch AS a\nCOPY --from=a / /", "circular dependency detected on stage: a"),
        ("FROM scratch AS a\nCOPY --from=b / /\nFROM a AS b", "D:2:1: circular dependency detected on stage: a"),
        (
            "FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nFROM a",
            "cannot copy from stage \"b\", it needs to be defined before",
        ),
        ("FROM scratch\nCOPY --from=5 / /", "D:2:13: invalid stage index 5"),
        ("FROM scratch\nCOPY --from=nowhere / /", "D:2:13: image nowhere not found"),
        ("FROM scratch\nRUN --mount=from=gone,target=/x y", "image gone not found"),
        ("FROM $X", "base name ($X) should not be blank"),
        ("FROM ${X?unset}", "X: unset"),
        ("FROM --platform=linux/s390x base", "platform linux/s390x cannot be built here"),
        ("FROM --platform=$NONE base", "empty platform value"),
        ("FROM scratch\nRUN --security=insecure x", "security.insecure is not allowed"),
        ("FROM scratch\nEXPOSE http", "D:2:8: invalid containerPort: http"),
        ("FROM scratch\nSTOPSIGNAL NOPE", "D:2:12: invalid signal: NOPE"),
        ("FROM scratch\nENV a=b \\\n  c=${d:?gone}", "D:3:5: d: gone\n3 |   c=${d:?gone}\n  |     ^^^^^^^^^^"),
        ("FROM scratch\nRUN --mount=type=cahe,target=/x y", "unsupported mount type \"cahe\" (did you mean cache?)"),
        ("FROM scratch\nADD --checksum=sha256:00 a /", "checksum requires HTTP(S) sources"),
    ] {
        let message = failure(text, &none);
        assert!(message.contains(expected), "{text}\n{message}\nlacks {expected}");
    }
}
