//! Who may connect over TCP: `allowed_clients`, networks in CIDR notation (RFC 4632, RFC 4291). Pure.

use std::net::IpAddr;

/// The networks; none is everyone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Vec<Network>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Allowed {
    /// Reads `192.0.2.0/24`, `2001:db8::/32` and single addresses.
    ///
    /// # Errors
    /// The first text that is none of these.
    pub fn parse(texts: &[String]) -> Result<Allowed, String> {
        let network = |text: &String| Network::parse(text).ok_or_else(|| text.clone());
        texts.iter().map(network).collect::<Result<_, _>>().map(Allowed)
    }

    /// Whether this address may connect. A v4-mapped IPv6 address counts as the IPv4 address in it.
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.is_empty() || self.0.iter().any(|network| network.holds(address))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let given: IpAddr = address.parse().ok()?;
        let address = given.to_canonical();
        let width = bits(given);
        let prefix = prefix.unwrap_or(width);
        // A v4-mapped network is the IPv4 network behind its first 96 bits.
        let prefix = if bits(address) == width { prefix } else { prefix.checked_sub(96)? };
        (prefix <= bits(address)).then_some(Network { address, prefix })
    }

    fn holds(&self, other: IpAddr) -> bool {
        let width = bits(self.address);
        if width != bits(other) {
            return false;
        }
        let shift = width - self.prefix;
        // A shift by all 128 bits is the network that holds everything.
        let differ = number(self.address) ^ number(other);
        differ.checked_shr(shift).unwrap_or(0) == 0
    }
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(networks: &[&str], address: &str) -> bool {
        let texts: Vec<String> = networks.iter().map(|text| (*text).to_owned()).collect();
        Allowed::parse(&texts).unwrap().admits(address.parse().unwrap())
    }

    #[test]
    fn networks_hold_their_addresses() {
        for (networks, address, expected) in [
            (&[][..], "203.0.113.9", true),
            (&["127.0.0.1"], "127.0.0.1", true),
            (&["127.0.0.1"], "127.0.0.2", false),
            (&["192.0.2.0/24", "10.0.0.0/8"], "10.255.0.1", true),
            (&["192.0.2.0/24"], "192.0.3.0", false),
            (&["192.0.2.77/25"], "192.0.2.1", true),
            (&["0.0.0.0/0"], "1.2.3.4", true),
            (&["0.0.0.0/0"], "::1", false),
            (&["::/0"], "::1", true),
            (&["2001:db8::/32"], "2001:db8:ffff::1", true),
            (&["2001:db8::/32"], "2001:db9::1", false),
            (&["127.0.0.0/8"], "::ffff:127.0.0.1", true),
            (&["::ffff:10.0.0.0/104"], "10.1.1.1", true),
            (&["::ffff:10.0.0.0/104"], "11.1.1.1", false),
        ] {
            assert_eq!(admits(networks, address), expected, "{networks:?} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["", "x", "1.2.3.4/33", "::/129", "1.2.3.4/", "::ffff:1.2.3.4/95", "1.2.3.4/-1"] {
            assert_eq!(Allowed::parse(&[text.to_owned()]), Err(text.to_owned()));
        }
    }
}
