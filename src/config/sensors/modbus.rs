//! `kind = "modbus"`: a register of a device on a Modbus RTU line.

use std::{path::PathBuf, time::Duration};

use super::{Claims, REPORT, TIMEOUT, scale, serial};
use crate::{
    board::{Board, LineSettings, Parity},
    config::walk::{Section, Walk},
    sensor::modbus::{Format, Options, Order, Table},
};

/// `kind = "modbus"`: a register of a device on a Modbus RTU line.
#[derive(Clone, Debug, PartialEq)]
pub struct ModbusSensor {
    /// The serial port's device.
    pub port: PathBuf,
    /// How its line is set.
    pub settings: LineSettings,
    /// Which register of which device, and what it means.
    pub options: Options,
}

/// What the standard asks devices to be delivered with.
const AS_DELIVERED: LineSettings =
    LineSettings { baud: 19_200, seven_data_bits: false, parity: Parity::Even, two_stop_bits: false, rs485: false };

pub(super) fn read(
    walk: &mut Walk<'_>,
    section: &Section<'_>,
    board: Option<&Board>,
    claims: &mut Claims,
) -> Option<ModbusSensor> {
    let settings = serial::settings(walk, section, AS_DELIVERED);
    let port = serial::shared_port(walk, section, board, claims, settings);
    for (key, what) in [("slave", "the device's number, 1 to 247"), ("register", "the register's number, from 0")] {
        if !section.has(key) {
            walk.missing(section, key, what);
        }
    }
    let slave = walk.whole(section, "slave", 1..248);
    let register = walk.whole(section, "register", 0..0x1_0000);
    if let Some(spot) = register.as_ref().filter(|spot| (30_001..50_000).contains(&spot.value)) {
        // 40001 may be meant as a number of a manual, or be a register of that number.
        walk.doubt(
            spot,
            format!("{} is counted from 0; a manual's 40001 is register 0 of table = \"holding\"", spot.value),
        );
    }
    let tables = [("holding", Table::Holding), ("input", Table::Input)];
    let table = walk.choice(section, "table", &tables).unwrap_or(Table::Holding);
    let formats =
        [("u16", Format::U16), ("i16", Format::I16), ("u32", Format::U32), ("i32", Format::I32), ("f32", Format::F32)];
    let format = walk.choice(section, "format", &formats).unwrap_or(Format::U16);
    let orders = [("abcd", Order::Abcd), ("cdab", Order::Cdab), ("badc", Order::Badc), ("dcba", Order::Dcba)];
    let order = walk.choice(section, "order", &orders).unwrap_or(Order::Abcd);
    let invalid = walk.whole(section, "invalid", 0..0x1_0000_0000).map(|spot| spot.value as u32);
    let scale = scale::read(walk, section, None);
    let report = walk.period(section, "report", REPORT).unwrap_or(Duration::from_millis(500));
    let answer_within = walk.time(section, "answer-within", ("5 ms", "5 s")).unwrap_or(Duration::from_millis(200));
    // A value must not grow stale before the next is asked for, nor for one answer that was lost.
    let timeout = walk.time(section, "timeout", TIMEOUT).unwrap_or((report * 3).max(Duration::from_secs(2)));
    let scale = scale?;
    let options = Options {
        slave: slave?.value as u8,
        table,
        register: register?.value as u16,
        format,
        order,
        invalid,
        scale: scale.scale,
        offset: scale.offset,
        unit: scale.unit,
        report,
        answer_within,
        timeout,
    };
    Some(ModbusSensor { port: port?, settings, options })
}
