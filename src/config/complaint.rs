//! What is wrong with a configuration, as text a technician can act on.
//!
//! ```text
//! /etc/speedwell/gateway.toml:14:7: sensor.front-wheel.pin: the board rpi-4b has no pin "GPIO71"
//!    |
//! 14 | pin = "GPIO71"
//!    |       ^^^^^^^^
//!    = allowed: P3 to P40 or GPIO2 to GPIO27; `speedwell boards rpi-4b` shows them
//!    = did you mean "GPIO17"?
//! ```

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

/// More complaints than this are counted, not shown: nobody mends fifty at a time.
pub const MAX_SHOWN: usize = 50;

/// So many letters of a word are enough to know it by: `state` is `state-directory`.
const SHORTEST_BEGINNING: usize = 3;

/// All that is wrong with one file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaints {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub complaints: Vec<Complaint>,
    /// Why the file could not be read at all; `None` when it was.
    pub unreadable: Option<io::ErrorKind>,
}

/// One thing that is wrong, or, among warnings, doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Where; `None` when it is about the file as a whole.
    pub place: Option<Place>,
    /// The key, as `sensor.front-wheel.pin`; empty for mistakes of the TOML itself.
    pub key: String,
    /// What is wrong, with what was read.
    pub message: String,
    /// What is allowed, what was probably meant, where the other one is: a line each.
    pub notes: Vec<String>,
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters are meant, at least 1.
    pub width: usize,
    /// The line's text, secrets masked.
    pub text: String,
}

/// A file's text, to find places in.
pub(super) struct Source<'t> {
    text: &'t str,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str) -> Source<'t> {
        Source { text }
    }

    /// The place of a span of bytes; what of it lies beyond its first line is left out.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end.max(start));
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let meant = &self.text[start..end.min(line_end)];
        let place = Place {
            line: self.text[..start].matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            width: meant.trim_end().chars().count().max(1),
            text: self.text[line_start..line_end].trim_end().replace('\t', " "),
        };
        if holds_secret(&place.text) { place.mask() } else { place }
    }

    /// The nearest character boundary at or before `at`.
    fn boundary(&self, at: usize) -> usize {
        let at = at.min(self.text.len());
        (0..=at).rev().find(|&i| self.text.is_char_boundary(i)).unwrap_or(0)
    }
}

impl Place {
    /// Hides everything after the `=`, so that a secret does not reach a log.
    fn mask(mut self) -> Place {
        if let Some(at) = self.text.find('=') {
            self.text.truncate(at + 1);
            self.text.push_str(" …");
        }
        self.column = 1 + self.text.chars().take_while(|c| c.is_whitespace()).count();
        self.width = self.text.trim_start().chars().take_while(|c| !c.is_whitespace() && *c != '=').count().max(1);
        self
    }
}

/// Is this a key that somebody keeps a secret under?
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.trim().to_lowercase();
    let word = ["password", "passwd", "passphrase", "secret", "token"].iter().any(|word| key.contains(word));
    (word || key == "pass") && !key.contains("file")
}

/// A line that shows a secret, whatever is wrong with it.
fn holds_secret(line: &str) -> bool {
    let url_with_password = line.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    url_with_password || line.split_once('=').is_some_and(|(key, _)| is_secret(key))
}

impl Complaint {
    pub(super) fn new(place: Option<Place>, key: impl Into<String>, message: impl Into<String>) -> Complaint {
        Complaint { place, key: key.into(), message: message.into(), notes: Vec::new() }
    }

    /// Adds what is allowed.
    pub(super) fn allowed(&mut self, what: impl fmt::Display) -> &mut Complaint {
        self.note(format!("allowed: {what}"))
    }

    /// Adds a line.
    pub(super) fn note(&mut self, note: impl Into<String>) -> &mut Complaint {
        self.notes.push(note.into());
        self
    }

    /// Adds the nearest right spelling, if there is one near enough.
    pub(super) fn meant<'c>(&mut self, read: &str, choices: impl IntoIterator<Item = &'c str>) -> &mut Complaint {
        match nearest(read, choices) {
            Some(choice) => self.note(format!("did you mean `{choice}`?")),
            None => self,
        }
    }

    /// The complaint as text, ending in a line end.
    pub fn render(&self, file: &Path) -> String {
        let mut text = file.display().to_string();
        if let Some(place) = &self.place {
            text += &format!(":{}:{}", place.line, place.column);
        }
        text += ": ";
        if !self.key.is_empty() {
            text += &format!("{}: ", self.key);
        }
        text += &self.message;
        text.push('\n');
        let width = self.place.as_ref().map_or(0, |p| p.line.to_string().len());
        if let Some(place) = &self.place {
            let blank = " ".repeat(width);
            text += &format!("{blank} |\n{} | {}\n", place.line, place.text);
            text += &format!("{blank} | {}{}\n", " ".repeat(place.column - 1), "^".repeat(place.width));
        }
        for note in &self.notes {
            text += &format!("{} = {note}\n", " ".repeat(width));
        }
        text
    }
}

impl Complaints {
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Complaints {
        let mut complaint = Complaint::new(None, "", format!("the configuration cannot be read: {error}"));
        match error.kind() {
            io::ErrorKind::NotFound => complaint.note("name another with --config FILE or SPEEDWELL_CONFIG"),
            io::ErrorKind::PermissionDenied => complaint.note("the user that runs speedwell must be able to read it"),
            _ => &mut complaint,
        };
        Complaints { file: path.into(), complaints: vec![complaint], unreadable: Some(error.kind()) }
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for complaint in self.complaints.iter().take(MAX_SHOWN) {
            writeln!(f, "{}", complaint.render(&self.file))?;
        }
        match self.complaints.len() {
            1 => writeln!(f, "1 mistake in {}", self.file.display()),
            n if n > MAX_SHOWN => {
                writeln!(f, "{n} mistakes in {}; the first {MAX_SHOWN} are shown", self.file.display())
            }
            n => writeln!(f, "{n} mistakes in {}", self.file.display()),
        }
    }
}

impl std::error::Error for Complaints {}

/// The choice that is spelled most like `read`, or that `read` is the beginning of; none when all are too far off.
pub(super) fn nearest<'c>(read: &str, choices: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // A third of the letters may be wrong: enough for a slip, too little for another word.
    let limit = (read.chars().count() / 3).max(1);
    let off = |choice: &str| match choice.starts_with(&read.to_lowercase()) && read.len() >= SHORTEST_BEGINNING {
        true => limit,
        false => distance(read, choice),
    };
    choices.into_iter().map(|c| (off(c), c)).filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, c)| c)
}

/// Letters to insert, delete, change or swap (with its neighbour) until `a` is `b`; case does not count.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    // Longer words than this are no slip of a key; the table stays small whatever is read.
    const LONGEST: usize = 64;
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let step = (table[i - 1][j] + 1).min(table[i][j - 1] + 1).min(change);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { step.min(table[i - 2][j - 2] + 1) } else { step }
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_spelling_is_found_and_a_far_one_is_not() {
        let keys = ["circumference", "pulses-per-turn", "pin", "report"];
        assert_eq!(nearest("circumfrence", keys), Some("circumference"));
        assert_eq!(nearest("pulse-per-turn", keys), Some("pulses-per-turn"));
        assert_eq!(nearest("pni", keys), Some("pin"));
        assert_eq!(nearest("wheel", keys), None);
        assert_eq!(nearest("", keys), None);
    }

    #[test]
    fn a_place_counts_characters_not_bytes() {
        let source = Source::new("a = 1\nβ = \"ü\" # x\n");
        let place = source.place(&(11..15));
        assert_eq!((place.line, place.column, place.width), (2, 5, 3));
        assert_eq!(place.text, "β = \"ü\" # x");
    }

    #[test]
    fn a_span_beyond_the_text_or_inside_a_character_is_still_a_place() {
        let source = Source::new("ü");
        assert_eq!(source.place(&(1..900)).line, 1);
        assert_eq!(Source::new("").place(&(5..9)).column, 1);
    }
}
