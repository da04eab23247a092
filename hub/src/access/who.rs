//! Whoever asks, once it is known who that is.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use super::{
    book::{By, PassRow},
    rate::Bucket,
    token::Hash,
    words::{Need, Role, Scopes},
};

/// Whoever asks. Cheap to clone; streams keep it and ask [`Who::valid`] as they go on.
#[derive(Clone, Debug)]
pub struct Who {
    kind: Kind,
    from: IpAddr,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Anybody, on a hub that has neither users nor keys. Holds whether that is still so.
    Open(Arc<AtomicBool>),
    Known(Arc<Pass>),
}

/// How somebody came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// Logged in.
    Session,
    /// By a key.
    Key,
    /// The hub asks nobody.
    Open,
}

/// A session or a key that lets somebody in.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) hash: Hash,
    pub(super) row: PassRow,
    /// A session not used for so long has ended.
    idle_s: i64,
    /// When it ends, whatever it is used for.
    until_s: i64,
    seen_s: AtomicI64,
    /// What of that is on disk.
    written_s: AtomicI64,
    revoked: AtomicBool,
    pub(super) bucket: Bucket,
    /// Among whose requests an `Idempotency-Key` is looked for.
    source: String,
}

impl Pass {
    pub(super) fn new(hash: Hash, row: PassRow, idle_s: i64, longest_s: i64) -> Pass {
        let (idle_s, until_s, seen_s) = match &row {
            PassRow::Session { made_s, seen_s, .. } => (idle_s, made_s.saturating_add(longest_s), *seen_s),
            PassRow::Key { until_s, seen_s, .. } => (i64::MAX, until_s.unwrap_or(i64::MAX), *seen_s),
        };
        let source = match &row {
            PassRow::Session { user, .. } => format!("user:{user}"),
            PassRow::Key { id, .. } => format!("key:{id}"),
        };
        let (seen_s, written_s) = (AtomicI64::new(seen_s), AtomicI64::new(seen_s));
        Pass { hash, row, idle_s, until_s, seen_s, written_s, revoked: false.into(), bucket: Bucket::default(), source }
    }

    /// Whether it is the same but for when it was last used.
    pub(super) fn is(&self, row: &PassRow) -> bool {
        let plain = |row: &PassRow| {
            let mut row = row.clone();
            match &mut row {
                PassRow::Session { seen_s, .. } | PassRow::Key { seen_s, .. } => *seen_s = 0,
            }
            row
        };
        plain(&self.row) == plain(row)
    }

    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
    }

    pub(super) fn valid(&self, now_s: i64) -> bool {
        let idle = now_s.saturating_sub(self.seen_s.load(Ordering::Relaxed));
        !self.revoked.load(Ordering::Acquire) && now_s < self.until_s && idle < self.idle_s
    }

    /// Whether it lets somebody in now; if so, it was used now.
    pub(super) fn used(&self, now_s: i64) -> bool {
        let valid = self.valid(now_s);
        // Most requests come within the second of the one before: they only read, and share the line of the cache.
        if valid && self.seen_s.load(Ordering::Relaxed) < now_s {
            self.seen_s.store(now_s, Ordering::Relaxed);
        }
        valid
    }

    /// When it was last used, if that is not on disk to `within_s`. The caller writes it.
    pub(super) fn unwritten(&self, within_s: i64) -> Option<i64> {
        let seen = self.seen_s.load(Ordering::Relaxed);
        let late = seen.saturating_sub(self.written_s.load(Ordering::Relaxed)) >= within_s.max(1);
        late.then_some(seen)
    }

    pub(super) fn written(&self, seen_s: i64) {
        self.written_s.store(seen_s, Ordering::Relaxed);
    }
}

impl Who {
    pub(super) fn open(on: Arc<AtomicBool>) -> Who {
        Who { kind: Kind::Open(on), from: Ipv4Addr::UNSPECIFIED.into() }
    }

    pub(super) fn known(pass: Arc<Pass>) -> Who {
        Who { kind: Kind::Known(pass), from: Ipv4Addr::UNSPECIFIED.into() }
    }

    /// From this address.
    pub fn at(self, from: IpAddr) -> Who {
        Who { from, ..self }
    }

    /// From where.
    pub fn from(&self) -> IpAddr {
        self.from
    }

    /// Whether that lets him still in. Streams that go on for hours ask this now and then; asking counts as use.
    pub fn valid(&self) -> bool {
        match &self.kind {
            Kind::Open(on) => !on.load(Ordering::Acquire),
            Kind::Known(pass) => pass.used(super::now_s()),
        }
    }

    /// Whether it is enough.
    pub fn may(&self, need: Need) -> bool {
        match &self.kind {
            // Whoever reaches a hub that asks nobody may use it. Who may do what is said by whoever has its machine.
            Kind::Open(_) => Role::Operator.may(need),
            Kind::Known(pass) => match &pass.row {
                PassRow::Session { role, .. } => role.may(need),
                PassRow::Key { scopes, .. } => scopes.may(need),
            },
        }
    }

    /// The role, or the one that a key is as good as; none for a key that may only send.
    pub fn role(&self) -> Option<Role> {
        [Need::Admin, Need::Change, Need::Read]
            .into_iter()
            .zip([Role::Admin, Role::Operator, Role::Viewer])
            .find_map(|(need, role)| self.may(need).then_some(role))
    }

    /// The person, if it is one.
    pub fn user(&self) -> Option<&str> {
        match &self.kind {
            Kind::Known(pass) => match &pass.row {
                PassRow::Session { user, .. } => Some(user),
                PassRow::Key { .. } => None,
            },
            Kind::Open(_) => None,
        }
    }

    /// Id, name and scopes of the key, if it is one.
    pub fn key(&self) -> Option<(&str, &str, Scopes)> {
        match &self.kind {
            Kind::Known(pass) => match &pass.row {
                PassRow::Key { id, name, scopes, .. } => Some((id, name, *scopes)),
                PassRow::Session { .. } => None,
            },
            Kind::Open(_) => None,
        }
    }

    /// How he came in.
    pub fn via(&self) -> Via {
        match &self.kind {
            Kind::Open(_) => Via::Open,
            Kind::Known(pass) => match pass.row {
                PassRow::Session { .. } => Via::Session,
                PassRow::Key { .. } => Via::Key,
            },
        }
    }

    /// Among whose requests an `Idempotency-Key` is looked for; nothing when nobody is told from another.
    pub fn source(&self) -> Option<&str> {
        match &self.kind {
            Kind::Open(_) => None,
            Kind::Known(pass) => Some(&pass.source),
        }
    }

    /// For the audit.
    pub fn by(&self) -> By {
        By { who: self.to_string(), origin: self.from.to_string() }
    }

    pub(super) fn pass(&self) -> Option<&Pass> {
        match &self.kind {
            Kind::Open(_) => None,
            Kind::Known(pass) => Some(pass),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.user(), self.key()) {
            (Some(user), _) => write!(f, "user {user}"),
            (_, Some((id, name, _))) => write!(f, "key {id} ({name})"),
            _ => f.write_str("anybody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(made_s: i64) -> Pass {
        let row = PassRow::Session { user: "anna".into(), role: Role::Viewer, made_s, seen_s: made_s };
        Pass::new([0; 32], row, 100, 1000)
    }

    #[test]
    fn a_session_slides_on_with_use_and_ends_for_good() {
        let pass = session(0);
        assert!(pass.used(99), "one second before it would have ended");
        assert!(pass.valid(198) && !pass.valid(199));
        for now in (99..1000).step_by(90) {
            assert!(pass.used(now), "{now}");
        }
        assert!(!pass.used(1000), "used or not");
        let pass = session(0);
        pass.revoke();
        assert!(!pass.used(1));
    }

    #[test]
    fn use_is_written_once_in_a_while() {
        let pass = session(0);
        pass.used(30);
        assert_eq!((pass.unwritten(60), pass.unwritten(0)), (None, Some(30)));
        pass.used(61);
        assert_eq!(pass.unwritten(60), Some(61));
        pass.written(61);
        assert_eq!((pass.unwritten(60), pass.unwritten(0)), (None, None));
    }

    #[test]
    fn a_key_has_a_role_only_when_it_may_look() {
        let key = |scopes: &str| {
            let (id, name) = ("swk_1".to_owned(), "k".to_owned());
            let row = PassRow::Key { id, name, scopes: Scopes::parse(scopes), until_s: Some(10), seen_s: 0 };
            (Who::known(Arc::new(Pass::new([0; 32], row.clone(), 1, 1))), Pass::new([0; 32], row, 1, 1))
        };
        assert_eq!(key("ingest").0.role(), None);
        assert_eq!(key("read ingest").0.role(), Some(Role::Viewer));
        assert_eq!(key("admin").0.role(), Some(Role::Admin));
        assert!(key("read").1.valid(9) && !key("read").1.valid(10));
    }
}
