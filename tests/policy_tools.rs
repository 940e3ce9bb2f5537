//! The tools for authors answer as in their committed examples, which run in `policies/`.

use crate::support::golden;

#[test]
fn every_tool_answers_as_in_its_example() {
    golden::assert_as_committed("tests/policy_tools", "policies");
}
