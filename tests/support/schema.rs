//! A validator of JSON Schema for the keywords that Sidegate's schemas use. An unknown keyword is an error, never ignored.

use serde_json::Value;

/// Returns each violation of the schema with the JSON pointer of the wrong value.
pub fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    check(schema, schema, value, "", &mut violations);
    violations
}

/// Keywords that are checked elsewhere or restrict nothing.
const IGNORED: [&str; 8] =
    ["$schema", "title", "description", "format", "$defs", "required", "properties", "additionalProperties"];

fn check(root: &Value, schema: &Value, value: &Value, at: &str, violations: &mut Vec<String>) {
    for (keyword, argument) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, argument, item, &format!("{at}/{index}"), violations);
                }
            }
            "$ref" => {
                let pointer = argument.as_str().unwrap().trim_start_matches('#');
                check(root, root.pointer(pointer).unwrap(), value, at, violations);
            }
            keyword if IGNORED.contains(&keyword) => {}
            keyword if !satisfies(keyword, argument, value) => {
                violations.push(format!("{at}: {value} violates `{keyword}`"));
            }
            _ => {}
        }
    }
    check_object(root, schema, value, at, violations);
}

fn satisfies(keyword: &str, argument: &Value, value: &Value) -> bool {
    let length = value.as_str().map(|text| text.chars().count());
    let limit = || usize::try_from(argument.as_u64().unwrap()).unwrap();
    match keyword {
        "type" => match argument.as_array() {
            Some(kinds) => kinds.iter().any(|kind| is(kind, value)),
            None => is(argument, value),
        },
        "enum" => argument.as_array().unwrap().contains(value),
        "minLength" => length.is_none_or(|length| length >= limit()),
        "maxLength" => length.is_none_or(|length| length <= limit()),
        "maxItems" => value.as_array().is_none_or(|items| items.len() <= limit()),
        "minimum" => value.as_f64().is_none_or(|number| number >= argument.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= argument.as_f64().unwrap()),
        keyword => panic!("the keyword `{keyword}` is not supported here"),
    }
}

fn check_object(root: &Value, schema: &Value, value: &Value, at: &str, violations: &mut Vec<String>) {
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().unwrap()) {
            violations.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in object {
        let at = format!("{at}/{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => violations.push(format!("{at} is unknown")),
            (Value::Null, Value::Null) => {}
            (Value::Null, others) => check(root, others, value, &at, violations),
            (property, _) => check(root, property, value, &at, violations),
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
        kind => panic!("the type `{kind}` is not supported here"),
    }
}
