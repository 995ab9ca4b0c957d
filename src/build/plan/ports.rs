//! EXPOSE: ports, ranges and protocols.

/// The ports that `text` names, as `80/tcp`. Host parts (`127.0.0.1:80:8080`) are accepted and left out, as Docker does.
pub(super) fn expand(text: &str) -> Result<Vec<String>, String> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let address = parts.next().unwrap_or_default();
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err(format!("no port specified: {text}"));
    }
    let protocol = match protocol.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        other => return Err(format!("invalid proto: {other}")),
    };
    let plain_address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !plain_address.is_empty() && plain_address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    let (first, last) = port_range(range).ok_or_else(|| format!("invalid containerPort: {range}"))?;
    if !host.is_empty() {
        let (host_first, host_last) = port_range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if last - first != host_last - host_first && first != last {
            return Err(format!("invalid ranges specified for container and host Ports: {range} and {host}"));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let digits = |text: &str| -> Option<u16> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (digits(first)?, digits(last)?),
        None => (digits(text)?, digits(text)?),
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        for (text, expected) in [
            ("80", Ok(vec!["80/tcp"])),
            ("80/UDP", Ok(vec!["80/udp"])),
            ("8000-8002/sctp", Ok(vec!["8000/sctp", "8001/sctp", "8002/sctp"])),
            ("8080:80", Ok(vec!["80/tcp"])),
            ("127.0.0.1:8080:80/tcp", Ok(vec!["80/tcp"])),
            ("[::1]:8080:80", Ok(vec!["80/tcp"])),
            ("9000-9010:80", Ok(vec!["80/tcp"])),
            ("80/icmp", Err("invalid proto: icmp")),
            ("/tcp", Err("no port specified: /tcp")),
            ("http", Err("invalid containerPort: http")),
            ("90-80", Err("invalid containerPort: 90-80")),
            ("65536", Err("invalid containerPort: 65536")),
            ("x:80", Err("invalid hostPort: x")),
            ("host:1:80", Err("invalid IP address: host")),
            ("1-2:80-90", Err("invalid ranges specified for container and host Ports: 80-90 and 1-2")),
        ] {
            let expected = expected.map(|ports: Vec<&str>| ports.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(expand(text), expected.map_err(str::to_owned), "{text}");
        }
    }
}
