//! Certificates that hold the name of another client, but in another field or as another kind of name.

use rcgen::SanType;
use sidegate::demo::pki::Leaf;

use super::stage::Stage;

const DENIED: &str = "403 insufficient_permissions";

/// Cases 13, 16, 17 and 18: a name is compared as a whole, and only with rules for its own kind of name.
#[test]
fn a_name_satisfies_rules_of_its_own_kind_alone() {
    let stage = Stage::with(|setup| {
        setup.policy(
            r#"version: 1
permissions:
  everything: ["* /**"]
clients:
  - { name: dns, match: { dns: orders.shop.example }, permissions: [everything] }
  - { name: org, match: { organization: ops }, permissions: [everything] }
  - { name: uri, match: { uri: "https://shop.example/orders" }, permissions: [everything] }
  - { name: mail, match: { email: orders@shop.example }, permissions: [everything] }
  - { name: one, match: { common_name: one-name }, permissions: [everything] }
"#,
        )
    });
    let text = "orders.shop.example";
    let san =
        |names: Vec<SanType>| Leaf::client("Shop", "someone").with(|params| params.subject_alt_names = names);
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let uri = |name: &str| SanType::URI(name.try_into().unwrap());
    let mail = |name: &str| SanType::Rfc822Name(name.try_into().unwrap());
    let cases = [
        ("the name itself", san(vec![dns(text)]), "200"),
        ("18 in other letters", san(vec![dns("Orders.SHOP.example")]), "200"),
        ("18 with its final dot", san(vec![dns("orders.shop.example.")]), "200"),
        ("18 a wildcard that would expand to it", san(vec![dns("*.shop.example")]), DENIED),
        ("18 a wildcard in the middle", san(vec![dns("ord*.shop.example")]), DENIED),
        ("18 below it", san(vec![dns("a.orders.shop.example")]), DENIED),
        ("13 as an e-mail address", san(vec![mail(text)]), DENIED),
        ("13 as a URI", san(vec![uri(text)]), DENIED),
        ("13 a URI as a host", san(vec![dns("shop.example")]), DENIED),
        ("17 as the common name", Leaf::client("Shop", text), DENIED),
        ("17 as the organization", Leaf::client(text, "someone"), DENIED),
        ("17 an e-mail address as the common name", Leaf::client("Shop", "orders@shop.example"), DENIED),
        ("17 a URI as the common name", Leaf::client("Shop", "https://shop.example/orders"), DENIED),
        ("16 an organization in the common name", Leaf::client("Shop", "someone,O=ops"), DENIED),
        ("16 an escaped one", Leaf::client("Shop", "someone\\,O=ops"), DENIED),
        ("16 with slashes", Leaf::client("Shop", "someone/O=ops"), DENIED),
        ("16 the organization itself", Leaf::client("ops", "someone"), "200"),
        ("16 one common name", Leaf::client("Shop", "one-name"), "200"),
        (
            "16 two of them",
            Leaf::client("Shop", "one-name").with(|params| {
                params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]), "other")
            }),
            DENIED,
        ),
    ];
    for (name, leaf, expected) in cases {
        let client = stage.proxy.client(&stage.proxy.pki().issue(&leaf));
        let answer = client.connect(stage.proxy.address).unwrap().get("/events").unwrap();
        assert_eq!(answer.verdict(), expected, "{name}");
    }
}
