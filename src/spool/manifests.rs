//! The manifests kept beside the log, a file each, named by their hash.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use speedwell_wire::{Manifest, ManifestHash};

use super::files;

/// Manifests kept: a gateway gets one with each change of its configuration, and needs those that its backlog is read
/// with. The ones kept longest ago go.
const MANIFESTS_MAX: usize = 64;
/// No manifest file is larger: thousands of channels.
const MANIFEST_MAX_BYTES: u64 = 1 << 20;

pub(super) struct Manifests {
    dir: PathBuf,
    known: BTreeMap<ManifestHash, Manifest>,
}

impl Manifests {
    /// Loads what is there; what cannot be read is told and removed, for the agent keeps its own again at start.
    pub(super) fn open(spool: &Path, findings: &mut Vec<String>) -> io::Result<Self> {
        let dir = spool.join("manifests");
        fs::create_dir_all(&dir)?;
        files::sync_dir(spool)?;
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some() {
                fs::remove_file(&path)?;
                continue;
            }
            let manifest: Option<Manifest> =
                files::read_whole(&path, MANIFEST_MAX_BYTES)?.and_then(|bytes| postcard::from_bytes(&bytes).ok());
            match manifest {
                Some(manifest) => drop(known.insert(manifest.hash(), manifest)),
                None => {
                    findings.push(format!("manifest {} was damaged and is removed", path.display()));
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(Self { dir, known })
    }

    /// Reads what is there and writes nothing; also the names of files that cannot be read.
    pub(super) fn look(spool: &Path) -> (BTreeMap<ManifestHash, Manifest>, Vec<String>) {
        let (mut known, mut bad) = (BTreeMap::new(), Vec::new());
        let entries = fs::read_dir(spool.join("manifests")).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| path.extension().is_none()) {
            let bytes = files::read_whole(&path, MANIFEST_MAX_BYTES).ok().flatten();
            match bytes.and_then(|bytes| postcard::from_bytes::<Manifest>(&bytes).ok()) {
                Some(manifest) => drop(known.insert(manifest.hash(), manifest)),
                None => bad.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned()),
            }
        }
        (known, bad)
    }

    pub(super) fn known(&self) -> &BTreeMap<ManifestHash, Manifest> {
        &self.known
    }

    pub(super) fn keep(&mut self, hash: ManifestHash, manifest: &Manifest) -> io::Result<()> {
        if self.known.contains_key(&hash) {
            return Ok(());
        }
        let content = postcard::to_allocvec(manifest).map_err(io::Error::other)?;
        files::write_whole(&self.dir.join(hash.to_string()), &content)?;
        self.known.insert(hash, manifest.clone());
        while self.known.len() > MANIFESTS_MAX {
            self.forget_oldest(hash)?;
        }
        Ok(())
    }

    fn forget_oldest(&mut self, but: ManifestHash) -> io::Result<()> {
        let age =
            |hash: &ManifestHash| fs::metadata(self.dir.join(hash.to_string())).and_then(|meta| meta.modified()).ok();
        let Some(oldest) = self.known.keys().copied().filter(|hash| *hash != but).min_by_key(age) else {
            return Ok(());
        };
        self.known.remove(&oldest);
        match fs::remove_file(self.dir.join(oldest.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
