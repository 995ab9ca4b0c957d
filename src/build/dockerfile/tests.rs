//! Tables: what Dockerfiles mean, and what is said about wrong ones.

use super::*;
use std::collections::BTreeMap;

fn parsed(text: &str) -> Dockerfile {
    parse(&Source::new("Dockerfile", text)).unwrap_or_else(|error| panic!("{error}"))
}

/// The commands after the first FROM of a file with the line `FROM x` put in front.
fn commands(text: &str) -> Vec<Command> {
    let file = parsed(&format!("FROM x\n{text}"));
    file.stages[0].instructions.iter().map(|instruction| instruction.command.clone()).collect()
}

fn one(text: &str) -> Command {
    let mut commands = commands(text);
    assert_eq!(commands.len(), 1, "{text}: {commands:?}");
    commands.remove(0)
}

fn failure(text: &str) -> String {
    parse(&Source::new("D", text)).expect_err(text).to_string()
}

fn shell(text: &str) -> CommandLine {
    CommandLine::Shell(text.to_owned())
}

fn exec(arguments: &[&str]) -> CommandLine {
    CommandLine::Exec(arguments.iter().map(|&argument| argument.to_owned()).collect())
}

fn run_line(text: &str) -> CommandLine {
    match one(text) {
        Command::Run(run) => run.command,
        other => panic!("{other:?}"),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, value)| KeyValue { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn words_are_expanded_as_a_shell_would() {
    let environment =
        variables(&[("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", ""), ("V", "v1.2.3")]);
    for (word, expected) in [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he'llo", "error"),
        ("he\\'llo", "he'llo"),
        ("he\\\\'llo", "error"),
        ("abc\\tdef", "abctdef"),
        ("\"abc\\tdef\"", "abc\\tdef"),
        ("\"abc\\\\tdef\"", "abc\\tdef"),
        ("'abc\\tdef'", "abc\\tdef"),
        ("hello\\", "hello"),
        ("hello\\\\", "hello\\"),
        ("\"hello", "error"),
        ("\"hello\\\"", "error"),
        ("\"hel'lo\"", "hel'lo"),
        ("'hello\\'", "hello\\"),
        ("'\"'", "\""),
        ("\"''\"", "''"),
        ("$.", "$."),
        ("he$1x", "hex"),
        ("he$.x", "he$.x"),
        ("he$pwd.", "he."),
        ("he$PWD", "he/home"),
        ("he\\$PWD", "he$PWD"),
        ("he\"\\$PWD\"", "he$PWD"),
        ("'he$PWD'", "he$PWD"),
        ("he${PWD}x", "he/homex"),
        ("he${", "error"),
        ("he${}xx", "error"),
        ("he${hi", "error"),
        ("he${PWD", "error"),
        ("he${:-a}", "error"),
        ("he${{x}}", "error"),
        ("he${XXX:-\\$PWD:}xx", "he$PWD:xx"),
        ("he${XXX:-${PWD}:}xx", "he/home:xx"),
        ("he${PWD:+a b}c", "hea bc"),
        ("he${NULL:-x}", "hex"),
        ("he${NULL-x}", "he"),
        ("he${UNSET-x}", "hex"),
        ("he${NULL+x}", "hex"),
        ("he${NULL:+x}", "he"),
        ("he${UNSET+x}", "he"),
        ("${NULL?gone}", ""),
        ("${NULL:?gone}", "error"),
        ("${UNSET?gone}", "error"),
        ("${UNSET:?}", "error"),
        ("${PWD=x}", "error"),
        ("${PWD:=x}", "error"),
        ("${KOREAN}", "한국어"),
        ("$KOREAN안녕", ""),
        ("${PWD}안녕", "/home안녕"),
        ("a$$b", "ab"),
        ("${V#v}", "1.2.3"),
        ("${V#*.}", "2.3"),
        ("${V##*.}", "3"),
        ("${V%.*}", "v1.2"),
        ("${V%%.*}", "v1"),
        ("${V%3}", "v1.2."),
        ("${V#x}", "v1.2.3"),
        ("${V/./-}", "v1-2.3"),
        ("${V//./-}", "v1-2-3"),
        ("${V/?/}", "1.2.3"),
        ("${V//[0-9]/x}", "v1.2.3"),
        ("${V/}", "error"),
        ("${V//x}", "error"),
        ("${V///}", "v1.2.3"),
        ("${PWD//\\//\\/}", "\\/home"),
        ("${UNSET:-${V%.*}}", "v1.2"),
    ] {
        let result = Lexer::new('\\').word(word, &environment).unwrap_or_else(|_| "error".to_owned());
        assert_eq!(result, expected, "{word}");
    }
}

#[test]
fn the_shortest_and_longest_matches_are_found() {
    for (word, value, expected) in [
        ("${F#()[]{\\}^$.\\*\\?|\\\\}", "()[]{}^$.*?|\\x", "x"),
        ("${F%%\\**}", "xx**", "xx"),
        ("${F#*x*y}", "xxyy", "y"),
        ("${F#*}", "xxyy", "xxyy"),
        ("${F#}", "xxyy", "xxyy"),
        ("${F##*x}", "xxyy", "yy"),
        ("${F#?\\?}", "???y", "?y"),
        ("${F%%\\**\\*}", "a***yy*", "a"),
        ("${F%}", "xxyy", "xxyy"),
        ("${F/http:\\/\\//https:\\/\\/}", "http://x", "https:\\/\\/x"),
    ] {
        assert_eq!(Lexer::new('\\').word(word, &variables(&[("F", value)])).unwrap(), expected, "{word}");
    }
}

#[test]
fn words_are_split_after_expansion() {
    let environment = variables(&[("A", "one two"), ("E", "")]);
    for (text, expected) in [
        ("hello", vec!["hello"]),
        ("hello${hi}bye ${A}x", vec!["hellobye", "one", "twox"]),
        ("\"$A\" b", vec!["one two", "b"]),
        ("a\\ b c", vec!["a b", "c"]),
        ("  ", vec![]),
        ("$E", vec![]),
        ("'a b'c", vec!["a bc"]),
    ] {
        assert_eq!(Lexer::new('\\').words(text, &environment).unwrap(), expected, "{text}");
    }
    let unset = Lexer { raw_quotes: true, keep_unset: true, ..Lexer::new('\\') };
    assert_eq!(unset.word("\"$X\" ${Y:-z} ${A/x/y} $A", &environment).unwrap(), "\"$X\" ${Y:-z} one two one two");
}

#[test]
fn lines_are_joined() {
    for (text, expected) in [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\\n# comment\n  # comment \\\n b", "a  b"),
        ("RUN a \\\n\n\n b", "a  b"),
        ("RUN a \\ \t\n b", "a  b"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("RUN a \\\\", "a \\\\"),
        ("RUN a \\\n", "a"),
        ("  RUN a", "a"),
        ("\\\n RUN a", "a"),
        ("run a # b", "a # b"),
        ("RUN\ta", "a"),
        ("RUN a\n# trailing", "a"),
    ] {
        assert_eq!(run_line(text), shell(expected), "{text:?}");
    }
    assert_eq!(parsed("FROM a\nRUN a \\\n\n b").warnings.len(), 1);
    assert_eq!(parsed("\u{feff}FROM a").stages.len(), 1);
}

#[test]
fn directives_stand_at_the_top() {
    for (text, escape, syntax) in [
        ("# escape=`\nFROM a", '`', None),
        ("#escape = `\nFROM a", '`', None),
        ("# ESCAPE=`\nFROM a", '`', None),
        ("# syntax=docker/dockerfile:1\n# escape=`\nFROM a", '`', Some("docker/dockerfile:1")),
        ("# about\n# escape=`\nFROM a", '\\', None),
        ("\n# escape=`\nFROM a", '\\', None),
        ("# unknown=x\n# escape=`\nFROM a", '\\', None),
        ("FROM a\n# escape=`", '\\', None),
        ("# check=skip=all\n# syntax=x\nFROM a", '\\', Some("x")),
    ] {
        let file = parsed(text);
        assert_eq!((file.escape, file.syntax.as_deref()), (escape, syntax), "{text:?}");
    }
    assert_eq!(parsed("# check=skip=all\nFROM a").check.as_deref(), Some("skip=all"));
    let windows = parsed("# escape=`\nFROM a\nRUN dir c:\\ `\n && x");
    assert!(
        matches!(&windows.stages[0].instructions[0].command, Command::Run(run) if run.command == shell("dir c:\\  && x"))
    );
    assert!(failure("# escape=`\n# escape=\\\nFROM a").contains("D:2:1: only one escape parser directive"));
    assert!(failure("# syntax=a\n# syntax=b\nFROM a").contains("D:2:1: only one syntax"));
    assert!(failure("# escape=x\nFROM a").contains("invalid escape character \"x\""));
}

#[test]
fn exec_form_is_strict_json() {
    for (text, expected) in [
        ("RUN [\"a\", \"b c\"]", exec(&["a", "b c"])),
        ("RUN   [\"a\"]  ", exec(&["a"])),
        ("RUN [ \"a\" , \"\\u0062\" ]", exec(&["a", "b"])),
        ("RUN []", exec(&[])),
        ("RUN ['a']", shell("['a']")),
        ("RUN [\"a\",]", shell("[\"a\",]")),
        ("RUN [ -f x ] && y", shell("[ -f x ] && y")),
        ("RUN [\"a\"] && b", shell("[\"a\"] && b")),
        ("RUN \"a\"", shell("\"a\"")),
        ("RUN [\"a\", \\\n \"b\"]", exec(&["a", "b"])),
    ] {
        assert_eq!(run_line(text), expected, "{text}");
    }
    assert!(failure("FROM a\nCMD [\"a\", 1]").contains("arrays must be comprised of strings only"));
    assert_eq!(one("CMD []"), Command::Cmd(exec(&[])));
    assert_eq!(one("CMD"), Command::Cmd(shell("")));
    assert_eq!(one("SHELL [\"/bin/bash\", \"-c\"]"), Command::Shell(vec!["/bin/bash".into(), "-c".into()]));
}

#[test]
fn env_and_label_have_two_forms() {
    for (text, expected) in [
        ("ENV a b", pairs(&[("a", "b")])),
        ("ENV a b c=d", pairs(&[("a", "b c=d")])),
        ("ENV a   b  c ", pairs(&[("a", "b  c")])),
        ("ENV a=b c=d", pairs(&[("a", "b"), ("c", "d")])),
        ("ENV a=\"b c\" d='e f'", pairs(&[("a", "\"b c\""), ("d", "'e f'")])),
        ("ENV a=b\\ c d=", pairs(&[("a", "b\\ c"), ("d", "")])),
        ("ENV a=b=c", pairs(&[("a", "b=c")])),
        ("ENV a=b \\\n  c=d", pairs(&[("a", "b"), ("c", "d")])),
        ("ENV \"a b\"=c", pairs(&[("\"a b\"", "c")])),
        ("ENV a=\"it's\" b=x", pairs(&[("a", "\"it's\""), ("b", "x")])),
    ] {
        assert_eq!(one(text), Command::Env(expected.clone()), "{text}");
        assert_eq!(one(&text.replacen("ENV", "label", 1)), Command::Label(expected), "{text}");
    }
}

#[test]
fn expansion_uses_the_variables_of_the_start() {
    let environment = variables(&[("a", "old"), ("two", "x y"), ("p", "80 443")]);
    let expanded = |text: &str| one(text).expanded('\\', &environment).unwrap();
    assert_eq!(
        expanded("ENV a=new b=$a c=\"q $a\" '$a'=\\$a"),
        Command::Env(pairs(&[("a", "new"), ("b", "old"), ("c", "q old"), ("$a", "$a")]))
    );
    assert_eq!(expanded("ENV k $two \"z\""), Command::Env(pairs(&[("k", "x y z")])));
    assert_eq!(expanded("LABEL \"$a\"=$two"), Command::Label(pairs(&[("old", "x y")])));
    assert_eq!(expanded("WORKDIR /x/${a}"), Command::Workdir("/x/old".into()));
    assert_eq!(expanded("USER ${u:-me}"), Command::User("me".into()));
    assert_eq!(expanded("EXPOSE $p 90/udp"), Command::Expose(vec!["80".into(), "443".into(), "90/udp".into()]));
    assert_eq!(expanded("VOLUME [\"/$a\", \"/b\"]"), Command::Volume(vec!["/old".into(), "/b".into()]));
    assert_eq!(expanded("STOPSIGNAL SIG${a}"), Command::StopSignal("SIGold".into()));
    assert_eq!(expanded("RUN echo $a"), one("RUN echo $a"));
    assert_eq!(expanded("CMD echo $a"), one("CMD echo $a"));
    assert_eq!(expanded("ONBUILD ENV x=$a"), Command::Onbuild("ENV x=$a".into()));
    assert_eq!(expanded("MAINTAINER $a"), Command::Maintainer("$a".into()));
    let Command::Copy(copy) = expanded("COPY --chown=$a --chmod=7${n:-55} --exclude=*.$a $a [x] /$two/") else {
        panic!()
    };
    assert_eq!(copy.chown.as_deref(), Some("old"));
    assert_eq!(copy.chmod.as_deref(), Some("755"));
    assert_eq!((copy.exclude[0].as_str(), copy.destination.as_str()), ("*.old", "/x y/"));
    let error = one("WORKDIR ${a:?x").expanded('\\', &environment).unwrap_err();
    assert_eq!((error.word.as_str(), error.message.as_str()), ("${a:?x", "syntax error: missing '}'"));
}

#[test]
fn heredocs_are_found_anywhere_in_the_line() {
    let heredocs = |text: &str| match one(text) {
        Command::Run(run) => run.heredocs,
        other => panic!("{other:?}"),
    };
    let doc = |name: &str, expand, strip_tabs, content: &str| Heredoc {
        name: name.to_owned(),
        expand,
        strip_tabs,
        content: content.to_owned(),
    };
    for (text, expected) in [
        ("RUN <<EMPTY\nEMPTY", vec![doc("EMPTY", true, false, "")]),
        ("RUN 3<<E\nE", vec![doc("E", true, false, "")]),
        ("RUN \"<<NO\"", vec![]),
        ("RUN '<<NO'", vec![]),
        ("RUN cat <<<NO", vec![]),
        ("RUN [\"<<NO\"]", vec![]),
        ("RUN echo it's <<NO", vec![]),
        ("RUN <<I\n\tfoo\n\tbar\nI", vec![doc("I", true, false, "\tfoo\n\tbar\n")]),
        ("RUN <<-U\n\tfoo\n\tU\n", vec![doc("U", true, true, "\tfoo\n")]),
        ("RUN <<-'N'\n\t$x\nN", vec![doc("N", false, true, "\t$x\n")]),
        ("RUN <<C\n# kept\nx # too\nC", vec![doc("C", true, false, "# kept\nx # too\n")]),
        ("RUN --mount=type=cache,target=/foo <<M\nx\nM", vec![doc("M", true, false, "x\n")]),
        ("RUN <<X <<Y\nY\nX\nX\nY", vec![doc("X", true, false, "Y\n"), doc("Y", true, false, "X\n")]),
        ("RUN <<P python3\nprint()\nP", vec![doc("P", true, false, "print()\n")]),
        ("RUN <<eo'f'\nx\neof", vec![doc("eof", false, false, "x\n")]),
        ("RUN <<eo\\'f\nx\neo'f", vec![doc("eo'f", true, false, "x\n")]),
        ("RUN <<'one two'\nx\none two", vec![doc("one two", false, false, "x\n")]),
        ("RUN <<$EOF\n$EOF", vec![doc("$EOF", true, false, "")]),
        ("RUN <<  EOF\nEOF", vec![doc("EOF", true, false, "")]),
        ("RUN <<- EOF > foo\nEOF", vec![doc("EOF", true, true, "")]),
        ("RUN cat <<A && cat <<B\n1\nA\n2\nB", vec![doc("A", true, false, "1\n"), doc("B", true, false, "2\n")]),
        ("RUN cat <<A \\\n && x\n1\nA", vec![doc("A", true, false, "1\n")]),
        ("RUN <<E\nx \\\nE", vec![doc("E", true, false, "x \\\n")]),
        ("RUN <<E\nx\r\nE\r\n", vec![doc("E", true, false, "x\r\n")]),
    ] {
        assert_eq!(heredocs(text), expected, "{text:?}");
    }
    let onbuild = one("ONBUILD RUN <<E\nx\nE");
    assert_eq!(onbuild, Command::Onbuild("RUN <<E\nx\nE".into()));
    assert!(matches!(parse_trigger("RUN <<E\nx\nE").unwrap().command, Command::Run(run) if run.heredocs.len() == 1));
    assert_eq!(commands("USER <<E\nRUN x").len(), 2);
}

#[test]
fn heredocs_of_copy_are_files() {
    let environment = variables(&[("x", "1")]);
    let Command::Copy(copy) =
        one("COPY <<-a.txt <<'b' c /d/\n\tx is $x 'q' \\$x\na.txt\n$x\nb").expanded('\\', &environment).unwrap()
    else {
        panic!()
    };
    let [CopySource::Inline(a), CopySource::Inline(b), CopySource::Path(c)] = copy.sources.as_slice() else {
        panic!("{copy:?}")
    };
    assert_eq!((a.name.as_str(), a.content.as_str()), ("a.txt", "x is 1 'q' $x\n"));
    assert_eq!((b.name.as_str(), b.content.as_str()), ("b", "$x\n"));
    assert_eq!((c.as_str(), copy.destination.as_str()), ("c", "/d/"));
}

#[test]
fn flags_are_read_before_the_arguments() {
    let Command::Copy(copy) =
        one("COPY --from=b --chown=1:2 --link --parents --exclude=\"a b\" --exclude=c --chmod=u+x src dst")
    else {
        panic!()
    };
    assert_eq!((copy.from.as_deref(), copy.chown.as_deref()), (Some("b"), Some("1:2")));
    assert!(copy.link && copy.parents);
    assert_eq!(copy.exclude, ["a b", "c"]);
    let Command::Run(run) = one("RUN --network=none --mount=type=cache,target=/c --mount=type=tmpfs,target=/t -- --x")
    else {
        panic!()
    };
    assert_eq!((run.network, run.mount_texts.len(), run.command), (Some(Network::None), 2, shell("--x")));
    assert!(matches!(one("COPY --link=false a b"), Command::Copy(copy) if !copy.link));
    assert!(
        matches!(one("ADD --checksum=sha256:00 --unpack=true http://x/y z"), Command::Add(add) if add.unpack == Some(true))
    );
}

#[test]
fn stages_and_global_arguments() {
    let file = parsed("ARG V=1\nARG W\nFROM --platform=$P a:$V AS Base\nRUN x\nFROM Base\nfrom b as c\n");
    assert_eq!(file.global_arguments.len(), 2);
    let names: Vec<_> = file.stages.iter().map(|stage| (stage.base.as_str(), stage.name.as_deref())).collect();
    assert_eq!(names, [("a:$V", Some("base")), ("Base", None), ("b", Some("c"))]);
    assert_eq!(file.stages[0].platform.as_deref(), Some("$P"));
    assert_eq!(file.stages[0].instructions[0].line_number(), 4);
}

#[test]
fn healthchecks() {
    use std::time::Duration;
    assert_eq!(one("HEALTHCHECK NONE"), Command::Healthcheck(Healthcheck::Disabled));
    let text =
        "HEALTHCHECK --interval=1m30s --timeout=0.5s --retries=3 --start-period=0 --start-interval=100ms cmd a b";
    let Command::Healthcheck(Healthcheck::Command { test, interval, timeout, start_interval, retries, .. }) = one(text)
    else {
        panic!()
    };
    assert_eq!(test, ["CMD-SHELL", "a b"]);
    assert_eq!((interval, timeout), (Duration::from_secs(90), Duration::from_millis(500)));
    assert_eq!((start_interval, retries), (Duration::from_millis(100), 3));
    assert!(
        matches!(one("HEALTHCHECK CMD [\"a\"]"), Command::Healthcheck(Healthcheck::Command { test, .. }) if test == ["CMD", "a"])
    );
}

#[test]
fn arguments_may_be_several() {
    let arg = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    assert_eq!(
        one("ARG a b=c d= e=\"x y\""),
        Command::Arg(vec![arg("a", None), arg("b", Some("c")), arg("d", Some("")), arg("e", Some("\"x y\""))])
    );
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, expected) in [
        ("", "D:1:1: file with no instructions"),
        ("# only\n", "D:1:1: file with no instructions"),
        ("ARG a", "D:1:1: dockerfile contains no stages to build"),
        ("RUN x", "D:1:1: no build stage in current context"),
        ("FROM a\nRNU x", "D:2:1: unknown instruction: RNU (did you mean RUN?)\n2 | RNU x\n  | ^^^"),
        ("FROM a\nFOO x", "D:2:1: unknown instruction: FOO\n"),
        (
            "FROM a\nCOPY --chmdo=1 a b",
            "D:2:6: unknown flag: --chmdo (did you mean --chmod?)\n2 | COPY --chmdo=1 a b\n  |      ^^^^^^^^^",
        ),
        ("FROM a\nCOPY \\\n  --form=b a b", "D:3:3: unknown flag: --form (did you mean --from?)"),
        ("FROM a\nADD --from=b a b", "D:2:5: unknown flag: --from"),
        ("FROM a\nCOPY --link=maybe a b", "D:2:6: expecting boolean value for flag --link, not: maybe"),
        ("FROM a\nCOPY --from a b", "D:2:6: missing a value on flag: --from"),
        ("FROM a\nCOPY --from=a --from=b c d", "D:2:15: duplicate flag specified: --from"),
        ("FROM a\nCOPY --from=$x c d", "D:2:6: variable expansion is not supported for --from"),
        ("FROM a\nENV --x=y a=b", "D:2:5: unknown flag: --x"),
        ("FROM a\nENV a", "ENV must have two arguments"),
        ("FROM a\nENV", "ENV requires at least one argument"),
        ("FROM a\nENV a=b c", "can't find = in \"c\""),
        ("FROM a\nENV =b", "ENV names can not be blank"),
        ("FROM a\nARG", "ARG requires at least one argument"),
        ("FROM a\nARG =b", "ARG names can not be blank"),
        ("FROM a\nLABEL a", "LABEL must have two arguments"),
        ("FROM a\nCOPY a", "COPY requires at least two arguments, but only one was provided"),
        ("FROM a\nADD", "ADD requires at least two arguments"),
        ("FROM a\nCOPY a <<E\nE", "COPY cannot accept a heredoc as a destination"),
        ("FROM a\nRUN <<E\nx\n", "D:2:1: unterminated heredoc: \"E\" is missing\n2 | RUN <<E\n  | ^^^^^^^"),
        ("FROM a\nRUN <<E'\nx\nE", "D:3:1: unknown instruction: X"),
        ("FROM a\nRUN", "RUN requires at least one argument"),
        ("FROM a\nRUN --network=hots x", "D:2:5: invalid network mode \"hots\" (did you mean host?)"),
        ("FROM a\nRUN --security=x y", "security \"x\" is not valid"),
        ("FROM a\nRUN --device=x y", "--device is not supported"),
        ("FROM a\nRUN --mount=type=bind,from=$x,target=/y z", "'from' doesn't support variable expansion"),
        ("FROM a\nWORKDIR", "WORKDIR requires exactly one argument"),
        ("FROM a\nUSER", "USER requires exactly one argument"),
        ("FROM a\nSTOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("FROM a\nEXPOSE", "EXPOSE requires at least one argument"),
        ("FROM a\nVOLUME", "VOLUME requires at least one argument"),
        ("FROM a\nVOLUME [\"\"]", "VOLUME specified can not be an empty string"),
        ("FROM a\nSHELL", "SHELL requires at least one argument"),
        ("FROM a\nSHELL []", "SHELL requires at least one argument"),
        ("FROM a\nSHELL bash -c", "SHELL requires the arguments to be in JSON form"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS 1x", "invalid name for build stage: \"1x\""),
        ("FROM a AS x/y", "invalid name for build stage"),
        ("FROM a\nONBUILD", "ONBUILD requires at least one argument"),
        ("FROM a\nONBUILD ONBUILD RUN x", "chaining ONBUILD"),
        ("FROM a\nONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD maintainer x", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD COPY --form=x a b", "D:2:14: unknown flag: --form"),
        ("FROM a\nHEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("FROM a\nHEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CMD", "missing command after HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK EXEC x", "unknown type \"EXEC\" in HEALTHCHECK"),
        ("FROM a\nHEALTHCHECK --interval=1us CMD x", "interval \"interval\" cannot be less than 1ms"),
        ("FROM a\nHEALTHCHECK --interval=soon CMD x", "invalid duration \"soon\""),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", "--retries must be a number"),
    ] {
        let message = failure(text);
        assert!(message.contains(expected), "{text:?}:\n{message}\nlacks {expected:?}");
    }
}

#[test]
fn triggers_are_single_instructions() {
    assert!(matches!(parse_trigger("COPY . /app").unwrap().command, Command::Copy(_)));
    for text in ["", "RUN a\nRUN b", "FROM x", "ONBUILD RUN x"] {
        assert!(parse_trigger(text).is_err(), "{text}");
    }
}

#[test]
fn regression_substitutions_in_each_other_without_end_are_refused() {
    let nested = |depth: usize| format!("{}y{}", "${x:-".repeat(depth), "}".repeat(depth));
    let word = |depth| Lexer::new('\\').word(&nested(depth), &variables(&[]));
    assert_eq!(word(50).unwrap(), "y");
    assert_eq!(word(100_000).unwrap_err(), LexError::Depth);
    let quoted = format!("\"{}", nested(100_000));
    assert!(Lexer::new('\\').word(&quoted, &variables(&[])).is_err());
}
