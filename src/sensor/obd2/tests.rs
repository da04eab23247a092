//! A vehicle in a few lines, and the answers of real ones.

use super::*;

const MS: u64 = 1_000_000;

fn frame(text: &str) -> Frame {
    let (id, data) = text.split_once('#').unwrap();
    let number = u32::from_str_radix(id, 16).unwrap();
    let bytes: Vec<u8> = (0..data.len()).step_by(2).map(|i| u8::from_str_radix(&data[i..i + 2], 16).unwrap()).collect();
    match id.len() {
        3 => Frame::new(StandardId::new(number as u16).unwrap(), &bytes).unwrap(),
        _ => Frame::new(ExtendedId::new(number).unwrap(), &bytes).unwrap(),
    }
}

fn text(frame: &Frame) -> String {
    let data: String = frame.data().iter().map(|byte| format!("{byte:02X}")).collect();
    if frame.is_extended() {
        format!("{:08X}#{data}", frame.raw_id())
    } else {
        format!("{:03X}#{data}", frame.raw_id())
    }
}

fn both() -> Options {
    Options { pids: vec![Pid::SPEED, Pid::ENGINE_SPEED], ..Options::default() }
}

fn hear(sensor: &mut Obd2, ms: u64, words: &str) -> Vec<Reading> {
    let mut out = Vec::new();
    sensor.on_frame(&TimedFrame { t: BootNs(ms * MS), frame: frame(words) }, &mut out);
    out
}

fn ask(sensor: &mut Obd2, ms: u64) -> Option<String> {
    sensor.ask(BootNs(ms * MS)).map(|frame| text(&frame))
}

fn value(out: &[Reading]) -> f64 {
    assert_eq!(out.len(), 1, "{out:?}");
    out[0].value.unwrap().value
}

#[test]
fn answers_of_real_cars_are_read_and_padding_and_other_parameters_are_not() {
    let unasked = || Obd2::new(Options { ask: false, ..both() });
    let kmh = |words| (value(&hear(&mut unasked(), 1, words)) * 3.6 * 1e9).round() / 1e9;
    assert_eq!(kmh("7E8#03410D00CCCCCCCC"), 0.0);
    assert_eq!(kmh("7E8#03410D40CCCCCCCC"), 64.0);
    assert_eq!(kmh("7E8#03410D4CCCCCCCCC"), 76.0);
    assert_eq!(kmh("7E8#03410D3800000000"), 56.0);
    assert_eq!(value(&hear(&mut unasked(), 1, "7E8#04410C1965CCCCCC")), 1625.25);
    assert_eq!(value(&hear(&mut unasked(), 1, "7E8#04410C1788000000")), 1506.0);
    assert!(hear(&mut unasked(), 1, "7E8#0641010027E100CC").is_empty());
    assert!(hear(&mut unasked(), 1, "7E7#03410D4000000000").is_empty(), "no answer's identifier");
    assert!(hear(&mut unasked(), 1, "18DAF110#03410D4000000000").is_empty(), "29 bits are not asked for");
    // A first frame of several, a length that the frame does not have, an empty frame.
    for cut in ["7E8#1014490201", "7E8#07410D40", "7E8#", "7E8#00", "7E8#04410C19"] {
        assert!(hear(&mut unasked(), 1, cut).is_empty(), "{cut}");
    }
}

#[test]
fn one_question_is_out_at_a_time_and_each_parameter_has_its_turn() {
    let mut sensor = Obd2::new(both());
    assert_eq!(ask(&mut sensor, 1000).unwrap(), "7DF#02010D5555555555");
    assert_eq!(ask(&mut sensor, 1001), None, "a question is out");
    assert_eq!(hear(&mut sensor, 1020, "7E8#03410D4000000000").len(), 1);
    assert_eq!(ask(&mut sensor, 1030), None, "too soon after the last question");
    assert_eq!(sensor.wakes(), Some(BootNs(1050 * MS)));
    assert_eq!(ask(&mut sensor, 1050).unwrap(), "7DF#02010C5555555555");
    // Nobody answers: after its time the next is free to go, but none is due yet.
    assert_eq!(ask(&mut sensor, 1149), None);
    assert_eq!(ask(&mut sensor, 1160), None);
    assert_eq!(sensor.wakes(), Some(BootNs(1500 * MS)));
    assert_eq!(ask(&mut sensor, 1500).unwrap(), "7DF#02010D5555555555");
    let mut questions = 0;
    for ms in 2000..12_000 {
        questions += u32::from(ask(&mut sensor, ms).is_some());
    }
    assert_eq!(questions, 40, "two parameters twice a second, and never more than 20 questions a second");
}

#[test]
fn a_unit_can_be_asked_alone_and_with_long_identifiers() {
    let first = |extended, target| {
        let mut sensor = Obd2::new(Options { extended, target, ..both() });
        ask(&mut sensor, 1).unwrap()
    };
    assert_eq!(first(false, Target::One(2)), "7E2#02010D5555555555");
    assert_eq!(first(true, Target::All), "18DB33F1#02010D5555555555");
    assert_eq!(first(true, Target::One(0x10)), "18DA10F1#02010D5555555555");
    let mut sensor = Obd2::new(Options { extended: true, ..both() });
    assert!((value(&hear(&mut sensor, 1, "18DAF110#03410D24CCCCCCCC")) - 10.0).abs() < 1e-12);
    let mut alone = Obd2::new(Options { target: Target::One(1), ..both() });
    assert!(hear(&mut alone, 1, "7E8#03410D24CCCCCCCC").is_empty());
    assert_eq!(hear(&mut alone, 2, "7E9#03410D24CCCCCCCC").len(), 1);
}

#[test]
fn of_several_units_the_lowest_is_listened_to_while_it_is_heard() {
    let mut sensor = Obd2::new(both());
    assert_eq!(hear(&mut sensor, 1000, "7EA#03410D0A00000000").len(), 1);
    assert_eq!(hear(&mut sensor, 1001, "7E8#03410D0B00000000").len(), 1, "a lower one takes over");
    assert!(hear(&mut sensor, 1500, "7EA#03410D0A00000000").is_empty());
    assert_eq!(hear(&mut sensor, 3002, "7EA#03410D0A00000000").len(), 1, "the lower one fell silent");
}

#[test]
fn a_refusal_is_told_in_words_and_wait_means_wait() {
    let mut sensor = Obd2::new(both());
    ask(&mut sensor, 1000).unwrap();
    assert!(hear(&mut sensor, 1010, "7E8#037F017800000000").is_empty());
    assert_eq!(ask(&mut sensor, 5000), None, "the answer is announced");
    let out = hear(&mut sensor, 5001, "7E8#037F011200000000");
    assert_eq!(out[0].value, Err(NoData::NotAvailable));
    let told = sensor.trouble().unwrap();
    assert!(told.starts_with("the vehicle refuses PID 0D: it does not have this value"), "{told}");
    ask(&mut sensor, 5100);
    hear(&mut sensor, 5101, "7E8#03410D2400000000");
    assert_eq!(sensor.trouble(), None, "an answer after all");
    // One unit answers, another does not know it.
    ask(&mut sensor, 6000).unwrap();
    assert!(hear(&mut sensor, 6001, "7E9#037F011200000000").is_empty());
    assert_eq!(sensor.counters().rejected, 2);
}

#[test]
fn the_unit_that_was_listened_to_is_believed_at_once_when_it_refuses() {
    let mut sensor = Obd2::new(Options::default());
    ask(&mut sensor, 1000).unwrap();
    assert_eq!(hear(&mut sensor, 1010, "7E8#03410D2400000000").len(), 1);
    ask(&mut sensor, 1500).unwrap();
    assert!(hear(&mut sensor, 1505, "7E9#037F012200000000").is_empty(), "another's refusal means nothing");
    let out = hear(&mut sensor, 1510, "7E8#037F012200000000");
    assert_eq!(out[0].value, Err(NoData::NotAvailable), "not stale two seconds later");
    assert!(sensor.trouble().unwrap().contains("is the ignition on?"));
}

#[test]
fn silence_is_told_and_then_staleness() {
    let mut sensor = Obd2::new(Options::default());
    let mut out = Vec::new();
    sensor.tick(BootNs(1000 * MS), &mut out);
    assert_eq!(out[0].value, Err(NoData::Silent));
    hear(&mut sensor, 1100, "7E8#03410D2400000000");
    out.clear();
    sensor.tick(BootNs(3000 * MS), &mut out);
    assert!(out.is_empty());
    sensor.tick(BootNs(3101 * MS), &mut out);
    assert_eq!(out[0].value, Err(NoData::Stale));
}

#[test]
fn the_speed_says_how_coarse_it_is() {
    let out = hear(&mut Obd2::new(Options::default()), 1, "7E8#03410D4000000000");
    assert!((out[0].value.unwrap().uncertainty * 3.6 - 0.288_675).abs() < 1e-6);
}
