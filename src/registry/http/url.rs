//! Addresses of a registry's resources.

use std::fmt;

/// The two protocols a registry is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// With TLS.
    Https,
    /// Without.
    Http,
}

/// An absolute `http` or `https` address. Its displayed form leaves the query out: signed addresses carry secrets there.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    authority: String,
    path: String,
    query: Option<String>,
}

impl Url {
    /// The root of `authority` (`host[:port]`).
    pub fn root(scheme: Scheme, authority: &str) -> Self {
        Self { scheme, authority: authority.to_owned(), path: "/".into(), query: None }
    }

    /// Parses an absolute address; user information in it is refused, a fragment is dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = if let Some(rest) = strip_prefix_ignoring_case(text, "https://") {
            (Scheme::Https, rest)
        } else {
            (Scheme::Http, strip_prefix_ignoring_case(text, "http://")?)
        };
        let rest = rest.split('#').next().unwrap_or("");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if authority.is_empty() || authority.contains('@') || !is_clean(rest) {
            return None;
        }
        let mut url = Self { scheme, authority: authority.to_ascii_lowercase(), path: String::new(), query: None };
        url.set_path_and_query(tail);
        Some(url)
    }

    /// What a `Location` header says, seen from this address.
    pub fn join(&self, location: &str) -> Option<Self> {
        if let Some(url) = Self::parse(location) {
            return Some(url);
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        if location.contains("://") || !is_clean(location) {
            return None;
        }
        let location = location.split('#').next().unwrap_or("");
        let mut url = self.clone();
        if location.starts_with('/') {
            url.set_path_and_query(location);
        } else if let Some(query) = location.strip_prefix('?') {
            url.query = Some(query.to_owned());
        } else {
            let parent = self.path.rfind('/').map_or("/", |slash| self.path.split_at(slash + 1).0);
            url.set_path_and_query(&format!("{parent}{location}"));
        }
        Some(url)
    }

    fn set_path_and_query(&mut self, text: &str) {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (text, None),
        };
        self.path = if path.is_empty() { "/".into() } else { path.to_owned() };
        self.query = query;
    }

    /// The same origin with another path, without a query.
    #[must_use]
    pub fn with_path(&self, path: &str) -> Self {
        Self { path: path.to_owned(), query: None, ..self.clone() }
    }

    /// The same address with `name=value` added to its query, encoded.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        let query = self.query.get_or_insert_default();
        if !query.is_empty() && !query.ends_with('&') {
            query.push('&');
        }
        query.push_str(name);
        query.push('=');
        query.push_str(&encode(value));
        self
    }

    /// The protocol.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host[:port]` as written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host without its port; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// The port, the protocol's own when none is written.
    pub fn port(&self) -> u16 {
        let default = if self.scheme == Scheme::Https { 443 } else { 80 };
        let tail = self.authority.rsplit(']').next().unwrap_or("");
        tail.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(default)
    }

    /// Whether credentials for this address may go to `other`: same protocol, host and port.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host() == other.host() && self.port() == other.port()
    }

    /// The whole address, query included, for the wire only.
    pub fn to_wire(&self) -> String {
        match &self.query {
            Some(query) => format!("{self}?{query}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The host of `host[:port]`; an IPv6 address without brackets.
pub fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// Whether `host` is this machine's loopback.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push('%');
            encoded.push(hex_digit(byte >> 4));
            encoded.push(hex_digit(byte & 15));
        }
    }
    encoded
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase()
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    if head.eq_ignore_ascii_case(prefix) { text.get(prefix.len()..) } else { None }
}

/// No blanks and no control characters: they would split a request line.
fn is_clean(text: &str) -> bool {
    text.bytes().all(|byte| byte > b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect(text)
    }

    #[test]
    fn locations_are_resolved_against_the_request() {
        let base = url("http://localhost:5000/v2/a/blobs/uploads/?x=1");
        for (location, expected) in [
            ("http://other/v2/?q=2", "http://other/v2/?q=2"),
            ("/v2/b?_state=abc", "http://localhost:5000/v2/b?_state=abc"),
            ("uuid", "http://localhost:5000/v2/a/blobs/uploads/uuid"),
            ("//cdn/x", "http://cdn/x"),
            ("?digest=1", "http://localhost:5000/v2/a/blobs/uploads/?digest=1"),
        ] {
            assert_eq!(base.join(location).expect(location).to_wire(), expected);
        }
        for bad in ["ftp://x/", "http://", "http://u:p@h/", "/a b", "/a\r\nX: y"] {
            assert!(base.join(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn the_query_shows_on_the_wire_only() {
        let signed = url("https://cdn.example/blob?Signature=secret");
        assert_eq!(format!("{signed} {signed:?}"), "https://cdn.example/blob https://cdn.example/blob");
        assert_eq!(signed.to_wire(), "https://cdn.example/blob?Signature=secret");
    }

    #[test]
    fn parameters_are_encoded_and_appended() {
        let plain = url("http://h/up").with_parameter("digest", "sha256:ab");
        assert_eq!(plain.to_wire(), "http://h/up?digest=sha256%3Aab");
        let with = url("http://h/up?_state=x").with_parameter("digest", "a b");
        assert_eq!(with.to_wire(), "http://h/up?_state=x&digest=a%20b");
    }

    #[test]
    fn origins_compare_by_protocol_host_and_port() {
        assert!(url("https://h/a").same_origin(&url("https://H:443/b")));
        assert!(!url("https://h/a").same_origin(&url("http://h/a")));
        assert!(!url("http://h:1/a").same_origin(&url("http://h:2/a")));
        assert_eq!((url("http://[::1]:5000/").host(), url("http://[::1]:5000/").port()), ("::1", 5000));
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "a.localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["example.org", "10.0.0.1", "localhost.example.org", "::2"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
