//! `WWW-Authenticate` (RFC 9110, section 11.6.1; RFC 6750; the distribution project's token specification).

/// How a server wants to be convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A user name and password with each request.
    Basic,
    /// A token from an authorization server.
    Bearer(Bearer),
}

/// The parameters of a bearer challenge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bearer {
    /// The authorization server's address.
    pub realm: String,
    /// What it calls the registry.
    pub service: Option<String>,
    /// What the refused request would have needed.
    pub scope: Option<String>,
    /// Why a token was not taken: `invalid_token`, `insufficient_scope`.
    pub error: Option<String>,
}

impl Challenge {
    /// The challenges of one header; schemes that are not known here are left out. A header may hold several.
    pub fn parse(header: &str) -> Vec<Self> {
        let mut challenges = Vec::new();
        let mut rest = header.trim_start_matches([' ', ',', '\t']);
        while !rest.is_empty() {
            let end = rest.find([' ', ',']).unwrap_or(rest.len());
            let (scheme, tail) = rest.split_at(end);
            let (parameters, tail) = parameters(tail);
            let find = |name: &str| {
                parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("basic") {
                challenges.push(Self::Basic);
            } else if let (true, Some(realm)) = (scheme.eq_ignore_ascii_case("bearer"), find("realm")) {
                let (service, scope, error) = (find("service"), find("scope"), find("error"));
                challenges.push(Self::Bearer(Bearer { realm, service, scope, error }));
            }
            rest = tail.trim_start_matches([' ', ',', '\t']);
        }
        challenges
    }

    /// The challenge to answer among all headers of an answer: tokens before passwords.
    pub fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut all: Vec<Self> = headers.flat_map(Self::parse).collect();
        let at = all.iter().position(|challenge| matches!(challenge, Self::Bearer(_))).unwrap_or(0);
        if all.is_empty() { None } else { Some(all.swap_remove(at)) }
    }
}

/// The `name=value` pairs at the beginning of `text`, and what follows: the next challenge.
fn parameters(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = text.trim_start_matches([' ', ',', '\t']);
        let name_end = start.find(|c: char| !is_token(c)).unwrap_or(start.len());
        let (name, rest) = start.split_at(name_end);
        let Some(rest) = rest.trim_start().strip_prefix('=').filter(|_| !name.is_empty()) else {
            return (found, start);
        };
        let (value, rest) = value(rest.trim_start());
        found.push((name.to_owned(), value));
        text = rest;
    }
}

/// A token or quoted string at the beginning of `text`, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, quoted.get(at + 1..).unwrap_or("")),
            _ => value.push(c),
        }
    }
    (value, "")
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>, error: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (service, scope, error) = (owned(service), owned(scope), owned(error));
        Challenge::Bearer(Bearer { realm: realm.into(), service, scope, error })
    }

    #[test]
    fn headers_seen_in_the_wild() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
                vec![bearer(
                    "https://auth.example/token",
                    Some("registry.example"),
                    Some("repository:a/b:pull,push"),
                    None,
                )],
            ),
            (r#"basic realm="Registry Realm""#, vec![Challenge::Basic]),
            (r"Basic", vec![Challenge::Basic]),
            (
                r#"Bearer realm="https://x/t", error="invalid_token", Basic realm="r""#,
                vec![bearer("https://x/t", None, None, Some("invalid_token")), Challenge::Basic],
            ),
            (r#"Bearer realm=https://x/t,service="a \"b\"""#, vec![bearer("https://x/t", Some("a \"b\""), None, None)]),
            (r#"Negotiate, Bearer service="no realm""#, vec![]),
            ("", vec![]),
            (r#"Bearer realm="never ends"#, vec![bearer("never ends", None, None, None)]),
        ] {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn tokens_are_preferred() {
        let headers = [r#"Basic realm="r""#, r#"Bearer realm="https://x""#];
        assert_eq!(Challenge::choose(headers.into_iter()), Some(bearer("https://x", None, None, None)));
        assert_eq!(Challenge::choose(std::iter::empty()), None);
    }

    proptest! {
        #[test]
        fn any_header_is_parsed_to_its_end(header in "\\PC{0,80}") {
            Challenge::parse(&header);
        }
    }
}
