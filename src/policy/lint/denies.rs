//! Warnings about deny rules.

use super::super::check::Deny;
use super::{Linter, granted_permissions};
use crate::diagnostic::Code;
use crate::policy::comparison::overlaps;
use crate::policy::route::Route;

impl Linter<'_> {
    pub(super) fn check_denies(&mut self) {
        for deny in &self.model.denies {
            let name = &deny.entry.name;
            self.warn_if_expired(deny.entry.when.as_ref(), deny.entry.when_place.as_ref(), name);
            self.warn_of_timeouts(deny);
            if !self.has_effect(deny) {
                let message = format!(
                    "`{}` has no effect: no client entry that it applies to grants its routes",
                    name.text
                );
                let help = "a request that no entry grants is denied without a rule";
                self.warn(Code::ForbidsNothing, &name.place, message, help);
            }
        }
    }

    /// Warns of time limits on the rule's own routes. (A declared permission may serve grants as well.)
    fn warn_of_timeouts(&mut self, deny: &Deny) {
        let declared = self.model.declared;
        let own = deny.permissions.iter().filter(|permission| **permission as usize >= declared);
        let routes = own.flat_map(|permission| self.model.routes(*permission));
        let limited: Vec<&Route> = routes.filter(|route| !route.timeouts.is_empty()).collect();
        for route in limited {
            let message = format!(
                "the `timeouts` of `{}` have no effect: what is denied is not waited for",
                route.text
            );
            let help = "write them on the route of a permission that a client entry grants";
            self.warn(Code::NoEffect, &route.place, message, help);
        }
    }

    fn has_effect(&self, deny: &Deny) -> bool {
        let is_named = |number: u32| deny.clients.as_ref().is_none_or(|clients| clients.contains(&number));
        let clients = (0..).zip(&self.model.clients);
        let clients = clients.filter(|(number, _)| is_named(*number)).map(|(_, client)| client);
        if !self.take_comparisons(self.model.clients.len()) {
            return true;
        }
        let granted = granted_permissions(clients);
        deny.permissions.iter().any(|permission| {
            granted.contains(permission)
                || self.model.routes(*permission).iter().any(|denied| {
                    !self.take_comparisons(granted.len())
                        || granted
                            .iter()
                            .flat_map(|granted| self.model.routes(*granted))
                            .any(|route| overlaps(denied, route))
                })
        })
    }
}
