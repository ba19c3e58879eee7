//! The JSON Schema of `doorward.toml`, made from the entries: what a value looks like is what its parser says about a text
//! that no value contains.

use doorward_rules::tables::List;
use serde_json::{Map, Value, json};

use super::{
    SECTIONS,
    fault::ValueFault,
    key::AnyKey,
    lists::{ISSUER, ROUTE},
};

/// No parser takes it for a number, a duration or a word.
const NOTHING: &str = "\0";

/// The schema.
#[must_use]
pub(crate) fn schema() -> Value {
    let mut root = Map::new();
    for key in SECTIONS.iter().copied().flatten() {
        insert(&mut root, key.name(), property(*key));
    }
    root.insert(ROUTE.name.into(), list(&ROUTE, &["path", "allow"]));
    root.insert(ISSUER.name.into(), list(&ISSUER, &["issuer"]));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of Doorward",
        "type": "object",
        "additionalProperties": false,
        "properties": root,
    })
}

/// Puts a property below the tables that its name tells.
fn insert(table: &mut Map<String, Value>, name: &str, property: Value) {
    let Some((first, rest)) = name.split_once('.') else {
        table.insert(name.into(), property);
        return;
    };
    let empty = json!({"type": "object", "additionalProperties": false, "properties": {}});
    let section = table.entry(first).or_insert(empty);
    if let Some(Value::Object(properties)) = section.get_mut("properties") {
        insert(properties, rest, property);
    }
}

fn property(key: &dyn AnyKey) -> Value {
    let entry = key.entry();
    let shape = match key.refusals(NOTHING).first() {
        Some(ValueFault::Number { least, most, .. }) => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Some(ValueFault::Fraction(_)) => json!({"type": "number", "minimum": 0, "maximum": 1}),
        Some(ValueFault::Choice { choices, .. }) if choices == "true, false" => {
            json!({"type": "boolean"})
        }
        Some(ValueFault::Choice { choices, .. }) => {
            json!({"enum": choices.split(", ").collect::<Vec<_>>()})
        }
        Some(ValueFault::Duration { .. }) => {
            json!({"type": "string", "pattern": "^([0-9]+ *[A-Za-zµ]+ *)+$"})
        }
        Some(ValueFault::Size(_)) => json!({"type": ["string", "integer"]}),
        // Whatever else a text must be is said by `doorward config check`.
        Some(_) | None => json!({"type": "string"}),
    };
    let shape = match key.is_list() {
        false => shape,
        true => json!({"anyOf": [
            {"type": "array", "items": shape},
            {"type": "string", "description": "Values with commas between them."},
        ]}),
    };
    let mut property = Map::new();
    if let Value::Object(shape) = shape {
        property = shape;
    }
    let mut meaning = entry.meaning.to_owned();
    if key.has_default() {
        let default = default(&property, entry.default, key.is_list());
        property.insert("default".into(), default);
    } else {
        meaning.push_str(&format!(" Default: {}.", entry.default));
    }
    property.insert("description".into(), meaning.into());
    Value::Object(property)
}

/// A default as TOML writes it.
fn default(shape: &Map<String, Value>, text: &str, is_list: bool) -> Value {
    if is_list {
        let items = text.split(',').map(str::trim);
        return items.filter(|item| !item.is_empty()).collect();
    }
    let is = |name| shape.get("type").is_some_and(|own| own == name);
    match (text.parse::<bool>(), text.parse::<serde_json::Number>()) {
        (Ok(value), _) if is("boolean") => Value::Bool(value),
        (_, Ok(number)) if is("integer") || is("number") => Value::Number(number),
        (_, _) => text.into(),
    }
}

/// A list of tables. What is not described here is a string, a list of strings, a number or a truth value.
fn list(list: &List, required: &[&str]) -> Value {
    let strings = json!({"type": "array", "minItems": 1, "items": {"type": "string"}});
    let properties = list.members.iter().map(|member| {
        let property = match *member {
            "path" => json!({
                "type": "string", "pattern": "^/",
                "description": "A path, or with /* at its end a path and everything below.",
            }),
            "methods" => json!({
                "anyOf": [strings, {"type": "string"}],
                "description": "Methods, such as GET, which stands for HEAD, too. Without it, all; for an endpoint, POST.",
            }),
            "hosts" => json!({
                "anyOf": [strings, {"type": "string"}],
                "description": "Hosts, such as api.example.com or *.example.com. Without it, all.",
            }),
            "allow" => json!({
                "anyOf": [
                    strings,
                    {"type": "string", "pattern": "^([a-z]+(-[a-z]+)*|role:.+)$"},
                ],
                "description": "Who passes: public, signed-in, nobody, role:NAME, or a list of roles; or the endpoint of Doorward that answers, such as login.",
            }),
            "basic-keys" => json!({
                "type": "boolean",
                "description": "Whether a key for machines is accepted as the password of Basic.",
            }),
            // An issuer has one, too.
            "audience" if list.name == ROUTE.name => json!({
                "type": "string", "minLength": 1,
                "description": "Claim `aud` of the signed assertion for the service behind the rule. Without it, identity.assertion_audience.",
            }),
            _ => json!({"type": ["string", "array", "boolean", "integer"], "items": {"type": "string"}}),
        };
        ((*member).to_owned(), property)
    });
    let properties: Map<_, _> = properties.collect();
    json!({
        "type": "array",
        "items": {
            "type": "object", "additionalProperties": false,
            "required": required, "properties": properties,
        },
    })
}
