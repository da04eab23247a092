//! Any bytes as what a wheel remembers: refused without a change, or taken and given again as they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedwell::{
    clock::BootNs,
    estimator::{Wheel, WheelOptions},
    sensor::Sensor,
};

fuzz_target!(|bytes: &[u8]| {
    let options =
        WheelOptions { pulses_per_turn: Some(48), learn_teeth: true, distance: true, ..WheelOptions::default() };
    let mut wheel = Wheel::new(options);
    if wheel.remember(bytes) {
        assert!(wheel.memory().is_some());
    }
    let mut readings = Vec::new();
    for tick in 1..4 {
        wheel.tick(BootNs(tick * 100_000_000), &mut readings);
    }
    for reading in &readings {
        if let Ok(value) = reading.value {
            assert!(value.value.is_finite() && value.uncertainty.is_finite(), "{reading:?}");
        }
    }
});
