//! One of each kind of sensor on a bus or a line, with input for as long as one likes: for the count of allocations and for
//! the benches.

use std::{convert::Infallible, sync::Arc, time::Duration};

use embedded_can::{ExtendedId, Frame as _, StandardId};
use embedded_hal::{
    i2c::{self, I2c},
    spi::{self, SpiDevice},
};
use speedwell::{
    clock::BootNs,
    estimator::{Shaft, ShaftOptions},
    sensor::{
        ByteSensor, Frame, FrameSensor, Reading, Sensor, TimedFrame,
        canopen::{self, CanOpen},
        dbc::{self, Dbc, DbcFile},
        field::{Field, Form, Order},
        j1939::{self, J1939},
        line::{self, Pattern},
        modbus,
        nmea::{self, Nmea},
        obd2::{self, Obd2},
        radar::{self, Radar},
        shaft::{As5048a, As5600, Chip, Health, Look, LookSensor, Ls7366r, ShaftChip},
        ubx::{self, Ubx},
        unit::Unit,
    },
};

/// A sensor being fed.
pub(crate) struct Fed {
    /// What is fed, one at a time.
    pub(crate) name: &'static str,
    /// Feeds number `k` of them.
    pub(crate) feed: Feed,
}

/// Feeds number `k`, and takes what is said.
type Feed = Box<dyn FnMut(u64, &mut Vec<Reading>)>;

/// Every report, so that every input is made a reading of.
const REPORT: Duration = Duration::from_micros(1);

/// A tenth of a second apart.
fn at(k: u64) -> BootNs {
    BootNs((k + 10) * 100_000_000)
}

/// One of each kind.
pub(crate) fn all() -> Vec<Fed> {
    vec![
        j1939(),
        dbc("frame for dbc", 8, "Speed : 7|15@0+ (0.01,0)"),
        dbc("FD frame for dbc", 64, "Speed : 480|16@1+ (0.01,0)"),
        another(),
        obd2(),
        sdo(),
        tpdo(),
        nmea(),
        ubx(),
        modbus(),
        radar(),
        text(),
        shaft("reading of an as5600", Chip::As5600, Box::new(|count| Box::new(As5600::new(Registers(count), 0x36)))),
        shaft("reading of an as5048a", Chip::As5048a, Box::new(|count| Box::new(As5048a::new(Shifted::new(count))))),
        shaft("reading of an ls7366r", Chip::Ls7366r, Box::new(|count| Box::new(Ls7366r::new(Shifted::new(count))))),
    ]
}

fn frames(name: &'static str, mut sensor: impl FrameSensor + 'static, frame: Frame) -> Fed {
    let feed = move |k, out: &mut Vec<Reading>| {
        while sensor.ask(at(k)).is_some() {}
        sensor.on_frame(&TimedFrame { t: BootNs(at(k).0 + 1_000_000), frame }, out);
        sensor.tick(BootNs(at(k).0 + 2_000_000), out);
    };
    Fed { name, feed: Box::new(feed) }
}

fn long(id: u32, data: &[u8]) -> Frame {
    Frame::new(ExtendedId::new(id).unwrap(), data).unwrap()
}

fn short(id: u16, data: &[u8]) -> Frame {
    Frame::new(StandardId::new(id).unwrap(), data).unwrap()
}

fn j1939() -> Fed {
    let sensor = J1939::new(j1939::Options { report: REPORT, ..j1939::Options::default() });
    frames("frame for j1939", sensor, long(0x18FE_F100, &[0xFF, 0, 0x3C, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]))
}

fn dbc(name: &'static str, length: usize, signal: &str) -> Fed {
    let file = format!("BO_ 464 M: {length} X\n SG_ {signal} [0|0] \"km/h\" X\n");
    let message = Arc::new(DbcFile::parse(file.as_bytes()).messages.remove(0));
    let sensor = Dbc::new(dbc::Options {
        message,
        signal: 0,
        counter: None,
        unit: Unit::named("km/h").unwrap(),
        any_sender: false,
        report: REPORT,
        timeout: Duration::from_secs(1),
    });
    let data = vec![1; length];
    let id = StandardId::new(464).unwrap();
    frames(name, sensor, if length > 8 { Frame::new_fd(id, &data).unwrap() } else { short(464, &data) })
}

fn another() -> Fed {
    let mut sensor = J1939::new(j1939::Options::default());
    let other = long(0x0CF0_0400, &[0; 8]);
    let ours = long(0x18FE_F100, &[0xFF, 0, 0x3C, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    let feed = move |k: u64, out: &mut Vec<Reading>| {
        // Now and then one of ours, so that there is something to say.
        let frame = if k.is_multiple_of(16) { ours } else { other };
        sensor.on_frame(&TimedFrame { t: at(k), frame }, out);
    };
    Fed { name: "frame for another", feed: Box::new(feed) }
}

fn obd2() -> Fed {
    let sensor = Obd2::new(obd2::Options { report: Duration::from_millis(50), ..obd2::Options::default() });
    frames("question and answer of obd2", sensor, short(0x7E8, &[3, 0x41, 0x0D, 0x40, 0xCC, 0xCC, 0xCC, 0xCC]))
}

fn canopen(source: canopen::Source) -> CanOpen {
    CanOpen::new(canopen::Options {
        node: 1,
        source,
        scale: 1.0,
        offset: 0.0,
        unit: Unit::named("rpm").unwrap(),
        report: Duration::from_millis(50),
        answer_within: Duration::from_millis(20),
        timeout: Duration::from_secs(1),
        ask: true,
    })
}

fn sdo() -> Fed {
    let sensor = canopen(canopen::Source::Sdo { index: 0x606C, sub: 0, signed: true });
    frames("question and answer of canopen", sensor, short(0x581, &[0x43, 0x6C, 0x60, 0, 0xE8, 3, 0, 0]))
}

fn tpdo() -> Fed {
    let field = Field::new(16, 32, Order::Intel, Form::Signed).unwrap();
    let sensor = canopen(canopen::Source::Tpdo { cob_id: 0x181, field });
    frames("process data of canopen", sensor, short(0x181, &[0, 0, 0xE8, 3, 0, 0, 0, 0]))
}

fn bytes(name: &'static str, mut sensor: impl ByteSensor + 'static, inputs: Vec<Vec<u8>>) -> Fed {
    let mut asked = Vec::with_capacity(64);
    let feed = move |k: u64, out: &mut Vec<Reading>| {
        asked.clear();
        sensor.ask(at(k), &mut asked);
        // Byte by byte, as the agent gives them.
        let t = BootNs(at(k).0 + 10_000_000);
        inputs[k as usize % inputs.len()].chunks(1).for_each(|byte| sensor.on_bytes(t, byte, out));
        sensor.tick(BootNs(at(k).0 + 60_000_000), out);
    };
    Fed { name, feed: Box::new(feed) }
}

fn nmea() -> Fed {
    let sentence = |tenth: u32| {
        let body = format!(
            "GPRMC,13282{}.{}0,A,4134.49821,N,09345.03351,W,3.252,92.308,180320,,,A",
            tenth / 10 % 10,
            tenth % 10
        );
        let check = body.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("${body}*{check:02X}\r\n").into_bytes()
    };
    let sensor = Nmea::new(nmea::Options { report: REPORT, position: true, ..nmea::Options::default() });
    bytes("RMC sentence of nmea", sensor, (0..100).map(sentence).collect())
}

fn ubx() -> Fed {
    let mut payload = [0u8; 92];
    (payload[20], payload[21], payload[23]) = (3, 1, 12);
    payload[60..64].copy_from_slice(&12_500u32.to_le_bytes());
    payload[68..72].copy_from_slice(&50u32.to_le_bytes());
    let mut frame = vec![0x01, 0x07, 92, 0];
    frame.extend(payload);
    let (a, b) = frame.iter().fold((0u8, 0u8), |(a, b), byte| {
        let a = a.wrapping_add(*byte);
        (a, b.wrapping_add(a))
    });
    let frame = [&[0xB5, 0x62][..], &frame, &[a, b]].concat();
    let sensor = Ubx::new(ubx::Options { report: REPORT, position: true, ..ubx::Options::default() });
    bytes("NAV-PVT of ubx", sensor, vec![frame])
}

fn modbus() -> Fed {
    let mut answer = vec![3, 3, 2, 0x03, 0xE8];
    let crc = answer.iter().fold(0xFFFFu16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    });
    answer.extend(crc.to_le_bytes());
    let mut line = modbus::Line::new(
        Duration::from_micros(573),
        [modbus::Options {
            slave: 3,
            table: modbus::Table::Holding,
            register: 0,
            format: modbus::Format::U16,
            order: modbus::Order::Abcd,
            invalid: None,
            scale: 1.0,
            offset: 0.0,
            unit: Unit::named("rpm").unwrap(),
            report: Duration::from_millis(50),
            answer_within: Duration::from_millis(50),
            timeout: Duration::from_secs(1),
        }],
    );
    let mut asked = Vec::with_capacity(64);
    let feed = move |k: u64, out: &mut Vec<Reading>| {
        asked.clear();
        line.ask(at(k), &mut asked);
        line.on_bytes(BootNs(at(k).0 + 10_000_000), &answer, out);
        line.slaves_mut().iter_mut().for_each(|slave| slave.tick(BootNs(at(k).0 + 60_000_000), out));
    };
    Fed { name: "question and answer of modbus", feed: Box::new(feed) }
}

fn radar() -> Fed {
    let sensor = Radar::new(radar::Options { report: REPORT, set_up: false, ..radar::Options::default() });
    bytes("line of a radar", sensor, vec![b"{\"speed\":3.58,\"direction\":\"inbound\",\"unit\":\"mps\"}\r\n".to_vec()])
}

fn text() -> Fed {
    let sensor = line::Line::new(line::Options {
        pattern: Pattern::new("SPD=(?P<v>[-0-9.]+)").unwrap(),
        unit: Unit::named("km/h").unwrap(),
        scale: 1.0,
        offset: 0.0,
        decimal_comma: false,
        invalid: vec!["---".into()],
        report: REPORT,
        timeout: Duration::from_secs(1),
    });
    bytes("line of text", sensor, vec![b"T=21.4 SPD=34.25 OK\r\n".to_vec()])
}

type Open = Box<dyn Fn(u32) -> Box<dyn ShaftChip<Bus = Infallible>>>;

/// The chip's own protocol over a bus that answers at once, and the shaft behind it.
fn shaft(name: &'static str, chip: Chip, open: Open) -> Fed {
    let mut shaft = Shaft::new(ShaftOptions {
        chip,
        counts_per_turn: if chip.is_absolute() { chip.wrap() as u32 } else { 4000 },
        metres_per_turn: Some(2.0),
        max_turns: 50.0,
        zero_below: 0.02,
        calibration_uncertainty: 0.0,
        reversed: false,
        report: Duration::from_millis(100),
        rotational_speed: true,
        distance: true,
        angle: true,
        direction: true,
    });
    // 64 places round the turn; a box a place, made before anything is measured.
    let mut chips: Vec<_> = (0..64).map(|place| open(place * (chip.wrap().min(4096) / 64) as u32)).collect();
    let feed = move |k: u64, out: &mut Vec<Reading>| {
        let t = BootNs((k + 10) * 5_000_000);
        let chip = &mut chips[k as usize % 64];
        let count = chip.count().ok();
        let health = k.is_multiple_of(20).then(|| chip.health().unwrap_or(Health::Invalid));
        shaft.on_look(&Look { from: t, to: BootNs(t.0 + 500_000), count, health }, out);
        if k % 20 == 19 {
            shaft.tick(BootNs(t.0 + 600_000), out);
        }
    };
    Fed { name, feed: Box::new(feed) }
}

/// An AS5600 as registers, with this angle.
struct Registers(u32);

impl i2c::ErrorType for Registers {
    type Error = Infallible;
}

impl I2c for Registers {
    fn transaction(&mut self, _: u8, operations: &mut [i2c::Operation<'_>]) -> Result<(), Infallible> {
        let [.., i2c::Operation::Read(answer)] = operations else { return Ok(()) };
        match answer {
            [status] => *status = 0x20,
            angle => angle.copy_from_slice(&(self.0 as u16).to_be_bytes()),
        }
        Ok(())
    }
}

/// An AS5048A or an LS7366R on SPI, with this count.
struct Shifted {
    count: u32,
    address: u16,
}

impl Shifted {
    fn new(count: u32) -> Self {
        Self { count, address: 0 }
    }
}

impl spi::ErrorType for Shifted {
    type Error = Infallible;
}

impl SpiDevice for Shifted {
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), Infallible> {
        match operations {
            // The answer of an AS5048A is to the command before.
            [spi::Operation::TransferInPlace(words)] => {
                let answer = if self.address == 0x3FFF { self.count as u16 } else { 0x0100 };
                self.address = u16::from_be_bytes([words[0], words[1]]) & 0x3FFF;
                let parity = (answer.count_ones() as u16 % 2) << 15;
                words.copy_from_slice(&(answer | parity).to_be_bytes());
            }
            [_, spi::Operation::Read(answer)] if answer.len() == 4 => answer.copy_from_slice(&self.count.to_be_bytes()),
            [_, spi::Operation::Read(answer)] => answer.fill(0),
            _ => {}
        }
        Ok(())
    }
}
