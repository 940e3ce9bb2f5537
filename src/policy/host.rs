//! Hosts of requests, and patterns of hosts (`hosts` of a route).
//!
//! The host of a request is its authority, from `Host` in HTTP/1.1 and from `:authority` in HTTP/2. Case, and a dot at the
//! end, have no meaning (RFC 9110 §4.2.3). The default port is 443, because clients speak HTTPS to the proxy.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use super::condition::IfDoubtful;
use super::pattern::{Pattern, SyntaxError};
use crate::identity::Attribute;

/// The host of a request, as far as the host is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// The host and port, as the client sent them.
    Named(&'a str),
    /// The request names no host, as HTTP/1.0 allows. The backend may assume any host, so that every condition is doubtful.
    Absent,
    /// The host is not recorded, as in audit records. No condition on the host holds.
    Unrecorded,
}

impl<'a> From<Option<&'a str>> for Host<'a> {
    fn from(named: Option<&'a str>) -> Self {
        named.map_or(Self::Absent, Self::Named)
    }
}

/// The port of a host that is sent without a port.
pub(super) const DEFAULT_PORT: u16 = 443;

/// A host of a route: a name whose labels may have wildcards, or an IPv6 address, each with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPattern {
    pub(super) name: Name,
    /// Port that the request must name; `None` for any port.
    pub(super) port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Labels(Pattern),
    Address(Ipv6Addr),
}

/// Returns true if the host meets the condition. An empty list of patterns is no condition, and always holds.
pub(crate) fn holds(hosts: &[HostPattern], host: Host<'_>, if_doubtful: IfDoubtful) -> bool {
    if hosts.is_empty() {
        return true;
    }
    let named = match host {
        Host::Named(text) => Authority::read(text),
        Host::Absent => None,
        Host::Unrecorded => return false,
    };
    match named {
        Some(authority) => hosts.iter().any(|pattern| pattern.matches(&authority)),
        None => if_doubtful == IfDoubtful::Met,
    }
}

/// The host of a request, in canonical form.
struct Authority<'a> {
    name: Cow<'a, str>,
    address: Option<Ipv6Addr>,
    port: u16,
}

impl<'a> Authority<'a> {
    /// Reads the authority of a request. Returns `None` if two programs could read the text as two different hosts.
    fn read(text: &'a str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, after) = rest.split_once(']')?;
            let port = if after.is_empty() { DEFAULT_PORT } else { after.strip_prefix(':')?.parse().ok()? };
            return Some(Self { name: Cow::Borrowed(""), address: Some(address.parse().ok()?), port });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, port.parse().ok()?),
            None => (text, DEFAULT_PORT),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        // Some frameworks read `.shop.example` as all hosts below `shop.example`, and some remove every dot at the end.
        if name.split('.').any(str::is_empty) {
            return None;
        }
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        Some(Self { name, address: None, port })
    }
}

impl HostPattern {
    /// Reads `shop.example`, `*.shop.example:8443` or `[2001:db8::1]`.
    pub(crate) fn parse(text: &str) -> Result<Self, SyntaxError> {
        if let Some(wrong) = no_host(text) {
            return Err(wrong);
        }
        if let Some(rest) = text.strip_prefix('[') {
            return bracketed(rest, text);
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(parse_port(port, text)?)),
            None => (text, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.split('.').any(str::is_empty) {
            return Err(empty_label(name, text));
        }
        Ok(Self { name: Name::Labels(Pattern::parse(Attribute::Dns, name)?), port })
    }

    fn matches(&self, authority: &Authority<'_>) -> bool {
        self.port.is_none_or(|port| port == authority.port)
            && match (&self.name, authority.address) {
                (Name::Labels(pattern), None) => pattern.matches(&authority.name),
                (Name::Address(own), Some(address)) => *own == address,
                _ => false,
            }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Labels(pattern) => write!(f, "{pattern}")?,
            Name::Address(address) => write!(f, "[{address}]")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Returns the mistake of a text that is not a host at all: a URL, a path, a capture, or letters outside of ASCII.
fn no_host(text: &str) -> Option<SyntaxError> {
    let wrong = |message: String| SyntaxError::new(0, text.len(), message);
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        return Some(
            wrong(format!("`{text}` is a URL, and a host has no scheme")).help(format!("write `{host}`")),
        );
    }
    if let Some((host, _)) = text.split_once('/') {
        let help = format!("write `{host}` here, and the path in `route`");
        return Some(wrong(format!("`{text}` has a path, and a host has none")).help(help));
    }
    if let Some((_, host)) = text.rsplit_once('@') {
        return Some(
            wrong(format!("`{text}` has a user, and a host has none")).help(format!("write `{host}`")),
        );
    }
    if text.contains(['{', '}']) {
        let help = "list the hosts, or write `*` for a part of a label: `*.shop.example`";
        return Some(wrong(format!("`{text}`: `{{…}}` cannot be used in `hosts`")).help(help));
    }
    if !text.is_ascii() {
        let help = "write it as clients send it, in the form of DNS that begins with `xn--`";
        return Some(wrong(format!("`{text}` contains characters that a host name cannot have")).help(help));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some(
            wrong(format!("`{text}` is an address without its brackets")).help(format!("write `[{text}]`")),
        );
    }
    let is_of_hosts = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~*:[]".contains(&byte);
    if text.len() > 255 || text.is_empty() || !text.bytes().all(is_of_hosts) {
        return Some(not_a_host(text));
    }
    None
}

fn not_a_host(text: &str) -> SyntaxError {
    SyntaxError::new(0, text.len(), format!("`{text}` is not a host"))
        .help("write a name, with its port if only that one is meant, as in `shop.example` or `*.shop.example:8443`")
}

fn bracketed(rest: &str, text: &str) -> Result<HostPattern, SyntaxError> {
    let (address, after) = rest.split_once(']').ok_or_else(|| not_a_host(text))?;
    let address = address.parse().map_err(|_| not_a_host(text))?;
    let port = match after.strip_prefix(':') {
        Some(port) => Some(parse_port(port, text)?),
        None if after.is_empty() => None,
        None => return Err(not_a_host(text)),
    };
    Ok(HostPattern { name: Name::Address(address), port })
}

fn parse_port(port: &str, text: &str) -> Result<u16, SyntaxError> {
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|port: &u16| is_number && *port > 0);
    let start = text.len().saturating_sub(port.len());
    number.ok_or_else(|| {
        SyntaxError::new(start, text.len(), format!("`{port}` is not a port"))
            .help("write a number from 1 to 65535, or leave the port out, which means any")
    })
}

fn empty_label(name: &str, text: &str) -> SyntaxError {
    let wrong = SyntaxError::new(0, text.len(), format!("`{text}` has an empty label"));
    match name.strip_prefix('.') {
        Some(rest) if !rest.is_empty() => wrong.help(format!(
            "write `*.{rest}` for the hosts directly below `{rest}`, or `**.{rest}` for all below it"
        )),
        _ => wrong.help("write a single dot between two labels"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(patterns: &[&str], host: Host<'_>) -> (bool, bool) {
        let patterns: Vec<_> = patterns.iter().map(|text| HostPattern::parse(text).unwrap()).collect();
        (holds(&patterns, host, IfDoubtful::Unmet), holds(&patterns, host, IfDoubtful::Met))
    }

    #[test]
    fn hosts_are_compared_in_canonical_form() {
        let all = ["shop.example", "*.Shop.Example:8443", "[2001:DB8::1]", "10.0.0.1:443"];
        for host in [
            "shop.example",
            "SHOP.example.",
            "shop.example:1",
            "a.shop.example:8443",
            "A-b.shop.EXAMPLE.:08443",
            "[2001:db8:0::1]:9",
            "10.0.0.1",
            "10.0.0.1:443",
        ] {
            assert_eq!(meets(&all, Host::Named(host)), (true, true), "{host}");
        }
        for host in [
            "example",
            "a.shop.example",
            "a.shop.example:443",
            "a.b.shop.example:8443",
            "shop.example.org",
            "[::1]",
            "10.0.0.1:80",
        ] {
            assert_eq!(meets(&all, Host::Named(host)), (false, false), "{host}");
        }
        for host in [".shop.example", "shop..example", "shop.example..", "."] {
            assert_eq!(meets(&all, Host::Named(host)), (false, true), "{host}");
        }
        assert_eq!(
            meets(&["**"], Host::Named("[::1]")),
            (false, false),
            "a pattern of names is of no address"
        );
        assert_eq!(meets(&["**.example"], Host::Named("a.b.example")), (true, true));
        assert_eq!(meets(&all, Host::Absent), (false, true));
        assert_eq!(meets(&all, Host::Unrecorded), (false, false));
        assert_eq!(meets(&[], Host::Absent), (true, true), "no hosts are no condition");
    }

    #[test]
    fn a_text_that_is_not_a_host_is_refused_with_help() {
        for (text, help) in [
            ("https://shop.example/x", "write `shop.example`"),
            ("shop.example/x", "write `shop.example` here, and the path in `route`"),
            ("me@shop.example", "write `shop.example`"),
            ("::1", "write `[::1]`"),
            (
                ".shop.example",
                "write `*.shop.example` for the hosts directly below `shop.example`, or `**.shop.example` for all below it",
            ),
            ("shop.example:*", "write a number from 1 to 65535, or leave the port out, which means any"),
            ("shop.example:0", "write a number from 1 to 65535, or leave the port out, which means any"),
            ("shop.example:", "write a number from 1 to 65535, or leave the port out, which means any"),
        ] {
            assert_eq!(HostPattern::parse(text).unwrap_err().help.as_deref(), Some(help), "{text}");
        }
        for text in [
            "",
            "a b",
            "a,b",
            "[::1",
            "[::1]x",
            "[x]",
            "{tenant}.example",
            "m\u{fc}ller.example",
            "a***b",
            "a..b",
        ] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }
}
