//! Finds the paths a Rust source file names, well enough to hold imports to a direction.
//!
//! Not a compiler: comments, strings and character literals are skipped, `use` trees are spread out, `self` and `super`
//! are followed through files and inline modules. Macros are read as plain tokens, so what a macro builds out of pieces
//! goes unseen.

/// A path as it stands in the file, made absolute: `crate` first, or a foreign crate's name first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    /// Any other single character that stands outside words.
    Mark(char),
}

/// Every path in `source` with at least one `::` in it, and every `use`. `module` is where the file stands:
/// `["spool", "disk"]` for `src/spool/disk.rs`.
pub(crate) fn named(source: &str, module: &[String]) -> Vec<Named> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    // Inline modules that are open, each with the brace depth its body began at.
    let mut inside: Vec<(usize, String)> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while at < tokens.len() {
        let (line, token) = &tokens[at];
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => {
                depth -= 1;
                inside.retain(|(began, _)| *began <= depth);
            }
            Token::Word(word) if word == "mod" => {
                if let (Some((_, Token::Word(name))), Some((_, Token::Mark('{')))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    inside.push((depth + 1, name.clone()));
                }
            }
            Token::Word(word) if word == "use" => {
                let here = place(module, &inside);
                at = use_tree(&tokens, at + 1, &[], &mut |path| {
                    found.push(Named { line: *line, path: absolute(path, &here) });
                });
                continue;
            }
            Token::Word(_) if starts_path(&tokens, at) => {
                let (path, next) = plain_path(&tokens, at);
                found.push(Named { line: *line, path: absolute(&path, &place(module, &inside)) });
                at = next;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn place(module: &[String], inside: &[(usize, String)]) -> Vec<String> {
    module.iter().cloned().chain(inside.iter().map(|(_, name)| name.clone())).collect()
}

fn starts_path(tokens: &[(usize, Token)], at: usize) -> bool {
    let after_colons = at > 0 && tokens[at - 1].1 == Token::Colons;
    !after_colons && matches!(tokens.get(at + 1), Some((_, Token::Colons)))
}

/// Reads `a::b::c`, stops at `::<` and whatever else is no word.
fn plain_path(tokens: &[(usize, Token)], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while let Some((_, Token::Word(word))) = tokens.get(at) {
        path.push(word.clone());
        at += 1;
        match tokens.get(at) {
            Some((_, Token::Colons)) => at += 1,
            _ => break,
        }
    }
    (path, at)
}

/// Spreads `a::{b, c::{d, e}, self}` out; returns the place after the tree.
fn use_tree(tokens: &[(usize, Token)], mut at: usize, before: &[String], leaf: &mut dyn FnMut(&[String])) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(at) {
            Some((_, Token::Colons)) => at += 1,
            Some((_, Token::Word(word))) if word == "as" => at += 2,
            Some((_, Token::Word(word))) => {
                path.push(word.clone());
                at += 1;
            }
            Some((_, Token::Mark('*'))) => {
                path.push("*".to_owned());
                at += 1;
            }
            Some((_, Token::Mark('{'))) => {
                at += 1;
                while !matches!(tokens.get(at), None | Some((_, Token::Mark('}')))) {
                    at = use_tree(tokens, at, &path, leaf);
                    if matches!(tokens.get(at), Some((_, Token::Mark(',')))) {
                        at += 1;
                    }
                }
                return at + 1;
            }
            _ => break,
        }
    }
    leaf(&path);
    at
}

/// `self`, `super` and `crate` resolved against the module the path stands in.
fn absolute(path: &[String], here: &[String]) -> Vec<String> {
    let mut base: Vec<String> = here.to_vec();
    let mut rest = path;
    let mut relative = false;
    while let Some((first, tail)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => break,
        }
        relative = true;
        rest = tail;
    }
    if !relative {
        return path.to_vec();
    }
    std::iter::once("crate".to_owned()).chain(base).chain(rest.iter().cloned()).collect()
}

fn tokens(source: &str) -> Vec<(usize, Token)> {
    let text: Vec<char> = source.chars().collect();
    let mut out = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < text.len() {
        let began = at;
        let c = text[at];
        if c == '/' && text.get(at + 1) == Some(&'/') {
            at = end_of(&text, at, |rest| rest[0] == '\n', 0);
        } else if c == '/' && text.get(at + 1) == Some(&'*') {
            at = end_of_block_comment(&text, at);
        } else if let Some(end) = end_of_raw_string(&text, at) {
            at = end;
        } else if c == '"' {
            at = end_of_quoted(&text, at, '"');
        } else if c == '\'' {
            at = end_of_char_or_lifetime(&text, at);
        } else if c.is_alphanumeric() || c == '_' {
            at = end_of(&text, at, |rest| !(rest[0].is_alphanumeric() || rest[0] == '_'), 0);
            out.push((line, Token::Word(text[began..at].iter().collect())));
        } else if c == ':' && text.get(at + 1) == Some(&':') {
            at += 2;
            out.push((line, Token::Colons));
        } else {
            at += 1;
            if !c.is_whitespace() {
                out.push((line, Token::Mark(c)));
            }
        }
        line += text[began..at].iter().filter(|c| **c == '\n').count();
    }
    out
}

fn end_of(text: &[char], mut at: usize, stop: impl Fn(&[char]) -> bool, take: usize) -> usize {
    while at < text.len() && !stop(&text[at..]) {
        at += 1;
    }
    (at + take).min(text.len())
}

fn end_of_block_comment(text: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

/// `r"…"`, `br#"…"#`, `cr"…"`: no escapes in there, so a plain reading would lose its way.
fn end_of_raw_string(text: &[char], at: usize) -> Option<usize> {
    if at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_') {
        return None;
    }
    let mut i = at;
    if matches!(text[i], 'b' | 'c') {
        i += 1;
    }
    if text.get(i) != Some(&'r') {
        return None;
    }
    i += 1;
    let hashes = text[i..].iter().take_while(|c| **c == '#').count();
    if text.get(i + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    Some(end_of(text, i + hashes + 1, |rest| rest.starts_with(&close), close.len()))
}

fn end_of_quoted(text: &[char], at: usize, quote: char) -> usize {
    let mut i = at + 1;
    while i < text.len() && text[i] != quote {
        i += if text[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(text.len())
}

/// `'a'` and `'\n'` are characters, `'a` without a second quote is a lifetime.
fn end_of_char_or_lifetime(text: &[char], at: usize) -> usize {
    let escaped = text.get(at + 1) == Some(&'\\');
    let closed = text.get(at + 2) == Some(&'\'');
    if escaped || closed { end_of_quoted(text, at, '\'') } else { at + 1 }
}
