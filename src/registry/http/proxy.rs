//! Which proxy an address is reached through, by the environment.
//!
//! ureq reads the environment too, but takes the first variable that is set for every protocol; here the rules are those of Go's
//! `net/http`, which docker and podman follow: one variable per protocol, and loopback never goes through a proxy.

use super::url::{Scheme, Url, is_loopback};
use std::net::IpAddr;

/// The proxy's address for `url`; `variable` looks an environment variable up.
pub(super) fn proxy_for(url: &Url, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    if is_loopback(url.host()) {
        return None;
    }
    let either = |upper: &str| {
        let lower = upper.to_ascii_lowercase();
        variable(upper).filter(|value| !value.is_empty()).or_else(|| variable(&lower).filter(|value| !value.is_empty()))
    };
    if either("NO_PROXY").is_some_and(|list| excludes(&list, url.host(), url.port())) {
        return None;
    }
    let proxy = match url.scheme() {
        Scheme::Https => either("HTTPS_PROXY"),
        Scheme::Http => either("HTTP_PROXY"),
    };
    let proxy = proxy.or_else(|| either("ALL_PROXY"))?;
    Some(if proxy.contains("://") { proxy } else { format!("http://{proxy}") })
}

/// Whether a `NO_PROXY` list names `host:port`.
fn excludes(list: &str, host: &str, port: u16) -> bool {
    let host = host.to_ascii_lowercase();
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let (Some(matches), Ok(address)) = (in_network(&entry, &host), host.parse::<IpAddr>()) {
            log::trace!("{entry} holds {address}: {matches}");
            return matches;
        }
        let (name, wanted) = match entry.rsplit_once(':') {
            Some((name, digits)) if !name.contains(':') => (name.to_owned(), digits.parse::<u16>().ok()),
            _ => (entry.clone(), None),
        };
        if wanted.is_some_and(|wanted| wanted != port) {
            return false;
        }
        let suffix = name.trim_start_matches('*').trim_start_matches('.');
        let only_below = name.starts_with('.') || name.starts_with('*');
        (host == suffix && !only_below) || host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
    })
}

/// Whether the address `host` lies in the network `entry` (`10.0.0.0/8`); `None` when either is something else.
fn in_network(entry: &str, host: &str) -> Option<bool> {
    let (network, bits) = entry.split_once('/')?;
    let bits: u32 = bits.parse().ok()?;
    let (network, host, width): (u128, u128, u32) = match (network.parse().ok()?, host.parse().ok()?) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return Some(false),
    };
    let shift = width.checked_sub(bits)?;
    Some(network.checked_shr(shift).unwrap_or(0) == host.checked_shr(shift).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let url = Url::parse(url).expect(url);
        proxy_for(&url, |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn each_protocol_has_its_variable() {
        let both = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2")];
        assert_eq!(proxy("https://example.org/", &both).as_deref(), Some("http://s:1"));
        assert_eq!(proxy("http://example.org/", &both).as_deref(), Some("http://p:2"));
        assert_eq!(proxy("http://127.0.0.1:5000/", &both), None);
        assert_eq!(proxy("https://h/", &[("ALL_PROXY", "socks5://x:9")]).as_deref(), Some("socks5://x:9"));
        assert_eq!(proxy("https://h/", &[("HTTPS_PROXY", "")]), None);
    }

    #[test]
    fn no_proxy_names_hosts_suffixes_ports_and_networks() {
        for (list, url, through) in [
            ("example.org", "https://example.org/", false),
            ("example.org", "https://a.example.org/", false),
            ("example.org", "https://notexample.org/", true),
            (".example.org", "https://example.org/", true),
            (".example.org", "https://a.example.org/", false),
            ("*.example.org", "https://a.example.org/", false),
            ("example.org:8443", "https://example.org/", true),
            ("example.org:8443", "https://example.org:8443/", false),
            ("10.0.0.0/8", "https://10.2.3.4/", false),
            ("10.0.0.0/8", "https://11.2.3.4/", true),
            ("x, *", "https://example.org/", false),
        ] {
            let found = proxy(url, &[("HTTPS_PROXY", "http://s:1"), ("NO_PROXY", list)]);
            assert_eq!(found.is_some(), through, "{list} {url}");
        }
    }
}
