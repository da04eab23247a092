//! The devices at the far end: slaves with a CRC of their own, a u-blox receiver, a radar, a display. What they say is told
//! here alone, from the makers' documents, and not by the code that reads it.

use std::{
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Adapter, every};

/// CRC-16 of Modbus by its definition (Modbus over serial line, 6.2.2): x^16 + x^15 + x^2 + 1, the lowest bit first, a bit at
/// a time.
fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut register = 0xFFFFu32;
    for byte in bytes {
        for bit in 0..8 {
            let feedback = (register ^ u32::from(*byte) >> bit) & 1;
            register >>= 1;
            if feedback == 1 {
                register ^= 0xA001;
            }
        }
    }
    [(register & 0xFF) as u8, (register >> 8) as u8]
}

/// Slaves on one RS-485 line. Each has 100 times its number and the register's in its holding registers, and refuses those
/// from 100 on.
struct Slaves {
    alive: Vec<(u8, Arc<AtomicBool>)>,
    asked: Arc<AtomicU64>,
    heard: Vec<u8>,
}

impl Slaves {
    fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.heard.extend_from_slice(bytes);
        let mut answer = Vec::new();
        while let Some(question) = self.heard.get(..8) {
            if crc(&question[..6]) != question[6..] {
                self.heard.remove(0);
                continue;
            }
            let (number, function, register) =
                (question[0], question[1], u16::from_be_bytes([question[2], question[3]]));
            self.heard.drain(..8);
            let Some((_, alive)) = self.alive.iter().find(|(slave, _)| *slave == number) else { continue };
            if !alive.load(Ordering::Relaxed) {
                self.asked.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let value = (100 * u16::from(number) + register).to_be_bytes();
            answer = match register {
                0..100 => vec![number, function, 2, value[0], value[1]],
                _ => vec![number, function | 0x80, 2],
            };
            answer.extend(crc(&answer.clone()));
        }
        answer
    }
}

pub fn slaves(alive: Vec<(u8, Arc<AtomicBool>)>, asked: Arc<AtomicU64>) -> impl FnMut(&[u8]) -> Vec<u8> {
    let mut slaves = Slaves { alive, asked, heard: Vec::new() };
    move |heard| slaves.hear(heard)
}

/// A u-blox receiver at 10 Hz and 13.889 m/s.
pub fn ublox() -> impl FnMut(&[u8]) -> Vec<u8> {
    every(Duration::from_millis(100), || {
        let mut frame = vec![0xB5, 0x62, 0x01, 0x07, 92, 0];
        frame.resize(6 + 92, 0);
        let mut put = |at: usize, bytes: &[u8]| frame[6 + at..6 + at + bytes.len()].copy_from_slice(bytes);
        // 3D, gnssFixOK, gSpeed 13 889 mm/s, sAcc 50 mm/s.
        put(20, &[3, 1]);
        put(60, &13_889i32.to_le_bytes());
        put(68, &50u32.to_le_bytes());
        let (mut a, mut b) = (0u8, 0u8);
        for byte in &frame[2..] {
            a = a.wrapping_add(*byte);
            b = b.wrapping_add(a);
        }
        frame.extend([a, b]);
        frame
    })
}

/// A radar that tells 36 km/h at 10 Hz in the unit it is set to, without naming it: km/h until it hears `UM`.
pub fn radar() -> impl FnMut(&[u8]) -> Vec<u8> {
    let mut metres = false;
    let mut due = Instant::now();
    move |heard| {
        let mut said = Vec::new();
        if heard.windows(2).any(|two| two == b"UM") {
            metres = true;
            said.extend_from_slice(b"{\"Units\":\"meters-per-second\"}\r\n");
        }
        if Instant::now() >= due {
            due = Instant::now() + Duration::from_millis(100);
            said.extend_from_slice(if metres { b"10.00\r\n" } else { b"36.00\r\n" });
        }
        said
    }
}

pub fn display() -> impl FnMut(&[u8]) -> Vec<u8> {
    every(Duration::from_millis(100), || b"T=21\xB0C SPD=18.0 km/h\r\n".to_vec())
}

/// Four sensors with a channel each, in this order.
pub const NAMES: [&str; 4] = ["gnss", "over-ground", "display", "feed-roll"];
pub const VALUES: [f64; 4] = [13.889, 10.0, 5.0, 107.0];

pub fn four(ports: &[PathBuf]) -> String {
    let port = |index: usize| ports[index].display();
    format!(
        r#"
[[sensor]]
name = "gnss"
kind = "ubx"
port = "{}"

[[sensor]]
name = "over-ground"
kind = "radar"
port = "{}"
unit = "km/h"

[[sensor]]
name = "display"
kind = "line"
port = "{}"
baud = 1200
pattern = 'SPD=(?P<v>[0-9.]+) *(?P<u>km/h)'
unit = "km/h"

[[sensor]]
name = "feed-roll"
kind = "modbus"
port = "{}"
slave = 1
register = 7
unit = "rpm"
report = "10 Hz"
"#,
        port(0),
        port(1),
        port(2),
        port(3)
    )
}

pub fn plug_in(ports: &[PathBuf]) -> Vec<Adapter> {
    let alive = vec![(1, Arc::new(AtomicBool::new(true)))];
    let adapters = vec![
        Adapter::plug_in(ublox()),
        Adapter::plug_in(radar()),
        Adapter::plug_in(display()),
        Adapter::plug_in(slaves(alive, Arc::default())),
    ];
    adapters.iter().zip(ports).for_each(|(adapter, port)| symlink(&adapter.device, port).unwrap());
    adapters
}
