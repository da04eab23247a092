//! Who is at the other end, when proxies are in between.

use std::net::IpAddr;

use serde::Deserialize;

/// Of a list of addresses no more than these are looked at.
const MAX_HOPS: usize = 16;

/// An address, or all that begin with the same bits: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether the address is of it.
    pub fn has(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(one)) => same(net.to_bits().into(), one.to_bits().into(), 32, self.bits),
            (IpAddr::V6(net), IpAddr::V6(one)) => same(net.to_bits(), one.to_bits(), 128, self.bits),
            _ => false,
        }
    }
}

fn same(net: u128, one: u128, of: u32, bits: u8) -> bool {
    (net ^ one).checked_shr(of - u32::from(bits)).unwrap_or(0) == 0
}

impl TryFrom<String> for Network {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wanted = || format!("{text:?}: wanted an address as 192.0.2.7, or a network as 10.0.0.0/8");
        let (address, bits) = text.split_once('/').map_or((text.as_str(), None), |(a, bits)| (a, Some(bits)));
        let address = address.parse::<IpAddr>().map_err(|_| wanted())?.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wanted())?;
        if bits > most { Err(wanted()) } else { Ok(Network { address, bits }) }
    }
}

/// Whether it is one of these.
pub fn trusted(proxies: &[Network], address: IpAddr) -> bool {
    proxies.iter().any(|proxy| proxy.has(address))
}

/// The client of a request: the last address in `forwarded` (X-Forwarded-For, its lines in their order) that is no proxy
/// of ours. What stands before it was said by the client himself, and what a peer says that is no proxy is not heard.
pub fn client<'a>(proxies: &[Network], peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
    if !trusted(proxies, peer) {
        return peer.to_canonical();
    }
    let mut last = peer;
    for hop in forwarded.rev().flat_map(|line| line.rsplit(',')).take(MAX_HOPS) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        last = address;
        if !trusted(proxies, address) {
            break;
        }
    }
    last.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(all: &[&str]) -> Vec<Network> {
        all.iter().map(|text| Network::try_from((*text).to_owned()).unwrap()).collect()
    }

    #[test]
    fn a_network_is_an_address_and_bits() {
        let nets = networks(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.7", "0.0.0.0/0"]);
        let has = |n: usize, text: &str| nets[n].has(text.parse().unwrap());
        assert!(has(0, "10.255.0.1") && !has(0, "11.0.0.1") && has(0, "::ffff:10.1.1.1"));
        assert!(has(1, "2001:db8:1::1") && !has(1, "2001:db9::1") && !has(1, "10.0.0.1"));
        assert!(has(2, "192.0.2.7") && !has(2, "192.0.2.6") && has(3, "8.8.8.8"));
        for bad in ["", "10.0.0.0/33", "proxy", "10.0.0.0/x", "::/129"] {
            assert!(Network::try_from(bad.to_owned()).unwrap_err().contains("wanted"), "{bad}");
        }
    }

    #[test]
    fn what_a_client_says_of_himself_is_not_believed() {
        let proxies = networks(&["10.0.0.0/8"]);
        let client =
            |peer: &str, lines: &[&str]| client(&proxies, peer.parse().unwrap(), lines.iter().copied()).to_string();
        assert_eq!(client("203.0.113.7", &["192.0.2.1"]), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["192.0.2.1, 203.0.113.7"]), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["192.0.2.1", "203.0.113.7, 10.9.9.9"]), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["rubbish"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.1, rubbish, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }
}
