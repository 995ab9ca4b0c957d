//! A registry that wants bearer tokens: the proxy with an authorization server built in.

use super::proxy::{FORM, Fault, Proxy, Seen};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// How the authorization server behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenRules {
    /// Requests that a token is good for; afterwards it has ended, whatever it said.
    pub(crate) uses: usize,
    /// Whether nobody gets a token without a password.
    pub(crate) closed: bool,
    /// Whether the server gives identity tokens.
    pub(crate) identity: bool,
    /// Whether it knows the OAuth 2 way only.
    pub(crate) post_only: bool,
    /// Whether nobody may push.
    pub(crate) read_only: bool,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self { uses: usize::MAX, closed: true, identity: false, post_only: false, read_only: false }
    }
}

/// The user who exists.
pub(crate) const USER: &str = "joe";
/// His password.
pub(crate) const PASSWORD: &str = "hunter2-is-secret";
/// His identity token.
pub(crate) const IDENTITY: &str = "identity-is-secret";

/// Starts a registry with tokens in front of the open one at `upstream`.
pub(crate) fn start(upstream: &str, rules: TokenRules) -> Proxy {
    let tokens: Arc<Mutex<HashMap<String, (String, usize)>>> = Arc::default();
    Proxy::start(upstream, move |seen| {
        let mut tokens = tokens.lock().expect("tokens");
        if seen.path.starts_with("/token") {
            return Some(issue(seen, rules, &mut tokens));
        }
        let host = seen.header("host").unwrap_or_default();
        let needed = needed_scope(seen);
        let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let challenge = |error: &str| {
            let scope = if needed.is_empty() { String::new() } else { format!(",scope=\"{needed}\"") };
            let value = format!("Bearer realm=\"http://{host}/token\",service=\"test\"{scope}{error}");
            Some(Fault::status_with(401, "www-authenticate", value))
        };
        let Some(token) = token else { return challenge("") };
        match tokens.get_mut(token) {
            Some((_, 0)) | None => challenge(",error=\"invalid_token\""),
            Some((scopes, _)) if !covers(scopes, &needed) => challenge(",error=\"insufficient_scope\""),
            Some((_, left)) => {
                *left -= 1;
                None
            }
        }
    })
}

/// The scope that a request needs.
fn needed_scope(seen: &Seen) -> String {
    let path = seen.path.split('?').next().unwrap_or_default();
    let rest = path.strip_prefix("/v2/").unwrap_or_default();
    let name = ["/manifests/", "/blobs/", "/tags/"].iter().find_map(|part| rest.split_once(part)).map(|(name, _)| name);
    let actions = if matches!(seen.method.as_str(), "GET" | "HEAD") { "pull" } else { "pull,push" };
    name.map(|name| format!("repository:{name}:{actions}")).unwrap_or_default()
}

fn covers(granted: &str, needed: &str) -> bool {
    needed.is_empty()
        || granted.split(' ').any(|scope| {
            let (Some((name, actions)), Some((wanted, wants))) = (scope.rsplit_once(':'), needed.rsplit_once(':'))
            else {
                return false;
            };
            name == wanted && wants.split(',').all(|want| actions.split(',').any(|action| action == want))
        })
}

fn issue(seen: &Seen, rules: TokenRules, tokens: &mut HashMap<String, (String, usize)>) -> Fault {
    let form = seen.header(FORM).unwrap_or_default();
    let query = seen.path.split_once('?').map_or(form, |(_, query)| query);
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let password = seen.header("authorization") == Some(&basic);
    if rules.post_only && seen.method == "GET" {
        return Fault::status(405);
    }
    let refresh = query.contains(IDENTITY);
    let posted = query.contains("grant_type=password") && query.contains(PASSWORD);
    if seen.header("authorization").is_some() && !password {
        return Fault::status(401);
    }
    if rules.closed && !password && !refresh && !posted {
        return Fault::status(401);
    }
    let scopes: Vec<String> = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("scope="))
        .map(|value| value.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",").replace("%20", " "))
        .collect();
    let granted = |scope: &String| if rules.read_only { scope.replace(",push", "") } else { scope.clone() };
    let scopes: Vec<String> = scopes.iter().map(granted).collect();
    let token = format!("token-is-secret-{}", tokens.len());
    tokens.insert(token.clone(), (scopes.join(" "), rules.uses));
    let mut answer = serde_json::json!({"token": token, "expires_in": 300});
    if rules.identity && query.contains("offline") {
        answer["refresh_token"] = IDENTITY.into();
    }
    Fault::Answer { status: 200, headers: Vec::new(), body: answer.to_string().into_bytes() }
}
