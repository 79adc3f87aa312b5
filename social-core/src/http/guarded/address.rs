//! Which addresses the public Internet knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to a single host that everybody can reach.
///
/// False for everything in IANA's special-purpose registries: private, shared, link-local, loopback, documentation,
/// benchmarking, multicast and reserved ranges, and all IPv6 forms that carry an IPv4 address inside (mapped, translated,
/// 6to4, Teredo), because what they reach is decided elsewhere.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|(network, prefix)| lies_in(ip.into(), (*network).into(), *prefix)),
        IpAddr::V6(ip) => {
            let (unicast, prefix) = GLOBAL_UNICAST_V6;
            lies_in(ip.into(), unicast.into(), prefix)
                && !SPECIAL_V6.iter().any(|(network, prefix)| lies_in(ip.into(), (*network).into(), *prefix))
        }
    }
}

const SPECIAL_V4: [(Ipv4Addr, u8); 19] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),          // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),         // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),      // shared behind carriers
    (Ipv4Addr::new(127, 0, 0, 0), 8),        // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),     // link-local, cloud metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),      // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),       // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),       // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24),    // AS112
    (Ipv4Addr::new(192, 52, 193, 0), 24),    // multicast tunnelling
    (Ipv4Addr::new(192, 88, 99, 0), 24),     // former 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),     // private
    (Ipv4Addr::new(192, 175, 48, 0), 24),    // AS112
    (Ipv4Addr::new(198, 18, 0, 0), 15),      // benchmarking
    (Ipv4Addr::new(198, 51, 100, 0), 24),    // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),     // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),        // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),        // reserved
    (Ipv4Addr::new(255, 255, 255, 255), 32), // broadcast
];

/// Nothing outside is a public host: neither loopback, unique local, link-local and multicast addresses nor the mapped and
/// translated ones.
const GLOBAL_UNICAST_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

const SPECIAL_V6: [(Ipv6Addr, u8); 5] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments: Teredo, benchmarking, ORCHID and others
    (Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x2620, 0x4F, 0x8000, 0, 0, 0, 0, 0), 48), // AS112
    (Ipv6Addr::new(0x3FFF, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// Whether the first `prefix` bits of both agree; addresses of different versions never do.
pub(super) fn lies_in(ip: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let differs = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => u128::from(ip.to_bits() ^ network.to_bits()) << 96,
        (IpAddr::V6(ip), IpAddr::V6(network)) => ip.to_bits() ^ network.to_bits(),
        _ => return false,
    };
    differs.leading_zeros() >= u32::from(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_compared_bit_by_bit() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (address, network, prefix, expected) in [
            ("10.1.2.3", "10.1.2.3", 32, true),
            ("10.1.2.2", "10.1.2.3", 32, false),
            ("10.1.2.2", "10.1.2.3", 31, true),
            ("10.255.0.1", "10.0.0.0", 8, true),
            ("11.0.0.0", "10.0.0.0", 8, false),
            ("8.8.8.8", "0.0.0.0", 0, true),
            ("::1", "::1", 128, true),
            ("::2", "::1", 128, false),
            ("2001:db8::1", "2001:db8::", 32, true),
            ("::ffff:10.0.0.1", "10.0.0.0", 8, false),
            ("10.0.0.1", "::", 0, false),
        ] {
            assert_eq!(lies_in(ip(address), ip(network), prefix), expected, "{address} in {network}/{prefix}");
        }
    }
}
