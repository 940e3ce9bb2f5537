//! What the fuzz targets look for. Their engine calls it with what it finds interesting, and tests/attacks/fuzzing.rs with the
//! seeds and with what is made up there.

pub mod identity_headers;
pub mod readings;
pub mod stripping;
pub mod target;
