//! The room that what waits at a door takes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::gate::Closed;

/// What a door may have waiting at once.
pub struct Share {
    slots: Arc<Semaphore>,
    kib: Arc<Semaphore>,
}

/// Room that something takes until it is dropped.
#[derive(Debug)]
pub struct Room {
    _slot: OwnedSemaphorePermit,
    kib: OwnedSemaphorePermit,
    bytes: usize,
}

impl Share {
    /// So many pieces, and so many bytes of them together.
    pub fn new(slots: usize, bytes: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots)), kib: Arc::new(Semaphore::new(bytes / KIB)) }
    }

    /// A slot, if one is free.
    pub fn try_room(&self) -> Option<Room> {
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        Some(Room { _slot: slot, kib: self.kib.clone().try_acquire_many_owned(1).ok()?, bytes: 0 })
    }

    /// A slot and room for so many bytes, once both are there.
    pub async fn room(&self, bytes: usize) -> Result<Room, Closed> {
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| Closed)?;
        let kib = self.kib.clone().acquire_many_owned(kib(bytes)).await.map_err(|_| Closed)?;
        Ok(Room { _slot: slot, kib, bytes })
    }
}

const KIB: usize = 1024;

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / KIB + 1).unwrap_or(u32::MAX)
}

impl Room {
    /// Takes room for more bytes, if it is there.
    pub fn grow(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        let wanted = kib(self.bytes) as usize - self.kib.num_permits();
        if wanted == 0 {
            return true;
        }
        let more = self.kib.semaphore().clone().try_acquire_many_owned(u32::try_from(wanted).unwrap_or(u32::MAX));
        more.map(|more| self.kib.merge(more)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_gives_out_what_it_has_and_takes_it_back() {
        let share = Share::new(2, 8 * KIB);
        let mut one = share.try_room().unwrap();
        assert!(one.grow(100) && one.grow(6 * KIB));
        let other = share.try_room();
        assert!(other.is_some() && share.try_room().is_none(), "two slots");
        assert!(!one.grow(KIB), "the other has the eighth");
        drop((one, other));
        let mut again = share.try_room().unwrap();
        assert!(again.grow(7 * KIB));
    }
}
