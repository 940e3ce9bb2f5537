//! Which Sidegate this is.

/// The version, as in Cargo.toml.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, with `-modified` where the sources were not as committed; `development` for a build
/// that is not optimized, `unknown` where no history was at hand. See `build.rs`.
pub(crate) const COMMIT: &str = env!("SIDEGATE_COMMIT");

/// The version and the commit, for people.
pub(crate) const FULL: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SIDEGATE_COMMIT"), ")");
