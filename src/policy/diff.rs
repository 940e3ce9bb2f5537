//! What a change of policy newly allows and newly denies: not finished. [`language`] is; the way on is below.
//!
//! Every dimension of a request becomes a finite set of cells or a language: methods (named ones and one fresh), number of
//! segments (up to the longest route and one more), addresses (borders of all networks), instants (borders of `from` and
//! `until`, and in each interval the weekly windows), each query parameter and header (absent, each named value, another,
//! doubtful: unmet by a grant and met by a deny), segments and attributes as [`language`]s. `CommonName`, `Subject`,
//! `Serial`, `Fingerprint` and `PublicKey` have one value at most, so what is asked of them is met by one text; of the
//! others each test may be met by its own value.
//!
//! `{client.NAME}` is a cell for each segment: the bound text, another text, or nothing bound (a deny is met). What it is
//! bound by is the set of capturing patterns that hold (names of captures do not count), so that a policy written otherwise
//! has the same cell.
//!
//! For each grant of the one policy: is there a request in it that no deny of that policy means, and that no grant of the
//! other means or a deny of the other does? A tableau over these atoms, each step checked in its own dimension, answers no
//! exactly. A yes counts only with an example on which both compiled policies were asked and differ; one without is
//! printed as `possibly changed`, with what is not decided. The same again for the switch to WebSocket.

mod language;
