//! Looks at a CAN interface as a technician does: is it there, is it up, is anything on it, and nothing but errors?

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use speedwell::board::{
    BusState, CanPort,
    can::{LinkFacts, facts},
};

use super::{Exit, probe::Finding};

/// ARPHRD_CAN of linux/if_arp.h.
const KIND_CAN: &str = "280";

/// IFF_UP of linux/if.h.
const FLAG_UP: u32 = 1;

/// How long a bus is listened to: a vehicle's slowest speed comes ten times in it, a heartbeat once.
const LISTEN: Duration = Duration::from_secs(1);

/// Looks at an interface and listens to it for a second; nothing is sent. `asks`: a sensor on it has to send.
pub(super) fn look(name: &str, asks: bool) -> Finding {
    if let Err(finding) = present(Path::new("/sys/class/net"), name) {
        return finding;
    }
    match listen(name) {
        Ok(heard) => judge(name, &heard, asks),
        Err(cause) => {
            let exit = if cause.is_permission() { Exit::Permission } else { Exit::Unavailable };
            Finding::bad(exit, format!("CAN {name} cannot be listened to"), cause.to_string())
        }
    }
}

/// What was found of an interface.
#[derive(Clone, Debug, Default)]
struct Heard {
    facts: LinkFacts,
    state: BusState,
    frames: u64,
    errors: u64,
}

fn listen(name: &str) -> Result<Heard, speedwell::board::BoardError> {
    let mut port = CanPort::open(name, &[])?;
    let (until, mut frames) = (Instant::now() + LISTEN, 0);
    while Instant::now() < until {
        frames += u64::from(port.next(until.saturating_duration_since(Instant::now()))?.is_some());
    }
    let facts = facts(name).unwrap_or_default();
    Ok(Heard { facts, state: port.bus_state(), frames, errors: port.errors() })
}

/// Whether it is there, is CAN and is up, by sysfs (`net` is /sys/class/net).
fn present(net: &Path, name: &str) -> Result<(), Finding> {
    let interface = net.join(name);
    let read = |file: &str| fs::read_to_string(interface.join(file)).map(|t| t.trim().to_owned());
    let Ok(kind) = read("type") else {
        return Err(Finding::bad(
            Exit::Unavailable,
            format!("CAN {name}: there is no interface {name}"),
            "`ip -brief link` lists those there are; an SPI controller needs its overlay in config.txt",
        ));
    };
    if kind != KIND_CAN {
        return Err(Finding::bad(
            Exit::Unavailable,
            format!("CAN {name}: the interface {name} is no CAN interface"),
            "`ip -brief link show type can` lists those that are",
        ));
    }
    let flags = read("flags").ok().and_then(|f| u32::from_str_radix(f.trim_start_matches("0x"), 16).ok());
    if flags.is_some_and(|f| f & FLAG_UP == 0) {
        let advice = match name.starts_with("vcan") {
            true => format!("ip link set {name} up"),
            false => {
                format!("ip link set {name} up type can bitrate 250000 listen-only on   (or the bus's own bit rate)")
            }
        };
        return Err(Finding::bad(Exit::Unavailable, format!("CAN {name}: the interface {name} is down"), advice));
    }
    Ok(())
}

fn judge(name: &str, heard: &Heard, asks: bool) -> Finding {
    let facts = &heard.facts;
    let at = facts.bit_rate.map_or(String::new(), |rate| format!(" at {rate} bit/s"));
    let (sending, receiving) = facts.errors.unwrap_or_default();
    let counted =
        format!("{} error frames in 1 s, {sending} errors in sending, {receiving} in receiving", heard.errors);
    let again =
        |how: &str| format!("`ip link set {name} down`, `ip link set {name} type can {how}`, `ip link set {name} up`");
    let ailing = heard.errors > 0 || heard.state >= BusState::Warning || sending > 0 || receiving > 0;
    match heard.frames {
        _ if heard.state == BusState::BusOff => Finding::bad(
            Exit::Unavailable,
            format!("CAN {name}{at} is bus off: cut off after too many errors"),
            format!(
                "check bit rate, wiring and termination; then `ip link set {name} type can restart`, and for the next time {}",
                again("restart-ms 100")
            ),
        ),
        _ if asks && facts.listen_only == Some(true) => Finding::bad(
            Exit::Unavailable,
            format!("CAN {name}{at} only listens, and a sensor on it has to ask"),
            again("listen-only off"),
        ),
        0 if ailing => Finding::bad(
            Exit::Unavailable,
            format!("CAN {name}{at} hears nothing but errors ({counted})"),
            format!(
                "the bit rate is not the bus's own, or the wiring is not sound (CAN_H and CAN_L exchanged, no \
                 termination): cars mostly have 500000, trucks 250000 or 500000: {}",
                again("bitrate 500000")
            ),
        ),
        0 if asks => Finding::good(format!("CAN {name} is up{at}; silent for 1 s, as a bus may be until it is asked")),
        0 => Finding::doubt(
            format!("CAN {name} is up{at} and silent: no frame and no error in 1 s"),
            "is the ignition on, and the right pair of wires connected? `candump -e any,0:0,#FFFFFFFF` shows both",
        ),
        frames if ailing && heard.state >= BusState::Passive => Finding::doubt(
            format!("CAN {name} is up{at}: {frames} frames, and too many errors ({counted})"),
            "check the termination (60 ohms between the wires, without supply), plugs and shields",
        ),
        frames if asks && facts.restart_ms == Some(0) => Finding::doubt(
            format!("CAN {name} is up{at}: {frames} frames in 1 s; after bus off it does not come back by itself"),
            again("restart-ms 100"),
        ),
        frames => Finding::good(format!("CAN {name} is up{at}: {frames} frames in 1 s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A /sys/class/net with one interface.
    fn net(kind: &str, flags: &str) -> tempfile::TempDir {
        let net = tempfile::tempdir().expect("a directory");
        let interface = net.path().join("can0");
        fs::create_dir(&interface).expect("made");
        fs::write(interface.join("type"), format!("{kind}\n")).expect("written");
        fs::write(interface.join("flags"), format!("{flags}\n")).expect("written");
        net
    }

    #[test]
    fn a_can_interface_is_there_down_no_can_or_missing() {
        let told = |net: &tempfile::TempDir, name| present(net.path(), name).unwrap_err().to_string();
        assert_eq!(present(net("280", "0x40081").path(), "can0"), Ok(()));
        let wanted = "\
FAIL  CAN can0: the interface can0 is down
      ip link set can0 up type can bitrate 250000 listen-only on   (or the bus's own bit rate)
";
        assert_eq!(told(&net("280", "0x40080"), "can0"), wanted);
        assert!(
            told(&net("1", "0x1003"), "can0").starts_with("FAIL  CAN can0: the interface can0 is no CAN interface\n")
        );
        assert!(told(&net("280", "0x1"), "can1").starts_with("FAIL  CAN can1: there is no interface can1\n"));
    }

    fn heard(frames: u64, errors: u64) -> Heard {
        let facts = LinkFacts { bit_rate: Some(250_000), restart_ms: Some(100), ..LinkFacts::default() };
        Heard { facts, state: BusState::Active, frames, errors }
    }

    fn told(heard: &Heard, asks: bool) -> String {
        judge("can0", heard, asks).to_string()
    }

    #[test]
    fn a_wrong_bit_rate_is_told_by_errors_without_frames() {
        for mut only_errors in [heard(0, 40), heard(0, 0), heard(0, 0)].into_iter().enumerate().map(|(k, mut heard)| {
            heard.facts.errors = (k == 1).then_some((0, 96));
            heard.state = if k == 2 { BusState::Passive } else { BusState::Active };
            heard
        }) {
            let text = told(&only_errors, false);
            assert!(text.starts_with("FAIL  CAN can0 at 250000 bit/s hears nothing but errors ("), "{text}");
            assert!(text.contains("the bit rate is not the bus's own") && text.contains("bitrate 500000"), "{text}");
            only_errors.frames = 100;
            assert!(!told(&only_errors, false).starts_with("FAIL"));
        }
    }

    #[test]
    fn frames_silence_and_a_bus_that_is_off_are_told_apart() {
        assert_eq!(told(&heard(312, 0), false), "ok    CAN can0 is up at 250000 bit/s: 312 frames in 1 s\n");
        assert!(told(&heard(0, 0), false).starts_with("look  CAN can0 is up at 250000 bit/s and silent"));
        assert!(told(&heard(0, 0), true).starts_with("ok    CAN can0 is up at 250000 bit/s; silent"));
        let off = Heard { state: BusState::BusOff, ..heard(0, 3) };
        assert!(told(&off, false).starts_with("FAIL  CAN can0 at 250000 bit/s is bus off"));
        assert!(told(&off, false).contains("type can restart`"));
    }

    #[test]
    fn one_that_only_listens_cannot_ask_and_one_that_asks_should_come_back() {
        let mut quiet = heard(10, 0);
        quiet.facts.listen_only = Some(true);
        assert!(told(&quiet, false).starts_with("ok "));
        assert!(told(&quiet, true).starts_with("FAIL  CAN can0 at 250000 bit/s only listens, and a sensor"));
        let mut lost = heard(10, 0);
        lost.facts.restart_ms = Some(0);
        assert!(told(&lost, true).contains("after bus off it does not come back by itself"));
        assert!(told(&lost, false).starts_with("ok "), "one that never sends is never cut off");
    }
}
