use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

/// The address that a whole name below `in-addr.arpa` or `ip6.arpa` stands for.
pub(super) fn address(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&[u8]> = name.iter().collect();
    let (last, rest) = labels.split_last()?;
    let (family, digits) = rest.split_last()?;
    if !last.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    if family.eq_ignore_ascii_case(b"in-addr") {
        return four(digits).map(IpAddr::V4);
    }
    family
        .eq_ignore_ascii_case(b"ip6")
        .then(|| six(digits))
        .flatten()
        .map(IpAddr::V6)
}

fn four(labels: &[&[u8]]) -> Option<Ipv4Addr> {
    let octets: [&[u8]; 4] = labels.try_into().ok()?;
    let mut ip = [0; 4];
    for (octet, label) in ip.iter_mut().rev().zip(octets) {
        *octet = std::str::from_utf8(label).ok()?.parse().ok()?;
    }
    Some(ip.into())
}

fn six(labels: &[&[u8]]) -> Option<Ipv6Addr> {
    let digits: [&[u8]; 32] = labels.try_into().ok()?;
    let mut number: u128 = 0;
    for label in digits.iter().rev() {
        let [digit] = label else { return None };
        number = number << 4 | u128::from(char::from(*digit).to_digit(16)?);
    }
    Some(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_addresses_are_addresses() {
        let of = |text: &str| address(&Name::from_ascii(text).expect("a name")).map(|ip| ip.to_string());
        assert_eq!(of("2.0.254.10.IN-ADDR.arpa."), Some("10.254.0.2".into()));
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.5.2.0.0.0.d.f.ip6.arpa.";
        assert_eq!(of(six), Some("fd00:254::1".into()));
        for text in [
            "254.10.in-addr.arpa.",
            "1.2.0.254.10.in-addr.arpa.",
            "x.0.254.10.in-addr.arpa.",
            "256.0.254.10.in-addr.arpa.",
            "4.5.2.0.0.0.d.f.ip6.arpa.",
            "2.0.254.10.in-addr.example.",
            "arpa.",
            ".",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
