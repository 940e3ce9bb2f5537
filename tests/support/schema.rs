//! A JSON Schema held against values: as much of it as our own schemas use, and nothing that is left out silently.

use serde_json::Value;

/// What of a value is not as the schema says, each with where it is.
pub fn mistakes(schema: &Value, value: &Value) -> Vec<String> {
    let mut mistakes = Vec::new();
    hold(schema, schema, value, "", &mut mistakes);
    mistakes
}

/// Words that ask for nothing.
const COMMENTS: [&str; 6] = ["$schema", "title", "description", "format", "$defs", "required"];

fn hold(root: &Value, schema: &Value, value: &Value, at: &str, mistakes: &mut Vec<String>) {
    let length = value.as_str().map(|text| text.chars().count());
    for (word, asked) in schema.as_object().unwrap() {
        let limit = || usize::try_from(asked.as_u64().unwrap()).unwrap();
        let holds = match word.as_str() {
            "type" => match asked.as_array() {
                Some(kinds) => kinds.iter().any(|kind| is(kind, value)),
                None => is(asked, value),
            },
            "enum" => asked.as_array().unwrap().contains(value),
            "minLength" => length.is_none_or(|length| length >= limit()),
            "maxLength" => length.is_none_or(|length| length <= limit()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() <= limit()),
            "minimum" => value.as_f64().is_none_or(|number| number >= asked.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= asked.as_f64().unwrap()),
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                items.for_each(|(index, item)| hold(root, asked, item, &format!("{at}/{index}"), mistakes));
                true
            }
            "$ref" => {
                let pointer = asked.as_str().unwrap().trim_start_matches('#');
                hold(root, root.pointer(pointer).unwrap(), value, at, mistakes);
                true
            }
            "properties" | "additionalProperties" => true,
            word => {
                assert!(COMMENTS.contains(&word), "`{word}` is not understood here");
                true
            }
        };
        if !holds {
            mistakes.push(format!("{at}: {value} is not as `{word}` says"));
        }
    }
    hold_object(root, schema, value, at, mistakes);
}

fn hold_object(root: &Value, schema: &Value, value: &Value, at: &str, mistakes: &mut Vec<String>) {
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().unwrap()) {
            mistakes.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in object {
        let at = format!("{at}/{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => mistakes.push(format!("{at} is unknown")),
            (Value::Null, Value::Null) => {}
            (Value::Null, others) => hold(root, others, value, &at, mistakes),
            (property, _) => hold(root, property, value, &at, mistakes),
        }
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        kind => panic!("`{kind}` is not understood here"),
    }
}
