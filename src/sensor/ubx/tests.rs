//! Built solutions, damaged ones, mixed streams and any bytes. Whole recordings are in `tests/recordings.rs`.

use proptest::prelude::*;

use super::{frame::fletcher, *};

/// gSpeed 13889 mm/s, sAcc 50 mm/s, 3D, 2025-06-01 12:00:00.
const KNOWN: &str = "B56201075C0000CA5B07E90706010C00000719000000000000000301000C0000000000000000000000000000000000000000\
                     0000000010270000A82500000000000041360000F80F430032000000000000000000000000000000000000000000000000\
                     BA2D";

fn known() -> Vec<u8> {
    let hex: String = KNOWN.split_whitespace().collect();
    let mut bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    // The text above leaves the zeros at its end out.
    let sum = bytes.split_off(bytes.len() - 2);
    bytes.resize(6 + 92, 0);
    bytes.extend(sum);
    bytes
}

/// The same with a change to its payload and a right checksum.
fn changed(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = known();
    change(&mut bytes[6..98]);
    let sum = fletcher(&bytes[2..98]);
    bytes[98..].copy_from_slice(&sum);
    bytes
}

fn every() -> Ubx {
    Ubx::new(Options { report: Duration::from_nanos(1), latency: Duration::ZERO, position: true, ..Options::default() })
}

fn hear(ubx: &mut Ubx, t: u64, bytes: &[u8]) -> Vec<Reading> {
    let mut out = Vec::new();
    ubx.on_bytes(BootNs(t), bytes, &mut out);
    out
}

fn speed(bytes: &[u8]) -> Option<Result<Value, NoData>> {
    hear(&mut every(), 1, bytes).first().map(|reading| reading.value)
}

#[test]
fn the_known_solution_is_fifty_kilometres_an_hour_and_says_how_sure_it_is() {
    let bytes = known();
    assert_eq!(bytes.len(), 100);
    assert_eq!(fletcher(&bytes[2..98]), [0xBA, 0x2D]);
    let value = speed(&bytes).unwrap().unwrap();
    assert!((value.value - 13.889).abs() < 1e-12 && (value.uncertainty - 0.05).abs() < 1e-12, "{value:?}");
}

#[test]
fn the_shorter_payload_of_old_receivers_is_read_alike() {
    let mut bytes = known();
    bytes.truncate(6 + 84);
    bytes[4] = 84;
    let sum = fletcher(&bytes[2..]);
    bytes.extend(sum);
    assert!((speed(&bytes).unwrap().unwrap().value - 13.889).abs() < 1e-12);
}

#[test]
fn a_solution_without_a_fix_or_too_uncertain_is_no_speed() {
    assert_eq!(speed(&changed(|p| p[21] = 0)), Some(Err(NoData::NoFix)));
    for fix in [0, 1, 5, 6, 255] {
        assert_eq!(speed(&changed(|p| p[20] = fix)), Some(Err(NoData::NoFix)), "fix {fix}");
    }
    for fix in 2..=4 {
        assert!(speed(&changed(|p| p[20] = fix)).unwrap().is_ok(), "fix {fix}");
    }
    assert!(speed(&changed(|p| p[68..72].copy_from_slice(&499u32.to_le_bytes()))).unwrap().is_ok());
    assert_eq!(speed(&changed(|p| p[68..72].copy_from_slice(&500u32.to_le_bytes()))), Some(Err(NoData::NoFix)));
}

#[test]
fn position_course_and_altitude_come_beside_the_speed() {
    let bytes = changed(|p| {
        p[24..28].copy_from_slice(&(-937_505_586i32).to_le_bytes());
        p[28..32].copy_from_slice(&415_749_702i32.to_le_bytes());
        p[36..40].copy_from_slice(&(-12_345i32).to_le_bytes());
        p[40..44].copy_from_slice(&1500u32.to_le_bytes());
        p[44..48].copy_from_slice(&2500u32.to_le_bytes());
        p[64..68].copy_from_slice(&(-1_000_000i32).to_le_bytes());
    });
    let values: Vec<f64> = hear(&mut every(), 1, &bytes).iter().map(|r| r.value.unwrap().value).collect();
    let wanted = [13.889, 41.574_970_2, -93.750_558_6, 350.0, -12.345];
    assert!(values.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9) && values.len() == 5, "{values:?}");
    let flat = changed(|p| p[20] = 2);
    assert_eq!(hear(&mut every(), 1, &flat)[4].value, Err(NoData::NotAvailable), "a 2D fix has no height");
    let standing = changed(|p| p[60..64].copy_from_slice(&300i32.to_le_bytes()));
    assert_eq!(
        hear(&mut every(), 1, &standing)[3].value,
        Err(NoData::NotAvailable),
        "a standing one's course is noise"
    );
    assert_eq!(hear(&mut Ubx::new(Options::default()), 1, &known()).len(), 1);
}

#[test]
fn utc_is_told_only_when_date_and_time_are_valid_and_resolved() {
    let utc = |bytes: &[u8]| {
        let mut ubx = every();
        hear(&mut ubx, 7, bytes);
        ubx.last_utc()
    };
    let noon = NmeaUtc { year: 2025, month: 6, day: 1, second_of_day_ns: 43_200_000_000_000 };
    assert_eq!(utc(&known()), Some((BootNs(7), noon)));
    for valid in 0..7 {
        assert_eq!(utc(&changed(|p| p[11] = valid)), None, "{valid}");
    }
    assert_eq!(utc(&changed(|p| p[21] = 0)), None, "a receiver without a fix tells its own clock");
    let early = utc(&changed(|p| p[16..20].copy_from_slice(&(-1i32).to_le_bytes()))).unwrap().1;
    assert_eq!(early.second_of_day_ns, 43_199_999_999_999);
    assert_eq!(utc(&changed(|p| p[6] = 13)), None);
}

#[test]
fn it_finds_back_in_garbage_cut_frames_and_sentences() {
    let good = known();
    let befores: [&[u8]; 7] = [
        b"# a line of text\r\n$GPRMC,,V,,,,,,,,,,N*53\r\n",
        &[0xB5],
        &[0xB5, 0xB5, 0x62, 0x01],
        &[0xB5, 0x62, 0x01, 0x07, 0xFF, 0xFF],
        &[0xB5, 0x62, 0x0A, 0x04, 0xFF, 0xFF, 1, 2, 3],
        &good[..60],
        &good[..99],
    ];
    for before in befores {
        let mut ubx = every();
        // A cut frame is known to be cut only once as many bytes have come as it promised.
        let out = hear(&mut ubx, 1, &[before, &good, &[0; 100]].concat());
        assert_eq!(out.iter().filter(|r| r.channel == 0).count(), 1, "{before:02X?}");
        assert_eq!(ubx.counters().inputs, 1);
    }
}

#[test]
fn one_wrong_bit_anywhere_is_refused() {
    let good = known();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(hear(&mut every(), 1, &bytes), [], "bit {bit}");
    }
}

#[test]
fn it_is_silent_then_speaks_then_is_stale_in_every_channel() {
    let mut ubx = Ubx::new(Options { position: true, ..Options::default() });
    let second = 1_000_000_000;
    let mut out = Vec::new();
    ubx.tick(BootNs(second), &mut out);
    assert!(out.len() == 5 && out.iter().all(|r| r.value == Err(NoData::Silent)), "{out:?}");
    assert!(hear(&mut ubx, 2 * second, &known()).iter().all(|r| r.t == BootNs(1_900_000_000) && r.value.is_ok()));
    out.clear();
    ubx.tick(BootNs(5 * second), &mut out);
    assert_eq!(out, []);
    ubx.tick(BootNs(5 * second + 1), &mut out);
    assert!(out.len() == 5 && out.iter().all(|r| r.value == Err(NoData::Stale)), "{out:?}");
}

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(
            prop_oneof![Just(0xB5), Just(0x62), Just(1), Just(7), Just(92), Just(84), Just(0)],
            0..120
        ),
        (any::<u32>(), any::<i32>(), any::<u8>(), any::<u8>()).prop_map(|(accuracy, speed, fix, flags)| changed(|p| {
            p[68..72].copy_from_slice(&accuracy.to_le_bytes());
            p[60..64].copy_from_slice(&speed.to_le_bytes());
            (p[20], p[21]) = (fix, flags);
        })),
        (0..100usize).prop_map(|cut| known()[..cut].to_vec()),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_bytes_in_any_pieces_do_no_harm_and_read_the_same(stream in any_stream(), size in 1..64usize) {
        let (mut whole, mut cut) = (every(), every());
        let all = hear(&mut whole, 5, &stream);
        let parts: Vec<Reading> = stream.chunks(size).flat_map(|part| hear(&mut cut, 5, part)).collect();
        prop_assert_eq!(&parts, &all);
        prop_assert_eq!(whole.counters(), cut.counters());
        for value in all.iter().filter_map(|reading| reading.value.ok()) {
            prop_assert!(value.value.is_finite() && value.uncertainty.is_finite());
        }
    }
}
