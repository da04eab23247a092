//! Feeds a driver of a CAN bus, and holds it to what every driver promises.

use embedded_can::{ExtendedId, Frame as _, Id, StandardId};
use speedwell::{
    clock::BootNs,
    sensor::{Frame, FrameSensor, TimedFrame},
};

/// Bytes that make a frame: how it is, its identifier, its payload.
const FRAME: usize = 1 + 4 + 8;

/// Takes the bytes as frames, with ticks and questions between them, and looks at every reading. Of the identifiers that
/// are tried, every other one is one that is listened to.
pub fn feed(sensor: &mut dyn FrameSensor, listened: &[u32], bytes: &[u8]) {
    let (mut now, mut out) = (BootNs(1_000_000_000), Vec::new());
    for piece in bytes.chunks(FRAME) {
        let (how, rest) = (piece[0], piece.get(1..).unwrap_or_default());
        let (id, payload) = rest.split_at(rest.len().min(4));
        let told = id.iter().fold(0, |sum: u32, &byte| sum << 8 | u32::from(byte));
        let raw = match listened.get(usize::from(how >> 4)) {
            Some(&listened) => listened,
            None => told & 0x1FFF_FFFF,
        };
        let id: Option<Id> = match raw > 0x7FF || how & 1 == 1 {
            true => ExtendedId::new(raw).map(Id::Extended),
            false => StandardId::new(raw as u16).map(Id::Standard),
        };
        let Some(id) = id else { continue };
        let frame = if how & 2 == 2 { Frame::new_remote(id, payload.len()) } else { Frame::new(id, payload) };
        while sensor.ask(now).is_some() {}
        if let Some(frame) = frame {
            sensor.on_frame(&TimedFrame { t: now, frame }, &mut out);
        }
        sensor.tick(now, &mut out);
        let channels = sensor.channels().len();
        for reading in out.drain(..) {
            assert!(reading.channel < channels);
            if let Ok(value) = reading.value {
                assert!(
                    value.value.is_finite() && value.uncertainty.is_finite() && value.uncertainty >= 0.0,
                    "{value:?}"
                );
            }
        }
        let _ = sensor.trouble();
        now.0 += u64::from(how) * 1_000_000;
    }
}
