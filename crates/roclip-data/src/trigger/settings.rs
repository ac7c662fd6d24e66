//! The triggers of an attack in a recipe: a key for each, beside the attack's own keys.

use crate::trigger::TriggerSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// Triggers in the order in which they are laid on. Meant to be flattened into the attack: keys that are no trigger's are refused here.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AttackTriggers(pub Vec<TriggerSettings>);

impl Serialize for AttackTriggers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|settings| settings.write(&mut map))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for AttackTriggers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

impl JsonSchema for AttackTriggers {
    fn schema_name() -> Cow<'static, str> {
        "AttackTriggers".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys: serde_json::Map<String, serde_json::Value> = TriggerSettings::schemas(generator)
            .into_iter()
            .map(|(name, settings)| (name.to_owned(), settings.to_value()))
            .collect();
        json_schema!({ "type": "object", "properties": keys, "additionalProperties": false })
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = AttackTriggers;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("the settings of an attack")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<AttackTriggers, M::Error> {
        let mut found: Vec<TriggerSettings> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let settings =
                TriggerSettings::read(&name, &mut map).map_err(|e| M::Error::custom(format!("`{name}`: {e}")))?;
            match settings {
                Some(settings) if found.iter().any(|other| other.name() == settings.name()) => {
                    return Err(M::Error::custom(format!("duplicate field `{name}`")));
                }
                Some(settings) => found.push(settings),
                None => {
                    let triggers = TriggerSettings::NAMES.join(", ");
                    return Err(M::Error::custom(format!(
                        "unknown field `{name}` of an attack; it may have targeted, target, count, rate, captions, frame_pixels, jpeg_quality, and the triggers {triggers}"
                    )));
                }
            }
        }
        found.sort_by_key(|settings| TriggerSettings::NAMES.iter().position(|name| *name == settings.name()));
        Ok(AttackTriggers(found))
    }
}
