//! The backend: whether the proxy can reach it, and whether others can reach it without the proxy.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Finding;
use crate::config::Config;
use crate::forward::Location;

const REACHABLE: &str = "backend";
const AROUND: &str = "around";

pub(super) fn check_backend(config: &Config) -> Vec<Finding> {
    let patience = config.backend_timeouts.connect;
    match &config.backend.location {
        Location::Unix(path) => vec![reach_socket(path), around_socket(path)],
        Location::Tcp { host, port, .. } => {
            let addresses: Vec<SocketAddr> =
                (host.as_str(), *port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
            vec![reach(host, &addresses, patience), around(config, &addresses, *port, patience)]
        }
    }
}

fn reach(host: &str, addresses: &[SocketAddr], patience: Duration) -> Finding {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, patience) {
            Ok(_) => return Finding::fine(REACHABLE, format!("{address} takes connections")),
            Err(error) => last = error,
        }
    }
    let message = format!("{host} cannot be reached: {last}");
    Finding::wrong(
        REACHABLE,
        message,
        "start the backend, or correct `backend.url`; permitted requests get 504 until then",
    )
}

fn reach_socket(path: &Path) -> Finding {
    match UnixStream::connect(path) {
        Ok(_) => Finding::fine(REACHABLE, format!("`{}` takes connections", path.display())),
        Err(error) => Finding::wrong(
            REACHABLE,
            format!("`{}` cannot be reached: {error}", path.display()),
            "start the backend, or correct `backend.url`; permitted requests get 504 until then",
        ),
    }
}

/// Every user with the right to write to a socket can connect to it.
fn around_socket(path: &Path) -> Finding {
    let anybody = fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o002 != 0);
    if anybody {
        let message = format!("every user of this machine may connect to `{}`", path.display());
        return Finding::wrong(
            AROUND,
            message,
            "remove the right to write from others, or move the socket to a folder that others cannot enter",
        );
    }
    Finding::fine(AROUND, "only users who may open the socket reach the backend without the sidecar")
}

/// Tries a backend on this machine at the machine's other addresses, where no proxy stands before it.
fn around(config: &Config, addresses: &[SocketAddr], port: u16, patience: Duration) -> Finding {
    if !addresses.iter().any(|address| address.ip().is_loopback()) {
        return Finding::fine(
            AROUND,
            "the backend is not on this machine's loopback: only a network rule can keep others from it",
        );
    }
    let ours = |address: &IpAddr| config.listen.port() == port && covers(config.listen.ip(), *address);
    let open: Vec<String> = own_addresses()
        .into_iter()
        .filter(|address| !ours(address))
        .map(|address| SocketAddr::new(address, port))
        .filter(|address| TcpStream::connect_timeout(address, patience.min(Duration::from_secs(1))).is_ok())
        .map(|address| address.to_string())
        .collect();
    if open.is_empty() {
        return Finding::fine(AROUND, "the backend takes connections on loopback only");
    }
    let message = format!("the backend takes connections on {} as well", open.join(", "));
    Finding::wrong(
        AROUND,
        message,
        "bind it to 127.0.0.1 or to a Unix socket: a client that reaches it there needs no certificate",
    )
}

fn covers(listen: IpAddr, address: IpAddr) -> bool {
    listen.is_unspecified() || listen == address
}

/// Returns the addresses of this machine that others can reach, from the tables of the Linux kernel.
fn own_addresses() -> Vec<IpAddr> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let mut addresses = version_4(&read("/proc/net/fib_trie"));
    addresses.extend(version_6(&read("/proc/net/if_inet6")));
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Each local address is on a line `|-- ADDRESS`, with `/32 host LOCAL` below it.
fn version_4(trie: &str) -> Vec<IpAddr> {
    let mut last = None;
    let mut found = Vec::new();
    for line in trie.lines() {
        if let Some(address) = line.trim_start().strip_prefix("|-- ") {
            last = address.parse::<IpAddr>().ok();
        } else if line.contains("/32 host LOCAL") {
            found.extend(last.filter(|address| !address.is_loopback()));
        }
    }
    found
}

/// Link-local addresses are left out, because a connection to them must name an interface.
fn version_6(interfaces: &str) -> Vec<IpAddr> {
    let digits = interfaces.lines().filter_map(|line| line.split_whitespace().next());
    let addresses = digits.filter_map(|digits| u128::from_str_radix(digits, 16).ok()).map(Ipv6Addr::from);
    addresses.filter(|it| !it.is_loopback() && !it.is_unicast_link_local()).map(IpAddr::V6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_addresses_are_found() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n           |-- 127.0.0.1\n              /32 host LOCAL\n           |-- 192.0.2.2\n              /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\n";
        assert_eq!(version_4(trie), ["192.0.2.2".parse::<IpAddr>().unwrap()]);
        let interfaces = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\nfd000000000000000000000000000002 04 40 00 82     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(version_6(interfaces), ["fd00::2".parse::<IpAddr>().unwrap()]);
    }
}
