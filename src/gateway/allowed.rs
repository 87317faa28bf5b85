//! Who may connect over TCP: `allowed_clients`. What a network is, the configuration says. Pure.

use std::net::IpAddr;

use crate::config::network::Network;

/// The networks; none is everyone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Vec<Network>);

impl Allowed {
    /// Reads networks as the configuration writes them.
    ///
    /// # Errors
    /// The first text that is none.
    pub fn parse(texts: &[String]) -> Result<Allowed, String> {
        let network = |text: &String| Network::parse(text).map_err(|_| text.clone());
        texts.iter().map(network).collect::<Result<_, _>>().map(Allowed)
    }

    /// Whether this address may connect. A v4-mapped IPv6 address counts as the IPv4 address in it.
    pub fn admits(&self, address: IpAddr) -> bool {
        self.0.is_empty() || self.0.iter().any(|network| network.contains(address))
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
            (&["192.0.2.0/25"], "192.0.2.1", true),
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
        for text in
            ["", "x", "1.2.3.4/33", "::/129", "1.2.3.4/", "::ffff:1.2.3.4/95", "1.2.3.4/-1", "192.0.2.77/25"]
        {
            assert_eq!(Allowed::parse(&[text.to_owned()]), Err(text.to_owned()));
        }
    }
}
