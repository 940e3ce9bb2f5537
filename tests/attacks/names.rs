//! Certificates that contain the name of another client in another attribute or encoding.

use rcgen::SanType;
use sidegate::demo::pki::Leaf;

use super::fixture::Fixture;

const DENIED: &str = "403 insufficient_permissions";

/// Cases 13, 16, 17 and 18: a rule is compared with complete names of its own kind only.
#[test]
fn a_name_satisfies_only_rules_of_its_own_kind() {
    let fixture = Fixture::with(|setup| {
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
        ("case 18 the name in capitals", san(vec![dns("Orders.SHOP.example")]), "200"),
        ("case 18 the name with a dot at the end", san(vec![dns("orders.shop.example.")]), "200"),
        ("case 18 a wildcard that matches the name", san(vec![dns("*.shop.example")]), DENIED),
        ("case 18 a wildcard in the middle", san(vec![dns("ord*.shop.example")]), DENIED),
        ("case 18 a subdomain of the name", san(vec![dns("a.orders.shop.example")]), DENIED),
        ("case 13 the name as an e-mail address", san(vec![mail(text)]), DENIED),
        ("case 13 the name as a URI", san(vec![uri(text)]), DENIED),
        ("case 13 the host of a URI as a DNS name", san(vec![dns("shop.example")]), DENIED),
        ("case 17 the name as the common name", Leaf::client("Shop", text), DENIED),
        ("case 17 the name as the organization", Leaf::client(text, "someone"), DENIED),
        ("case 17 an e-mail address as the common name", Leaf::client("Shop", "orders@shop.example"), DENIED),
        ("case 17 a URI as the common name", Leaf::client("Shop", "https://shop.example/orders"), DENIED),
        ("case 16 an organization in the common name", Leaf::client("Shop", "someone,O=ops"), DENIED),
        (
            "case 16 an escaped organization in the common name",
            Leaf::client("Shop", "someone\\,O=ops"),
            DENIED,
        ),
        (
            "case 16 an organization after a slash in the common name",
            Leaf::client("Shop", "someone/O=ops"),
            DENIED,
        ),
        ("case 16 the organization itself", Leaf::client("ops", "someone"), "200"),
        ("case 16 one common name", Leaf::client("Shop", "one-name"), "200"),
        (
            "case 16 two common names",
            Leaf::client("Shop", "one-name").with(|params| {
                params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]), "other")
            }),
            DENIED,
        ),
    ];
    for (name, leaf, expected) in cases {
        let client = fixture.proxy.client(&fixture.proxy.pki().issue(&leaf));
        let answer = client.connect(fixture.proxy.address).unwrap().get("/events").unwrap();
        assert_eq!(answer.verdict(), expected, "{name}");
    }
}
