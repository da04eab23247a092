//! CAN interfaces that sensors name.

use crate::config::walk::{Section, Walk};

/// The interface a sensor listens to.
pub(super) fn interface(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<String> {
    let spot = walk.required_text(section, "interface", "which CAN interface, as interface = \"can0\"")?;
    // IFNAMSIZ is 16 with the final zero; the kernel forbids slash, colon and space.
    let ok = spot.value.len() <= 15 && !spot.value.contains(['/', ':']) && !spot.value.contains(char::is_whitespace);
    if ok {
        return Some(spot.value);
    }
    walk.wrong(&spot, format!("{:?} cannot be the name of an interface", spot.value))
        .note("`ip -brief link show type can` lists those there are");
    None
}
