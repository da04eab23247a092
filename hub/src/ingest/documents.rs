//! JSON documents out of a stream of bytes: one after the other, on a line each or over many lines.
//!
//! In      bytes as they come.
//! Out     each object or array as soon as its last bracket is there, and each stretch that is none.
//! Keeps   the bytes of the document that is under way, at most `max` and what was pushed last.
//!
//! Every byte is looked at once or twice, however few come at a time. A grammar of brackets, strings, commas and colons
//! tells where a document ends and where one breaks; whether its words and numbers are right is for a parser. A document
//! that breaks on a later line than it began ends before that line, which may be the next one's: so a line that was cut
//! short takes nothing of the following lines with it. For the same reason no object or array that is the value of a key
//! begins at the very start of a line. Only a line cut short after a comma of an array cannot be told from one of many
//! lines, and is told as broken with what follows it.

/// Brackets within brackets; a parser takes no more either.
const MAX_DEPTH: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Documents {
    max: usize,
    bytes: Vec<u8>,
    /// Where the document that is under way begins.
    start: usize,
    /// Up to where it was looked at.
    seen: usize,
    state: State,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// An object or an array, whole as far as brackets tell.
    Document(&'a [u8]),
    /// Something that is none.
    Broken,
    /// A document longer than `max`: where the next one begins cannot be told.
    TooLong,
}

#[derive(Debug)]
enum State {
    /// Before a document.
    Between,
    /// In one.
    In(Grammar),
    /// After something broken, up to the end of its line.
    Skip,
    /// After the beginning of a broken document of many lines, at the start of a line: what does not begin a document
    /// there belongs to the broken one.
    Recover,
    /// Within such a line.
    RecoverLine,
    /// After one that was too long.
    Ended,
}

#[derive(Debug)]
struct Grammar {
    /// Which brackets are open; true is an object.
    open: Vec<bool>,
    wanted: Wanted,
    token: Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    None,
    /// A number or a word.
    Bare,
    Text {
        key: bool,
        escaped: bool,
    },
}

/// What a byte does.
enum Step {
    Goes,
    Ends,
    Breaks,
}

impl Documents {
    /// None so far; of those to come none may be longer.
    pub fn new(max: usize) -> Self {
        Self { max, bytes: Vec::new(), start: 0, seen: 0, state: State::Between }
    }

    /// More of the stream.
    pub fn push(&mut self, more: &[u8]) {
        self.bytes.drain(..self.start);
        (self.seen, self.start) = (self.seen - self.start, 0);
        self.bytes.extend_from_slice(more);
    }

    /// The next that is there.
    pub fn take(&mut self) -> Option<Found<'_>> {
        while let Some(&byte) = self.bytes.get(self.seen) {
            let line_start = self.seen > self.start && self.bytes.get(self.seen - 1) == Some(&b'\n');
            match &mut self.state {
                State::Ended => break,
                State::Skip | State::RecoverLine => {
                    let after = if matches!(self.state, State::Skip) { State::Between } else { State::Recover };
                    self.pass();
                    if byte == b'\n' {
                        self.state = after;
                    }
                }
                State::Between | State::Recover if matches!(byte, b'{' | b'[') => {
                    self.state = State::In(Grammar { open: Vec::new(), wanted: Wanted::Value, token: Token::None });
                }
                State::Recover => {
                    self.pass();
                    if byte != b'\n' {
                        self.state = State::RecoverLine;
                    }
                }
                // The last three are a byte order mark, which a reader may pass over (RFC 8259 section 8.1).
                State::Between if matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf) => self.pass(),
                State::Between => {
                    self.state = State::Skip;
                    return Some(Found::Broken);
                }
                State::In(grammar) => match grammar.step(byte, line_start) {
                    Step::Goes => {
                        self.seen += 1;
                        if self.seen - self.start > self.max {
                            self.state = State::Ended;
                            return Some(Found::TooLong);
                        }
                    }
                    Step::Ends => {
                        let from = self.start;
                        self.pass();
                        self.state = State::Between;
                        return self.bytes.get(from..self.seen).map(Found::Document);
                    }
                    Step::Breaks => return Some(self.broken()),
                },
            }
        }
        None
    }

    /// What is left when the stream has ended.
    pub fn end(&self) -> Option<Found<'static>> {
        matches!(self.state, State::In(_)).then_some(Found::Broken)
    }

    /// The byte is done with.
    fn pass(&mut self) {
        self.seen += 1;
        self.start = self.seen;
    }

    /// The byte at `seen` cannot stand there.
    fn broken(&mut self) -> Found<'static> {
        let before = self.bytes.get(self.start..self.seen).unwrap_or_default();
        match before.iter().rposition(|b| *b == b'\n') {
            Some(line_end) => {
                self.start += line_end + 1;
                self.seen = self.start;
                self.state = State::Recover;
            }
            None => {
                self.start = self.seen;
                self.state = State::Skip;
            }
        }
        Found::Broken
    }
}

impl Grammar {
    fn step(&mut self, byte: u8, line_start: bool) -> Step {
        match self.token {
            Token::Text { key, escaped } => {
                let ends = byte == b'"' && !escaped;
                // RFC 8259 section 7: control characters stand in no string, so a line end tells of a missing quote.
                if byte < 0x20 {
                    return Step::Breaks;
                }
                self.token = Token::Text { key, escaped: byte == b'\\' && !escaped };
                if ends {
                    self.token = Token::None;
                    self.wanted = if key { Wanted::Colon } else { Wanted::CommaOrEnd };
                }
                return Step::Goes;
            }
            Token::Bare if byte.is_ascii_alphanumeric() || b"+-.".contains(&byte) => return Step::Goes,
            Token::Bare => (self.token, self.wanted) = (Token::None, Wanted::CommaOrEnd),
            Token::None => {}
        }
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return Step::Goes;
        }
        use Wanted::*;
        let object = self.open.last().copied();
        match (self.wanted, byte) {
            (Value, b'{' | b'[') if line_start && object == Some(true) => return Step::Breaks,
            (Value | ValueOrEnd, b'{' | b'[') if self.open.len() < MAX_DEPTH => {
                self.open.push(byte == b'{');
                self.wanted = if byte == b'{' { KeyOrEnd } else { ValueOrEnd };
            }
            (Value | ValueOrEnd, b'"') => self.token = Token::Text { key: false, escaped: false },
            (Value | ValueOrEnd, _) if byte.is_ascii_alphanumeric() || byte == b'-' => self.token = Token::Bare,
            (Key | KeyOrEnd, b'"') => self.token = Token::Text { key: true, escaped: false },
            (Colon, b':') => self.wanted = Value,
            (CommaOrEnd, b',') => self.wanted = if object == Some(true) { Key } else { Value },
            (KeyOrEnd | CommaOrEnd, b'}') if object == Some(true) => return self.close(),
            (ValueOrEnd | CommaOrEnd, b']') if object == Some(false) => return self.close(),
            _ => return Step::Breaks,
        }
        Step::Goes
    }

    fn close(&mut self) -> Step {
        self.open.pop();
        self.wanted = Wanted::CommaOrEnd;
        if self.open.is_empty() { Step::Ends } else { Step::Goes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that is found in a stream that comes in such parts; a broken stretch as `None`.
    fn found(parts: &[&[u8]]) -> Vec<Option<String>> {
        let (mut documents, mut all) = (Documents::new(100), Vec::new());
        for part in parts {
            documents.push(part);
            while let Some(found) = documents.take() {
                all.push(match found {
                    Found::Document(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
                    Found::Broken => None,
                    Found::TooLong => Some("too long".into()),
                });
            }
        }
        all.extend(documents.end().map(|_| None));
        all
    }

    fn documents(text: &str) -> Vec<Option<String>> {
        found(&[text.as_bytes()])
    }

    fn whole(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|t| Some((*t).to_owned())).collect()
    }

    #[test]
    fn documents_come_one_a_line_or_over_many_lines_or_without_any_line_end() {
        assert_eq!(documents("{\"a\":1}\n{\"a\":[2,{}]}\r\n\n[]"), whole(&["{\"a\":1}", "{\"a\":[2,{}]}", "[]"]));
        let pretty = "{\n  \"a\": [\n    1.5e-3,\n    true\n  ]\n}";
        assert_eq!(documents(&format!("{pretty}\n{pretty}")), whole(&[pretty, pretty]));
        assert_eq!(documents("{}{}"), whole(&["{}", "{}"]));
        assert_eq!(documents("\u{feff}{}\n"), whole(&["{}"]));
    }

    #[test]
    fn brackets_and_quotes_within_strings_are_text() {
        let text = r#"{"}]":"{[\"\\","\\\"":"\u007b"}"#;
        assert_eq!(documents(text), whole(&[text]));
    }

    #[test]
    fn a_line_that_is_none_costs_nothing_of_the_lines_around_it() {
        assert_eq!(
            documents("{\"a\":1}\nhello {\"a\":2}\n{\"a\":3}\n"),
            [whole(&["{\"a\":1}"]), vec![None], whole(&["{\"a\":3}"])].concat()
        );
        for cut in ["{\"a\":", "{\"a", "{\"a\":1", "{\"a\" 1}", "{a:1}", "[1 2]", "{\"a\":1]", "{,}"] {
            assert_eq!(
                documents(&format!("{cut}\n{{\"a\":3}}\n")),
                [vec![None], whole(&["{\"a\":3}"])].concat(),
                "{cut}"
            );
        }
    }

    #[test]
    fn a_broken_document_of_many_lines_is_one() {
        assert_eq!(
            documents("{\n\"a\": 1,\n\"b\" 2,\n\"c\": 3\n}\n{\"a\":3}"),
            [vec![None], whole(&["{\"a\":3}"])].concat()
        );
    }

    #[test]
    fn a_stream_that_ends_in_the_middle_says_so() {
        assert_eq!(documents("{\"a\":1}\n{\"a\":"), [whole(&["{\"a\":1}"]), vec![None]].concat());
        assert_eq!(documents("{\"a\":1}\n"), whole(&["{\"a\":1}"]));
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_not_gathered() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
        assert_eq!(documents(&format!("{long}\n{{}}")), whole(&["too long"]));
        assert_eq!(documents(&"[".repeat(MAX_DEPTH + 1)), [None]);
    }

    proptest! {
        #[test]
        fn the_same_is_found_however_the_stream_is_cut(text in r#"([\[\]{}",:a1 \\\n]|\{"a":1\}|\n)*"#, every in 1usize..7) {
            let parts: Vec<&[u8]> = text.as_bytes().chunks(every).collect();
            prop_assert_eq!(documents(&text), found(&parts));
        }

        #[test]
        fn every_document_that_a_parser_takes_is_found_whole(bytes: Vec<u8>, depth in 0usize..5) {
            let mut value = serde_json::json!({ "text": String::from_utf8_lossy(&bytes), "n": -1.5e-7, "none": null });
            for _ in 0..depth {
                value = serde_json::json!([value, {}, []]);
            }
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let mut documents = Documents::new(1 << 20);
                documents.push(text.as_bytes());
                prop_assert_eq!(documents.take(), Some(Found::Document(text.as_bytes())));
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_run_on(bytes: Vec<u8>) {
            let mut documents = Documents::new(64);
            documents.push(&bytes);
            let found = std::iter::from_fn(|| documents.take().map(drop)).take(bytes.len() + 1).count();
            prop_assert!(found <= bytes.len());
        }
    }
}
