//! A radar in a few lines, and one that listens.

use super::*;
use crate::sensor::unit::KMH;

const MS: u64 = 1_000_000;

fn hear(radar: &mut Radar, ms: u64, text: &str) -> Vec<Result<f64, NoData>> {
    let mut out = Vec::new();
    radar.on_bytes(BootNs(ms * MS), format!("{text}\r\n").as_bytes(), &mut out);
    out.iter().map(|reading| reading.value.map(|value| value.value)).collect()
}

/// One that is only listened to.
fn with_direction() -> Radar {
    Radar::new(Options { direction: true, report: Duration::from_nanos(1), set_up: false, ..Options::default() })
}

fn kmh() -> Unit {
    Unit::named("km/h").unwrap()
}

/// What a radar says, the plain number of its reports being in the unit it is set to.
struct Device {
    unit: f64,
    reports: bool,
    hears: bool,
}

/// Runs both for so long, in steps of 10 ms; the device reports 36 km/h every tenth of a second. What was sent, and the
/// readings.
fn run(radar: &mut Radar, device: &mut Device, ms: std::ops::Range<u64>) -> (String, Vec<Result<f64, NoData>>) {
    let (mut sent, mut out) = (String::new(), Vec::new());
    for now in ms.step_by(10) {
        let (t, mut asked) = (BootNs(now * MS), Vec::new());
        radar.ask(t, &mut asked);
        let asked = String::from_utf8(asked).unwrap();
        sent += &asked;
        if device.hears {
            if asked == "UM" {
                device.unit = 1.0;
            }
            let unit = if device.unit == 1.0 { "meters-per-second" } else { "km-per-hr" };
            if asked.starts_with('U') {
                radar.on_bytes(t, format!("{{\"Units\":\"{unit}\"}}\r\n").as_bytes(), &mut out);
            }
        }
        if device.reports && now % 100 == 0 {
            radar.on_bytes(t, format!("{:.2}\r\n", 10.0 / device.unit).as_bytes(), &mut out);
        }
        radar.tick(t, &mut out);
    }
    (sent, out.iter().map(|reading| reading.value.map(|value| (value.value * 1e3).round() / 1e3)).collect())
}

fn values(readings: &[Result<f64, NoData>]) -> Vec<f64> {
    readings.iter().filter_map(|reading| reading.ok()).collect()
}

#[test]
fn every_form_of_a_report_is_read() {
    let mut radar = with_direction();
    assert_eq!(hear(&mut radar, 1, "-3.6"), [Ok(3.6), Ok(-1.0)]);
    assert_eq!(hear(&mut radar, 2, "137.429,3.6"), [Ok(3.6), Ok(1.0)]);
    let json = r#"{"speed":0.58, "direction":"inbound", "time":105, "tick":135}"#;
    assert_eq!(hear(&mut radar, 3, json), [Ok(0.58), Ok(1.0)]);
    assert_eq!(hear(&mut radar, 4, r#"{"speed": 152.3, "magnitude": 1847}"#), [Ok(152.3), Ok(1.0)]);
    assert_eq!(hear(&mut radar, 5, r#"{"speed":"3.6","direction":"outbound","unit":"mps"}"#), [Ok(3.6), Ok(-1.0)]);
    assert_eq!(hear(&mut radar, 6, r#"{"unit":"kmph","speed":"36.0"}"#), [Ok(10.0), Ok(1.0)]);
    assert_eq!(hear(&mut radar, 7, "0.0"), [Ok(0.0), Ok(0.0)]);
}

#[test]
fn answers_to_commands_are_no_speeds_and_rubbish_is_counted() {
    let mut radar = with_direction();
    for answer in [r#"{"Units":"meters-per-second"}"#, r#"{"Product":"OPS243"}"#, r#"{"OutputFeature":"J"}"#] {
        assert!(hear(&mut radar, 1, answer).is_empty(), "{answer}");
    }
    for rubbish in ["{\"speed\":}", "inf", "1e5", "three", "{\"speed\":\"NaN\"}", "{\"speed\":1,\"unit\":\"knots\"}"] {
        assert!(hear(&mut radar, 1, rubbish).is_empty(), "{rubbish}");
    }
    assert_eq!((radar.counters().inputs, radar.counters().rejected), (0, 6));
}

#[test]
fn an_angle_is_divided_out_and_costs_certainty() {
    let (angle, degree) = (45f64.to_radians(), 1f64.to_radians());
    let mut radar = Radar::new(Options { angle, angle_uncertainty: degree, set_up: false, ..Options::default() });
    let mut out = Vec::new();
    radar.on_bytes(BootNs(1), b"10.00\n", &mut out);
    let value = out[0].value.unwrap();
    assert!((value.value - 14.142_135_6).abs() < 1e-6);
    // 1.75 % of it, and half a step.
    assert!((value.uncertainty - 0.2481).abs() < 1e-3, "{value:?}");
}

#[test]
fn numbers_without_a_unit_are_in_the_one_the_radar_was_set_to_whatever_is_configured() {
    let mut radar = Radar::new(Options { unit: kmh(), ..Options::default() });
    let mut device = Device { unit: KMH, reports: true, hears: true };
    let (sent, said) = run(&mut radar, &mut device, 0..5000);
    assert_eq!(sent, "??UMOJOUF2BZ", "once");
    let values = values(&said);
    assert!(values.len() > 40 && values.iter().all(|value| *value == 10.0), "{values:?}");
    assert_eq!((radar.trouble(), radar.notice()), (None, None));
}

#[test]
fn a_radar_that_does_not_hear_its_set_up_is_told_and_its_numbers_are_in_the_configured_unit() {
    let mut radar = Radar::new(Options { unit: kmh(), ..Options::default() });
    let mut device = Device { unit: KMH, reports: true, hears: false };
    let (_, said) = run(&mut radar, &mut device, 0..3000);
    assert_eq!(values(&said), [0.0; 0], "nobody knows yet in which unit they are");
    let (sent, said) = run(&mut radar, &mut device, 3000..8000);
    assert_eq!(sent, "");
    let values = values(&said);
    assert!(values.len() > 40 && values.iter().all(|value| *value == 10.0), "{values:?}");
    let notice = radar.notice().unwrap().detail;
    assert!(notice.contains("does not answer its set-up") && notice.contains("taken as km/h"), "{notice}");
    assert_eq!(radar.notice(), None, "once");
}

#[test]
fn a_radar_that_says_nothing_at_all_is_told_when_its_time_is_up_and_set_up_until_it_answers() {
    let mut radar = Radar::new(Options::default());
    let mut device = Device { unit: 1.0, reports: false, hears: false };
    run(&mut radar, &mut device, 0..3000);
    assert_eq!(radar.trouble(), None, "it has its time");
    let (sent, said) = run(&mut radar, &mut device, 3000..10_000);
    assert!(radar.trouble().unwrap().contains("does not answer its set-up"));
    assert!(sent.matches("BZ").count() >= 2, "{sent}");
    assert!(said.iter().all(|reading| *reading == Err(NoData::Silent)));
    device.hears = true;
    run(&mut radar, &mut device, 10_000..14_000);
    assert_eq!(radar.trouble(), None);
    let mut replayed = Radar::new(Options { set_up: false, ..Options::default() });
    let mut out = Vec::new();
    replayed.ask(BootNs(1), &mut out);
    assert!(out.is_empty() && replayed.wakes().is_none());
}

#[test]
fn a_silent_radar_that_answers_has_no_target_and_one_that_does_not_is_silent_and_set_up_when_it_is_back() {
    let mut radar = Radar::new(Options { zero_is_standing: false, ..Options::default() });
    let mut device = Device { unit: 1.0, reports: true, hears: true };
    run(&mut radar, &mut device, 0..5000);
    device.reports = false;
    let (sent, said) = run(&mut radar, &mut device, 5000..60_000);
    assert!(sent.matches("U?").count() > 20 && !sent.contains("UM"), "{sent}");
    let reasons: Vec<_> = said.iter().filter_map(|reading| reading.err()).collect();
    assert!(reasons.len() > 100 && reasons.iter().all(|reason| *reason == NoData::NoTarget), "{reasons:?}");
    device.hears = false;
    run(&mut radar, &mut device, 60_000..65_000);
    let (_, said) = run(&mut radar, &mut device, 65_000..70_000);
    assert!(said.len() > 10 && said.iter().all(|reading| *reading == Err(NoData::Silent)), "{said:?}");
    // It was without its supply, and is back as it is delivered.
    (device.unit, device.reports, device.hears) = (KMH, true, true);
    let (sent, said) = run(&mut radar, &mut device, 70_000..78_000);
    assert!(sent.contains("UM"), "{sent}");
    let values = values(&said);
    assert!(values.len() > 20 && values.iter().all(|value| *value == 10.0), "{values:?}");
}

#[test]
fn reports_that_lose_their_unit_come_from_a_radar_that_was_restarted() {
    let mut radar = Radar::new(Options::default());
    let mut device = Device { unit: 1.0, reports: false, hears: true };
    run(&mut radar, &mut device, 0..4000);
    assert_eq!(hear(&mut radar, 4000, r#"{"speed":"10.0","unit":"mps"}"#), [Ok(10.0)]);
    assert!(hear(&mut radar, 4200, "36.0").is_empty(), "in nobody knows what");
    device.unit = KMH;
    let (sent, _) = run(&mut radar, &mut device, 4300..5000);
    assert_eq!(sent, "??UMOJOUF2BZ");
}

#[test]
fn without_a_set_up_silence_of_a_radar_that_was_there_is_no_target_for_a_while_and_no_zero() {
    let mut radar = Radar::new(Options { zero_is_standing: false, set_up: false, ..Options::default() });
    let tick = |radar: &mut Radar, ms: u64| {
        let mut out = Vec::new();
        radar.tick(BootNs(ms * MS), &mut out);
        out.first().map(|reading| reading.value.map(|value| value.value))
    };
    assert_eq!(tick(&mut radar, 100), Some(Err(NoData::Silent)));
    assert_eq!(hear(&mut radar, 500, "3.6"), [Ok(3.6)]);
    assert_eq!(tick(&mut radar, 1400), None);
    assert_eq!(tick(&mut radar, 1600), Some(Err(NoData::NoTarget)));
    assert_eq!(hear(&mut radar, 1700, "0.00"), [Err(NoData::NoTarget)]);
    assert_eq!(tick(&mut radar, 6000), Some(Err(NoData::Silent)));
}
