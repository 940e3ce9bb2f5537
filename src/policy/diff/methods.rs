//! Classes of methods: two methods are in one class if every route of both policies has both of them or neither.

use http::Method;

use super::super::check::Model;
use super::super::route::{KNOWN_METHODS, Methods};
use super::clause::Clause;
use super::request::ExampleRequest;

/// Methods that no route of either policy distinguishes, so that one of them is tried for all.
#[derive(Debug)]
pub(super) struct MethodClass {
    /// The method that is tried.
    pub(super) representative: Method,
    /// The methods of the class that a route names or that are well known. Empty for the class of all other methods.
    named: Vec<Method>,
}

/// Returns the classes of methods of two policies.
pub(super) fn method_classes(old: &Model, new: &Model) -> Vec<MethodClass> {
    let sets = method_sets([old, new]);
    let named = named_methods(&sets);
    let membership =
        |method: &Method| sets.iter().map(|methods| methods.contains(method)).collect::<Vec<bool>>();
    let mut classes: Vec<(Vec<bool>, MethodClass)> = Vec::new();
    for method in named.clone() {
        let sets = membership(&method);
        match classes.iter_mut().find(|(known, _)| *known == sets) {
            Some((_, class)) => class.named.push(method),
            None => classes.push((sets, MethodClass { representative: method.clone(), named: vec![method] })),
        }
    }
    let mut classes: Vec<MethodClass> = classes.into_iter().map(|(_, class)| class).collect();
    let unnamed = unnamed_method(&named);
    classes.extend(unnamed.map(|representative| MethodClass { representative, named: Vec::new() }));
    classes
}

fn method_sets(models: [&Model; 2]) -> Vec<&Methods> {
    let routes = models.into_iter().flat_map(|model| &model.permissions);
    let mut sets: Vec<&Methods> = Vec::new();
    for methods in routes.flat_map(|permission| &permission.routes).map(|route| &route.methods) {
        if !sets.contains(&methods) {
            sets.push(methods);
        }
    }
    sets
}

fn named_methods(sets: &[&Methods]) -> Vec<Method> {
    let mut named: Vec<Method> = KNOWN_METHODS.into();
    for method in sets.iter().flat_map(|methods| methods.named()) {
        if !named.contains(&method) {
            named.push(method);
        }
    }
    named
}

fn unnamed_method(named: &[Method]) -> Option<Method> {
    let names = std::iter::once("OTHER".to_owned()).chain((2..).map(|number| format!("OTHER{number}")));
    let mut methods = names.filter_map(|name| Method::from_bytes(name.as_bytes()).ok());
    methods.find(|method| !named.contains(method))
}

/// Returns the methods for which an example was found, in the route's own spelling if these are all its methods.
pub(super) fn changed_methods(
    grant: &Clause<'_>,
    classes: &[&MethodClass],
    examples: &[Option<ExampleRequest>],
) -> String {
    if examples.iter().all(Option::is_some) {
        let written = grant.route.text.split(' ').next().unwrap_or_default();
        return if written == "*" { "any method".to_owned() } else { written.to_owned() };
    }
    let changed = classes.iter().zip(examples).filter(|(_, example)| example.is_some());
    let mut names = Vec::new();
    for (class, _) in changed {
        names.extend(class.named.iter().map(Method::as_str));
        if class.named.is_empty() {
            names.push("any other method");
        }
    }
    if names.contains(&"GET") {
        names.retain(|name| *name != "HEAD");
    }
    names.join("|")
}
