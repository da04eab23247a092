//! Any looks at an encoder: every value is a number.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::{
    clock::BootNs,
    estimator::{Shaft, ShaftOptions},
    sensor::{
        Sensor,
        shaft::{Chip, Health, Look, LookSensor},
    },
};

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let chip = [Chip::As5600, Chip::As5048a, Chip::Ls7366r][usize::from(first % 3)];
    let mut shaft = Shaft::new(ShaftOptions {
        chip,
        counts_per_turn: if chip.is_absolute() { chip.wrap() as u32 } else { 4000 },
        metres_per_turn: Some(2.0),
        max_turns: 50.0,
        zero_below: 0.02,
        calibration_uncertainty: 0.01,
        reversed: first & 0x80 != 0,
        report: std::time::Duration::from_millis(100),
        rotational_speed: true,
        distance: true,
        angle: true,
        direction: true,
    });
    let (mut now, mut readings) = (0u64, Vec::new());
    for look in rest.chunks_exact(8) {
        let [step, width, flags, a, b, c, d, wide] = *look else { return };
        now += u64::from(step) << (wide % 32);
        let (from, to) = (BootNs(now), BootNs(now + u64::from(width) * 1000));
        let count = (flags & 1 == 0).then_some(u32::from_be_bytes([a, b, c, d]));
        let health = (flags & 2 == 0).then(|| Health::ALL[usize::from(flags >> 2) % Health::ALL.len()]);
        shaft.on_look(&Look { from, to, count, health }, &mut readings);
        if flags & 0x80 == 0 {
            shaft.tick(to, &mut readings);
        }
    }
    for reading in readings {
        if let Ok(value) = reading.value {
            assert!(value.value.is_finite() && value.uncertainty.is_finite(), "{reading:?}");
            assert!(value.uncertainty >= 0.0, "{reading:?}");
        }
    }
});
