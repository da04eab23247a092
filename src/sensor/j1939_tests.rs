//! Test vectors of real trucks and of the range table; see `tests/recordings.rs` for whole recordings.

use embedded_can::{ExtendedId, StandardId};
use proptest::prelude::*;

use super::*;

/// A frame as embedded-can wants it.
#[derive(Clone, Debug)]
struct Raw {
    id: Id,
    data: Vec<u8>,
    remote: bool,
}

impl Frame for Raw {
    fn new(id: impl Into<Id>, data: &[u8]) -> Option<Self> {
        Some(Raw { id: id.into(), data: data.to_vec(), remote: false })
    }
    fn new_remote(id: impl Into<Id>, _: usize) -> Option<Self> {
        Some(Raw { id: id.into(), data: Vec::new(), remote: true })
    }
    fn is_extended(&self) -> bool {
        matches!(self.id, Id::Extended(_))
    }
    fn is_remote_frame(&self) -> bool {
        self.remote
    }
    fn id(&self) -> Id {
        self.id
    }
    fn dlc(&self) -> usize {
        self.data.len()
    }
    fn data(&self) -> &[u8] {
        &self.data
    }
}

fn raw(text: &str) -> Raw {
    let (id, data) = text.split_once('#').unwrap();
    let number = u32::from_str_radix(id, 16).unwrap();
    let id = match id.len() {
        3 => StandardId::new(number as u16).unwrap().into(),
        _ => Id::from(ExtendedId::new(number).unwrap()),
    };
    let data = (0..data.len()).step_by(2).map(|i| u8::from_str_radix(&data[i..i + 2], 16).unwrap()).collect();
    Raw { id, data, remote: false }
}

fn listen(signal: Signal) -> J1939 {
    J1939::new(Options { signal, ..Options::default() })
}

fn feed(sensor: &mut J1939, ms: u64, text: &str) -> Option<Result<f64, NoData>> {
    let mut out = Vec::new();
    sensor.on_frame(&TimedFrame { t: BootNs(ms * 1_000_000), frame: raw(text) }, &mut out);
    assert!(out.len() <= 1);
    out.first().map(|reading| reading.value.map(|value| value.value))
}

fn one(signal: Signal, text: &str) -> Option<Result<f64, NoData>> {
    feed(&mut listen(signal), 1, text)
}

fn kmh(text: &str) -> Result<f64, NoData> {
    one(Signal::WheelBasedSpeed, text).unwrap().map(|speed| (speed * 3.6 * 1e9).round() / 1e9)
}

#[test]
fn wheel_based_speed_is_found_whatever_the_priority_and_the_sender() {
    assert_eq!(kmh("18FEF100#F3003C0000FF1FFF"), Ok(60.0));
    assert_eq!(kmh("18FEF100#F700000FFFFFFFFF"), Ok(0.0));
    assert_eq!(kmh("18FEF147#FF0000FFFFFFFFFF"), Ok(0.0));
    assert_eq!(kmh("0CFEF100#F7000004000000FF"), Ok(0.0));
    assert_eq!(kmh("18FEF100#FF0080FFFFFFFFFF"), Ok(128.0));
}

#[test]
fn the_other_parameters_have_their_own_places_and_scales() {
    assert_eq!(one(Signal::EngineSpeed, "0CF00400#607D84481400F084"), Some(Ok(649.0)));
    assert_eq!(one(Signal::EngineSpeed, "0CF00400#FF7D7D0000FFFFFF"), Some(Ok(0.0)));
    assert_eq!(one(Signal::FrontAxleSpeed, "18FEBF0B#00007D7D7D7DFFFF"), Some(Ok(0.0)));
    assert_eq!(one(Signal::FrontAxleSpeed, "18FEBF0B#003C7D7D7D7DFFFF"), Some(Ok(60.0 / 3.6)));
    assert_eq!(one(Signal::TachographSpeed, "0CFE6CEE#FFFFFFFFFFFF003C"), Some(Ok(60.0 / 3.6)));
    assert_eq!(Signal::EngineSpeed.quantity(), Quantity::RotationalSpeed);
}

#[test]
fn the_whole_ranges_of_error_and_not_available_are_no_speeds() {
    let ccvs = |raw: u16| kmh(&format!("18FEF100#FF{:02X}{:02X}FFFFFFFFFF", raw & 0xFF, raw >> 8));
    assert_eq!(ccvs(0xFAFF), Ok(250.996093750));
    for raw in [0xFB00, 0xFBFF, 0xFC00, 0xFDFF] {
        assert_eq!(ccvs(raw), Err(NoData::OutOfRange), "{raw:04X}");
    }
    for raw in [0xFE00, 0xFE80, 0xFEFF] {
        assert_eq!(ccvs(raw), Err(NoData::SensorError), "{raw:04X}");
    }
    for raw in [0xFF00, 0xFF12, 0xFFFF] {
        assert_eq!(ccvs(raw), Err(NoData::NotAvailable), "{raw:04X}");
    }
}

#[test]
fn near_misses_are_not_heard() {
    for text in [
        "18FEF200#F3003C0000FF1FFF", // the next group
        "18FFF100#F3003C0000FF1FFF",
        "19FEF100#F3003C0000FF1FFF", // data page 1
        "1AFEF100#F3003C0000FF1FFF", // extended data page
        "18EAFEF1#F3003C0000FF1FFF", // a request
        "0F1#F3003C0000FF1FFF",      // 11 bits
    ] {
        let mut sensor = listen(Signal::WheelBasedSpeed);
        assert_eq!(feed(&mut sensor, 1, text), None, "{text}");
        assert_eq!(sensor.counters(), Counters::default(), "{text}");
    }
    let mut remote = raw("18FEF100#");
    remote.remote = true;
    let mut out = Vec::new();
    listen(Signal::WheelBasedSpeed).on_frame(&TimedFrame { t: BootNs(1), frame: remote }, &mut out);
    assert_eq!(out, []);
}

#[test]
fn a_group_addressed_to_one_unit_is_matched_without_the_address() {
    // PF below 240: the low byte is an address. EEC1 (PF 240) is not such a group, and F005 is another one.
    assert_eq!(one(Signal::EngineSpeed, "0CF00500#607D84481400F084"), None);
    assert_eq!(header(&raw("18EF2103#00")), Some((0xEF00, 3)));
}

#[test]
fn a_short_frame_is_refused_and_counted() {
    let mut sensor = listen(Signal::WheelBasedSpeed);
    assert_eq!(feed(&mut sensor, 1, "18FEF100#F300"), None);
    assert_eq!((sensor.counters().inputs, sensor.counters().rejected), (1, 1));
    assert_eq!(feed(&mut sensor, 2, "18FEF100#F3003C"), Some(Ok(60.0 / 3.6)));
}

#[test]
fn two_senders_are_never_mixed() {
    let mut sensor = listen(Signal::WheelBasedSpeed);
    for ms in (0..2000).step_by(100) {
        assert_eq!(feed(&mut sensor, ms + 1, "18FEF100#FF0010FFFFFFFFFF"), Some(Ok(16.0 / 3.6)));
        assert_eq!(feed(&mut sensor, ms + 50, "18FEF147#FF0080FFFFFFFFFF"), None);
    }
    // The first falls silent; the other is taken once the timeout has passed.
    assert_eq!(feed(&mut sensor, 2300, "18FEF147#FF0080FFFFFFFFFF"), None);
    assert_eq!(feed(&mut sensor, 2402, "18FEF147#FF0080FFFFFFFFFF"), Some(Ok(128.0 / 3.6)));
    assert_eq!(feed(&mut sensor, 2500, "18FEF100#FF0010FFFFFFFFFF"), None);
}

#[test]
fn a_given_sender_is_the_only_one_heard() {
    let options = Options { source_address: Some(0x47), ..Options::default() };
    let mut sensor = J1939::new(options);
    assert_eq!(feed(&mut sensor, 1, "18FEF100#FF0010FFFFFFFFFF"), None);
    assert_eq!(feed(&mut sensor, 2, "18FEF147#FF0080FFFFFFFFFF"), Some(Ok(128.0 / 3.6)));
}

#[test]
fn it_is_silent_then_speaks_then_is_stale_and_never_holds_a_value() {
    let mut sensor = listen(Signal::WheelBasedSpeed);
    let mut out = Vec::new();
    sensor.tick(BootNs(100_000_000), &mut out);
    assert_eq!(out.pop().unwrap().value, Err(NoData::Silent));
    assert_eq!(feed(&mut sensor, 200, "18FEF100#FF0010FFFFFFFFFF"), Some(Ok(16.0 / 3.6)));
    for ms in (300..=700).step_by(100) {
        sensor.tick(BootNs(ms * 1_000_000), &mut out);
    }
    assert_eq!(out, []);
    sensor.tick(BootNs(701_000_000), &mut out);
    assert_eq!(out.pop().unwrap().value, Err(NoData::Stale));
}

#[test]
fn a_change_of_reason_is_told_at_once_and_the_rest_once_a_period() {
    let mut sensor = listen(Signal::WheelBasedSpeed);
    let mut said = Vec::new();
    for ms in (10..1010).step_by(10) {
        let text = if ms == 510 { "18FEF100#FFFFFFFFFFFFFFFF" } else { "18FEF100#FF0010FFFFFFFFFF" };
        said.extend(feed(&mut sensor, ms, text).map(|value| (ms, value)));
    }
    assert!(said.contains(&(510, Err(NoData::NotAvailable))) && said.contains(&(520, Ok(16.0 / 3.6))), "{said:?}");
    assert!((11..=13).contains(&said.len()), "{said:?}");
}

#[test]
fn the_uncertainty_is_that_of_a_rounded_number() {
    let mut out = Vec::new();
    let frame = raw("18FEF100#FF0010FFFFFFFFFF");
    listen(Signal::WheelBasedSpeed).on_frame(&TimedFrame { t: BootNs(1), frame }, &mut out);
    let uncertainty = out[0].value.unwrap().uncertainty;
    assert!((uncertainty - 0.000_313_2).abs() < 1e-7, "{uncertainty}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_frame_whatever_does_harm(
        frames in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..64), any::<u64>(), any::<bool>()), 0..50),
    ) {
        let mut out = Vec::new();
        let mut sensor = listen(Signal::TachographSpeed);
        for (id, data, t, ours) in frames {
            let id = if ours { 0x0CFE_6C00 | id & 0xFF } else { id & 0x1FFF_FFFF };
            let frame = Raw { id: ExtendedId::new(id).unwrap().into(), data, remote: false };
            sensor.on_frame(&TimedFrame { t: BootNs(t), frame }, &mut out);
            sensor.tick(BootNs(t), &mut out);
        }
        for value in out.iter().filter_map(|reading| reading.value.ok()) {
            prop_assert!((0.0..70.0).contains(&value.value));
        }
    }
}
