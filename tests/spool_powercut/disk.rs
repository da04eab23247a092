//! A disk as a power cut leaves it: what was synced, and of the rest whatever the dice say.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs,
    path::Path,
};

/// What a disk writes at once.
const BLOCK: usize = 4096;

/// One step of the trace.
pub(crate) struct Op<'t> {
    pub(crate) op: u8,
    inode: u64,
    offset: u64,
    pub(crate) data: &'t [u8],
}

/// The steps of a trace.
pub(crate) fn parse(mut trace: &[u8]) -> Vec<Op<'_>> {
    let mut ops = Vec::new();
    while trace.len() >= 25 {
        let number = |at: usize| u64::from_le_bytes(trace[at..at + 8].try_into().expect("eight bytes"));
        let (inode, offset, length) = (number(1), number(9), number(17) as usize);
        ops.push(Op { op: trace[0], inode, offset, data: &trace[25..25 + length] });
        trace = &trace[25 + length..];
    }
    ops
}

enum Write<'t> {
    Data(u64, &'t [u8]),
    Length(u64),
}

#[derive(Default)]
struct Content<'t> {
    synced: Vec<u8>,
    pending: VecDeque<Write<'t>>,
    /// How much was pending when each running sync began.
    syncing: VecDeque<usize>,
}

#[derive(Clone)]
enum Name {
    Make(String, Option<usize>),
    Remove(String),
    Rename(String, String),
}

type Names = BTreeMap<String, Option<usize>>;

/// A file system seen through the trace.
#[derive(Default)]
pub(crate) struct Disk<'t> {
    contents: Vec<Content<'t>>,
    by_inode: HashMap<u64, usize>,
    directories: HashMap<u64, String>,
    /// What a running program sees.
    now: Names,
    synced: Names,
    /// Changes of names that are not synced, and those behind them that are.
    pending: VecDeque<(Name, bool)>,
    root: String,
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Name {
    fn directory(&self) -> &str {
        match self {
            Name::Make(path, _) | Name::Remove(path) | Name::Rename(path, _) => parent(path),
        }
    }

    /// Does it where it can be done.
    fn apply(&self, names: &mut Names, root: &str) {
        let reachable = |names: &Names, path: &str| parent(path) == root || names.contains_key(parent(path));
        match self {
            Name::Make(path, file) => {
                if path != root && reachable(names, path) {
                    names.entry(path.clone()).or_insert(*file);
                }
            }
            Name::Remove(path) => {
                let inside = format!("{path}/");
                if !names.keys().any(|name| name.starts_with(&inside)) {
                    names.remove(path);
                }
            }
            Name::Rename(from, to) => {
                let inside = format!("{to}/");
                if !names.contains_key(from) || names.keys().any(|name| name.starts_with(&inside)) {
                    return;
                }
                let below = format!("{from}/");
                let moved: Vec<_> =
                    names.keys().filter(|name| *name == from || name.starts_with(&below)).cloned().collect();
                for name in moved {
                    if let Some(file) = names.remove(&name) {
                        names.insert(format!("{to}{}", &name[from.len()..]), file);
                    }
                }
            }
        }
    }
}

impl<'t> Disk<'t> {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.display().to_string(), ..Self::default() }
    }

    pub(crate) fn step(&mut self, op: &Op<'t>) {
        match op.op {
            b'O' => self.opened(op),
            b'P' => drop(self.directories.insert(op.inode, text(op.data))),
            b'M' => self.name(Name::Make(text(op.data), None)),
            b'U' => self.name(Name::Remove(text(op.data))),
            b'R' => {
                let both = text(op.data);
                let (from, to) = both.split_once('\0').expect("two paths");
                self.name(Name::Rename(from.into(), to.into()));
            }
            b'D' => self.synced_directory(op.inode),
            _ => self.content(op),
        }
    }

    fn opened(&mut self, op: &Op<'t>) {
        let path = text(op.data);
        if let Some(Some(file)) = self.now.get(&path) {
            self.by_inode.insert(op.inode, *file);
        } else {
            self.contents.push(Content::default());
            let file = self.contents.len() - 1;
            self.by_inode.insert(op.inode, file);
            self.name(Name::Make(path, Some(file)));
        }
    }

    fn name(&mut self, name: Name) {
        name.apply(&mut self.now, &self.root);
        self.pending.push_back((name, false));
    }

    fn synced_directory(&mut self, inode: u64) {
        let Some(directory) = self.directories.get(&inode) else { return };
        for (name, synced) in &mut self.pending {
            *synced |= name.directory() == directory;
        }
        while self.pending.front().is_some_and(|(_, synced)| *synced) {
            let (name, _) = self.pending.pop_front().expect("there is one");
            name.apply(&mut self.synced, &self.root);
        }
    }

    fn content(&mut self, op: &Op<'t>) {
        let Some(content) = self.by_inode.get(&op.inode).map(|file| &mut self.contents[*file]) else { return };
        match op.op {
            b'W' => content.pending.push_back(Write::Data(op.offset, op.data)),
            b'T' => content.pending.push_back(Write::Length(op.offset)),
            b'E' => content.fail(),
            b's' => content.syncing.push_back(content.pending.len()),
            b'S' => {
                let covered = content.syncing.pop_front().unwrap_or(0);
                for write in content.pending.drain(..covered) {
                    write.apply(&mut content.synced);
                }
                content.syncing.iter_mut().for_each(|left| *left = left.saturating_sub(covered));
            }
            _ => {}
        }
    }

    /// Writes what a cut at this moment could leave into `dir`.
    pub(crate) fn image(&self, dir: &Path, dice: &mut fastrand::Rng) {
        let mut names = self.synced.clone();
        // Most file systems keep names in order; some do not.
        let in_order = dice.bool();
        let kept = dice.usize(0..=self.pending.len());
        for (at, (name, synced)) in self.pending.iter().enumerate() {
            if *synced || (in_order && at < kept) || (!in_order && dice.bool()) {
                name.apply(&mut names, &self.root);
            }
        }
        self.lay_out(dir, &names, |content| content.after_cut(dice));
    }

    /// Writes what was synced, and nothing else, into `dir`.
    pub(crate) fn synced_image(&self, dir: &Path) {
        let mut names = self.synced.clone();
        self.pending.iter().filter(|(_, synced)| *synced).for_each(|(name, _)| name.apply(&mut names, &self.root));
        self.lay_out(dir, &names, |content| content.synced.clone());
    }

    fn lay_out(&self, dir: &Path, names: &Names, mut bytes: impl FnMut(&Content<'_>) -> Vec<u8>) {
        for (name, file) in names {
            let path = dir.join(name[self.root.len()..].trim_start_matches('/'));
            match file {
                None => fs::create_dir_all(&path).expect("a directory"),
                Some(file) => {
                    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
                    fs::write(&path, bytes(&self.contents[*file])).expect("a file");
                }
            }
        }
    }
}

impl Content<'_> {
    /// A sync failed. A kernel takes what it could not write for written from then on: it can be read as long as it is
    /// in the page cache, no later sync brings it to the disk, and none says so. Here that is every other write.
    fn fail(&mut self) {
        for (at, write) in self.pending.drain(..).enumerate() {
            if at % 2 == 1 {
                write.apply(&mut self.synced);
            }
        }
        self.syncing.iter_mut().for_each(|left| *left = 0);
    }

    fn after_cut(&self, dice: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for write in &self.pending {
            match (write, dice.u8(0..3)) {
                (_, 0) => {}
                (Write::Length(_), _) | (Write::Data(..), 1) => write.apply(&mut bytes),
                (Write::Data(offset, data), _) => {
                    let mut at = 0;
                    while at < data.len() {
                        let take = (BLOCK - (*offset as usize + at) % BLOCK).min(data.len() - at);
                        if dice.bool() {
                            Write::Data(offset + at as u64, &data[at..at + take]).apply(&mut bytes);
                        }
                        at += take;
                    }
                }
            }
        }
        bytes
    }
}

impl Write<'_> {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Write::Length(length) => bytes.resize(*length as usize, 0),
            Write::Data(offset, data) => {
                let end = *offset as usize + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset as usize..end].copy_from_slice(data);
            }
        }
    }
}
