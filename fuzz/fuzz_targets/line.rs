//! Feeds a driver of a serial line, and holds it to what every driver promises.

use speedwell::{
    clock::BootNs,
    sensor::{ByteSensor, Reading},
};

/// Time between two reads, ns.
const STEP_NS: u64 = 10_000_000;

/// Cuts the bytes into reads, with ticks and requests between them, and looks at every reading.
pub fn feed(sensor: &mut dyn ByteSensor, bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let (mut now, mut out, mut asked) = (BootNs(1_000_000_000), Vec::new(), Vec::new());
    for read in bytes.chunks(usize::from(cut % 64) + 1) {
        sensor.ask(now, &mut asked);
        sensor.on_bytes(now, read, &mut out);
        sensor.tick(now, &mut out);
        let channels = sensor.channels().len();
        out.drain(..).for_each(|reading| hold(&reading, channels));
        asked.clear();
        now.0 += STEP_NS;
    }
}

/// A value is a number, its uncertainty one that is not negative, its channel one of the sensor's.
fn hold(reading: &Reading, channels: usize) {
    assert!(reading.channel < channels);
    if let Ok(value) = reading.value {
        assert!(value.value.is_finite() && value.uncertainty.is_finite() && value.uncertainty >= 0.0, "{value:?}");
    }
}
