//! Walks the parsed TOML by hand, so that every mistake is found in one go and each knows its place.
//!
//! Each reading function answers `None` both when the key is absent and when it is wrong: a wrong one is then among
//! the complaints, so no [`super::Config`] comes of it, whatever default the caller goes on with.

use std::{ops::Range, time::Duration};

use toml::de::{DeTable, DeValue};

use super::{
    complaint::{Complaint, Place, Source, is_secret},
    keys,
    quantity::{self, Dimension, NoQuantity},
};

/// Collects complaints while the tables are read.
pub(super) struct Walk<'t> {
    pub(super) source: Source<'t>,
    pub(super) complaints: Vec<Complaint>,
    pub(super) warnings: Vec<Complaint>,
}

/// One table of the file.
pub(super) struct Section<'d> {
    /// How complaints call it.
    pub(super) path: String,
    /// Its header.
    pub(super) span: Range<usize>,
    table: Option<&'d DeTable<'d>>,
    known: &'static [&'static str],
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Spot<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
    pub(super) path: String,
}

impl<'d> Section<'d> {
    pub(super) fn new(
        path: &str,
        span: Range<usize>,
        table: Option<&'d DeTable<'d>>,
        known: &'static [&'static str],
    ) -> Section<'d> {
        Section { path: path.to_owned(), span, table, known }
    }

    pub(super) fn value(&self, key: &str) -> Option<Spot<&'d DeValue<'d>>> {
        debug_assert!(self.known.contains(&key), "{key} is read but not among the keys of {}", self.path);
        let value = self.table?.get(key)?;
        Some(Spot { value: value.get_ref(), span: value.span(), path: self.key(key) })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    /// Is the table there at all?
    pub(super) fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// Is it one of the table's keys, given or not?
    pub(super) fn knows(&self, key: &str) -> bool {
        self.known.contains(&key)
    }

    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }
}

impl<'t> Walk<'t> {
    pub(super) fn new(text: &'t str) -> Walk<'t> {
        Walk { source: Source::new(text), complaints: Vec::new(), warnings: Vec::new() }
    }

    fn place(&self, span: &Range<usize>) -> Option<Place> {
        Some(self.source.place(span))
    }

    /// Adds a complaint; notes are added to what is returned.
    pub(super) fn complain(&mut self, span: &Range<usize>, key: &str, message: impl Into<String>) -> &mut Complaint {
        let place = self.place(span);
        self.complaints.push(Complaint::new(place, key, message));
        self.complaints.last_mut().expect("one was just pushed")
    }

    /// Adds a complaint that has no place: what is missing altogether.
    pub(super) fn complain_of_file(&mut self, key: &str, message: impl Into<String>) -> &mut Complaint {
        self.complaints.push(Complaint::new(None, key, message));
        self.complaints.last_mut().expect("one was just pushed")
    }

    /// Adds a complaint about a value.
    pub(super) fn wrong<T>(&mut self, spot: &Spot<T>, message: impl Into<String>) -> &mut Complaint {
        self.complain(&spot.span, &spot.path, message)
    }

    /// Adds a warning about a value.
    pub(super) fn doubt<T>(&mut self, spot: &Spot<T>, message: impl Into<String>) -> &mut Complaint {
        let place = self.place(&spot.span);
        self.warnings.push(Complaint::new(place, spot.path.as_str(), message));
        self.warnings.last_mut().expect("one was just pushed")
    }

    /// Complains that a key is not there.
    pub(super) fn missing(&mut self, section: &Section<'_>, key: &str, what: &str) -> &mut Complaint {
        let path = section.key(key);
        self.complain(&section.span, &path, format!("is missing: {what}"))
    }

    /// Complains of keys that do not exist in this table. `kinds` are the kinds of sensor beside this one, with their keys.
    pub(super) fn unknown_keys(&mut self, section: &Section<'_>, kinds: &[(&str, &[&str])]) {
        let Some(table) = section.table else { return };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if section.known.contains(&name) {
                continue;
            }
            let path = section.key(name);
            if is_secret(name) {
                self.refuse_secret(&key.span(), &path);
                continue;
            }
            let unused: Vec<&str> = section.known.iter().copied().filter(|k| !table.contains_key(*k)).collect();
            let other = keys::OTHER_WORDS.iter().find(|(word, _)| *word == name).map(|(_, key)| *key);
            let other = other.filter(|key| section.known.contains(key));
            let homes = kinds.iter().filter(|(_, known)| known.contains(&name));
            let homes: Vec<String> = homes.map(|(kind, _)| format!("\"{kind}\"")).collect();
            let complaint = self.complain(&key.span(), &path, format!("there is no key `{name}` here"));
            match (homes.as_slice(), other) {
                ([], Some(key)) => complaint.note(format!("did you mean `{key}`?")),
                ([], None) => complaint.meant(name, unused),
                ([kinds @ .., last], _) if !kinds.is_empty() => {
                    let kinds = kinds.join(", ");
                    complaint.note(format!("`{name}` belongs to sensors of kind = {kinds} or {last}"))
                }
                ([home, ..], _) => complaint.note(format!("`{name}` belongs to sensors of kind = {home}")),
            };
            complaint.allowed(section.known.join(", "));
        }
    }

    /// A secret in the file itself: told without showing it.
    pub(super) fn refuse_secret(&mut self, span: &Range<usize>, path: &str) {
        let place = self.source.place(span);
        let mut complaint =
            Complaint::new(Some(place), path, "a password does not belong in this file, which many can read");
        complaint
            .note("put it into a file of its own: password-file = \"/etc/speedwell/password\"")
            .note("or into a systemd credential: password-file = \"credential:mqtt-password\"");
        self.complaints.push(complaint);
    }

    /// A text.
    pub(super) fn text(&mut self, section: &Section<'_>, key: &str) -> Option<Spot<String>> {
        let spot = section.value(key)?;
        match spot.value {
            DeValue::String(text) => Some(Spot { value: text.to_string(), span: spot.span, path: spot.path }),
            other => {
                let message = format!("a text is wanted, {} was read", described(other));
                let complaint = self.wrong(&spot, message);
                if let DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) = other {
                    complaint.note(format!("write it in quotes: {key} = \"{}\"", plain(other)));
                }
                None
            }
        }
    }

    /// A text that has to be there.
    pub(super) fn required_text(&mut self, section: &Section<'_>, key: &str, what: &str) -> Option<Spot<String>> {
        if !section.has(key) {
            self.missing(section, key, what);
            return None;
        }
        let spot = self.text(section, key)?;
        if spot.value.trim().is_empty() {
            self.wrong(&spot, format!("is empty: {what}"));
            return None;
        }
        Some(spot)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, section: &Section<'_>, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let spot = self.text(section, key)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == spot.value) {
            return Some(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let message = format!("{:?} is none of the choices", spot.value);
        self.wrong(&spot, message).allowed(words.join(", ")).meant(&spot.value, words);
        None
    }

    /// A list of texts, each with its place.
    pub(super) fn list(&mut self, section: &Section<'_>, key: &str) -> Option<Vec<Spot<String>>> {
        let spot = section.value(key)?;
        let DeValue::Array(array) = spot.value else {
            let message = format!("a list is wanted, {} was read", described(spot.value));
            self.wrong(&spot, message).note(format!("write {key} = [\"...\", \"...\"]"));
            return None;
        };
        let mut texts = Vec::with_capacity(array.len());
        for entry in array.iter() {
            let place = Spot { value: entry.get_ref(), span: entry.span(), path: spot.path.clone() };
            match place.value {
                DeValue::String(text) => {
                    texts.push(Spot { value: text.to_string(), span: place.span, path: place.path });
                }
                other => {
                    let message = format!("a text is wanted, {} was read", described(other));
                    self.wrong(&place, message);
                    return None;
                }
            }
        }
        Some(texts)
    }

    /// True or false.
    pub(super) fn flag(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        let spot = section.value(key)?;
        match spot.value {
            DeValue::Boolean(value) => Some(*value),
            other => {
                let message = format!("true or false is wanted, {} was read", described(other));
                self.wrong(&spot, message);
                None
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn whole(&mut self, section: &Section<'_>, key: &str, range: Range<u64>) -> Option<Spot<u64>> {
        let spot = section.value(key)?;
        let DeValue::Integer(integer) = spot.value else {
            let message = format!("a whole number without quotes is wanted, {} was read", described(spot.value));
            self.wrong(&spot, message).allowed(format!("{} to {}", range.start, range.end - 1));
            return None;
        };
        match i128::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|n| u64::try_from(n).ok()) {
            Some(number) if range.contains(&number) => Some(Spot { value: number, span: spot.span, path: spot.path }),
            _ => {
                let message = format!("{integer} is out of range");
                self.wrong(&spot, message).allowed(format!("{} to {}", range.start, range.end - 1));
                None
            }
        }
    }

    /// A bare number in a range, ends included.
    pub(super) fn number(&mut self, section: &Section<'_>, key: &str, low: f64, high: f64) -> Option<Spot<f64>> {
        let spot = section.value(key)?;
        let Some(number) = bare_number(spot.value) else {
            let message = format!("a number without quotes is wanted, {} was read", described(spot.value));
            self.wrong(&spot, message).allowed(format!("{low} to {high}"));
            return None;
        };
        if !(low..=high).contains(&number) {
            self.wrong(&spot, format!("{number} is out of range")).allowed(format!("{low} to {high}"));
            return None;
        }
        Some(Spot { value: number, span: spot.span, path: spot.path })
    }

    /// A quantity with its unit, in SI; `range` names the least and the most as they would be written.
    pub(super) fn quantity(
        &mut self,
        section: &Section<'_>,
        key: &str,
        dimension: Dimension,
        range: (&str, &str),
    ) -> Option<Spot<f64>> {
        let spot = section.value(key)?;
        let DeValue::String(text) = spot.value else {
            let message = format!("{dimension} with its unit is wanted, {} was read", described(spot.value));
            let complaint = self.wrong(&spot, message);
            match bare_number(spot.value) {
                Some(_) => complaint.note(format!(
                    "write the unit too, in quotes, as in {key} = \"{} {}\"",
                    plain(spot.value),
                    dimension.unit_names()[0]
                )),
                None => complaint.note(format!("as in {key} = {:?}", dimension.example())),
            };
            complaint.note(format!("units: {}", dimension.unit_names().join(", ")));
            return None;
        };
        match quantity::parse(text, dimension) {
            Ok(value) => self.in_range(spot, text, value, dimension, range),
            Err(problem) => {
                self.no_quantity(&spot, key, text, dimension, &problem);
                None
            }
        }
    }

    fn in_range(
        &mut self,
        spot: Spot<&DeValue<'_>>,
        text: &str,
        value: f64,
        dimension: Dimension,
        range: (&str, &str),
    ) -> Option<Spot<f64>> {
        let bound = |text| quantity::parse(text, dimension).expect("a test reads every range");
        let (a, b) = (bound(range.0), bound(range.1));
        // As a rate the higher number is the shorter period.
        if value.is_finite() && (a.min(b)..=a.max(b)).contains(&value) {
            return Some(Spot { value, span: spot.span, path: spot.path });
        }
        self.wrong(&spot, format!("{text:?} is out of range")).allowed(format!("{} to {}", range.0, range.1));
        None
    }

    fn no_quantity<T>(&mut self, spot: &Spot<T>, key: &str, text: &str, dimension: Dimension, problem: &NoQuantity) {
        let units = dimension.unit_names();
        let message = match problem {
            NoQuantity::NoNumber => format!("{text:?} does not begin with a number"),
            NoQuantity::NoUnit => format!("{text:?} has no unit"),
            NoQuantity::OtherUnit(unit) if unit.starts_with(',') => format!("{text:?} has a decimal comma"),
            NoQuantity::OtherUnit(unit) => {
                format!("{unit:?} is no unit of {}", dimension.to_string().trim_start_matches("a "))
            }
        };
        let complaint = self.wrong(spot, message);
        match problem {
            NoQuantity::OtherUnit(unit) if unit.starts_with(',') => {
                complaint.note("write a point: 1.5, not 1,5");
            }
            NoQuantity::OtherUnit(unit) if ["kph", "kmh", "km/u"].contains(&unit.to_lowercase().as_str()) => {
                complaint.note("did you mean `km/h`?");
            }
            NoQuantity::OtherUnit(unit) => {
                complaint.meant(unit, units.iter().copied());
            }
            _ => {
                complaint.note(format!("as in {key} = {:?}", dimension.example()));
            }
        }
        complaint.note(format!("units: {}", units.join(", ")));
    }

    /// A quantity of time.
    pub(super) fn time(&mut self, section: &Section<'_>, key: &str, range: (&str, &str)) -> Option<Duration> {
        self.quantity(section, key, Dimension::Time, range).map(|spot| seconds(spot.value))
    }

    /// A rate or period.
    pub(super) fn period(&mut self, section: &Section<'_>, key: &str, range: (&str, &str)) -> Option<Duration> {
        self.quantity(section, key, Dimension::Period, range).map(|spot| seconds(spot.value))
    }

    /// An amount of bytes.
    pub(super) fn bytes(&mut self, section: &Section<'_>, key: &str, range: (&str, &str)) -> Option<u64> {
        self.quantity(section, key, Dimension::Bytes, range).map(|spot| spot.value.round() as u64)
    }

    /// Names that stand for two things, each told once with the place of the first.
    pub(super) fn place_text(&self, span: &Range<usize>) -> String {
        format!("line {}", self.source.place(span).line)
    }
}

/// Seconds as a duration, to the nanosecond, so that "10 Hz" is 100 ms and not 99.999999.
fn seconds(value: f64) -> Duration {
    Duration::from_nanos((value * 1e9).round() as u64)
}

pub(super) fn bare_number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok().map(|n| n as f64),
        DeValue::Float(n) => n.as_str().parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    }
}

fn plain(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(n) => n.to_string(),
        DeValue::Float(n) => n.to_string(),
        DeValue::Boolean(b) => b.to_string(),
        _ => String::new(),
    }
}

pub(super) fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(_) | DeValue::Float(_) => format!("the number {}", plain(value)),
        DeValue::Boolean(b) => format!("{b}"),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// Words that were read, to find the second use of one.
pub(super) type Seen<K> = Vec<(K, String, Range<usize>)>;
