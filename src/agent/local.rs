//! The local door: a socket on the gateway itself, at which `speedwell watch` hears what the running agent measures.
//!
//! `STATE-DIRECTORY/live.sock`, a stream of JSON lines: first the manifest, then the live values each time they change,
//! and another manifest before the values of another configuration.
//! Only the agent's own user and group may connect; it takes nothing in, so there is nothing to guard beyond reading.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use speedwell_wire::{Live, Manifest};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
};
use tracing::{debug, warn};

/// Watchers served at once; a technician has one terminal, perhaps two.
const MAX_WATCHERS: usize = 8;

/// A watcher that takes no line for so long has left or hangs, and its place is given to another.
const TAKES_A_LINE_WITHIN: Duration = Duration::from_secs(5);

/// Pause after a connection that could not be taken: out of file descriptors, the next would fail at once as well.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Where the socket lies.
pub fn socket_path(state_directory: &Path) -> PathBuf {
    state_directory.join("live.sock")
}

/// Serves watchers until the agent ends. A socket that cannot be made is told and done without.
pub(super) async fn serve(
    state_directory: PathBuf,
    manifest: watch::Receiver<Manifest>,
    live: watch::Receiver<Option<Live>>,
) {
    let path = socket_path(&state_directory);
    let listener = match listen(&path) {
        Ok(listener) => listener,
        Err(cause) => {
            warn!(path = %path.display(), %cause, "no local socket: `speedwell watch` will not see the running agent");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(MAX_WATCHERS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (manifest, live) = (manifest.clone(), live.clone());
        tokio::spawn(async move {
            if let Err(cause) = feed(stream, manifest, live).await {
                debug!(%cause, "a watcher left");
            }
            drop(place);
        });
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    // A socket left by a killed agent: the spool's lock has already proved that no other agent runs here.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

async fn feed(
    mut stream: UnixStream,
    mut manifest: watch::Receiver<Manifest>,
    mut live: watch::Receiver<Option<Live>>,
) -> io::Result<()> {
    manifest.mark_changed();
    live.mark_changed();
    while live.changed().await.is_ok() {
        if manifest.has_changed().unwrap_or(false) {
            let channels = json(&*manifest.borrow_and_update());
            write_line(&mut stream, channels?).await?;
        }
        let line = live.borrow_and_update().as_ref().map(json);
        if let Some(line) = line {
            write_line(&mut stream, line?).await?;
        }
    }
    Ok(())
}

fn json(said: &impl serde::Serialize) -> io::Result<String> {
    serde_json::to_string(said).map_err(io::Error::other)
}

async fn write_line(stream: &mut UnixStream, mut line: String) -> io::Result<()> {
    line.push('\n');
    tokio::time::timeout(TAKES_A_LINE_WITHIN, stream.write_all(line.as_bytes())).await?
}
