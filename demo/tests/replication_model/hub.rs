//! The hub's side, real: its decoder, its ledger and its store on SQLite, with backups.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use speedwell_hub::{
    ingest::decode::{Decoder, Message},
    store::{Done, Sqlite, Store, Work},
};
use speedwell_wire::{Batch, Confirm, LogId, Manifest, Record, Seq, block, frame};

pub(crate) const PREFIX: &str = "speedwell/v1";
pub(crate) const TOPIC: &str = "speedwell/v1/truck/log";

/// What stands under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The record that says this about itself.
    Record(u64),
    /// A declared loss.
    Loss,
    /// What the hub knows will never come.
    Gap,
}

pub(crate) struct Hub {
    dir: PathBuf,
    store: Option<Sqlite>,
    decoder: Decoder,
    /// The last record stored, and the last that ever was.
    pub(crate) thru: Seq,
    pub(crate) ever: Seq,
    backed_up: Seq,
}

impl Hub {
    pub(crate) fn new(dir: &Path, manifest: &Manifest) -> Self {
        let decoder = Decoder::new(PREFIX, vec![manifest.clone()]);
        let mut hub = Self { dir: dir.into(), store: None, decoder, thru: 0, ever: 0, backed_up: 0 };
        hub.start();
        hub.commit(&[Work::Manifest(manifest.clone().into())]);
        hub.back_up();
        hub
    }

    fn file(&self) -> PathBuf {
        self.dir.join("hub.sqlite")
    }

    fn start(&mut self) {
        self.store = Some(Sqlite::open(&self.file()).expect("the store opens"));
    }

    fn commit(&mut self, work: &[Work]) -> Vec<Done> {
        self.store.as_mut().expect("it runs").commit(work).expect("commits")
    }

    /// Takes a batch and says how far it has all of the log now.
    pub(crate) fn hear(&mut self, payload: &[u8]) -> Confirm {
        let Message::Store { work, unknown: None } = self.decoder.read(TOPIC, payload, 0) else {
            panic!("a batch that the hub cannot read")
        };
        let done = self.commit(&[work]);
        let [Done::Batch(done)] = &done[..] else { panic!("{done:?}") };
        assert_eq!(done.rejected, 0);
        self.thru = done.thru;
        self.ever = self.ever.max(done.thru);
        Confirm { log: done.log, thru: done.thru }
    }

    /// Copies the database as it is.
    pub(crate) fn back_up(&mut self) {
        // Closing brings everything into the one file.
        self.store = None;
        fs::copy(self.file(), self.dir.join("backup")).expect("copies");
        self.backed_up = self.thru;
        self.start();
    }

    /// Puts the backup in the place of the database; first and last of the records that are gone with that.
    pub(crate) fn restore(&mut self, log: LogId) -> (Confirm, std::ops::RangeInclusive<Seq>) {
        self.store = None;
        fs::copy(self.dir.join("backup"), self.file()).expect("copies");
        let gone = self.backed_up + 1..=self.thru;
        self.thru = self.backed_up;
        self.start();
        (Confirm { log, thru: self.thru }, gone)
    }

    /// Everything in the database, by number. Fails where a number is there twice.
    pub(crate) fn contents(&mut self) -> BTreeMap<Seq, Content> {
        self.store = None;
        let db = Connection::open(self.file()).expect("opens");
        let mut all = BTreeMap::new();
        let mut put = |first: Seq, content: Vec<Content>| {
            for (seq, content) in (first..).zip(content) {
                assert_eq!(all.insert(seq, content), None, "record {seq} is stored twice");
            }
        };
        let mut rows = db.prepare("SELECT seq, detail FROM events").expect("sql");
        let rows = rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).expect("rows");
        for (seq, detail) in rows.flatten() {
            put(seq as Seq, vec![Content::Record(id_of(&detail))]);
        }
        let mut rows = db.prepare("SELECT seq, span, block FROM chunks").expect("sql");
        let rows = rows
            .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?)))
            .expect("rows");
        for (seq, span, block) in rows.flatten() {
            let ids = ids_of(&block);
            assert_eq!(ids.len() as i64, span, "a sample a record");
            put(seq as Seq, ids.into_iter().map(Content::Record).collect());
        }
        let ranges = [
            ("SELECT seq, span FROM losses", Content::Loss),
            ("SELECT first, last - first + 1 FROM gaps", Content::Gap),
        ];
        for (sql, content) in ranges {
            let mut rows = db.prepare(sql).expect("sql");
            let rows = rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).expect("rows");
            for (seq, span) in rows.flatten() {
                put(seq as Seq, vec![content; span as usize]);
            }
        }
        all
    }
}

/// What a batch says of each number.
pub(crate) fn said(payload: &[u8]) -> Vec<(Seq, Content)> {
    let batch: Batch = frame::decode(payload).expect("a batch");
    let mut said = Vec::new();
    let mut seq = batch.first_seq;
    for entry in batch.entries {
        let contents = match &entry.record {
            Record::Event(event) => vec![Content::Record(id_of(&event.detail))],
            Record::Samples(samples) => ids_of(&samples.block).into_iter().map(Content::Record).collect(),
            Record::Loss(_) => vec![Content::Loss; entry.span as usize],
            Record::Clock(_) => panic!("nobody wrote one"),
        };
        assert_eq!(contents.len() as u64, entry.span);
        said.extend((seq..).zip(contents));
        seq += entry.span;
    }
    said
}

fn id_of(detail: &str) -> u64 {
    detail.split(' ').next().and_then(|id| id.parse().ok()).expect("a record that says its own name")
}

fn ids_of(bytes: &[u8]) -> Vec<u64> {
    let columns = block::decode(bytes).expect("a block");
    columns.iter().flat_map(|column| &column.samples).map(|sample| sample.value as u64).collect()
}
