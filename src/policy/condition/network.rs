//! Networks in CIDR notation.

use std::net::IpAddr;

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// Reads a network such as `10.0.0.0/8`, or a single address.
    ///
    /// # Errors
    /// A message and a help, if the text is no network, or has bits set after the prefix.
    pub fn parse(text: &str) -> Result<Self, (String, Option<String>)> {
        let wrong = || {
            (
                format!("`{text}` is not a network"),
                Some("write it as in `10.0.0.0/8`, or a single address".to_owned()),
            )
        };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length =
            length.map_or(Some(longest), |length| length.parse().ok()).filter(|length| *length <= longest);
        let network = Self { address, length: length.ok_or_else(wrong)? };
        if network.first_bits() != bits(address) {
            let meant = Self { address: address_of(network.first_bits(), address.is_ipv4()), ..network };
            return Err((
                format!("`{text}` is an address inside a network, not the start of one"),
                Some(format!("write `{meant}` for the network, or `{address}` for this one address")),
            ));
        }
        Ok(network.canonical())
    }

    /// Returns true if the network contains the address. An IPv4-mapped IPv6 address counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && Self { address, length: self.length }.first_bits() == bits(self.address)
    }

    /// Returns the first address of the network, and the first address after the network.
    pub(crate) fn borders(&self) -> impl Iterator<Item = IpAddr> {
        let longest = if self.address.is_ipv4() { 32u32 } else { 128 };
        let size = 1u128.checked_shl(longest.saturating_sub(u32::from(self.length)));
        let after = size.and_then(|size| bits(self.address).checked_add(size));
        let after = after.filter(|after| !self.address.is_ipv4() || u32::try_from(*after).is_ok());
        let after = after.map(|after| address_of(after, self.address.is_ipv4()));
        std::iter::once(self.address).chain(after)
    }

    /// Turns an IPv4-mapped IPv6 network into the IPv4 network.
    fn canonical(self) -> Self {
        match (self.address, self.address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(address)) if self.length >= 96 => {
                Self { address: IpAddr::V4(address), length: self.length - 96 }
            }
            _ => self,
        }
    }

    fn first_bits(&self) -> u128 {
        let spare = (if self.address.is_ipv4() { 32u32 } else { 128 }).saturating_sub(u32::from(self.length));
        let mask = u128::MAX.checked_shl(spare).unwrap_or(0);
        bits(self.address) & mask
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address_of(bits: u128, v4: bool) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if v4 => IpAddr::V4(bits.into()),
        _ => IpAddr::V6(bits.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let network = |text: &str| Network::parse(text).unwrap();
        let ip = |text: &str| text.parse().unwrap();
        assert!(
            network("10.0.0.0/8").contains(ip("10.255.0.1"))
                && !network("10.0.0.0/8").contains(ip("11.0.0.1"))
        );
        assert!(network("10.0.0.0/8").contains(ip("::ffff:10.0.0.1")));
        assert!(network("::ffff:10.0.0.0/104").contains(ip("10.9.9.9")));
        assert!(network("0.0.0.0/0").contains(ip("1.2.3.4")) && !network("0.0.0.0/0").contains(ip("::1")));
        assert!(network("2001:db8::/32").contains(ip("2001:db8::1")) && network("::1").contains(ip("::1")));
        assert_eq!(
            Network::parse("10.1.0.0/8").unwrap_err(),
            (
                "`10.1.0.0/8` is an address inside a network, not the start of one".to_owned(),
                Some("write `10.0.0.0/8` for the network, or `10.1.0.0` for this one address".to_owned())
            )
        );
        for text in ["10.0.0.0/33", "10.0.0/8", "", "a", "10.0.0.0/", "::/129"] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }
}
