//! The cost of a decision of Sidegate, Cedar, Rego and Casbin: the same rules and questions, each written as usual for its
//! engine. All four must give the same answers before the measurement.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot start reports it by panicking")]

#[path = "../workload.rs"]
mod workload;

use std::collections::HashSet;
use std::hint::black_box;
use std::time::Duration;

use casbin::{CoreApi, DefaultModel, Enforcer, MemoryAdapter, MgmtApi};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::json;
use sidegate::policy::{Host, Policy, Question, Rights};
use sidegate::target::Target;

use workload::{WORKLOADS, Workload, resource, spiffe_id};

/// A request that every engine decides.
struct EngineRequest {
    client: usize,
    method: &'static str,
    path: String,
}

impl Workload {
    /// Returns a request for a resource of a client and one for a resource of another client. The first is the last resource
    /// in the client's role, which is the worst case for an engine that tries the rules in order.
    fn requests(self) -> [(&'static str, EngineRequest); 2] {
        let client = self.clients / 2;
        let own = self.granted(client).last().unwrap();
        let of = |rule: usize| EngineRequest { client, method: "GET", path: format!("{}/42", resource(rule)) };
        [("allow", of(own)), ("deny", of((client + 1) % self.rules))]
    }
}

/// A policy engine with a compiled policy.
trait Engine {
    type Question;
    fn of(workload: Workload) -> Self;
    /// Does the work that users of the engine need not repeat for each request.
    fn prepare(&mut self, request: &EngineRequest) -> Self::Question;
    fn allows(&mut self, question: &Self::Question) -> bool;
}

struct Sidegate(Policy);

impl Engine for Sidegate {
    type Question = (Rights, Target);

    fn of(workload: Workload) -> Self {
        Self(Policy::compile(&[workload.policy()]).unwrap().0)
    }

    fn prepare(&mut self, request: &EngineRequest) -> Self::Question {
        let rights = self.0.rights(&workload::identity(request.client));
        (rights, format!("{} {}", request.method, request.path).parse().unwrap())
    }

    fn allows(&mut self, (rights, target): &Self::Question) -> bool {
        let headers = HeaderMap::new();
        let question = Question {
            target,
            host: Host::Named("shop.example"),
        headers: Some(&headers),
            source: [192, 0, 2, 1].into(),
            now: Timestamp::UNIX_EPOCH,
            upgrade: None,
        };
        self.0.authorize(rights, &question).is_ok()
    }
}

/// Cedar with a `permit` for each rule. The entity of the client is in its role; the path is an attribute of the resource.
struct Cedar {
    policies: PolicySet,
    authorizer: Authorizer,
}

fn uid(kind: &str, name: &str) -> EntityUid {
    format!("{kind}::{name:?}").parse().unwrap()
}

impl Engine for Cedar {
    type Question = (Request, Entities);

    fn of(workload: Workload) -> Self {
        let permits = (0..workload.clients).flat_map(|client| {
            workload.granted(client).map(move |rule| {
                format!(
                    "permit (principal in Role::\"r{client}\", action in [Action::\"GET\", Action::\"PUT\"], resource) \
                     when {{ resource.path like \"{}/*\" }};\n",
                    resource(rule)
                )
            })
        });
        Self { policies: permits.collect::<String>().parse().unwrap(), authorizer: Authorizer::new() }
    }

    fn prepare(&mut self, request: &EngineRequest) -> Self::Question {
        let (principal, path) = (uid("Client", &spiffe_id(request.client)), uid("Path", &request.path));
        let role = uid("Role", &format!("r{}", request.client));
        let attributes = [("path".to_owned(), RestrictedExpression::new_string(request.path.clone()))];
        let entities = [
            Entity::new_no_attrs(principal.clone(), HashSet::from([role.clone()])),
            Entity::new_no_attrs(role, HashSet::new()),
            Entity::new(path.clone(), attributes.into(), HashSet::new()).unwrap(),
        ];
        let action = uid("Action", request.method);
        let request = Request::new(principal, action, path, Context::empty(), None).unwrap();
        (request, Entities::from_entities(entities, None).unwrap())
    }

    fn allows(&mut self, (request, entities): &Self::Question) -> bool {
        self.authorizer.is_authorized(request, &self.policies, entities).decision() == Decision::Allow
    }
}

/// Rego with the rule of OPA's documentation over data: roles by client, grants by role.
struct Rego(regorus::Engine);

const REGO: &str = r#"
package authz

import rego.v1

default allow := false

allow if {
    some role in data.clients[input.client]
    some grant in data.roles[role]
    input.method in grant.methods
    glob.match(grant.path, ["/"], input.path)
}
"#;

impl Engine for Rego {
    type Question = regorus::Value;

    fn of(workload: Workload) -> Self {
        let clients: serde_json::Map<_, _> =
            (0..workload.clients).map(|client| (spiffe_id(client), json!([format!("r{client}")]))).collect();
        let grant = |rule| json!({ "methods": ["GET", "PUT"], "path": format!("{}/*", resource(rule)) });
        let roles: serde_json::Map<_, _> = (0..workload.clients)
            .map(|client| (format!("r{client}"), workload.granted(client).map(grant).collect()))
            .collect();
        let data = json!({ "clients": clients, "roles": roles }).to_string();
        let mut engine = regorus::Engine::new();
        engine.add_policy("authz.rego".to_owned(), REGO.to_owned()).unwrap();
        engine.add_data_json(&data).unwrap();
        Self(engine)
    }

    fn prepare(&mut self, request: &EngineRequest) -> Self::Question {
        json!({ "client": spiffe_id(request.client), "method": request.method, "path": request.path }).into()
    }

    fn allows(&mut self, question: &Self::Question) -> bool {
        self.0.set_input(question.clone());
        self.0.eval_rule("data.authz.allow".to_owned()).unwrap() == regorus::Value::Bool(true)
    }
}

/// Casbin with the RESTful model of its documentation and roles.
struct Casbin(Enforcer);

const MODEL: &str = "
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)
";

impl Engine for Casbin {
    type Question = (String, String, String);

    fn of(workload: Workload) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let model = DefaultModel::from_str(MODEL).await.unwrap();
            let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await.unwrap();
            let line = |client: usize, rule: usize| {
                vec![format!("r{client}"), format!("{}/:id", resource(rule)), "^(GET|PUT)$".to_owned()]
            };
            let lines = (0..workload.clients)
                .flat_map(|client| workload.granted(client).map(move |rule| line(client, rule)));
            enforcer.add_policies(lines.collect()).await.unwrap();
            let roles = (0..workload.clients).map(|client| vec![spiffe_id(client), format!("r{client}")]);
            enforcer.add_grouping_policies(roles.collect()).await.unwrap();
            Self(enforcer)
        })
    }

    fn prepare(&mut self, request: &EngineRequest) -> Self::Question {
        (spiffe_id(request.client), request.path.clone(), request.method.to_owned())
    }

    fn allows(&mut self, question: &Self::Question) -> bool {
        self.0.enforce(question.clone()).unwrap()
    }
}

fn measure<E: Engine>(criterion: &mut Criterion, name: &str) {
    for workload in WORKLOADS {
        let mut engine = E::of(workload);
        let mut group = criterion.benchmark_group(format!("decide beside peers/{} rules", workload.rules));
        // The slowest engines need 100 ms for one decision.
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(3));
        for (verdict, request) in workload.requests() {
            let question = engine.prepare(&request);
            assert_eq!(engine.allows(&question), verdict == "allow", "{name}, {} rules", workload.rules);
            let forbidden = engine.prepare(&EngineRequest { method: "DELETE", ..request });
            assert!(!engine.allows(&forbidden), "{name} allows DELETE");
            group.bench_function(BenchmarkId::new(name, verdict), |bencher| {
                bencher.iter(|| engine.allows(black_box(&question)));
            });
        }
        group.finish();
    }
}

fn peers(criterion: &mut Criterion) {
    measure::<Sidegate>(criterion, "sidegate");
    measure::<Cedar>(criterion, "cedar");
    measure::<Rego>(criterion, "rego");
    measure::<Casbin>(criterion, "casbin");
}

criterion_group!(benches, peers);
criterion_main!(benches);
