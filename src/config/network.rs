//! Networks of `allowed_clients`: reading them, and telling whether an address is inside. RFC 4632 and RFC 4291, 2.3.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// All addresses that begin alike: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `192.0.2.1`, `192.0.2.0/24`, `::1` or `2001:db8::/32`.
    ///
    /// # Errors
    /// A sentence that says what is right.
    pub fn parse(text: &str) -> Result<Network, String> {
        let wrong = || {
            format!(
                "'{text}' is not an address or network; write \"192.0.2.1\", \"192.0.2.0/24\" or \"2001:db8::/32\""
            )
        };
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let digits = |prefix: &&str| !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => longest,
            Some(prefix) => match Some(prefix).filter(digits).and_then(|prefix| prefix.parse().ok()) {
                Some(prefix) if prefix <= longest => prefix,
                _ => return Err(wrong()),
            },
        };
        let network = Network { address, prefix };
        let base = network.base();
        if base != address {
            return Err(format!("'{text}' has bits beyond its prefix; write \"{base}/{prefix}\""));
        }
        Ok(network)
    }

    /// Whether the address is in it. One of IPv4 that came in over IPv6 (`::ffff:192.0.2.1`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match (self.address.to_canonical(), address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                let prefix = self.prefix.saturating_sub(u8::from(self.is_mapped()) * 96);
                masked(address, prefix) == masked(self.address.to_canonical(), prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    fn is_mapped(&self) -> bool {
        self.address.is_ipv6() && self.address.to_canonical().is_ipv4()
    }

    fn base(&self) -> IpAddr {
        masked(self.address, self.prefix)
    }
}

/// The address with all bits but the first `prefix` cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl fmt::Display for Network {
    /// As the configuration writes it: a single address without a prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let single = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == single {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn is_in(network_text: &str, address: &str) -> bool {
        network(network_text).contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_inside_by_their_first_bits() {
        assert!(is_in("192.0.2.0/24", "192.0.2.255"));
        assert!(!is_in("192.0.2.0/24", "192.0.3.0"));
        assert!(is_in("192.0.2.7", "192.0.2.7"));
        assert!(!is_in("192.0.2.7", "192.0.2.6"));
        assert!(is_in("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!is_in("2001:db8::/33", "2001:db8:8000::1"));
        assert!(is_in("0.0.0.0/0", "8.8.8.8"));
        assert!(!is_in("0.0.0.0/0", "::1"));
        assert!(is_in("::/0", "::1"));
        assert!(!is_in("::/0", "127.0.0.1"));
    }

    #[test]
    fn an_address_of_ipv4_is_that_however_it_came() {
        assert!(is_in("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(is_in("::ffff:127.0.0.0/104", "127.1.2.3"));
        assert!(!is_in("::ffff:127.0.0.0/104", "128.0.0.1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "x", "1.2.3", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/+8", "::1/129", "any", "1.2.3.4:80"]
        {
            let sentence = Network::parse(text).unwrap_err();
            assert!(sentence.starts_with(&format!("'{text}' is not an address or network")), "{sentence}");
        }
        assert_eq!(
            Network::parse("10.1.0.0/8"),
            Err("'10.1.0.0/8' has bits beyond its prefix; write \"10.0.0.0/8\"".to_owned())
        );
    }

    proptest! {
        #[test]
        fn a_shown_network_is_read_back(address: IpAddr, prefix in 0u8..=128) {
            let prefix = if address.is_ipv4() { prefix.min(32) } else { prefix };
            let network = Network { address: masked(address, prefix), prefix };
            prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
            prop_assert!(network.contains(network.address));
        }
    }
}
