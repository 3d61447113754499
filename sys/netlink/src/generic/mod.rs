//! Generic netlink: families of commands that are known by name.

mod attributes;
mod socket;
pub mod wireguard;

use attributes::{Attributes, Writer};
use socket::GenericSocket;

/// `GENL_ID_CTRL`.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const CONTROLLER_VERSION: u8 = 2;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// Asks which number a family has.
fn get_family(name: &str) -> Vec<u8> {
    let mut writer = Writer::command(GET_FAMILY, CONTROLLER_VERSION);
    writer.text(FAMILY_NAME, name);
    writer.into_bytes()
}

fn family_id(answer: &[u8]) -> Option<u16> {
    let mut attributes = Attributes::of_command(answer);
    let (_, id) = attributes.find(|(kind, _)| *kind == FAMILY_ID)?;
    Some(u16::from_ne_bytes(id.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_asked_for_by_name() {
        let want = [&[3, 2, 0, 0, 14, 0, 2, 0][..], b"wireguard\0\0\0"].concat();
        assert_eq!(get_family("wireguard"), want);
    }

    #[test]
    fn its_number_is_found_among_the_rest() {
        let answer = [
            &[1, 2, 0, 0, 14, 0, 2, 0][..],
            b"wireguard\0\0\0",
            &[6, 0, 1, 0, 0x1d, 0, 0, 0],
            &[8, 0, 3, 0, 1, 0, 0, 0],
        ]
        .concat();
        assert_eq!(family_id(&answer), Some(0x1d));
        assert_eq!(family_id(&answer[..12]), None);
    }
}
