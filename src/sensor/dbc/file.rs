//! Reads a DBC file, as far as it can be read: messages, signals, multiplexing, number formats, cycle times.
//!
//! ```text
//! BO_ 2364540158 EEC1: 8 Vector__XXX                                     identifier; bit 31: 29 bits
//!  SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" Vector__XXX   start|length@order sign (scale,offset)
//!  SG_ Mode M : ...    SG_ Value m3 : ...    SG_ Both m1M : ...          multiplexor, multiplexed, both
//! SG_MUL_VAL_ 100 Value Mode 3-3, 7-9;                                   which values of which multiplexor
//! SIG_VALTYPE_ 100 Value : 1;                                            1: 32-bit, 2: 64-bit floating point
//! BA_ "GenMsgCycleTime" BO_ 100 20;                                      every 20 ms
//! ```
//! Files in the field break the rules of the format in many ways. A line that cannot be read is told and left out, and the
//! rest of the file is good: an unreadable comment costs nobody a speed.

use super::super::field::{BadField, Field, Form, Order};

/// Longest file, bytes: the largest known ones have a few.
pub const MAX_FILE: usize = 16 << 20;
/// Most messages and, of all together, signals: beyond what 29 bits of identifiers are used for anywhere.
pub const MAX_MESSAGES: usize = 16_384;
/// See [`MAX_MESSAGES`].
pub const MAX_SIGNALS: usize = 262_144;
/// Longest name, bytes; longer ones are cut off.
const MAX_NAME: usize = 128;
/// Ranges of a multiplexor's values that a signal is there for.
const MAX_RANGES: usize = 256;
/// Lines told as unreadable; more are only counted.
const MAX_COMPLAINTS: usize = 50;
/// Identifiers above this have 29 bits, whether bit 31 says so or not: that is what such files mean.
const LAST_SHORT_ID: u32 = 0x7FF;
const LAST_LONG_ID: u32 = 0x1FFF_FFFF;
const LONG_BIT: u32 = 1 << 31;

/// A file, as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DbcFile {
    /// In the order of the file.
    pub messages: Vec<Message>,
    /// Lines that were left out, the first fifty.
    pub complaints: Vec<BadLine>,
    /// How many lines were left out.
    pub bad_lines: usize,
}

/// A line that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    /// Why.
    pub why: String,
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Identifier, 11 or 29 bits.
    pub id: u32,
    /// Whether it has 29 bits.
    pub extended: bool,
    /// Its name.
    pub name: String,
    /// Bytes of its payload.
    pub length: usize,
    /// How often it is sent, ms, where the file says so.
    pub cycle_ms: Option<u32>,
    /// Its signals.
    pub signals: Vec<Signal>,
}

/// A signal of a message: `value = number * scale + offset`.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// Where the number is.
    pub field: Field,
    /// Of the unit, a step.
    pub scale: f64,
    /// Of the unit, at 0.
    pub offset: f64,
    /// As the file words it; often empty.
    pub unit: String,
    /// Whether others depend on its value.
    pub multiplexor: bool,
    /// When it is there at all.
    pub condition: Option<Condition>,
}

/// A signal is there only while a multiplexor has one of some values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Index of the multiplexor among the message's signals; `None` where the file has none.
    pub multiplexor: Option<usize>,
    /// First and last value of each range.
    pub ranges: Vec<(u64, u64)>,
}

impl Message {
    /// The signal of that name.
    pub fn signal(&self, name: &str) -> Option<usize> {
        self.signals.iter().position(|signal| signal.name == name)
    }

    /// What a payload says of a signal, in the file's unit; `None` where it is too short for it, or where its multiplexor
    /// has another value.
    pub fn value(&self, signal: usize, payload: &[u8]) -> Option<f64> {
        let of = self.signals.get(signal)?;
        if !self.is_there(signal, payload) {
            return None;
        }
        let value = of.field.value(payload)? * of.scale + of.offset;
        value.is_finite().then_some(value)
    }

    /// Whether every multiplexor above a signal has a value that it is there for.
    pub fn is_there(&self, signal: usize, payload: &[u8]) -> bool {
        let mut at = signal;
        // No chain is longer than there are signals: one that is goes in a circle.
        for _ in 0..=self.signals.len() {
            let Some(condition) = self.signals.get(at).and_then(|signal| signal.condition.as_ref()) else {
                return true;
            };
            let Some(above) = condition.multiplexor else { return false };
            let Some(raw) = self.signals.get(above).and_then(|above| above.field.raw(payload)) else { return false };
            if !condition.ranges.iter().any(|&(first, last)| (first..=last).contains(&raw)) {
                return false;
            }
            at = above;
        }
        false
    }
}

impl DbcFile {
    /// Reads what can be read of a file's bytes; what is beyond [`MAX_FILE`] is not looked at.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_FILE)]);
        let mut reader = Reader::default();
        for (number, line) in text.lines().enumerate() {
            if let Err(why) = reader.line(line.trim()) {
                reader.complain(number + 1, why);
            }
        }
        reader.end()
    }

    /// The message of that name.
    pub fn message(&self, name: &str) -> Option<&Message> {
        self.messages.iter().find(|message| message.name == name)
    }
}

/// A line of extended multiplexing, by the names in it.
struct Dependence {
    id: u32,
    signal: String,
    above: String,
    ranges: Vec<(u64, u64)>,
}

/// What a line is read into.
#[derive(Default)]
struct Reader {
    file: DbcFile,
    signals: usize,
    /// Whether signals belong to the newest message: not after one that could not be read.
    open: bool,
    /// Inside the words of a comment that goes on over lines.
    in_words: bool,
    /// Known only at the end: the multiplexor may be written after what depends on it.
    depends: Vec<Dependence>,
    floats: Vec<(u32, String)>,
}

impl Reader {
    fn complain(&mut self, line: usize, why: String) {
        self.file.bad_lines += 1;
        if self.file.complaints.len() < MAX_COMPLAINTS {
            self.file.complaints.push(BadLine { line, why });
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let quotes = line.bytes().filter(|&byte| byte == b'"').count();
        if self.in_words {
            self.in_words = quotes % 2 == 0;
            return Ok(());
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "BO_" => self.message(rest),
            "SG_" if self.open => self.signal(rest),
            // Of a message that could not be read: it was told.
            "SG_" => Ok(()),
            "SIG_VALTYPE_" => self.value_type(rest),
            "SG_MUL_VAL_" => self.extended(rest),
            "BA_" => self.attribute(rest),
            _ => {
                self.in_words = word == "CM_" && quotes % 2 == 1;
                Ok(())
            }
        }
    }

    fn message(&mut self, rest: &str) -> Result<(), String> {
        self.open = false;
        if self.file.messages.len() >= MAX_MESSAGES {
            return Err(format!("more than {MAX_MESSAGES} messages"));
        }
        let (id, rest) = word(rest).ok_or("a message without an identifier")?;
        let (name, rest) = rest.split_once(':').ok_or("a message without a colon behind its name")?;
        let length =
            word(rest).and_then(|(length, _)| length.parse::<usize>().ok()).ok_or("a message without a length")?;
        let raw: u32 = id.parse().map_err(|_| format!("{} is no identifier", shown(id)))?;
        let (id, extended) = identifier(raw).ok_or_else(|| format!("the identifier {raw} has more than 29 bits"))?;
        let name = cut(name.trim());
        self.file.messages.push(Message { id, extended, name, length, cycle_ms: None, signals: Vec::new() });
        self.open = true;
        Ok(())
    }

    fn signal(&mut self, rest: &str) -> Result<(), String> {
        if self.signals >= MAX_SIGNALS {
            return Err(format!("more than {MAX_SIGNALS} signals"));
        }
        let (head, rest) = rest.split_once(':').ok_or("a signal without a colon behind its name")?;
        let mut words = head.split_whitespace();
        let name = words.next().ok_or("a signal without a name")?;
        let (multiplexor, condition) = words.next().map_or(Ok((false, None)), role)?;
        let (place, rest) = word(rest).ok_or("a signal without a place")?;
        let field = place_of(place)?;
        let (scale, offset) = bracketed(rest, '(', ')').and_then(pair).ok_or("no (scale,offset)")?;
        let unit = rest.split('"').nth(1).unwrap_or_default();
        let Some(message) = self.file.messages.last_mut() else { return Ok(()) };
        self.signals += 1;
        let (name, unit) = (cut(name), cut(unit));
        message.signals.push(Signal { name, field, scale, offset, unit, multiplexor, condition });
        Ok(())
    }

    fn value_type(&mut self, rest: &str) -> Result<(), String> {
        let rest = rest.replace([':', ';'], " ");
        let words: Vec<&str> = rest.split_whitespace().collect();
        let &[id, name, kind] = &words[..] else { return Err("a value type that cannot be read".into()) };
        let id = id.parse().map_err(|_| format!("{} is no identifier", shown(id)))?;
        if matches!(kind, "1" | "2") && self.floats.len() < MAX_SIGNALS {
            self.floats.push((id, cut(name)));
        }
        Ok(())
    }

    fn extended(&mut self, rest: &str) -> Result<(), String> {
        let bad = "a multiplexing that cannot be read";
        let rest = rest.trim_end_matches(';');
        let (id, rest) = word(rest).ok_or(bad)?;
        let (name, rest) = word(rest).ok_or(bad)?;
        let (above, rest) = word(rest).ok_or(bad)?;
        let id = id.parse().map_err(|_| format!("{} is no identifier", shown(id)))?;
        let range = |text: &str| {
            let (first, last) = text.trim().split_once('-')?;
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        };
        let ranges: Option<Vec<(u64, u64)>> = rest.split(',').take(MAX_RANGES).map(range).collect();
        if self.depends.len() < MAX_SIGNALS {
            let ranges = ranges.ok_or(bad)?;
            self.depends.push(Dependence { id, signal: cut(name), above: cut(above), ranges });
        }
        Ok(())
    }

    fn attribute(&mut self, rest: &str) -> Result<(), String> {
        let Some(rest) = rest.trim().strip_prefix("\"GenMsgCycleTime\"") else { return Ok(()) };
        let rest = rest.trim_end_matches(';');
        let words: Vec<&str> = rest.split_whitespace().collect();
        let &["BO_", id, cycle] = &words[..] else { return Err("a cycle time that cannot be read".into()) };
        let id = id.parse().ok().and_then(identifier).ok_or_else(|| format!("{} is no identifier", shown(id)))?;
        let cycle = cycle.parse::<f64>().ok().filter(|ms| *ms >= 1.0).map(|ms| ms as u32);
        if let Some(message) = self.of(id) {
            message.cycle_ms = cycle;
        }
        Ok(())
    }

    fn of(&mut self, (id, extended): (u32, bool)) -> Option<&mut Message> {
        self.file.messages.iter_mut().find(|message| message.id == id && message.extended == extended)
    }

    fn end(mut self) -> DbcFile {
        for message in &mut self.file.messages {
            let only = message.signals.iter().position(|signal| signal.multiplexor && signal.condition.is_none());
            for condition in message.signals.iter_mut().filter_map(|signal| signal.condition.as_mut()) {
                condition.multiplexor = only;
            }
        }
        for Dependence { id, signal, above, ranges } in std::mem::take(&mut self.depends) {
            let Some(message) = identifier(id).and_then(|id| self.of(id)) else { continue };
            let (Some(at), Some(above)) = (message.signal(&signal), message.signal(&above)) else { continue };
            message.signals[at].condition = Some(Condition { multiplexor: Some(above), ranges });
        }
        for (id, name) in std::mem::take(&mut self.floats) {
            let Some(message) = identifier(id).and_then(|id| self.of(id)) else { continue };
            let Some(signal) = message.signal(&name).and_then(|at| message.signals.get_mut(at)) else { continue };
            // One of another length is no floating-point number, whatever is said of it.
            if let Ok(field) = signal.field.with_form(Form::Float) {
                signal.field = field;
            }
        }
        self.file
    }
}

/// The identifier and whether it has 29 bits; `None` for one that no frame can have.
fn identifier(raw: u32) -> Option<(u32, bool)> {
    let id = raw & !LONG_BIT;
    (id <= LAST_LONG_ID).then_some((id, raw & LONG_BIT != 0 || id > LAST_SHORT_ID))
}

/// `M`, `m3`, `m3M`.
fn role(word: &str) -> Result<(bool, Option<Condition>), String> {
    let told = || format!("{} is no multiplexing", shown(word));
    let (rest, multiplexor) = match word.strip_suffix('M') {
        Some(rest) => (rest, true),
        None => (word, false),
    };
    if rest.is_empty() && multiplexor {
        return Ok((true, None));
    }
    let value: u64 = rest.strip_prefix('m').and_then(|number| number.parse().ok()).ok_or_else(told)?;
    Ok((multiplexor, Some(Condition { multiplexor: None, ranges: vec![(value, value)] })))
}

/// `24|16@1+`.
fn place_of(text: &str) -> Result<Field, String> {
    let told = || format!("{} is no place", shown(text));
    let (start, rest) = text.split_once('|').ok_or_else(told)?;
    let (length, rest) = rest.split_once('@').ok_or_else(told)?;
    let (start, length) = (start.parse().map_err(|_| told())?, length.parse().map_err(|_| told())?);
    let (order, form) = match rest {
        "1+" => (Order::Intel, Form::Unsigned),
        "1-" => (Order::Intel, Form::Signed),
        "0+" => (Order::Motorola, Form::Unsigned),
        "0-" => (Order::Motorola, Form::Signed),
        _ => return Err(told()),
    };
    Field::new(start, length, order, form).map_err(|bad: BadField| bad.to_string())
}

/// `0.125,0` as numbers a value can be made with.
fn pair(text: &str) -> Option<(f64, f64)> {
    let (scale, offset) = text.split_once(',')?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    Some((number(scale)?, number(offset)?))
}

fn bracketed(text: &str, open: char, close: char) -> Option<&str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inner, _)| inner)
}

/// The next word and what is behind it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    (!text.is_empty()).then(|| text.split_once(char::is_whitespace).unwrap_or((text, "")))
}

/// Cut to a length that names have.
fn cut(text: &str) -> String {
    text.char_indices()
        .take_while(|(at, letter)| at + letter.len_utf8() <= MAX_NAME)
        .map(|(_, letter)| letter)
        .collect()
}

/// Cut to a length that fits a message.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(24).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"VERSION ""
BO_ 496 ExampleMessage: 8 PCM1
 SG_ Temperature : 0|12@0- (0.01,250) [229.53|270.47] "degK"  PCM1,FOO
 SG_ AverageRadius : 6|6@0+ (0.1,0) [0|5] "m" Vector__XXX
 SG_ Enable : 7|1@0+ (1,0) [0|0] "-" Vector__XXX
BO_ 2364540158 EEC1: 8 Vector__XXX
 SG_ EngineSpeed : 24|16@1+ (0.125,0) [0|8031.875] "rpm" Vector__XXX
 SG_ Broken : 24|16 (0.125,0) [0|8031.875] "rpm" Vector__XXX
BO_ 3221225472 VECTOR__INDEPENDENT_SIG_MSG: 0 Vector__XXX
 SG_ Orphan : 0|8@1+ (1,0) [0|0] "" Vector__XXX
BO_ 100 Muxed: 8 X
 SG_ Inner m3M : 8|8@1+ (1,0) [0|0] "" X
 SG_ Outer M : 0|8@1+ (1,0) [0|0] "" X
 SG_ Deep m1 : 16|8@1+ (1,0) [0|0] "" X
 SG_ Real m4 : 32|32@1- (1,0) [0|0] "" X
CM_ BO_ 100 "A comment
BO_ 101 NotAMessage: 8 X
that ends here";
SG_MUL_VAL_ 100 Deep Inner 1-1, 5-6;
SIG_VALTYPE_ 100 Real : 1;
BA_ "GenMsgCycleTime" BO_ 100 20;
"#;

    #[test]
    fn the_good_of_a_file_is_read_and_the_rest_is_told() {
        let file = DbcFile::parse(FILE.as_bytes());
        let names: Vec<&str> = file.messages.iter().map(|message| message.name.as_str()).collect();
        assert_eq!(names, ["ExampleMessage", "EEC1", "Muxed"]);
        let told: Vec<(usize, &str)> = file.complaints.iter().map(|bad| (bad.line, bad.why.as_str())).collect();
        assert_eq!(told, [(8, "\"24|16\" is no place"), (9, "the identifier 3221225472 has more than 29 bits")]);
        let eec1 = file.message("EEC1").unwrap();
        assert_eq!((eec1.id, eec1.extended, eec1.signals.len()), (0x0CF0_04FE, true, 1));
        assert_eq!(eec1.signals[0].unit, "rpm");
        assert_eq!(file.message("Muxed").unwrap().cycle_ms, Some(20));
    }

    #[test]
    fn signals_of_both_orders_and_signs_are_read() {
        let file = DbcFile::parse(FILE.as_bytes());
        let message = file.message("ExampleMessage").unwrap();
        let all = |payload: &[u8]| [0, 1, 2].map(|signal| message.value(signal, payload));
        let payload = [0xC0, 0x06, 0xE0, 0, 0, 0, 0, 0];
        // The places differ from the real file's: only arithmetic is looked at here.
        assert_eq!(all(&payload)[2], Some(1.0));
        assert_eq!(all(&[0x00])[0], None, "a short frame has no temperature");
        assert_eq!(all(&[0x00])[2], Some(0.0));
    }

    #[test]
    fn a_signal_is_there_only_while_every_multiplexor_above_it_says_so() {
        let file = DbcFile::parse(FILE.as_bytes());
        let message = file.message("Muxed").unwrap();
        let deep = message.signal("Deep").unwrap();
        assert_eq!(message.value(deep, &[3, 1, 7, 0, 0, 0, 0, 0]), Some(7.0));
        assert_eq!(message.value(deep, &[3, 6, 7, 0, 0, 0, 0, 0]), Some(7.0));
        assert_eq!(message.value(deep, &[3, 4, 7, 0, 0, 0, 0, 0]), None, "another value of the inner one");
        assert_eq!(message.value(deep, &[2, 1, 7, 0, 0, 0, 0, 0]), None, "the inner one is not there");
        let real = message.signal("Real").unwrap();
        let mut payload = [4, 0, 0, 0, 0, 0, 0, 0];
        payload[4..].copy_from_slice(&2.5f32.to_le_bytes());
        assert_eq!(message.value(real, &payload), Some(2.5));
    }

    #[test]
    fn multiplexors_in_a_circle_are_nowhere() {
        let text = "BO_ 1 A: 8 X\n SG_ P m0M : 0|8@1+ (1,0) [0|0] \"\" X\n SG_ Q m0M : 8|8@1+ (1,0) [0|0] \"\" X\n\
                    SG_MUL_VAL_ 1 P Q 0-0;\nSG_MUL_VAL_ 1 Q P 0-0;\n";
        let file = DbcFile::parse(text.as_bytes());
        assert_eq!(file.messages[0].value(0, &[0; 8]), None);
    }

    #[test]
    fn what_is_no_such_file_has_no_messages() {
        assert_eq!(DbcFile::parse(&[0xFF; 1000]).messages, []);
        assert_eq!(DbcFile::parse(b"").bad_lines, 0);
        assert_eq!(DbcFile::parse(b"BO_ \nBO_ x y: z\n SG_ a : b\n").bad_lines, 2);
    }
}
