//! The address that an example request comes from: one address for each combination of networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::condition::Network;

/// The source address of examples without a condition on it, from a block that is reserved for documentation (RFC 5737).
const DEFAULT_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Returns an address that is in the networks with `true` and outside of those with `false`.
///
/// Networks begin and end at borders, so each combination of networks that has an address contains a border. The
/// candidates below therefore suffice to prove that no address exists.
pub(super) fn address(conditions: &[(&[Network], bool)]) -> Option<IpAddr> {
    let within = |networks: &[Network], address| networks.iter().any(|network| network.contains(address));
    let fits =
        |address: &IpAddr| conditions.iter().all(|(networks, wanted)| within(networks, *address) == *wanted);
    let lowest = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    // The first IPv6 address after the block that holds IPv4 addresses in IPv6 notation.
    let beyond = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 1, 0, 0, 0));
    let borders = || conditions.iter().flat_map(|(networks, _)| networks.iter()).flat_map(Network::borders);
    let hosts = borders().filter_map(next);
    let mut candidates =
        std::iter::once(DEFAULT_SOURCE).chain(hosts).chain(borders()).chain(lowest).chain([beyond]);
    candidates.find(fits)
}

/// Returns the address after a border: a host's address is a clearer example than a network's address.
fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(Ipv4Addr::from_bits)?.into(),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(Ipv6Addr::from_bits)?.into(),
    })
}
