//! The policy's text, and the matrix of clients and permissions.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::body::{Answer, compact, json as answered};
use super::query::{Query, has_all};
use super::{ApiContext, nothing};
use crate::policy::identity_text::{example_attributes, format_attributes};
use crate::policy::matrix::{CellState, Matrix};
use crate::policy::trace::file_and_line;

/// Most rows of one answer.
const MOST_ROWS: usize = 500;

/// The files of the policy in force.
pub(super) fn sources(context: &ApiContext, _: &Query) -> Answer {
    let live = context.running.live();
    let files: Vec<Value> =
        live.sources.iter().map(|source| json!({ "file": source.name(), "text": source.text() })).collect();
    compact(&json!({ "generation": live.generation, "files": files }))
}

/// The matrix of clients and permissions: the client entries that have all words of `q` in their name, match or permissions.
pub(super) fn matrix(context: &ApiContext, query: &Query) -> Answer {
    let live = context.running.live();
    let Some(matrix) = context.models.of(&live) else { return nothing("the policy could not be read again") };
    let words = query.words("q");
    let found: Vec<usize> =
        (0..matrix.model.clients.len()).filter(|client| matches_words(&matrix, *client, &words)).collect();
    let (offset, limit) = (query.number("offset", 0, usize::MAX), query.number("limit", 100, MOST_ROWS));
    let rows: Vec<Value> =
        found.iter().skip(offset).take(limit).filter_map(|client| row(&matrix, *client)).collect();
    let permissions: Vec<&str> = matrix
        .model
        .permissions
        .iter()
        .take(matrix.model.declared)
        .map(|permission| &*permission.name.text)
        .collect();
    compact(&json!({
        "generation": live.generation,
        "states": CellState::ALL.map(|(_, name)| name),
        "permissions": permissions,
        "total": matrix.model.clients.len(),
        "matching": found.len(),
        "offset": offset,
        "clients": rows,
    }))
}

fn matches_words(matrix: &Matrix, client: usize, words: &[String]) -> bool {
    if words.is_empty() {
        return true;
    }
    let Some(entry) = matrix.model.clients.get(client) else { return false };
    let mut text = entry.entry.name.text.to_string();
    for alternative in &entry.entry.alternatives {
        text += " ";
        text += &alternative.describe();
    }
    for permission in entry.permissions() {
        if let Some(permission) = matrix.model.permissions.get(permission as usize) {
            text += " ";
            text += &permission.name.text;
        }
    }
    has_all(&text, words)
}

/// One client entry, with the state of each of its permissions, by their numbers.
fn row(matrix: &Matrix, client: usize) -> Option<Value> {
    let entry = matrix.model.clients.get(client)?;
    let cells: Map<String, Value> = matrix
        .row(client)
        .into_iter()
        .map(|(permission, state)| (permission.to_string(), json!(state.name())))
        .collect();
    Some(json!({
        "name": entry.entry.name.text,
        "at": file_and_line(&entry.entry.name.place),
        "who": entry.entry.alternatives.iter().map(|alternative| alternative.describe()).collect::<Vec<_>>(),
        "cells": cells,
    }))
}

/// The details of one cell: the roles, routes, conditions and deny rules.
pub(super) fn grant(context: &ApiContext, query: &Query) -> Answer {
    let live = context.running.live();
    let Some(matrix) = context.models.of(&live) else { return nothing("the policy could not be read again") };
    let Some(client) = client_named(&matrix, query.text("client")) else {
        return nothing("there is no such client entry");
    };
    let named =
        |name: &str| matrix.model.permissions.iter().position(|permission| *permission.name.text == *name);
    let permission = named(query.text("permission")).and_then(|number| u32::try_from(number).ok());
    let Some(permission) = permission else { return nothing("there is no such permission") };
    let Some(details) = matrix.details(client, permission) else {
        return answered(StatusCode::OK, &json!({ "state": null }));
    };
    let routes: Vec<Value> = details
        .routes
        .iter()
        .map(|(route, conditions)| json!({ "route": route.text, "at": file_and_line(&route.place), "conditions": conditions }))
        .collect();
    let denies: Vec<Value> = details
        .denies
        .iter()
        .map(|deny| json!({ "name": deny.name, "at": deny.at, "while": deny.when, "if": deny.conditions, "whole": deny.whole }))
        .collect();
    answered(
        StatusCode::OK,
        &json!({ "state": details.state.name(), "roles": details.roles, "routes": routes, "denies": denies }),
    )
}

fn client_named(matrix: &Matrix, name: &str) -> Option<usize> {
    matrix.model.clients.iter().position(|client| *client.entry.name.text == *name)
}

/// An example of a certificate that the client entry `name` matches.
pub(super) fn client(context: &ApiContext, query: &Query) -> Answer {
    let live = context.running.live();
    let Some(matrix) = context.models.of(&live) else { return nothing("the policy could not be read again") };
    let client =
        client_named(&matrix, query.text("name")).and_then(|client| matrix.model.clients.get(client));
    let Some(client) = client else { return nothing("there is no such client entry") };
    let example = example_attributes(client).map(|attributes| format_attributes(&attributes));
    answered(StatusCode::OK, &json!({ "name": client.entry.name.text, "example": example }))
}
