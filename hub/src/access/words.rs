//! Roles, scopes, and what a route asks for.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a person may do; each may all that the one before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Changes vehicles, customers, and sends readings.
    Operator,
    /// Says who may do what.
    Admin,
}

/// What a program may do with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Ask, as a viewer.
    Read,
    /// Send readings.
    Ingest,
    /// Everything, as an administrator.
    Admin,
}

/// A key's scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

/// What a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: what is there is no secret, or is how one comes in.
    Nothing,
    /// To be somebody.
    Login,
    /// To look.
    Read,
    /// To send readings.
    Ingest,
    /// To change what the hub knows of vehicles and customers.
    Change,
    /// To say who may do what.
    Admin,
}

impl Role {
    /// All.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn of(name: &str) -> Option<Role> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether it is enough.
    pub fn may(self, need: Need) -> bool {
        match need {
            Need::Nothing | Need::Login | Need::Read => true,
            Need::Ingest | Need::Change => self >= Role::Operator,
            Need::Admin => self == Role::Admin,
        }
    }
}

impl Scope {
    /// All.
    pub const ALL: [Scope; 3] = [Scope::Read, Scope::Ingest, Scope::Admin];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Ingest => "ingest",
            Scope::Admin => "admin",
        }
    }
}

impl Scopes {
    /// Whether it is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Whether they are enough.
    pub fn may(self, need: Need) -> bool {
        self.has(Scope::Admin)
            || match need {
                Need::Nothing | Need::Login => true,
                Need::Read => self.has(Scope::Read),
                Need::Ingest => self.has(Scope::Ingest),
                Need::Change | Need::Admin => false,
            }
    }

    /// One after the other.
    pub fn list(self) -> Vec<Scope> {
        Scope::ALL.into_iter().filter(|scope| self.has(*scope)).collect()
    }

    /// What [`Scopes`] displays, read again. A word that is none of them is passed over: it allows nothing.
    pub fn parse(text: &str) -> Scopes {
        text.split(' ').filter_map(|word| Scope::ALL.into_iter().find(|scope| scope.name() == word)).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | 1 << scope as u8))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.list().into_iter().map(Scope::name).collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Need {
    /// What to ask the administrator for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::Nothing => "nothing",
            Need::Login => "a login",
            Need::Read => "the role viewer, or a key with the scope read",
            Need::Ingest => "the role operator, or a key with the scope ingest",
            Need::Change => "the role operator, or a key with the scope admin",
            Need::Admin => "the role admin, or a key with the scope admin",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_they_are_written_and_an_unknown_word_allows_nothing() {
        let scopes: Scopes = [Scope::Ingest, Scope::Read].into_iter().collect();
        assert_eq!(scopes.to_string(), "read ingest");
        assert_eq!(Scopes::parse("read ingest"), scopes);
        assert_eq!(Scopes::parse("root"), Scopes::default());
        assert!(!Scopes::default().may(Need::Read) && Scopes::default().may(Need::Login));
    }
}
