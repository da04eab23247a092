use super::*;

const MS: u64 = 1_000_000;

fn fusion() -> Fusion {
    let input =
        |name: &str, sensor| Input { name: name.into(), sensor, channel: 0, period: Duration::from_millis(100) };
    Fusion::new(Options {
        name: "speed".into(),
        inputs: vec![input("front-wheel", 0), input("ecu-speed", 1), input("gnss", 2)],
        hold: Duration::from_secs(1),
        back_after: Duration::from_secs(5),
    })
}

fn value(value: f64, quality: Quality) -> Result<Value, NoData> {
    Ok(Value { value, uncertainty: 0.01, quality })
}

/// Every 100 ms from `from` to `to` seconds, what each sensor says; values out and notices told, as text.
#[derive(Default)]
struct Drive {
    out: Vec<Reading>,
    notices: Vec<Notice>,
}

impl Drive {
    fn on(
        &mut self,
        fusion: &mut Fusion,
        (from, to): (f64, f64),
        says: impl Fn(usize, f64) -> Option<Result<Value, NoData>>,
    ) {
        for step in (from * 10.0).round() as u64..(to * 10.0).round() as u64 {
            for sensor in 0..3 {
                // Each has times of its own within the step.
                let t = BootNs(step * 100 * MS + sensor as u64 * 7 * MS);
                if let Some(value) = says(sensor, t.0 as f64 * 1e-9) {
                    let reading = Reading { channel: 0, t, value };
                    fusion.take(sensor, &reading, t + Duration::from_millis(20), &mut self.out, &mut self.notices);
                }
            }
            fusion.tick(BootNs(step * 100 * MS + 50 * MS), &mut self.out, &mut self.notices);
        }
    }

    fn told(&mut self) -> Vec<String> {
        self.notices.drain(..).map(|notice| format!("{}: {}", notice.kind.name(), notice.detail)).collect()
    }
}

#[test]
fn the_first_gives_the_speed_and_the_next_when_it_falls_silent() {
    let (mut fusion, mut drive) = (fusion(), Drive::default());
    let all = |sensor: usize, _| Some(value(10.0 + sensor as f64 * 0.1, Quality::Good));
    drive.on(&mut fusion, (1.0, 3.0), all);
    assert_eq!((fusion.winner(), drive.told().len()), (Some("front-wheel"), 0));
    assert!(drive.out.iter().skip(1).all(|r| r.value.is_ok_and(|v| v.value == 10.0)), "{:?}", drive.out);
    drive.on(&mut fusion, (3.0, 6.0), |sensor, t| if sensor == 0 { None } else { all(sensor, t) });
    assert_eq!(drive.told(), ["sensor-fault: speed comes from ecu-speed: front-wheel is stale"]);
    assert!(drive.out.windows(2).all(|pair| pair[0].t < pair[1].t), "times only grow");
    // It comes back, and takes over when it has been there for five seconds.
    drive.on(&mut fusion, (6.0, 10.5), all);
    assert_eq!((fusion.winner(), drive.told().len()), (Some("ecu-speed"), 0));
    drive.on(&mut fusion, (10.5, 12.0), all);
    assert_eq!(drive.told(), ["sensor-recovered: speed comes from front-wheel again, before from ecu-speed"]);
}

#[test]
fn a_named_reason_or_a_fault_is_no_reason_to_wait() {
    let (mut fusion, mut drive) = (fusion(), Drive::default());
    drive.on(&mut fusion, (1.0, 2.0), |_, _| Some(value(10.0, Quality::Good)));
    drive.on(&mut fusion, (2.0, 2.1), |sensor, _| (sensor == 0).then_some(Err(NoData::SensorError)));
    assert_eq!(drive.told(), ["sensor-fault: speed comes from ecu-speed: front-wheel is sensor-error"]);
    fusion.fault(1, BootNs(2200 * MS), &mut drive.notices);
    assert_eq!(drive.told(), ["sensor-fault: speed comes from gnss: ecu-speed is fault"]);
}

#[test]
fn a_loose_contact_does_not_make_it_jump_to_and_fro() {
    let (mut fusion, mut drive) = (fusion(), Drive::default());
    // Two seconds there, two seconds gone, for a minute.
    drive.on(&mut fusion, (0.1, 60.0), |sensor, t| match sensor {
        0 if t % 4.0 > 2.0 => Some(Err(NoData::NotAvailable)),
        _ => Some(value(10.0, Quality::Good)),
    });
    assert_eq!(drive.told(), ["sensor-fault: speed comes from ecu-speed: front-wheel is not-available"]);
}

#[test]
fn an_estimate_passes_from_the_winner_and_makes_no_other_one() {
    let (mut fusion, mut drive) = (fusion(), Drive::default());
    drive.on(&mut fusion, (1.0, 2.0), |sensor, _| (sensor == 0).then_some(value(3.0, Quality::Good)));
    drive.on(&mut fusion, (2.0, 2.5), |_, _| Some(value(1.0, Quality::Estimated)));
    let last = drive.out.last().and_then(|reading| reading.value.ok()).expect("a value");
    assert_eq!((last.quality, fusion.winner()), (Quality::Estimated, Some("front-wheel")));
    drive.on(&mut fusion, (2.5, 4.0), |_, _| Some(value(1.0, Quality::Estimated)));
    assert_eq!((fusion.winner(), drive.out.last().map(|r| r.value)), (None, Some(Err(NoData::Stale))));
    // A standstill that is confirmed is a measurement.
    drive.on(&mut fusion, (4.0, 4.2), |sensor, _| (sensor == 0).then_some(value(0.0, Quality::Stopped)));
    assert_eq!(fusion.winner(), Some("front-wheel"));
}

#[test]
fn a_wheel_that_slips_is_told_once_after_five_seconds_and_once_when_it_is_over() {
    let (mut fusion, mut drive) = (fusion(), Drive::default());
    let slips =
        |by: f64| move |sensor: usize, _| Some(value(if sensor == 0 { 20.0 + by } else { 20.0 }, Quality::Good));
    drive.on(&mut fusion, (1.0, 4.0), slips(0.0));
    drive.on(&mut fusion, (4.0, 8.5), slips(3.0));
    assert!(drive.told().is_empty(), "not for long enough");
    drive.on(&mut fusion, (8.5, 20.0), slips(3.0));
    let wanted = |other| {
        format!(
            "disagreement: front-wheel says 23.00 m/s and {other} 20.00 m/s, for 5 s now: does a wheel slip, or is a \
             calibration wrong?"
        )
    };
    let mut told = drive.told();
    told.sort();
    assert_eq!(told, [wanted("ecu-speed"), wanted("gnss")]);
    drive.on(&mut fusion, (20.0, 30.0), slips(1.5));
    let told = drive.told();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|t| t.ends_with("agree again, after 16 s")), "{told:?}");
    assert_eq!(fusion.winner(), Some("front-wheel"), "it is told, not judged");
}

#[test]
fn two_that_are_apart_in_time_alone_do_not_disagree() {
    let (mut fusion, mut drive) = (fusion(), Drive::default());
    // 8 m/s² for four seconds and back: GNSS speaks once a second and is a second late.
    let truth = |t: f64| 25.0 + 10.0 * (t * 0.8).sin();
    for step in 10..600u64 {
        let mut take = |sensor, at: u64| {
            let reading = Reading { channel: 0, t: BootNs(at), value: value(truth(at as f64 * 1e-9), Quality::Good) };
            fusion.take(sensor, &reading, BootNs(step * 100 * MS), &mut drive.out, &mut drive.notices);
        };
        take(0, step * 100 * MS);
        if step % 10 == 0 {
            take(2, step * 100 * MS - 900 * MS);
        }
    }
    assert!(drive.told().is_empty());
}

#[test]
fn before_anybody_has_spoken_there_is_silence_said_once() {
    let (mut fusion, mut drive) = (fusion(), Drive::default());
    drive.on(&mut fusion, (1.0, 3.0), |_, _| None);
    assert_eq!(drive.out.len(), 1);
    assert_eq!(drive.out[0].value, Err(NoData::Silent));
}
