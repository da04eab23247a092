//! Sentences of real receivers, damaged ones, and any bytes. Whole recordings are in `tests/recordings.rs`.

use proptest::prelude::*;

use super::*;

const FIRST: &str = "$GPRMC,132820.60,A,4134.49821229,N,09345.03351845,W,3.252,92.308,180320,11.5985,E,D*1A\r\n";
const VOID: &str = "$GPRMC,,V,,,,,,,,,,N*53\r\n";

/// Puts the right checksum behind a body.
fn signed(body: &str) -> String {
    format!("${body}*{:02X}\r\n", body.bytes().fold(0, |sum, byte| sum ^ byte))
}

fn every_sentence() -> Nmea {
    Nmea::new(Options { report: Duration::from_millis(1), position: true, ..Options::default() })
}

fn hear(nmea: &mut Nmea, ms: u64, bytes: impl AsRef<[u8]>) -> Vec<Reading> {
    let mut out = Vec::new();
    nmea.on_bytes(BootNs(ms * 1_000_000), bytes.as_ref(), &mut out);
    out
}

fn speed(bytes: impl AsRef<[u8]>) -> Option<Result<f64, NoData>> {
    let out = hear(&mut every_sentence(), 1000, bytes);
    out.iter().find(|reading| reading.channel == 0).map(|reading| reading.value.map(|value| value.value))
}

fn near(bytes: &str, wanted: f64) {
    let got = speed(bytes).unwrap().unwrap();
    assert!((got - wanted).abs() < 1e-9, "{bytes}: {got}");
}

#[test]
fn the_speed_of_a_valid_sentence_is_in_metres_a_second() {
    near(FIRST, 3.252 * 1852.0 / 3600.0);
    near("$GNRMC,133900.10,A,4134.50180243,N,09345.03586611,W,0.005,0.000,180320,11.5982,E,D*30\r\n", 0.005 * KNOT);
    near("$GPRMC,094737,A,5251.0093,N,00518.8170,E,5.6,230.5,200818,1.4,E,A*1F\r\n", 2.880_888_888_888_889);
}

#[test]
fn void_is_no_fix_and_empty_is_not_zero() {
    assert_eq!(speed(VOID), Some(Err(NoData::NoFix)));
    for mode in ["N", "E", "M", "S"] {
        let body = format!("GPRMC,132820.60,A,4134.498,N,09345.033,W,3.252,92.308,180320,,,{mode}");
        assert_eq!(speed(signed(&body)), Some(Err(NoData::NoFix)), "{mode}");
    }
    assert_eq!(speed(signed("GPRMC,132820.60,A,,,,,,,180320,,,A")), None, "and may come yet");
    // 000.0 beside a void status is no speed either.
    assert_eq!(speed(signed("GPRMC,212406.000,V,2500.0,N,12100.0,E,000.0,000.0,280316,,,N")), Some(Err(NoData::NoFix)));
}

#[test]
fn a_sentence_from_before_the_mode_field_is_judged_by_its_status() {
    assert!(speed(signed("GPRMC,132820,A,4134.498,N,09345.033,W,3.252,92.308,180320,,")).unwrap().is_ok());
    assert_eq!(speed(signed("GPRMC,132820,V,4134.498,N,09345.033,W,3.252,92.308,180320,,")), Some(Err(NoData::NoFix)));
}

#[test]
fn vtg_and_other_sentences_say_nothing() {
    assert_eq!(speed("$GPVTG,230.5,T,229.1,M,5.6,N,10.4,K,A*19\r\n"), None);
    assert_eq!(speed("$GPVTG,,T,,M,,N,,K,N*2C\r\n"), None);
    assert_eq!(speed(signed("PSRMC,x")), None);
    assert_eq!(speed(signed("XRMC,A")), None);
}

#[test]
fn a_wrong_or_missing_checksum_is_refused() {
    let mut nmea = every_sentence();
    let right = FIRST.trim_end();
    for wrong in [
        right.replace("*1A", "*1B"),
        right.replace("*1A", ""),
        right.replace("*1A", "*1"),
        right.replace("*1A", "*1A0"),
        right.replace("*1A", "*+A"),
        right.replace("3.252", "8.252"),
    ] {
        assert_eq!(hear(&mut nmea, 1, format!("{wrong}\r\n")), [], "{wrong}");
    }
    assert_eq!((nmea.counters().inputs, nmea.counters().rejected), (0, 6));
    assert_eq!(hear(&mut nmea, 1000, right.replace("*1A", "*1a\n")).len(), 4, "small hex digits, a bare line end");
}

#[test]
fn a_field_that_is_no_number_makes_the_sentence_bad() {
    for bad in ["inf", "NaN", "-1", "+3.2", "1e3", "3.2.1", ".", "3,2 ", "9999"] {
        let body = format!("GPRMC,132820.60,A,4134.498,N,09345.033,W,{bad},92.308,180320,,,A");
        let mut nmea = every_sentence();
        let out = hear(&mut nmea, 1000, signed(&body));
        assert!(out.iter().all(|reading| reading.value.is_err()) || bad == "3,2 ", "{bad} {out:?}");
        assert_eq!(nmea.counters().rejected, 1, "{bad}");
    }
}

#[test]
fn it_finds_back_after_garbage_a_cut_sentence_and_one_too_long() {
    let long = format!("$GPRMC,{}", "0".repeat(500));
    let garbage: [&[u8]; 7] = [
        b"\xff\xfe\x00\x80\xb5\x62",
        b"GPRMC,no dollar*00\r\n",
        b"$GPRMC,132820.60,A,4134",
        b"$$$$",
        long.as_bytes(),
        b"$GPRMC,1328\x0020.60,A\r\n",
        "$GPRMC,\u{fc}\u{df}\r\n".as_bytes(),
    ];
    for before in garbage {
        let mut nmea = every_sentence();
        let bytes = [before, FIRST.as_bytes()].concat();
        assert_eq!(hear(&mut nmea, 1000, &bytes).len(), 4, "{before:?}");
        assert_eq!(nmea.counters().inputs, 1, "{before:?}");
    }
}

#[test]
fn however_the_bytes_are_cut_the_readings_are_the_same() {
    let stream = [FIRST, VOID, "junk$", &FIRST.replace("3.252", "3.253")].concat();
    let mut whole = every_sentence();
    let all = hear(&mut whole, 1000, &stream);
    for size in 1..stream.len() {
        let mut nmea = every_sentence();
        let parts: Vec<Reading> = stream.as_bytes().chunks(size).flat_map(|part| hear(&mut nmea, 1000, part)).collect();
        assert_eq!(parts, all, "{size}");
        assert_eq!(nmea.counters(), whole.counters());
    }
}

#[test]
fn a_sentence_is_stamped_with_its_first_byte_less_the_latency() {
    let mut nmea = every_sentence();
    assert_eq!(hear(&mut nmea, 1000, &FIRST[..1]), []);
    let out = hear(&mut nmea, 1080, &FIRST[1..]);
    assert_eq!(out[0].t, BootNs(900_000_000));
}

#[test]
fn position_and_course_come_beside_the_speed_when_asked_for() {
    let mut nmea = every_sentence();
    let out = hear(&mut nmea, 1000, FIRST);
    let mut values = [0.0; 4];
    out.iter().for_each(|reading| values[reading.channel] = reading.value.unwrap().value);
    assert!((values[1] - 41.574_970_204_8).abs() < 1e-9, "{values:?}");
    assert!((values[2] + 93.750_558_640_8).abs() < 1e-9, "{values:?}");
    assert_eq!(values[3], 92.308);
    assert_eq!(nmea.channels().len(), 5);
    assert_eq!(hear(&mut Nmea::new(Options::default()), 1000, FIRST).len(), 1);
    // A standing receiver's course is noise.
    let standing = signed("GPRMC,132820.60,A,4134.498,N,09345.033,W,0.1,92.3,180320,,,A");
    let course = hear(&mut every_sentence(), 1000, standing).into_iter().find(|reading| reading.channel == 3);
    assert_eq!(course.unwrap().value, Err(NoData::NotAvailable));
}

/// What was said, as channel and value or reason.
fn said(out: &[Reading]) -> Vec<(usize, Result<f64, NoData>)> {
    out.iter().map(|reading| (reading.channel, reading.value.map(|v| (v.value * 1e3).round() / 1e3))).collect()
}

const WITHOUT_SPEED: &str = "GPRMC,094737,A,5230.0000,N,01315.0000,E,,230.5,200818,1.4,E,A";
const VTG: &str = "GPVTG,230.5,T,229.1,M,5.6,N,10.8,K,A";

#[test]
fn a_vtg_has_the_speed_that_a_valid_rmc_left_out_and_no_other() {
    let mut nmea = every_sentence();
    assert!(hear(&mut nmea, 900, signed(VTG)).is_empty(), "no RMC before it");
    let place = [(1, Ok(52.5)), (2, Ok(13.25))];
    assert_eq!(said(&hear(&mut nmea, 1000, signed(WITHOUT_SPEED))), place, "the speed may come yet");
    let out = hear(&mut nmea, 1100, signed(VTG));
    assert_eq!(said(&out), [(0, Ok(3.0)), (3, Ok(230.5))]);
    assert_eq!(out[0].t, BootNs(900_000_000), "of the RMC's time");
    assert!(hear(&mut nmea, 1200, signed(VTG)).is_empty(), "once a solution");
    let mut nmea = every_sentence();
    assert!(hear(&mut nmea, 1000, VOID)[0].value.is_err());
    assert!(hear(&mut nmea, 1100, signed(VTG)).is_empty(), "beside a void RMC it is none");
    assert_eq!(hear(&mut nmea, 2000, FIRST).len(), 4);
    assert!(hear(&mut nmea, 2100, signed(VTG)).is_empty(), "the RMC has said it");
}

#[test]
fn a_vtg_of_the_next_solution_is_not_the_speed_of_the_last() {
    let gga = |time: &str| signed(&format!("GPGGA,{time},5230.0,N,01315.0,E,1,12,0.9,30.0,M,-30.1,M,,"));
    let mut nmea = every_sentence();
    hear(&mut nmea, 1000, signed(WITHOUT_SPEED));
    hear(&mut nmea, 1100, gga("094738"));
    assert!(hear(&mut nmea, 1150, signed(VTG)).is_empty(), "a sentence of another time lies between");
    let mut nmea = every_sentence();
    hear(&mut nmea, 1000, signed(WITHOUT_SPEED));
    assert!(hear(&mut nmea, 1800, signed(VTG)).is_empty(), "a pause lies between");
}

#[test]
fn what_no_sentence_of_a_solution_tells_is_not_available_channel_by_channel() {
    let none = Err(NoData::NotAvailable);
    let mut nmea = every_sentence();
    hear(&mut nmea, 1000, signed(WITHOUT_SPEED));
    let mut out = Vec::new();
    nmea.tick(BootNs(1_500_000_000), &mut out);
    assert_eq!(said(&out), [], "more may come");
    nmea.tick(BootNs(2_000_000_000), &mut out);
    assert_eq!(said(&out), [(0, none), (3, none), (4, none)]);
    let placeless = signed("GPRMC,094738,A,,,,,5.6,230.5,200818,1.4,E,A");
    assert_eq!(said(&hear(&mut nmea, 3000, placeless)), [(1, none), (2, none), (0, Ok(2.881)), (3, Ok(230.5))]);
}

#[test]
fn no_fix_silence_and_stale_are_told_on_every_channel() {
    let all = |reason| (0..5).map(|channel| (channel, Err(reason))).collect::<Vec<_>>();
    let mut nmea = every_sentence();
    let tick = |nmea: &mut Nmea, ms: u64| {
        let mut out = Vec::new();
        nmea.tick(BootNs(ms * 1_000_000), &mut out);
        said(&out)
    };
    assert_eq!(tick(&mut nmea, 500), all(NoData::Silent));
    assert_eq!(said(&hear(&mut nmea, 1000, VOID)), all(NoData::NoFix));
    hear(&mut nmea, 2000, FIRST);
    assert_eq!(said(&hear(&mut nmea, 2100, VOID))[1..], all(NoData::NoFix), "behind the altitude that never came");
    assert_eq!(tick(&mut nmea, 6000), all(NoData::Stale));
}

#[test]
fn an_altitude_comes_with_the_place_of_the_same_time_before_or_behind_it() {
    let gga = |time: &str, quality: u8, metres: &str| {
        signed(&format!("GPGGA,{time},4134.498,N,09345.035,W,{quality},12,0.9,{metres},M,-30.1,M,,"))
    };
    let altitude = |out: Vec<Reading>| said(&out).into_iter().filter(|(channel, _)| *channel == 4).collect::<Vec<_>>();
    let mut nmea = every_sentence();
    hear(&mut nmea, 1000, FIRST);
    assert_eq!(altitude(hear(&mut nmea, 1100, gga("132820.600", 1, "-12.5"))), [(4, Ok(-12.5))]);
    assert!(hear(&mut nmea, 1200, gga("132820.60", 1, "301.5")).is_empty(), "once a solution");
    // The next one's comes before its RMC, which never comes; the one after that has its own.
    assert!(hear(&mut nmea, 2000, gga("132821.60", 1, "301.5")).is_empty());
    let later = signed("GPRMC,132822.60,A,4134.498,N,09345.033,W,3.252,92.308,180320,,,A");
    assert_eq!(altitude(hear(&mut nmea, 3000, &later)), [], "of another time");
    let mut nmea = every_sentence();
    assert!(hear(&mut nmea, 2900, gga("132822.6", 1, "301.5")).is_empty());
    assert_eq!(altitude(hear(&mut nmea, 3000, &later)), [(4, Ok(301.5))], "it came before");
    let none = [(4, Err(NoData::NotAvailable))];
    hear(&mut nmea, 3900, FIRST);
    assert!(hear(&mut nmea, 3950, gga("132819.60", 1, "301.5")).is_empty(), "right behind it, and of another time");
    hear(&mut nmea, 4000, FIRST);
    assert_eq!(altitude(hear(&mut nmea, 4100, gga("132820.60", 0, "301.5"))), none, "no fix");
    assert!(hear(&mut Nmea::new(Options::default()), 1100, gga("132820.60", 1, "1.0")).is_empty());
}

#[test]
fn a_wrong_baud_rate_is_told_apart_from_silence() {
    let mut nmea = every_sentence();
    assert_eq!(nmea.trouble(), None);
    let mut out = Vec::new();
    nmea.on_bytes(BootNs(0), &[0xF8, 0x80, 0x1E, 0x66].repeat(200), &mut out);
    assert!(nmea.trouble().unwrap().contains("is `baud` right"));
    hear(&mut nmea, 2000, FIRST);
    assert_eq!(nmea.trouble(), None);
}

#[test]
fn utc_is_told_with_the_boot_time_it_stands_for() {
    let mut nmea = every_sentence();
    hear(&mut nmea, 900, VOID);
    assert_eq!(nmea.last_utc(), None);
    hear(&mut nmea, 1000, FIRST);
    let (t, utc) = nmea.last_utc().unwrap();
    assert_eq!(t, BootNs(900_000_000));
    assert_eq!((utc.year, utc.month, utc.day), (2020, 3, 18));
    assert_eq!(utc.second_of_day_ns, ((13 * 60 + 28) * 60 + 20) * 1_000_000_000 + 600_000_000);
}

#[test]
fn a_date_is_turned_into_nanoseconds_since_1970_where_it_is_one() {
    let unix = |year, month, day| NmeaUtc { year, month, day, second_of_day_ns: 1_500_000_000 }.unix_ns();
    let at = |days: i64| Some(days * 86_400_000_000_000 + 1_500_000_000);
    assert_eq!(unix(1970, 1, 1), at(0));
    assert_eq!(unix(2000, 2, 29), at(11_016));
    assert_eq!(unix(2000, 3, 1), at(11_017));
    assert_eq!(unix(2026, 11, 25), at(20_782));
    assert_eq!(unix(2100, 3, 1), at(47_541));
    for (year, month, day) in [(2025, 2, 29), (2100, 2, 29), (2025, 4, 31), (2025, 0, 1), (2025, 13, 1), (2025, 1, 0)] {
        assert_eq!(unix(year, month, day), None, "{year}-{month}-{day}");
    }
    let leap_second = NmeaUtc { year: 2016, month: 12, day: 31, second_of_day_ns: 86_400_000_000_000 };
    assert_eq!(leap_second.unix_ns(), None);
}

#[test]
fn a_void_solution_tells_no_time() {
    let mut nmea = every_sentence();
    hear(&mut nmea, 1000, signed("GPRMC,132820.60,V,4134.498,N,09345.033,W,3.252,92.308,180320,,,N"));
    assert_eq!(nmea.utc(), None);
    hear(&mut nmea, 2000, FIRST);
    let told = nmea.utc();
    assert_eq!(told.unwrap(), (BootNs(1_900_000_000), 1_584_538_100_600_000_000));
    hear(&mut nmea, 3000, VOID);
    assert_eq!(nmea.utc(), told, "the same word again, which is none");
}

#[test]
fn it_is_silent_then_without_a_fix_then_speaks_then_is_stale() {
    let mut nmea = Nmea::new(Options::default());
    let mut said = Vec::new();
    for second in 1..40u64 {
        let mut out = Vec::new();
        match second {
            5..10 => out.extend(hear(&mut nmea, second * 1000, VOID)),
            10..20 => out.extend(hear(&mut nmea, second * 1000, FIRST)),
            _ => {}
        }
        nmea.tick(BootNs(second * 1_000_000_000 + 500_000_000), &mut out);
        said.extend(out.iter().map(|reading| (second, reading.value.map(|_| ()))));
    }
    let of = |what| said.iter().filter(|(_, value)| *value == what).map(|(second, _)| *second).collect::<Vec<_>>();
    assert_eq!(of(Err(NoData::Silent)), (1..5).collect::<Vec<_>>());
    assert_eq!(of(Err(NoData::NoFix)), (5..10).collect::<Vec<_>>());
    assert_eq!(of(Ok(())), (10..20).collect::<Vec<_>>());
    assert_eq!(of(Err(NoData::Stale)), (22..40).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_whatever_do_harm(
        parts in prop::collection::vec((any::<u64>(), prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "[$*,.0-9A-F\r\n]{0,150}".prop_map(String::into_bytes),
            "GPRMC,[0-9.]{0,10},[AV],([0-9.]{0,8},[NSEW],){0,2}[0-9.,]{0,30}".prop_map(|body| signed(&body).into_bytes()),
        ]), 0..20),
    ) {
        let mut nmea = every_sentence();
        let mut out = Vec::new();
        for (t, bytes) in parts {
            nmea.on_bytes(BootNs(t), &bytes, &mut out);
            nmea.tick(BootNs(t), &mut out);
        }
        for value in out.iter().filter_map(|reading| reading.value.ok()) {
            prop_assert!(value.value.is_finite() && value.uncertainty.is_finite());
        }
    }
}
