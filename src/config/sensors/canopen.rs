//! `kind = "canopen"`: a drive or an encoder on a CANopen bus.

use std::time::Duration;

use super::{DEFAULT_REPORT, REPORT, TIMEOUT, can, scale};
use crate::{
    config::walk::{Section, Walk},
    sensor::{
        canopen::{NODE_MAX, Options, Source},
        field::{Field, Form, Order},
    },
};

/// `kind = "canopen"`: a drive or an encoder on a CANopen bus.
#[derive(Clone, Debug, PartialEq)]
pub struct CanOpenSensor {
    /// CAN interface.
    pub interface: String,
    /// What is listened to or asked for.
    pub options: Options,
}

pub(super) fn read(walk: &mut Walk<'_>, section: &Section<'_>) -> Option<CanOpenSensor> {
    let interface = can::interface(walk, section);
    if !section.has("node") {
        walk.missing(section, "node", "the number of the device on the bus, 1 to 127");
    }
    let node = walk.whole(section, "node", 1..u64::from(NODE_MAX) + 1);
    let signed = walk.flag(section, "signed").unwrap_or(true);
    let source = source(walk, section, signed);
    let scale = scale::read(walk, section, None);
    let report = walk.period(section, "report", REPORT).unwrap_or(DEFAULT_REPORT);
    let answer_within = walk.time(section, "answer-within", ("5 ms", "5 s")).unwrap_or(Duration::from_millis(50));
    let timeout = walk.time(section, "timeout", TIMEOUT).unwrap_or(Duration::from_millis(500));
    let scale = scale?;
    let options = Options {
        node: node?.value as u8,
        source: source?,
        scale: scale.scale,
        offset: scale.offset,
        unit: scale.unit,
        report,
        answer_within,
        timeout,
        ask: true,
    };
    Some(CanOpenSensor { interface: interface?, options })
}

fn source(walk: &mut Walk<'_>, section: &Section<'_>, signed: bool) -> Option<Source> {
    let index = walk.whole(section, "index", 0..0x1_0000);
    let cob_id = walk.whole(section, "cob-id", 1..0x800);
    match (index, cob_id) {
        (Some(_), Some(cob_id)) => {
            walk.wrong(&cob_id, "is given, and index too: is it asked for, or does it come by itself?");
            None
        }
        (Some(index), None) => {
            let sub = walk.whole(section, "sub-index", 0..256).map_or(0, |spot| spot.value as u8);
            Some(Source::Sdo { index: index.value as u16, sub, signed })
        }
        (None, Some(cob_id)) => {
            let start = walk.whole(section, "start-bit", 0..64).map_or(0, |spot| spot.value);
            let length = walk.whole(section, "length", 1..65);
            let bits = length.as_ref().map_or(16, |spot| spot.value);
            if start + bits > 64 {
                let spot = length.unwrap_or(cob_id);
                walk.wrong(&spot, format!("bits {start} to {} are more than a frame has", start + bits - 1));
                return None;
            }
            let form = if signed { Form::Signed } else { Form::Unsigned };
            let field = Field::new(start as u16, bits as u16, Order::Intel, form).ok()?;
            Some(Source::Tpdo { cob_id: cob_id.value as u16, field })
        }
        (None, None) => {
            if !section.has("index") && !section.has("cob-id") {
                let what = "which object to ask for, as index = 0x606C; or cob-id = 0x181 for process data";
                walk.missing(section, "index", what);
            }
            None
        }
    }
}
