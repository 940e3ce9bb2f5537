//! The kinds of problems that diagnostics have.

use std::fmt;

/// Makes [`Code`] from one table, so that a code, its name and its meaning stand in one line.
macro_rules! codes {
    ($($variant:ident $name:literal $meaning:literal;)+) => {
        /// The kind of a problem: a short name that stays the same from release to release, so that programs may
        /// compare it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        impl Code {
            /// All codes, by name.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name that is printed.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The meaning, as the documentation tells it.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)+
                }
            }
        }
    };
}

codes! {
    Aliases "aliases" "The manifest of a workload or service uses YAML aliases or merges, so that an edit of one place would change others.";
    AppProtocol "app-protocol" "A Kubernetes service says that the port speaks another protocol than HTTPS.";
    Around "around" "The backend can be reached without passing through the sidecar.";
    AuditMode "audit-mode" "The policy is in audit mode: no request is refused because of it.";
    BackendSpeaksTls "backend-speaks-tls" "A health probe uses HTTPS, but the sidecar would reach the backend without TLS.";
    BadAddress "bad-address" "The text is not an IP address, or not an address and a port.";
    BadCertificate "bad-certificate" "The file with the certificate to judge cannot be read, or has no certificate in it.";
    BadClient "bad-client" "A description of a client is not made of attributes of a certificate.";
    BadCrl "bad-crl" "A CRL cannot be read or used.";
    BadDay "bad-day" "The text is not a day of the week, or not a range of days.";
    BadDuration "bad-duration" "The text is not a length of time, or a length of zero where there must be one.";
    BadGlob "bad-glob" "A pattern with `*` matches no declared name.";
    BadHeader "bad-header" "The text is not a name or a value of a header that can be used here.";
    BadHost "bad-host" "The text is not a host.";
    BadHours "bad-hours" "The text is not a range of hours, such as `08:00-17:00`.";
    BadInstant "bad-instant" "The text is not an instant of RFC 3339, or `until` is not after `from`.";
    BadMatch "bad-match" "The keys of a `match` contradict each other, or match no client.";
    BadName "bad-name" "The text has a character that cannot be part of a name, or is not the name of a server.";
    BadNetwork "bad-network" "The text is not a network (CIDR).";
    BadNumber "bad-number" "The text is not a number, or not within its bounds.";
    BadParameter "bad-parameter" "The text is not a name or a value of a query parameter that can be used here.";
    BadPath "bad-path" "The text is not a path.";
    BadPattern "bad-pattern" "The text is not a pattern for values of certificates.";
    BadRequest "bad-request" "The text is not a method and a path that the proxy would judge.";
    BadRoute "bad-route" "The text is not a route.";
    BadTestFile "bad-test-file" "A file of tests holds something other than tests.";
    BadTrustDomain "bad-trust-domain" "The text is not a SPIFFE trust domain, no file of `tls.client_ca` has the name, or two files give one authority different domains.";
    BadUrl "bad-url" "The text is not a URL that can be used here.";
    ByHand "by-hand" "The manifest has a part that looks like the sidecar's and was put in by hand.";
    CaRevoked "ca-revoked" "A client CA is on a CRL: its clients are refused.";
    CannotEdit "cannot-edit" "The manifest is written in a way that cannot be edited in place.";
    CoveredGrant "covered-grant" "A client entry grants nothing that another entry does not grant to the same clients.";
    CoveredRoute "covered-route" "A route adds nothing to a wider route.";
    CrlExpired "crl-expired" "A CRL is older than its `nextUpdate`.";
    CrlMissing "crl-missing" "A client CA has no CRL, although revocation is checked.";
    CrlOfUnknownCa "crl-of-unknown-ca" "A CRL is of an authority that is not known; it is ignored.";
    CrlSignature "crl-signature" "A CRL is not signed by its issuer.";
    CrlSuperseded "crl-superseded" "A CRL is older than another CRL of the same issuer; the newest counts.";
    Demo "demo" "The demonstration cannot be started.";
    Descriptors "descriptors" "Fewer file descriptors may be open than the configured bounds need.";
    Drain "drain" "The running server cannot be told to drain.";
    DuplicateKey "duplicate-key" "A key is written twice in one mapping, or two keys are written of which only one can count.";
    DuplicateName "duplicate-name" "Two declarations have the same name.";
    EmptyList "empty-list" "A list or a mapping is empty where it needs an entry.";
    EmptyText "empty-text" "A text is empty.";
    Expired "expired" "The time of a client entry is over.";
    Expiry "expiry" "A certificate or a CRL expires soon, or a certificate has expired.";
    File "file" "A file cannot be read, or does not hold what the configuration expects there.";
    ForbidsNothing "forbids-nothing" "A deny rule forbids nothing that is granted to a client that the rule names.";
    ForeignParameter "foreign-parameter" "A segment of a route is written like a parameter of another system, but is read as plain text.";
    FullyDenied "fully-denied" "A grant has no effect, because deny rules forbid all of it.";
    GivesNothing "gives-nothing" "A client entry grants nothing.";
    Hanging "hanging" "Reading files takes too long: the volume does not answer.";
    HeadlessService "headless-service" "A Kubernetes service is headless: its clients choose the port themselves.";
    HighPriorityForAll "high-priority-for-all" "Every client entry has high priority, so that priority has no effect.";
    HostNetwork "host-network" "The pod uses the host's network, so that its loopback is open to the whole node.";
    ImpossibleMatch "impossible-match" "A `match` has a value that no certificate can have.";
    KeyMismatch "key-mismatch" "A private key does not belong to its certificate.";
    Man "man" "A manual page cannot be shown or written.";
    MissingKey "missing-key" "A key is missing that is required, or that another key needs.";
    NoAuthority "no-authority" "A certificate cannot be an authority.";
    NoContainer "no-container" "The pod does not have the container that is named.";
    NoEffect "no-effect" "A key has no effect beside the other keys.";
    NoHealthPath "no-health-path" "A probe does not say which path the sidecar could ask for.";
    NoName "no-name" "An object in a manifest has no name.";
    NoPolicy "no-policy" "There is no policy at the path that is named.";
    NoWorkload "no-workload" "The manifests do not have the workload that is named, or have no workload at all.";
    NotTcp "not-tcp" "The port of the backend is not a TCP port.";
    NotText "not-text" "A file is not UTF-8 text.";
    OddParameter "odd-parameter" "A name of a query parameter can be met only by a request that sends it with escapes.";
    PortClash "port-clash" "A container of the pod uses a port that the sidecar needs.";
    PortNotFound "port-not-found" "No container declares the port that is named, or any port.";
    PreStop "pre-stop" "The container has a preStop hook of its own, which stays.";
    RoleCycle "role-cycle" "A role contains itself.";
    Scraping "scraping" "Prometheus is told to scrape a port that is closed to it now.";
    Secret "secret" "A private key stands where a path or another text belongs; nothing of it is shown.";
    SelfSignedAnchor "self-signed-anchor" "A certificate is trusted as an authority only because it is self-signed.";
    SeveralHealthPaths "several-health-paths" "The probes ask for several paths, but the sidecar asks for one.";
    SeveralPorts "several-ports" "The containers declare several ports that could be the backend's.";
    SeveralWorkloads "several-workloads" "The manifests hold several workloads, and none is named.";
    ShadowPolicy "shadow-policy" "The policy that is judged beside the policy in force has mistakes; the policy in force is not affected.";
    Start "start" "The server cannot be started.";
    TestsNothing "tests-nothing" "A test asks for a path that no route matches.";
    TooLarge "too-large" "The text asks more of the machine than a document may.";
    TooMany "too-many" "There are more problems than are shown.";
    UnknownAttribute "unknown-attribute" "The text is not an attribute of certificates.";
    UnknownCapture "unknown-capture" "A route uses a capture that the `match` of the client entry or rule does not have.";
    UnknownClient "unknown-client" "The policy has no client entry of that name.";
    UnknownKey "unknown-key" "The mapping has a key that does not exist.";
    UnknownName "unknown-name" "The document declares no such name.";
    UnknownPermission "unknown-permission" "The policy has no permission of that name.";
    UnknownRole "unknown-role" "The policy has no role of that name.";
    UnknownVersion "unknown-version" "The `version` of the document is not known.";
    UnknownWord "unknown-word" "The text is not one of the words that are possible here.";
    UnknownZone "unknown-zone" "The text is not a time zone.";
    Unreadable "unreadable" "A policy file or a file of records cannot be read.";
    Unsettled "unsettled" "Files changed again and again while they were read.";
    UnusedCertificate "unused-certificate" "A certificate beside the CRLs belongs to no client CA.";
    UnusedPermission "unused-permission" "A permission is granted to no client.";
    UnusedRole "unused-role" "A role is granted to no client.";
    UnusualMethod "unusual-method" "The method of a route is probably a misspelling of a usual method.";
    UpperCaseTwin "upper-case-twin" "Two paths differ only in upper and lower case.";
    VeryWide "very-wide" "A client entry allows every client to make every request.";
    Windows "windows" "The pod runs on Windows, for which there is no image.";
    WrongType "wrong-type" "The value is of another kind than expected, such as a text in place of a list.";
    YamlSyntax "yaml-syntax" "The text is not YAML that can be read.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_no_two_share_a_name() {
        let names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert!(names.is_sorted_by(|one, other| one < other), "{names:?}");
    }
}
