//! Writes what [`super`] reads: edges, frames, bytes and looks, each on the time it came at.

use std::io::{self, Write};

use embedded_can::Frame as _;

use super::timed::{BUS_HEADER, BYTES_MAX, SERIAL_HEADER};
use crate::{
    board::ErrorFrame,
    clock::{BootNs, Fix, TimeSource},
    sensor::{Edge, EdgeKind, Frame, TimedFrame, shaft::Look},
};

/// Writes a recording.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins one with a remark on what it is `of` and on how its times become UTC.
    pub fn new(out: W, of: &str, fix: Option<&Fix>) -> io::Result<Self> {
        let mut writer = Self { out, bytes: 0 };
        writer.line(&format!("# {of}, recorded by speedwell; times are ns since the machine was booted"))?;
        let utc = match fix {
            Some(fix) if fix.source != TimeSource::Untrusted => {
                let offset = i128::from(fix.utc_ns) - i128::from(fix.boot.0);
                format!("# UTC = time + {offset} ns, off by at most {} ns at the beginning", fix.uncertainty_ns)
            }
            _ => "# UTC is not known: the clock was not synchronised".to_owned(),
        };
        writer.line(&utc)?;
        Ok(writer)
    }

    /// The head of an edges file.
    pub fn edges_header(&mut self) -> io::Result<()> {
        self.line(super::edges::HEADER_WITH_LINE)
    }

    /// The head of recorded bytes.
    pub fn serial_header(&mut self) -> io::Result<()> {
        self.line(SERIAL_HEADER)
    }

    /// The head of recorded looks.
    pub fn bus_header(&mut self) -> io::Result<()> {
        self.line(BUS_HEADER)
    }

    /// An edge.
    pub fn edge(&mut self, edge: &Edge) -> io::Result<()> {
        let kind = if edge.kind == EdgeKind::Rising { "rising" } else { "falling" };
        self.line(&format!("{},{kind},{},{},{}", edge.t.0, edge.seqno, edge.line_seqno, edge.line))
    }

    /// A frame of an interface, to the nanosecond: candump's own tools take a fraction of six digits or of nine.
    pub fn frame(&mut self, interface: &str, timed: &TimedFrame<Frame>) -> io::Result<()> {
        let (frame, t) = (&timed.frame, timed.t.0);
        let id = match frame.is_extended() {
            true => format!("{:08X}", frame.raw_id()),
            false => format!("{:03X}", frame.raw_id()),
        };
        let data = match (frame.is_remote_frame(), frame.is_fd()) {
            (true, _) => "R".to_owned(),
            (false, true) => format!("#0{}", hex(frame.data())),
            (false, false) => hex(frame.data()),
        };
        self.line(&format!("({}.{:09}) {interface} {id}#{data}", t / 1_000_000_000, t % 1_000_000_000))
    }

    /// An error frame of an interface: what its kernel said of the bus.
    pub fn error_frame(&mut self, interface: &str, t: BootNs, error: &ErrorFrame) -> io::Result<()> {
        let (seconds, rest, id) = (t.0 / 1_000_000_000, t.0 % 1_000_000_000, error.class | libc::CAN_ERR_FLAG);
        self.line(&format!("({seconds}.{rest:09}) {interface} {id:08X}#{}", hex(&error.data)))
    }

    /// Bytes of a serial port, in lines as long as can be read again.
    pub fn bytes(&mut self, t: BootNs, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(BYTES_MAX).try_for_each(|chunk| self.line(&format!("{},{}", t.0, hex(chunk))))
    }

    /// A look at a chip.
    pub fn look(&mut self, look: &Look) -> io::Result<()> {
        let count = look.count.map_or(String::new(), |count| count.to_string());
        let health = look.health.map_or("", |health| health.name());
        self.line(&format!("{},{},{count},{health}", look.from.0, look.to.0))
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.bytes
    }

    /// Hands what was written to the system: from here on it survives this program.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")?;
        self.bytes += text.len() as u64 + 1;
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use embedded_can::{ExtendedId, StandardId};

    use super::{
        super::{BusFile, Candump, EdgesFile, Input, Item, Recording, TimedBytes},
        *,
    };
    use crate::sensor::shaft::Health;

    fn written(write: impl FnOnce(&mut Writer<&mut Vec<u8>>) -> io::Result<()>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, "a test", None).unwrap();
        write(&mut writer).unwrap();
        assert_eq!(writer.written() as usize, out.len());
        out
    }

    fn read(mut file: impl Recording) -> Vec<Item> {
        std::iter::from_fn(|| file.next_step().unwrap()).map(|step| step.unwrap()).collect()
    }

    #[test]
    fn what_a_bus_said_of_itself_is_counted_when_it_is_read_again() {
        let off = ErrorFrame { class: 0x40, data: [0; 8] };
        let text = written(|w| w.error_frame("can0", BootNs(5_000_000_001), &off));
        assert!(String::from_utf8_lossy(&text).ends_with("(5.000000001) can0 20000040#0000000000000000\n"));
        let mut log = Candump::new(&text[..], "can0");
        assert!(log.next_step().unwrap().is_none());
        assert_eq!(log.passed_over(), "passed over 1 error frames (bus: bus off)");
    }

    #[test]
    fn what_is_written_is_read_again_to_the_nanosecond() {
        let edge = |t, kind, line| Edge { t: BootNs(t), line, kind, seqno: 7, line_seqno: 6 };
        let edges = [edge(123_456_789_012, EdgeKind::Rising, 0), edge(123_456_789_013, EdgeKind::Falling, 1)];
        let text = written(|w| w.edges_header().and_then(|()| edges.iter().try_for_each(|e| w.edge(e))));
        assert_eq!(read(EdgesFile::new(&text[..])), edges.map(|e| Item { t: e.t, input: Input::Edge(e) }));

        let frames = [
            Frame::new(ExtendedId::new(0x18FE_F100).unwrap(), &[0xF3, 0, 0x3C]).unwrap(),
            Frame::new(StandardId::new(0x7E8).unwrap(), &[]).unwrap(),
            Frame::new_remote(StandardId::new(0x123).unwrap(), 0).unwrap(),
            Frame::new_fd(StandardId::new(0x456).unwrap(), &[7; 24]).unwrap(),
        ];
        let timed = frames.map(|frame| TimedFrame { t: BootNs(5_000_000_001), frame });
        let text = written(|w| timed.iter().try_for_each(|f| w.frame("can0", f)));
        assert_eq!(read(Candump::new(&text[..], "can0")), timed.map(|f| Item { t: f.t, input: Input::Frame(f.frame) }));

        let long: Vec<u8> = (0..=255).cycle().take(BYTES_MAX + 10).collect();
        let text = written(|w| w.serial_header().and_then(|()| w.bytes(BootNs(9), &long)));
        let again: Vec<u8> = read(TimedBytes::new(&text[..]))
            .into_iter()
            .flat_map(|item| match item.input {
                Input::Bytes(bytes) if item.t == BootNs(9) => bytes,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(again, long);

        let look = |count, health| Look { from: BootNs(3), to: BootNs(9), count, health };
        let looks = [look(Some(4095), None), look(None, Some(Health::NoMagnet))];
        let text = written(|w| w.bus_header().and_then(|()| looks.iter().try_for_each(|l| w.look(l))));
        assert_eq!(read(BusFile::new(&text[..])), looks.map(|l| Item { t: l.to, input: Input::Look(l) }));
    }

    #[test]
    fn the_head_says_how_times_become_utc_only_where_somebody_vouches_for_it() {
        let fix = |source| Fix { boot: BootNs(1000), utc_ns: 5000, uncertainty_ns: 40, rate_ppb: 0, source };
        let head = |fix: Option<&Fix>| {
            let mut out = Vec::new();
            Writer::new(&mut out, "pin GPIO17", fix).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            head(Some(&fix(TimeSource::Ntp))),
            "# pin GPIO17, recorded by speedwell; times are ns since the machine was booted\n\
             # UTC = time + 4000 ns, off by at most 40 ns at the beginning\n"
        );
        let unknown = "# UTC is not known: the clock was not synchronised\n";
        assert!(head(Some(&fix(TimeSource::Untrusted))).ends_with(unknown));
        assert!(head(None).ends_with(unknown));
    }
}
