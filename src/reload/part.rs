//! Parts of the configuration. Each part is checked, put in force and kept as one whole, independent of the others.

use serde::Serialize;

/// One part of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// `sidegate.yaml`, without the content of the files that it names.
    Configuration,
    /// The server's certificates and their keys.
    ServerCertificates,
    /// Client CAs, CRLs, trust domains, and the requirements on client certificates.
    ClientTrust,
    /// The policies in force.
    Policies,
    /// The policies that are judged beside those in force.
    ShadowPolicies,
    /// CAs, certificate and key for TLS to the backend.
    BackendTls,
    /// The token of the admin listener.
    AdminToken,
}

impl Part {
    /// All parts, the configuration first.
    pub const ALL: [Self; 7] = [
        Self::Configuration,
        Self::ServerCertificates,
        Self::ClientTrust,
        Self::Policies,
        Self::ShadowPolicies,
        Self::BackendTls,
        Self::AdminToken,
    ];

    /// The parts for which the configuration names files.
    pub(super) fn of_files() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|part| *part != Self::Configuration)
    }

    /// The name in `/status`, the log and the label `part`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::ServerCertificates => "server_certificates",
            Self::ClientTrust => "client_trust",
            Self::Policies => "policies",
            Self::ShadowPolicies => "shadow_policies",
            Self::BackendTls => "backend_tls",
            Self::AdminToken => "admin_token",
        }
    }

    /// `true` if requests depend on this part: a mistake in a shadow policy changes no answer.
    #[must_use]
    pub const fn is_essential(self) -> bool {
        !matches!(self, Self::ShadowPolicies)
    }
}

/// A value for each part.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PerPart<T> {
    configuration: T,
    server_certificates: T,
    client_trust: T,
    policies: T,
    shadow_policies: T,
    backend_tls: T,
    admin_token: T,
}

impl<T> PerPart<T> {
    /// Makes the value of each part.
    pub fn from_fn(mut make: impl FnMut(Part) -> T) -> Self {
        Self {
            configuration: make(Part::Configuration),
            server_certificates: make(Part::ServerCertificates),
            client_trust: make(Part::ClientTrust),
            policies: make(Part::Policies),
            shadow_policies: make(Part::ShadowPolicies),
            backend_tls: make(Part::BackendTls),
            admin_token: make(Part::AdminToken),
        }
    }

    /// The value of a part.
    pub const fn of(&self, part: Part) -> &T {
        match part {
            Part::Configuration => &self.configuration,
            Part::ServerCertificates => &self.server_certificates,
            Part::ClientTrust => &self.client_trust,
            Part::Policies => &self.policies,
            Part::ShadowPolicies => &self.shadow_policies,
            Part::BackendTls => &self.backend_tls,
            Part::AdminToken => &self.admin_token,
        }
    }

    /// The value of a part, mutable.
    pub const fn of_mut(&mut self, part: Part) -> &mut T {
        match part {
            Part::Configuration => &mut self.configuration,
            Part::ServerCertificates => &mut self.server_certificates,
            Part::ClientTrust => &mut self.client_trust,
            Part::Policies => &mut self.policies,
            Part::ShadowPolicies => &mut self.shadow_policies,
            Part::BackendTls => &mut self.backend_tls,
            Part::AdminToken => &mut self.admin_token,
        }
    }

    /// Each part with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Part, &T)> {
        Part::ALL.into_iter().map(|part| (part, self.of(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_own_place_under_its_own_name() {
        let mut names = PerPart::from_fn(Part::name);
        for (part, name) in names.iter() {
            assert_eq!(part.name(), *name);
            assert_eq!(serde_json::to_value(part).unwrap(), *name);
        }
        for (key, value) in serde_json::to_value(&names).unwrap().as_object().unwrap() {
            assert_eq!(key, value);
        }
        *names.of_mut(Part::Policies) = "others";
        assert_eq!(names.iter().filter(|(part, name)| part.name() != **name).count(), 1);
    }
}
