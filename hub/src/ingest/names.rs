//! Names of strangers' vehicles as gateway ids: any text, so that no vehicle is refused for its plate.
//!
//! What a [`GatewayId`] may not hold is written as `_` and two hexadecimal digits a byte: `34 ABC 7` is `34_20ABC_207`. A
//! `_` that would look like that is written so itself, so no two names become one, and [`plain`] gives the name back.

use speedwell_wire::GatewayId;

/// The id of a vehicle of this name.
pub fn gateway_id(name: &str) -> Result<GatewayId, String> {
    let told = |id: &str| format!("{name:?} is {} bytes long as the id {id:?}, allowed are 1 to 64", id.len());
    // No byte becomes fewer, so what is longer already need not be written out first.
    if name.len() > GatewayId::MAX_LEN {
        return Err(format!("a name of {} bytes, allowed are 1 to {}", name.len(), GatewayId::MAX_LEN));
    }
    let mut id = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let stands = byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        match stands || byte == b'_' && hex(name.as_bytes(), at + 1).is_none() {
            true => id.push(char::from(byte)),
            false => id.push_str(&format!("_{byte:02x}")),
        }
    }
    GatewayId::new(id).map_err(|bad| told(&bad.0))
}

/// The name behind an id.
pub fn plain(id: &GatewayId) -> String {
    let (id, mut name, mut at) = (id.as_str().as_bytes(), Vec::new(), 0);
    while let Some(&byte) = id.get(at) {
        let escaped = (byte == b'_').then(|| hex(id, at + 1)).flatten();
        name.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&name).into_owned()
}

/// The byte that two lower-case hexadecimal digits mean.
fn hex(text: &[u8], at: usize) -> Option<u8> {
    let digit = |at| match text.get(at) {
        Some(&b @ b'0'..=b'9') => Some(b - b'0'),
        Some(&b @ b'a'..=b'f') => Some(b - b'a' + 10),
        _ => None,
    };
    Some(digit(at)? << 4 | digit(at + 1)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plate_is_readable_as_an_id_as_far_as_an_id_may_be() {
        for (name, id) in
            [("34ABC7", "34ABC7"), ("my_truck", "my_truck"), ("34 ABC 7", "34_20ABC_207"), ("粤B7", "_e7_b2_a4B7")]
        {
            assert_eq!(gateway_id(name).unwrap().as_str(), id);
        }
        assert_eq!(gateway_id("a_20b").unwrap().as_str(), "a_5f20b", "not the id of \"a b\"");
        assert!(gateway_id("").is_err() && gateway_id(&"粤".repeat(20)).unwrap_err().contains("1 to 64"));
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "[a-f0-9_ ü/]{1,12}|.{1,5}") {
            prop_assert_eq!(plain(&gateway_id(&name).unwrap()), name);
        }
    }
}
