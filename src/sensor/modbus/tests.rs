//! Devices in a few lines, and frames of the standard.

use std::time::Duration;

use speedwell_wire::NoData;

use super::{
    frame::{Found, Question},
    *,
};
use crate::{
    clock::BootNs,
    sensor::{ByteSensor, Reading, Sensor, unit::Unit},
};

const MS: u64 = 1_000_000;

fn options(slave: u8) -> Options {
    Options {
        slave,
        table: Table::Holding,
        register: 0,
        format: Format::U16,
        order: Order::Abcd,
        invalid: None,
        scale: 1.0,
        offset: 0.0,
        unit: Unit::named("rpm").unwrap(),
        report: Duration::from_millis(100),
        answer_within: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
    }
}

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// A frame of these bytes with the right check.
fn signed(text: &str) -> Vec<u8> {
    let mut bytes = hex(text);
    bytes.extend(frame::crc(&bytes).to_le_bytes());
    bytes
}

fn read(options: Options, data: &str) -> Result<f64, NoData> {
    let mut slave = Slave::new(options);
    let mut out = Vec::new();
    slave.take(BootNs(1), &hex(data), &mut out);
    out[0].value.map(|value| value.value)
}

#[test]
fn questions_and_answers_are_those_of_the_standard() {
    let question = |table, register, count| Question { slave: 1, table, register, count };
    assert_eq!(question(Table::Holding, 0, 10).frame().to_vec(), hex("01 03 00 00 00 0A C5 CD"));
    assert_eq!(question(Table::Holding, 0, 1).frame().to_vec(), hex("01 03 00 00 00 01 84 0A"));
    assert_eq!(question(Table::Input, 10, 2).frame().to_vec(), hex("01 04 00 0A 00 02 51 C9"));
    let one = question(Table::Holding, 0, 1);
    assert_eq!(one.find(&hex("01 03 02 04 D2 3A D9")), Found::Answer(&[0x04, 0xD2], 7));
    assert_eq!(one.find(&hex("01 03 02 04 D2 3A")), Found::Part);
    assert_eq!(one.find(&hex("01 03 02 04 D2 3A D8")), Found::Nothing);
    assert_eq!(one.find(&signed("01 83 02")), Found::Refusal(2, 5));
    assert_eq!(one.find(&hex("02 03")), Found::Nothing);
    assert_eq!(one.find(&[]), Found::Part);
    let float = hex("01 04 04 41 EC 00 00 2E 4D");
    assert_eq!(question(Table::Input, 0, 2).find(&float), Found::Answer(&[0x41, 0xEC, 0, 0], 9));
    assert_eq!(Question::read(&hex("01 04 00 0A 00 02 51 C9")), Some(question(Table::Input, 10, 2)));
}

#[test]
fn numbers_are_read_in_every_format_and_order() {
    let of = |format, order, data| read(Options { format, order, ..options(1) }, data);
    assert_eq!(of(Format::U16, Order::Abcd, "04 D2"), Ok(1234.0));
    assert_eq!(of(Format::I16, Order::Dcba, "FE FF"), Ok(-2.0));
    for (order, data) in [
        (Order::Abcd, "41 EC 00 00"),
        (Order::Cdab, "00 00 41 EC"),
        (Order::Badc, "EC 41 00 00"),
        (Order::Dcba, "00 00 EC 41"),
    ] {
        assert_eq!(of(Format::F32, order, data), Ok(29.5), "{order:?}");
    }
    assert_eq!(of(Format::U32, Order::Cdab, "00 02 00 01"), Ok(65_538.0));
    assert_eq!(of(Format::I32, Order::Abcd, "FF FF FF FF"), Ok(-1.0));
    assert_eq!(of(Format::F32, Order::Abcd, "7F C0 00 00"), Err(NoData::NotAvailable), "NaN");
    let sentinel = Options { invalid: Some(0x7FFF), ..options(1) };
    assert_eq!(read(sentinel, "7F FF"), Err(NoData::NotAvailable));
    assert_eq!(read(Options { scale: 0.1, offset: -4.0, ..sentinel }, "00 64"), Ok(6.0));
}

/// Eleven bits at 9600 baud.
const CHARACTER: Duration = Duration::from_micros(1146);

/// A line with its devices, driven by hand in steps of a millisecond.
struct Bench {
    line: Line,
    now: u64,
    /// What each device said.
    said: Vec<Vec<Reading>>,
    /// When each was asked, ms.
    asked: Vec<Vec<u64>>,
}

impl Bench {
    fn new(slaves: &[u8]) -> Self {
        Self::with(slaves.iter().map(|&slave| options(slave)).collect())
    }

    fn with(devices: Vec<Options>) -> Self {
        let said = vec![Vec::new(); devices.len()];
        Self { line: Line::new(CHARACTER, devices), now: 1000, said, asked: vec![Vec::new(); 256] }
    }

    /// What a device's values are, one after the other.
    fn values(&self, device: usize) -> Vec<f64> {
        self.said[device].iter().filter_map(|reading| Some(reading.value.ok()?.value)).collect()
    }

    /// The reason a device has at the end, and its words for it.
    fn trouble(&mut self, device: usize) -> (Option<NoData>, String) {
        let (now, mut out) = (BootNs(self.now * MS), Vec::new());
        let slave = &mut self.line.slaves_mut()[device];
        slave.tick(now, &mut out);
        (out.first().and_then(|reading| reading.value.err()), slave.trouble().unwrap_or_default())
    }

    /// Until `until` ms; `device` answers a question with bytes, which come 20 ms after it.
    fn run(&mut self, until: u64, device: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        self.run_with(until, |asked| device(asked).map(|bytes| (20, bytes)));
    }

    /// The same with how long each answer takes, ms.
    fn run_with(&mut self, until: u64, mut device: impl FnMut(&[u8]) -> Option<(u64, Vec<u8>)>) {
        let mut answer: Option<(u64, Vec<u8>)> = None;
        while self.now < until {
            self.now += 1;
            let mut asked = Vec::new();
            self.line.ask(BootNs(self.now * MS), &mut asked);
            if let Some(&slave) = asked.first() {
                assert!(answer.is_none(), "asked while an answer is on its way");
                self.asked[usize::from(slave)].push(self.now);
                answer = device(&asked).map(|(after, bytes)| (self.now + after, bytes));
            }
            if let Some((_, bytes)) = answer.take_if(|(at, _)| *at <= self.now) {
                let (mut readings, said) = (Vec::new(), &mut self.said);
                // In two pieces, as a port cuts them.
                let (first, second) = bytes.split_at(bytes.len() / 2);
                for piece in [first, second] {
                    if let Some(slave) = self.line.on_bytes(BootNs(self.now * MS), piece, &mut readings) {
                        said[slave].append(&mut readings);
                    }
                }
            }
        }
    }
}

fn answering(asked: &[u8]) -> Option<Vec<u8>> {
    (asked[0] != 2).then(|| signed(&format!("{:02X} 03 02 00 {:02X}", asked[0], asked[0] * 10)))
}

#[test]
fn a_dead_slave_never_holds_up_the_others() {
    let mut bench = Bench::new(&[1, 2, 3]);
    bench.run(61_000, answering);
    for (device, value) in [(0, 10.0), (2, 30.0)] {
        let said = &bench.said[device];
        assert!(said.len() > 590, "{device}: {}", said.len());
        assert!(said.iter().all(|reading| reading.value.unwrap().value == value));
        let longest = said.windows(2).map(|pair| pair[1].t.since(pair[0].t)).max().unwrap();
        assert!(longest < Duration::from_millis(250), "{device}: {longest:?}");
    }
    let asked = &bench.asked[2];
    assert!((8..=12).contains(&asked.len()), "asked less and less often: {asked:?}");
    let dead = &mut bench.line.slaves_mut()[1];
    assert!(dead.trouble().unwrap().starts_with("slave 2 does not answer"));
    let mut out = Vec::new();
    dead.tick(BootNs(62_000 * MS), &mut out);
    assert_eq!(out[0].value, Err(NoData::Silent));
    // It comes back.
    bench.run(125_000, |asked| Some(signed(&format!("{:02X} 03 02 00 07", asked[0]))));
    assert!(bench.said[1].len() > 300, "{}", bench.said[1].len());
}

#[test]
fn an_echo_noise_and_a_refusal_are_what_they_are() {
    let mut bench = Bench::new(&[1]);
    bench.run(1200, |asked| Some([asked, &signed("01 03 02 00 05")].concat()));
    assert_eq!(bench.said[0][0].value.unwrap().value, 5.0, "the echo is passed over");
    bench.said[0].clear();
    bench.run(1400, |_| Some([hex("FF 00 01 03"), signed("01 03 02 00 06")].concat()));
    assert_eq!(bench.said[0][0].value.unwrap().value, 6.0, "noise before it");
    bench.said[0].clear();
    bench.run(1600, |_| Some(signed("01 83 02")));
    assert_eq!(bench.said[0][0].value, Err(NoData::NotAvailable));
    let told = bench.line.slaves_mut()[0].trouble().unwrap();
    assert!(told.starts_with("slave 1 refuses register 0: it has no such register"), "{told}");
    bench.said[0].clear();
    bench.run(1800, |_| Some(signed("02 03 02 00 06")));
    assert!(bench.said[0].is_empty(), "another's answer");
}

#[test]
fn a_late_answer_is_no_value_of_another_register_of_its_device() {
    let register = |register| Options { register, ..options(1) };
    let mut bench = Bench::with(vec![register(0), register(7)]);
    // Every third answer comes when its time of 50 ms is long over.
    let mut count = 0;
    bench.run_with(30_000, |asked| {
        count += 1;
        let after = if count % 3 == 0 { 120 } else { 20 };
        Some((after, signed(&format!("01 03 02 00 {:02X}", 10 + asked[3]))))
    });
    for (device, value) in [(0, 10.0), (1, 17.0)] {
        let values = bench.values(device);
        assert!(values.len() > 50 && values.iter().all(|v| *v == value), "{device}: {values:?}");
    }
    let late: u64 = bench.line.slaves_mut().iter().map(|slave| slave.counters().rejected).sum();
    assert!(late > 20, "{late}");
}

#[test]
fn a_device_that_always_answers_too_late_is_told_with_the_key_to_raise() {
    let mut bench = Bench::new(&[1]);
    bench.run_with(10_000, |_| Some((120, signed("01 03 02 00 05"))));
    assert_eq!(bench.values(0), [0.0; 0]);
    let (reason, words) = bench.trouble(0);
    assert_eq!(reason, Some(NoData::Silent));
    assert!(words.starts_with("slave 1 answered 1") && words.contains("`answer-within` gives it 50 ms"), "{words}");
    bench.run(80_000, |_| Some(signed("01 03 02 00 05")));
    assert_eq!(bench.trouble(0), (None, String::new()));
}

#[test]
fn a_device_that_refused_and_then_died_no_longer_refuses() {
    let mut bench = Bench::new(&[1]);
    bench.run(2000, |_| Some(signed("01 83 02")));
    let (reason, words) = bench.trouble(0);
    assert_eq!(reason, Some(NoData::NotAvailable));
    assert!(words.contains("refuses register 0"), "{words}");
    bench.run(10_000, |_| None);
    let (reason, words) = bench.trouble(0);
    assert_eq!(reason, Some(NoData::Stale));
    assert!(words.starts_with("slave 1 does not answer"), "{words}");
}

#[test]
fn a_line_that_is_never_quiet_is_a_fault_with_its_name_until_it_is() {
    let mut bench = Bench::new(&[1]);
    let babble = |bench: &mut Bench, until| {
        while bench.now < until {
            bench.now += 1;
            let mut asked = Vec::new();
            bench.line.ask(BootNs(bench.now * MS), &mut asked);
            bench.line.on_bytes(BootNs(bench.now * MS), &[0xF8], &mut Vec::new());
        }
    };
    babble(&mut bench, 1500);
    assert_eq!(bench.trouble(0).0, Some(NoData::Silent), "a frame may be as long");
    babble(&mut bench, 4000);
    let (reason, words) = bench.trouble(0);
    assert_eq!(reason, Some(NoData::Fault));
    assert!(words.starts_with("slave 1 cannot be asked, because the line is never quiet"), "{words}");
    bench.run(6000, |_| Some(signed("01 03 02 00 05")));
    assert_eq!(bench.trouble(0), (None, String::new()));
    assert_eq!(bench.values(0)[0], 5.0);
}

#[test]
fn a_recording_is_read_with_or_without_the_questions() {
    let mut alone = Alone::new(Options { register: 3, ..options(1) });
    let mut hear = |bytes: Vec<u8>| {
        let mut out = Vec::new();
        alone.on_bytes(BootNs(MS), &bytes, &mut out);
        alone.slave_values(&out)
    };
    assert_eq!(hear(signed("01 03 02 00 05")), [5.0]);
    let other = Question { slave: 1, table: Table::Holding, register: 7, count: 1 }.frame().to_vec();
    assert_eq!(hear([other, signed("01 03 02 00 06")].concat()), [0.0; 0], "an answer to another question");
}

impl Alone {
    fn slave_values(&self, out: &[Reading]) -> Vec<f64> {
        out.iter().map(|reading| reading.value.unwrap().value).collect()
    }
}
