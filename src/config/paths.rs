//! The keys below `paths`, and the bound on a target: what the path of a request may hold.

use super::draft::Input;
use super::keys::{HttpSection, PathsSection};
use crate::document::Node;
use crate::target::{AllowedForms, PathForm, TargetRules};

/// The rules of targets.
pub(super) const fn rules(paths: &PathsSection, http: &HttpSection) -> TargetRules {
    TargetRules { max_length: http.max_target_bytes, allowed: paths.allow }
}

/// Reads `paths.allow`.
pub(super) fn allowed(input: &mut Input<'_>, node: &Node<'_>) -> Option<AllowedForms> {
    let items = input.reader.list(node)?.iter();
    let forms = items.filter_map(|item| input.reader.choice(item, &PathForm::ALL));
    Some(forms.fold(AllowedForms::NONE, AllowedForms::with))
}
