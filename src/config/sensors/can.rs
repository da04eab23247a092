//! CAN interfaces that sensors name.

use crate::config::walk::{Section, Spot, Walk};

/// The interface a sensor listens to.
pub(super) fn interface(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<String> {
    spot(walk, section).map(|spot| spot.value)
}

/// The same with its place.
pub(super) fn spot(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<Spot<String>> {
    let spot = walk.required_text(section, "interface", "which CAN interface, as interface = \"can0\"")?;
    // IFNAMSIZ is 16 with the final zero; the kernel forbids slash, colon and space.
    let ok = spot.value.len() <= 15 && !spot.value.contains(['/', ':']) && !spot.value.contains(char::is_whitespace);
    if ok {
        return Some(spot);
    }
    walk.wrong(&spot, format!("{:?} cannot be the name of an interface", spot.value))
        .note("`ip -brief link show type can` lists those there are");
    None
}
