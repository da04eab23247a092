//! `?gateway=a&gateway=b&sensor=…&quantity=…&since=EPOCH.N`: what a client wants to be told.

use std::{collections::BTreeSet, sync::Arc};

use axum::extract::{Query, rejection::QueryRejection};
use serde::{Deserialize, de::IntoDeserializer};
use speedwell_wire::{GatewayId, Quantity};

use super::super::ApiError;
use crate::live::{Channels, Filter, Since};

/// Values a client may filter by, of all kinds together.
pub(in crate::api) const MAX_FILTERS: usize = 100;

/// A query as it came: names may stand in it more than once.
pub(in crate::api) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// What was asked for.
#[derive(Debug, Default, PartialEq)]
pub(in crate::api) struct Asked {
    pub filter: Filter,
    pub since: Option<Since>,
}

/// The words of a query, or what is wrong with them and what is allowed.
pub(in crate::api) fn asked(pairs: Pairs) -> Result<Asked, ApiError> {
    let Query(pairs) = pairs.map_err(|e| ApiError::BadQuery(e.body_text()))?;
    let (mut gateways, mut sensors, mut quantities, mut since) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), None);
    for (name, value) in pairs {
        match name.as_str() {
            "gateway" => {
                gateways.insert(GatewayId::new(value).map_err(|e| ApiError::BadQuery(e.to_string()))?);
            }
            "sensor" => {
                sensors.insert(value);
            }
            "quantity" => {
                quantities.insert(quantity(&value)?);
            }
            "since" => since = Some(value.parse().map_err(|e| ApiError::BadQuery(format!("since: {e}")))?),
            _ => {
                return Err(ApiError::BadQuery(format!(
                    "unknown parameter {name:?}: allowed are gateway, sensor and quantity, each any number of times, and since"
                )));
            }
        }
    }
    let filters = gateways.len() + sensors.len() + quantities.len();
    if filters > MAX_FILTERS {
        return Err(ApiError::BadQuery(format!(
            "{filters} gateways, sensors and quantities: allowed are {MAX_FILTERS}"
        )));
    }
    let channels = Arc::new(Channels { sensors, quantities });
    Ok(Asked { filter: Filter { gateways, channels }, since })
}

fn quantity(name: &str) -> Result<Quantity, ApiError> {
    // Its complaint names all there are.
    let known: Result<_, serde::de::value::Error> = Quantity::deserialize(name.into_deserializer());
    known.map_err(|e| ApiError::BadQuery(format!("quantity: {e}")))
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;

    use super::*;

    fn of(query: &str) -> Result<Asked, String> {
        let uri: Uri = format!("/ws?{query}").parse().unwrap();
        asked(Query::try_from_uri(&uri)).map_err(|e| e.to_string())
    }

    #[test]
    fn filters_may_be_repeated_and_nothing_asked_for_is_everything() {
        assert_eq!(of("").unwrap(), Asked::default());
        let asked = of("gateway=b&gateway=a&sensor=front%20wheel&quantity=speed&since=00000000000000ff.12").unwrap();
        let names: Vec<&str> = asked.filter.gateways.iter().map(GatewayId::as_str).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(asked.filter.channels.has("front wheel", Quantity::Speed));
        assert!(!asked.filter.channels.has("front wheel", Quantity::Distance));
        assert!(!asked.filter.channels.has("rear", Quantity::Speed));
        assert_eq!(asked.since, Some(Since { epoch: 255, n: 12 }));
        assert_eq!(asked.since.unwrap().to_string(), "00000000000000ff.12");
    }

    #[test]
    fn what_is_wrong_is_named_and_so_is_what_is_allowed() {
        let many: String = (0..=MAX_FILTERS).map(|n| format!("sensor=s{n}&")).collect();
        for (query, words) in [
            ("device=a", "unknown parameter \"device\": allowed are gateway, sensor and quantity"),
            ("gateway=a%2Fb", "allowed are 1 to 64 of"),
            ("gateway=", "allowed are 1 to 64 of"),
            ("quantity=warmth", "`speed`"),
            ("since=12", "EPOCH.N"),
            ("since=00000000000000ff.x", "EPOCH.N"),
            ("since=+0000000000000ff.1.2", "EPOCH.N"),
            (&many, "allowed are 100"),
        ] {
            let told = of(query).unwrap_err();
            assert!(told.contains(words), "{query}: {told}");
        }
    }
}
