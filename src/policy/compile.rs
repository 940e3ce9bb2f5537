//! The compilation of a checked model into a [`Policy`]: one tree of routes and one index of clients.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::check::{Client, Model, PermissionSet};
use super::condition::When;
use super::document::LocatedText;
use super::rights::{self, BoundRules, Clients};
use super::route::{Segment, Variable};
use super::trie::TrieBuilder;
use super::{Inputs, Policy, Rule};

impl Policy {
    /// Compiles a checked model.
    pub(crate) fn of(model: Model) -> Self {
        let inputs = Inputs::of(&model);
        let mut compiler = Compiler { variables: HashMap::new(), model: &model };
        let clients = compiler.clients();
        let (uniform, particular): (Vec<_>, Vec<_>) =
            compiler.denies().into_iter().partition(|deny| deny.is_uniform);
        let denies = BoundRules::of_denies(uniform.iter().map(|deny| &deny.deny));
        let clients = attach_denies(clients, particular);
        // Each permission is dropped as soon as its routes are in the tree, because holding both would double the memory.
        let mut trie = TrieBuilder::new();
        for (number, permission) in (0..).zip(model.permissions) {
            permission.routes.iter().for_each(|route| trie.add(number, route));
        }
        Self { trie: trie.finish(), clients, denies, inputs }
    }
}

impl Inputs {
    fn of(model: &Model) -> Self {
        let entries = model.clients.iter().map(|client| &client.entry.when);
        let mut whens = entries.chain(model.denies.iter().map(|deny| &deny.entry.when)).flatten();
        let routes = model.permissions.iter().flat_map(|permission| permission.routes.iter());
        let headers: HashSet<_> =
            routes.flat_map(|route| &route.headers).map(|header| header.name.clone()).collect();
        let mut routes = model.permissions.iter().flat_map(|permission| permission.routes.iter());
        let hosts = routes.any(|route| !route.hosts.is_empty());
        let mut routes = model.permissions.iter().flat_map(|permission| permission.routes.iter());
        let timeouts = routes.any(|route| !route.timeouts.is_empty());
        let time = whens.any(When::depends_on_time);
        Self { headers: headers.into_iter().collect(), hosts, time, timeouts }
    }
}

struct Compiler<'m> {
    model: &'m Model,
    /// The variables `{client.NAME}` of each set of permissions, by the set's address. Entries share sets, so that each set
    /// is searched once.
    variables: HashMap<*const u32, Vec<Variable>>,
}

/// A deny rule with the client entries that the rule names.
struct DenyForClients {
    deny: rights::Deny,
    /// Client entries that the rule names; `None` for every client.
    clients: Option<Vec<u32>>,
    /// True if the rule applies to every client in the same way: the rule names no entries and uses no variables.
    is_uniform: bool,
}

impl Compiler<'_> {
    fn clients(&mut self) -> Vec<rights::Client> {
        let model = self.model;
        model.clients.iter().map(|client| self.client(client)).collect()
    }

    fn client(&mut self, client: &Client) -> rights::Client {
        let variables: BTreeSet<Variable> = client.sets.iter().flat_map(|set| self.variables(set)).collect();
        rights::Client {
            rule: rule(&client.entry.name),
            alternatives: client.entry.alternatives.clone().into(),
            sets: client.sets.clone().into(),
            when: client.entry.when.clone().map(Arc::new),
            limits: client.entry.limits,
            variables: variables.into_iter().collect(),
            denies: Box::default(),
        }
    }

    fn denies(&mut self) -> Vec<DenyForClients> {
        let model = self.model;
        let denies = model.denies.iter().map(|deny| {
            let variables = self.variables(&deny.permissions);
            let is_uniform = deny.clients.is_none() && variables.is_empty();
            let deny_rule = rights::Deny {
                rule: rule(&deny.entry.name),
                permissions: deny.permissions.clone(),
                when: deny.entry.when.clone().map(Arc::new),
                variables: variables.into(),
            };
            DenyForClients { deny: deny_rule, clients: deny.clients.clone(), is_uniform }
        });
        denies.collect()
    }

    fn variables(&mut self, set: &PermissionSet) -> Vec<Variable> {
        let model = self.model;
        let used = || {
            let routes = set.iter().flat_map(|permission| model.routes(*permission));
            let variables =
                routes.flat_map(|route| &route.path.segments).filter_map(|segment| match segment {
                    Segment::Client(variable) => Some(variable.clone()),
                    _ => None,
                });
            variables.collect::<BTreeSet<_>>().into_iter().collect()
        };
        self.variables.entry(set.as_ptr()).or_insert_with(used).clone()
    }
}

/// Adds to each client entry the numbers of the deny rules that name the entry.
fn attach_denies(mut clients: Vec<rights::Client>, denies: Vec<DenyForClients>) -> Clients {
    let mut named: Vec<Vec<u32>> = vec![Vec::new(); clients.len()];
    let mut for_everyone = Vec::new();
    for (number, deny) in denies.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        match &deny.clients {
            None => for_everyone.push(number),
            Some(named_clients) => {
                for client in named_clients {
                    if let Some(denies) = named.get_mut(*client as usize) {
                        denies.push(number);
                    }
                }
            }
        }
    }
    for (client, denies) in clients.iter_mut().zip(named) {
        client.denies = denies.into();
    }
    Clients::new(clients, denies.into_iter().map(|named| named.deny).collect(), for_everyone)
}

/// Returns the name and place of an entry, as audit records print them.
fn rule(name: &LocatedText) -> Arc<Rule> {
    let (file, line) = (name.place.source.name(), name.place.position().line);
    Arc::new(Rule { name: name.text.clone(), file: file.into(), line })
}
